# SPDX-License-Identifier: Apache-2.0
"""CLONE_UNTRACED"""

from __future__ import annotations

import os
import signal

from minibox import syscalls as sc
from minibox.lab import (
    Block,
    Run,
    experiment,
    function,
    grandchild,
    grandchild_pid,
    status,
    until,
)

PTRACE_SEIZE, PTRACE_CONT = 0x4206, 7
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
    with Block(shared=True) as word:
        wait = function("lab_wait")
        program = [
            sc.gate(),
            grandchild(run.flags, wait, word.pointer()),
            sc.call(wait, word.pointer()),
        ]
        with run.clone(program, 0) as traced:
            traced.arrived()
            pid = traced.pid
            text = f"ptrace(SEIZE, {pid}, 0, TRACEFORK|TRACEVFORK|TRACECLONE)"
            if run.syscall("ptrace", PTRACE_SEIZE, pid, 0, OPTIONS, text=text) < 0:
                run.unsupported("ptrace is refused here")
            traced.go()
            # A tracee that has an event stops before its call returns.
            until(lambda: grandchild_pid(traced, 1) or _event(pid))
            event = 0 if grandchild_pid(traced, 1) else _event(pid)
            run.saw(EVENT, event == PTRACE_EVENT_FORK)
            if event:
                run.syscall("ptrace", PTRACE_CONT, pid, 0, 0, text=f"ptrace(CONT, {pid})")
            until(lambda: grandchild_pid(traced, 1))
            tracer = int(status(grandchild_pid(traced, 1))["TracerPid"])
            run.saw(TRACER, {0: "none", os.getpid(): "the same one"}.get(tracer, "another"))


def _event(pid: int) -> int:
    """The ptrace event at which the process has stopped, or 0."""
    info = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
    return info.si_status >> 8 if info and info.si_status & 0xFF == signal.SIGTRAP else 0
