// SPDX-License-Identifier: Apache-2.0
#include "nested.h"
#include "../sys.h"

#define FUTEX_WAIT 0

static void begin(void *argument) {
    const struct lab_clone *how = argument;
    if (how->function) {
        ((long (*)(void *))(uintptr_t)how->function)((void *)(uintptr_t)how->argument);
    }
    sys_exit(0);
}

long lab_clone(void *how) {
    const struct lab_clone *clone = how;
    return sys_clone3_onto(how, clone->size, begin, how);
}

long lab_wait(void *word) {
    volatile uint32_t *value = word;
    while (*value == 0) {
        sys_futex(value, FUTEX_WAIT, 0, 0);
    }
    return *value;
}

long lab_copy(void *pair) {
    const uint64_t *addresses = pair;
    int32_t value = *(volatile int32_t *)(uintptr_t)addresses[0];
    *(volatile int32_t *)(uintptr_t)addresses[1] = value;
    return value;
}

long lab_thread_local(void *to) {
    uint64_t value;
#if defined(__x86_64__)
    __asm__ volatile("mov %%fs:0, %0" : "=r"(value));
#else
    uint64_t *thread_pointer;
    __asm__ volatile("mrs %0, tpidr_el0" : "=r"(thread_pointer));
    value = *thread_pointer;
#endif
    *(volatile uint64_t *)to = value;
    return 0;
}
