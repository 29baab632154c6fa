# SPDX-License-Identifier: Apache-2.0
"""The system calls that a plan may hold, by name.

A row is the number on x86-64, the number on arm64 (arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h; None where the call does not exist) and the kinds of the
arguments, from which describe.py prints the call.
"""

from __future__ import annotations

import os

from minibox.plan import CALL, FORK, GATE, INIT, MONITOR, NETLINK, STEPS, STORE

SYSCALLS: dict[str, tuple[int | None, int | None, str]] = {
    "read": (0, 63, "fd memory int"),
    "write": (1, 64, "fd bytes int"),
    "close": (3, 57, "fd"),
    "rt_sigaction": (13, 134, "int memory memory int"),
    "rt_sigprocmask": (14, 135, "=SIG_ memory memory int"),
    "ioctl": (16, 29, "fd =IOCTL_ any"),
    "sched_yield": (24, 124, ""),
    "nanosleep": (35, 101, "memory memory"),
    "getpid": (39, 172, ""),
    "socket": (41, 198, "=AF_ |SOCK_ int"),
    "socketpair": (53, 199, "=AF_ |SOCK_ int memory"),
    "bind": (49, 200, "fd memory int"),
    "listen": (50, 201, "fd int"),
    "sendmsg": (46, 211, "fd memory int"),
    "clone": (56, 220, "|CLONE_ any any any any"),
    "execve": (59, 221, "path memory memory"),
    "exit": (60, 93, "int"),
    "kill": (62, 129, "int int"),
    "fcntl": (72, 25, "fd =F_ any"),
    "chdir": (80, 49, "path"),
    "fchdir": (81, 50, "fd"),
    "fchown": (93, 55, "fd int int"),
    "umask": (95, 166, "octal"),
    "setpgid": (109, 154, "int int"),
    "getppid": (110, 173, ""),
    "setsid": (112, 157, ""),
    "setgroups": (116, 159, "int memory"),
    "setresuid": (117, 147, "int int int"),
    "setresgid": (119, 149, "int int int"),
    "pivot_root": (155, 41, "path path"),
    "prctl": (157, 167, "=PR_ any any any any"),
    "mount": (165, 40, "path path path |MS_ path"),
    "umount2": (166, 39, "path |MNT_"),
    "sethostname": (170, 161, "bytes int"),
    "setdomainname": (171, 162, "bytes int"),
    "ptrace": (101, 117, "=PTRACE_ int any any"),
    "arch_prctl": (158, None, "=ARCH_ memory"),
    "gettid": (186, 178, ""),
    "futex": (202, 98, "any =FUTEX_ int memory any int"),
    "semget": (64, 190, "int int octal"),
    "semop": (65, 193, "int memory int"),
    "semctl": (66, 191, "int int int any"),
    "ioprio_set": (251, 30, "int int int"),
    "ioprio_get": (252, 31, "int int"),
    "exit_group": (231, 94, "int"),
    "keyctl": (250, 219, "=KEYCTL_ path"),
    "openat": (257, 56, "fd path |O_ mode"),
    "unlinkat": (263, 35, "fd path int"),
    "mkdirat": (258, 34, "fd path octal"),
    "mknodat": (259, 33, "fd path mode int"),
    "fchownat": (260, 54, "fd path int int |AT_"),
    "symlinkat": (266, 36, "path fd path"),
    "fchmodat": (268, 53, "fd path octal"),
    "ppoll": (271, 73, "memory int memory memory int"),
    "capset": (126, 91, "memory memory"),
    "unshare": (272, 97, "|CLONE_"),
    "prlimit64": (302, 261, "int =RLIMIT_ memory memory"),
    "signalfd4": (289, 74, "fd memory int |SFD_"),
    "dup3": (292, 24, "fd fd |O_"),
    "setns": (308, 268, "fd |CLONE_"),
    "kcmp": (312, 272, "int int int any any"),
    "seccomp": (317, 277, "=SECCOMP_ |SECCOMP_FILTER_FLAG_ memory"),
    "memfd_create": (319, 279, "path |MFD_"),
    "bpf": (321, 280, "int memory int"),
    "execveat": (322, 281, "fd path memory memory |AT_"),
    "pidfd_send_signal": (424, 424, "fd int memory int"),
    "open_tree": (428, 428, "fd path |OPEN_TREE_"),
    "move_mount": (429, 429, "fd path fd path |MOVE_MOUNT_"),
    "fsopen": (430, 430, "path |FSOPEN_"),
    "fsconfig": (431, 431, "fd =FSCONFIG_ path path int"),
    "fsmount": (432, 432, "fd |FSMOUNT_ |MOUNT_ATTR_"),
    "pidfd_open": (434, 434, "int int"),
    "clone3": (435, 435, "memory int"),
    "close_range": (436, 436, "int int |CLOSE_RANGE_"),
    "openat2": (437, 437, "fd path memory int"),
    "mount_setattr": (442, 442, "fd path |AT_ memory int"),
    "landlock_create_ruleset": (444, 444, "memory int int"),
    "landlock_add_rule": (445, 445, "fd =LANDLOCK_ memory int"),
    "landlock_restrict_self": (446, 446, "fd int"),
    GATE: (STEPS[GATE], STEPS[GATE], "int"),
    STORE: (STEPS[STORE], STEPS[STORE], "fd memory"),
    FORK: (STEPS[FORK], STEPS[FORK], "|CLONE_"),
    INIT: (STEPS[INIT], STEPS[INIT], ""),
    MONITOR: (STEPS[MONITOR], STEPS[MONITOR], "|CLONE_ memory"),
    NETLINK: (STEPS[NETLINK], STEPS[NETLINK], "fd memory"),
    CALL: (STEPS[CALL], STEPS[CALL], "any any"),
}

NUMBERS: dict[str, int] = {
    name: number
    for name, (x86_64, arm64, _) in SYSCALLS.items()
    if (number := arm64 if os.uname().machine == "aarch64" else x86_64) is not None
}
