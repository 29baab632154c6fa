# SPDX-License-Identifier: Apache-2.0
"""CLONE_IO"""

from __future__ import annotations

from minibox import syscalls as sc
from minibox.errors import Unsupported
from minibox.lab import Run, experiment, kcmp, op

IOPRIO_WHO_PROCESS, SELF = 1, 0
BEST_EFFORT = 2 << 13
KCMP, LEVEL = "I/O context (kcmp)", "the parent's I/O priority after the child has set its own to 7"
EXPECTED = {"with": {KCMP: "same", LEVEL: 7}, "without": {KCMP: "another", LEVEL: 4}}


@experiment(sc.CLONE_IO, source="clone(2), CLONE_IO; block/blk-ioc.c __copy_io", expected=EXPECTED)
def io(run: Run) -> None:
    """A child with CLONE_IO has its parent's I/O context: to the scheduler they are one.

    The I/O priority is a part of it, so what the child sets is its parent's, too. A process has
    such a context only once it sets a priority or has done I/O that needs one.
    """
    own = BEST_EFFORT | 4
    if run.syscall("ioprio_set", IOPRIO_WHO_PROCESS, SELF, own) < 0:
        raise Unsupported("this kernel has no I/O priorities")
    with run.clone(
        [op("ioprio_set", IOPRIO_WHO_PROCESS, SELF, BEST_EFFORT | 7), sc.gate()]
    ) as child:
        child.arrived()
        run.saw(KCMP, kcmp(child.pid, "IO"))
        run.saw(LEVEL, run.syscall("ioprio_get", IOPRIO_WHO_PROCESS, SELF) & 7)
