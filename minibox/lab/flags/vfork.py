# SPDX-License-Identifier: Apache-2.0
"""CLONE_VFORK"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from minibox import core
from minibox import syscalls as sc
from minibox.lab import Run, experiment, op, status, until
from minibox.plan import Memory, Op, Strings
from minibox.primitive import Clone

MEANWHILE, ENDED = "while the child is at work, the parent", "when clone returns, the child"
EXECED = "when clone returns, a child that is to call exec"
EXPECTED = {
    "with": {MEANWHILE: "waits", ENDED: "has ended", EXECED: "runs the program"},
    "without": {MEANWHILE: "goes on", ENDED: "is at work", EXECED: "is at work"},
}


@experiment(
    sc.CLONE_VFORK,
    source="clone(2), CLONE_VFORK; kernel/fork.c wait_for_vfork_done",
    expected=EXPECTED,
    also=sc.CLONE_VM,
)
def vfork(run: Run) -> None:
    """A parent that clones with CLONE_VFORK waits until the child calls exec or ends.

    The thread that calls is what waits, in a sleep that only SIGKILL ends (state D): another thread
    of the parent goes on, and is here the one that sees it.
    """
    program = Strings([b"sh", b"-c", b"read line"])
    with _held(run, []) as (_, has_left, was_first):
        run.saw(MEANWHILE, "goes on" if was_first else "waits")
        run.saw(ENDED, "has ended" if has_left else "is at work")
    read, write = os.pipe()
    exec_ = [sc.dup3(read, 0), sc.execve(b"/bin/sh", program, Strings([]))]
    with _held(run, exec_) as (child, has_left, _):
        is_program = has_left and os.path.exists(f"/proc/{child.pid}")
        run.saw(EXECED, "runs the program" if is_program else "is at work")
    os.close(read)
    os.close(write)


@contextmanager
def _held(run: Run, then: list[Op]) -> Iterator[tuple[Clone, bool, bool]]:
    """A child that is at work until another thread of this process has seen what the caller of
    clone does meanwhile, and then does the rest. The child; had it left the memory when clone
    returned; and had clone returned while it was at work?"""
    hold, release = os.pipe()
    told, tell = os.pipe()
    caller, returned = core.gettid(), threading.Event()
    was_first: list[bool] = []

    def watch() -> None:
        os.read(told, 1)
        until(lambda: returned.is_set() or status("self", caller)["State"].startswith("D"))
        was_first.append(returned.is_set())
        os.write(release, b"!")

    watcher = threading.Thread(target=watch)
    watcher.start()
    program = [sc.write(tell, b"!"), op("read", hold, Memory(bytes(1), "buffer"), 1), *then]
    with run.clone(program) as child:
        # The kernel clears this word just before it wakes the parent.
        has_left = child.left(0)
        returned.set()
        watcher.join()
        yield child, has_left, was_first[0]
    for fd in (hold, release, told, tell):
        os.close(fd)
