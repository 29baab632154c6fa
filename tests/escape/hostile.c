// SPDX-License-Identifier: Apache-2.0
// What a hostile container does while the host works: the same program under other words, for
// test_host.py. Each says on stdout what it has reached; nothing is ever written to a file of the
// host's.
#include "hostile.h"
#include "probe.h"
#include <mqueue.h>
#include <stddef.h>
#include <sys/msg.h>
#include <sys/ptrace.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>

// May the file behind `path` be written? ETXTBSY is a yes that comes later.
static void try_to_write(const char *path, const char *name) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 && errno != ETXTBSY) {
        return;
    }
    if (strncmp(name, "/memfd:", 7)) {
        printf("REACHED %s opens for writing: %s\n", name, fd < 0 ? strerror(errno) : "yes");
    } else if (fd >= 0 && write(fd, "x", 1) > 0) {
        printf("REACHED %s can be written\n", name);
    }
    fflush(stdout);
    close(fd);
}

// --overwrite FD: after the runtime's executable has run inside (CVE-2019-5736), it is not busy
// any more, and FD names it.
int overwrite(const char *number) {
    char path[64], name[PATH_MAX] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%s", number);
    readlink(path, name, sizeof name - 1);
    printf("ran %s\n", name);
    try_to_write(path, name);
    return 0;
}

static int is_ours(const char *path) {
    static struct stat own;
    struct stat info;
    if (!own.st_ino) {
        stat("/proc/self/exe", &own);
    }
    return !stat(path, &info) && info.st_dev == own.st_dev && info.st_ino == own.st_ino;
}

static void look(int pid, void *met) {
    char path[64], name[PATH_MAX];
    if (pid == getpid() || pid == getppid()) {
        return;
    }
    ++*(int *)met;
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd >= 0) {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t size = readlink(link, name, sizeof name - 1);
        name[size > 0 ? size : 0] = 0;
        if (!is_ours(link)) {
            printf("REACHED the executable %s\n", name);
            try_to_write(link, name);
        }
        close(fd);
    }
    if (ptrace(PTRACE_SEIZE, pid, 0, 0) == 0) {
        // Only one that is held has an executable to be asked about: others may be gone by now.
        int status = 0;
        ptrace(PTRACE_INTERRUPT, pid, 0, 0);
        if (waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status) && !is_ours(path)) {
            printf("REACHED process %d by ptrace\n", pid);
        }
        ptrace(PTRACE_DETACH, pid, 0, 0);
    }
    fflush(stdout);
}

// --lurk FILE: look into every process that comes in, until FILE is there.
int lurk(const char *end) {
    int met = 0;
    puts("ready");
    fflush(stdout);
    while (access(end, F_OK)) {
        each_process(look, &met);
    }
    printf("met %d\n", met);
    return 0;
}

// --swap A B: exchange two names for ever.
int swap(const char *a, const char *b) {
    puts("ready");
    fflush(stdout);
    while (renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0) {
    }
    return 1;
}

static void signalled(int number) {
    (void)number;
    _exit(66);
}

// --furnish NAME KEY: what another container must not find, and nobody's signal.
int furnish(const char *name, const char *number) {
    key_t key = (key_t)strtol(number, NULL, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char path[256];
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
    int listening = socket(AF_UNIX, SOCK_STREAM, 0);
    memcpy(address.sun_path + 1, name, strlen(name));
    snprintf(path, sizeof path, "/dev/shm/%s", name);
    int file = open(path, O_CREAT | O_RDWR, 0666);
    mqd_t queue = mq_open(path + strlen("/dev/shm"), O_CREAT | O_RDWR, 0666, NULL);
    if (bind(listening, (struct sockaddr *)&address, size) || listen(listening, 1) || file < 0 ||
        queue < 0 || shmget(key, 4096, IPC_CREAT | 0666) < 0 ||
        semget(key, 1, IPC_CREAT | 0666) < 0 || msgget(key, IPC_CREAT | 0666) < 0) {
        perror(name);
        return 1;
    }
    signal(SIGURG, signalled);
    for (;;) {
        pause();
    }
}
