# SPDX-License-Identifier: Apache-2.0
"""What was seen: events in their order, and the processes as a tree."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from minibox.tracing import calls

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")


@dataclass(frozen=True)
class Event:
    """A call, or the end of a task.

    time: seconds since the trace began. pid, tid: process and task, as the tracer's pid namespace
    numbers them. text: a line, as strace has it. call: "clone3", or "" for an end. args: its
    arguments by their names in the manual. result: what it returned, as the task saw it, or -errno;
    None when it never returned. child: the tid of the task it has made, as the tracer sees it, or
    0. namespaces: those that are other ones after it, numbered as Namespaces does. ended: "exited"
    or "killed"; result is the exit code or the signal then.
    """

    time: float
    pid: int
    tid: int
    text: str
    call: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)
    result: int | None = None
    child: int = 0
    namespaces: Mapping[str, int] = field(default_factory=dict)
    ended: str = ""

    @property
    def flags(self) -> frozenset[str]:
        """The names of a call's flags: {"CLONE_VM", "CLONE_VFORK"}."""
        return frozenset(self.args.get("flags", ()))

    @property
    def error(self) -> str:
        """The name of the errno with which the call failed, or ""."""
        failed = self.call and self.result is not None and -4095 <= self.result < 0
        return errno.errorcode.get(-(self.result or 0), "") if failed else ""

    @property
    def makes_a_task(self) -> bool:
        """A successful call of the clone family."""
        return self.call in calls.FAMILY and self.child != 0

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        data = {**vars(self), "error": self.error}
        return {key: value for key, value in data.items() if value or key in ("time", "result")}


@dataclass
class Process:
    """pid: in the tracer's pid namespace. parent: the pid of the one that called clone, or 0.
    command: its last argv. threads: the tids of its other tasks. namespaces: as Namespaces numbers
    them. ended: "exited with 0", or "" while it is there."""

    pid: int
    parent: int = 0
    command: list[str] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    namespaces: dict[str, int] = field(default_factory=dict)
    ended: str = ""


class Namespaces:
    """Namespaces by short numbers: of each kind 0 is the tracer's own, 1 the first other one."""

    def __init__(self) -> None:
        self._seen: dict[str, list[str]] = {kind: [] for kind in KINDS}
        self.of("self")

    def of(self, pid: int | str) -> dict[str, int]:
        """Those that a task is in; what cannot be looked at is left out."""
        found = {}
        for kind, seen in self._seen.items():
            try:
                name = os.readlink(f"/proc/{pid}/ns/{kind}")
            except OSError:
                continue
            if name not in seen:
                seen.append(name)
            found[kind] = seen.index(name)
        return found


def others(namespaces: Mapping[str, int], beside: Mapping[str, int] | None = None) -> str:
    """ "[mnt:1 pid:1]": those that are not the tracer's, or not those of another task."""
    words = [
        f"{kind}:{number}"
        for kind, number in namespaces.items()
        if number != (0 if beside is None else beside.get(kind, 0))
    ]
    return f"[{' '.join(words)}]" if words else ""


def lines(processes: Iterable[Process]) -> Iterator[str]:
    """The tree of processes, a line each."""
    known = {process.pid: process for process in processes}
    below: dict[int, list[Process]] = {}
    for process in known.values():
        below.setdefault(process.parent if process.parent in known else 0, []).append(process)
    for process in below.get(0, []):
        yield from _branch(process, below, "", "")


def _branch(
    process: Process, below: Mapping[int, list[Process]], first: str, rest: str
) -> Iterator[str]:
    words = [str(process.pid), " ".join(map(_word, process.command))]
    if process.threads:
        words.append(f"(threads {' '.join(map(str, process.threads))})")
    words += [others(process.namespaces), process.ended and f"- {process.ended}"]
    yield first + " ".join(filter(None, words))
    children = below.get(process.pid, [])
    for k, child in enumerate(children, 1):
        is_last = k == len(children)
        branch, line = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
        yield from _branch(child, below, rest + branch, rest + line)


def _word(word: str) -> str:
    shown = word if word.isprintable() else ascii(word)[1:-1]
    return shown if len(shown) <= 40 else shown[:37] + "..."
