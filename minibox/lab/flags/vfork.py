# SPDX-License-Identifier: Apache-2.0
"""CLONE_VFORK"""

from __future__ import annotations

import os
import threading
import time

from minibox import core
from minibox import syscalls as sc
from minibox.lab import Run, experiment, op, status, until
from minibox.plan import Memory, Strings

MEANWHILE, ENDED = "while the child is at work, the parent", "when clone returns, the child"
EXECED = "when clone returns, a child that calls exec"
EXPECTED = {
    "with": {MEANWHILE: "waits", ENDED: "has ended", EXECED: "runs the program"},
    "without": {MEANWHILE: "goes on", ENDED: "is at work", EXECED: "runs the program or will"},
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
    _until_exit(run)
    _until_exec(run)


def _until_exit(run: Run) -> None:
    hold, release = os.pipe()
    told, tell = os.pipe()
    caller, returned = core.gettid(), threading.Event()
    seen: list[bool] = []

    def watch() -> None:
        """Let the child end when it is clear what the caller does while it is at work."""
        os.read(told, 1)
        until(lambda: returned.is_set() or status("self", caller)["State"].startswith("D"))
        seen.append(returned.is_set())
        os.write(release, b"!")

    watcher = threading.Thread(target=watch)
    watcher.start()
    program = [sc.write(tell, b"!"), op("read", hold, Memory(bytes(1), "buffer"), 1)]
    began = time.monotonic()
    with run.clone(program) as child:
        run.measured("clone returned after", 1e3 * (time.monotonic() - began), "ms")
        # The kernel clears this word just before it wakes the parent.
        has_ended = child.left(0)
        returned.set()
        watcher.join()
        run.saw(MEANWHILE, "goes on" if seen[0] else "waits")
        run.saw(ENDED, "has ended" if has_ended else "is at work")
    for fd in (hold, release, told, tell):
        os.close(fd)


def _until_exec(run: Run) -> None:
    read, write = os.pipe()
    program = Strings([b"sh", b"-c", b"read line"])
    calls = [sc.dup3(read, 0), sc.execve(b"/bin/sh", program, Strings([]))]
    with run.clone(calls) as child:
        is_exec = child.left(0) and os.path.exists(f"/proc/{child.pid}")
        run.saw(EXECED, "runs the program" if is_exec else "runs the program or will")
    os.close(read)
    os.close(write)
