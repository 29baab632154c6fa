// SPDX-License-Identifier: Apache-2.0
// The contract between Python and C: a plan is one block of memory, the arena, that begins with
// struct mb_plan. Python fills it (minibox/plan.py packs exactly these structs), C runs it.
// Every offset counts from the arena's first byte, so that the block may lie anywhere.
// The part between the two marks is also what cffi reads (csrc/build_core.py).
#ifndef MINIBOX_H
#define MINIBOX_H

#include <stdint.h>

// cffi: begin

// One system call, or one of the five MB_* steps below. 64 bytes.
struct mb_op {
    int32_t nr; // the call's number on this architecture, or MB_*
    uint8_t pointers; // bit k: argument k is an offset into the arena
    uint8_t slots; // bit k: argument k is the value of a slot
    int16_t result; // the slot that keeps the result, or -1
    uint16_t tolerated[3]; // errnos that are not a failure here; 0 ends the list
    uint16_t flags; // MB_EXPECT_ZERO, MB_RETRY
    uint64_t argument[6];
};

// The arena's head. 120 bytes. The words marked "live" are written while the plan runs, by the
// child, the parent or the kernel; the child of a plan with an init may be hostile, so Python
// checks what it reads from them.
struct mb_plan {
    uint32_t magic; // MB_MAGIC
    uint32_t size; // bytes of the arena, the child's stack at its end included
    uint32_t ops; // offset of struct mb_op[n_ops]
    uint32_t n_ops; //
    uint32_t n_before; // the first n_before ops run in the parent, before clone
    uint32_t results; // offset of int64_t[n_ops]: what each op returned
    uint32_t times; // offset of uint64_t[n_ops]: CLOCK_MONOTONIC ns at its end; 0: no trace
    uint32_t slots; // offset of int32_t[n_slots]
    uint32_t n_slots; //
    uint32_t relocations; // offset of uint32_t[n_relocations]: where the arena holds pointers
    uint32_t n_relocations; //
    uint32_t
        reset_signals; // 1: the child sets every signal to its default (not with shared handlers)
    uint64_t base; // live: the address for which the pointers are valid now
    uint64_t began; // live: CLOCK_MONOTONIC ns when the first op began
    uint64_t robust_next; // live: the robust list's only entry (staged plans)
    uint32_t alive; // live, futex: not 0, and without FUTEX_OWNER_DIED, until exec or death
    uint32_t gate; // live, futex: how many gates are open
    uint32_t step; // live: the op being run
    int32_t error; // live: errno of the op that failed, or 0
    int32_t second_pid; // live: pid of the child made by MB_FORK or MB_MONITOR, or 0
    int32_t status; // live: wait status that MB_INIT recorded, or -1
    char arena_fd[12]; // the arena's fd in decimal, an argument of the stage
    uint32_t arrived; // live, futex: 1 when a child waits at the gate
    int32_t monitor_pid; // live: pid of the process that MB_MONITOR left behind, or 0
    uint32_t unused;
};

// The steps that are no system call.
enum {
    MB_GATE = -1, // (n): wait until the parent has opened n gates
    MB_STORE = -2, // (slot value, address): put a 32-bit word into the arena
    MB_FORK = -3, // (clone flags): go on in a new child and let this process end; staged only
    MB_INIT = -4, // go on in a new child and let this process be its init; staged only
    MB_MONITOR = -5, // (clone flags, struct mb_monitor): the same, as its monitor; staged only
    MB_NETLINK = -6, // (netlink socket, struct msghdr): send a message and take its acknowledgement
    MB_CALL = -7, // (function, argument): call a C function of the program's own; not staged
};

// What MB_MONITOR is told. The fds are its ends, -1 where there is none; the working directory is
// the container's own, where it keeps `log`. 128 bytes.
struct mb_monitor {
    int32_t alive; // a file whose lock says that the monitor lives
    int32_t
        starter; // a socket: 'c' commits the start and is answered, its end before that undoes it
    int32_t listener; // a socket that clients attach to
    int32_t fds; // a socket on which the child sends its terminal and its upper layer
    int32_t input; // the pipe to stdin
    int32_t output; // the pipe from stdout
    int32_t error; // the pipe from stderr
    int32_t record; // the file that gets the exit status, of MB_RECORD bytes already
    uint32_t log_size; // bytes after which the log is rotated
    uint32_t log_files; // how many rotated files are kept, 1 to 9
    uint32_t interval; // ms from one `tick` to the next, 0: none
    uint32_t delay; // ms to wait before `ended` when the container has lived for less than 10 s
    uint64_t tick; // argv of a command to run now and then, or 0
    uint64_t ended; // argv of the command that the monitor becomes at the end, or 0
    uint64_t environment; // envp of both
    uint64_t journal; // the event at the end: its text before the exit code, or 0
    uint64_t journal_path; // where it is appended
    uint64_t leases; // paths that are removed at the end, as an argv, or 0
    uint64_t oom; // the file of its cgroup that counts oom_kill, or 0
    uint64_t thaw; // the file of its cgroup that holds it frozen, or 0
    uint64_t thawed; // what is written there when it is killed
    uint64_t lifetime; // ms after which the container is killed, or 0
};

// MB_EXPECT_ZERO: a positive result is a failure as well (ppoll: the parent is gone).
// MB_RETRY: EAGAIN means "again", as openat2 does when something on the host is renamed meanwhile.
#define MB_EXPECT_ZERO 1
#define MB_RETRY 2
#define MB_MAGIC 0x31784f42
#define MB_RECORD 128

// What launch asks of clone3(2) beside the plan.
struct mb_clone {
    uint64_t flags; // CLONE_*; exactly these reach the kernel
    uint64_t tls; // with CLONE_SETTLS
    uint64_t stack; // the lowest byte of a stack of the caller's own, or 0: the arena's end
    uint64_t stack_size; //
    uint64_t parent_tid; // the address of the word for CLONE_PARENT_SETTID, or 0: `tid`
    uint64_t child_tid; // the same for CLONE_CHILD_SETTID and CLEARTID, or 0: the plan's `alive`
    const int *set_tid; // pids, innermost namespace first
    uint64_t set_tid_size; // how many
    int32_t exit_signal; //
    int32_t cgroup; // fd, with CLONE_INTO_CGROUP
    int32_t call; // 0: clone3, or clone where it does not exist; 2 or 3: that call only
    int32_t pid; // out
    int32_t pidfd; // out; -1 without CLONE_PIDFD
    int32_t tid; // out, with CLONE_PARENT_SETTID and no word of the caller's own
};

// Map a zeroed arena of so many bytes; with fd != NULL it is a sealed memfd that a stage can map.
// NULL with *error set when there is no memory.
struct mb_plan *mb_arena(uint32_t size, int *fd, int *error);
void mb_arena_free(struct mb_plan *plan, uint32_t size);

// Run the parent's ops, clone, and let the child run the rest. 0, or -errno: with plan->error
// set an op failed (plan->step says which), else the clone did.
int mb_launch(struct mb_plan *plan, struct mb_clone *how);

// Open the gates up to the n-th; 0 or -errno.
int mb_go(struct mb_plan *plan, uint32_t n);

// Wait until a child waits at the gate. 1 when one does, 0 after the timeout.
int mb_arrived(struct mb_plan *plan, int timeout_ms);

// Wait until the child has left the arena's memory by exec or death. 1 when it has, 0 after the
// timeout. When it has, the parent's dumpable attribute is as it was before the launch.
int mb_left(struct mb_plan *plan, int timeout_ms);

// The same for a child that is known to be dead and has no way to tell.
void mb_forget(struct mb_plan *plan);

// The calling thread's signal mask; set it, and have the one before.
uint64_t mb_signals_blocked(void);
uint64_t mb_signal_mask(uint64_t mask);

// Any system call: a value or -errno.
long mb_syscall(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f);

// cffi: end

void mb_relocate(struct mb_plan *plan);
long mb_run(struct mb_plan *plan, uint32_t first, uint32_t end);
void mb_child(void *plan);
long mb_call(uint64_t function, uint64_t argument);

// Only the static init has these; in Python's memory a plan with one of the three is refused.
long mb_fork(struct mb_plan *plan, uint64_t flags);
long mb_init(struct mb_plan *plan);
long mb_monitor(struct mb_plan *plan, uint64_t flags, struct mb_monitor *monitor);

// Parts of the static init that its two roles share.
void mb_arm_alive(struct mb_plan *plan);
void mb_disarm_alive(void);
long mb_fork_with(struct mb_plan *plan, uint64_t flags);

_Static_assert(sizeof(struct mb_op) == 64, "minibox/plan.py packs 64 bytes");
_Static_assert(sizeof(struct mb_plan) == 120, "minibox/plan.py packs 120 bytes");
_Static_assert(sizeof(struct mb_monitor) == 128, "minibox/compile/monitor.py packs 128 bytes");

#endif
