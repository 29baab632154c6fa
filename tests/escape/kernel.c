// SPDX-License-Identifier: Apache-2.0
// The kernel's own files: what is the whole host's in /proc and /sys.
#include "probe.h"
#include <sys/resource.h>

struct found {
    char path[256];
    int count;
};

static void note_writable(const char *path, const struct stat *info, void *data) {
    struct found *found = data;
    if (S_ISREG(info->st_mode) && info->st_mode & 0222 && opens_for_writing(path)) {
        if (!found->count++) {
            snprintf(found->path, sizeof found->path, "%s", path);
        }
    }
}

// data: the directory. Nothing in it may be opened for writing.
static void none_writable(const struct probe *self) {
    struct found found = {"", 0};
    int seen = walk(self->data, 8, note_writable, &found);
    if (found.count) {
        fail("%d of %d files open for writing, the first is %s", found.count, seen, found.path);
    }
    pass("none of %d files opens for writing", seen);
}

// The files of /proc that belong to no process.
static void note_top(const char *path, const struct stat *info, void *data) {
    if (path[6] < '0' || path[6] > '9') {
        note_writable(path, info, data);
    }
}

static void proc_files(const struct probe *self) {
    (void)self;
    struct found found = {"", 0};
    walk("/proc", 1, note_top, &found);
    if (found.count) {
        fail("%d files open for writing, the first is %s", found.count, found.path);
    }
    pass("none opens for writing");
}

// data: names with a blank between. None of these files may be opened for writing.
static void not_writable(const struct probe *self) {
    char names[512];
    int seen = 0;
    snprintf(names, sizeof names, "%s", (const char *)self->data);
    for (char *path = strtok(names, " "); path; path = strtok(NULL, " ")) {
        seen += access(path, F_OK) == 0;
        if (opens_for_writing(path)) {
            fail("%s opens for writing", path);
        }
    }
    pass(seen ? "it does not open for writing" : "it is not there");
}

// data: names. Each is missing, refused, a directory without entries, or a file without content.
static void nothing_to_read(const struct probe *self) {
    char names[512], byte;
    snprintf(names, sizeof names, "%s", (const char *)self->data);
    for (char *rest = names, *path; (path = strsep(&rest, " "));) {
        DIR *directory = opendir(path);
        if (directory) {
            for (struct dirent *entry; (entry = readdir(directory));) {
                if (entry->d_name[0] != '.') {
                    fail("%s has %s", path, entry->d_name);
                }
            }
            closedir(directory);
            continue;
        }
        int fd = open(path, O_RDONLY | O_NONBLOCK);
        if (fd >= 0 && read(fd, &byte, 1) > 0) {
            fail("%s can be read", path);
        }
        close(fd);
    }
    pass("nothing can be read");
}

// To read the log would take it from the host: whether it opens is enough.
static void kernel_log(const struct probe *self) {
    (void)self;
    struct stat info;
    if (!stat("/proc/kmsg", &info) && !S_ISCHR(info.st_mode)) { // else it is masked by a device
        step_refused("/proc/kmsg", open("/proc/kmsg", O_RDONLY | O_NONBLOCK));
    }
    if (open("/dev/kmsg", O_RDONLY | O_NONBLOCK) >= 0) {
        fail("/dev/kmsg opens");
    }
    pass("it does not open");
}

static void core_limit(const struct probe *self) {
    (void)self;
    struct rlimit limit;
    getrlimit(RLIMIT_CORE, &limit);
    // fs/coredump.c: with 1 the helper that core_pattern names on the host is not started.
    if (limit.rlim_cur != 1 || limit.rlim_max != 1) {
        fail("RLIMIT_CORE is %ld:%ld, not 1:1", (long)limit.rlim_cur, (long)limit.rlim_max);
    }
    pass("RLIMIT_CORE is 1:1");
}

static void note_release(const char *path, const struct stat *info, void *data) {
    const char *name = strrchr(path, '/') + 1;
    if (!strcmp(name, "release_agent") || !strcmp(name, "notify_on_release")) {
        note_writable(path, info, data);
    }
}

static void release_agent(const struct probe *self) {
    (void)self;
    struct found found = {"", 0};
    walk("/sys/fs/cgroup", 8, note_release, &found);
    if (found.count) {
        fail("%s opens for writing", found.path);
    }
    pass("none opens for writing");
}

static void cgroup_mkdir(const struct probe *self) {
    (void)self;
    const char *tops[] = {"", "/memory", "/unified", "/pids", "/cpu"};
    for (size_t k = 0; k < sizeof tops / sizeof *tops; k++) {
        char path[128];
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/escape", tops[k]);
        if (mkdir(path, 0755) == 0) {
            rmdir(path);
            fail("%s can be made", path);
        }
    }
    pass("no cgroup can be made");
}

// Who joins another's cgroup namespace is no member of its cgroup, and sees the way to its own.
static void cgroup_path(const struct probe *self) {
    (void)self;
    char text[8192];
    if (read_file("/proc/self/cgroup", text, sizeof text) < 0) {
        pass("there is no /proc/self/cgroup");
    }
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        const char *path = strchr(strchr(line, ':') + 1, ':') + 1;
        int is_joined = is_fact("cgroup", "joined") && !strncmp(path, "/..", 3);
        if (strcmp(path, "/") && !is_joined) {
            fail("%s", line);
        }
    }
    pass("no path of the host's is told");
}

// Maps can be written once, and have been; the clocks' offsets belong to who made the namespace.
static void own_maps(const struct probe *self) {
    (void)self;
    const char *files[] = {"uid_map", "gid_map", "timens_offsets"};
    for (size_t k = 0; k < 3; k++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/%s", files[k]);
        int fd = open(path, O_WRONLY);
        const char *text = k < 2 ? "0 0 1\n" : "monotonic 0 0\n";
        if (fd >= 0 && write(fd, text, strlen(text)) > 0) {
            fail("%s can be written", path);
        }
        close(fd);
    }
    pass("uid_map, gid_map and timens_offsets stay");
}

#define ROW(name, function, threat, data) {name, function, threat, data}
const struct probe kernel_probes[] = {
    ROW("proc_sys", none_writable, "every setting of the kernel", "/proc/sys"),
    ROW("core_pattern", not_writable, "a program of the host's that root runs at a crash",
        "/proc/sys/kernel/core_pattern"),
    ROW("helper_programs", not_writable, "programs that the kernel runs as the host's root",
        "/proc/sys/kernel/modprobe /proc/sys/kernel/hotplug /proc/sys/kernel/poweroff_cmd "
        "/sys/kernel/uevent_helper /proc/sys/kernel/usermodehelper/bset"),
    ROW("binfmt_misc", not_writable, "an interpreter for the host's programs",
        "/proc/sys/fs/binfmt_misc/register /proc/sys/fs/binfmt_misc/status"),
    ROW("sysrq_trigger", not_writable, "a crash of the host", "/proc/sysrq-trigger"),
    ROW("proc_files", proc_files, "whatever else of /proc is the host's", NULL),
    ROW("proc_irq", none_writable, "the host's interrupts", "/proc/irq"),
    ROW("proc_bus", none_writable, "the configuration of devices", "/proc/bus"),
    ROW("proc_fs", none_writable, "settings of the host's file systems", "/proc/fs"),
    ROW("proc_driver", none_writable, "settings of drivers", "/proc/driver"),
    ROW("proc_kcore", nothing_to_read, "the kernel's memory", "/proc/kcore"),
    ROW("kernel_log", kernel_log, "the kernel's log", NULL),
    ROW("proc_keys", nothing_to_read, "the host's keys", "/proc/keys"),
    ROW("proc_timers", nothing_to_read, "names of the host's processes, addresses",
        "/proc/timer_list /proc/timer_stats /proc/sched_debug /proc/latency_stats"),
    ROW("proc_scsi", nothing_to_read, "removal of disks (CVE-2017-16539)", "/proc/scsi"),
    ROW("proc_firmware", nothing_to_read, "the host's firmware and hardware",
        "/proc/acpi /proc/asound /sys/firmware"),
    ROW("powercap", nothing_to_read, "secrets by the power they cost (CVE-2020-8694)",
        "/sys/devices/virtual/powercap"),
    ROW("kernel_file_systems", nothing_to_read, "debugging and security of the host",
        "/sys/kernel/debug /sys/kernel/tracing /sys/kernel/security /sys/fs/bpf /sys/fs/pstore "
        "/sys/kernel/config /sys/fs/fuse/connections"),
    ROW("sys_kernel", none_writable, "settings of the kernel", "/sys/kernel"),
    ROW("sys_module", none_writable, "parameters of modules", "/sys/module"),
    ROW("sys_power", none_writable, "the host's sleep", "/sys/power"),
    ROW("sys_devices", none_writable, "the host's devices", "/sys/devices"),
    ROW("cgroup_files", none_writable, "limits, the cgroups of others (CVE-2023-25809)",
        "/sys/fs/cgroup"),
    ROW("release_agent", release_agent, "a program of the host's (CVE-2022-0492)", NULL),
    ROW("cgroup_mkdir", cgroup_mkdir, "a way out of one's limits", NULL),
    ROW("cgroup_path", cgroup_path, "where one is on the host", NULL),
    ROW("core_limit", core_limit, "the host's core_pattern, run for a crash inside", NULL),
    ROW("own_maps", own_maps, "other ids than those given", NULL),
    ROW(NULL, NULL, NULL, NULL),
};
