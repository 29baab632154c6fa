// SPDX-License-Identifier: Apache-2.0
// minibox-init: a static binary of a few KiB without libc, run from a sealed memfd. Three roles.
//
// The stage: maps the arena whose fd is its argument and goes on with the plan where the child
// left it. From here on the process has memory and an executable of its own, so that nothing of
// the host's Python can be reached from the container (CVE-2019-5736 and its kin).
//
// The init: after MB_INIT this process is PID 1 of the container. It forwards signals to its one
// child, reaps whatever is orphaned, and ends with the child's status, which it leaves in the
// arena before.
//
// The monitor: what stays outside with a detached container (monitor.c).
#include "minibox.h"
#include "sys.h"

#define CLONE_PARENT_SETTID 0x00100000
#define MAP_SHARED 1
#define PROT_READ_WRITE 3
#define PR_SET_DUMPABLE 4
#define SIGCHLD 17
#define SIGKILL 9
#define ORPHANED 63 // minibox/compile/command.py: the supervising process has died
#define AT_FDCWD (-100)
#define O_CLOEXEC 02000000
#define SIG_SETMASK 2
#define WNOHANG 1
#define FUTEX_WAITERS 0x80000000u

static long close_fd(int fd) { return sys6(SYS_CLOSE, (uint64_t)fd, 0, 0, 0, 0, 0); }

// The kernel sets FUTEX_OWNER_DIED in plan->alive when this task execs or dies, and wakes the
// parent: what CLONE_CHILD_CLEARTID does where memory is shared, for memory that is not.
static struct {
    uint64_t next;
    int64_t futex_offset;
    uint64_t pending;
} robust_list;

void mb_arm_alive(struct mb_plan *plan) {
    robust_list.next = sys_address(&plan->robust_next);
    robust_list.futex_offset = (int64_t)(sys_address(&plan->alive) - robust_list.next);
    plan->robust_next = sys_address(&robust_list);
    plan->alive = (uint32_t)sys6(SYS_GETTID, 0, 0, 0, 0, 0, 0) | FUTEX_WAITERS;
    sys6(SYS_SET_ROBUST_LIST, sys_address(&robust_list), sizeof robust_list, 0, 0, 0, 0);
}

void mb_disarm_alive(void) { sys6(SYS_SET_ROBUST_LIST, 0, sizeof robust_list, 0, 0, 0, 0); }

static long fork_with(uint64_t flags) { return sys6(SYS_CLONE, flags, 0, 0, 0, 0, 0); }

// A child in which the plan goes on. Its pid is in the arena before it runs, so that Python never
// sees the child at the gate without knowing who it is.
long mb_fork_with(struct mb_plan *plan, uint64_t flags) {
    mb_disarm_alive();
    long pid =
        sys6(SYS_CLONE, flags | CLONE_PARENT_SETTID, 0, sys_address(&plan->second_pid), 0, 0, 0);
    if (pid <= 0) {
        mb_arm_alive(plan);
    }
    return pid;
}

// Two uses: the namespaces that were joined act on children only (with CLONE_PARENT, so that the
// new child has the same parent); and a monitor is nobody's child.
long mb_fork(struct mb_plan *plan, uint64_t flags) {
    long pid = mb_fork_with(plan, flags);
    if (pid > 0) {
        sys_exit(0);
    }
    return pid;
}

// Kill the children that /proc knows of; what they leave behind becomes ours (a subreaper's) and
// has its turn in the next round. False when there are none.
static int kill_children(void) {
    char text[512];
    long fd = sys6(SYS_OPENAT, (uint64_t)AT_FDCWD, sys_address("/proc/thread-self/children"),
                   O_CLOEXEC, 0, 0, 0);
    if (fd < 0) {
        return 0;
    }
    long size = sys6(SYS_READ, (uint64_t)fd, sys_address(text), sizeof text, 0, 0, 0);
    close_fd((int)fd);
    uint64_t pid = 0;
    for (long i = 0; i < size; i++) {
        if (text[i] >= '0' && text[i] <= '9') {
            pid = pid * 10 + (uint64_t)(text[i] - '0');
        } else if (pid) { // a number that was cut off comes again
            sys6(SYS_KILL, pid, SIGKILL, 0, 0, 0, 0);
            pid = 0;
        }
    }
    return size > 0;
}

// End with this code. As PID 1 the kernel ends the rest of the namespace with us; without a pid
// namespace of the container's own we do it.
static _Noreturn void end(int code) {
    if (sys6(SYS_GETPID, 0, 0, 0, 0, 0, 0) != 1) {
        while (kill_children()) {
            sys6(SYS_WAIT4, (uint64_t)-1, 0, 0, 0, 0, 0);
        }
    }
    sys6(SYS_EXIT_GROUP, (uint64_t)code, 0, 0, 0, 0, 0);
    __builtin_trap(); // a filter of system calls has refused even that
}

static void reap(struct mb_plan *plan, long child) {
    for (;;) {
        int32_t status = 0;
        long pid = sys6(SYS_WAIT4, (uint64_t)-1, sys_address(&status), WNOHANG, 0, 0, 0);
        if (pid <= 0) {
            return;
        }
        if (pid == child) {
            plan->status = status;
            int signal = status & 0x7f;
            end(signal ? 128 + signal : (status >> 8) & 0xff);
        }
    }
}

// To the command's process group, so that what a shell has started gets it, too.
static void forward(long child, long signal) {
    if (sys6(SYS_KILL, (uint64_t)-child, (uint64_t)signal, 0, 0, 0, 0) < 0) {
        sys6(SYS_KILL, (uint64_t)child, (uint64_t)signal, 0, 0, 0, 0); // it leads no group yet
    }
}

// The function would be one of Python's, whose memory this process has left.
long mb_call(uint64_t function, uint64_t argument) {
    (void)function;
    (void)argument;
    return -38; // ENOSYS
}

long mb_init(struct mb_plan *plan) {
    uint64_t all = ~0ull;
    mb_disarm_alive();
    sys6(SYS_RT_SIGPROCMASK, SIG_SETMASK, sys_address(&all), 0, sizeof all, 0, 0);
    long child = fork_with(SIGCHLD);
    if (child < 0) {
        return child;
    }
    if (child == 0) {
        mb_arm_alive(plan);
        return 0;
    }
    // Nothing of the supervisor's stays open here: a pipe would never see its end.
    sys6(SYS_CLOSE_RANGE, 0, ~0u, 0, 0, 0, 0);
    sys6(SYS_PRCTL, PR_SET_DUMPABLE, 0, 0, 0, 0, 0);
    for (;;) {
        reap(plan, child);
        long signal = sys6(SYS_RT_SIGTIMEDWAIT, sys_address(&all), 0, 0, sizeof all, 0, 0);
        if (signal == ORPHANED) {
            plan->status = SIGKILL;
            end(128 + SIGKILL);
        }
        if (signal > 0 && signal != SIGCHLD) {
            forward(child, signal);
        }
    }
}

static int parse_fd(const char *text) {
    int fd = 0;
    if (!*text) {
        return -1;
    }
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || fd > 100000000) {
            return -1;
        }
        fd = fd * 10 + (*text - '0');
    }
    return fd;
}

static _Noreturn void refuse(void) {
    static const char text[] = "minibox-init: started by minibox, not by hand\n";
    sys6(SYS_WRITE, 2, sys_address(text), sizeof text - 1, 0, 0, 0);
    sys_exit(125);
}

static void *map(int fd, uint64_t size) {
    long address = sys6(SYS_MMAP, 0, size, PROT_READ_WRITE, MAP_SHARED, (uint64_t)fd, 0);
    if (sys_is_error(address)) {
        refuse();
    }
    return (void *)(uintptr_t)address;
}

static struct mb_plan *map_arena(int fd) {
    const struct mb_plan *head = map(fd, sizeof *head);
    if (head->magic != MB_MAGIC) {
        refuse();
    }
    struct mb_plan *plan = map(fd, head->size);
    close_fd(fd);
    return plan;
}

_Noreturn void mb_start(const long *stack);
_Noreturn void mb_start(const long *stack) {
    const char *const *arguments = (const char *const *)(stack + 1);
    int fd = stack[0] == 2 ? parse_fd(arguments[1]) : -1;
    if (fd < 0) {
        refuse();
    }
    struct mb_plan *plan = map_arena(fd);
    mb_arm_alive(plan);
    mb_relocate(plan);
    long r = mb_run(plan, plan->step + 1, plan->n_ops);
    sys_exit(r < 0 ? 125 : 0);
}

SYS_START
