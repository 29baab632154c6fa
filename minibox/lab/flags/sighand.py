# SPDX-License-Identifier: Apache-2.0
"""CLONE_SIGHAND"""

from __future__ import annotations

import os
import signal
import struct

from minibox import syscalls as sc
from minibox.lab import Run, experiment, kcmp, op, sigaction, signals
from minibox.plan import Memory

KCMP, ACTION = "handlers (kcmp)", "the parent's action after the child's sigaction"
MASK, PENDING = (
    "what the child blocks is blocked in the parent",
    "what is sent to the child is pending",
)
EXPECTED = {
    "with": {KCMP: "same", ACTION: "ignore", MASK: False, PENDING: "for the child alone"},
    "without": {KCMP: "another", ACTION: "default", MASK: False, PENDING: "for the child alone"},
}


@experiment(
    sc.CLONE_SIGHAND,
    source="clone(2), CLONE_SIGHAND; kernel/fork.c copy_sighand",
    expected=EXPECTED,
    also=sc.CLONE_VM,
)
def sighand(run: Run) -> None:
    """The sigaction of a child with CLONE_SIGHAND is its parent's, too; mask and pending signals
    stay apart.

    The table of handlers is what they share. A handler is an address, so the kernel insists on
    CLONE_VM with it. Which signals are blocked is of a thread, which are pending of a thread or a
    process: neither is in that table.
    """
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    mask = Memory(struct.pack("=Q", 1 << signal.SIGUSR1 - 1), "[USR1]")
    program = [
        sigaction(signal.SIGUSR2, signal.SIG_IGN),
        op("rt_sigprocmask", sc.SIG_SETMASK, mask, None, 8),
        sc.gate(),
    ]
    with run.clone(program) as child:
        child.arrived()
        run.saw(KCMP, kcmp(child.pid, "SIGHAND"))
        ignored = signal.SIGUSR2 in signals("SigIgn")
        run.saw(ACTION, "ignore" if ignored else "default")
        blocked = signals("SigBlk", child.pid) & signals("SigBlk")
        run.saw(MASK, signal.SIGUSR1 in blocked)
        os.kill(child.pid, signal.SIGUSR1)
        where = {"the child": child.pid, "the parent": os.getpid()}
        pending = [who for who, pid in where.items() if signal.SIGUSR1 in signals("ShdPnd", pid)]
        run.saw(PENDING, f"for {' and '.join(pending)}{' alone' if len(pending) == 1 else ''}")
