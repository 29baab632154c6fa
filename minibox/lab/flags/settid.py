# SPDX-License-Identifier: Apache-2.0
"""CLONE_SETTID, which has another name now"""

from __future__ import annotations

import os

from minibox import syscalls as sc
from minibox.lab import Block, Run, experiment, op

CLONE_SETTID = sc.CLONE_PARENT_SETTID  # 0x100000, before and after
PARENT, CHILD = "the parent's word", "the child's copy of it"
EXPECTED = {"with": {PARENT: "its tid", CHILD: "0"}, "without": {PARENT: "0", CHILD: "0"}}


@experiment(
    CLONE_SETTID,
    source="clone(2), CLONE_PARENT_SETTID: Linux 2.5.32 to 2.5.48",
    expected=EXPECTED,
    order=2,
)
def settid(run: Run) -> None:
    """The bit that was CLONE_SETTID is CLONE_PARENT_SETTID's: the tid is the parent's to read.

    Linux 2.5.32 had one flag, and 2.5.49 two: this one, which kept the bit, and CLONE_CHILD_SETTID.
    A child with memory of its own does not find the tid there: its copy was made before.
    """
    read, write = os.pipe()
    with Block() as block:
        tell = op("write", write, block.pointer(), 4)
        with run.clone([tell, sc.gate()], parent_tid=block.address, call=2, exact=True) as child:
            child.arrived()
            names = {child.pid: "its tid"}
            run.saw(PARENT, names.get(block.word(), str(block.word())))
            word = int.from_bytes(os.read(read, 4), "little")
            run.saw(CHILD, names.get(word, str(word)))
    os.close(read)
    os.close(write)
