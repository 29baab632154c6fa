# SPDX-License-Identifier: Apache-2.0
"""CLONE_NEWCGROUP"""

from __future__ import annotations

from contextlib import nullcontext

from minibox import syscalls as sc
from minibox.lab import Block, Run, cgroups, experiment, namespace, op
from minibox.plan import Slot

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
    outside = _paths(_own())
    is_told_apart = outside != {"/"}
    with nullcontext() if is_told_apart else cgroups.entered(run):
        _look(run)


def _look(run: Run) -> None:
    outside = _paths(_own())
    fd = Slot("fd")
    with Block(shared=True) as block:
        program = [
            sc.openat(sc.AT_FDCWD, b"/proc/self/cgroup", sc.O_RDONLY, to=fd),
            op("read", fd, block.pointer(0, "&text"), block.size - 1),
            sc.gate(),
        ]
        with run.clone(program) as child:
            child.arrived()
            own = namespace("cgroup", child.pid) != namespace("cgroup")
            run.saw("its namespace", "new" if own else "the parent's")
            inside = _paths(block.text())
            run.saw("its cgroups, as it sees them", _said(inside, outside))
            run.saw("as the parent sees them", _said(_paths(_own(child.pid)), outside))


def _own(pid: int | str = "self") -> str:
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="backslashreplace") as file:
        return file.read()


def _paths(text: str) -> set[str]:
    return {line.split(":", 2)[2] for line in text.splitlines()}


def _said(paths: set[str], outside: set[str]) -> str:
    if paths == outside:
        return "the parent's"
    return "all /" if paths == {"/"} else " ".join(sorted(paths))
