# SPDX-License-Identifier: Apache-2.0
"""CLONE_CLEAR_SIGHAND"""

from __future__ import annotations

import signal

from minibox import syscalls as sc
from minibox.lab import (
    Block,
    Run,
    experiment,
    function,
    grandchild,
    grandchild_pid,
    sigaction,
    signals,
)

CAUGHT, IGNORED = "what its maker catches", "what its maker ignores"
EXPECTED = {
    "with": {CAUGHT: "default", IGNORED: "ignored"},
    "without": {CAUGHT: "caught", IGNORED: "ignored"},
}


@experiment(
    sc.CLONE_CLEAR_SIGHAND,
    source="clone(2), CLONE_CLEAR_SIGHAND; kernel/signal.c flush_signal_handlers",
    expected=EXPECTED,
)
def clear_sighand(run: Run) -> None:
    """A child with CLONE_CLEAR_SIGHAND begins without its parent's handlers; what is ignored stays
    ignored.

    As after exec: a handler would be an address in memory that the child may soon not have. A child
    that has set a handler for SIGUSR1 and ignores SIGUSR2 makes a child of its own, whose
    /proc/PID/status is read.
    """
    run.probe(run.flags, "5.5")
    with Block(shared=True) as word:
        program = [
            sigaction(signal.SIGUSR1, function("lab_add")),
            sigaction(signal.SIGUSR2, signal.SIG_IGN),
            grandchild(run.flags, function("lab_wait"), word.pointer()),
            sc.gate(),
        ]
        with run.clone(program, 0) as maker:
            maker.arrived()
            child = grandchild_pid(maker, 2)
            caught = signal.SIGUSR1 in signals("SigCgt", child)
            run.saw(CAUGHT, "caught" if caught else "default")
            ignored = signal.SIGUSR2 in signals("SigIgn", child)
            run.saw(IGNORED, "ignored" if ignored else "default")
            word.wake(0)
