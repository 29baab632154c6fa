// SPDX-License-Identifier: Apache-2.0
// The floor: the least that a container costs on this kernel.
//
// It makes the container that `minibox.run(COMMAND, rootfs=ROOTFS)` makes by default, with the same
// clone flags and the same system calls in the same order (`minibox plan ROOTFS COMMAND` prints
// them), and without anything that a general runtime needs around them: no plan, no report of the
// step that failed, no memory per container, no Python. What a library call takes above this is
// the library's own; what it takes below is the kernel's.
//
// usage: floor N ROOTFS FILTER COMMAND [ARGUMENT…]
// FILTER is the file with the default seccomp program that lies in the package.
// Starts N containers one after another and prints the nanoseconds of each; N = 0: one for each
// line on stdin, so that the caller can take samples of other things in between.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/keyctl.h>
#include <linux/mount.h> // not sys/mount.h: the two do not go together in every libc
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FAILED 125
#define CONTAINER_FLAGS                                                                            \
    (CLONE_VM | CLONE_PIDFD | CLONE_CHILD_CLEARTID | CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID |  \
     CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP | SIGCHLD)

#ifndef MNT_DETACH
#define MNT_DETACH 2
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC 4
#endif

enum { IDS = 65536, FIRST_ID = 1 << 30, ID_RANGES = 8192, STACK_SIZE = 65536 };

// One container. The child reads it in the parent's memory, which it shares until the exec.
struct container {
    const char *rootfs;
    char *const *command;
    char id_map[64];
    int userns; // carries the id map of the root's files
    int self; // a pidfd of this process
    int tree; // the clone of the root's mounts
    int child_ends[3];
    int our_ends[3]; // [0] is not used: stdin is /dev/null
    int pidfd;
    pid_t tid; // cleared and woken by the kernel at exec; nobody waits for it here
    uint32_t gate;
};

static struct sock_filter filter[BPF_MAXINSNS];
static unsigned short filter_length;

static char stack[STACK_SIZE] __attribute__((aligned(16)));

// A failure ends the program at once, parent or child: there is nothing to measure then. (errno
// is one word for both; only a call that fails writes to it, and one that fails ends it all.)
static long must(const char *what, long result) {
    if (result < 0) {
        dprintf(STDERR_FILENO, "floor: %s: %s\n", what, strerror(errno));
        _exit(FAILED);
    }
    return result;
}
#define MUST(call) must(#call, call)

static void write_file(const char *path, const char *text) {
    int fd = (int)must(path, open(path, O_WRONLY | O_CLOEXEC));
    must(path, write(fd, text, strlen(text)));
    close(fd);
}

static void write_id_maps(pid_t pid, const char *map) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/uid_map", pid);
    write_file(path, map);
    snprintf(path, sizeof path, "/proc/%d/gid_map", pid);
    write_file(path, map);
}

static void wait_at_gate(const uint32_t *gate) {
    while (__atomic_load_n(gate, __ATOMIC_ACQUIRE) == 0) {
        syscall(SYS_futex, gate, FUTEX_WAIT, 0, NULL);
    }
}

static void open_gate(uint32_t *gate) {
    __atomic_store_n(gate, 1, __ATOMIC_RELEASE);
    MUST(syscall(SYS_futex, gate, FUTEX_WAKE, 1));
}

static void become_root(void) {
    umask(022);
    // Raw calls: libc would bring in all threads, and this memory's threads are another process's.
    MUST(syscall(SYS_setgroups, 0, NULL));
    MUST(syscall(SYS_setresgid, 0, 0, 0));
    MUST(syscall(SYS_setresuid, 0, 0, 0));
}

static void take_names(void) {
    MUST(setsid());
    long keyring = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
    if (keyring < 0 && errno != ENOSYS) {
        must("keyctl", keyring);
    }
    MUST(sethostname("minibox", 7));
    int inet = (int)MUST(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    MUST(ioctl(inet, SIOCSIFFLAGS, &lo));
}

static void move(int mount, int directory, const char *path, unsigned flags) {
    MUST(syscall(SYS_move_mount, mount, "", directory, path, MOVE_MOUNT_F_EMPTY_PATH | flags));
}

static void set_string(int fs, const char *key, const char *value) {
    MUST(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0));
}

// The directory `name` of the root, made where it is missing, as an fd.
static int mount_point(int tree, const char *name) {
    struct open_how how = {.flags = O_CLOEXEC | O_PATH | O_DIRECTORY,
                           .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_IN_ROOT};
    long made = mkdirat(tree, name, 0755);
    if (made < 0 && errno != EEXIST) {
        must(name, made);
    }
    return (int)must(name, syscall(SYS_openat2, tree, name, &how, sizeof how));
}

static int mount_new(int fs, int target, unsigned attributes) {
    MUST(syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
    int mount = (int)MUST(syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes));
    move(mount, target, "", MOVE_MOUNT_T_EMPTY_PATH);
    return mount;
}

static int new_fs(const char *type) {
    return (int)must(type, syscall(SYS_fsopen, type, FSOPEN_CLOEXEC));
}

static void mount_kernel_fs(int tree, const char *name, const char *type, unsigned attributes) {
    int target = mount_point(tree, name);
    mount_new(new_fs(type), target,
              attributes | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
}

static void mount_below_dev(int dev, const char *name, const char *type, unsigned long flags,
                            const char *options) {
    must(name, mkdirat(dev, name, 0755));
    must(name, syscall(SYS_mount, type, name, type, flags | MS_NOSUID | MS_NOEXEC, options));
}

static void mount_dev(int tree) {
    static const char *const nodes[] = {"/dev/null",   "/dev/zero",    "/dev/full",
                                        "/dev/random", "/dev/urandom", "/dev/tty"};
    static const char *const links[][2] = {{"/proc/self/fd", "fd"},
                                           {"/proc/self/fd/0", "stdin"},
                                           {"/proc/self/fd/1", "stdout"},
                                           {"/proc/self/fd/2", "stderr"},
                                           {"pts/ptmx", "ptmx"}};
    int target = mount_point(tree, "dev");
    int fs = new_fs("tmpfs");
    set_string(fs, "mode", "0755");
    set_string(fs, "size", "64k");
    int dev = mount_new(fs, target, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    MUST(fchdir(dev));
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
        const char *name = nodes[i] + strlen("/dev/");
        must(name, mknodat(dev, name, S_IFREG | 0666, 0));
        must(name, syscall(SYS_mount, nodes[i], name, NULL, MS_BIND, NULL));
    }
    struct mount_attr fixed = {.attr_set = MOUNT_ATTR_RDONLY};
    struct mount_attr loose = {.attr_clr = MOUNT_ATTR_RDONLY};
    MUST(syscall(SYS_mount_setattr, dev, "", AT_EMPTY_PATH | AT_RECURSIVE, &fixed, sizeof fixed));
    MUST(syscall(SYS_mount_setattr, dev, "", AT_EMPTY_PATH, &loose, sizeof loose));
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        must(links[i][1], symlinkat(links[i][0], dev, links[i][1]));
    }
    mount_below_dev(dev, "pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=0620,gid=5");
    mount_below_dev(dev, "shm", "tmpfs", MS_NODEV, "mode=1777,size=64m");
    mount_below_dev(dev, "mqueue", "mqueue", MS_NODEV, NULL);
}

static void enter_root(int tree) {
    struct mount_attr private = {.propagation = MS_PRIVATE};
    MUST(syscall(SYS_mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, &private, sizeof private));
    move(tree, AT_FDCWD, "/", 0);
    mount_kernel_fs(tree, "proc", "proc", 0);
    mount_kernel_fs(tree, "sys", "sysfs", MOUNT_ATTR_RDONLY);
    mount_dev(tree);
    MUST(fchdir(tree));
    MUST(syscall(SYS_pivot_root, ".", "."));
    MUST(syscall(SYS_umount2, ".", MNT_DETACH));
}

static void must_or_missing(const char *path, long result) {
    if (result < 0 && errno != ENOENT) {
        must(path, result);
    }
}

static void cover_paths(void) {
    static const char *const files[] = {
        "/proc/kcore", "/proc/keys",          "/proc/timer_list",  "/proc/interrupts",
        "/proc/kmsg",  "/proc/latency_stats", "/proc/timer_stats", "/proc/sched_debug"};
    static const char *const directories[] = {"/proc/acpi", "/proc/asound", "/proc/scsi",
                                              "/sys/firmware", "/sys/devices/virtual/powercap"};
    static const char *const fixed[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                        "/proc/sysrq-trigger"};
    unsigned long safe = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        must_or_missing(files[i], syscall(SYS_mount, "/dev/null", files[i], NULL, MS_BIND, NULL));
    }
    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++) {
        must_or_missing(directories[i], syscall(SYS_mount, "tmpfs", directories[i], "tmpfs", safe,
                                                "size=4k,mode=0555"));
    }
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        must_or_missing(fixed[i],
                        syscall(SYS_mount, fixed[i], fixed[i], NULL, MS_BIND | MS_REC, NULL));
        must_or_missing(
            fixed[i], syscall(SYS_mount, NULL, fixed[i], NULL, MS_BIND | MS_REMOUNT | safe, NULL));
    }
}

static void check_lifeline(int parent) {
    struct pollfd ended = {.fd = parent, .events = POLLIN};
    struct timespec now = {0, 0};
    MUST(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0));
    if (MUST(ppoll(&ended, 1, &now, NULL)) > 0) {
        _exit(FAILED);
    }
}

// docker's small set, of minibox/spec.py.
static const unsigned kept[] = {
    CAP_CHOWN,      CAP_DAC_OVERRIDE, CAP_FOWNER,  CAP_FSETID,           CAP_KILL,
    CAP_SETGID,     CAP_SETUID,       CAP_SETPCAP, CAP_NET_BIND_SERVICE, CAP_NET_RAW,
    CAP_SYS_CHROOT, CAP_AUDIT_WRITE,  CAP_SETFCAP,
};

static void drop_capabilities(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2] = {{0}};
    for (size_t k = 0; k < sizeof kept / sizeof *kept; k++) {
        sets[kept[k] / 32].effective |= 1u << kept[k] % 32;
    }
    for (unsigned capability = 0; capability <= CAP_LAST_CAP; capability++) {
        if (!(sets[capability / 32].effective >> capability % 32 & 1)) {
            MUST(prctl(PR_CAPBSET_DROP, capability, 0, 0, 0));
        }
    }
    sets[0].permitted = sets[0].effective;
    sets[1].permitted = sets[1].effective;
    MUST(syscall(SYS_capset, &header, sets));
}

static void read_filter(const char *path) {
    int fd = (int)must(path, open(path, O_RDONLY | O_CLOEXEC));
    filter_length = (unsigned short)(must(path, read(fd, filter, sizeof filter)) / sizeof *filter);
    close(fd);
}

static void restrict_calls(void) {
    struct sock_fprog program = {filter_length, filter};
    MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
}

static int container_main(void *argument) {
    static char *const environment[] = {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
        "HOSTNAME=minibox", "container=minibox", NULL};
    const struct container *c = argument;
    uint64_t no_signals = 0;
    check_lifeline(c->self);
    wait_at_gate(&c->gate);
    become_root();
    take_names();
    enter_root(c->tree);
    for (int fd = 0; fd < 3; fd++) {
        MUST(dup3(c->child_ends[fd], fd, 0));
    }
    MUST(chdir("/"));
    cover_paths();
    drop_capabilities();
    struct rlimit no_core = {1, 1};
    MUST(prlimit(0, RLIMIT_CORE, &no_core, NULL));
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    check_lifeline(c->self);
    MUST(syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC));
    restrict_calls();
    MUST(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &no_signals, NULL, sizeof no_signals));
    MUST(execve(c->command[0], c->command, environment));
    return FAILED;
}

static pid_t clone_child(int (*entry)(void *), int flags, struct container *c) {
    return (pid_t)MUST(clone(entry, stack + sizeof stack, flags, c, &c->pidfd, NULL, &c->tid));
}

// The exit code of the child; it is reaped and its pidfd closed.
static int reap(struct container *c) {
    siginfo_t info;
    MUST(waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED));
    close(c->pidfd);
    return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

static int waiting_main(void *argument) {
    const struct container *c = argument;
    check_lifeline(c->self);
    wait_at_gate(&c->gate);
    return 0;
}

// A user namespace with the map of the containers and no process in it; made once, as by minibox.
static void make_userns(struct container *c) {
    char path[64];
    c->gate = 0;
    pid_t pid = clone_child(waiting_main, CLONE_VM | CLONE_PIDFD | CLONE_NEWUSER | SIGCHLD, c);
    write_id_maps(pid, c->id_map);
    snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
    c->userns = (int)must(path, open(path, O_RDONLY | O_CLOEXEC));
    open_gate(&c->gate);
    reap(c);
}

static void open_streams(struct container *c) {
    c->child_ends[0] = (int)MUST(open("/dev/null", O_RDWR | O_CLOEXEC));
    for (int fd = 1; fd < 3; fd++) {
        int ends[2];
        MUST(pipe2(ends, O_CLOEXEC));
        c->our_ends[fd] = ends[0];
        c->child_ends[fd] = ends[1];
    }
}

static void clone_tree(struct container *c) {
    unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE;
    struct mount_attr mapped = {.attr_set = MOUNT_ATTR_NODEV | MOUNT_ATTR_IDMAP,
                                .userns_fd = (uint64_t)c->userns};
    c->tree = (int)must(c->rootfs, syscall(SYS_open_tree, AT_FDCWD, c->rootfs, flags));
    MUST(syscall(SYS_mount_setattr, c->tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &mapped,
                 sizeof mapped));
}

// Read both streams to their ends. What came is shown if the command fails.
static size_t read_streams(struct container *c, char *text, size_t size) {
    struct pollfd streams[2] = {{.fd = c->our_ends[1], .events = POLLIN},
                                {.fd = c->our_ends[2], .events = POLLIN}};
    size_t used = 0;
    while (streams[0].fd >= 0 || streams[1].fd >= 0) {
        MUST(poll(streams, 2, -1));
        for (int k = 0; k < 2; k++) {
            if (streams[k].fd < 0 || !streams[k].revents) {
                continue;
            }
            char chunk[4096];
            long got = MUST(read(streams[k].fd, chunk, sizeof chunk));
            size_t kept = (size_t)got < size - used ? (size_t)got : size - used;
            memcpy(text + used, chunk, kept);
            used += kept;
            if (got == 0) {
                close(streams[k].fd);
                streams[k].fd = -1; // poll passes it over
            }
        }
    }
    return used;
}

static void run_container(struct container *c) {
    char text[4096];
    open_streams(c);
    clone_tree(c);
    c->gate = 0;
    pid_t pid = clone_child(container_main, CONTAINER_FLAGS, c);
    close(c->tree);
    write_id_maps(pid, c->id_map);
    open_gate(&c->gate);
    for (int fd = 0; fd < 3; fd++) {
        close(c->child_ends[fd]); // the child's table of fds is its own
    }
    size_t used = read_streams(c, text, sizeof text);
    int code = reap(c);
    if (code != 0) {
        dprintf(STDERR_FILENO, "floor: exit code %d\n%.*s", code, (int)used, text);
        exit(FAILED);
    }
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int is_asked(void) {
    int c = getchar();
    while (c != '\n' && c != EOF) {
        c = getchar();
    }
    return c != EOF;
}

int main(int argc, char **argv) {
    char *end = NULL;
    unsigned long count = argc > 4 ? strtoul(argv[1], &end, 10) : 0;
    if (end == NULL || *end != '\0') {
        fprintf(stderr, "usage: floor N ROOTFS FILTER COMMAND [ARGUMENT…]\n");
        return FAILED;
    }
    struct container c = {.rootfs = argv[2], .command = argv + 4};
    read_filter(argv[3]);
    snprintf(c.id_map, sizeof c.id_map, "0 %d %d\n", FIRST_ID + getpid() % ID_RANGES * IDS, IDS);
    c.self = (int)MUST(syscall(SYS_pidfd_open, getpid(), 0));
    make_userns(&c);
    for (unsigned long i = 0; count ? i < count : is_asked(); i++) {
        uint64_t began = now();
        run_container(&c);
        printf("%llu\n", (unsigned long long)(now() - began));
        fflush(stdout);
    }
    return 0;
}
