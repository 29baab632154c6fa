// SPDX-License-Identifier: Apache-2.0
// Two tasks that take turns by a word: the parent makes it odd, the child even.
#ifndef MINIBOX_LAB_SHARED_H
#define MINIBOX_LAB_SHARED_H

#include <stdint.h>

// cffi: begin

#define LAB_ROUNDS 64

struct lab_shared {
    int32_t word; // whose turn it is
    int32_t looks; // how often the child has looked at it
    int32_t futex; // 1: wait in the kernel until it changes; 0: look, sleep 1 ms, look again
    int32_t rounds; // how often the child answers, at most LAB_ROUNDS
    uint64_t stack; // an address on the child's stack
    int64_t asked[LAB_ROUNDS]; // CLOCK_MONOTONIC ns: when the parent is about to store
    int64_t seen[LAB_ROUNDS]; // the same: when the child has seen it
};

// The child: wait for 1, set 2, wait for 3, set 4, …
long lab_answer(void *shared);

// The parent: set 1, wait for 2, … with pauses of 1 to 2 ms before.
long lab_ask(void *shared);

// cffi: end

#endif
