# SPDX-License-Identifier: Apache-2.0
"""CLONE_AUTOREAP"""

from __future__ import annotations

import os
import select
import signal

from minibox import syscalls as sc
from minibox.lab import Run, experiment, until

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
        poll = select.poll()
        poll.register(child.pidfd, select.POLLIN)
        poll.poll()
        is_auto = bool(run.flags & sc.CLONE_AUTOREAP)
        is_gone = is_auto and until(lambda: not os.path.exists(f"/proc/{child.pid}"))
        run.saw(AFTER, "nothing" if is_gone else "a zombie")
        try:
            child.wait()
            run.saw(WAIT, "takes it")
        except ChildProcessError:
            run.saw(WAIT, "ECHILD")
