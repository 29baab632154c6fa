# SPDX-License-Identifier: Apache-2.0
"""CLONE_NNP"""

from __future__ import annotations

from minibox import syscalls as sc
from minibox.lab import Run, experiment, status

CHILD, PARENT = "NoNewPrivs of the child", "and of its parent"
EXPECTED = {"with": {CHILD: "1", PARENT: "0"}, "without": {CHILD: "0", PARENT: "0"}}


@experiment(
    sc.CLONE_NNP,
    source="Linux 7.1, kernel/fork.c copy_process; PR_SET_NO_NEW_PRIVS(2const)",
    expected=EXPECTED,
    order=3,
)
def nnp(run: Run) -> None:
    """A child with CLONE_NNP has no_new_privs from its first moment on; its parent does not get it.

    No exec of such a process gives it more rights. With prctl it would have to ask for that itself.
    """
    if status()["NoNewPrivs"] != "0":
        run.unsupported("no_new_privs is set already")
    run.probe(run.flags, "7.1")
    with run.clone([sc.gate()]) as child:
        run.saw(CHILD, status(child.pid)["NoNewPrivs"])
        run.saw(PARENT, status()["NoNewPrivs"])
