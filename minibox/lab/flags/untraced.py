# SPDX-License-Identifier: Apache-2.0
"""CLONE_UNTRACED"""

from __future__ import annotations

import os
import signal

from minibox import syscalls as sc
from minibox.lab import Run, experiment, until
from minibox.lab.traced import made_by, traced, tracer_of_made

PTRACE_CONT = 7
PTRACE_O_TRACEFORK, PTRACE_O_TRACEVFORK, PTRACE_O_TRACECLONE = 2, 4, 8
OPTIONS = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE
PTRACE_EVENT_FORK = 1
EVENT, TRACER = "the tracer is told of the fork", "the tracer of the child"
EXPECTED = {
    "with": {EVENT: False, TRACER: "none"},
    "without": {EVENT: True, TRACER: "the same one"},
}


@experiment(
    sc.CLONE_UNTRACED,
    source="clone(2), CLONE_UNTRACED; kernel/fork.c kernel_clone",
    expected=EXPECTED,
)
def untraced(run: Run) -> None:
    """A tracer that asks for all children of a process does not get one made with CLONE_UNTRACED.

    The tracer, which is the process that runs this, has set PTRACE_O_TRACEFORK, TRACEVFORK and
    TRACECLONE. The kernel makes its own threads with this flag.
    """
    with traced(run, OPTIONS, "TRACEFORK|TRACEVFORK|TRACECLONE") as maker:
        pid = maker.pid
        # A tracee that has an event stops before its call returns.
        until(lambda: made_by(maker) or _event(pid))
        event = 0 if made_by(maker) else _event(pid)
        run.saw(EVENT, event == PTRACE_EVENT_FORK)
        if event:
            run.syscall("ptrace", PTRACE_CONT, pid, 0, 0, text=f"ptrace(CONT, {pid})")
        run.saw(TRACER, tracer_of_made(maker))


def _event(pid: int) -> int:
    """The ptrace event at which the process has stopped, or 0."""
    info = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
    return info.si_status >> 8 if info and info.si_status & 0xFF == signal.SIGTRAP else 0
