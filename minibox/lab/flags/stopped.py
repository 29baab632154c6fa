# SPDX-License-Identifier: Apache-2.0
"""CLONE_STOPPED, which is no more"""

from __future__ import annotations

from minibox import syscalls as sc
from minibox.lab import Run, experiment, op, own_namespace

CLONE_STOPPED = sc.CLONE_NEWCGROUP  # 0x02000000, with one meaning after the other
STATE, CGROUP = "the child", "its cgroup namespace"
EXPECTED = {
    "with": {STATE: "runs", CGROUP: "new"},
    "without": {STATE: "runs", CGROUP: "the parent's"},
}


@experiment(
    CLONE_STOPPED,
    source="clone(2), CLONE_STOPPED: Linux 2.6.0 to 2.6.37; cgroup_namespaces(7)",
    expected=EXPECTED,
    order=2,
)
def stopped(run: Run) -> None:
    """The bit that was CLONE_STOPPED stops no child any more: it makes a cgroup namespace.

    From Linux 2.6.0 to 2.6.37 the child began as if by SIGSTOP, and waited for SIGCONT. Linux 4.6
    gave the bit to CLONE_NEWCGROUP: an old program gets a namespace, or without root EPERM.
    """
    with run.clone([op("getpid"), sc.gate()], call=2) as child:
        run.saw(STATE, "runs" if child.arrived() else "is stopped")
        is_new = own_namespace("cgroup", child.pid)
        run.saw(CGROUP, "new" if is_new else "the parent's")
