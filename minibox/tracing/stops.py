# SPDX-License-Identifier: Apache-2.0
"""The door to the tracer in C (csrc/trace.c): the only module that imports it."""

from __future__ import annotations

import os
from typing import NamedTuple

from minibox._trace import ffi, lib
from minibox.tracing import calls

BORN, ENTER, LEAVE, CHILD = lib.MB_BORN, lib.MB_ENTER, lib.MB_LEAVE, lib.MB_CHILD
EXEC, EXITING, ENDED, SIGNAL = lib.MB_EXEC, lib.MB_EXITING, lib.MB_ENDED, lib.MB_SIGNAL
PAGE = os.sysconf("SC_PAGESIZE")
ADDRESSES = 1 << 64


class Stop(NamedTuple):
    """struct mb_stop of csrc/trace.h."""

    tid: int
    kind: int
    arch: int
    number: int
    args: tuple[int, ...]
    result: int


class Tracer:
    """One tracer; all of it must be done in one thread, and it begins before the process to be
    traced is made. signals: those of its own that `next` tells of, which must be blocked, as
    SIGCHLD must. With the thread the traced processes end, too."""

    def __init__(self, signals: tuple[int, ...] = ()) -> None:
        wanted = [arch << 32 | number for arch, number in calls.NUMBERED]
        mask = sum(1 << number - 1 for number in signals)
        self._tracer = lib.mb_tracer_open(wanted, len(wanted), mask)
        if self._tracer == ffi.NULL:
            raise MemoryError("no memory for a tracer")
        self._stop = ffi.new("struct mb_stop *")

    def close(self) -> None:
        tracer, self._tracer = self._tracer, ffi.NULL
        if tracer != ffi.NULL:
            lib.mb_tracer_close(tracer)

    def seize(self, pid: int) -> None:
        """Trace a process and all that come from it. OSError."""
        _check(lib.mb_trace_seize(pid), "ptrace")

    def next(self) -> Stop | None:
        """What comes next; None when no task is left. OSError."""
        stop = self._stop
        if not _check(lib.mb_trace_next(self._tracer, stop), "ptrace"):
            return None
        args = tuple(stop.argument)
        return Stop(stop.tid, stop.kind, stop.arch, stop.number, args, stop.result)

    def go(self, tid: int) -> None:
        """Let a task that stands still go on; one that was killed meanwhile needs no leave."""
        lib.mb_trace_go(self._tracer, tid)


def read(tid: int, address: int, size: int) -> bytes:
    """So many bytes of a task's memory, or fewer, where it ends or may not be read."""
    data = b""
    while len(data) < size and 0 < address + len(data) < ADDRESSES:
        at = address + len(data)
        count = min(size - len(data), PAGE - at % PAGE)
        buffer = ffi.new("char[]", count)
        done = lib.mb_trace_read(tid, at, buffer, count)
        if done <= 0:
            break
        data += bytes(ffi.buffer(buffer, done))
    return data


def text(tid: int, address: int, most: int = 4096) -> bytes | None:
    """A text up to its NUL; None when it cannot be read to there within `most` bytes."""
    data = b""
    while len(data) < most:
        at = address + len(data)
        more = read(tid, at, min(256, PAGE - at % PAGE))
        if not more:
            return None
        head, end, _ = more.partition(b"\0")
        data += head
        if end:
            return data
    return data


def _check(result: int, what: str) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result), what)
    return result
