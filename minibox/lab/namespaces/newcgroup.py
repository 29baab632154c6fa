# SPDX-License-Identifier: Apache-2.0
"""CLONE_NEWCGROUP"""

from __future__ import annotations

from contextlib import nullcontext

from minibox import syscalls as sc
from minibox.lab import Block, Run, cgroups, experiment, own_namespace
from minibox.resources import cgroup

EXPECTED = {
    "with": {
        "its cgroups, as it sees them": "all /",
        "as the parent sees them": "the parent's",
        "its namespace": "new",
    },
    "without": {
        "its cgroups, as it sees them": "the parent's",
        "as the parent sees them": "the parent's",
        "its namespace": "the parent's",
    },
}


@experiment(
    sc.CLONE_NEWCGROUP,
    source="cgroup_namespaces(7); kernel/cgroup/namespace.c copy_cgroup_ns",
    expected=EXPECTED,
)
def newcgroup(run: Run) -> None:
    """A child with a cgroup namespace of its own sees the cgroup that it was made in as the root of
    all; it is in no other than before.

    The child reads its own /proc/self/cgroup; the parent reads the same file from outside.
    """
    is_told_apart = set(cgroup.of("self").values()) != {"/"}
    with nullcontext() if is_told_apart else cgroups.entered(run):
        _look(run)


def _look(run: Run) -> None:
    outside = cgroup.of("self")
    with Block(shared=True) as block, run.clone([*cgroups.reading(block), sc.gate()]) as child:
        child.arrived()
        own = own_namespace("cgroup", child.pid)
        run.saw("its namespace", "new" if own else "the parent's")
        run.saw("its cgroups, as it sees them", _said(cgroups.read(block), outside))
        run.saw("as the parent sees them", _said(cgroup.of(child.pid), outside))


def _said(found: dict[str, str], outside: dict[str, str]) -> str:
    if found == outside:
        return "the parent's"
    paths = sorted(set(found.values()))
    return "all /" if paths == ["/"] else " ".join(paths)
