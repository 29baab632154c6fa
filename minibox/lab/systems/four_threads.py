# SPDX-License-Identifier: Apache-2.0
"""A process of four threads, as the kernel has it: four tasks."""

from __future__ import annotations

import os
import signal
import struct
import threading
from collections.abc import Callable
from contextlib import ExitStack

from minibox import syscalls as sc
from minibox.lab import Run, experiment, kcmp, process, status
from minibox.lab.process import Say

SHARED = {
    "VM": "memory",
    "FS": "directory, root and umask",
    "FILES": "open files",
    "SIGHAND": "signal handlers",
    "SYSVSEM": "semaphore undo list",
}
THREAD = (
    sc.CLONE_THREAD
    | sc.CLONE_VM
    | sc.CLONE_FS
    | sc.CLONE_FILES
    | sc.CLONE_SIGHAND
    | sc.CLONE_SYSVSEM
)
IPC_PRIVATE, SEM_UNDO = 0, 0x1000

GROUP: dict[str, object] = {
    "tasks in /proc/PID/task": 4,
    "thread groups (Tgid)": 1,
    "thread ids": 4,
    **{f"{what} (kcmp)": "same" for what in SHARED.values()},
    "tasks left after its end": 0,
}
APART: dict[str, object] = {
    "tasks in /proc/PID/task": 1,
    "thread groups (Tgid)": 4,
    "thread ids": 4,
    **{f"{what} (kcmp)": "another" for what in SHARED.values()},
    "tasks left after its end": 3,
}


@experiment(
    THREAD,
    source="clone(2), CLONE_THREAD; proc_pid_task(5); pthreads(7); kernel/fork.c copy_process",
    expected={"clone": GROUP, "pthread_create": GROUP, "without": APART},
    runs={"clone": THREAD, "pthread_create": 0, "without": 0},
)
def four_threads(run: Run) -> None:
    """A process of four threads is four tasks with ids of their own in one thread group, which
    share everything; those that pthread_create makes look the same.

    A process makes three more tasks and is watched from outside: kcmp compares what the first and
    each of the others have. Then it ends, by exit_group. Without the flags its tasks are three
    child processes, which have copies and outlive it. Python's threading calls pthread_create.
    """
    make = _threads if run.name == "pthread_create" else _tasks
    with process(run, lambda say, end: _make(make, run, say, end)) as group:
        tids = [group.pid, *group.said]
        run.saw("tasks in /proc/PID/task", len(os.listdir(f"/proc/{group.pid}/task")))
        run.saw("thread groups (Tgid)", len({status(tid)["Tgid"] for tid in tids}))
        run.saw("thread ids", len(set(tids)))
        for kind, what in SHARED.items():
            seen = {kcmp(tid, kind, group.pid) for tid in group.said}
            run.saw(f"{what} (kcmp)", seen.pop() if len(seen) == 1 else "the same for some")
        group.end()
        os.waitpid(group.pid, 0)
        left = [tid for tid in tids if os.path.exists(f"/proc/{tid}")]
        run.saw("tasks left after its end", len(left))
        for tid in left:
            os.kill(tid, signal.SIGKILL)


Make = Callable[[Run, Say, int], None]


def have_undo_list(run: Run) -> None:
    """Make a list of semaphore operations that the kernel undoes at the end of this process: two
    processes that have none look the same to kcmp."""
    text = "semget(IPC_PRIVATE, 1, 0600)"
    semaphore = run.syscall("semget", IPC_PRIVATE, 1, 0o600, text=text)
    undo = struct.pack("=Hhh", 0, 1, SEM_UNDO)
    run.syscall("semop", semaphore, undo, 1, text=f"semop({semaphore}, {{+1, SEM_UNDO}})")


def _make(make: Make, run: Run, say: Say, end: int) -> None:
    """Be the process."""
    have_undo_list(run)
    make(run, say, end)


def _tasks(run: Run, say: Say, end: int) -> None:
    """Three by clone; each waits at its gate, which nobody opens."""
    with ExitStack() as stack:
        say([stack.enter_context(run.clone([sc.gate()])).pid for _ in range(3)])
        os.read(end, 1)
        os._exit(0)


def _threads(run: Run, say: Say, end: int) -> None:
    """Three by the C library; each waits in a read(2) that does not return before the end."""
    never, _ = os.pipe()
    threads = [threading.Thread(target=os.read, args=(never, 1)) for _ in range(3)]
    for thread in threads:
        thread.start()
    tids = [thread.native_id or 0 for thread in threads]
    for tid in tids:
        run.called("pthread_create()", tid)
    say(tids)
    os.read(end, 1)
    os._exit(0)
