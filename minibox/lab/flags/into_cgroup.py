# SPDX-License-Identifier: Apache-2.0
"""CLONE_INTO_CGROUP"""

from __future__ import annotations

import os

from minibox import syscalls as sc
from minibox.lab import Block, Run, cgroups, experiment

FIRST, MEMBERS = "its cgroup, as it reads it first", "its maker's cgroup"
EXPECTED = {
    "with": {FIRST: "the given one", MEMBERS: "as before"},
    "without": {FIRST: "its maker's", MEMBERS: "as before"},
}


@experiment(
    sc.CLONE_INTO_CGROUP,
    source="clone(2), CLONE_INTO_CGROUP; cgroups(7); kernel/cgroup/cgroup.c cgroup_css_set_fork",
    expected=EXPECTED,
    arguments=cgroups.given,
)
def into_cgroup(run: Run) -> None:
    """A child with CLONE_INTO_CGROUP is in the given cgroup (v2) from its first moment on.

    Without the flag it begins in its maker's and is moved by a write to cgroup.procs: until then it
    runs and is counted where it should not be. The first thing that the child does here is to read
    /proc/self/cgroup.
    """
    before = cgroups.own()
    with cgroups.new(run) as made, Block(shared=True) as block:
        run.probe(run.flags, "5.7", cgroup=made.fd)
        with run.clone([*cgroups.reading(block), sc.gate()], cgroup=made.fd) as child:
            child.arrived()
            found = cgroups.read(block).get("", "")
            is_in = os.path.basename(found) == made.name
            run.saw(
                FIRST, "the given one" if is_in else "its maker's" if found == before else found
            )
            run.saw(MEMBERS, "as before" if cgroups.own() == before else "another")
