# SPDX-License-Identifier: Apache-2.0
"""The processes of a container, seen from the host (proc(5))."""

from __future__ import annotations

import os
import time

from minibox.spec import Record

UNKNOWN = 65534  # the overflow id (user_namespaces(7))


class Row(Record):
    """uid: inside the container. pid, ppid: the host's. began: seconds since the epoch. busy: CPU
    seconds. terminal: "pts/0" or "?". command: its words, or [name] where it has none."""

    uid: int
    pid: int
    ppid: int
    began: float
    busy: float
    terminal: str
    command: str


def of(first: int) -> list[Row]:
    """The processes in the container whose first process is `first`: those of its pid namespace,
    or, where that is the host's, the first one and what descends from it. OSError when it is gone.
    """
    space = os.readlink(f"/proc/{first}/ns/pid")
    maps = _uid_map(first)
    rows = [row for pid in _pids() if (row := _row(pid, maps)) is not None]
    if space == os.readlink("/proc/self/ns/pid"):
        return _descendants(rows, first)
    return [row for row in rows if _space(row.pid) == space]


def _pids() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def _space(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""


def _descendants(rows: list[Row], first: int) -> list[Row]:
    family = {first}
    size = 0
    while len(family) != size:
        size = len(family)
        family |= {row.pid for row in rows if row.ppid in family}
    return [row for row in rows if row.pid in family]


def _uid_map(pid: int) -> list[tuple[int, int, int]]:
    with open(f"/proc/{pid}/uid_map", encoding="ascii") as file:
        return [(int(a), int(b), int(c)) for a, b, c in (line.split() for line in file)]


def _row(pid: int, maps: list[tuple[int, int, int]]) -> Row | None:
    """None when the process has ended meanwhile."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            head, _, tail = file.read().rpartition(b")")
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).rstrip(b"\0").split(b"\0")
        uid = _uid(pid)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    fields = tail.split()
    ticks = os.sysconf("SC_CLK_TCK")
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    name = head.partition(b"(")[2]
    command = b" ".join(words) or b"[" + name + b"]"
    return Row(
        uid=_inside(uid, maps),
        pid=pid,
        ppid=int(fields[1]),
        began=boot + int(fields[19]) / ticks,
        busy=(int(fields[11]) + int(fields[12])) / ticks,
        terminal=_terminal(int(fields[4])),
        command=command.decode(errors="backslashreplace"),
    )


def _uid(pid: int) -> int:
    """Its effective id; the owner of /proc/PID is root where the process is not dumpable."""
    with open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith(b"Uid:"):
                return int(line.split()[2])
    raise ValueError


def _inside(uid: int, maps: list[tuple[int, int, int]]) -> int:
    for inner, outer, size in maps:
        if outer <= uid < outer + size:
            return inner + uid - outer
    return UNKNOWN


def _terminal(number: int) -> str:
    major, minor = os.major(number & 0xFFFFFFFF), os.minor(number & 0xFFFFFFFF)
    return f"pts/{(major - 136) * 256 + minor}" if 136 <= major <= 143 else "?"
