// SPDX-License-Identifier: Apache-2.0
// The root and the files: no path, link, handle or fd leads to a file of the host's.
#include "probe.h"
#include <linux/nsfs.h>
#include <sys/ioctl.h>

#define NR_LISTMOUNT 458
// Of Linux 6.12.
#define NS_MNT_GET_NEXT _IOR(0xb7, 11, uint64_t[2])
#define NS_MNT_GET_PREV _IOR(0xb7, 12, uint64_t[2])

#define FD_PIDFS_ROOT (-10002)
#define FD_NSFS_ROOT (-10003)
#define FILEID_INO32_GEN 1
#define FILEID_NSFS 0xf1
#define FILEID_PIDFS 0xf2

// Is the canary, a file of the host's, to be found below this path? There is always a fact for it.
static int leads_out(const char *path) {
    char whole[PATH_MAX];
    snprintf(whole, sizeof whole, "%s/%s", path, fact("canary"));
    return access(whole, F_OK) == 0;
}

static int is_same(const char *a, const char *b) {
    struct stat one, other;
    return !stat(a, &one) && !stat(b, &other) && one.st_dev == other.st_dev &&
           one.st_ino == other.st_ino;
}

static void host_files(const struct probe *self) {
    (void)self;
    if (leads_out("")) {
        fail("%s is here", fact("canary"));
    }
    pass("the host's file is not here");
}

static void dotdot(const struct probe *self) {
    (void)self;
    char up[PATH_MAX] = "/";
    for (int k = 0; k < 60; k++) {
        strcat(up, "../");
        if (chdir("..")) {
            fail("chdir: %s", strerror(errno));
        }
    }
    if (!is_same("/", up) || !is_same("/", ".") || leads_out(up) || leads_out(".")) {
        fail(".. of the root is not the root");
    }
    if (!is_same("/volume/..", "/") || !is_same("/ro/..", "/") || !is_same("/proc/..", "/")) {
        fail(".. of a mount is not the root");
    }
    pass("it is the root again");
}

// The classical one: a directory that stays outside of a new root is a way up.
static void chroot_up(const struct probe *self) {
    (void)self;
    struct stat before, after;
    stat("/", &before);
    int outside = open("/", O_RDONLY | O_DIRECTORY);
    mkdir(SCRATCH "/root", 0755);
    if (chroot(SCRATCH "/root")) {
        pass("chroot: %s", strerror(errno));
    }
    fchdir(outside);
    for (int k = 0; k < 100; k++) {
        chdir("..");
    }
    if (chroot(".") || stat("/", &after)) {
        fail("the second chroot: %s", strerror(errno));
    }
    if (before.st_dev != after.st_dev || before.st_ino != after.st_ino || leads_out("")) {
        fail("there is another root above");
    }
    pass("it ends at the container's root");
}

// "Shocker" (2014): handles of inodes that no path leads to. 2 is the root of an ext4.
static void handles(const struct probe *self) {
    (void)self;
    const char *paths[] = {"/", "/volume", "/ro/file", "/dev/null"};
    for (size_t k = 0; k < sizeof paths / sizeof *paths; k++) {
        char room[sizeof(struct file_handle) + 8] = "";
        struct file_handle *handle = (struct file_handle *)room;
        uint32_t inode[2] = {2, 0};
        handle->handle_bytes = 8;
        handle->handle_type = FILEID_INO32_GEN;
        memcpy(handle->f_handle, inode, sizeof inode);
        int mount = open(paths[k], O_RDONLY);
        if (mount < 0) {
            fail("%s: %s", paths[k], strerror(errno));
        }
        step_refused(paths[k], syscall(SYS_open_by_handle_at, mount, handle, O_RDONLY));
    }
    pass("open_by_handle_at: %s", strerror(errno));
}

// A handle of a file that we do see, given back.
static void own_handle(const struct probe *self) {
    (void)self;
    char room[sizeof(struct file_handle) + MAX_HANDLE_SZ] = "";
    struct file_handle *handle = (struct file_handle *)room;
    int id;
    handle->handle_bytes = MAX_HANDLE_SZ;
    if (name_to_handle_at(AT_FDCWD, "/volume", handle, &id, 0)) {
        pass("name_to_handle_at: %s", strerror(errno));
    }
    int mount = open("/volume", O_RDONLY);
    must_be_refused("open_by_handle_at", syscall(SYS_open_by_handle_at, mount, handle, O_RDONLY));
}

// Processes and namespaces have handles since Linux 6.14 and 6.18: small numbers, easily guessed.
static void kernel_handles(const struct probe *self) {
    (void)self;
    char room[sizeof(struct file_handle) + 16] = "", line[256], path[64];
    struct file_handle *handle = (struct file_handle *)room;
    for (uint64_t id = 1; id < 20000; id++) {
        handle->handle_bytes = 8;
        handle->handle_type = FILEID_PIDFS;
        memcpy(handle->f_handle, &id, 8);
        long fd = syscall(SYS_open_by_handle_at, FD_PIDFS_ROOT, handle, O_RDONLY);
        if (fd >= 0) {
            snprintf(path, sizeof path, "/proc/self/fdinfo/%ld", fd);
            read_file(path, line, sizeof line);
            if (strstr(line, "Pid:\t0\n")) {
                fail("a process outside has been opened by its handle %d", (int)id);
            }
            close((int)fd);
        }
        handle->handle_bytes = 16;
        handle->handle_type = FILEID_NSFS;
        fd = id < 1000 ? syscall(SYS_open_by_handle_at, FD_NSFS_ROOT, handle, O_RDONLY) : -1;
        if (fd >= 0 && setns((int)fd, 0) == 0) {
            fail("a namespace has been entered by its handle %d", (int)id);
        }
        close((int)fd);
    }
    pass("no process or namespace outside by its handle");
}

// Namespaces tell of others: of what they are below, and of the mounts of any by its number.
static void relatives(const struct probe *self) {
    (void)self;
    static const char *const kinds[] = {"user", "pid"};
    struct mount_request {
        uint32_t size, spare;
        uint64_t mount, after, namespace;
    } request = {sizeof request, 0, ~0ull /* LSMT_ROOT */, 0, 0};
    uint64_t found[16];
    for (int k = 0; k < 2; k++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[k]);
        step_refused("the parent of a namespace", ioctl(open(path, O_RDONLY), NS_GET_PARENT));
    }
    int mounts = open("/proc/self/ns/mnt", O_RDONLY);
    if (ioctl(mounts, NS_MNT_GET_NEXT, NULL) >= 0 || ioctl(mounts, NS_MNT_GET_PREV, NULL) >= 0) {
        fail("a mount namespace of others opens");
    }
    request.namespace = strtoull(fact("mounts"), NULL, 10);
    if (request.namespace && syscall(NR_LISTMOUNT, &request, found, 16, 0) >= 0) {
        fail("the mounts of the host's namespace are listed");
    }
    pass("neither parents nor the mounts of others");
}

static void no_fds(const struct probe *self) {
    (void)self;
    if (fds_at_start) {
        fail("%d fds above 2 are open", fds_at_start);
    }
    for (int fd = 0; fd < 3; fd++) {
        struct stat info;
        if (!fstat(fd, &info) && (S_ISDIR(info.st_mode) || S_ISBLK(info.st_mode))) {
            fail("fd %d is a directory or a disk", fd);
        }
    }
    pass("only 0, 1, 2, and none is a directory");
}

static void working_directory(const struct probe *self) {
    (void)self;
    char path[PATH_MAX];
    if (!getcwd(path, sizeof path) || path[0] != '/' || leads_out(".")) {
        fail("it is outside");
    }
    pass("it is %s", path);
}

static void look_at_links(int pid, void *data) {
    const char *kinds[] = {"root", "cwd", "cwd/../../../../../../../..", "root/.."};
    char path[128], target[PATH_MAX];
    struct stat info;
    (void)data;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, kinds[k]);
        if (leads_out(path)) {
            fail("%s leads to the host's files", path);
        }
    }
    for (int fd = 0; fd < 64; fd++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
        if (!stat(path, &info) && S_ISDIR(info.st_mode) && leads_out(path)) {
            fail("%s leads to the host's files", path);
        }
    }
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    ssize_t size = readlink(path, target, sizeof target - 1);
    if (size > 0) {
        target[size] = 0;
        if (!is_same(path, target)) {
            fail("%s is %s, which is not a file of the container's", path, target);
        }
        if (opens_for_writing(path)) {
            fail("%s opens for writing", path);
        }
    }
}

static void magic_links(const struct probe *self) {
    (void)self;
    int count = each_process(look_at_links, NULL);
    pass("root, cwd, exe and fds of %d processes stay inside", count);
}

// Links that the host has put into the image and the volume: to its canary, by several ways.
static void links(const struct probe *self) {
    (void)self;
    const char *paths[] = {"/volume/absolute", "/volume/up", "/volume/magic",
                           "/links/absolute",  "/links/up",  "/links/magic"};
    for (size_t k = 0; k < sizeof paths / sizeof *paths; k++) {
        struct stat info;
        if (lstat(paths[k], &info)) {
            fail("%s: %s", paths[k], strerror(errno));
        }
        if (!stat(paths[k], &info)) {
            fail("%s leads to a file", paths[k]);
        }
    }
    pass("no link of the image or the volume leads to the host's file");
}

#define ROW(name, function, threat) {name, function, threat, NULL}
const struct probe file_probes[] = {
    ROW("host_files", host_files, "the host's files"),
    ROW("dotdot", dotdot, "what is above the root"),
    ROW("chroot_up", chroot_up, "what is above the root"),
    ROW("file_handles", handles, "any file of a disk by its number (shocker)"),
    ROW("own_handle", own_handle, "what is mounted over"),
    ROW("kernel_handles", kernel_handles, "processes and namespaces outside by their number"),
    ROW("namespace_relatives", relatives, "namespaces and mounts outside"),
    ROW("open_fds", no_fds, "a directory of the host's (CVE-2024-21626, CVE-2016-9962)"),
    ROW("working_directory", working_directory, "a directory of the host's (CVE-2024-21626)"),
    ROW("magic_links", magic_links, "the runtime's executable and files (CVE-2019-5736)"),
    ROW("links", links, "a file of the host's through an image's link"),
    {NULL, NULL, NULL, NULL},
};
