// SPDX-License-Identifier: Apache-2.0
// Devices and terminals: the usual nodes, and no way to any other.
#include "probe.h"
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <termios.h>

static const struct {
    const char *name;
    unsigned major, minor;
} usual[] = {{"null", 1, 3},    {"zero", 1, 5}, {"full", 1, 7},     {"random", 1, 8},
             {"urandom", 1, 9}, {"tty", 5, 0},  {"pts/ptmx", 5, 2}, {"console", 136, 0}};
#define N_USUAL (sizeof usual / sizeof *usual)

static void look_at_node(const char *path, const struct stat *info, void *data) {
    const char *name = path + strlen("/dev/");
    unsigned major_number = major(info->st_rdev), minor_number = minor(info->st_rdev);
    (void)data;
    if (S_ISBLK(info->st_mode)) {
        fail("%s is a block device", path);
    }
    if (!S_ISCHR(info->st_mode) || (!strncmp(name, "pts/", 4) && major_number == 136)) {
        return;
    }
    for (size_t k = 0; k < N_USUAL; k++) {
        if (!strcmp(name, usual[k].name)) {
            if (major_number != usual[k].major || minor_number != usual[k].minor) {
                fail("%s is %u:%u", path, major_number, minor_number);
            }
            return;
        }
    }
    fail("there is a device %s, %u:%u", path, major_number, minor_number);
}

static void nodes(const struct probe *self) {
    (void)self;
    struct stat info;
    walk("/dev", 4, look_at_node, NULL);
    for (size_t k = 0; k < 6; k++) {
        char path[64];
        snprintf(path, sizeof path, "/dev/%s", usual[k].name);
        if (stat(path, &info) || !S_ISCHR(info.st_mode)) {
            fail("%s is no device", path);
        }
    }
    pass("the usual ones, and they are what they are called");
}

static void names(const struct probe *self) {
    (void)self;
    const char *paths[] = {"mem",          "kmem",           "port",
                           "kvm",          "fuse",           "net/tun",
                           "loop-control", "loop0",          "vsock",
                           "vhost-vsock",  "mapper/control", "vda",
                           "sda",          "tty0",           "tty1",
                           "ttyS0",        "hpet",           "watchdog",
                           "autofs",       "userfaultfd",    "cpu_dma_latency",
                           "uinput",       "input",          "dri",
                           "snd",          "rtc0",           "core"};
    for (size_t k = 0; k < sizeof paths / sizeof *paths; k++) {
        char path[64];
        snprintf(path, sizeof path, "/dev/%s", paths[k]);
        if (!access(path, F_OK)) {
            fail("there is %s", path);
        }
    }
    pass("none of %d names is there", (int)(sizeof paths / sizeof *paths));
}

// A node that could be made must not open: neither in /dev nor elsewhere.
static void make(mode_t kind, unsigned major_number, unsigned minor_number) {
    const char *places[] = {"/dev/made", "/dev/shm/made", SCRATCH "/made", "/volume/made"};
    for (size_t k = 0; k < 4; k++) {
        if (mknod(places[k], kind | 0600, makedev(major_number, minor_number)) == 0) {
            int fd = open(places[k], O_RDONLY | O_NONBLOCK | O_NOCTTY);
            int error = errno;
            unlink(places[k]);
            if (fd >= 0 || error != EACCES) {
                fail("%u:%u can be made at %s, and opened", major_number, minor_number, places[k]);
            }
        } else if (errno != EPERM && errno != EACCES && errno != EROFS) {
            fail("mknod %s: %s", places[k], strerror(errno));
        }
    }
}

static void make_characters(const struct probe *self) {
    (void)self;
    make(S_IFCHR, 1, 1); // mem
    make(S_IFCHR, 1, 3); // null: even that
    make(S_IFCHR, 1, 4); // port
    make(S_IFCHR, 1, 11); // kmsg
    make(S_IFCHR, 4, 0); // tty0
    make(S_IFCHR, 10, 200); // tun
    make(S_IFCHR, 10, 229); // fuse
    make(S_IFCHR, 10, 232); // kvm
    make(S_IFCHR, 10, 237); // loop-control
    pass("none can be made and opened");
}

static void make_blocks(const struct probe *self) {
    (void)self;
    int count = 0;
    unsigned major_number, minor_number;
    DIR *all = opendir("/sys/dev/block");
    for (struct dirent *entry; all && (entry = readdir(all));) {
        if (sscanf(entry->d_name, "%u:%u", &major_number, &minor_number) == 2) {
            make(S_IFBLK, major_number, minor_number);
            count++;
        }
    }
    make(S_IFBLK, 7, 0);
    make(S_IFBLK, 8, 0);
    pass("none of the host's %d disks can be opened", count);
}

// data: directory. The host has put nodes there: null is harmless, zero:0 is no disk.
static void shipped(const struct probe *self) {
    const char *kinds[] = {"character", "block"};
    for (int k = 0; k < 2; k++) {
        char path[64];
        struct stat info;
        snprintf(path, sizeof path, "%s/%s", (const char *)self->data, kinds[k]);
        if (lstat(path, &info) || !(S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode))) {
            fail("%s is no device node, there is nothing to try", path);
        }
        if (open(path, O_RDONLY | O_NONBLOCK) >= 0 || errno != EACCES) {
            fail("%s: %s", path, strerror(errno));
        }
    }
    pass("nodes there do not open");
}

// The nodes may be the host's own inodes: their modes are everybody's then.
static void node_attributes(const struct probe *self) {
    (void)self;
    for (size_t k = 0; k < 6; k++) {
        char path[64];
        struct stat info;
        struct statvfs mount;
        snprintf(path, sizeof path, "/dev/%s", usual[k].name);
        if (stat(path, &info) || statvfs(path, &mount)) {
            fail("%s: %s", path, strerror(errno));
        }
        struct stat directory;
        stat("/dev", &directory);
        if (info.st_dev == directory.st_dev) {
            continue; // an inode of the container's own
        }
        struct timespec same[2] = {info.st_atim, info.st_mtim};
        step_refused("chmod of a node that is the host's", chmod(path, info.st_mode & 07777));
        // EINVAL: these ids are not known inside.
        if (chown(path, info.st_uid, info.st_gid) == 0 || (errno != EINVAL && !is_refusal(errno))) {
            fail("chown of a node that is the host's: %s", strerror(errno));
        }
        step_refused("utimes of a node that is the host's", utimensat(AT_FDCWD, path, same, 0));
    }
    pass("their modes, owners and times stay");
}

static void terminals(const struct probe *self) {
    (void)self;
    int own = posix_openpt(O_RDWR | O_NOCTTY);
    unsigned number = 0;
    if (own < 0) {
        pass("there are none: %s", strerror(errno));
    }
    ioctl(own, TIOCGPTN, &number);
    DIR *all = opendir("/dev/pts");
    for (struct dirent *entry; all && (entry = readdir(all));) {
        int other = atoi(entry->d_name);
        if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9' && other > (int)number) {
            fail("/dev/pts/%d is somebody else's", other);
        }
    }
    if (number > 8) {
        fail("the first one is %u: they are shared with others", number);
    }
    pass("an instance of its own: the first one is %u", number);
}

static void no_terminal(const struct probe *self) {
    (void)self;
    if (getsid(0) <= 0) {
        fail("its session is led by somebody outside");
    }
    int tty = open("/dev/tty", O_RDWR | O_NOCTTY);
    if (tty >= 0 && is_fact("terminal", "none")) {
        fail("/dev/tty opens: it has a controlling terminal");
    }
    pass("session %d, %s", getsid(0),
         tty < 0 ? "no controlling terminal" : "a terminal of its own");
}

// A pty of the container's own is in its /dev/pts.
static int is_own_terminal(int fd) {
    const char *name = ttyname(fd);
    return name && !strncmp(name, "/dev/pts/", 9);
}

// data: the request. Typing into the terminal of who started it; with bits above the low 32, which
// the kernel does not look at (CVE-2019-7303).
static void type_into(const struct probe *self) {
    unsigned long request = *(const unsigned *)self->data;
    int has_own = is_own_terminal(0), fds[] = {0, 1, 2, -1};
    fds[3] = has_own ? -1 : open("/dev/tty", O_RDWR | O_NOCTTY); // it would be the same one
    char letter[2] = {2, 0}; // for TIOCLINUX: what is selected
    for (int k = 0; k < 4; k++) {
        for (int high = 0; high < 2; high++) {
            if (is_own_terminal(fds[k])) {
                continue; // what is typed there stays inside
            }
            unsigned long number = request | (high ? 1ul << (sizeof(long) * 8 - 4) : 0);
            if (syscall(SYS_ioctl, fds[k], number, letter) >= 0) {
                fail("ioctl %lx works on fd %d", number, fds[k]);
            }
        }
    }
    pass(has_own ? "the terminal is the container's own" : "%s", strerror(errno));
}

static const unsigned tiocsti = TIOCSTI, tioclinux = 0x541c;

#define ROW(name, function, threat, data) {name, function, threat, data}
const struct probe device_probes[] = {
    ROW("dev_nodes", nodes, "devices, or files in their place (CVE-2025-31133)", NULL),
    ROW("dev_names", names, "devices of the host's", NULL),
    ROW("dev_attributes", node_attributes, "the host's /dev/null for nobody else", NULL),
    ROW("mknod_characters", make_characters, "memory, ports, the log, virtual machines", NULL),
    ROW("mknod_blocks", make_blocks, "the host's disks", NULL),
    ROW("image_nodes", shipped, "devices that an image brings", "/nodes"),
    ROW("volume_nodes", shipped, "devices that a volume brings", "/volume"),
    ROW("terminals", terminals, "terminals of others (CVE-2025-52565)", NULL),
    ROW("own_session", no_terminal, "the caller's terminal (CVE-2017-5226)", NULL),
    ROW("tiocsti", type_into, "commands typed for the caller (CVE-2017-5226)", &tiocsti),
    ROW("tioclinux", type_into, "commands pasted for the caller (CVE-2023-28100)", &tioclinux),
    ROW(NULL, NULL, NULL, NULL),
};
