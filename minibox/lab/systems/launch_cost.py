# SPDX-License-Identifier: Apache-2.0
"""What a child costs a parent of 1 MiB to 4 GiB"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from minibox import syscalls as sc
from minibox.lab import Block, Figure, Run, experiment, kcmp, look, status
from minibox.lab.memory import PAGE
from minibox.plan import Strings

MIB = 1 << 20
SIZES = [4**k * MIB for k in range(7)]
# How often each is measured, and how often if it took so many seconds at the size before.
TIMES, FEW, LONG = 9, 2, 0.01
# One entry a page; the tables above the lowest ones are few.
ENTRY = 8
THREAD = sc.CLONE_FS | sc.CLONE_FILES | sc.CLONE_SIGHAND | sc.CLONE_THREAD
FIGURE = Figure(
    "How long the call keeps a parent, by the parent's size",
    "memory that the parent has written to (bytes)",
    "until the call returns (ms)",
    log="xy",
)
EXPECTED = {
    "by size": {
        "memory of a child with VM (kcmp)": "same",
        "its page tables": "the parent's",
        "memory of a child without (kcmp)": "another",
        "page tables of that": "a copy",
    }
}
Measure = Callable[[int], list[float]]


@experiment(
    sc.CLONE_VM,
    source="clone(2); posix_spawn(3), NOTES; kernel/fork.c dup_mmap, mm/memory.c copy_page_range",
    expected=EXPECTED,
    runs={"by size": sc.CLONE_VM},
    order=2,
    timeout=120,
)
def launch_cost(run: Run) -> None:
    """fork takes the longer the larger its parent is, for it copies the page tables; a child with
    CLONE_VM costs the same from any parent.

    Copy-on-write spares the pages, but not the tables that say where they are: 8 bytes for each
    page of 4 KiB, 8 MiB for 4 GiB (VmPTE in /proc/PID/status), and for each entry the use count of
    its page goes up. vfork, posix_spawn and threads have CLONE_VM, so there is nothing to copy.

    Each child ends at once, or runs `true` (posix_spawn). The time is that until the call returns,
    the shortest of some: for vfork that is the child's whole life, for posix_spawn until it has
    exec'd. Children by minibox.clone have its 20 to 50 microseconds in it, those by the C library
    what Python adds there. The pages are small ones. The parent becomes at most half as large as
    there is memory free. The verdict is about the tables, and about no time.
    """
    measures = _measures(run)
    took = dict.fromkeys(measures, 0.0)
    seen: dict[str, set[str]] = {}
    for size in _parents(run):
        for line, measure in measures.items():
            took[line] = min(measure(FEW if took[line] > LONG else TIMES))
            run.point(FIGURE, line, size, 1000 * took[line])
        for flags, memory, tables in (
            (run.flags, "memory of a child with VM (kcmp)", "its page tables"),
            (0, "memory of a child without (kcmp)", "page tables of that"),
        ):
            with run.clone([sc.gate()], flags) as child:
                child.arrived()
                is_same = kcmp(child.pid, "VM") == "same"
                own = int(status(child.pid)["VmPTE"].split()[0]) * 1024
            is_copy = not is_same and own >= size // PAGE * ENTRY
            seen.setdefault(memory, set()).add("same" if is_same else "another")
            seen.setdefault(tables, set()).add("a copy" if is_copy else "the parent's")
    for what, values in seen.items():
        run.saw(what, " ".join(sorted(values)))


def _measures(run: Run) -> dict[str, Measure]:
    """How each kind of child is made and timed, a number of times; by its line in the figure."""
    true = os.fsencode(shutil.which("true") or "/bin/true")
    execve = sc.execve(true, Strings([true]), Strings([]))
    vfork = run.flags | sc.CLONE_VFORK

    def fork() -> int:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        return pid

    return {
        "fork: no flags": lambda n: run.timed([], 0, times=n),
        "fork by the C library": lambda n: _calls(fork, n),
        "posix_spawn: VM, VFORK and execve": lambda n: run.timed([execve], vfork, times=n),
        "posix_spawn by the C library": lambda n: _calls(
            lambda: os.posix_spawn(true, [true], {}), n
        ),
        "vfork: VM, VFORK": lambda n: run.timed([], vfork, times=n),
        "thread: VM, FS, FILES, SIGHAND, THREAD": lambda n: run.timed(
            [], run.flags | THREAD, times=n
        ),
    }


def _calls(make: Callable[[], int], times: int) -> list[float]:
    """How long each of so many calls takes; its child is reaped outside of that."""
    took = []
    for _ in range(times + 1):
        began = time.perf_counter()
        pid = make()
        took.append(time.perf_counter() - began)
        os.waitpid(pid, 0)
    return took[1:]


def _parents(run: Run) -> Iterator[int]:
    """Be as large as each of SIZES that there is memory for, one after the other."""
    room = look.free_memory() // 2
    with ExitStack() as blocks:
        size = 0
        for more in SIZES:
            if more > room:
                run.saw("left out, as memory is short", f"{more // MIB} MiB and more")
                return
            block = blocks.enter_context(Block(more - size))
            block.fill()
            size = more
            yield size
