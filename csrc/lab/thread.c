// SPDX-License-Identifier: Apache-2.0
#include "thread.h"
#include "../sys.h"

// initial-exec: reached by the thread pointer alone, with no call of the dynamic loader's.
static __thread int32_t variable __attribute__((tls_model("initial-exec"))) = 7;

long lab_look(void *word) { return *(volatile int32_t *)word; }

long lab_stack(void *unused) {
    (void)unused;
    volatile char here = 0;
    return (long)sys_address(&here);
}

long lab_thread_pointer(void *unused) {
    (void)unused;
    long pointer;
#if defined(__x86_64__)
    __asm__ volatile("mov %%fs:0, %0" : "=r"(pointer));
#else
    __asm__ volatile("mrs %0, tpidr_el0" : "=r"(pointer));
#endif
    return pointer;
}

long lab_variable(void *unused) {
    (void)unused;
    return (long)sys_address(&variable);
}

long lab_variable_add(void *unused) {
    (void)unused;
    return ++variable;
}
