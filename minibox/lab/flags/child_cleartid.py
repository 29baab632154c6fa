# SPDX-License-Identifier: Apache-2.0
"""CLONE_CHILD_CLEARTID"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from minibox import core
from minibox import syscalls as sc
from minibox.lab import Block, Run, experiment, sleeps_at, until
from minibox.numbers import NUMBERS
from minibox.plan import Op, Strings
from minibox.primitive import Clone
from minibox.resident import has_ended

FUTEX_WAIT = 0
SET = 7
BEFORE, AFTER, SLEEPER = "the word until", "the word after", "who sleeps for it until"
EXIT, EXEC = "its end", "its exec"
CLEARED = {BEFORE: SET, AFTER: 0, SLEEPER: "is woken"}
KEPT = {BEFORE: SET, AFTER: SET, SLEEPER: "sleeps on"}


def both(saw: dict[str, object]) -> dict[str, object]:
    """At both ways to leave the memory."""
    return {f"{what} {how}": value for how in (EXIT, EXEC) for what, value in saw.items()}


EXPECTED = {
    "with": both(CLEARED),
    "without": both(KEPT),
    "with, in memory of its own": both(KEPT),
}
RUNS = {
    "with": sc.CLONE_CHILD_CLEARTID | sc.CLONE_VM,
    "without": sc.CLONE_VM,
    "with, in memory of its own": sc.CLONE_CHILD_CLEARTID,
}


@experiment(
    sc.CLONE_CHILD_CLEARTID,
    source="clone(2), CLONE_CHILD_CLEARTID; kernel/fork.c mm_release",
    expected=EXPECTED,
    runs=RUNS,
    also=sc.CLONE_VM,
)
def child_cleartid(run: Run) -> None:
    """When a child with CLONE_CHILD_CLEARTID leaves the shared memory, the kernel clears a word in
    it and wakes who sleeps for that word.

    That is what pthread_join waits for. It leaves by its end or by exec. Where nobody else has that
    memory there is nobody to tell: the word, which is in pages that all share here, stays as it is.
    """
    read, write = os.pipe()
    told, tell = os.pipe()
    script = Strings([b"sh", b"-c", b"echo; read line"])
    program = [sc.dup3(read, 0), sc.dup3(tell, 1), sc.execve(b"/bin/sh", script, Strings([]))]
    with Block(shared=True) as block:
        _leave(run, block, EXIT, [], _await)
        _leave(run, block, EXEC, program, lambda _: os.read(told, 1))
    for fd in (read, write, told, tell):
        os.close(fd)


def _leave(
    run: Run, block: Block, how: str, program: list[Op], await_it: Callable[[Clone], object]
) -> None:
    """A child leaves the memory, while a thread of this process sleeps for the word."""
    block.set(0, SET)
    sleeper = threading.Thread(target=_sleep, args=(block.address,))
    with run.clone([sc.gate(), *program], child_tid=block.address, exact=True) as child:
        child.arrived()
        sleeper.start()
        until(lambda: sleeper.native_id and sleeps_at(sleeper.native_id, block.address))
        run.saw(f"{BEFORE} {how}", block.word())
        child.go()
        await_it(child)
        run.saw(f"{AFTER} {how}", block.word())
        # Is there still one to be woken, now that the child is out?
        run.saw(f"{SLEEPER} {how}", "sleeps on" if block.wake(0) else "is woken")
    sleeper.join()


def _sleep(address: int) -> None:
    try:
        core.syscall(NUMBERS["futex"], address, FUTEX_WAIT, SET, 0, 0, 0)
    except BlockingIOError:
        pass  # it is cleared already


def _await(child: Clone) -> None:
    """Wait for its end; it stays to be reaped."""
    pidfd = core.pidfd_open(child.pid)
    has_ended(pidfd, None)
    os.close(pidfd)
