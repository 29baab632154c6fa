# SPDX-License-Identifier: Apache-2.0
"""CLONE_AUTOREAP"""

from __future__ import annotations

import os
import signal

from minibox import syscalls as sc
from minibox.lab import Run, experiment, until
from minibox.primitive import WALL
from minibox.resident import has_ended

AFTER, WAIT = "what is left of it at its end", "a wait for it"
EXPECTED = {
    "with": {AFTER: "nothing", WAIT: "ECHILD"},
    "without": {AFTER: "a zombie", WAIT: "takes it"},
}


@experiment(
    sc.CLONE_AUTOREAP,
    source="Linux 7.1, kernel/fork.c copy_process, kernel/signal.c do_notify_parent",
    expected=EXPECTED,
    also=sc.CLONE_PIDFD,
    order=3,
)
def autoreap(run: Run) -> None:
    """The kernel reaps a child with CLONE_AUTOREAP itself: it leaves no zombie, and nobody waits.

    It has no exit signal. Its pidfd tells of its end, and how it ended.
    """
    run.probe(run.flags, "7.1", exit_signal=0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with run.clone([sc.gate()], exit_signal=0) as child:
        child.go()
        has_ended(child.pidfd, None)
        # The pidfd is readable a moment before the kernel has decided.
        until(lambda: _is_zombie(child.pid) or not os.path.exists(f"/proc/{child.pid}"))
        run.saw(AFTER, "a zombie" if _is_zombie(child.pid) else "nothing")
        try:
            child.wait()
            run.saw(WAIT, "takes it")
        except ChildProcessError:
            run.saw(WAIT, "ECHILD")


def _is_zombie(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG | WALL) is not None
    except ChildProcessError:
        return False
