# SPDX-License-Identifier: Apache-2.0
"""The exit signal"""

from __future__ import annotations

import os
import signal

from minibox import syscalls as sc
from minibox.lab import Run, experiment
from minibox.resident import has_ended

WCLONE = -(1 << 31)  # __WCLONE of include/uapi/linux/wait.h, as a C int
SIGNALS = {"none": 0, "SIGUSR1": signal.SIGUSR1, "SIGCHLD": signal.SIGCHLD}
PLAIN, CLONE, SENT = "wait", "wait with __WCLONE", "what the parent gets at its end"
EXPECTED = {
    "none": {PLAIN: "ECHILD", CLONE: "takes it", SENT: "nothing"},
    "SIGUSR1": {PLAIN: "ECHILD", CLONE: "takes it", SENT: "SIGUSR1"},
    "SIGCHLD": {PLAIN: "takes it", CLONE: "ECHILD", SENT: "SIGCHLD"},
}


@experiment(
    0,
    source="clone(2), 'The child termination signal'; kernel/exit.c eligible_child",
    expected=EXPECTED,
    runs=dict.fromkeys(SIGNALS, 0),
    fields=("exit_signal",),
)
def exit_signal(run: Run) -> None:
    """A child whose exit signal is not SIGCHLD is not seen by a plain wait.

    At its end the parent gets the signal that was asked for, or with 0 none. Such a child is what
    wait(2) calls a clone child: __WCLONE waits for those alone, __WALL for all.
    """
    used = [signal.SIGUSR1, signal.SIGCHLD]
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, used)
    with run.clone([sc.gate()], exit_signal=SIGNALS[run.name]) as child:
        child.go()
        has_ended(child.pidfd, None)
        run.saw(PLAIN, _wait(child.pid, 0))
        run.saw(CLONE, _wait(child.pid, WCLONE))
        pending = [one.name for one in used if one in signal.sigpending()]
        run.saw(SENT, " and ".join(pending) or "nothing")


def _wait(pid: int, options: int) -> str:
    """What a wait for the child, which has ended, says; it can be asked again."""
    try:
        done = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG | options)
    except ChildProcessError:
        return "ECHILD"
    return "takes it" if done else "sees no end"
