// SPDX-License-Identifier: Apache-2.0
// The tracer: ptrace(2) with PTRACE_SEIZE, one thread, one loop. It tells of the calls that are
// wanted and lets all others pass, so that Python sees few of the stops.
//
// It stops at every call. A filter with SECCOMP_RET_TRACE would stop at the wanted ones only, but
// it needs no_new_privs or root, is there for ever, and without a tracer turns each call to ENOSYS.
#define _GNU_SOURCE
#include "trace.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>

// PID_MAX_LIMIT of include/linux/threads.h: no tid is as large.
#define TIDS (4 * 1024 * 1024)
#define WANTED 256
#define ALL (__WALL | __WNOTHREAD)
#define OPTIONS                                                                                    \
    (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |      \
     PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL)

// What is known of a task.
enum {
    KNOWN = 1,
    IN_CALL = 2, // a wanted one, whose return is to be told
    HALTED = 4, // it is in a group-stop: let go of, it stays there until SIGCONT
};

struct mb_tracer {
    uint64_t wanted[WANTED];
    uint32_t n_wanted;
    uint32_t n_known;
    int has_begun; // a task was known
    int has_others; // children from before, for which nobody is to wait
    sigset_t signals;
    uint8_t state[TIDS]; // by tid; only the pages of those in use exist
};

static void forget(struct mb_tracer *tracer, int tid) {
    tracer->n_known -= tracer->state[tid] & KNOWN;
    tracer->state[tid] = 0;
}

static void know(struct mb_tracer *tracer, int tid, uint8_t state) {
    forget(tracer, tid);
    tracer->state[tid] = KNOWN | state;
    tracer->n_known++;
    tracer->has_begun = 1;
}

struct mb_tracer *mb_tracer_open(const uint64_t *wanted, uint32_t n, uint64_t signals) {
    if (n > WANTED) {
        return NULL;
    }
    struct mb_tracer *tracer = mmap(NULL, sizeof *tracer, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (tracer == MAP_FAILED) {
        return NULL;
    }
    siginfo_t info;
    tracer->has_others = waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | ALL) == 0;
    tracer->n_wanted = n;
    memcpy(tracer->wanted, wanted, n * sizeof *wanted);
    sigemptyset(&tracer->signals);
    sigaddset(&tracer->signals, SIGCHLD);
    for (int signal = 1; signal <= 64; signal++) {
        if (signals >> (signal - 1) & 1) {
            sigaddset(&tracer->signals, signal);
        }
    }
    return tracer;
}

void mb_tracer_close(struct mb_tracer *tracer) { munmap(tracer, sizeof *tracer); }

int mb_trace_seize(int pid) {
    if (ptrace(PTRACE_SEIZE, pid, 0, OPTIONS) < 0 || ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0) {
        return -errno;
    }
    return 0;
}

static int is_wanted(const struct mb_tracer *tracer, uint32_t arch, uint64_t number) {
    for (uint32_t k = 0; k < tracer->n_wanted; k++) {
        if (tracer->wanted[k] == ((uint64_t)arch << 32 | number)) {
            return 1;
        }
    }
    return 0;
}

static int tell(struct mb_stop *stop, int kind, int64_t result) {
    stop->kind = kind;
    stop->result = result;
    return 1;
}

// The functions below look at one stop: 1, it is to be told; 0, the task may go on; or -errno.

static int at_call(struct mb_tracer *tracer, struct mb_stop *stop) {
    struct __ptrace_syscall_info info;
    uint8_t *state = &tracer->state[stop->tid];
    if (ptrace(PTRACE_GET_SYSCALL_INFO, stop->tid, sizeof info, &info) < 0) {
        return errno == ESRCH ? 0 : -errno;
    }
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY && is_wanted(tracer, info.arch, info.entry.nr)) {
        *state |= IN_CALL;
        stop->arch = info.arch;
        stop->number = (uint32_t)info.entry.nr;
        memcpy(stop->argument, info.entry.args, sizeof stop->argument);
        return tell(stop, MB_ENTER, 0);
    }
    if (info.op == PTRACE_SYSCALL_INFO_EXIT && *state & IN_CALL) {
        *state &= ~IN_CALL;
        return tell(stop, MB_LEAVE, info.exit.rval);
    }
    return 0;
}

static int at_exec(struct mb_tracer *tracer, struct mb_stop *stop, int before) {
    // Of a process with threads only the one that called execve is left, and has the process's id.
    if (before != stop->tid && before > 0 && before < TIDS) {
        know(tracer, stop->tid, tracer->state[before] & IN_CALL);
        forget(tracer, before);
    }
    return tell(stop, MB_EXEC, before);
}

static int at_event(struct mb_tracer *tracer, struct mb_stop *stop, int event) {
    unsigned long message = 0;
    if (ptrace(PTRACE_GETEVENTMSG, stop->tid, 0, &message) < 0) {
        return errno == ESRCH ? 0 : -errno;
    }
    switch (event) {
    case PTRACE_EVENT_FORK:
    case PTRACE_EVENT_VFORK:
    case PTRACE_EVENT_CLONE:
        return tell(stop, MB_CHILD, (int64_t)message);
    case PTRACE_EVENT_EXEC:
        return at_exec(tracer, stop, (int)message);
    case PTRACE_EVENT_EXIT:
        return tell(stop, MB_EXITING, (int64_t)message);
    default:
        return 0;
    }
}

static int let_go(const struct mb_tracer *tracer, int tid, int signal) {
    enum __ptrace_request how = tracer->state[tid] & HALTED ? PTRACE_LISTEN : PTRACE_SYSCALL;
    return ptrace(how, tid, 0, (long)signal) < 0 ? -errno : 0;
}

static int at_stop(struct mb_tracer *tracer, struct mb_stop *stop, int status) {
    int signal = WSTOPSIG(status), event = status >> 16, told = 0;
    uint8_t *state = &tracer->state[stop->tid];
    *state &= ~HALTED;
    if (event == PTRACE_EVENT_STOP && signal != SIGTRAP) {
        *state |= HALTED;
    }
    if (!(*state & KNOWN)) {
        know(tracer, stop->tid, *state & HALTED);
        told = tell(stop, MB_BORN, 0);
    } else if (signal == (SIGTRAP | 0x80)) {
        told = at_call(tracer, stop);
    } else if (event && event != PTRACE_EVENT_STOP) {
        told = at_event(tracer, stop, event);
    }
    if (told == 0) {
        // What is neither a call nor an event is a signal, on its way to the task.
        let_go(tracer, stop->tid, event || signal == (SIGTRAP | 0x80) ? 0 : signal);
    }
    return told;
}

// Wait for a signal: SIGCHLD says that there is something to wait for. 1 for any other one.
static int at_signal(const struct mb_tracer *tracer, struct mb_stop *stop) {
    siginfo_t info;
    int signal = sigwaitinfo(&tracer->signals, &info);
    if (signal < 0) {
        return errno == EINTR ? 0 : -errno;
    }
    stop->number = (uint32_t)info.si_code;
    return signal == SIGCHLD ? 0 : tell(stop, MB_SIGNAL, signal);
}

int mb_trace_next(struct mb_tracer *tracer, struct mb_stop *stop) {
    int told = 0;
    while (told == 0) {
        int status = 0;
        memset(stop, 0, sizeof *stop);
        stop->tid = waitpid(-1, &status, ALL | WNOHANG);
        if (stop->tid < 0) {
            return errno == ECHILD ? 0 : -errno;
        }
        if (stop->tid == 0) {
            if (tracer->has_begun && tracer->n_known == 0 && tracer->has_others) {
                return 0;
            }
            told = at_signal(tracer, stop);
        } else if (WIFSTOPPED(status)) {
            told = at_stop(tracer, stop, status);
        } else {
            forget(tracer, stop->tid);
            told = tell(stop, MB_ENDED, status);
        }
    }
    return told;
}

int mb_trace_go(struct mb_tracer *tracer, int tid) { return let_go(tracer, tid, 0); }

long mb_trace_read(int tid, uint64_t address, void *buffer, uint64_t size) {
    struct iovec local = {buffer, size};
    struct iovec remote = {(void *)(uintptr_t)address, size};
    long r = process_vm_readv(tid, &local, 1, &remote, 1, 0);
    return r < 0 ? -errno : r;
}
