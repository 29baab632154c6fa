// SPDX-License-Identifier: Apache-2.0
// clone and clone3 as the kernel takes them, with nothing done for the caller.
#ifndef MINIBOX_LAB_BARE_H
#define MINIBOX_LAB_BARE_H

#include <stdint.h>

// cffi: begin

// A call of clone, and what came of it. arguments: in the order in which they go into the
// registers. result: the pid, or -errno. The child that it makes, wherever its stack is, writes
// down tid, its own, and tls, where the kernel has put it, and ends. status: how it ended, as wait4
// tells.
struct lab_bare {
    uint64_t arguments[6];
    int64_t result;
    uint64_t tls;
    int32_t tid, status;
};

// Make the call of a struct lab_bare; its result. Without CLONE_VM.
long lab_bare(void *call);

// For the C library's clone: write tid and tls of this process into a struct lab_bare; 7.
long lab_bare_child(void *call);

// clone3 with these flags, and no stack for the child, which ends at once. With CLONE_VM also
// CLONE_VFORK is needed: both use one stack, one after the other. The pid, or -errno.
long lab_stackless(void *flags);

// cffi: end

#endif
