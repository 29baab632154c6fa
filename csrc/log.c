// SPDX-License-Identifier: Apache-2.0
// The log's form is that of Kubernetes (CRI): an entry a line,
//     2026-11-22T00:09:18.123456789Z stdout F the text
// F: the entry ends a line; P: the line goes on in the next entry of that stream. Entries go out in
// one write each batch, so that whoever kills the writer tears at most the last one, and a writer
// that comes after it begins on a new line.
#include "log.h"
#include "minibox.h"
#include "sys.h"
#include "text.h"

#define AT_FDCWD (-100)
#define O_RDWR 2
#define O_CREAT 0100
#define O_APPEND 02000
#define O_CLOEXEC 02000000
#define SEEK_END 2
#define EIO 5
#define ENOENT 2
#define HEAD 40 // at most so many bytes come before the text
#define BATCH 16384

static char batch[BATCH];
static uint32_t batch_size; // bytes of entries that wait to be written
static uint32_t batch_done; // how many of them are

static char name[8] = "log";

// "log", "log.1", …
static const char *file_name(uint32_t number) {
    name[3] = number ? '.' : 0;
    name[4] = (char)('0' + number);
    name[5] = 0;
    return name;
}

static long open_at(const char *path) {
    return sys6(SYS_OPENAT, (uint64_t)AT_FDCWD, sys_address(path),
                O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600, 0, 0);
}

static long rename_file(const char *from, const char *to) {
    return sys6(SYS_RENAMEAT, (uint64_t)AT_FDCWD, sys_address(from), (uint64_t)AT_FDCWD,
                sys_address(to), 0, 0);
}

long log_open(struct log *log) {
    long fd = open_at(file_name(0));
    if (fd < 0) {
        return fd;
    }
    long end = sys6(SYS_LSEEK, (uint64_t)fd, 0, SEEK_END, 0, 0, 0);
    log->fd = (int)fd;
    log->size = end > 0 ? (uint64_t)end : 0;
    char last = '\n';
    if (end > 0) {
        sys6(SYS_PREAD64, (uint64_t)fd, sys_address(&last), 1, (uint64_t)(end - 1), 0, 0);
    }
    if (last != '\n') {
        return sys6(SYS_WRITE, (uint64_t)fd, sys_address("\n"), 1, 0, 0, 0) < 0 ? -EIO : 0;
    }
    return 0;
}

long log_shed(struct log *log) {
    for (uint32_t k = log->files; k >= 1; k--) {
        long r = sys6(SYS_UNLINKAT, (uint64_t)AT_FDCWD, sys_address(file_name(k)), 0, 0, 0, 0);
        if (r != -ENOENT) {
            return r;
        }
    }
    return -ENOENT;
}

// log.1 becomes log.2 and so on, the last one goes. The new file is there before the old one
// leaves: where it cannot be made, rotation waits.
static void rotate(struct log *log) {
    static const char fresh[] = ".log";
    long fd = open_at(fresh);
    if (fd < 0) {
        return;
    }
    char from[sizeof name];
    for (uint32_t k = log->files; k >= 1; k--) {
        text_put(from, file_name(k - 1))[0] = 0;
        rename_file(from, file_name(k));
    }
    rename_file(fresh, file_name(0));
    sys6(SYS_CLOSE, (uint64_t)log->fd, 0, 0, 0, 0, 0);
    log->fd = (int)fd;
    log->size = 0;
}

static long flush(struct log *log) {
    while (batch_done < batch_size) {
        long n = sys6(SYS_WRITE, (uint64_t)log->fd, sys_address(batch + batch_done),
                      batch_size - batch_done, 0, 0, 0);
        if (n <= 0) {
            return n < 0 ? n : -EIO;
        }
        batch_done += (uint32_t)n;
        log->size += (uint64_t)n;
    }
    batch_size = batch_done = 0;
    return 0;
}

// The next entry of the data: the text up to a newline, or as much as fits.
static uint32_t put_entry(int stream, uint64_t time, const char *data, uint32_t size) {
    uint32_t room = BATCH - batch_size - HEAD - 1;
    uint32_t length = 0;
    while (length < size && length < room && data[length] != '\n') {
        length++;
    }
    int ends = length < size && data[length] == '\n';
    char *at = text_time(batch + batch_size, time);
    at = text_put(at, stream == LOG_STDERR ? " stderr " : " stdout ");
    at = text_put(at, ends ? "F " : "P ");
    for (uint32_t k = 0; k < length; k++) {
        *at++ = data[k];
    }
    *at++ = '\n';
    batch_size = (uint32_t)(at - batch);
    return length + (uint32_t)ends;
}

long log_write(struct log *log, int stream, uint64_t time, const char *data, uint32_t size,
               uint32_t *taken) {
    // What a full disk has left of the last batch goes first.
    long r = flush(log);
    while (r == 0 && *taken < size) {
        if (log->size >= log->size_limit) {
            rotate(log);
        }
        while (*taken < size && batch_size < BATCH - 2 * HEAD) {
            *taken += put_entry(stream, time, data + *taken, size - *taken);
        }
        r = flush(log);
    }
    return r;
}
