// SPDX-License-Identifier: Apache-2.0
// The contract between Python and the tracer (ptrace(2)). C waits and lets go; what a stop means,
// and when who goes on, Python decides (minibox/tracing/).
#ifndef MINIBOX_TRACE_H
#define MINIBOX_TRACE_H

#include <stdint.h>

// cffi: begin

// What mb_trace_next tells of.
enum {
    MB_BORN = 1, // the first stop of a task, before it runs
    MB_ENTER = 2, // a wanted call begins: arch, number, argument
    MB_LEAVE = 3, // it has returned: result
    MB_CHILD = 4, // a call of the clone family has made a child: result is its tid
    MB_EXEC = 5, // execve has succeeded: result is the tid that called it, tid the process's now
    MB_EXITING = 6, // it is about to end: result is its wait status
    MB_ENDED = 7, // it has ended, and is reaped: result is its wait status
    MB_SIGNAL = 8, // to the tracer itself: result is the signal, number its si_code
};

// One stop. After MB_BORN … MB_EXITING the task stands still until mb_trace_go.
struct mb_stop {
    int32_t tid; // as the tracer's pid namespace numbers it
    int32_t kind; // MB_*
    uint32_t arch; // AUDIT_ARCH_* of the call
    uint32_t number; // of the call, in that architecture
    uint64_t argument[6]; //
    int64_t result; // a value or -errno, or what is said above
};

struct mb_tracer;

// wanted: (arch << 32 | number) of each call that is told; signals: those of the tracer's own that
// are told, bit signal-1; they and SIGCHLD must be blocked. To be called before the process to be
// traced is made: what children there are then, nobody waits for. NULL when there is no memory
// for them.
struct mb_tracer *mb_tracer_open(const uint64_t *wanted, uint32_t n, uint64_t signals);
void mb_tracer_close(struct mb_tracer *tracer);

// Trace a process and all that come from it; the first stop is MB_BORN. They are killed if this
// thread ends before them. 0 or -errno. All calls must be made by the same thread.
int mb_trace_seize(int pid);

// Wait for what comes next. 1: there it is; 0: no task is left; or -errno.
int mb_trace_next(struct mb_tracer *tracer, struct mb_stop *stop);

// Let a task that stands still go on. 0 or -errno; ESRCH when it was killed meanwhile.
int mb_trace_go(struct mb_tracer *tracer, int tid);

// Copy from the memory of a task (process_vm_readv(2)). The number of bytes or -errno.
long mb_trace_read(int tid, uint64_t address, void *buffer, uint64_t size);

// cffi: end

#endif
