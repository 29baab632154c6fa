# SPDX-License-Identifier: Apache-2.0
"""CLONE_FS"""

from __future__ import annotations

import os

from minibox import syscalls as sc
from minibox.lab import Run, experiment, kcmp

KCMP, DIRECTORY, UMASK = "root, directory, umask (kcmp)", "the parent's directory", "its umask"
EXPECTED = {
    "with": {KCMP: "same", DIRECTORY: "the child's", UMASK: "077"},
    "without": {KCMP: "another", DIRECTORY: "as before", UMASK: "022"},
}


@experiment(sc.CLONE_FS, source="clone(2), CLONE_FS; kernel/fork.c copy_fs", expected=EXPECTED)
def fs(run: Run) -> None:
    """The chdir and the umask of a child with CLONE_FS are its parent's, too.

    Both have one struct fs_struct: root, working directory and umask. Without the flag the child
    begins with a copy of it.
    """
    os.mkdir("below")
    os.umask(0o022)
    with run.clone([sc.chdir(b"below"), sc.umask(0o077), sc.gate()]) as child:
        child.arrived()
        run.saw(KCMP, kcmp(child.pid, "FS"))
        is_below = os.path.basename(os.getcwd()) == "below"
        run.saw(DIRECTORY, "the child's" if is_below else "as before")
        run.saw(UMASK, f"{os.umask(0o022):03o}")
