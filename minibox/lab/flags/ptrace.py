# SPDX-License-Identifier: Apache-2.0
"""CLONE_PTRACE"""

from __future__ import annotations

from minibox import syscalls as sc
from minibox.lab import Run, experiment
from minibox.lab.traced import traced, tracer_of_made

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
    with traced(run) as maker:
        run.saw(TRACER, tracer_of_made(maker))
