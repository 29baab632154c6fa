# SPDX-License-Identifier: Apache-2.0
"""CLONE_PID and CLONE_IDLETASK, which are no more"""

from __future__ import annotations

import os

from minibox import syscalls as sc
from minibox.lab import Run, experiment, op

CLONE_PID = sc.CLONE_PIDFD  # 0x1000, with one meaning after the other
PID, GETS = "the child's pid", "the parent gets"
EXPECTED = {
    "with": {PID: "its own", GETS: "a pidfd"},
    "without": {PID: "its own", GETS: "nothing"},
}


@experiment(
    CLONE_PID,
    source="clone(2), CLONE_PID; Linux 2.4 kernel/fork.c, 5.2 CLONE_PIDFD",
    expected=EXPECTED,
    order=2,
)
def pid(run: Run) -> None:
    """The bit that was CLONE_PID gives no child its parent's pid any more: it is CLONE_PIDFD's now.

    Before Linux 2.5.16 the child had the pid of its parent; from 2.3.21 on only the boot process
    could ask for that. The kernel then had the bit for itself for a while, as CLONE_IDLETASK, and
    took no notice of it in calls. Since 5.2 an old program that sets it gets a descriptor that it
    knows nothing of, and the number of it where it gave parent_tid.
    """
    with run.clone([op("getpid"), sc.gate()], call=2, exact=True) as child:
        child.arrived()
        is_same = child.report().results[0] == os.getpid()
        run.saw(PID, "its parent's" if is_same else "its own")
        run.saw(GETS, "a pidfd" if child.pidfd >= 0 else "nothing")
