// SPDX-License-Identifier: Apache-2.0
// What children of experiments do to a word.
#ifndef MINIBOX_LAB_BASICS_H
#define MINIBOX_LAB_BASICS_H

#include <stdint.h>

// cffi: begin

// Add 1 to the 32-bit word at `word`; its new value.
long lab_add(void *word);

// cffi: end

#endif
