# SPDX-License-Identifier: Apache-2.0
"""A process that is traced while it clones: this process is the tracer (ptrace(2))."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from minibox import syscalls as sc
from minibox.lab.look import status, until
from minibox.lab.memory import Block, function
from minibox.lab.nested import grandchild, grandchild_pid
from minibox.lab.run import Run
from minibox.primitive import Clone

PTRACE_SEIZE = 0x4206
MADE = 1  # the step that clones


@contextmanager
def traced(run: Run, options: int = 0, names: str = "") -> Iterator[Clone]:
    """A child that is traced with these options (PTRACE_O_*, and how they are shown) and has been
    let go: it makes one of its own with the run's flags. Both wait until they are killed.
    Unsupported where ptrace is refused."""
    with Block(shared=True) as word:
        wait = function("lab_wait")
        program = [
            sc.gate(),
            grandchild(run.flags, wait, word.pointer()),
            sc.call(wait, word.pointer()),
        ]
        with run.clone(program, 0) as maker:
            maker.arrived()
            text = f"ptrace(SEIZE, {maker.pid}{names and f', 0, {names}'})"
            if run.syscall("ptrace", PTRACE_SEIZE, maker.pid, 0, options, text=text) < 0:
                run.unsupported("ptrace is refused here")
            maker.go()
            yield maker


def made_by(maker: Clone) -> int:
    """The pid of what it has made; 0 before. OSError."""
    return grandchild_pid(maker, MADE)


def tracer_of_made(maker: Clone) -> str:
    """Who traces that, once it is made: "none", "the same one" or "another". OSError."""
    until(lambda: made_by(maker))
    tracer = int(status(made_by(maker))["TracerPid"])
    return {0: "none", os.getpid(): "the same one"}.get(tracer, "another")
