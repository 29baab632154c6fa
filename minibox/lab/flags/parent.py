# SPDX-License-Identifier: Apache-2.0
"""CLONE_PARENT"""

from __future__ import annotations

import os

from minibox import syscalls as sc
from minibox.lab import Run, experiment, op, status

PPID, WAIT, SEES = "its parent", "the caller's wait for it", "its own getppid"
EXPECTED = {
    "with": {PPID: "the caller's parent", SEES: "the caller's parent", WAIT: "ECHILD"},
    "without": {PPID: "the caller", SEES: "the caller", WAIT: "takes it"},
}


@experiment(
    sc.CLONE_PARENT,
    source="clone(2), CLONE_PARENT; kernel/fork.c copy_process",
    expected=EXPECTED,
)
def parent(run: Run) -> None:
    """The parent of a child with CLONE_PARENT is the caller's parent.

    It is the caller's sister, and not the caller's to wait for. It has its sister's exit signal:
    clone3 takes no other.
    """
    who = {os.getpid(): "the caller", os.getppid(): "the caller's parent"}
    with run.clone([op("getppid"), sc.gate()]) as child:
        child.arrived()
        run.saw(PPID, who.get(int(status(child.pid)["PPid"]), "another"))
        run.saw(SEES, who.get(child.report().results[0], "another"))
        child.go()
        try:
            child.wait()
            run.saw(WAIT, "takes it")
        except ChildProcessError:
            run.saw(WAIT, "ECHILD")
