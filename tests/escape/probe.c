// SPDX-License-Identifier: Apache-2.0
// The way of a probe through its life: see README.md for how to run them by hand.
#include "probe.h"
#include "hostile.h"
#include <poll.h>

#define PATIENCE 5000 // ms for one probe

static const struct probe *const tables[] = {kernel_probes, mount_probes,   file_probes,
                                             device_probes, process_probes, rights_probes,
                                             call_probes,   network_probes};
static char **facts;
static int verdict_fd = 1;
int fds_at_start;

__attribute__((noreturn)) static void end(const char *verdict, const char *why, va_list values) {
    char text[900], line[1024];
    vsnprintf(text, sizeof text, why, values);
    for (char *at = text; *at; at++) {
        if (*at == '\n') {
            *at = ' ';
        }
    }
    int size = snprintf(line, sizeof line, "%s %s", verdict, text);
    ssize_t written = write(verdict_fd, line, (size_t)size);
    _exit(written != size);
}

void pass(const char *why, ...) {
    va_list values;
    va_start(values, why);
    end("PASS", why, values);
}

void fail(const char *why, ...) {
    va_list values;
    va_start(values, why);
    end("FAIL", why, values);
}

static const char *find_fact(const char *name) {
    size_t size = strlen(name);
    for (char **at = facts; at && *at; at++) {
        if (!strncmp(*at, name, size) && (*at)[size] == '=') {
            return *at + size + 1;
        }
    }
    return NULL;
}

const char *fact(const char *name) {
    const char *value = find_fact(name);
    if (!value) {
        fail("nobody has told %s=…, see README.md", name);
    }
    return value;
}

int is_fact(const char *name, const char *value) {
    const char *told = find_fact(name);
    return told && !strcmp(told, value);
}

int is_refusal(int error) {
    return error == EPERM || error == EACCES || error == EROFS || error == ENOSYS;
}

void step_refused(const char *what, long result) {
    if (result >= 0) {
        fail("%s succeeds", what);
    }
    if (!is_refusal(errno)) {
        fail("%s is not refused, it only fails: %s", what, strerror(errno));
    }
}

void must_be_refused(const char *what, long result) {
    step_refused(what, result);
    pass("%s: %s", what, strerror(errno));
}

ssize_t read_file(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return -1;
    }
    size_t total = 0;
    ssize_t got = 0;
    while (total < size - 1 && (got = read(fd, text + total, size - 1 - total)) > 0) {
        total += (size_t)got;
    }
    text[total] = 0;
    int error = errno;
    close(fd);
    errno = error;
    return got < 0 && !total ? -1 : (ssize_t)total;
}

int walk(const char *top, int depth, visitor *visit, void *data) {
    DIR *directory = opendir(top);
    if (!directory) {
        return 0;
    }
    int count = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        char path[PATH_MAX];
        struct stat info;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", top, entry->d_name);
        if (lstat(path, &info)) {
            continue;
        }
        visit(path, &info, data);
        count += 1 + (S_ISDIR(info.st_mode) && depth > 1 ? walk(path, depth - 1, visit, data) : 0);
    }
    closedir(directory);
    return count;
}

int each_process(void (*visit)(int pid, void *data), void *data) {
    DIR *proc = opendir("/proc");
    int count = 0;
    if (!proc) {
        fail("there is no /proc");
    }
    for (struct dirent *entry; (entry = readdir(proc));) {
        int pid = atoi(entry->d_name);
        if (pid > 0) {
            visit(pid, data);
            count++;
        }
    }
    closedir(proc);
    return count;
}

const char *status_field(int pid, const char *name) {
    static char text[8192], value[256];
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    value[0] = 0;
    if (read_file(path, text, sizeof text) > 0) {
        size_t size = strlen(name);
        for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
            if (!strncmp(line, name, size) && line[size] == ':') {
                line += size + 1;
                snprintf(value, sizeof value, "%s", line + strspn(line, " \t"));
            }
        }
    }
    return value;
}

int opens_for_writing(const char *path) {
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0;
}

// Run one probe in a child; its line on stdout. The verdict comes through a pipe, because a probe
// may change its root, its ids or its streams.
static int run(const struct probe *probe) {
    int ends[2];
    char text[1024] = "";
    if (pipe2(ends, O_CLOEXEC)) {
        return 1;
    }
    pid_t child = fork();
    if (child == 0) {
        verdict_fd = ends[1];
        probe->run(probe);
        fail("it has no verdict");
    }
    close(ends[1]);
    struct pollfd waiting = {.fd = ends[0], .events = POLLIN};
    int ready = child > 0 ? poll(&waiting, 1, PATIENCE) : -1;
    ssize_t size = ready > 0 ? read(ends[0], text, sizeof text - 1) : 0;
    int status = 0;
    if (child > 0) {
        kill(child, SIGKILL); // it may still be there, with a verdict or without
        waitpid(child, &status, 0);
    }
    close(ends[0]);
    if (size < 5) {
        snprintf(text, sizeof text,
                 ready == 0 ? "FAIL it does not end" : "FAIL it ended by signal %d",
                 WTERMSIG(status));
    }
    printf("%.4s %s: %s\n", text, probe->name, text + 5);
    return strncmp(text, "PASS", 4) != 0;
}

static int count_fds(void) {
    int count = 0;
    for (int fd = 3; fd < 65536; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

// What is run as another program by a probe: "--rights" tells what this process may.
static int tell_rights(void) {
    char ids[64];
    snprintf(ids, sizeof ids, "%d ", geteuid());
    printf("%s", ids);
    printf("%s\n", status_field(getpid(), "CapEff"));
    return 0;
}

int main(int argc, char **argv) {
    fds_at_start = count_fds();
    const char *first = argc > 1 ? argv[1] : "";
    if (!strcmp(first, "--rights")) {
        return tell_rights();
    }
    if (!strcmp(first, "--overwrite") && argc == 3) {
        return overwrite(argv[2]);
    }
    if (!strcmp(first, "--lurk") && argc == 3) {
        return lurk(argv[2]);
    }
    if (!strcmp(first, "--swap") && argc == 4) {
        return swap(argv[2], argv[3]);
    }
    if (!strcmp(first, "--furnish") && argc == 4) {
        return furnish(argv[2], argv[3]);
    }
    if (!strcmp(first, "--wait")) { // the first process of a container that others enter
        puts("ready");
        fflush(stdout);
        for (;;) {
            pause();
        }
    }
    int is_list = !strcmp(first, "--list"), failed = 0;
    const char *only = strncmp(first, "--only=", 7) ? NULL : first + 7;
    facts = argv + 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t k = 0; k < sizeof tables / sizeof *tables; k++) {
        for (const struct probe *probe = tables[k]; probe->name; probe++) {
            if (is_list) {
                printf("%s: %s\n", probe->name, probe->threat);
            } else if (!only || !strcmp(only, probe->name)) {
                failed |= run(probe);
            }
        }
    }
    return failed;
}
