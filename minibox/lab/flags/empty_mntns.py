# SPDX-License-Identifier: Apache-2.0
"""CLONE_EMPTY_MNTNS"""

from __future__ import annotations

from errno import ENOENT

from minibox import syscalls as sc
from minibox.lab import Run, experiment, op, own_namespace
from minibox.syscalls import AT_FDCWD, O_PATH

MOUNTS, SPACE, OPENS = "the mounts that it sees", "its mount namespace", "it opens /proc"
EXPECTED = {
    "with": {SPACE: "new", MOUNTS: "one", OPENS: False},
    "without": {SPACE: "the parent's", MOUNTS: "those of its parent", OPENS: True},
}


@experiment(
    sc.CLONE_EMPTY_MNTNS,
    source="Linux 7.1, kernel/fork.c kernel_clone, fs/namespace.c copy_mnt_ns",
    expected=EXPECTED,
    order=3,
)
def empty_mntns(run: Run) -> None:
    """A child with CLONE_EMPTY_MNTNS has a mount namespace with nothing in it but an empty root.

    CLONE_NEWNS, which it implies, copies every mount of the parent's; here there is none to copy,
    and none to be unmounted by a runtime that is about to pivot_root anyway.
    """
    run.probe(run.flags, "7.1")
    with run.clone([op("openat", AT_FDCWD, b"/proc", O_PATH, ok=(ENOENT,)), sc.gate()]) as child:
        child.arrived()
        is_new = own_namespace("mnt", child.pid)
        run.saw(SPACE, "new" if is_new else "the parent's")
        with open(f"/proc/{child.pid}/mountinfo", encoding="utf-8", errors="replace") as file:
            count = len(file.readlines())
        run.saw(MOUNTS, "one" if count == 1 else "those of its parent")
        run.saw(OPENS, child.report().results[0] >= 0)
