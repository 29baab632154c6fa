# SPDX-License-Identifier: Apache-2.0
"""What clone and clone3 refuse alike"""

from __future__ import annotations

from minibox.lab import Run, asking, before, experiment
from minibox.lab.asking import Row, ask

RUNS = {"clone": 2, "clone3": 3}
ROWS = [
    Row(ask("NEWNS|FS"), "EINVAL", ask("NEWNS")),
    Row(ask("NEWUSER|FS"), "EINVAL", ask("NEWUSER")),
    Row(ask("SIGHAND"), "EINVAL", ask("VM|SIGHAND")),
    Row(ask("VM|THREAD"), "EINVAL", ask("VM|SIGHAND|THREAD")),
    Row(ask("VM|SIGHAND|THREAD|NEWUSER"), "EINVAL", ask("VM|SIGHAND|NEWUSER")),
    Row(ask("VM|SIGHAND|THREAD|NEWPID"), "EINVAL", ask("VM|NEWPID")),
    Row(
        ask("VM|SIGHAND|THREAD", "a thread, after unshare(NEWPID)", before=before.unshared_pids),
        "EINVAL",
        ask("VM|SIGHAND", "a process", before=before.unshared_pids),
    ),
    Row(ask("NEWIPC|SYSVSEM"), "EINVAL", ask("NEWIPC")),
    Row(
        ask("PARENT", "PARENT, by a pid 1", before=before.first_of_a_pid_namespace),
        "EINVAL",
        ask("PARENT", "by another"),
    ),
]
FLAGS = asking.flags(ROWS)


@experiment(
    FLAGS,
    source="clone(2), ERRORS, EINVAL; kernel/fork.c copy_process, kernel/nsproxy.c",
    expected=dict.fromkeys(RUNS, asking.expected(ROWS)),
    runs=dict.fromkeys(RUNS, FLAGS),
)
def rejections_both(run: Run) -> None:
    """clone and clone3 both refuse flags that contradict each other with EINVAL; each such set is
    made when one of its flags is gone.

    A thread group has one set of signal handlers and one memory, and all its threads are in the
    same pid and user namespace. A root or working directory that is shared with others (CLONE_FS)
    cannot be in another mount namespace. Semaphores of one IPC namespace cannot be undone in
    another. And who is pid 1 has no parent to share.
    """
    asking.see(run, ROWS, RUNS[run.name])
