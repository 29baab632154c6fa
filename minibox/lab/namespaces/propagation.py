# SPDX-License-Identifier: Apache-2.0
"""CLONE_NEWNS and the mounts that are shared"""

from __future__ import annotations

import os

from minibox import syscalls as sc
from minibox.lab import Run, experiment, look

TYPES = {"private": sc.MS_PRIVATE, "shared": sc.MS_SHARED, "slave": sc.MS_SLAVE}
EXPECTED = {
    "private": {"the child's mount outside": False, "the parent's mount inside": False},
    "shared": {"the child's mount outside": True, "the parent's mount inside": True},
    "slave": {"the child's mount outside": False, "the parent's mount inside": True},
}


@experiment(
    sc.CLONE_NEWNS,
    source="mount_namespaces(7), Shared subtrees; fs/pnode.c propagate_mnt",
    expected=EXPECTED,
    runs=dict.fromkeys(TYPES, sc.CLONE_NEWNS),
)
def propagation(run: Run) -> None:
    """A mount below a shared one crosses to the other mount namespaces, both ways; below a slave
    it comes in only; below a private one it stays.

    The parent has a tmpfs, and the child's copy of that is made what the run is called. Then each
    of them mounts something in it, after they have parted.
    """
    os.mkdir("tree")
    run.syscall("mount", b"tree\0", b"tree\0", b"tmpfs\0", 0, None, text='mount("tree", tmpfs)')
    os.mkdir("tree/a")
    os.mkdir("tree/b")
    share = TYPES["private" if run.name == "private" else "shared"]
    what = f"MS_{'SHARED' if share == sc.MS_SHARED else 'PRIVATE'}"
    run.syscall("mount", None, b"tree\0", None, share, None, text=f'mount("tree", {what})')
    program = [
        sc.mount(None, b"tree", None, TYPES[run.name]),
        sc.mount(b"childs", b"tree/a", b"tmpfs", 0),
        sc.gate(),
    ]
    with run.clone(program) as child:
        child.arrived()
        run.saw("the child's mount outside", look.mount("childs"))
        run.syscall(
            "mount", b"parents\0", b"tree/b\0", b"tmpfs\0", 0, None, text='mount("tree/b", tmpfs)'
        )
        run.saw("the parent's mount inside", look.mount("parents", child.pid))
