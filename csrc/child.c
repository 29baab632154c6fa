// SPDX-License-Identifier: Apache-2.0
// The loop over the table of system calls: the whole of what runs in a new child.
//
// The contract. The child shares memory with a running, threaded Python, so this file
//   1. makes raw system calls that return -errno: TLS and errno belong to a Python thread;
//   2. calls no function of libc: no malloc, no stdio, no set*id (a test runs nm -u on it);
//   3. starts with all signals blocked and with Python's handlers still in place: it resets them
//      before the plan unblocks anything, or they would run here, in Python's memory;
//   4. may clear the dumpable attribute by a set*id; it belongs to the shared memory, so the
//      parent saves it and puts it back (launch.c);
//   5. never joins a namespace while it shares that memory: such a plan execs the stage first, a
//      sealed memfd of the static init, which maps the arena and runs the rest (init.c);
//   6. decides nothing. An op that fails and is not tolerated ends the plan: step and errno are
//      in the arena, and the parent, who knows why the op was there, tells the user.
#include "minibox.h"
#include "sys.h"

#define FUTEX_WAIT 0
#define FUTEX_WAKE 1
#define SIG_SETMASK 2
#define LAST_SIGNAL 64
#define CLOCK_MONOTONIC 1
#define EINTR 4
#define EAGAIN 11
#define MOST_TRIES 100000
#define ESRCH 3
#define EPROTO 71
#define NLMSG_ERROR 2
#define LAST_ERRNO 4095

static uint64_t now(void) {
    int64_t t[2] = {0, 0};
    sys6(SYS_CLOCK_GETTIME, CLOCK_MONOTONIC, sys_address(t), 0, 0, 0, 0);
    return (uint64_t)t[0] * 1000000000u + (uint64_t)t[1];
}

// Make the arena's pointers valid at the address where this process sees it.
void mb_relocate(struct mb_plan *plan) {
    char *arena = (char *)plan;
    const uint32_t *where = (const uint32_t *)(arena + plan->relocations);
    uint64_t moved = sys_address(plan) - plan->base;
    for (uint32_t i = 0; i < plan->n_relocations; i++) {
        *(uint64_t *)(arena + where[i]) += moved;
    }
    plan->base = sys_address(plan);
}

static long wait_at_gate(struct mb_plan *plan, uint32_t wanted) {
    volatile uint32_t *gate = &plan->gate;
    plan->arrived = 1;
    sys_futex(&plan->arrived, FUTEX_WAKE, 1, 0);
    for (uint32_t open = *gate; open < wanted; open = *gate) {
        long r = sys_futex(gate, FUTEX_WAIT, open, 0);
        if (r < 0 && r != -EINTR && r != -EAGAIN) {
            return r;
        }
    }
    return 0;
}

// Argument k of an op: itself, an address in the arena, or the value of a slot.
static uint64_t argument(const struct mb_plan *plan, const struct mb_op *op, int k) {
    uint64_t value = op->argument[k];
    if (op->pointers & (1 << k)) {
        return sys_address(plan) + value;
    }
    if (op->slots & (1 << k)) {
        const int32_t *slots = (const int32_t *)((const char *)plan + plan->slots);
        return (uint64_t)(int64_t)slots[value];
    }
    return value;
}

// The errno in a struct nlmsgerr is the result, as that of a call.
static long netlink(uint64_t socket, uint64_t message) {
    int32_t reply[256];
    long r = sys6(SYS_SENDMSG, socket, message, 0, 0, 0, 0);
    if (r >= 0) {
        r = sys6(SYS_RECVFROM, socket, sys_address(reply), sizeof reply, 0, 0, 0);
    }
    if (r < 0) {
        return r;
    }
    // Nothing else was asked for, so it is the header, of 16 bytes, and the error.
    return r >= 20 && (reply[1] & 0xffff) == NLMSG_ERROR ? reply[4] : -EPROTO;
}

static long run_op(struct mb_plan *plan, const struct mb_op *op) {
    uint64_t a = argument(plan, op, 0);
    uint64_t b = argument(plan, op, 1);
    switch (op->nr) {
    case MB_GATE:
        return wait_at_gate(plan, (uint32_t)a);
    case MB_STORE:
        *(int32_t *)(uintptr_t)b = (int32_t)a;
        return 0;
    case MB_FORK:
        return mb_fork(plan, a);
    case MB_INIT:
        return mb_init(plan);
    case MB_NETLINK:
        return netlink(a, b);
    case MB_CALL:
        return mb_call(a, b);
    case MB_MONITOR:
        return mb_monitor(plan, a, (struct mb_monitor *)(uintptr_t)b);
    default:
        return sys6(op->nr, a, b, argument(plan, op, 2), argument(plan, op, 3),
                    argument(plan, op, 4), argument(plan, op, 5));
    }
}

static int is_tolerated(const struct mb_op *op, long error) {
    for (int k = 0; k < 3; k++) {
        if (op->tolerated[k] == error) {
            return 1;
        }
    }
    return 0;
}

// Run ops first..end-1; 0, or -errno of the op at plan->step.
long mb_run(struct mb_plan *plan, uint32_t first, uint32_t end) {
    char *arena = (char *)plan;
    const struct mb_op *ops = (const struct mb_op *)(arena + plan->ops);
    int64_t *results = (int64_t *)(arena + plan->results);
    uint64_t *times = plan->times ? (uint64_t *)(arena + plan->times) : 0;
    int32_t *slots = (int32_t *)(arena + plan->slots);

    for (uint32_t i = first; i < end; i++) {
        const struct mb_op *op = &ops[i];
        plan->step = i;
        long r = run_op(plan, op);
        for (int tries = 0; r == -EAGAIN && (op->flags & MB_RETRY) && tries < MOST_TRIES; tries++) {
            r = run_op(plan, op);
        }
        results[i] = r;
        if (times) {
            times[i] = now();
        }
        if (r > 0 && (op->flags & MB_EXPECT_ZERO)) {
            r = -ESRCH;
        }
        if (r < 0 && r >= -LAST_ERRNO) {
            if (!is_tolerated(op, -r)) {
                plan->error = (int32_t)-r;
                return r;
            }
        } else if (op->result >= 0) {
            slots[op->result] = (int32_t)r;
        }
    }
    return 0;
}

static void reset_signals(void) {
    // struct kernel_sigaction: all zero is SIG_DFL, no flags, an empty mask.
    static const uint64_t by_default[4] = {0, 0, 0, 0};
    for (uint64_t signal = 1; signal <= LAST_SIGNAL; signal++) {
        // KILL and STOP give EINVAL, which is as good.
        sys6(SYS_RT_SIGACTION, signal, sys_address(by_default), 0, 8, 0, 0);
    }
}

// The child's entry: its own stack, the parent's memory, all signals blocked.
void mb_child(void *arena) {
    struct mb_plan *plan = arena;
    if (plan->reset_signals) {
        reset_signals();
    }
    if (plan->times) {
        plan->began = now();
    }
    long r = mb_run(plan, plan->n_before, plan->n_ops);
    sys_exit(r < 0 ? 125 : 0);
}
