// SPDX-License-Identifier: Apache-2.0
// Raw system calls: one block per architecture, no libc, no errno.
// A call returns what the kernel returned: a value, or -errno in [-4095, -1].
#ifndef MINIBOX_SYS_H
#define MINIBOX_SYS_H

#include <stdint.h>

// The numbers that C itself needs; every other number travels in the plan (minibox/syscalls.py).
#if defined(__x86_64__)

enum {
    SYS_READ = 0,
    SYS_WRITE = 1,
    SYS_CLOSE = 3,
    SYS_LSEEK = 8,
    SYS_MMAP = 9,
    SYS_RT_SIGACTION = 13,
    SYS_RT_SIGPROCMASK = 14,
    SYS_IOCTL = 16,
    SYS_PREAD64 = 17,
    SYS_PWRITE64 = 18,
    SYS_NANOSLEEP = 35,
    SYS_GETPID = 39,
    SYS_SENDTO = 44,
    SYS_RECVFROM = 45,
    SYS_SENDMSG = 46,
    SYS_RECVMSG = 47,
    SYS_CLONE = 56,
    SYS_EXECVE = 59,
    SYS_EXIT = 60,
    SYS_WAIT4 = 61,
    SYS_KILL = 62,
    SYS_FCNTL = 72,
    SYS_GETRUSAGE = 98,
    SYS_RT_SIGTIMEDWAIT = 128,
    SYS_PRCTL = 157,
    SYS_ARCH_PRCTL = 158,
    SYS_GETTID = 186,
    SYS_FUTEX = 202,
    SYS_CLOCK_GETTIME = 228,
    SYS_EXIT_GROUP = 231,
    SYS_OPENAT = 257,
    SYS_UNLINKAT = 263,
    SYS_RENAMEAT = 264,
    SYS_READLINKAT = 267,
    SYS_FACCESSAT = 269,
    SYS_PPOLL = 271,
    SYS_SET_ROBUST_LIST = 273,
    SYS_ACCEPT4 = 288,
    SYS_SIGNALFD4 = 289,
    SYS_DUP3 = 292,
    SYS_KCMP = 312,
    SYS_CLONE3 = 435,
    SYS_CLOSE_RANGE = 436,
};

static inline long sys6(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                        uint64_t f) {
    long result;
    register uint64_t r10 __asm__("r10") = d;
    register uint64_t r8 __asm__("r8") = e;
    register uint64_t r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

// A clone whose child has a stack of its own returns from the call onto an empty stack, so the
// compiler must not be let near the child's side: it calls entry(argument) and never comes back.
// In the parent these return the tid or -errno, as any other call.
static inline long sys_clone_onto(uint64_t flags, void *stack_top, void *parent_tid,
                                  void *child_tid, uint64_t tls, void (*entry)(void *),
                                  void *argument) {
    long result;
    register void *r10 __asm__("r10") = child_tid;
    register uint64_t r8 __asm__("r8") = tls;
    register void *r12 __asm__("r12") = (void *)entry;
    register void *r13 __asm__("r13") = argument;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t" // the outermost frame
                     "mov %%r13, %%rdi\n\t"
                     "call *%%r12\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(result)
                     : "a"((long)SYS_CLONE), "D"(flags), "S"(stack_top), "d"(parent_tid), "r"(r10),
                       "r"(r8), "r"(r12), "r"(r13)
                     : "rcx", "r11", "memory");
    return result;
}

static inline long sys_clone3_onto(void *clone_args, uint64_t size, void (*entry)(void *),
                                   void *argument) {
    long result;
    register void *r12 __asm__("r12") = (void *)entry;
    register void *r13 __asm__("r13") = argument;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "mov %%r13, %%rdi\n\t"
                     "call *%%r12\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(result)
                     : "a"((long)SYS_CLONE3), "D"(clone_args), "S"(size), "r"(r12), "r"(r13)
                     : "rcx", "r11", "memory");
    return result;
}

// The entry of a static binary: mb_start(the initial stack: argc, argv…, NULL, environment…).
#define SYS_START                                                                                  \
    __asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\t"                       \
            "and $-16, %rsp\n\tcall mb_start\n");

#elif defined(__aarch64__)

enum {
    SYS_DUP3 = 24,
    SYS_FCNTL = 25,
    SYS_IOCTL = 29,
    SYS_UNLINKAT = 35,
    SYS_RENAMEAT = 38,
    SYS_FACCESSAT = 48,
    SYS_OPENAT = 56,
    SYS_CLOSE = 57,
    SYS_LSEEK = 62,
    SYS_READ = 63,
    SYS_WRITE = 64,
    SYS_PREAD64 = 67,
    SYS_PWRITE64 = 68,
    SYS_PPOLL = 73,
    SYS_SIGNALFD4 = 74,
    SYS_READLINKAT = 78,
    SYS_EXIT = 93,
    SYS_EXIT_GROUP = 94,
    SYS_FUTEX = 98,
    SYS_SET_ROBUST_LIST = 99,
    SYS_NANOSLEEP = 101,
    SYS_CLOCK_GETTIME = 113,
    SYS_KILL = 129,
    SYS_RT_SIGACTION = 134,
    SYS_RT_SIGPROCMASK = 135,
    SYS_RT_SIGTIMEDWAIT = 137,
    SYS_GETRUSAGE = 165,
    SYS_PRCTL = 167,
    SYS_GETPID = 172,
    SYS_GETTID = 178,
    SYS_SENDTO = 206,
    SYS_RECVFROM = 207,
    SYS_SENDMSG = 211,
    SYS_RECVMSG = 212,
    SYS_CLONE = 220,
    SYS_EXECVE = 221,
    SYS_MMAP = 222,
    SYS_ACCEPT4 = 242,
    SYS_WAIT4 = 260,
    SYS_KCMP = 272,
    SYS_CLONE3 = 435,
    SYS_CLOSE_RANGE = 436,
};

static inline long sys6(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                        uint64_t f) {
    register long x8 __asm__("x8") = nr;
    register uint64_t x0 __asm__("x0") = a;
    register uint64_t x1 __asm__("x1") = b;
    register uint64_t x2 __asm__("x2") = c;
    register uint64_t x3 __asm__("x3") = d;
    register uint64_t x4 __asm__("x4") = e;
    register uint64_t x5 __asm__("x5") = f;
    __asm__ volatile("svc #0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return (long)x0;
}

static inline long sys_clone_onto(uint64_t flags, void *stack_top, void *parent_tid,
                                  void *child_tid, uint64_t tls, void (*entry)(void *),
                                  void *argument) {
    register long x8 __asm__("x8") = SYS_CLONE;
    register uint64_t x0 __asm__("x0") = flags;
    register void *x1 __asm__("x1") = stack_top;
    register void *x2 __asm__("x2") = parent_tid;
    register uint64_t x3 __asm__("x3") = tls; // CLONE_BACKWARDS: tls before child_tid
    register void *x4 __asm__("x4") = child_tid;
    register void *x9 __asm__("x9") = (void *)entry;
    register void *x10 __asm__("x10") = argument;
    __asm__ volatile("svc #0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, xzr\n\t"
                     "mov x0, x10\n\t"
                     "blr x9\n\t"
                     "brk #1\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x9), "r"(x10)
                     : "x30", "memory");
    return (long)x0;
}

static inline long sys_clone3_onto(void *clone_args, uint64_t size, void (*entry)(void *),
                                   void *argument) {
    register long x8 __asm__("x8") = SYS_CLONE3;
    register void *x0 __asm__("x0") = clone_args;
    register uint64_t x1 __asm__("x1") = size;
    register void *x9 __asm__("x9") = (void *)entry;
    register void *x10 __asm__("x10") = argument;
    __asm__ volatile("svc #0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, xzr\n\t"
                     "mov x0, x10\n\t"
                     "blr x9\n\t"
                     "brk #1\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x9), "r"(x10)
                     : "x30", "memory");
    return (long)x0;
}

#define SYS_START __asm__(".globl _start\n_start:\n\tmov x29, xzr\n\tmov x0, sp\n\tbl mb_start\n");

#else
#error "minibox knows x86-64 and arm64: add a block here and a column in minibox/syscalls.py"
#endif

static inline uint64_t sys_address(const volatile void *pointer) {
    return (uint64_t)(uintptr_t)pointer;
}

// The last page of addresses is no memory: there the errors are.
static inline int sys_is_error(long result) { return (unsigned long)result > -4096ul; }

static inline long sys_futex(volatile uint32_t *word, int operation, uint32_t value,
                             const void *timeout) {
    return sys6(SYS_FUTEX, sys_address(word), (uint64_t)operation, value, sys_address(timeout), 0,
                0);
}

static inline _Noreturn void sys_exit(int code) {
    // exit, not exit_group: a child made with CLONE_THREAD must end alone.
    sys6(SYS_EXIT, (uint64_t)code, 0, 0, 0, 0, 0);
    __builtin_trap(); // a filter of system calls has refused even that
}

#endif
