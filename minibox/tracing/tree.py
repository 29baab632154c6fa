# SPDX-License-Identifier: Apache-2.0
"""What was seen: events in their order, and the processes as a tree."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from minibox.tracing import calls


@dataclass(frozen=True)
class Event:
    """A call, or the end of a task.

    time: seconds since the trace began. pid, tid: process and task, as the tracer's pid namespace
    numbers them. text: a line, as strace has it. call: "clone3", or "" for an end. args: its
    arguments by their names in the manual. result: what it returned, as the task saw it, or -errno;
    None when it never returned. child: the tid of the task it has made, as the tracer sees it, or
    0 where it sees none (CLONE_UNTRACED). namespaces: those that are other ones after it, numbered
    as Namespaces does. ended: "exited" or "killed"; result is the exit code or the signal then.
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
        return self.call in calls.FAMILY and (self.result or 0) > 0

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
        self._numbers: dict[str, int] = {}  # of "uts:[4026531838]"
        self._last = dict.fromkeys(calls.MAKES.values(), -1)
        self.of("self")

    def of(self, pid: int | str, made: Set[str] = frozenset()) -> dict[str, int]:
        """Those that a task is in; what cannot be looked at is left out. made: kinds of which it
        has just got new ones: the kernel gives the number of one that is gone to another."""
        found = {}
        for kind in self._last:
            try:
                name = os.readlink(f"/proc/{pid}/ns/{kind}")
            except OSError:
                continue
            if name not in self._numbers or kind in made:
                self._last[kind] += 1
                self._numbers[name] = self._last[kind]
            found[kind] = self._numbers[name]
        return found


def shown(namespaces: Mapping[str, int]) -> str:
    """ "[mnt:1 pid:1]", or "" for none."""
    words = [f"{kind}:{number}" for kind, number in namespaces.items()]
    return f"[{' '.join(words)}]" if words else ""


def others(namespaces: Mapping[str, int]) -> str:
    """Those that are not the tracer's."""
    return shown({kind: number for kind, number in namespaces.items() if number})


def lines(processes: Iterable[Process]) -> Iterator[str]:
    """The tree of processes, a line each."""
    below = _below(processes)
    # A stack and no recursion: programs may fork off children of children as often as they like.
    stack = [(process, "", "") for process in reversed(below.pop(None, []))]
    while stack:
        process, first, rest = stack.pop()
        yield first + _line(process)
        children = below.get(id(process), [])
        for k, child in enumerate(reversed(children)):
            branch, line = ("└─ ", "   ") if k == 0 else ("├─ ", "│  ")
            stack.append((child, rest + branch, rest + line))


def _below(processes: Iterable[Process]) -> dict[int | None, list[Process]]:
    """The children of each; of None those without a parent. A number may have had two owners: the
    parent is the one that was there last."""
    latest: dict[int, Process] = {}
    below: dict[int | None, list[Process]] = {None: []}
    for process in processes:
        parent = latest.get(process.parent)
        below.setdefault(id(parent) if parent else None, []).append(process)
        latest[process.pid] = process
    return below


def _line(process: Process) -> str:
    words = [str(process.pid), " ".join(map(_word, process.command))]
    if process.threads:
        words.append(f"(threads {' '.join(map(str, process.threads))})")
    words += [others(process.namespaces), process.ended and f"- {process.ended}"]
    return " ".join(filter(None, words))


def _word(word: str) -> str:
    shown = word if word.isprintable() else ascii(word)[1:-1]
    return shown if len(shown) <= 40 else shown[:37] + "..."
