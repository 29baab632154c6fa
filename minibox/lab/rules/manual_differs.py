# SPDX-License-Identifier: Apache-2.0
"""Where the manual and the kernel disagree"""

from __future__ import annotations

import os

from minibox import syscalls as sc
from minibox.lab import Run, experiment, look, own_namespace
from minibox.lab.words import LACKS
from minibox.lab.words import error as name_of

RUNS = {"clone": 2, "clone3": 3}
PIDS, USERS = sc.CLONE_PARENT | sc.CLONE_NEWPID, sc.CLONE_PARENT | sc.CLONE_NEWUSER
THREAD = sc.CLONE_VM | sc.CLONE_SIGHAND | sc.CLONE_THREAD | sc.CLONE_PIDFD
ROWS = {"PARENT|NEWPID": PIDS, "PARENT|NEWUSER": USERS, "THREAD|PIDFD": THREAD}
FLAGS = PIDS | USERS | THREAD


@experiment(
    FLAGS,
    source="clone(2), ERRORS, EINVAL; kernel/fork.c copy_process",
    expected=dict.fromkeys(RUNS, dict.fromkeys(ROWS, "EINVAL")),
    runs=dict.fromkeys(RUNS, FLAGS),
    order=1,
)
def manual_differs(run: Run) -> None:
    """By the manual, a child of one's parent cannot be in a pid or user namespace of its own, and a
    thread has no pidfd; newer kernels make them.

    Only threads must be in the pid and user namespaces of the others, and the kernel now checks no
    more than that; a pidfd of a thread came with Linux 6.9 (PIDFD_THREAD). So the verdict is
    "differs" where the kernel is newer than the manual.
    """
    for names, flags in ROWS.items():
        run.saw(names, _made(run, RUNS[run.name], flags))


def _made(run: Run, call: int, flags: int) -> str:
    """What it is, or the name of the error."""
    try:
        with run.clone([sc.gate()], flags, call=call, exact=True) as child:
            child.arrived()
            if os.path.exists(f"/proc/self/task/{child.pid}"):
                return f"a thread with {'a' if child.pidfd >= 0 else 'no'} pidfd"
            is_brother = look.status(child.pid)["PPid"] == str(os.getppid())
            new = [kind for kind in ("pid", "user") if own_namespace(kind, child.pid)]
            spaces = f", in a new {new[0]} namespace" if new else ""
            return f"a {'brother' if is_brother else 'child'}{spaces}"
    except OSError as error:
        if error.errno in LACKS:
            raise
        return name_of(error.errno or 0)
