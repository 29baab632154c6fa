// SPDX-License-Identifier: Apache-2.0
// What children of experiments do to pages, and what that costs them.
#ifndef MINIBOX_LAB_PAGES_H
#define MINIBOX_LAB_PAGES_H

#include <stdint.h>

// cffi: begin

// `count` pages of `size` bytes from `first` on.
struct lab_pages {
    uint64_t first, count, size;
};

// Read the first byte of each page; how many minor faults (getrusage(2)) that took.
long lab_read_pages(void *pages);

// Write to the first byte of each page; how many minor faults that took.
long lab_write_pages(void *pages);

// cffi: end

#endif
