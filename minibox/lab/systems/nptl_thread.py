# SPDX-License-Identifier: Apache-2.0
"""A thread as the C library makes it, by hand: nine flags and seven arguments."""

from __future__ import annotations

import os
import signal
import struct
from typing import Any

from minibox import syscalls as sc
from minibox.lab import Block, Run, call, experiment, function, kcmp, op, process, status, until
from minibox.lab.memory import PAGE
from minibox.lab.process import Say
from minibox.lab.systems.four_threads import have_undo_list
from minibox.plan import Memory

SHARED = {
    "VM": sc.CLONE_VM,
    "FS": sc.CLONE_FS,
    "FILES": sc.CLONE_FILES,
    "SIGHAND": sc.CLONE_SIGHAND,
    "SYSVSEM": sc.CLONE_SYSVSEM,
}
NPTL = (
    sum(SHARED.values())
    | sc.CLONE_THREAD
    | sc.CLONE_SETTLS
    | sc.CLONE_PARENT_SETTID
    | sc.CLONE_CHILD_CLEARTID
)
STACK = 65536
# Words of the descriptor: both parent_tid and child_tid, as in glibc; and one to read into.
TID, BYTE = 0, 1
VALUE = 7  # of the thread-local variable at first: csrc/lab/thread.c
LINGER = struct.pack("=qq", 0, 2_000_000)
FUTEX_WAIT, SLICE = 0, struct.pack("=qq", 0, 50_000_000)
CLEARED = "yes: the word is cleared"
STALE = "in vain: the word names a thread that is gone"

JOINED: dict[str, object] = {"its tid at its first look": "there", "joined": CLEARED}
EXPECTED: dict[str, dict[str, object]] = {
    "nine flags": {
        **JOINED,
        "getpid": "the parent's",
        "gettid": "its own",
        "shared (kcmp)": list(SHARED),
        "its stack": "the one it was given",
        "its thread pointer": "the one it was given",
        "its variable": VALUE + 1,
        "the parent's variable": VALUE,
        "SIGCHLD when the leader ends": False,
        "SIGCHLD when the last thread ends": True,
    },
    "parent held back": JOINED,
    "held back, no PARENT_SETTID": {"its tid at its first look": "not there", "joined": STALE},
    "no flag": {
        "getpid": "its own",
        "gettid": "its own",
        "shared (kcmp)": [],
        "its thread pointer": "the parent's",
        "the parent's variable": VALUE,
        "SIGCHLD when the leader ends": True,
    },
}


@experiment(
    NPTL,
    source="clone(2); pthreads(7); set_tid_address(2); glibc nptl/pthread_create.c",
    expected=EXPECTED,
    runs={
        "nine flags": NPTL,
        "parent held back": NPTL | sc.CLONE_VFORK,
        "held back, no PARENT_SETTID": NPTL & ~sc.CLONE_PARENT_SETTID | sc.CLONE_VFORK,
        "no flag": 0,
    },
)
def nptl_thread(run: Run) -> None:
    """A thread of the C library is a task made with nine flags; each gives one of the things that
    pthread_create promises.

    Its arguments: a function and its argument (a table of calls), a stack, the flags, a block for
    thread-local variables, and one word for its tid, which is both parent_tid and child_tid. The
    kernel stores the tid there before the thread runs, and clears it and wakes a futex when the
    thread is gone: that is what pthread_join waits for.

    Without CLONE_PARENT_SETTID the parent would store what clone returns. CLONE_VFORK holds it back
    here until the thread has ended, as a scheduler may at any time: the store comes after the
    kernel has cleared the word, and who joins waits for a thread that is gone.

    The leader of a group may end before its threads. Its parent gets SIGCHLD, and may reap it, only
    when the last thread is gone.
    """
    have_undo_list(run)
    with Block() as descriptor, Block(STACK) as stack, Block(_tls_size()) as tls:
        word = descriptor.address + 4 * TID
        how = {
            "stack": stack.stack,
            "tls": _fill(tls),
            "parent_tid": word,
            "child_tid": word,
            "exact": True,
        }
        _one_thread(run, descriptor, how)
        if not run.flags & sc.CLONE_VFORK:
            _end_of_a_group(run, descriptor, how)


def _one_thread(run: Run, descriptor: Block, how: dict[str, Any]) -> None:
    waits = not run.flags & sc.CLONE_VFORK
    program = [
        sc.call(function("lab_look"), descriptor.pointer(TID, "&tid")),
        op("getpid"),
        op("gettid"),
        sc.call(function("lab_stack")),
        sc.call(function("lab_thread_pointer")),
        sc.call(function("lab_variable_add")),
    ]
    if waits:
        # So that the parent is seen to wait; it joins as well when the thread is gone before.
        program += [sc.gate(), op("nanosleep", Memory(LINGER), None)]
    with run.clone(program, **how) as child:
        if not run.flags & sc.CLONE_PARENT_SETTID:
            descriptor.set(TID, child.pid)
        if waits:
            child.arrived()
            shared = [kind for kind in SHARED if kcmp(child.pid, kind) == "same"]
            run.saw("shared (kcmp)", shared)
            child.go()
        if run.flags & sc.CLONE_THREAD:
            run.saw("joined", CLEARED if _join(run, descriptor, child.pid) else STALE)
        _saw_itself(run, child.report().results, child.pid, how)


def _saw_itself(run: Run, results: list[int], tid: int, how: dict[str, Any]) -> None:
    """What the thread has found, by the results of its calls."""
    look, pid, own, stack, pointer, variable = results[:6]
    low, size = how["stack"]
    given = {how["tls"]: "the one it was given", call("lab_thread_pointer"): "the parent's"}
    run.saw("its tid at its first look", "there" if look == tid else "not there")
    run.saw("getpid", "the parent's" if pid == os.getpid() else "its own")
    run.saw("gettid", "its own" if own == tid != os.getpid() else "another's")
    run.saw("its stack", "the one it was given" if low <= stack < low + size else "another")
    run.saw("its thread pointer", given.get(pointer, "another"))
    run.saw("its variable", variable)
    run.saw("the parent's variable", call("lab_look", call("lab_variable")))


def _join(run: Run, descriptor: Block, tid: int) -> bool:
    """pthread_join: wait until the kernel has cleared the word. It would not end where the word is
    never cleared; here it does once the thread is gone. Is the word cleared?"""
    gone = False
    while not gone:
        gone = not os.path.exists(f"/proc/self/task/{tid}")
        seen = descriptor.word(TID)
        if seen == 0:
            return True
        text = f"futex(&tid, FUTEX_WAIT, {seen}, 50 ms)"
        word = descriptor.address + 4 * TID
        run.syscall("futex", word, FUTEX_WAIT, seen, SLICE, None, 0, text=text)
    return False


def _end_of_a_group(run: Run, descriptor: Block, how: dict[str, Any]) -> None:
    """A process whose first thread ends while another reads from a pipe that is empty."""

    def leader(say: Say, end: int) -> None:
        wait = op("read", end, descriptor.pointer(BYTE, "&byte"), 1)
        with run.clone([wait], **how) as thread:
            run.called("exit(0)", "?")
            say([thread.pid])
            run.syscall("exit", 0)  # of this thread alone; os._exit is exit_group

    chld = {signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, chld)
    with process(run, leader) as group:
        until(lambda: status(group.pid)["State"].startswith("Z"))
        # Waiting takes the lock under which the kernel sends the signal of an end: it is sent by
        # now, or it is not sent for this end.
        os.waitid(os.P_PID, group.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        early = bool(chld & signal.sigpending())
        run.saw("SIGCHLD when the leader ends", early)
        group.end()
        if not early:
            came = signal.sigtimedwait(chld, 10)
            run.saw("SIGCHLD when the last thread ends", came is not None)


def _distance() -> int:
    """From the thread pointer to the variable, the same for every thread: the variables of a
    program lie below the pointer on x86-64, and above it on arm64."""
    return call("lab_variable") - call("lab_thread_pointer")


def _tls_size() -> int:
    """Bytes of a block that has the variable on one side of its middle or the other."""
    return 2 * PAGE * (2 + abs(_distance()) // PAGE)


def _fill(tls: Block) -> int:
    """Make it what the C library makes: a word, where the pointer points, that points to itself,
    and the variable's first value (.tdata). The thread pointer."""
    middle = tls.size // 2
    struct.pack_into("=Q", tls.memory, middle, tls.address + middle)
    struct.pack_into("=i", tls.memory, middle + _distance(), VALUE)
    return tls.address + middle
