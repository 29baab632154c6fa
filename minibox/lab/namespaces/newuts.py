# SPDX-License-Identifier: Apache-2.0
"""CLONE_NEWUTS"""

from __future__ import annotations

import os

from minibox import syscalls as sc
from minibox.lab import Run, experiment, namespace

EXPECTED = {
    "with": {"the name outside": "as before", "its namespace": "new"},
    "without": {"the name outside": "the child's", "its namespace": "the parent's"},
}


@experiment(
    sc.CLONE_NEWUTS,
    source="uts_namespaces(7); kernel/utsname.c copy_utsname",
    expected=EXPECTED,
)
def newuts(run: Run) -> None:
    """A host name that a child sets stays in its UTS namespace, if it has one of its own."""
    with run.clone([sc.sethostname(b"inside"), sc.gate()]) as child:
        child.arrived()
        own = namespace("uts", child.pid) != namespace("uts")
        run.saw("its namespace", "new" if own else "the parent's")
        seen = os.uname().nodename == "inside"
        run.saw("the name outside", "the child's" if seen else "as before")
