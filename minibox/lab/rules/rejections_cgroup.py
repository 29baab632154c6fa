# SPDX-License-Identifier: Apache-2.0
"""What CLONE_INTO_CGROUP refuses"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

from minibox import syscalls as sc
from minibox.errors import Unsupported
from minibox.lab import Run, asking, before, cgroups, experiment
from minibox.lab.asking import MADE, Row, ask
from minibox.resources import hierarchies

NONE, OTHER, V1, FOREIGN = (
    "an fd that is none",
    "a directory that is no cgroup",
    "a cgroup of the first version",
    "a cgroup without the right to write there",
)
OWN, REMOVED, INVALID = "a cgroup", "a cgroup that is removed", "a cgroup beside a threaded one"


def _into(cgroup: str, answer: str, first: asking.Before | None = None) -> Row:
    return Row(ask("INTO_CGROUP", cgroup, cgroup=cgroup, before=first), answer)


ROWS = [
    _into(OWN, MADE),
    _into(NONE, "EBADF"),
    _into(OTHER, "EBADF"),
    _into(V1, "EBADF"),
    _into(FOREIGN, "EACCES", before.another_user),
    _into(REMOVED, "ENOENT"),
    _into(INVALID, "EOPNOTSUPP"),
]


@experiment(
    sc.CLONE_INTO_CGROUP,
    source="clone(2), ERRORS, CLONE_INTO_CGROUP; kernel/cgroup/cgroup.c cgroup_css_set_fork",
    expected={"clone3": asking.expected(ROWS)},
    runs={"clone3": sc.CLONE_INTO_CGROUP},
    fields=("cgroup",),
)
def rejections_cgroup(run: Run) -> None:
    """CLONE_INTO_CGROUP obeys the rules for moving into a cgroup: it must be one, of the second
    version, be there, and be writable for who asks.

    A cgroup beside a threaded one is neither that itself nor a place for processes (cgroup.type
    says "domain invalid").
    """
    with ExitStack() as stack:
        known: dict[str, Any] = {NONE: 1000, OTHER: os.open(".", os.O_RDONLY)}
        known |= _standing() | _made(run, stack)
        asking.see(run, ROWS, 3, known)


def _standing() -> dict[str, Any]:
    """Of those that are there already, which are only refused."""
    known: dict[str, Any] = {}
    for name, version in ((V1, 1), (FOREIGN, 2)):
        try:
            known[name] = os.open(cgroups.top(version), os.O_RDONLY)
        except Unsupported as error:
            known[name] = error
    return known


def _made(run: Run, stack: ExitStack) -> dict[str, Any]:
    try:
        made = stack.enter_context(cgroups.new(run))
    except Unsupported as error:
        return dict.fromkeys((OWN, REMOVED, INVALID), error)
    path = made.path
    known: dict[str, Any] = {OWN: made.fd}
    for name, below in ((REMOVED, "removed"), (INVALID, "invalid")):
        os.mkdir(f"{path}/{below}")
        known[name] = os.open(f"{path}/{below}", os.O_RDONLY)
    os.rmdir(f"{path}/removed")
    os.mkdir(f"{path}/threaded")
    hierarchies.put(f"{path}/threaded/cgroup.type", "threaded")
    return known
