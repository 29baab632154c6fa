# SPDX-License-Identifier: Apache-2.0
"""CLONE_NEWPID"""

from __future__ import annotations

import os
import signal

from minibox import syscalls as sc
from minibox.lab import Run, experiment, look, op, outcome, until

EXPECTED = {
    "with": {
        "getpid": "1",
        "getppid": "0",
        "its pids": 2,
        "SIGTERM without a handler": "ignored",
        "the other, when it dies": "killed",
        "another child after that": "ENOMEM",
    },
    "without": {
        "getpid": "the parent knows it so",
        "getppid": "the parent's",
        "its pids": 1,
        "SIGTERM without a handler": "killed",
        "the other, when it dies": "alive",
        "another child after that": "done",
    },
}


@experiment(
    sc.CLONE_NEWPID,
    source="pid_namespaces(7); kernel/pid_namespace.c zap_pid_ns_processes",
    expected=EXPECTED,
)
def newpid(run: Run) -> None:
    """The first process of a new pid namespace is pid 1 in it: no signal that it has no handler for
    ends it, and with it end all the others, for good.

    It has a pid in every namespace above as well (NSpid). The parent puts a second child into the
    namespace of the first by setns(2), which counts for the children that it makes from then on,
    and kills the first. The kernel ends the second before the first is gone, and no other can be
    made where pid 1 is dead.
    """
    _signalled(run)
    with run.clone([op("getpid"), op("getppid"), sc.gate()]) as first:
        first.arrived()
        pid, parent = first.report().results[:2]
        run.saw("getpid", "the parent knows it so" if pid == first.pid else str(pid))
        run.saw("getppid", "the parent's" if parent == os.getpid() else str(parent))
        run.saw("its pids", len(look.status(first.pid)["NSpid"].split()))
        space = os.open(f"/proc/{first.pid}/ns/pid", os.O_RDONLY)
        run.syscall("setns", space, sc.CLONE_NEWPID, text="setns(the first one's, CLONE_NEWPID)")
        with run.clone([sc.gate()], 0) as second:
            second.arrived()
            os.kill(first.pid, signal.SIGKILL)
            # The first one's end is reported when the second one is gone and reaped.
            until(lambda: _ended(first.pid) or _ended(second.pid))
            run.saw("the other, when it dies", "killed" if _ended(second.pid) else "alive")
    run.saw("another child after that", _another(run))


def _signalled(run: Run) -> None:
    """The signal is there before the child goes on: it dies of it, or ends with 0."""
    with run.clone([sc.rt_sigprocmask_unblock_all(), sc.gate()]) as child:
        child.arrived()
        os.kill(child.pid, signal.SIGTERM)
        child.go()
        killed = child.wait().signal == signal.SIGTERM
        run.saw("SIGTERM without a handler", "killed" if killed else "ignored")


def _ended(pid: int) -> bool:
    how = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, pid, how) is not None


def _another(run: Run) -> str:
    try:
        with run.clone([], 0):
            return "done"
    except OSError as error:
        return outcome(-(error.errno or 0))
