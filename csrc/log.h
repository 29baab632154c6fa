// SPDX-License-Identifier: Apache-2.0
// The log of a container: the file `log` in the working directory, and what it was rotated to.
#ifndef MINIBOX_LOG_H
#define MINIBOX_LOG_H

#include <stdint.h>

#define LOG_STDOUT 1
#define LOG_STDERR 2

struct log {
    int fd;
    uint64_t size; // of the file
    uint64_t size_limit; // after which it is rotated
    uint32_t files; // how many rotated ones are kept
};

// Open it for appending, behind what is there. 0 or -errno.
long log_open(struct log *log);

// Write a chunk of output from `*taken` on, which goes forward. 0 when all of it is in the file,
// or -errno: then the same chunk is to be offered again.
long log_write(struct log *log, int stream, uint64_t time, const char *data, uint32_t size,
               uint32_t *taken);

// Delete the oldest rotated file, to make room on a full disk. 0 when there was one.
long log_shed(struct log *log);

#endif
