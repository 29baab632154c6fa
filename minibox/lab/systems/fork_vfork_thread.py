# SPDX-License-Identifier: Apache-2.0
"""fork, vfork and a thread, each by the C library and rebuilt from flags"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from minibox import syscalls as sc
from minibox.lab import Block, Run, call, experiment, function, kcmp, until, words

FORK = sc.CLONE_CHILD_SETTID | sc.CLONE_CHILD_CLEARTID
VFORK = sc.CLONE_VM | sc.CLONE_VFORK
SHARES = (sc.CLONE_VM, sc.CLONE_FILES, sc.CLONE_FS, sc.CLONE_SIGHAND)
THREAD = (
    *(*SHARES, sc.CLONE_THREAD, sc.CLONE_SYSVSEM, sc.CLONE_SETTLS),
    *(sc.CLONE_PARENT_SETTID, sc.CLONE_CHILD_CLEARTID),
)
LIBRARY, FLAGS = "by the C library", "by flags"
STACK = 64 << 10
# The words of struct lab_meeting in csrc/lab/meeting.h, and one for the parent itself.
PARENT, RETURNED, SHARED, THREADS, OVER, WAITED = range(6)


def both(flags: int, **seen: object) -> dict[str, dict[str, object]]:
    """What both runs should see: the same."""
    expected = {what.replace("_", " "): value for what, value in seen.items()}
    return {name: {"flags": words.flags(flags), **expected} for name in (LIBRARY, FLAGS)}


@experiment(
    FORK,
    source="fork(2), C library/kernel differences; clone(2)",
    runs={LIBRARY: 0, FLAGS: FORK},
    expected=both(
        FORK,
        exit_signal="SIGCHLD",
        it_is="a process",
        it_shares="nothing",
        its_parent="goes on at once",
    ),
    order=1,
)
def fork_by_flags(run: Run) -> None:
    """fork is clone with SIGCHLD and no flag that shares anything.

    The library adds two flags for itself: with them the kernel writes the child's tid into the
    child's copy of the library's word for it (CHILD_SETTID), where it would also be cleared if
    someone else had that memory (CHILD_CLEARTID).

    A tracer outside decodes the call of both runs; the child says what it shares with its parent
    (kcmp), and whether its parent is back from the call while it runs.
    """
    _compare(run, _library_fork)


@experiment(
    VFORK,
    source="vfork(2), Linux description; posix_spawn(3), NOTES; clone(2), CLONE_VFORK",
    runs={LIBRARY: 0, FLAGS: VFORK},
    expected=both(
        VFORK,
        exit_signal="SIGCHLD",
        it_is="a process",
        it_shares="CLONE_VM",
        its_parent="waits for its end",
    ),
    order=1,
)
def vfork_by_flags(run: Run) -> None:
    """vfork is clone with VM, VFORK and SIGCHLD: the child is a process in its parent's memory, and
    its parent stands still until it ends or execs.

    With vfork() the child even uses its parent's stack, with posix_spawn and minibox.clone one of
    its own. The child waits up to 200 ms for its parent to come back from the call: in vain.
    """
    _compare(run, _library_vfork)
    if run.name == LIBRARY:
        true = shutil.which("true") or "/bin/true"
        spawned = run.watched(lambda: os.waitpid(os.posix_spawn(true, [true], {}), 0))
        made = next(event for event in spawned if event.makes_a_task)
        run.saw("flags of posix_spawn", _in_order(made.flags))


@experiment(
    sum(THREAD),
    source="pthread_create(3); clone(2); glibc, nptl/pthread_create.c",
    runs={LIBRARY: 0, FLAGS: sum(THREAD)},
    expected=both(
        sum(THREAD),
        exit_signal=0,
        it_is="a thread of its parent's process",
        it_shares=" ".join(words.flags(sum(SHARES))),
        its_parent="goes on at once",
    ),
    order=1,
)
def thread_by_flags(run: Run) -> None:
    """pthread_create is clone with nine flags and no exit signal: the child shares all, and is a
    thread of its parent's process.

    VM, FS, FILES and SIGHAND share what a process has, THREAD makes it a part of the process, and
    SYSVSEM shares the list of semaphores to undo. The other three are the library's: a TLS of its
    own, its tid for the creator, and a word that is cleared at its end, for pthread_join.
    """
    with Block() as own, Block(STACK) as stack:
        at = own.address
        how = {"stack": stack.stack, "tls": at + 512, "parent_tid": at, "child_tid": at}
        _compare(run, _library_thread, exit_signal=0, **how)


def _compare(run: Run, library: Callable[[Block], None], **how: Any) -> None:
    """Have a child made by the library, or by the run's flags, and look at it from both sides."""
    if run.name == LIBRARY and not _is_glibc():
        run.unsupported("the C library is not glibc, whose calls these are")
    kcmp(os.getpid(), "VM")  # the child cannot say that a filter refuses it
    with Block(shared=True) as meeting:
        make = library if run.name == LIBRARY else partial(_by_flags, run, how)
        events = run.watched(lambda: make(meeting))
        made = next((event for event in events if event.makes_a_task), None)
        run.saw("flags", _in_order(made.flags) if made else ["refused"])
        run.saw("exit signal", made.args["exit_signal"] if made else None)
        run.saw(
            "it is", "a thread of its parent's process" if meeting.word(THREADS) else "a process"
        )
        shared = [bit for k, bit in enumerate(SHARES) if meeting.word(SHARED) >> k & 1]
        run.saw("it shares", " ".join(words.flags(sum(shared))) or "nothing")
        waits = meeting.word(WAITED)
        run.saw("its parent", "waits for its end" if waits else "goes on at once")


def _by_flags(run: Run, how: dict[str, Any], meeting: Block) -> None:
    meeting.set(PARENT, os.getpid())
    with Block() as own:
        if not run.flags & sc.CLONE_THREAD:
            how = {**how, "child_tid": own.address}
        meet = sc.call(function("lab_meet"), meeting.pointer(text="&meeting"))
        with suppress(OSError), run.clone([meet], exact=True, **how):
            _returned(meeting)
            until(lambda: meeting.word(OVER))


def _library_fork(meeting: Block) -> None:
    meeting.set(PARENT, os.getpid())
    pid = os.fork()
    if pid == 0:
        call("lab_meet", meeting.address)
        os._exit(0)
    _returned(meeting)
    os.waitpid(pid, 0)


def _library_vfork(meeting: Block) -> None:
    meeting.set(PARENT, os.getpid())
    pid = call("lab_vfork", meeting.address)
    _returned(meeting)
    os.waitpid(pid, 0)


def _library_thread(meeting: Block) -> None:
    meeting.set(PARENT, os.getpid())
    thread = threading.Thread(target=call, args=("lab_meet", meeting.address))
    thread.start()
    _returned(meeting)
    thread.join()


def _returned(meeting: Block) -> None:
    """The parent is back from the call: was the child over by then?"""
    meeting.set(WAITED, meeting.word(OVER))
    meeting.set(RETURNED, 1)


def _in_order(names: frozenset[str]) -> list[str]:
    """As words.flags has them."""
    return [name for name in words.flags((1 << 64) - 1) if name in names]


def _is_glibc() -> bool:
    try:  # musl has the name, and no value for it
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (ValueError, OSError):
        return False
