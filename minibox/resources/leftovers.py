# SPDX-License-Identifier: Apache-2.0
"""Cgroups that go: with all that is in them, and those of the dead."""

from __future__ import annotations

import fcntl
import os
import time
from errno import ENOENT

from minibox.resources import delegation, hierarchies
from minibox.resources.hierarchies import put, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = "minibox"
PATIENCE = 5.0  # seconds for what is killed


def remove(path: str) -> bool:
    """Take a cgroup away, and kill what is in it. Is it gone?"""
    deadline = time.monotonic() + PATIENCE
    while not _rmdir_all(path):
        if time.monotonic() > deadline:
            return False
        kill(path)
        time.sleep(0.001)
    return True


def rmdir(path: str) -> bool:
    """Is it gone?"""
    try:
        os.rmdir(path)
    except OSError as error:
        return error.errno == ENOENT
    return True


def _rmdir_all(path: str) -> bool:
    """With what the container has made below it. Is it gone?"""
    if rmdir(path):
        return True
    return all(rmdir(directory) for directory, _, _ in os.walk(path, topdown=False))


def kill(path: str) -> None:
    """SIGKILL for all that is in a cgroup, frozen or not; they end by and by."""
    for directory, _, _ in os.walk(path):
        if not _write(f"{directory}/cgroup.kill", "1"):
            for pid in pids(directory):
                try:
                    os.kill(pid, 9)
                except (ProcessLookupError, PermissionError):
                    pass
        _write(f"{directory}/freezer.state", "THAWED")


def _write(path: str, value: str) -> bool:
    """Could it be?"""
    try:
        put(path, value)
    except OSError:
        return False
    return True


def pids(path: str) -> list[int]:
    """The processes of one directory, as this pid namespace numbers them."""
    try:
        with open(f"{path}/cgroup.procs", encoding="ascii") as file:
            return [int(line) for line in file if int(line) > 0]
    except OSError:
        return []


def start_time(pid: int) -> int:
    """proc_pid_stat(5), field 22. OSError."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])


def sweep_in(home: str, *, thorough: bool = False) -> list[str]:
    """Remove what the dead have left below `home`. thorough: also what a kept container has left,
    and what belongs to a pid that is somebody else's by now. The paths."""
    top = f"{home}/{DIRECTORY}"
    try:
        with os.scandir(top) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    left = [name for name in names if _is_left(name, thorough)]
    return [f"{top}/{name}" for name in left if _take(f"{top}/{name}", "-" not in name)]


def _is_left(name: str, thorough: bool) -> bool:
    """Is its owner dead, by its name?"""
    pid, dash, rest = name.partition("-")
    if not dash or not pid.isdigit():
        return thorough  # a kept container's
    if not os.path.exists(f"/proc/{pid}"):
        return True
    try:
        return thorough and start_time(int(pid)) != int(rest.partition("-")[0])
    except (OSError, ValueError):
        return False


def _take(path: str, is_kept: bool) -> bool:
    """Remove it, unless somebody holds it: who has made it may live in another pid namespace. What
    is in that of a kept container is alive, in whatever store it may be."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_kept and _is_populated(path):
            return False
        # Another one of that name may be there by now, which is not what we have locked.
        is_same = os.fstat(fd).st_ino == os.stat(path).st_ino
        return is_same and (_rmdir_all(path) or (not is_kept and remove(path)))
    except OSError:
        return False
    finally:
        os.close(fd)


def _is_populated(path: str) -> bool:
    """Is there a process in it, of whatever pid namespace?"""
    return any(words(f"{directory}/cgroup.procs") for directory, _, _ in os.walk(path))


def sweep() -> Iterator[str]:
    """All that the dead have left; the paths."""
    for home in homes():
        yield from sweep_in(home, thorough=True)
        rmdir(f"{home}/{DIRECTORY}")


def remove_named(name: str) -> None:
    """What is left of this kept container, which has ended, at the usual places."""
    for home in homes():
        if os.path.exists(f"{home}/{DIRECTORY}/{name}"):
            remove(f"{home}/{DIRECTORY}/{name}")
            rmdir(f"{home}/{DIRECTORY}")


def homes() -> list[str]:
    """Where cgroups of ours are, but for --cgroup-parent."""
    try:
        trees = hierarchies.of_this_process()
    except OSError:
        return []
    return [delegation.home(tree, "") for tree in trees]
