# SPDX-License-Identifier: Apache-2.0
"""CLONE_PIDFD_AUTOKILL"""

from __future__ import annotations

import os

from minibox import core
from minibox import syscalls as sc
from minibox.lab import Run, experiment
from minibox.resident import has_ended

CLOSED = "when its pidfd is closed, the child"
EXPECTED = {"with": {CLOSED: "is killed"}, "without": {CLOSED: "lives"}}


@experiment(
    sc.CLONE_PIDFD_AUTOKILL,
    source="Linux 7.1, fs/pidfs.c pidfs_file_release; kernel/fork.c copy_process",
    expected=EXPECTED,
    also=sc.CLONE_PIDFD | sc.CLONE_AUTOREAP | sc.CLONE_NNP,
    order=3,
)
def pidfd_autokill(run: Run) -> None:
    """A child with CLONE_PIDFD_AUTOKILL is killed when the last copy of the pidfd that clone3 gave
    is closed.

    So it cannot outlive whoever holds that descriptor. A descriptor of pidfd_open does not count.
    The flag needs CLONE_AUTOREAP, as nobody may be there to wait, and CLONE_NNP or CAP_SYS_ADMIN.
    """
    run.probe(run.flags, "7.1", exit_signal=0)
    with run.clone([sc.gate()], exit_signal=0) as child:
        child.arrived()
        watched = core.pidfd_open(child.pid)
        os.close(child.pidfd)
        child.pidfd = -1
        kills = bool(run.flags & sc.CLONE_PIDFD_AUTOKILL)
        run.saw(CLOSED, "is killed" if has_ended(watched, 10 if kills else 0) else "lives")
        os.close(watched)
