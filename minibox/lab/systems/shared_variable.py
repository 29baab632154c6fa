# SPDX-License-Identifier: Apache-2.0
"""The example of every text about clone(): parent and child take turns by a shared word."""

from __future__ import annotations

import os
import statistics
import struct
import time

from minibox import syscalls as sc
from minibox.lab import Block, Figure, Run, call, experiment, function, kcmp, status, until
from minibox.primitive import Clone

SHARING = sc.CLONE_VM | sc.CLONE_FS | sc.CLONE_FILES | sc.CLONE_SIGHAND
STACK = 65536
# struct lab_shared of csrc/lab/shared.h: words, and the bytes where the rest begins.
WORD, LOOKS, FUTEX, ROUNDS = range(4)
STACK_AT, ASKED, SEEN, MOST = 16, 24, 24 + 8 * 64, 24
FUTEX_WAKE = 1
MORE = 10  # looks after which the child will not see what it has not seen
WINDOW = 0.05  # seconds

LATENCY = Figure("From the store to the reaction", "wait", "µs, median", bars=True)
CPU = Figure("CPU time of waiting", "wait", "µs in a second", bars=True)

TURNS = {
    "shared": ["VM", "FS", "FILES", "SIGHAND"],
    "the stack it runs on": "the parent's block",
    "the word after the store": "2 for both",
    "the child": "ended with 0",
    "the stack afterwards": "freed",
}
EXPECTED = {
    "sleeping loop": {**TURNS, "looks while nothing happens": "again and again"},
    "futex": {**TURNS, "looks while nothing happens": "one"},
    "without VM": {
        **TURNS,
        "shared": ["FS", "FILES"],
        "looks while nothing happens": "again and again",
        "the word after the store": "1 for the parent, 0 for the child",
        "the child": f"looked {MORE} times more in vain",
    },
}


@experiment(
    SHARING,
    source="clone(2); futex(2); kernel/fork.c copy_mm, copy_fs, copy_files, copy_sighand",
    expected=EXPECTED,
    runs={
        "sleeping loop": SHARING,
        "futex": SHARING,
        "without VM": SHARING & ~(sc.CLONE_VM | sc.CLONE_SIGHAND),
    },
)
def shared_variable(run: Run) -> None:
    """A word that parent and child share lets them take turns; without CLONE_VM the child waits for
    ever.

    The parent allocates a stack, clones the child onto it, and sets the word to 1. The child looks
    at the word and sleeps for 1 ms until it sees that, and sets it to 2. The parent waits for the
    2, then for the child's end, and frees the stack.

    With a futex the child is not woken before there is something to see: it reacts sooner, and its
    waiting costs no CPU time. Without CLONE_VM (and CLONE_SIGHAND, which the kernel takes only with
    it) the same address is another page in the child: the store of the parent is never seen there.
    """
    with Block() as shared:
        shared.set(FUTEX, int(run.name == "futex"))
        shared.set(ROUNDS, 1)
        with Block(STACK) as stack:
            _take_turns(run, shared, stack)
            freed = stack.address
        run.saw("the stack afterwards", "mapped" if _is_mapped(freed) else "freed")
    if run.flags & sc.CLONE_VM:
        _measure(run)


def _take_turns(run: Run, shared: Block, stack: Block) -> None:
    answer = sc.call(function("lab_answer"), shared.pointer(text="&shared"))
    with run.clone([answer], stack=stack.stack, exact=True) as child:
        theirs = _Memory(child.pid, shared)
        _await_its_wait(run, child, theirs)
        kinds = ("VM", "FS", "FILES", "SIGHAND")
        run.saw("shared", [kind for kind in kinds if kcmp(child.pid, kind) == "same"])
        own = stack.address <= theirs.stack() < stack.address + stack.size
        run.saw("the stack it runs on", "the parent's block" if own else "another")

        before = theirs.word(LOOKS)
        shared.set(WORD, 1)
        if shared.word(FUTEX):
            run.syscall("futex", shared.address, FUTEX_WAKE, 1, text="futex(&word, FUTEX_WAKE, 1)")
        until(lambda: shared.word() == 2 or theirs.word(LOOKS) > before + MORE)
        if shared.word() == 2:
            run.saw("the word after the store", "2 for both")
            run.saw("the child", f"ended with {child.wait().exit_code}")
        else:
            words = f"{shared.word()} for the parent, {theirs.word(WORD)} for the child"
            run.saw("the word after the store", words)
            run.saw("the child", f"looked {MORE} times more in vain")


def _await_its_wait(run: Run, child: Clone, theirs: _Memory) -> None:
    """Wait until it waits; and how often it looks meanwhile."""
    if run.name == "futex":
        until(lambda: theirs.word(LOOKS) > 0 and status(child.pid)["State"].startswith("S"))
        time.sleep(WINDOW)
    else:
        until(lambda: theirs.word(LOOKS) > MORE)
    looks = theirs.word(LOOKS)
    run.saw("looks while nothing happens", "one" if looks == 1 else "again and again")


def _measure(run: Run) -> None:
    """What a wait costs, and how soon it is over, in many rounds with the same child."""
    with Block() as shared, Block(STACK) as stack:
        shared.set(FUTEX, int(run.name == "futex"))
        shared.set(ROUNDS, MOST)
        answer = sc.call(function("lab_answer"), shared.pointer(text="&shared"))
        with run.clone([answer], stack=stack.stack, exact=True) as child:
            theirs = _Memory(child.pid, shared)
            until(lambda: theirs.word(LOOKS) > 0 and status(child.pid)["State"].startswith("S"))
            cpu, wakes = _cost_of_waiting(child.pid)
            call("lab_ask", shared.address)
            child.wait()
        asked = struct.unpack_from(f"={MOST}q", shared.memory, ASKED)
        seen = struct.unpack_from(f"={MOST}q", shared.memory, SEEN)
    latency = statistics.median(s - a for a, s in zip(asked, seen, strict=True)) / 1000
    run.measured("from the store to the reaction, median", latency, "µs")
    run.measured("CPU time of waiting", cpu, "µs in a second")
    run.measured("wakeups of waiting", wakes, "in a second")
    run.point(LATENCY, "latency", run.name, latency)
    run.point(CPU, "CPU time", run.name, cpu)


def _cost_of_waiting(pid: int) -> tuple[float, float]:
    """µs of CPU time and wakeups of a process in a second of waiting."""
    began, cpu, wakes = time.monotonic(), _cpu(pid), _wakes(pid)
    time.sleep(WINDOW)
    took = time.monotonic() - began
    return (_cpu(pid) - cpu) / took, (_wakes(pid) - wakes) / took


class _Memory:
    """The block as the child has it at the same address: shared, or a copy. Zeros once the child is
    gone."""

    def __init__(self, pid: int, block: Block) -> None:
        self.pid = pid
        self.address = block.address

    def word(self, index: int) -> int:
        return int.from_bytes(self._read(4 * index, 4), "little", signed=True)

    def stack(self) -> int:
        return int.from_bytes(self._read(STACK_AT, 8), "little")

    def _read(self, offset: int, size: int) -> bytes:
        try:
            with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as file:
                return os.pread(file.fileno(), size, self.address + offset)
        except ProcessLookupError:
            return b""


def _cpu(pid: int) -> float:
    """CPU time of a process in µs: its clock, as clock_getcpuclockid(3) numbers it."""
    return time.clock_gettime_ns((~pid << 3) | 2) / 1000


def _wakes(pid: int) -> int:
    return int(status(pid)["voluntary_ctxt_switches"])


def _is_mapped(address: int) -> bool:
    with open("/proc/self/maps", encoding="utf-8", errors="backslashreplace") as maps:
        spans = [line.split()[0].split("-") for line in maps]
    return any(int(low, 16) <= address < int(high, 16) for low, high in spans)
