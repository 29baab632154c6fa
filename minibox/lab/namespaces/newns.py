# SPDX-License-Identifier: Apache-2.0
"""CLONE_NEWNS"""

from __future__ import annotations

import os

from minibox import syscalls as sc
from minibox.lab import Run, experiment, look, own_namespace

EXPECTED = {
    "with": {"the mount outside": "not there", "its namespace": "new"},
    "without": {"the mount outside": "there", "its namespace": "the parent's"},
}


@experiment(
    sc.CLONE_NEWNS,
    source="mount_namespaces(7); fs/namespace.c copy_mnt_ns",
    expected=EXPECTED,
)
def newns(run: Run) -> None:
    """A file system that a child mounts is seen in its mount namespace only, if it has one of its
    own.

    CLONE_NEWNS copies the parent's tree of mounts, as they are at that moment. All mounts here
    are private; what becomes of shared ones is another experiment (propagation).
    """
    os.mkdir("here")
    with run.clone([sc.mount(b"inside", b"here", b"tmpfs", 0), sc.gate()]) as child:
        child.arrived()
        own = own_namespace("mnt", child.pid)
        run.saw("its namespace", "new" if own else "the parent's")
        run.saw("the mount inside", "there" if look.mount("inside", child.pid) else "not there")
        run.saw("the mount outside", "there" if look.mount("inside") else "not there")
