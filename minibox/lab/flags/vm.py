# SPDX-License-Identifier: Apache-2.0
"""CLONE_VM"""

from __future__ import annotations

import mmap
import time
from statistics import median

import minibox
from minibox import syscalls as sc
from minibox.lab import Block, Run, experiment, function, kcmp

EXPECTED = {
    "with": {"memory (kcmp)": "same", "the parent's word": 1},
    "without": {"memory (kcmp)": "another", "the parent's word": 0},
}
MIB = 1 << 20
MORE = 32
TIMES = 5


@experiment(sc.CLONE_VM, source="clone(2), CLONE_VM; kernel/fork.c copy_mm", expected=EXPECTED)
def vm(run: Run) -> None:
    """A child with CLONE_VM writes to its parent's memory; one without writes to a copy of it.

    The child adds 1 to a word that was 0 when it was made. For the copy the kernel goes through the
    page tables of the parent, so that clone takes the longer the more memory the parent has; with
    the flag it does not.
    """
    with Block() as block:
        add = sc.call(function("lab_add"), block.pointer())
        with run.clone([add, sc.gate()]) as child:
            child.arrived()
            run.saw("memory (kcmp)", kcmp(child.pid, "VM"))
            run.saw("the parent's word", block.word())
    run.measured("clone takes", _took(run.flags), "ms")
    with Block(MORE * MIB) as block:
        block.memory.madvise(mmap.MADV_NOHUGEPAGE)
        for at in range(0, block.size, mmap.PAGESIZE):
            block.memory[at] = 1
        run.measured(f"with {MORE} MiB more in the parent", _took(run.flags), "ms")


def _took(flags: int) -> float:
    """The median of a few clones, in ms."""
    found = []
    for _ in range(TIMES):
        began = time.perf_counter()
        with minibox.clone([], flags) as child:
            found.append(1000 * (time.perf_counter() - began))
            child.wait()
    return median(found)
