// SPDX-License-Identifier: Apache-2.0
// What a monitor leaves of its container: the exit status, an event, and what it had is free.
#include "end.h"
#include "sys.h"
#include "text.h"

#define EBUSY 16
#define EISDIR 21
#define AT_FDCWD (-100)
#define AT_REMOVEDIR 0x200
#define O_WRONLY 1
#define O_CREAT 0100
#define O_APPEND 02000
#define O_CLOEXEC 02000000
#define BUSY_TRIES 20

// The event of the end, in one write: the text up to the exit code is the plan's.
static void append_event(const struct mb_monitor *m, const struct end *end) {
    static char line[4096];
    const char *text = (const char *)(uintptr_t)m->journal;
    char *at = line;
    while (*text && at < line + sizeof line - 128) {
        *at++ = *text++;
    }
    at = text_number(at, (uint64_t)end->code, 1);
    at = text_put(at, end->oom_killed ? "\",\"oomKilled\":\"true\"}},\"time\":" : "\"}},\"time\":");
    at = text_number(at, end->time / 1000000000u, 1);
    at = text_put(at, ",\"timeNano\":");
    at = text_number(at, end->time, 1);
    at = text_put(at, "}\n");
    long fd = sys6(SYS_OPENAT, (uint64_t)AT_FDCWD, m->journal_path,
                   O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600, 0, 0);
    if (fd >= 0) {
        sys6(SYS_WRITE, (uint64_t)fd, sys_address(line), (uint64_t)(at - line), 0, 0, 0);
        sys6(SYS_CLOSE, (uint64_t)fd, 0, 0, 0, 0, 0);
    }
}

// The exit status, over the blanks that the file holds already: no disk is too full for it.
static void write_record(const struct mb_monitor *m, const struct end *end) {
    char record[MB_RECORD];
    char *at = text_put(record, "{\"exit_code\": ");
    at = text_number(at, (uint64_t)end->code, 1);
    at = text_put(at, ", \"signal\": ");
    at = text_number(at, (uint64_t)end->signal, 1);
    at = text_put(at, ", \"finished\": ");
    at = text_number(at, end->time, 1);
    at = text_put(at, ", \"timed_out\": ");
    at = text_put(at, end->timed_out ? "true" : "false");
    at = text_put(at, ", \"oom_killed\": ");
    at = text_put(at, end->oom_killed ? "true}" : "false}");
    while (at < record + MB_RECORD - 1) {
        *at++ = ' ';
    }
    *at = '\n';
    sys6(SYS_PWRITE64, (uint64_t)m->record, sys_address(record), MB_RECORD, 0, 0, 0);
}

static int begins(const char *text, const char *word) {
    while (*word && *text == *word) {
        text++;
        word++;
    }
    return !*word;
}

// A line of the file that begins with oom_kill has how many were killed.
int end_had_oom(const struct mb_monitor *m) {
    static char text[1024]; // zeroed: it ends with a NUL
    long fd = m->oom ? sys6(SYS_OPENAT, (uint64_t)AT_FDCWD, m->oom, O_CLOEXEC, 0, 0, 0) : -1;
    if (fd < 0) {
        return 0;
    }
    sys6(SYS_READ, (uint64_t)fd, sys_address(text), sizeof text - 1, 0, 0, 0);
    sys6(SYS_CLOSE, (uint64_t)fd, 0, 0, 0, 0, 0);
    for (const char *at = text; *at; at++) {
        if ((at == text || at[-1] == '\n') && begins(at, "oom_kill ")) {
            return at[9] != '0';
        }
    }
    return 0;
}

void end_record(const struct mb_monitor *m, const struct end *end) {
    if (m->journal) {
        append_event(m, end);
    }
    write_record(m, end);
}

// A cgroup whose last process is just on its way out is busy for a moment.
void end_give_back(const struct mb_monitor *m) {
    const uint64_t *paths = (const uint64_t *)(uintptr_t)m->leases;
    int64_t moment[2] = {0, 1000000};
    int tries = 0;
    for (int k = 0; paths && paths[k]; k++) {
        long r = sys6(SYS_UNLINKAT, (uint64_t)AT_FDCWD, paths[k], 0, 0, 0, 0);
        while (r == -EISDIR || (r == -EBUSY && tries < BUSY_TRIES)) {
            if (r == -EBUSY) {
                sys6(SYS_NANOSLEEP, sys_address(moment), 0, 0, 0, 0, 0);
                tries++;
            }
            r = sys6(SYS_UNLINKAT, (uint64_t)AT_FDCWD, paths[k], AT_REMOVEDIR, 0, 0, 0);
        }
    }
}
