# SPDX-License-Identifier: Apache-2.0
"""The system calls a plan may hold: one typed constructor each, and the kernel's constants.

A constructor takes what the man page takes (section 2 under the call's name) and returns the Op;
`How` lists the keywords all of them share. The numbers are in numbers.py.
"""

from __future__ import annotations

import os
import struct

from minibox import plan
from minibox.numbers import NUMBERS
from minibox.plan import Memory, Op, Slot, Strings, Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from typing_extensions import Unpack

    class How(TypedDict, total=False):
        """to: the slot for the result. ok: tolerated errnos. why: the reason. The rest: see Op."""

        to: Slot
        ok: tuple[int, ...]
        why: str
        expect_zero: bool
        retry: bool


Fd = int | Slot

# include/uapi/linux/fcntl.h, openat2.h, mount.h, sched.h, prctl.h, …: the names are the kernel's.
AT_FDCWD = -100
AT_EMPTY_PATH, AT_RECURSIVE = 0x1000, 0x8000
O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL = 0, 1, 2, 0o100, 0o200
O_NOCTTY, O_NONBLOCK, O_CLOEXEC, O_PATH = 0o400, os.O_NONBLOCK, 0o2000000, 0o10000000
O_DIRECTORY, O_NOFOLLOW = os.O_DIRECTORY, os.O_NOFOLLOW  # these two differ by architecture
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_IN_ROOT = 0x02, 0x04, 0x10
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC = 1, 0o2000000
OPEN_TREE_AT_EMPTY_PATH, OPEN_TREE_AT_RECURSIVE = AT_EMPTY_PATH, AT_RECURSIVE
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x04, 0x40
FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC = 1, 1
FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE = 0, 1, 6
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 1, 2, 4, 8
MOUNT_ATTR_IDMAP = 0x00100000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 0x20
MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE, MS_SHARED = 0x1000, 0x4000, 1 << 18, 1 << 19, 1 << 20
MNT_DETACH = 2
CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND = 0x100, 0x200, 0x400, 0x800
CLONE_PIDFD, CLONE_PTRACE, CLONE_VFORK, CLONE_PARENT = 0x1000, 0x2000, 0x4000, 0x8000
CLONE_THREAD, CLONE_NEWNS, CLONE_SYSVSEM, CLONE_SETTLS = 0x10000, 0x20000, 0x40000, 0x80000
CLONE_PARENT_SETTID, CLONE_CHILD_CLEARTID = 0x100000, 0x200000
CLONE_DETACHED, CLONE_UNTRACED, CLONE_CHILD_SETTID = 0x400000, 0x800000, 0x1000000
CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
CLONE_IO, CLONE_NEWTIME = 0x80000000, 0x80
CLONE_CLEAR_SIGHAND, CLONE_INTO_CGROUP = 1 << 32, 1 << 33
CLONE_AUTOREAP, CLONE_NNP, CLONE_PIDFD_AUTOKILL, CLONE_EMPTY_MNTNS = (1 << k for k in range(34, 38))
PR_SET_CHILD_SUBREAPER = 36
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
PR_SET_SECUREBITS = 28
LANDLOCK_RULE_PATH_BENEATH = 1
(RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_CORE, RLIMIT_RSS, RLIMIT_NPROC,
 RLIMIT_NOFILE, RLIMIT_MEMLOCK, RLIMIT_AS, RLIMIT_LOCKS, RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE,
 RLIMIT_NICE, RLIMIT_RTPRIO, RLIMIT_RTTIME) = range(16)  # fmt: skip
KEYCTL_JOIN_SESSION_KEYRING = 1
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_LOG, SECCOMP_FILTER_FLAG_SPEC_ALLOW = 2, 4
CLOSE_RANGE_CLOEXEC = 4
SIG_SETMASK, SIGKILL, SIGCHLD = 2, 9, 17
F_SETFD, F_ADD_SEALS = 2, 1033
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
SOCK_DGRAM, SOCK_SEQPACKET, SOCK_CLOEXEC = 2, 5, 0o2000000
IOCTL_SIOCSIFFLAGS, IOCTL_SIOCGIFINDEX = 0x8914, 0x8933
IOCTL_TIOCSCTTY, IOCTL_TIOCSWINSZ = 0x540E, 0x5414
IOCTL_TIOCSPTLCK, IOCTL_TIOCGPTPEER, IOCTL_TIOCSPGRP = 0x40045431, 0x5441, 0x5410
SFD_NONBLOCK, SFD_CLOEXEC = os.O_NONBLOCK, 0o2000000
MFD_CLOEXEC, MFD_ALLOW_SEALING, MFD_EXEC = 1, 2, 0x10
IFF_UP = 1
POLLIN = 1
ARCH_GET_FS = 0x1003
S_IFREG = 0o100000


def _op(call: str, *args: int | bytes | Memory | Slot | None, **how: Unpack[How]) -> Op:
    return Op(call, NUMBERS[call], args, **how)


# The structs that some of them take.


def open_how(flags: int, resolve: int) -> Struct:
    """struct open_how of openat2(2)."""
    return Struct(
        "=QQQ", ("flags", flags, "|O_"), ("mode", 0, ""), ("resolve", resolve, "|RESOLVE_")
    )


def mount_attr(set_: int = 0, clear: int = 0, propagation: int = 0) -> Struct:
    """struct mount_attr of mount_setattr(2); its userns_fd is stored by an op, where needed."""
    return Struct(
        "=QQQQ",
        ("attr_set", set_, "|MOUNT_ATTR_"),
        ("attr_clr", clear, "|MOUNT_ATTR_"),
        ("propagation", propagation, "|MS_"),
        ("userns_fd", 0, ""),
    )


USERNS_FD_AT = 24  # in struct mount_attr


# Files and directories.


def openat(dirfd: Fd, path: bytes, flags: int, mode: int = 0, **how: Unpack[How]) -> Op:
    created = (mode,) if flags & O_CREAT else ()
    return _op("openat", dirfd, path, flags, *created, **how)


def unlinkat(dirfd: Fd, path: bytes, **how: Unpack[How]) -> Op:
    return _op("unlinkat", dirfd, path, 0, **how)


def openat2(dirfd: Fd, path: bytes, how_: Memory, **how: Unpack[How]) -> Op:
    how["retry"] = True
    return _op("openat2", dirfd, path, how_, len(how_.data), **how)


def mkdirat(dirfd: Fd, path: bytes, mode: int, **how: Unpack[How]) -> Op:
    return _op("mkdirat", dirfd, path, mode, **how)


def mknodat(dirfd: Fd, path: bytes, mode: int, dev: int = 0, **how: Unpack[How]) -> Op:
    return _op("mknodat", dirfd, path, mode, dev, **how)


def symlinkat(target: bytes, dirfd: Fd, path: bytes, **how: Unpack[How]) -> Op:
    return _op("symlinkat", target, dirfd, path, **how)


def write(fd: Fd, data: bytes | Memory, **how: Unpack[How]) -> Op:
    size = len(data) if isinstance(data, bytes) else len(data.data)
    return _op("write", fd, data, size, **how)


def close(fd: Fd, **how: Unpack[How]) -> Op:
    return _op("close", fd, **how)


def dup3(old: Fd, new: Fd, flags: int = 0, **how: Unpack[How]) -> Op:
    return _op("dup3", old, new, flags, **how)


def fcntl(fd: Fd, command: int, argument: int = 0, **how: Unpack[How]) -> Op:
    return _op("fcntl", fd, command, argument, **how)


def close_range(first: int, last: int, flags: int, **how: Unpack[How]) -> Op:
    return _op("close_range", first, last, flags, **how)


def fchown(fd: Fd, uid: int, gid: int, **how: Unpack[How]) -> Op:
    return _op("fchown", fd, uid, gid, **how)


def fchownat(dirfd: Fd, path: bytes, uid: int, gid: int, **how: Unpack[How]) -> Op:
    return _op("fchownat", dirfd, path, uid, gid, 0, **how)


def fchmodat(dirfd: Fd, path: bytes, mode: int, **how: Unpack[How]) -> Op:
    return _op("fchmodat", dirfd, path, mode, **how)


def chdir(path: bytes, **how: Unpack[How]) -> Op:
    return _op("chdir", path, **how)


def fchdir(fd: Fd, **how: Unpack[How]) -> Op:
    return _op("fchdir", fd, **how)


def umask(mask: int, **how: Unpack[How]) -> Op:
    return _op("umask", mask, **how)


# Mounts.


def open_tree(dirfd: Fd, path: bytes, flags: int, **how: Unpack[How]) -> Op:
    return _op("open_tree", dirfd, path, flags, **how)


def move_mount(from_fd: Fd, to_fd: Fd, to_path: bytes = b"", **how: Unpack[How]) -> Op:
    flags = MOVE_MOUNT_F_EMPTY_PATH | (0 if to_path else MOVE_MOUNT_T_EMPTY_PATH)
    return _op("move_mount", from_fd, b"", to_fd, to_path, flags, **how)


def mount_setattr(dirfd: Fd, path: bytes, flags: int, attr: Memory, **how: Unpack[How]) -> Op:
    return _op("mount_setattr", dirfd, path, flags, attr, len(attr.data), **how)


def fsopen(fstype: bytes, **how: Unpack[How]) -> Op:
    return _op("fsopen", fstype, FSOPEN_CLOEXEC, **how)


def fsconfig_string(fd: Fd, key: bytes, value: bytes, **how: Unpack[How]) -> Op:
    return _op("fsconfig", fd, FSCONFIG_SET_STRING, key, value, 0, **how)


def fsconfig_flag(fd: Fd, key: bytes, **how: Unpack[How]) -> Op:
    return _op("fsconfig", fd, FSCONFIG_SET_FLAG, key, None, 0, **how)


def fsconfig_create(fd: Fd, **how: Unpack[How]) -> Op:
    return _op("fsconfig", fd, FSCONFIG_CMD_CREATE, None, None, 0, **how)


def fsmount(fd: Fd, attributes: int, **how: Unpack[How]) -> Op:
    return _op("fsmount", fd, FSMOUNT_CLOEXEC, attributes, **how)


def mount(
    source: bytes | None,
    target: bytes,
    fstype: bytes | None,
    flags: int,
    data: bytes | None = None,
    **how: Unpack[How],
) -> Op:
    return _op("mount", source, target, fstype, flags, data, **how)


def umount2(target: bytes, flags: int, **how: Unpack[How]) -> Op:
    return _op("umount2", target, flags, **how)


def pivot_root(new_root: bytes, put_old: bytes, **how: Unpack[How]) -> Op:
    return _op("pivot_root", new_root, put_old, **how)


# Namespaces and names.


def setns(fd: Fd, nstype: int, **how: Unpack[How]) -> Op:
    return _op("setns", fd, nstype, **how)


def unshare(flags: int, **how: Unpack[How]) -> Op:
    return _op("unshare", flags, **how)


def sethostname(name: bytes, **how: Unpack[How]) -> Op:
    return _op("sethostname", name, len(name), **how)


def setdomainname(name: bytes, **how: Unpack[How]) -> Op:
    return _op("setdomainname", name, len(name), **how)


# Identity.


def setgroups(groups: tuple[int, ...], **how: Unpack[How]) -> Op:
    memory = Memory(struct.pack(f"={len(groups)}I", *groups), str(list(groups))) if groups else None
    return _op("setgroups", len(groups), memory, **how)


def setresgid(gid: int, **how: Unpack[How]) -> Op:
    return _op("setresgid", gid, gid, gid, **how)


def setresuid(uid: int, **how: Unpack[How]) -> Op:
    return _op("setresuid", uid, uid, uid, **how)


def setpgid(pid: int, pgid: int, **how: Unpack[How]) -> Op:
    return _op("setpgid", pid, pgid, **how)


def getpid(**how: Unpack[How]) -> Op:
    return _op("getpid", **how)


def setsid(**how: Unpack[How]) -> Op:
    return _op("setsid", **how)


def keyctl_join_session_keyring(**how: Unpack[How]) -> Op:
    return _op("keyctl", KEYCTL_JOIN_SESSION_KEYRING, None, **how)


def prctl(option: int, argument: int, **how: Unpack[How]) -> Op:
    return _op("prctl", option, argument, 0, 0, 0, **how)


def prlimit64(pid: int, resource: int, new: Memory, **how: Unpack[How]) -> Op:
    return _op("prlimit64", pid, resource, new, None, **how)


def landlock_create_ruleset(attr: Memory, **how: Unpack[How]) -> Op:
    return _op("landlock_create_ruleset", attr, len(attr.data), 0, **how)


def landlock_add_rule(ruleset: Fd, beneath: Memory, **how: Unpack[How]) -> Op:
    return _op("landlock_add_rule", ruleset, LANDLOCK_RULE_PATH_BENEATH, beneath, 0, **how)


def landlock_restrict_self(ruleset: Fd, **how: Unpack[How]) -> Op:
    return _op("landlock_restrict_self", ruleset, 0, **how)


def seccomp_set_mode_filter(flags: int, fprog: Memory, **how: Unpack[How]) -> Op:
    return _op("seccomp", SECCOMP_SET_MODE_FILTER, flags, fprog, **how)


def capset(header: Memory, sets: Memory, **how: Unpack[How]) -> Op:
    return _op("capset", header, sets, **how)


# Processes and signals.


def execve(path: bytes, argv: Strings, envp: Strings, **how: Unpack[How]) -> Op:
    return _op("execve", path, argv, envp, **how)


def execveat(fd: Fd, argv: Memory, envp: Memory, **how: Unpack[How]) -> Op:
    return _op("execveat", fd, b"", argv, envp, AT_EMPTY_PATH, **how)


def exit_(code: int, **how: Unpack[How]) -> Op:
    return _op("exit", code, **how)


def pidfd_open(pid: Fd, **how: Unpack[How]) -> Op:
    return _op("pidfd_open", pid, 0, **how)


def rt_sigprocmask_unblock_all(**how: Unpack[How]) -> Op:
    return _op("rt_sigprocmask", SIG_SETMASK, Memory(bytes(8), "[]"), None, 8, **how)


def ppoll_now(fd: Fd, pollfd: Memory, **how: Unpack[How]) -> Op:
    """Is `fd`, which an op has stored into `pollfd`, readable at this moment? 0 or 1."""
    del fd  # only its copy in pollfd is read
    return _op("ppoll", pollfd, 1, Memory(bytes(16), "{0, 0}"), None, 0, **how)


# Sockets and terminals.


def socket(domain: int, type_: int, **how: Unpack[How]) -> Op:
    return _op("socket", domain, type_, 0, **how)


def bind(fd: Fd, address: Memory, **how: Unpack[How]) -> Op:
    return _op("bind", fd, address, len(address.data), **how)


def listen(fd: Fd, backlog: int, **how: Unpack[How]) -> Op:
    return _op("listen", fd, backlog, **how)


def ioctl(fd: Fd, request: int, argument: int | Memory, **how: Unpack[How]) -> Op:
    return _op("ioctl", fd, request, argument, **how)


def sendmsg(fd: Fd, msghdr: Memory, **how: Unpack[How]) -> Op:
    return _op("sendmsg", fd, msghdr, 0, **how)


# The steps that are no system call.


def gate(number: int = 1, **how: Unpack[How]) -> Op:
    """Wait until the parent has done its part and opens this gate: the first for id maps and
    cgroups, the second for the network."""
    return _op(plan.GATE, number, **how)


def store(value: Slot, into: Memory, **how: Unpack[How]) -> Op:
    """Put a slot's value, 32 bits, into memory that a later call reads."""
    return _op(plan.STORE, value, into, **how)


def fork(flags: int, **how: Unpack[How]) -> Op:
    """Go on in a new child; this process ends. With CLONE_PARENT its parent is the child's."""
    return _op(plan.FORK, flags, **how)


def init(**how: Unpack[How]) -> Op:
    """Go on in a new child; this process stays as its init."""
    return _op(plan.INIT, **how)


def monitor(flags: int, settings: Memory, **how: Unpack[How]) -> Op:
    """Go on in a new child; this process stays outside as its monitor (csrc/monitor.c)."""
    return _op(plan.MONITOR, flags, settings, **how)


def netlink(fd: Fd, msghdr: Memory, **how: Unpack[How]) -> Op:
    """Send a message and take its acknowledgement, whose error is that of this step."""
    return _op(plan.NETLINK, fd, msghdr, **how)


def call(function: int, argument: int | Memory = 0, **how: Unpack[How]) -> Op:
    """Call a C function, `long function(void *argument)`, at an address in the program's memory
    (a cffi function pointer as a plan.Address). What it returns counts as a system call's result.
    """
    return _op(plan.CALL, function, argument, **how)
