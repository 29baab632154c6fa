# SPDX-License-Identifier: Apache-2.0
"""CLONE_THREAD"""

from __future__ import annotations

import os
import signal

from minibox import core
from minibox import syscalls as sc
from minibox.lab import (
    Block,
    Run,
    experiment,
    function,
    grandchild,
    grandchild_pid,
    op,
    status,
    until,
)
from minibox.plan import Op, Strings

GETPID, GETTID = "its getpid", "its gettid"
LISTED, WAIT = "listed in /proc/PID/task", "a wait for it"
ENDED, SIGCHLD = "its maker ends: a wait for the maker", "SIGCHLD then"
LAST, EXEC = "when it has ended, too", "its maker calls exec: it"
EXPECTED = {
    "with": {
        GETPID: "its maker's",
        GETTID: "its own",
        LISTED: True,
        WAIT: "ECHILD",
        ENDED: "not over",
        SIGCHLD: "not sent",
        LAST: "over, SIGCHLD sent",
        EXEC: "is gone",
    },
    "without": {
        GETPID: "its own",
        GETTID: "its own",
        LISTED: False,
        WAIT: "takes it",
        ENDED: "over",
        SIGCHLD: "sent",
        LAST: "over, SIGCHLD sent",
        EXEC: "lives",
    },
}


@experiment(
    sc.CLONE_THREAD,
    source="clone(2), CLONE_THREAD; kernel/exit.c exit_notify, fs/exec.c de_thread",
    expected=EXPECTED,
    also=sc.CLONE_VM | sc.CLONE_SIGHAND,
)
def thread(run: Run) -> None:
    """A child with CLONE_THREAD is a thread of the process that made it, not a process.

    It has that process's pid and a tid of its own. Nobody can wait for it. Its process has ended
    when the last of the threads has: only then does its parent get SIGCHLD. An exec leaves one
    thread, and kills the others.
    """
    _identity(run)
    _end_of_the_group(run)
    _exec(run)


def _identity(run: Run) -> None:
    with run.clone([op("getpid"), op("gettid"), sc.gate()]) as child:
        child.arrived()
        pid, tid = child.report().results[:2]
        run.saw(GETPID, "its maker's" if pid == os.getpid() else "its own")
        run.saw(GETTID, "its maker's" if tid == os.getpid() else "its own")
        run.saw(LISTED, str(child.pid) in os.listdir("/proc/self/task"))
        child.go()
        try:
            child.wait()
            run.saw(WAIT, "takes it")
        except ChildProcessError:
            run.saw(WAIT, "ECHILD")


def _maker(run: Run, word: Block, stack: Block, then: list[Op]) -> list[Op]:
    """A process that makes the thread, which waits for the word, and does something then."""
    made = grandchild(
        run.flags,
        function("lab_wait"),
        word.pointer(),
        exit_signal=0 if run.flags & sc.CLONE_THREAD else core.SIGCHLD,
        stack=stack.pointer(text="stack"),
        stack_size=stack.size,
    )
    return [made, *then]


def _end_of_the_group(run: Run) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with Block() as word, Block() as stack:
        program = _maker(run, word, stack, [sc.exit_(0)])
        while signal.SIGCHLD in signal.sigpending():
            signal.sigwait([signal.SIGCHLD])
        with run.clone(program, sc.CLONE_VM, exact=True) as maker:
            until(lambda: status(maker.pid)["State"].startswith("Z"))
            run.saw(ENDED, "over" if _is_over(maker.pid) else "not over")
            run.saw(SIGCHLD, "sent" if signal.SIGCHLD in signal.sigpending() else "not sent")
            inner = grandchild_pid(maker)
            word.wake(0)
            until(lambda: _is_over(maker.pid))
            sent = "SIGCHLD sent" if signal.SIGCHLD in signal.sigpending() else "no SIGCHLD"
            run.saw(LAST, f"over, {sent}" if _is_over(maker.pid) else "not over")
            # It is out of the memory that goes now.
            until(lambda: _is_dead(inner))


def _is_over(pid: int) -> bool:
    """Would a wait for it return?"""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _is_dead(pid: int) -> bool:
    """Is it out of all memory: gone, or a zombie?"""
    try:
        return status(pid)["State"].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return True


def _exec(run: Run) -> None:
    read, write = os.pipe()
    program = Strings([b"sh", b"-c", b"read line"])
    then = [sc.gate(), sc.dup3(read, 0), sc.execve(b"/bin/sh", program, Strings([]))]
    with (
        Block() as word,
        Block() as stack,
        run.clone(_maker(run, word, stack, then), sc.CLONE_VM) as maker,
    ):
        maker.arrived()
        inner = grandchild_pid(maker)
        maker.go()
        maker.left(10)
        run.saw(EXEC, "lives" if os.path.exists(f"/proc/{inner}") else "is gone")
        word.wake(0)
        until(lambda: _is_dead(inner))
    os.close(read)
    os.close(write)
