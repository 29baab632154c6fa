# SPDX-License-Identifier: Apache-2.0
"""CLONE_VM"""

from __future__ import annotations

from minibox import syscalls as sc
from minibox.lab import Block, Run, experiment, function, kcmp

EXPECTED = {
    "with": {"memory (kcmp)": "same", "the parent's word": 1},
    "without": {"memory (kcmp)": "another", "the parent's word": 0},
}


@experiment(sc.CLONE_VM, source="clone(2), CLONE_VM; kernel/fork.c copy_mm", expected=EXPECTED)
def vm(run: Run) -> None:
    """A child with CLONE_VM writes to its parent's memory; one without writes to a copy of it.

    The child adds 1 to a word that was 0 when it was made.
    """
    with Block() as block:
        add = sc.call(function("lab_add"), block.pointer())
        with run.clone([add, sc.gate()]) as child:
            child.arrived()
            run.saw("memory (kcmp)", kcmp(child.pid, "VM"))
            run.saw("the parent's word", block.word())
