// SPDX-License-Identifier: Apache-2.0
#include "pages.h"

#include "../sys.h"

#define RUSAGE_THREAD 1
#define MINOR_FAULTS 8 // the index of ru_minflt in struct rusage, in words

static long minor_faults(void) {
    // Two struct timeval and fourteen longs.
    int64_t usage[18] = {0};
    sys6(SYS_GETRUSAGE, RUSAGE_THREAD, sys_address(usage), 0, 0, 0, 0);
    return usage[MINOR_FAULTS];
}

static volatile char *page(const struct lab_pages *pages, uint64_t number) {
    return (volatile char *)(uintptr_t)(pages->first + number * pages->size);
}

long lab_read_pages(void *argument) {
    const struct lab_pages *pages = argument;
    long before = minor_faults();
    for (uint64_t i = 0; i < pages->count; i++) {
        (void)*page(pages, i);
    }
    return minor_faults() - before;
}

long lab_write_pages(void *argument) {
    const struct lab_pages *pages = argument;
    long before = minor_faults();
    for (uint64_t i = 0; i < pages->count; i++) {
        *page(pages, i) = 1;
    }
    return minor_faults() - before;
}
