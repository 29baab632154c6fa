// SPDX-License-Identifier: Apache-2.0
#include "turns.h"

#include "../sys.h"

#define FUTEX_WAIT 0
#define FUTEX_WAKE 1
#define CLOCK_MONOTONIC 1
#define CLOCK_THREAD_CPUTIME_ID 3
#define LINE 64
#define ETIMEDOUT 110
#define PATIENCE 10000000000ull

static uint64_t now(int clock) {
    int64_t time[2] = {0, 0};
    sys6(SYS_CLOCK_GETTIME, (uint64_t)clock, sys_address(time), 0, 0, 0, 0);
    return (uint64_t)time[0] * 1000000000u + (uint64_t)time[1];
}

static void *at(uint64_t address) { return (void *)(uintptr_t)address; }

static long await_turn(const struct lab_side *side) {
    if (side->from >= 0) {
        char byte;
        long r = sys6(SYS_READ, (uint64_t)side->from, sys_address(&byte), 1, 0, 0, 0);
        return r < 0 ? r : 0;
    }
    volatile uint32_t *turn = at(side->turn);
    // The call is made even where it is this side's turn already, as that of read is.
    do {
        sys_futex(turn, FUTEX_WAIT, side->theirs, 0);
    } while (*turn != side->mine);
    return 0;
}

static long pass_turn(const struct lab_side *side) {
    if (side->to >= 0) {
        char byte = 0;
        long r = sys6(SYS_WRITE, (uint64_t)side->to, sys_address(&byte), 1, 0, 0, 0);
        return r < 0 ? r : 0;
    }
    volatile uint32_t *turn = at(side->turn);
    __atomic_store_n(turn, side->next, __ATOMIC_SEQ_CST);
    long r = sys_futex(turn, FUTEX_WAKE, 1, 0);
    return r < 0 ? r : 0;
}

// Each line holds the address of the next: the processor cannot fetch ahead of itself.
static uint64_t walk(const struct lab_side *side) {
    const volatile uint64_t *line = at(side->set);
    for (uint64_t i = 0; i < side->lines; i++) {
        line = at(*line);
    }
    return sys_address(line);
}

long lab_take_turns(void *argument) {
    struct lab_side *side = argument;
    uint32_t *times = at(side->times);
    volatile uint32_t *count = at(side->count);
    uint64_t last = now(CLOCK_MONOTONIC);
    for (uint32_t i = 0; i < side->rounds; i++) {
        long r = await_turn(side);
        if (r < 0) {
            return r;
        }
        // Here, and not after it has passed the turn: the other may be at work by then, or not.
        uint64_t time = now(CLOCK_MONOTONIC);
        times[i] = time - last < INT32_MAX ? (uint32_t)(time - last) : INT32_MAX;
        last = time;
        walk(side);
        ++*count;
        if ((r = pass_turn(side)) < 0) {
            return r;
        }
    }
    return 0;
}

// Sattolo's algorithm: a permutation that is one cycle.
long lab_weave(void *argument) {
    struct lab_side *side = argument;
    uint64_t *words = at(side->set);
    const uint64_t step = LINE / sizeof *words;
    uint64_t random = 88172645463325252u;
    for (uint64_t i = 0; i < side->lines; i++) {
        words[i * step] = i;
    }
    for (uint64_t i = side->lines; i-- > 1;) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        uint64_t other = random % i;
        uint64_t held = words[i * step];
        words[i * step] = words[other * step];
        words[other * step] = held;
    }
    for (uint64_t i = 0; i < side->lines; i++) {
        words[i * step] = side->set + words[i * step] * LINE;
    }
    return 0;
}

long lab_spin(void *argument) {
    const struct lab_spinner *spinner = argument;
    volatile uint32_t *begun = at(spinner->begun);
    volatile uint32_t *count = at(spinner->count);
    __atomic_add_fetch(begun, 1, __ATOMIC_SEQ_CST);
    uint64_t start = now(CLOCK_MONOTONIC);
    while (*begun < spinner->spinners) {
        if (now(CLOCK_MONOTONIC) - start > PATIENCE) {
            return -ETIMEDOUT;
        }
    }
    uint64_t end = now(CLOCK_THREAD_CPUTIME_ID) + spinner->ns;
    while (now(CLOCK_THREAD_CPUTIME_ID) < end) {
        __atomic_add_fetch(count, 1, __ATOMIC_SEQ_CST);
    }
    return 0;
}
