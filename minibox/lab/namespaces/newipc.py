# SPDX-License-Identifier: Apache-2.0
"""CLONE_NEWIPC"""

from __future__ import annotations

import errno
import os

from minibox import syscalls as sc
from minibox.lab import Run, experiment, op, outcome, own_namespace

KEY, NAME = 0x6D62, b"minibox-lab"
CREATE = 0o1000 | 0o600  # IPC_CREAT
KINDS = ("a message queue", "a semaphore", "shared memory", "a POSIX message queue")
EXPECTED = {
    "with": {**dict.fromkeys(KINDS, "ENOENT"), "its namespace": "new"},
    "without": {**dict.fromkeys(KINDS, "done"), "its namespace": "the parent's"},
}


@experiment(
    sc.CLONE_NEWIPC, source="ipc_namespaces(7); ipc/namespace.c copy_ipcs", expected=EXPECTED
)
def newipc(run: Run) -> None:
    """System V objects and POSIX message queues that a child makes can be found by their key or
    name in its IPC namespace only, if it has one of its own.

    The child makes one of each kind; the parent then asks for them, without making any.
    """
    program = [
        op("msgget", KEY, CREATE),
        op("semget", KEY, 1, CREATE),
        op("shmget", KEY, 4096, CREATE),
        op("mq_open", NAME, sc.O_CREAT | sc.O_RDWR, 0o600, None),
        sc.gate(),
    ]
    with run.clone(program) as child:
        child.arrived()
        if child.report().error == errno.ENOSYS:
            run.unsupported("the kernel has no System V IPC or no POSIX message queues")
        own = own_namespace("ipc", child.pid)
        run.saw("its namespace", "new" if own else "the parent's")
        found = [
            run.syscall("msgget", KEY, 0),
            run.syscall("semget", KEY, 1, 0),
            run.syscall("shmget", KEY, 4096, 0),
            run.syscall(
                "mq_open", NAME + b"\0", os.O_RDONLY, 0, None, text='mq_open("minibox-lab")'
            ),
        ]
        for kind, result in zip(KINDS, found, strict=True):
            run.saw(kind, outcome(result))
