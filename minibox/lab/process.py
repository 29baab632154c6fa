# SPDX-License-Identifier: Apache-2.0
"""A process that an experiment watches from outside, down to its end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from minibox.lab.run import Run

Say = Callable[[list[int]], None]
Act = Callable[[Say, int], object]


class Process:
    """What is known outside. pid: its own. said: what it has said. `end` tells it to end."""

    def __init__(self, pid: int, said: list[int], hold: int) -> None:
        self.pid = pid
        self.said = said
        self._hold = hold

    def end(self) -> None:
        """Close the pipe that it, or what it has made, reads from."""
        if self._hold >= 0:
            os.close(self._hold)
            self._hold = -1


@contextmanager
def process(run: Run, act: Act) -> Iterator[Process]:
    """Fork a process that does `act(say, end)` and then exits as a group.

    `say` sends numbers out, once, tids for example; `end` is a pipe that ends when `Process.end` is
    called. Its clones up to then are written down with this run's. At the end of the block it is
    told to end, and reaped. RuntimeError when it says nothing.
    """
    says, said = os.pipe()
    end, hold = os.pipe()
    known = len(run.notes.calls)
    pid = os.fork()
    if pid == 0:
        os.close(hold)
        os.close(says)
        _be(run, act, said, end, known)
    os.close(said)
    os.close(end)
    with open(says, encoding="utf-8") as file:
        line = file.readline()
    try:
        words = json.loads(line or '{"failed": "it said nothing"}')
        if "failed" in words:
            raise RuntimeError(words["failed"])
        run.called("fork()", pid)
        run.notes.calls.extend(words["calls"])
        made = Process(pid, words["said"], hold)
        hold = -1
        try:
            yield made
        finally:
            made.end()
    finally:
        if hold >= 0:
            os.close(hold)
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass  # the experiment has waited for it


def _be(run: Run, act: Act, said: int, end: int, known: int) -> NoReturn:
    def write(words: dict[str, object]) -> None:
        with open(said, "w", encoding="utf-8", closefd=False) as file:
            file.write(json.dumps(words) + "\n")

    try:
        act(lambda n: write({"said": n, "calls": run.notes.calls[known:]}), end)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is told outside
        write({"failed": f"{type(error).__name__}: {error}"})
    finally:
        os._exit(0)
