// SPDX-License-Identifier: Apache-2.0
// The parent's side: the arena, the clone, the gate. Called from Python without the GIL, from any
// thread, so it may use libc; the child it makes runs child.c and nothing else.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "minibox.h"
#include "sys.h"

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000
#endif

// struct clone_args of <linux/sched.h>, whose name changes between header versions.
struct clone3_args {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
        set_tid_size, cgroup;
};

// A stage inherits the arena, so nobody may shrink or grow it under us.
static int arena_memfd(uint32_t size) {
    int fd = memfd_create("minibox-plan", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return -1;
    }
    if (ftruncate(fd, size) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

struct mb_plan *mb_arena(uint32_t size, int *fd, int *error) {
    int memfd = -1;
    if (fd && (memfd = arena_memfd(size)) < 0) {
        *error = errno;
        return NULL;
    }
    int flags = MAP_SHARED | (fd ? 0 : MAP_ANONYMOUS);
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, memfd, 0);
    if (memory == MAP_FAILED) {
        *error = errno;
        if (memfd >= 0) {
            close(memfd);
        }
        return NULL;
    }
    if (fd) {
        *fd = memfd;
    }
    struct mb_plan *plan = memory;
    plan->size = size;
    return plan;
}

void mb_arena_free(struct mb_plan *plan, uint32_t size) { munmap(plan, size); }

// The dumpable attribute belongs to the shared memory: the set*id of any child clears it for all.
// The first launch in flight saves it, the last one to leave puts it back.
static pthread_mutex_t dumpable_lock = PTHREAD_MUTEX_INITIALIZER;
static int in_flight;
static int dumpable;

static void save_dumpable(void) {
    pthread_mutex_lock(&dumpable_lock);
    if (in_flight++ == 0) {
        dumpable = prctl(PR_GET_DUMPABLE);
    }
    pthread_mutex_unlock(&dumpable_lock);
}

static void restore_dumpable(void) {
    pthread_mutex_lock(&dumpable_lock);
    // 2 (suid_dumpable) cannot be set by hand, and 0 is what a set*id leaves.
    if (--in_flight == 0 && dumpable == 1) {
        prctl(PR_SET_DUMPABLE, 1);
    }
    pthread_mutex_unlock(&dumpable_lock);
}

static uint64_t parent_tid(struct mb_clone *how) {
    return how->parent_tid ? how->parent_tid : sys_address(&how->tid);
}

static uint64_t child_tid(struct mb_plan *plan, const struct mb_clone *how) {
    return how->child_tid ? how->child_tid : sys_address(&plan->alive);
}

static long clone_by_clone3(struct mb_plan *plan, struct mb_clone *how, uint64_t stack,
                            uint64_t stack_size) {
    struct clone3_args args = {
        .flags = how->flags,
        .pidfd = sys_address(&how->pidfd),
        .child_tid = child_tid(plan, how),
        .parent_tid = parent_tid(how),
        .exit_signal = (uint64_t)how->exit_signal,
        .stack = stack,
        .stack_size = stack_size,
        .tls = how->tls,
        .set_tid = sys_address(how->set_tid),
        .set_tid_size = how->set_tid_size,
        .cgroup = (uint64_t)how->cgroup,
    };
    return sys_clone3_onto(&args, sizeof args, mb_child, plan);
}

static long clone_by_clone(struct mb_plan *plan, struct mb_clone *how, void *stack_top) {
    uint64_t flags = how->flags | (uint64_t)how->exit_signal;
    uint64_t word = how->flags & CLONE_PIDFD ? sys_address(&how->pidfd) : parent_tid(how);
    return sys_clone_onto(flags, stack_top, (void *)(uintptr_t)word,
                          (void *)(uintptr_t)child_tid(plan, how), how->tls, mb_child, plan);
}

// What only clone3 can say: a flag above 32 bits (CLONE_INTO_CGROUP among them) or below 8, where
// clone has the exit signal (CLONE_NEWTIME), and chosen pids.
static int needs_clone3(const struct mb_clone *how) {
    return (how->flags >> 32) != 0 || (how->flags & 0xff) != 0 || how->set_tid_size != 0;
}

static long clone_child(struct mb_plan *plan, struct mb_clone *how) {
    // The arena's end, 16-byte aligned, unless the caller has a stack of its own.
    uint64_t stack_size = how->stack ? how->stack_size : 16384;
    uint64_t stack = how->stack ? how->stack : sys_address(plan) + (plan->size & ~15u) - stack_size;
    if (how->call == 2 && needs_clone3(how)) {
        return -EINVAL;
    }
    long r = -ENOSYS;
    if (how->call != 2) {
        r = clone_by_clone3(plan, how, stack, stack_size);
    }
    // A seccomp filter that cannot look into clone3's struct answers ENOSYS, as an old kernel does.
    if (r == -ENOSYS && how->call != 3 && !needs_clone3(how)) {
        r = clone_by_clone(plan, how, (void *)(uintptr_t)(stack + stack_size));
    }
    return r;
}

// Not pthread_sigmask, which leaves out the two signals that glibc keeps to itself.
uint64_t mb_signal_mask(uint64_t mask) {
    uint64_t before = 0;
    sys6(SYS_RT_SIGPROCMASK, SIG_SETMASK, sys_address(&mask), sys_address(&before), sizeof mask, 0,
         0);
    return before;
}

uint64_t mb_signals_blocked(void) {
    uint64_t mask = 0;
    sys6(SYS_RT_SIGPROCMASK, 0, 0, sys_address(&mask), sizeof mask, 0, 0);
    return mask;
}

int mb_launch(struct mb_plan *plan, struct mb_clone *how) {
    how->pidfd = -1;
    mb_relocate(plan);
    long r = mb_run(plan, 0, plan->n_before);
    if (r < 0) {
        return (int)r;
    }
    plan->alive = 1;
    save_dumpable();
    uint64_t mask = mb_signal_mask(~0ull);
    r = clone_child(plan, how);
    mb_signal_mask(mask);
    if (r < 0) {
        plan->alive = 0;
        restore_dumpable();
        return (int)r;
    }
    how->pid = (int32_t)r;
    return 0;
}

int mb_go(struct mb_plan *plan, uint32_t n) {
    plan->gate = n;
    long r = sys_futex(&plan->gate, FUTEX_WAKE, 1, NULL);
    return r < 0 ? (int)r : 0;
}

int mb_arrived(struct mb_plan *plan, int timeout_ms) {
    struct timespec timeout = {timeout_ms / 1000, (timeout_ms % 1000) * 1000000L};
    volatile uint32_t *arrived = &plan->arrived;
    if (*arrived == 0) {
        sys_futex(arrived, FUTEX_WAIT, 0, &timeout);
    }
    return *arrived != 0;
}

int mb_left(struct mb_plan *plan, int timeout_ms) {
    struct timespec timeout = {timeout_ms / 1000, (timeout_ms % 1000) * 1000000L};
    volatile uint32_t *alive = &plan->alive;
    uint32_t value = *alive;
    while (value != 0 && !(value & FUTEX_OWNER_DIED)) {
        long r = sys_futex(alive, FUTEX_WAIT, value, &timeout);
        if (r < 0 && r != -EAGAIN) {
            return 0;
        }
        value = *alive;
    }
    restore_dumpable();
    return 1;
}

void mb_forget(struct mb_plan *plan) {
    plan->alive = 0;
    restore_dumpable();
}

long mb_syscall(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
    return sys6(nr, a, b, c, d, e, f);
}

// A child in Python's memory has all of its functions.
long mb_call(uint64_t function, uint64_t argument) {
    return ((long (*)(void *))(uintptr_t)function)((void *)(uintptr_t)argument);
}

// All three would leave two processes in Python's memory.
long mb_fork(struct mb_plan *plan, uint64_t flags) {
    (void)plan;
    (void)flags;
    return -ENOSYS;
}

long mb_init(struct mb_plan *plan) {
    (void)plan;
    return -ENOSYS;
}

long mb_monitor(struct mb_plan *plan, uint64_t flags, struct mb_monitor *monitor) {
    (void)plan;
    (void)flags;
    (void)monitor;
    return -ENOSYS;
}
