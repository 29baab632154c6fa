// SPDX-License-Identifier: Apache-2.0
#include "shared.h"
#include "../sys.h"

#define FUTEX_WAIT 0
#define FUTEX_WAKE 1
#define CLOCK_MONOTONIC 1
#define MILLISECOND 1000000

static int64_t now(void) {
    int64_t t[2] = {0, 0};
    sys6(SYS_CLOCK_GETTIME, CLOCK_MONOTONIC, sys_address(t), 0, 0, 0, 0);
    return t[0] * 1000000000 + t[1];
}

static void pause_for(int64_t ns) {
    int64_t t[2] = {0, ns};
    sys6(SYS_NANOSLEEP, sys_address(t), 0, 0, 0, 0, 0);
}

static void await(struct lab_shared *shared, int32_t wanted, int32_t *looks) {
    volatile uint32_t *word = (volatile uint32_t *)&shared->word;
    for (;;) {
        __atomic_add_fetch(looks, 1, __ATOMIC_SEQ_CST);
        uint32_t value = *word;
        if ((int32_t)value == wanted) {
            return;
        }
        if (shared->futex) {
            sys_futex(word, FUTEX_WAIT, value, 0);
        } else {
            pause_for(MILLISECOND);
        }
    }
}

static void set(struct lab_shared *shared, int32_t value) {
    __atomic_store_n(&shared->word, value, __ATOMIC_SEQ_CST);
    if (shared->futex) {
        sys_futex((volatile uint32_t *)&shared->word, FUTEX_WAKE, 1, 0);
    }
}

long lab_answer(void *argument) {
    struct lab_shared *shared = argument;
    int32_t rounds = shared->rounds;
    shared->stack = sys_address(&rounds);
    for (int32_t round = 0; round < rounds; round++) {
        await(shared, 2 * round + 1, &shared->looks);
        shared->seen[round] = now();
        set(shared, 2 * round + 2);
    }
    return 0;
}

long lab_ask(void *argument) {
    struct lab_shared *shared = argument;
    int32_t looks = 0;
    for (int32_t round = 0; round < shared->rounds; round++) {
        // Long enough for the child to sleep, and not in step with it.
        pause_for(MILLISECOND + round * 37 % 100 * (MILLISECOND / 100));
        shared->asked[round] = now();
        set(shared, 2 * round + 1);
        await(shared, 2 * round + 2, &looks);
    }
    return 0;
}
