# SPDX-License-Identifier: Apache-2.0
"""CLONE_SYSVSEM"""

from __future__ import annotations

import struct

from minibox import syscalls as sc
from minibox.errors import Unsupported
from minibox.lab import Run, experiment, kcmp, op
from minibox.plan import Memory

IPC_PRIVATE, GETVAL, SEM_UNDO = 0, 12, 0x1000
KCMP = "undo list (kcmp)"
BEFORE, AT, AFTER = "semaphore before", "while the child runs", "after its end"
EXPECTED = {
    "with": {KCMP: "same", BEFORE: 1, AT: 6, AFTER: 6},
    "without": {KCMP: "another", BEFORE: 1, AT: 6, AFTER: 1},
}


def _sembuf(change: int) -> bytes:
    """struct sembuf: the number of the semaphore, what to add, flags."""
    return struct.pack("=HhH", 0, change, SEM_UNDO)


@experiment(
    sc.CLONE_SYSVSEM,
    source="clone(2), CLONE_SYSVSEM; semop(2), SEM_UNDO; ipc/sem.c copy_semundo",
    expected=EXPECTED,
)
def sysvsem(run: Run) -> None:
    """What a child with CLONE_SYSVSEM does to a semaphore with SEM_UNDO is not undone at its end.

    The list of what is to be undone is the parent's, too, and is carried out when the last of those
    that share it ends. The child adds 5.
    """
    semaphore = run.syscall("semget", IPC_PRIVATE, 1, 0o600, text="semget(IPC_PRIVATE, 1, 0600)")
    if semaphore < 0:
        raise Unsupported("this kernel has no System V semaphores")
    run.syscall("semop", semaphore, _sembuf(1), 1, text=f"semop({semaphore}, [+1 SEM_UNDO])")

    def value() -> int:
        return run.syscall(
            "semctl", semaphore, 0, GETVAL, 0, text=f"semctl({semaphore}, 0, GETVAL)"
        )

    run.saw(BEFORE, value())
    add = op("semop", semaphore, Memory(_sembuf(5), "[+5 SEM_UNDO]"), 1)
    with run.clone([add, sc.gate()]) as child:
        child.arrived()
        run.saw(KCMP, kcmp(child.pid, "SYSVSEM"))
        run.saw(AT, value())
        child.go()
        child.wait()
        run.saw(AFTER, value())
