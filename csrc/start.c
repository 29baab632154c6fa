// SPDX-License-Identifier: Apache-2.0
// The command `minibox`: a static binary that starts the interpreter beside which it is installed.
//
// Isolated (-I): no PYTHON* variable and no file of the working directory is heard. Where the
// package lies in the usual place, without site as well (-S), a quarter of an interpreter's start.
// A script could do this, but a shell takes 1 ms and does not start with ten fds or less.
#include "minibox.h"
#include "sys.h"

#define AT_FDCWD (-100)
#define PATH_SIZE 4096
#define MAP_PRIVATE_ANONYMOUS 0x22
#define PROT_READ_WRITE 3
#define F_OK 0
#define X_OK 1
#define NEWEST_MINOR 40
#define OLDEST_MINOR 10

static char directory[PATH_SIZE]; // where this binary lies, with the slash
static char python[PATH_SIZE];
static char package[PATH_SIZE];

// Text appended to a buffer of PATH_SIZE; a path that is too long ends as one that is not there.
static char *append(char *buffer, char *at, const char *text) {
    while (*text && at < buffer + PATH_SIZE - 1) {
        *at++ = *text++;
    }
    *at = 0;
    return at;
}

static char *append_number(char *buffer, char *at, int number) {
    char text[3] = {(char)('0' + number / 10), (char)('0' + number % 10), 0};
    return append(buffer, at, text);
}

static int is_below(int place, const char *path, int mode) {
    return sys6(SYS_FACCESSAT, (uint64_t)place, sys_address(path), (uint64_t)mode, 0, 0, 0) == 0;
}

static int is_there(const char *path, int mode) { return is_below(AT_FDCWD, path, mode); }

static _Noreturn void fail(const char *text) {
    const char *end = text;
    while (*end) {
        end++;
    }
    sys6(SYS_WRITE, 2, sys_address(text), (uint64_t)(end - text), 0, 0, 0);
    sys_exit(125);
}

static void find_directory(void) {
    long size = sys6(SYS_READLINKAT, (uint64_t)AT_FDCWD, sys_address("/proc/self/exe"),
                     sys_address(directory), PATH_SIZE - 1, 0, 0);
    while (size > 0 && directory[size - 1] != '/') {
        size--;
    }
    if (size <= 0) {
        fail("minibox: /proc/self/exe cannot be read: is /proc mounted?\n");
    }
    directory[size] = 0;
}

// ../lib/python3.N/{site,dist}-packages/minibox/__main__.py; N, or 0 where there is none.
static int find_package(void) {
    static const char *const kinds[] = {"/site-packages", "/dist-packages"};
    for (int minor = NEWEST_MINOR; minor >= OLDEST_MINOR; minor--) {
        for (int kind = 0; kind < 2; kind++) {
            char *at = append(package, package, directory);
            at = append(package, at, "../lib/python3.");
            at = append_number(package, at, minor);
            at = append(package, at, kinds[kind]);
            append(package, at, "/minibox/__main__.py");
            if (is_there(package, F_OK)) {
                return minor;
            }
        }
    }
    return 0;
}

// The interpreter beside this binary, or the system's of that version.
static void find_python(int minor) {
    static const char *const places[] = {directory, "/usr/local/bin/", "/usr/bin/"};
    int places_to_look = minor ? 3 : 1;
    for (int place = 0; place < places_to_look; place++) {
        char *at = append(python, python, places[place]);
        at = append(python, at, "python3");
        if (place > 0) {
            at = append(python, at, ".");
            append_number(python, at, minor);
        }
        if (is_there(python, X_OK)) {
            return;
        }
    }
    fail("minibox: no python3 beside this command, in /usr/local/bin or /usr/bin\n");
}

_Noreturn void mb_start(const long *stack);
_Noreturn void mb_start(const long *stack) {
    long count = stack[0];
    const char *const *words = (const char *const *)(stack + 1);
    const char *const *environment = words + count + 1;
    long memory = sys6(SYS_MMAP, 0, (uint64_t)(count + 5) * sizeof(char *), PROT_READ_WRITE,
                       MAP_PRIVATE_ANONYMOUS, (uint64_t)-1, 0);
    if (sys_is_error(memory)) {
        fail("minibox: out of memory\n");
    }
    const char **argv = (const char **)(uintptr_t)memory;
    const char **next = argv;

    if (is_below(0, ".", F_OK)) {
        fail("minibox: stdin is a directory\n"); // the interpreter would not start, and say more
    }
    find_directory();
    int minor = find_package();
    find_python(minor);
    *next++ = python;
    if (minor) {
        *next++ = "-IS";
        *next++ = package;
    } else {
        *next++ = "-I";
        *next++ = "-m";
        *next++ = "minibox";
    }
    for (long i = 1; i < count; i++) {
        *next++ = words[i];
    }
    sys6(SYS_EXECVE, sys_address(python), sys_address(argv), sys_address(environment), 0, 0, 0);
    fail("minibox: python3 cannot be executed\n");
}

SYS_START
