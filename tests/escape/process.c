// SPDX-License-Identifier: Apache-2.0
// Processes: none outside can be seen, signalled, read or changed; what is inside tells nothing of
// the host.
#include "probe.h"
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>

#define NR_PIDFD_SEND_SIGNAL 424
#define NR_PIDFD_OPEN 434
#define NR_PIDFD_GETFD 438
#define NR_PROCESS_MADVISE 440
#define NR_PROCESS_MRELEASE 448
#define MOST_PIDS 32768

static void is_known(int pid, void *data) {
    char name[64], path[64], *list = data;
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    if (read_file(path, name, sizeof name) <= 0) {
        return;
    }
    name[strcspn(name, "\n")] = 0;
    if (list && !strstr(list, name)) {
        fail("process %d is %s, which is not the container's", pid, name);
    }
    if (!list && !strcmp(name, "kthreadd")) {
        fail("the kernel's own threads can be seen");
    }
}

// commands: the names of all that may run there. Without: no thread of the kernel's is seen.
static void visible(const struct probe *self) {
    (void)self;
    const char *list = is_fact("commands", "") ? NULL : fact("commands");
    int count = each_process(is_known, (void *)list);
    if (count > 30) {
        fail("%d processes can be seen", count);
    }
    pass("only the container's %d", count);
}

static int observer(void) { return atoi(fact("observer")); }

static void none_such(const char *what, long result) {
    if (result >= 0) {
        fail("%s works on the host's process %d", what, observer());
    }
    if (errno != ESRCH && !is_refusal(errno)) {
        fail("%s on the host's process %d: %s", what, observer(), strerror(errno));
    }
}

static void signals(const struct probe *self) {
    (void)self;
    none_such("kill", kill(observer(), 0));
    if (errno != ESRCH) {
        fail("kill: %s: the host's process %d is seen", strerror(errno), observer());
    }
    none_such("tgkill", syscall(SYS_tgkill, observer(), observer(), 0));
    none_such("tkill", syscall(SYS_tkill, observer(), 0));
    none_such("killpg", kill(-observer(), 0));
    siginfo_t info = {.si_code = SI_QUEUE};
    none_such("rt_sigqueueinfo", syscall(SYS_rt_sigqueueinfo, observer(), 0, &info));
    pass("no signal reaches the host's process");
}

// Whoever gets SIGURG and has no handler does not notice; the observer has one.
static void everybody(const struct probe *self) {
    (void)self;
    fact("observer");
    if (kill(-1, SIGURG) && errno != ESRCH && errno != EPERM) {
        fail("kill(-1): %s", strerror(errno));
    }
    pass("sent to all that can be seen; whether the host's observer got it, the host says");
}

static void numbers(const struct probe *self) {
    (void)self;
    int answered = 0;
    for (int pid = 1; pid < MOST_PIDS; pid++) {
        char path[32];
        snprintf(path, sizeof path, "/proc/%d", pid);
        int answers = kill(pid, 0) == 0 || errno == EPERM;
        answered += answers;
        if (answers && access(path, F_OK)) {
            fail("pid %d answers and is not in /proc", pid);
        }
    }
    if (!answered || answered > 60) {
        fail("%d pids answer", answered);
    }
    pass("%d pids answer, all of them in /proc", answered);
}

static void memory(const struct probe *self) {
    (void)self;
    char byte;
    struct iovec here = {&byte, 1}, there = {&byte, 1};
    none_such("process_vm_readv", process_vm_readv(observer(), &here, 1, &there, 1, 0));
    none_such("process_vm_writev", process_vm_writev(observer(), &here, 1, &there, 1, 0));
    none_such("ptrace attach", ptrace(PTRACE_ATTACH, observer(), 0, 0));
    none_such("ptrace seize", ptrace(PTRACE_SEIZE, observer(), 0, 0));
    none_such("kcmp", syscall(SYS_kcmp, getpid(), observer(), 0, 0, 0));
    none_such("move_pages", syscall(SYS_move_pages, observer(), 0, NULL, NULL, NULL, 0));
    pass("%s", strerror(errno));
}

static void pidfds(const struct probe *self) {
    (void)self;
    none_such("pidfd_open", syscall(NR_PIDFD_OPEN, observer(), 0));
    // The parent of a container's first process and of who enters it is outside: 0.
    if (syscall(NR_PIDFD_OPEN, 0, 0) >= 0) {
        fail("pidfd_open of 0 works");
    }
    if (syscall(NR_PIDFD_GETFD, -1, 0, 0) >= 0 || syscall(NR_PIDFD_SEND_SIGNAL, -1, 0, 0, 0) >= 0) {
        fail("a pidfd that is none works");
    }
    pass("no pidfd of the host's process");
}

static void scheduling(const struct probe *self) {
    (void)self;
    struct rlimit limit;
    struct sched_param parameter = {0};
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(0, &cpus);
    none_such("prlimit", prlimit(observer(), RLIMIT_NOFILE, NULL, &limit));
    none_such("sched_setaffinity", sched_setaffinity(observer(), sizeof cpus, &cpus));
    none_such("sched_setscheduler", sched_setscheduler(observer(), SCHED_OTHER, &parameter));
    none_such("getpriority", getpriority(PRIO_PROCESS, (id_t)observer()));
    none_such("ioprio_get", syscall(SYS_ioprio_get, 1, observer()));
    none_such("migrate_pages", syscall(SYS_migrate_pages, observer(), 0, NULL, NULL));
    pass("%s", strerror(errno));
}

static void tells(int pid, void *secret) {
    static char text[1 << 16];
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/environ", pid);
    ssize_t size = read_file(path, text, sizeof text);
    if (size > 0 && memmem(text, (size_t)size, secret, strlen(secret))) {
        fail("%s has the caller's variable", path);
    }
}

static void environment(const struct probe *self) {
    (void)self;
    const char *secret = fact("secret");
    extern char **environ;
    for (char **at = environ; *at; at++) {
        if (strstr(*at, secret)) {
            fail("the caller's variable: %s", *at);
        }
    }
    int count = each_process(tells, (void *)secret);
    pass("the caller's variable is with none of %d processes", count);
}

static void priorities(const struct probe *self) {
    (void)self;
    struct sched_param parameter = {.sched_priority = 1};
    errno = 0;
    int now = getpriority(PRIO_PROCESS, 0);
    step_refused("a better nice value", setpriority(PRIO_PROCESS, 0, now - 1));
    step_refused("real time", sched_setscheduler(0, SCHED_FIFO, &parameter));
    must_be_refused("real time for input and output", syscall(SYS_ioprio_set, 1, 0, 1 << 13));
}

static void limits(const struct probe *self) {
    (void)self;
    static const int kinds[] = {RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_MEMLOCK, RLIMIT_CORE};
    for (int k = 0; k < 4; k++) {
        struct rlimit limit;
        getrlimit(kinds[k], &limit);
        if (limit.rlim_max == RLIM_INFINITY) {
            continue; // there is no more
        }
        limit.rlim_max++;
        step_refused("a higher limit", setrlimit(kinds[k], &limit));
    }
    pass("no limit can be raised");
}

static void oom(const struct probe *self) {
    (void)self;
    char text[32], lower[32];
    read_file("/proc/self/oom_score_adj", text, sizeof text);
    int now = atoi(text), told = atoi(fact("oom_score_adj"));
    if (now < told) {
        fail("it is %d, the caller's is %d", now, told);
    }
    int fd = open("/proc/self/oom_score_adj", O_WRONLY);
    snprintf(lower, sizeof lower, "%d", told - 1);
    if (fd >= 0 && write(fd, lower, strlen(lower)) > 0) {
        fail("it can be lowered below the caller's %d", told);
    }
    pass("%d, and not to be lowered below the caller's", now);
}

static void init_closed(int pid, void *data) {
    char name[64], path[64], text[64];
    (void)data;
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    if (read_file(path, name, sizeof name) <= 0 || !strstr(name, "minibox")) {
        return;
    }
    static const char *const files[] = {"mem", "environ", "maps", "auxv"};
    for (int k = 0; k < 4; k++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, files[k]);
        if (open(path, O_RDONLY) >= 0) {
            fail("%s of minibox's own process opens", path);
        }
    }
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    if (readlink(path, text, sizeof text) >= 0) {
        fail("%s of minibox's own process can be read", path);
    }
    step_refused("ptrace of minibox's own process", ptrace(PTRACE_SEIZE, pid, 0, 0));
}

// A process of the runtime's that stays inside (an init, or the way in of exec) is nobody's to see.
static void init(const struct probe *self) {
    (void)self;
    each_process(init_closed, NULL);
    pass("none of the runtime's processes inside opens");
}

static void clean_signals(const struct probe *self) {
    (void)self;
    static const char *const fields[] = {"SigBlk", "SigIgn", "SigPnd", "ShdPnd"};
    for (int k = 0; k < 4; k++) {
        const char *value = status_field(getpid(), fields[k]);
        if (strspn(value, "0") != 16) {
            fail("%s is %s", fields[k], value);
        }
    }
    mode_t mask = umask(0);
    if (mask != 022) {
        fail("the umask is %03o", mask);
    }
    pass("nothing blocked, ignored or pending; umask 022");
}

#define ROW(name, function, threat) {name, function, threat, NULL}
const struct probe process_probes[] = {
    ROW("processes", visible, "the host's processes"),
    ROW("signal_outside", signals, "the host's processes ended"),
    ROW("signal_everybody", everybody, "the host's processes ended"),
    ROW("pid_numbers", numbers, "processes hidden in /proc only"),
    ROW("memory_outside", memory, "the memory of the host's processes"),
    ROW("pidfds_outside", pidfds, "files and namespaces of the host's processes"),
    ROW("scheduling_outside", scheduling, "the host's processes slowed down"),
    ROW("environment", environment, "the caller's secrets"),
    ROW("priority", priorities, "more than one's share"),
    ROW("limits", limits, "more than one's share"),
    ROW("oom_score", oom, "others killed in one's place"),
    ROW("runtimes_processes", init, "the runtime's memory and executable (CVE-2019-5736)"),
    ROW("signals_and_umask", clean_signals, "a state the command does not expect"),
    {NULL, NULL, NULL, NULL},
};
