// SPDX-License-Identifier: Apache-2.0
// System calls that no container needs: each must be refused before it looks at its arguments,
// which are such that nothing would come of it.
#include "probe.h"
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>

#define NR_IO_URING_SETUP 425
#define NR_IO_URING_ENTER 426
#define NR_IO_URING_REGISTER 427
#define NR_CLONE3 435
#define NR_LISTNS 470
#ifndef SYS_lookup_dcookie
#define SYS_lookup_dcookie 600 // there is none any more since Linux 6.7
#endif
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

struct call {
    long number;
    long argument[6];
};

// data: a struct call.
static void refused(const struct probe *self) {
    const struct call *call = self->data;
    const long *a = call->argument;
    must_be_refused(self->name, syscall(call->number, a[0], a[1], a[2], a[3], a[4], a[5]));
}

// data: the number. A number that has no call has no special answer either.
static void missing(const struct probe *self) {
    long r = syscall(((const struct call *)self->data)->number, 0, 0, 0, 0, 0, 0);
    if (r != -1 || errno != ENOSYS) {
        fail("%s", r == -1 ? strerror(errno) : "it works");
    }
    pass("%s", strerror(errno));
}

static void fork_flags(const struct probe *self) {
    (void)self;
    static const long kinds[] = {
        CLONE_NEWUSER, CLONE_NEWNS,  CLONE_NEWPID,    CLONE_NEWNET,
        CLONE_NEWIPC,  CLONE_NEWUTS, CLONE_NEWCGROUP, CLONE_NEWUSER | CLONE_NEWNS};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        for (long high = 0; high < 2; high++) { // the kernel looks at the low 32 bits only
            long flags = kinds[k] | SIGCHLD | high << (sizeof(long) * 8 - 4);
            long child = syscall(SYS_clone, flags, 0, 0, 0, 0);
            if (child == 0) {
                _exit(0);
            }
            step_refused("clone", child);
        }
    }
    pass("clone with new namespaces: %s", strerror(errno));
}

static void unshare_flags(const struct probe *self) {
    (void)self;
    static const int kinds[] = {CLONE_NEWUSER, CLONE_NEWNS,  CLONE_NEWPID,    CLONE_NEWNET,
                                CLONE_NEWIPC,  CLONE_NEWUTS, CLONE_NEWCGROUP, CLONE_NEWTIME};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        char name[32];
        snprintf(name, sizeof name, "unshare(%x)", kinds[k]);
        step_refused(name, unshare(kinds[k]));
    }
    pass("unshare: %s", strerror(errno));
}

static void enter(const struct probe *self) {
    (void)self;
    static const char *const kinds[] = {"user", "mnt", "pid",    "net",
                                        "ipc",  "uts", "cgroup", "time"};
    for (int k = 0; k < 8; k++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/1/ns/%s", kinds[k]);
        int fd = open(path, O_RDONLY);
        if (fd < 0) {
            snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[k]);
            fd = open(path, O_RDONLY);
        }
        // EINVAL: one's own user namespace cannot be entered again.
        if (setns(fd, 0) == 0 || (!is_refusal(errno) && !(errno == EINVAL && k == 0))) {
            fail("setns %s: %s", path, strerror(errno));
        }
    }
    long one = syscall(434 /* pidfd_open */, 1, 0);
    must_be_refused("setns by pidfd", one < 0 ? one : setns((int)one, CLONE_NEWNS | CLONE_NEWPID));
}

static void clocks(const struct probe *self) {
    (void)self;
    struct timespec now;
    struct timeval day;
    struct timex state = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    step_refused("clock_settime", syscall(SYS_clock_settime, CLOCK_REALTIME, &now));
    gettimeofday(&day, NULL);
    step_refused("settimeofday", syscall(SYS_settimeofday, &day, NULL));
    syscall(SYS_adjtimex, &state);
    state.modes = ADJ_FREQUENCY; // the one it has
    step_refused("adjtimex", syscall(SYS_adjtimex, &state));
    must_be_refused("clock_adjtime", syscall(SYS_clock_adjtime, CLOCK_REALTIME, &state));
}

static void keyrings(const struct probe *self) {
    (void)self;
    const char *secret = fact("secret");
    static const int rings[] = {KEY_SPEC_SESSION_KEYRING, KEY_SPEC_USER_KEYRING,
                                KEY_SPEC_USER_SESSION_KEYRING, KEY_SPEC_PROCESS_KEYRING};
    for (int k = 0; k < 4; k++) {
        if (syscall(SYS_keyctl, KEYCTL_SEARCH, rings[k], "user", secret, 0) >= 0) {
            fail("the caller's key is found in keyring %d", rings[k]);
        }
    }
    step_refused("keyctl", syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 0));
    step_refused("request_key", syscall(SYS_request_key, "user", secret, NULL, 0));
    must_be_refused("add_key", syscall(SYS_add_key, "user", "k", "v", 1, KEY_SPEC_PROCESS_KEYRING));
}

static void host_name(const struct probe *self) {
    (void)self;
    char name[64];
    gethostname(name, sizeof name);
    step_refused("sethostname", sethostname(name, strlen(name)));
    must_be_refused("setdomainname", setdomainname("", 0));
}

#ifdef __x86_64__
// What the filter refuses by 64-bit numbers, by those of the other ABIs. In a child: a filter may
// end who tries.
static void other_abi(const char *name, long (*call)(void)) {
    int status;
    pid_t child = fork();
    if (child == 0) {
        long r = call();
        _exit(r >= 0 ? 1 : is_refusal((int)-r) ? 0 : 2);
    }
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status)) {
        fail("%s %s", name, WEXITSTATUS(status) == 1 ? "succeeds" : "is not refused");
    }
}

static long by_int80(long number, long first, long second) {
    long r;
    __asm__ volatile("int $0x80"
                     : "=a"(r)
                     : "a"(number), "b"(first), "c"(second), "d"(0L)
                     : "memory", "r8", "r9", "r10", "r11");
    return (int)r;
}

static long unshare_32(void) { return by_int80(310, CLONE_NEWUSER, 0); }
static long keyctl_32(void) { return by_int80(288, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING); }
static long clone_32(void) { return by_int80(120, CLONE_NEWUSER | SIGCHLD, 0); }
static long bpf_32(void) { return by_int80(357, 5, 0); }
static long x32(long number, long first, long second) {
    long r = syscall(0x40000000 | number, first, second, 0, 0, 0, 0);
    return r < 0 ? -errno : r;
}
static long unshare_x32(void) { return x32(SYS_unshare, CLONE_NEWUSER, 0); }
static long keyctl_x32(void) { return x32(SYS_keyctl, KEYCTL_GET_KEYRING_ID, -4); }
static long bpf_x32(void) { return x32(SYS_bpf, 5, 0); }

static void int80(const struct probe *self) {
    (void)self;
    other_abi("unshare", unshare_32);
    other_abi("clone", clone_32);
    other_abi("keyctl", keyctl_32);
    other_abi("bpf", bpf_32);
    pass("refused, or there are no 32-bit calls");
}

static void x32_calls(const struct probe *self) {
    (void)self;
    other_abi("unshare", unshare_x32);
    other_abi("keyctl", keyctl_x32);
    other_abi("bpf", bpf_x32);
    pass("refused");
}

static const struct call iopl = {SYS_iopl, {3}}, ioperm = {SYS_ioperm, {0x80, 1, 1}};
#define ARCHITECTURE                                                                               \
    CALL("iopl", iopl, "the host's ports"), CALL("ioperm", ioperm, "the host's ports"),
#else
static void other_way(const struct probe *self) {
    (void)self;
    pass("there is no such way into this kernel");
}
#define int80 other_way
#define x32_calls other_way
#define ARCHITECTURE                                                                               \
    {"iopl", other_way, "the host's ports", NULL}, {"ioperm", other_way, "the host's ports", NULL},
#endif

#define AT(text) (long)(text)
static const char nowhere[] = "/nonexistent";
// clang-format off
static const struct call
    bpf = {SYS_bpf, {5}}, perf = {SYS_perf_event_open, {0, 0, -1, -1}}, uffd = {SYS_userfaultfd, {0}},
    uring_setup = {NR_IO_URING_SETUP, {1}}, uring_enter = {NR_IO_URING_ENTER, {-1}},
    uring_register = {NR_IO_URING_REGISTER, {-1}},
    kexec = {SYS_kexec_load, {0, 0, 0, 0xffff}}, kexec_file = {SYS_kexec_file_load, {-1, -1, 0, 0, 0xffff}},
    init_module = {SYS_init_module, {0, 0, 0}}, finit_module = {SYS_finit_module, {-1}},
    delete_module = {SYS_delete_module, {AT(nowhere), O_NONBLOCK}}, reboot_ = {SYS_reboot, {1, 2, 3}},
    swapon_ = {SYS_swapon, {AT(nowhere)}}, swapoff_ = {SYS_swapoff, {AT(nowhere)}},
    acct_ = {SYS_acct, {AT(nowhere)}}, quota = {SYS_quotactl, {0x800007 << 8, AT(nowhere)}},
    syslog_ = {SYS_syslog, {10}}, hangup = {SYS_vhangup, {0}},
    fanotify = {SYS_fanotify_init, {4 /* FAN_CLASS_CONTENT */, O_RDONLY}},
    cookie = {SYS_lookup_dcookie, {0}},
    clone3 = {NR_CLONE3, {0, 0}}, listns = {NR_LISTNS, {0}}, newest = {600, {0}}, far = {100000, {0}};
// clang-format on

#define CALL(name, call, threat) {name, refused, threat, &(call)}
#define ROW(name, function, threat) {name, function, threat, NULL}
const struct probe call_probes[] = {
    ROW("unshare", unshare_flags, "a namespace with all capabilities (CVE-2022-0185)"),
    ROW("clone", fork_flags, "a namespace with all capabilities (CVE-2022-0185)"),
    {"clone3", missing, "the same, by flags that no filter can see", &clone3},
    ROW("setns", enter, "namespaces of others"),
    ROW("clocks", clocks, "the host's time"),
    ROW("keyrings", keyrings, "the caller's keys; quotas of others (CVE-2014-9529)"),
    ROW("host_name", host_name, "names of others"),
    CALL("bpf", bpf, "programs in the kernel (CVE-2021-3490)"),
    CALL("perf_event_open", perf, "what others do (CVE-2013-2094)"),
    CALL("userfaultfd", uffd, "the kernel stopped at a chosen moment"),
    CALL("io_uring_setup", uring_setup, "calls past the filter (CVE-2022-29582)"),
    CALL("io_uring_enter", uring_enter, "calls past the filter"),
    CALL("io_uring_register", uring_register, "calls past the filter"),
    CALL("kexec_load", kexec, "another kernel"),
    CALL("kexec_file_load", kexec_file, "another kernel"),
    CALL("init_module", init_module, "code in the kernel"),
    CALL("finit_module", finit_module, "code in the kernel"),
    CALL("delete_module", delete_module, "code of the kernel taken away"),
    CALL("reboot", reboot_, "the host's end"),
    CALL("swapon", swapon_, "the host's memory"),
    CALL("swapoff", swapoff_, "the host's memory"),
    CALL("acct", acct_, "the host's accounts of processes"),
    CALL("quotactl", quota, "the host's quotas"),
    CALL("syslog", syslog_, "the kernel's log"),
    CALL("vhangup", hangup, "the terminal of others"),
    CALL("fanotify_init", fanotify, "what others open"),
    CALL("lookup_dcookie", cookie, "paths of the host's"),
    {"listns", missing, "namespaces outside", &listns},
    {"newest_calls", missing, "calls that no filter knows yet", &newest},
    {"no_such_call", missing, "calls that no filter knows yet", &far},
    ARCHITECTURE ROW("int80", int80, "32-bit calls past the filter"),
    ROW("x32", x32_calls, "x32 calls past the filter"),
    {NULL, NULL, NULL, NULL},
};
