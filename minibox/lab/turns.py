# SPDX-License-Identifier: Apache-2.0
"""Children that share one CPU: two that take turns, or some that do not give it up."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from minibox import syscalls as sc
from minibox.lab.look import kcmp, status, until
from minibox.lab.memory import Block, function
from minibox.lab.run import Run
from minibox.lab.words import op
from minibox.plan import Memory, Op
from minibox.primitive import Clone

# Words that all sides have, whatever they share: whose turn it is, or how many spin; and from here
# on what the rounds took.
WORD, TIMES = 0, 16
PATIENCE = 30.0


class Walk(NamedTuple):
    """What a side walks in its turn: cache lines from an address on, in a random order."""

    address: int = 0
    lines: int = 0


class Seen(NamedTuple):
    """What was seen of a child. memory: kcmp. cpus: Cpus_allowed_list. The switches are those
    while it was at work."""

    memory: str
    cpus: str
    voluntary: int
    involuntary: int


class Played(NamedTuple):
    """nanoseconds: of the fastest round, which nothing else was in the way of. counted: what the
    sides have added to a word of the parent's."""

    nanoseconds: float
    counted: int
    seen: list[Seen]


def play(run: Run, rounds: int, walks: Sequence[Walk], *, by_pipe: bool = False) -> Played:
    """Let one side a walk take so many turns, by pipes or by a futex; one alone passes each turn
    to itself, with the same calls. OSError."""
    count = len(walks)
    with (
        Block(4 * (TIMES + count * rounds), shared=True) as table,
        Block() as own,
        ExitStack() as stack,
    ):
        pipes = [os.pipe() for _ in walks] if by_pipe else []
        for fd in (fd for pipe in pipes for fd in pipe):
            stack.callback(os.close, fd)
        jobs = []
        for k, walk in enumerate(walks):
            after = (k + 1) % count
            times = table.address + 4 * (TIMES + k * rounds)
            layout = struct.pack(
                "=2i4I5Q",
                *((pipes[k][0], pipes[after][1]) if pipes else (-1, -1)),
                *(k, 1 - k, after, rounds),
                *(table.address, *walk, own.address, times),
            )
            side = Memory(layout, f"side {k + 1}")
            # A set that both walk is woven by the first.
            weaves = walk.lines and walk not in walks[:k]
            before = [sc.call(function("lab_weave"), side)] if weaves else []
            jobs.append([*before, sc.gate(1), sc.call(function("lab_take_turns"), side)])
        seen = on_one_cpu(run, jobs, lambda: os.write(pipes[0][1], b"!") if pipes else 0)
        # The first round has the wait for the start in it.
        took = [table.word(TIMES + k) for k in range(1, rounds)]
        return Played(min(took), own.word(), seen)


def spin(run: Run, count: int, milliseconds: int) -> Played:
    """Let so many children spin, each for so much of its CPU time once all are there. OSError."""
    with Block(shared=True) as table, Block() as own:
        layout = (table.address, own.address, milliseconds * 1_000_000, count)
        spinner = Memory(struct.pack("=3QI4x", *layout), f"{milliseconds} ms")
        job = [sc.gate(1), sc.call(function("lab_spin"), spinner)]
        seen = on_one_cpu(run, [job] * count)
        return Played(0, own.word(), seen)


def on_one_cpu(
    run: Run, jobs: Sequence[list[Op]], start: Callable[[], object] = lambda: None
) -> list[Seen]:
    """Make a child for each job, with one CPU for all, open the gate in it, and see what each has
    done once all are through. OSError."""
    cpu = max(os.sched_getaffinity(0))
    mask = (1 << cpu).to_bytes((cpu // 64 + 1) * 8, "little")
    pin = op("sched_setaffinity", 0, len(mask), Memory(mask, f"[{cpu}]"))
    with ExitStack() as stack:
        children = []
        for job in jobs:
            child = stack.enter_context(run.clone([pin, *job, sc.gate(2)]))
            if not child.arrived():
                raise TimeoutError("a child does not come to its gate")
            children.append(child)
        before = [status(child.pid) for child in children]
        for child in children:
            child.go()
        start()
        for child, job in zip(children, jobs, strict=True):
            _through(child, len(job) + 1)
        return [
            _seen(child, then, status(child.pid))
            for child, then in zip(children, before, strict=True)
        ]


def _through(child: Clone, last: int) -> None:
    """Wait until it is at its last step."""
    if not until(lambda: child.report().step == last or child.report().error, PATIENCE):
        raise TimeoutError("a child does not come to its end")
    error = child.report().error
    if error:
        raise OSError(error, os.strerror(error))


def _seen(child: Clone, before: dict[str, str], after: dict[str, str]) -> Seen:
    voluntary, involuntary = (
        int(after[kind]) - int(before[kind])
        for kind in ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")
    )
    return Seen(kcmp(child.pid, "VM"), after["Cpus_allowed_list"], voluntary, involuntary)
