# SPDX-License-Identifier: Apache-2.0
"""CLONE_PTRACE"""

from __future__ import annotations

import os

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

PTRACE_SEIZE = 0x4206
TRACER = "the tracer of the traced process's child"
EXPECTED = {"with": {TRACER: "the same one"}, "without": {TRACER: "none"}}


@experiment(
    sc.CLONE_PTRACE,
    source="clone(2), CLONE_PTRACE; include/linux/ptrace.h ptrace_init_task",
    expected=EXPECTED,
)
def ptrace(run: Run) -> None:
    """A traced process that clones with CLONE_PTRACE gives its tracer the child to trace as well.

    The tracer is the process that runs this; it has not asked for children (PTRACE_O_TRACEFORK).
    What it traces makes a child with the flag, and one without.
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
            if run.syscall("ptrace", PTRACE_SEIZE, pid, 0, 0, text=f"ptrace(SEIZE, {pid})") < 0:
                run.unsupported("ptrace is refused here")
            traced.go()
            until(lambda: grandchild_pid(traced, 1))
            tracer = int(status(grandchild_pid(traced, 1))["TracerPid"])
            run.saw(TRACER, {0: "none", os.getpid(): "the same one"}.get(tracer, "another"))
