// SPDX-License-Identifier: Apache-2.0
// What a thread sees of itself.
#ifndef MINIBOX_LAB_THREAD_H
#define MINIBOX_LAB_THREAD_H

#include <stdint.h>

// cffi: begin

// The 32-bit word at `word`, as it is at once.
long lab_look(void *word);

// An address on the stack of who calls.
long lab_stack(void *unused);

// The thread pointer: FS base on x86-64 (by the word there that points to itself, as the psABI has
// it), TPIDR_EL0 on arm64.
long lab_thread_pointer(void *unused);

// Where this thread has its variable, and the variable's new value after adding 1. It is a
// __thread of C with the value 7, found at a fixed distance from the thread pointer.
long lab_variable(void *unused);
long lab_variable_add(void *unused);

// cffi: end

#endif
