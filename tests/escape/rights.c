// SPDX-License-Identifier: Apache-2.0
// Rights: capabilities, ids, groups, and the ways to more of them.
#include "probe.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/xattr.h>

#define BIT(n) (1ull << (n))
// Docker's default: what many images need of root and what stays inside.
#define HARMLESS                                                                                   \
    (BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER) | BIT(CAP_FSETID) | BIT(CAP_KILL) |  \
     BIT(CAP_SETGID) | BIT(CAP_SETUID) | BIT(CAP_SETPCAP) | BIT(CAP_NET_BIND_SERVICE) |            \
     BIT(CAP_NET_RAW) | BIT(CAP_SYS_CHROOT) | BIT(CAP_MKNOD) | BIT(CAP_AUDIT_WRITE) |              \
     BIT(CAP_SETFCAP))

static unsigned long long set(const char *name) {
    const char *text = status_field(getpid(), name);
    if (!*text) {
        fail("%s cannot be read", name);
    }
    return strtoull(text, NULL, 16);
}

static void capabilities(const struct probe *self) {
    (void)self;
    static const char *const names[] = {"CapPrm", "CapEff", "CapBnd"};
    for (int k = 0; k < 3; k++) {
        unsigned long long more = set(names[k]) & ~HARMLESS;
        if (more) {
            fail("%s has %llx", names[k], more);
        }
    }
    pass("bounded by %llx", set("CapBnd"));
}

static void inheritable(const struct probe *self) {
    (void)self;
    if (set("CapInh") || set("CapAmb")) {
        fail("CapInh %llx, CapAmb %llx", set("CapInh"), set("CapAmb"));
    }
    pass("CapInh and CapAmb are 0");
}

static void more_capabilities(const struct probe *self) {
    (void)self;
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct all[2] = {{~0u, ~0u, 0}, {0x1ff, 0x1ff, 0}};
    step_refused("capset", syscall(SYS_capset, &header, all));
    must_be_refused("ambient", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0));
}

static void no_new_privileges(const struct probe *self) {
    (void)self;
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) {
        fail("it is not set");
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0) {
        fail("it can be taken back");
    }
    pass("set");
}

static void filter(const struct probe *self) {
    (void)self;
    const char *mode = status_field(getpid(), "Seccomp");
    if (strcmp(mode, "2")) {
        fail("Seccomp is %s, not 2", mode);
    }
    pass("mode 2");
}

static void securebits(const struct probe *self) {
    (void)self;
    int bits = prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);
    if (bits) {
        fail("they are %x", bits);
    }
    pass("they are 0");
}

// What a program says that was started with `--rights`, and may have more than who starts it.
static void compare(const char *program, const char *what) {
    int ends[2], status;
    char mine[128], theirs[128] = "";
    snprintf(mine, sizeof mine, "%d %s\n", geteuid(), status_field(getpid(), "CapEff"));
    pipe(ends);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 1);
        execl(program, program, "--rights", NULL);
        dprintf(1, "%s", strerror(errno));
        _exit(1);
    }
    close(ends[1]);
    read(ends[0], theirs, sizeof theirs - 1);
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && strcmp(mine, theirs)) {
        fail("%s gives %s, before it was %s", what, theirs, mine);
    }
}

// Somebody without rights, where there are ids to choose from.
static void become_nobody(void) {
    if (!setresgid(1000, 1000, 1000) && !setresuid(1000, 1000, 1000)) {
        prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); // else /proc/self is not ours any more
        if (set("CapEff")) {
            fail("uid 1000 has capabilities");
        }
    }
}

static void copy_self(const char *to, mode_t mode) {
    static char buffer[1 << 16];
    int in = open("/proc/self/exe", O_RDONLY), out = open(to, O_CREAT | O_WRONLY, 0755);
    ssize_t size;
    if (in < 0 || out < 0) {
        fail("%s cannot be made: %s", to, strerror(errno));
    }
    while ((size = read(in, buffer, sizeof buffer)) > 0) {
        write(out, buffer, (size_t)size);
    }
    close(out);
    if (chmod(to, mode)) {
        fail("chmod %s: %s", to, strerror(errno));
    }
}

static void own_set_uid(const struct probe *self) {
    (void)self;
    copy_self(SCRATCH "/suid", 06755);
    become_nobody();
    compare(SCRATCH "/suid", "a set-uid file on a tmpfs");
    pass("it gives nothing");
}

static void shipped_set_uid(const struct probe *self) {
    (void)self;
    struct stat info;
    if (stat("/volume/suid", &info) || stat("/suid", &info) || !(info.st_mode & S_ISUID)) {
        fail("there is nothing to try");
    }
    become_nobody();
    compare("/volume/suid", "a set-uid file of a volume");
    compare("/suid", "a set-uid file of the image");
    pass("they give nothing");
}

static void file_capabilities(const struct probe *self) {
    (void)self;
    struct vfs_cap_data all = {VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE,
                               {{~0u, 0}, {0x1ff, 0}}};
    copy_self(SCRATCH "/capable", 0755);
    if (setxattr(SCRATCH "/capable", "security.capability", &all, sizeof all, 0)) {
        pass("no file gets any: %s", strerror(errno));
    }
    become_nobody();
    compare(SCRATCH "/capable", "a file with capabilities");
    pass("they give nothing");
}

static void groups(const struct probe *self) {
    (void)self;
    gid_t all[64];
    int count = getgroups(64, all);
    if (count) {
        fail("there are %d, the first is %u", count, all[0]);
    }
    pass("there are none");
}

// ids: own, when the container's root is somebody without rights outside; host, when it is root.
static void ids(const struct probe *self) {
    (void)self;
    unsigned inside, outside = 0, size;
    char text[256];
    read_file("/proc/self/uid_map", text, sizeof text);
    if (sscanf(text, "%u %u %u", &inside, &outside, &size) != 3) {
        fail("/proc/self/uid_map: %s", text);
    }
    int is_root = inside == 0 && outside == 0;
    if (is_fact("ids", "host")) {
        is_root ? pass("the host's, as was asked for") : fail("root is %u outside", outside);
    }
    if (is_root) {
        fail("root inside is the host's root");
    }
    pass("root inside is %u outside", outside);
}

static void personality_bits(const struct probe *self) {
    (void)self;
    long high = 1l << (sizeof(long) * 8 - 4); // which the kernel does not look at
    step_refused("READ_IMPLIES_EXEC and more", syscall(SYS_personality, 0x0400000 | high));
    must_be_refused("READ_IMPLIES_EXEC", syscall(SYS_personality, 0x0400000));
}

#define ROW(name, function, threat) {name, function, threat, NULL}
const struct probe rights_probes[] = {
    ROW("capabilities", capabilities, "whatever a capability is for"),
    ROW("inheritable_capabilities", inheritable, "capabilities by a file (CVE-2022-24769)"),
    ROW("more_capabilities", more_capabilities, "capabilities that were dropped"),
    ROW("no_new_privileges", no_new_privileges, "set-uid files"),
    ROW("seccomp", filter, "rarely used parts of the kernel"),
    ROW("securebits", securebits, "a root that is none, or one that comes back"),
    ROW("own_set_uid_file", own_set_uid, "root for a user inside"),
    ROW("shipped_set_uid_files", shipped_set_uid, "root for a user inside"),
    ROW("file_capabilities", file_capabilities, "capabilities that were dropped"),
    ROW("groups", groups, "files of the caller's groups (CVE-2022-36109)"),
    ROW("ids", ids, "the host's root"),
    ROW("personality", personality_bits, "memory that is all executable"),
    {NULL, NULL, NULL, NULL},
};
