# SPDX-License-Identifier: Apache-2.0
"""What a process does before it asks for something (asking.py): then the kernel answers otherwise.

Each takes the run, and raises OSError where it cannot be done.
"""

from __future__ import annotations

import errno
import os
import resource
import struct

from minibox import core
from minibox import syscalls as sc
from minibox.errors import Unsupported
from minibox.lab import cgroups
from minibox.lab.run import Run
from minibox.numbers import NUMBERS
from minibox.resources import hierarchies, idmap

VERSION_3 = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
ANOTHER = 12345
IN = b"in"


def unshared_pids(_: Run) -> None:
    """Its children will be in a new pid namespace."""
    core.syscall(NUMBERS["unshare"], sc.CLONE_NEWPID)


def first_of_a_pid_namespace(run: Run) -> None:
    """It is pid 1: another process, for which the first one waits."""
    unshared_pids(run)
    _go_on_in_a_child()


def pids_whose_first_is_dead(run: Run) -> None:
    """Its children would be in a pid namespace that has lost its pid 1."""
    unshared_pids(run)
    first = os.fork()
    if first == 0:
        os._exit(0)
    os.waitpid(first, 0)


def deepest_pids(run: Run) -> None:
    """It is in a pid namespace below which no other fits (MAX_PID_NS_LEVEL)."""
    while _is_room(sc.CLONE_NEWPID):
        _go_on_in_a_child()


def deepest_users(_: Run) -> None:
    """It is in a user namespace below which no other fits."""
    while _is_room(sc.CLONE_NEWUSER):
        _map_root()


def own_users(_: Run) -> None:
    """It is the root of a user namespace."""
    core.syscall(NUMBERS["unshare"], sc.CLONE_NEWUSER)
    _map_root()


def no_more_names(run: Run) -> None:
    """Its user namespace may have no UTS namespace (/proc/sys/user)."""
    own_users(run)
    with open("/proc/sys/user/max_uts_namespaces", "w", encoding="ascii") as file:
        file.write("0")


def unmapped(_: Run) -> None:
    """Its user has no number in its user namespace."""
    core.syscall(NUMBERS["unshare"], sc.CLONE_NEWUSER)


def powerless(_: Run) -> None:
    """It has no capability."""
    header, none = struct.pack("=Ii", VERSION_3, 0), bytes(24)
    core.syscall(NUMBERS["capset"], header, none)


def in_a_chroot(_: Run) -> None:
    """Its root directory is not that of its mount namespace."""
    os.makedirs("root", exist_ok=True)
    os.chroot("root")


def another_user(run: Run) -> None:
    """It is not root, outside of all user namespaces either. Unsupported."""
    try:
        os.setresuid(ANOTHER, ANOTHER, ANOTHER)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # There is but one user in this user namespace.
        with open("/proc/self/uid_map", encoding="ascii") as file:
            outside = file.readline().split()[1]
        if outside == "0":
            raise Unsupported("the only user here is root outside, too") from None
        powerless(run)


def no_more_processes(run: Run) -> None:
    """Its user, who is not root, may have no more processes."""
    another_user(run)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def two_threads(run: Run) -> None:
    """It has another thread, which waits at its gate until the process ends."""
    thread = run.clone([sc.gate()], sc.CLONE_VM | sc.CLONE_SIGHAND | sc.CLONE_THREAD)
    _kept.append(thread)
    thread.__enter__()


def in_a_full_cgroup(run: Run) -> None:
    """It is in a cgroup that may have one process (pids.max): another process, while the first one
    waits for it and takes the cgroup away. Unsupported."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        try:
            with cgroups.new(run, "pids") as cgroup:
                hierarchies.put(f"{cgroup.path}/pids.max", "1")
                hierarchies.put(f"{cgroup.path}/cgroup.procs", str(child))
                os.write(write, IN)
                os.waitpid(child, 0)
        except (Unsupported, OSError) as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    answer = os.read(read, 4096)
    if answer != IN:
        raise Unsupported(answer.decode())


_kept: list[object] = []


def _go_on_in_a_child() -> None:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os._exit(0)


def _is_room(flag: int) -> bool:
    """Is it in a new namespace now (its next child, for NEWPID)?"""
    try:
        core.syscall(NUMBERS["unshare"], flag)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True


def _map_root() -> None:
    idmap.write("self", b"0 0 1", b"0 0 1", deny_setgroups=True)
