# SPDX-License-Identifier: Apache-2.0
"""CLONE_PARENT_SETTID"""

from __future__ import annotations

from minibox import syscalls as sc
from minibox.lab import Block, Run, experiment, function
from minibox.plan import Memory

BAD = 8
CHILD, PARENT = "the word, as the child finds it first", "the word when clone has returned"
IGNORED = "with a bad pointer there is"
EXPECTED = {
    "with": {CHILD: "its tid", PARENT: "its tid", IGNORED: "a child"},
    "without": {CHILD: "0", PARENT: "0", IGNORED: "a child"},
}


@experiment(
    sc.CLONE_PARENT_SETTID,
    source="clone(2), CLONE_PARENT_SETTID; kernel/fork.c kernel_clone",
    expected=EXPECTED,
    also=sc.CLONE_VM,
)
def parent_settid(run: Run) -> None:
    """With CLONE_PARENT_SETTID the tid is in the parent's memory before the child begins to run.

    The word is there for both from their first moment on: without it a child that ends at once
    could be gone before its parent has stored what clone returned. An address that is none is no
    error: the kernel does not look at what put_user says.
    """
    with Block() as block:
        pair = Memory(
            (block.address).to_bytes(8, "little") + (block.address + 4).to_bytes(8, "little"),
            "{&word, &copy}",
        )
        copy = sc.call(function("lab_copy"), pair)
        with run.clone([copy, sc.gate()], parent_tid=block.address) as child:
            names = {child.pid: "its tid"}
            run.saw(PARENT, names.get(block.word(), str(block.word())))
            child.arrived()
            run.saw(CHILD, names.get(block.word(1), str(block.word(1))))
    with run.clone([], parent_tid=BAD):
        run.saw(IGNORED, "a child")
