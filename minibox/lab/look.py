# SPDX-License-Identifier: Apache-2.0
"""Where experiments look: what the kernel tells of a process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from errno import ENOSYS

from minibox import core
from minibox.errors import Unsupported
from minibox.numbers import NUMBERS
from minibox.resources import hierarchies

# enum kcmp_type of include/uapi/linux/kcmp.h.
KCMP = {"VM": 1, "FILES": 2, "FS": 3, "SIGHAND": 4, "IO": 5, "SYSVSEM": 6}
PAUSE = 0.0002
LIMITS = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))


def kcmp(pid: int, kind: str, other: int = 0) -> str:
    """ "same" or "another": do that task and the other, or this process, share their VM, FILES, FS,
    SIGHAND, IO or SYSVSEM? Unsupported, OSError (kcmp(2))."""
    try:
        result = core.syscall(NUMBERS["kcmp"], other or os.getpid(), pid, KCMP[kind], 0, 0)
    except OSError as error:
        if error.errno != ENOSYS:
            raise
        raise Unsupported("this kernel has no kcmp") from None
    return "another" if result else "same"


def status(pid: int | str = "self", task: int | None = None) -> dict[str, str]:
    """/proc/PID/status (or its task's), by field. OSError."""
    path = f"/proc/{pid}/status" if task is None else f"/proc/{pid}/task/{task}/status"
    with open(path, encoding="utf-8", errors="backslashreplace") as file:
        pairs = (line.partition(":") for line in file)
        return {key: value.strip() for key, _, value in pairs}


def signals(field: str, pid: int | str = "self") -> set[int]:
    """The signals that a field of /proc/PID/status has: SigPnd, ShdPnd, SigBlk, SigIgn, SigCgt."""
    bits = int(status(pid)[field], 16)
    return {number for number in range(1, 65) if bits >> number - 1 & 1}


def sleeps_at(task: int, address: int) -> bool:
    """Does a thread of this process sleep in a call that has this first argument? OSError."""
    with open(f"/proc/self/task/{task}/syscall", encoding="ascii") as file:
        words = file.read().split()
    return len(words) > 1 and words[1].startswith("0x") and int(words[1], 16) == address


def smaps(pid: int | str, address: int) -> dict[str, int]:
    """The figures of /proc/PID/smaps for the mapping that begins at an address, by field, in bytes
    (proc_pid_smaps(5)); empty if there is none. OSError."""
    found: dict[str, int] = {}
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="backslashreplace") as file:
        for line in file:
            key, _, value = line.partition(":")
            if line.startswith(f"{address:x}-"):
                found["Size"] = 0
            elif " " in key and found:
                break
            elif found and value.endswith("kB\n"):
                found[key] = int(value.split()[0]) * 1024
    return found


def namespace(kind: str, pid: int | str = "self") -> str:
    """The namespace that a process is in: "uts:[4026531838]". OSError."""
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def own_namespace(kind: str, pid: int) -> bool:
    """Is that process in another namespace of this kind than this process? OSError."""
    return namespace(kind, pid) != namespace(kind)


def mount(source: str, pid: int | str = "self") -> bool:
    """Is there a mount of this source in the mount namespace of that process? OSError."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return any(line.partition(" - ")[2].split()[1] == source for line in file)


def free_memory() -> int:
    """How many bytes there are to be had: on the machine, and below the limits of the memory
    cgroups that this process is in, as far as they are mounted here. OSError."""
    with open("/proc/meminfo", encoding="ascii") as file:
        fields = dict(line.split(":") for line in file)
    free = [int(fields["MemAvailable"].split()[0]) * 1024]
    for tree in hierarchies.of_this_process():
        if tree.version == 2 or "memory" in tree.controllers:
            free += _left_by(tree.point, tree.path(tree.own))
    return max(0, min(free))


def _left_by(top: str, path: str) -> Iterator[int]:
    """What each cgroup from there up to the uppermost still has to give, if it has a limit."""
    while path.startswith(top):
        for limit, usage in LIMITS:
            try:
                most, used = (int(hierarchies.text(f"{path}/{name}")) for name in (limit, usage))
            except ValueError:
                continue  # the other version's, the root, no limit ("max"), or not to be seen
            yield most - used
        path = os.path.dirname(path)


def until(seen: Callable[[], object], seconds: float = 10.0) -> bool:
    """Look again and again until something is seen, or the time is over: was it seen?"""
    deadline = time.monotonic() + seconds
    while not seen():
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE)
    return True
