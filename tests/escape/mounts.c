// SPDX-License-Identifier: Apache-2.0
// Mounts: none can be made, taken away or changed, by the old calls or by the new ones.
#include "probe.h"
#include <sys/mount.h>
#include <sys/statvfs.h>

#define NR_OPEN_TREE 428
#define NR_MOVE_MOUNT 429
#define NR_FSOPEN 430
#define NR_FSMOUNT 432
#define NR_FSPICK 433
#define NR_MOUNT_SETATTR 442
#define NR_OPEN_TREE_ATTR 467
#define TREE_CLONE 1
#define MOUNT_RDONLY 1
#define EVERYTHING_BELOW 0x8000 // AT_RECURSIVE

struct attributes {
    uint64_t set, clear, propagation, userns;
};

// Mount points of this process, the last one first.
static char *points[256];
static int n_points;

static void read_points(void) {
    static char text[65536];
    if (read_file("/proc/self/mountinfo", text, sizeof text) <= 0) {
        fail("/proc/self/mountinfo cannot be read");
    }
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) && *line && n_points < 256;) {
        for (int k = 0; k < 4; k++) {
            strsep(&line, " ");
        }
        points[n_points++] = strsep(&line, " ");
    }
    if (!n_points) {
        fail("it has no mounts");
    }
}

// data: the type of a file system.
static void new_mount(const struct probe *self) {
    const char *options = !strcmp(self->data, "cgroup") ? "none,name=escape" : NULL;
    mkdir(SCRATCH "/mnt", 0755);
    must_be_refused("mount", mount("none", SCRATCH "/mnt", self->data, 0, options));
}

static void other_types(const struct probe *self) {
    (void)self;
    const char *types[] = {"devpts",  "mqueue",     "overlay", "ramfs",    "binfmt_misc", "bpf",
                           "debugfs", "securityfs", "tracefs", "configfs", "devtmpfs",    "fuse"};
    mkdir(SCRATCH "/mnt", 0755);
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        step_refused(types[k], mount("none", SCRATCH "/mnt", types[k], 0, NULL));
    }
    pass("none of %d types can be mounted", (int)(sizeof types / sizeof *types));
}

static void bind_mount(const struct probe *self) {
    (void)self;
    mkdir(SCRATCH "/mnt", 0755);
    step_refused("bind", mount("/", SCRATCH "/mnt", NULL, MS_BIND, NULL));
    step_refused("rbind", mount("/", SCRATCH "/mnt", NULL, MS_BIND | MS_REC, NULL));
    step_refused("bind of a mask", mount("/dev/zero", "/proc/version", NULL, MS_BIND, NULL));
    must_be_refused("move", mount("/dev/shm", SCRATCH "/mnt", NULL, MS_MOVE, NULL));
}

static void unmount(const struct probe *self) {
    (void)self;
    read_points();
    for (int k = n_points - 1; k >= 0; k--) {
        step_refused(points[k], umount2(points[k], MNT_DETACH | UMOUNT_NOFOLLOW));
    }
    pass("none of %d mounts can be taken away", n_points);
}

static void remount(const struct probe *self) {
    (void)self;
    read_points();
    for (int k = 0; k < n_points; k++) {
        step_refused(points[k], mount(NULL, points[k], NULL, MS_REMOUNT | MS_BIND, NULL));
    }
    pass("none of %d mounts can be changed", n_points);
}

static void setattr(const struct probe *self) {
    (void)self;
    read_points();
    struct attributes writable = {.clear = MOUNT_RDONLY};
    for (int k = 0; k < n_points; k++) {
        long r = syscall(NR_MOUNT_SETATTR, AT_FDCWD, points[k], 0, &writable, sizeof writable);
        step_refused(points[k], r);
    }
    long r = syscall(NR_MOUNT_SETATTR, AT_FDCWD, "/", EVERYTHING_BELOW, &writable, sizeof writable);
    must_be_refused("mount_setattr of all", r);
}

static void propagation(const struct probe *self) {
    (void)self;
    step_refused("shared", mount(NULL, "/", NULL, MS_SHARED | MS_REC, NULL));
    must_be_refused("slave", mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL));
}

static void new_calls(const struct probe *self) {
    (void)self;
    struct attributes none = {0};
    step_refused("fsopen tmpfs", syscall(NR_FSOPEN, "tmpfs", 0));
    step_refused("fsopen proc", syscall(NR_FSOPEN, "proc", 0));
    step_refused("fsopen cgroup", syscall(NR_FSOPEN, "cgroup", 0));
    step_refused("fspick", syscall(NR_FSPICK, AT_FDCWD, "/proc", 0));
    step_refused("fsmount", syscall(NR_FSMOUNT, -1, 0, 0));
    step_refused("open_tree", syscall(NR_OPEN_TREE, AT_FDCWD, "/", TREE_CLONE));
    step_refused("open_tree_attr", syscall(NR_OPEN_TREE_ATTR, AT_FDCWD, "/",
                                           TREE_CLONE | EVERYTHING_BELOW, &none, sizeof none));
    must_be_refused("move_mount", syscall(NR_MOVE_MOUNT, AT_FDCWD, "/dev", AT_FDCWD, SCRATCH, 0));
}

static void pivot(const struct probe *self) {
    (void)self;
    must_be_refused("pivot_root", syscall(SYS_pivot_root, ".", "."));
}

// Two ways that a mount's flags are lost: a mount of the host's that is a peer of one inside.
static void no_peers(const struct probe *self) {
    (void)self;
    static char text[65536];
    read_file("/proc/self/mountinfo", text, sizeof text);
    if (strstr(text, " shared:") || strstr(text, " master:")) {
        fail("a mount has peers: what is mounted may go in or out");
    }
    pass("no mount has peers");
}

static void read_only_volume(const struct probe *self) {
    (void)self;
    struct statvfs info;
    if (statvfs("/ro", &info) || !(info.f_flag & ST_RDONLY)) {
        fail("/ro is no read-only mount");
    }
    step_refused("create", open("/ro/new", O_CREAT | O_WRONLY, 0644));
    step_refused("write", open("/ro/file", O_WRONLY));
    step_refused("mkdir", mkdir("/ro/directory", 0755));
    step_refused("unlink", unlink("/ro/file"));
    step_refused("rename", rename("/ro/file", "/ro/other"));
    step_refused("chmod", chmod("/ro/file", 0644));
    step_refused("chown", chown("/ro/file", 0, 0));
    step_refused("link", link("/ro/file", "/ro/hard"));
    step_refused("utimes", utimensat(AT_FDCWD, "/ro/file", NULL, 0));
    step_refused("truncate", truncate("/ro/file", 5));
    step_refused("remount", mount(NULL, "/ro", NULL, MS_REMOUNT | MS_BIND, NULL));
    int fd = open("/ro/file", O_RDONLY);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    must_be_refused("opened again by its fd", open(path, O_RDWR));
}

static void mount_flags(const struct probe *self) {
    (void)self;
    const char *paths[] = {"/", "/ro", "/volume", "/dev/shm", "/proc", "/sys", SCRATCH};
    for (size_t k = 0; k < sizeof paths / sizeof *paths; k++) {
        struct statvfs info;
        if (statvfs(paths[k], &info)) {
            fail("%s: %s", paths[k], strerror(errno));
        }
        if (!(info.f_flag & 4 /* ST_NODEV */)) {
            fail("%s lacks nodev", paths[k]);
        }
        if (k && !(info.f_flag & ST_NOSUID)) {
            fail("%s lacks nosuid", paths[k]);
        }
    }
    pass("nodev everywhere, nosuid below the root");
}

#define ROW(name, function, threat, data) {name, function, threat, data}
const struct probe mount_probes[] = {
    ROW("mount_proc", new_mount, "a /proc without masks", "proc"),
    ROW("mount_sysfs", new_mount, "a /sys that can be written", "sysfs"),
    ROW("mount_cgroup", new_mount, "a hierarchy with a release_agent (CVE-2022-0492)", "cgroup"),
    ROW("mount_cgroup2", new_mount, "cgroups that can be written", "cgroup2"),
    ROW("mount_tmpfs", new_mount, "files over files", "tmpfs"),
    ROW("mount_others", other_types, "the host's devices, tracing, interpreters", NULL),
    ROW("mount_bind", bind_mount, "files over files, what lies below a mask", NULL),
    ROW("umount", unmount, "what lies below a mask or a mount", NULL),
    ROW("remount", remount, "writing to what is read-only", NULL),
    ROW("mount_setattr", setattr, "writing to what is read-only", NULL),
    ROW("mount_propagation", propagation, "mounts on the host", NULL),
    ROW("mount_new_calls", new_calls, "the same by calls a filter forgot (CVE-2021-41133)", NULL),
    ROW("pivot_root", pivot, "another root", NULL),
    ROW("mount_peers", no_peers, "mounts that go in or out", NULL),
    ROW("read_only_volume", read_only_volume, "a file of the host's changed", NULL),
    ROW("mount_flags", mount_flags, "devices and set-uid files of an image or a volume", NULL),
    ROW(NULL, NULL, NULL, NULL),
};
