// SPDX-License-Identifier: Apache-2.0
// What children of experiments do that clone themselves, and what their children do.
#ifndef MINIBOX_LAB_NESTED_H
#define MINIBOX_LAB_NESTED_H

#include <stdint.h>

// cffi: begin

// The words of clone3's struct, as many of them as `size` bytes; and what the new child calls, if
// anything, before it ends with 0.
struct lab_clone {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
        set_tid_size, cgroup;
    uint64_t size, function, argument;
};

// clone3 with a struct lab_clone: the pid, or -errno. Without a stack of its own the child goes on
// upon a copy of the caller's, so it must not have CLONE_VM.
long lab_clone(void *how);

// Wait until the 32-bit word at `word` is not 0 (FUTEX_WAKE); its value.
long lab_wait(void *word);

// Copy 32 bits: `pair` is two addresses, from and to. What was copied.
long lab_copy(void *pair);

// The word of 64 bits at the thread pointer goes to the address `to`: the first thread-local one.
long lab_thread_local(void *to);

// cffi: end

#endif
