# SPDX-License-Identifier: Apache-2.0
"""CLONE_CHILD_SETTID"""

from __future__ import annotations

import os

from minibox import syscalls as sc
from minibox.lab import Block, Run, experiment, op

BAD = 8
CHILD, PARENT = "the word, as the child finds it first", "the same word of the parent"
IGNORED = "with a bad pointer there is"
EXPECTED = {
    "with": {CHILD: "its tid", PARENT: "0", IGNORED: "a child"},
    "without": {CHILD: "0", PARENT: "0", IGNORED: "a child"},
}


@experiment(
    sc.CLONE_CHILD_SETTID,
    source="clone(2), CLONE_CHILD_SETTID; kernel/sched/core.c schedule_tail",
    expected=EXPECTED,
)
def child_settid(run: Run) -> None:
    """With CLONE_CHILD_SETTID the tid is in the child's memory before the child begins to run.

    The child stores it itself, on its way out of the kernel for the first time. Its memory is a
    copy here, so the parent's word stays as it was. An address that is none is no error.
    """
    read, write = os.pipe()
    with Block() as block:
        tell = op("write", write, block.pointer(), 4)
        with run.clone([tell, sc.gate()], child_tid=block.address, exact=True) as child:
            child.arrived()
            word = int.from_bytes(os.read(read, 4), "little")
            run.saw(CHILD, {child.pid: "its tid"}.get(word, str(word)))
            run.saw(PARENT, str(block.word()))
    with run.clone([], child_tid=BAD, exact=True):
        run.saw(IGNORED, "a child")
    os.close(read)
    os.close(write)
