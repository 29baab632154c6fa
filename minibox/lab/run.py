# SPDX-License-Identifier: Apache-2.0
"""One run of an experiment: what it may do, and what it writes down."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from errno import E2BIG, EINVAL, ENOSYS
from typing import TYPE_CHECKING, Any, NamedTuple

from minibox import core, primitive
from minibox import syscalls as sc
from minibox.errors import Unsupported
from minibox.lab import look, words
from minibox.numbers import NUMBERS
from minibox.plan import Op
from minibox.primitive import WALL, Clone
from minibox.resident import has_ended
from minibox.resources import leftovers

if TYPE_CHECKING:
    from minibox.tracing import Event

# A child of these has no exit signal: clone3(2) insists.
SILENT = sc.CLONE_THREAD | sc.CLONE_PARENT
END = 10.0


class Figure(NamedTuple):
    """A picture that runs put points into. x, y: what the axes show, with the unit. log: "x", "y",
    "xy" or "". bars: x is a text, and each point a bar."""

    title: str
    x: str
    y: str
    log: str = ""
    bars: bool = False


@dataclass
class Notes:
    """What a run has written down; plain data, as it goes through a pipe as JSON.

    saw: what the verdict is about. measured: name -> [value, unit], evidence only. calls: each
    clone, with the child's steps. points: [figure, line, x, y]. unsupported: why this kernel or
    machine cannot do it, or "". failed: what went wrong that no experiment foresaw, or "". cost:
    what cost.py has measured. skipped: what it cannot show here -> why not.
    """

    saw: dict[str, Any]
    measured: dict[str, list[Any]]
    calls: list[dict[str, Any]]
    points: list[list[Any]]
    unsupported: str = ""
    failed: str = ""
    cost: dict[str, Any] | None = None
    skipped: dict[str, str] = field(default_factory=dict)

    @classmethod
    def empty(cls) -> Notes:
        return cls({}, {}, [], [])

    def add(self, more: Notes) -> None:
        """What was written down elsewhere."""
        self.saw.update(more.saw)
        self.measured.update(more.measured)
        self.calls += more.calls
        self.points += more.points


class Run:
    """What an experiment's function gets.

    name: which run it is. flags: the flags of this run, without those that are taken out, as are
    the fields in left_out (the tests do that: an experiment must notice). owner: PID-START of the
    lab, as names of cgroups have it. Directories: the working directory is an empty tmpfs.
    """

    def __init__(
        self, name: str, flags: int, taken_out: int = 0, left_out: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.flags = flags & ~taken_out
        self.taken_out = taken_out
        self.left_out = left_out
        self.owner = f"{os.getpid()}-{leftovers.start_time(os.getpid())}"
        self.notes = Notes.empty()

    def saw(self, what: str, value: str | int | bool | list[Any] | None) -> None:
        """What the verdict compares with the expectation."""
        self.notes.saw[what] = value

    def skipped(self, what: str, reason: str) -> None:
        """What this kernel or machine cannot show, and why; the verdict is about the rest."""
        self.notes.skipped[what] = reason

    def called(self, text: str, result: int | str) -> None:
        """A call that was made by other means, by the C library say: its result, -errno, or "?" for
        one that does not return."""
        if isinstance(result, str):
            self.notes.calls.append({"call": text, "returned": result, "steps": []})
        else:
            self._wrote(text, max(0, -result), result)

    def measured(self, what: str, value: float, unit: str) -> None:
        """A figure that goes with it, and decides nothing."""
        self.notes.measured[what] = [value, unit]

    def point(self, figure: Figure, line: str, x: float | str, y: float) -> None:
        """A point of a line (or a bar) of a figure; runs may draw into the same one."""
        self.notes.points.append([list(figure), line, x, y])

    def unsupported(self, reason: str) -> None:
        """Not on this kernel or machine, and why. Raises Unsupported."""
        raise Unsupported(reason)

    @contextmanager
    def clone(self, program: Sequence[Op], flags: int | None = None, **how: Any) -> Iterator[Clone]:
        """minibox.clone, written down; with the flags of this run unless others are given. At the
        end of the block the child is killed, if need be, and reaped; a thread must end by itself,
        its gate is opened. OSError, as the kernel refuses."""
        bits = (self.flags if flags is None else flags) & ~self.taken_out
        how = {field: value for field, value in how.items() if field not in self.left_out}
        how.setdefault("exit_signal", 0 if bits & SILENT else core.SIGCHLD)
        reach = primitive.reaching(bits, exact=how.get("exact", False))
        line = words.clone(reach, how)
        planned = words.steps(tuple(program), [], 0)
        try:
            child = primitive.clone(program, bits, **how)
        except OSError as error:
            self._wrote(line, error.errno or 0)
            raise
        call = self._wrote(line, 0, child.pid)
        call["steps"] = planned
        try:
            yield child
        finally:
            self._end(child, bits)
            report = child.report()
            child.close()
            call["steps"] = words.steps(tuple(program), report.results, report.step)

    def probe(self, flags: int, since: str, **how: Any) -> None:
        """Unsupported if this kernel does not know these flags; since: the Linux that brought them.
        OSError, as it refuses otherwise."""
        try:
            with self.clone([], flags, **how):
                pass
        except OSError as error:
            if error.errno not in (EINVAL, ENOSYS, E2BIG):
                raise
            self.unsupported(f"it came with Linux {since}, and this kernel refuses it")

    def timed(
        self, program: Sequence[Op], flags: int | None = None, *, times: int = 1, **how: Any
    ) -> list[float]:
        """How long the call keeps its caller, in seconds: for so many children, one after the
        other, and one before them that does not count. Written down once, however often it is
        measured. OSError."""
        bits = (self.flags if flags is None else flags) & ~self.taken_out
        how.setdefault("exit_signal", 0 if bits & SILENT else core.SIGCHLD)
        took = []
        for _ in range(times + 1):
            began = time.perf_counter()
            child = primitive.clone(program, bits, **how)
            took.append(time.perf_counter() - began)
            self._end(child, bits)
            child.close()
        line = f"{words.clone(primitive.reaching(bits, exact=False), how)}, timed"
        steps = words.steps(tuple(program), [], -1)
        if not any(line == call["call"] and steps == call["steps"] for call in self.notes.calls):
            self._wrote(line, 0, child.pid)["steps"] = steps
        return took[1:]

    def syscall(self, name: str, *args: int | bytes | bytearray | None, text: str = "") -> int:
        """Any system call of this process, written down (as `text` if given): its result, or
        -errno."""
        try:
            result = core.syscall(NUMBERS[name], *args)
        except OSError as error:
            result = -(error.errno or 0)
        self.called(text or f"{name}({', '.join(map(str, args))})", result)
        return result

    def watched(self, does: Callable[[], object]) -> list[Event]:
        """Do it in a child of this process, and give what a tracer outside saw of that child and of
        all that came from it; that is written down, and what is written down there. Unsupported."""
        from minibox import tracing

        memory = os.memfd_create("notes")

        def do() -> None:
            self.notes = Notes.empty()
            try:
                does()
            except Unsupported as error:
                self.notes.unsupported = str(error)
            except Exception as error:  # noqa: BLE001 - the parent raises it
                self.notes.failed = f"{type(error).__name__}: {error}"
            os.write(memory, json.dumps(vars(self.notes)).encode())

        seen = tracing.trace(do)
        with open(memory, "rb") as file:
            file.seek(0)
            assert seen.exit_code == 0, f"what was watched ended with {seen.exit_code}"
            said = Notes(**json.loads(file.read()))
        if said.unsupported:
            raise Unsupported(said.unsupported)
        if said.failed:
            raise RuntimeError(said.failed)
        self.notes.add(said)
        steps = [{"call": f"{event.tid} {event.text}", "returned": ""} for event in seen.events]
        self.notes.calls.append({"call": "seen from outside", "returned": "", "steps": steps})
        return seen.events

    def _wrote(self, line: str, error: int, result: int = 0) -> dict[str, Any]:
        returned = f"-1 {words.error(error)}" if error else str(result)
        call = {"call": line, "returned": returned, "steps": []}
        self.notes.calls.append(call)
        return call

    def _end(self, child: Clone, bits: int) -> None:
        try:
            child.go()
        except OSError:
            pass  # it is gone
        if bits & sc.CLONE_THREAD:
            path = f"/proc/self/task/{child.pid}"
            if not look.until(lambda: not os.path.exists(path), END):
                raise TimeoutError(f"thread {child.pid} does not end")
            return
        try:
            pidfd = core.pidfd_open(child.pid)
        except ProcessLookupError:
            return
        try:
            core.pidfd_send_signal(pidfd, signal.SIGKILL)
            has_ended(pidfd, END)
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED | WALL)
        except (ProcessLookupError, ChildProcessError):
            pass  # it is reaped, or another's child (CLONE_PARENT)
        finally:
            os.close(pidfd)
