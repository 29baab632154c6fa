// SPDX-License-Identifier: Apache-2.0
// Two children that take turns on one CPU, and children that do not give it up.
#ifndef MINIBOX_LAB_TURNS_H
#define MINIBOX_LAB_TURNS_H

#include <stdint.h>

// cffi: begin

// One side of the game. A turn is a byte through pipes (from, to), or where these are -1 the word
// `turn`, in memory that both sides have: it is this side's turn when it is `mine`, it waits while
// it is `theirs`, and makes it `next` when it is done. In each turn the side walks its `set`, a
// chain of `lines` cache lines made by lab_weave (0: none), and adds 1 to `count`. The nanoseconds
// from turn to turn go to times[0..rounds-1]. All are addresses, but for the numbers.
struct lab_side {
    int32_t from, to;
    uint32_t mine, theirs, next, rounds;
    uint64_t turn, set, lines, count, times;
};

// Take `rounds` turns; 0, or -errno.
long lab_take_turns(void *side);

// Make of the side's `set` a chain through all of its cache lines in a random order.
long lab_weave(void *side);

// Spin until `spinners` are at it, and then for `ns` nanoseconds of this one's CPU time; `begun`
// and `count` are addresses of words. Whoever waits for another in vain gives up after 10 s.
struct lab_spinner {
    uint64_t begun, count, ns;
    uint32_t spinners;
};

// 0, or -ETIMEDOUT.
long lab_spin(void *spinner);

// cffi: end

#endif
