# SPDX-License-Identifier: Apache-2.0
"""CLONE_FILES"""

from __future__ import annotations

import os

from minibox import syscalls as sc
from minibox.lab import Run, experiment, kcmp, op
from minibox.plan import Memory

KCMP, OPENED, CLOSED = "descriptors (kcmp)", "what the child opens", "what the child closes"
OFFSET = "the parent's offset after a read of the child's"
EXPECTED = {
    "with": {KCMP: "same", OPENED: "open here, too", CLOSED: "closed here, too", OFFSET: 3},
    "without": {KCMP: "another", OPENED: "not here", CLOSED: "still open here", OFFSET: 3},
}


@experiment(
    sc.CLONE_FILES, source="clone(2), CLONE_FILES; kernel/fork.c copy_files", expected=EXPECTED
)
def files(run: Run) -> None:
    """What a child with CLONE_FILES opens or closes is open or closed in its parent, too.

    Both have one table of descriptors. Without the flag the child has a copy of the table, but the
    open files in it are the same: the offset moves for both in either case.
    """
    for name in ("opened", "closed", "read"):
        with open(name, "w", encoding="ascii") as file:
            file.write("abcdef")
    closed, read = os.open("closed", os.O_RDONLY), os.open("read", os.O_RDONLY)
    program = [
        sc.openat(sc.AT_FDCWD, b"opened", sc.O_RDONLY),
        sc.close(closed),
        op("read", read, Memory(bytes(3), "buffer"), 3),
        sc.gate(),
    ]
    with run.clone(program) as child:
        child.arrived()
        run.saw(KCMP, kcmp(child.pid, "FILES"))
        opened = child.report().results[0]
        run.saw(OPENED, "open here, too" if _file(opened) == "opened" else "not here")
        run.saw(CLOSED, "still open here" if _file(closed) == "closed" else "closed here, too")
        run.saw(OFFSET, os.lseek(read, 0, os.SEEK_CUR))


def _file(fd: int) -> str:
    """The name of the file that a descriptor of this process is of, or ""."""
    try:
        return os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
    except FileNotFoundError:
        return ""
