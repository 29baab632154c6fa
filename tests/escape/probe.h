// SPDX-License-Identifier: Apache-2.0
// A probe tries one way out of a container, and says what came of it.
//
// It runs in a process of its own and ends with exactly one of pass() and fail(). What it tries is
// harmless where it succeeds: a value is written back as it was, a file is opened for writing and
// not written, an argument is wrong in a way that is noticed after the permission.
#ifndef PROBE_H
#define PROBE_H
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

// A row of the table. threat: what it would be, were it possible, with the CVE where there is one.
// data: for a function that serves several rows.
struct probe {
    const char *name;
    void (*run)(const struct probe *self);
    const char *threat;
    const void *data;
};

// The tables, one a theme; each ends with a row without a name.
extern const struct probe kernel_probes[], mount_probes[], file_probes[], device_probes[],
    process_probes[], rights_probes[], call_probes[], network_probes[];

// The verdict; neither returns.
__attribute__((noreturn, format(printf, 1, 2))) void pass(const char *why, ...);
__attribute__((noreturn, format(printf, 1, 2))) void fail(const char *why, ...);

// What somebody outside has told (name=value on the command line): fact() fails without it.
const char *fact(const char *name);
int is_fact(const char *name, const char *value);

// Does this errno say "you may not", and no more than that?
int is_refusal(int error);
// The end of a probe that is one call: it must have been refused. result: of a syscall(2).
__attribute__((noreturn)) void must_be_refused(const char *what, long result);
// The same for one step of several; returns when it was.
void step_refused(const char *what, long result);

// The text of a file, at most size - 1 bytes; -1 with errno. The directories of /proc in order.
ssize_t read_file(const char *path, char *text, size_t size);
// Call `visit` for each file below a directory, links not followed; returns how many. A file system
// that is mounted below is entered.
typedef void visitor(const char *path, const struct stat *info, void *data);
int walk(const char *top, int depth, visitor *visit, void *data);
// Call `visit` for each process in /proc.
int each_process(void (*visit)(int pid, void *data), void *data);
// The value of a field of /proc/PID/status, "" where there is none.
const char *status_field(int pid, const char *name);
// May this file be opened for writing? No write happens.
int opens_for_writing(const char *path);

// Where probes may write: a tmpfs.
#define SCRATCH "/tmp"
// How many fds above 2 the program was started with, and its first directory.
extern int fds_at_start;
#endif
