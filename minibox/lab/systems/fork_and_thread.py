# SPDX-License-Identifier: Apache-2.0
"""A program that forks and makes a thread in the child, watched from outside."""

from __future__ import annotations

import os
import signal
import threading
from typing import NoReturn

from minibox import syscalls as sc
from minibox.errors import Unsupported
from minibox.lab import Block, Run, experiment, words
from minibox.tracing import Event

FORK = sc.CLONE_CHILD_SETTID | sc.CLONE_CHILD_CLEARTID
THREAD = (
    *(sc.CLONE_VM, sc.CLONE_FS, sc.CLONE_FILES, sc.CLONE_SIGHAND, sc.CLONE_THREAD),
    *(sc.CLONE_SYSVSEM, sc.CLONE_SETTLS, sc.CLONE_PARENT_SETTID, sc.CLONE_CHILD_CLEARTID),
)
LIBRARY, FLAGS = "by the C library", "by flags"
STACK = 64 << 10
SAME = {
    "the first call": words.flags(FORK),
    "its exit signal": "SIGCHLD",
    "its child's word holds": "the child's pid",
    "the second call": words.flags(sum(THREAD)),
    "its exit signal, too": 0,
    "its caller's word holds": "the thread's tid",
    "the thread is": "in the child",
    "it has": ["a stack", "a TLS"],
}


@experiment(
    FORK | sum(THREAD),
    source="clone(2), pthread_create(3), ptrace(2); glibc's posix/fork.c, nptl/pthread_create.c",
    runs={LIBRARY: 0, FLAGS: FORK | sum(THREAD)},
    expected={LIBRARY: SAME, FLAGS: SAME},
    order=5,
)
def fork_and_thread(run: Run) -> None:
    """fork and pthread_create are two calls of the clone family with other flags, as a tracer sees.

    One program forks, makes a thread in the child, and waits for both; the other one does the same
    with nothing but clone. Outside is what `minibox trace` is made of: it stops both tasks at each
    call (ptrace), and reads the arguments, and the tids that the kernel has stored. fork is a clone
    that shares nothing; its flags only have the kernel keep the child's tid in a word of its
    library. pthread_create is a clone that shares all, and brings a stack and a TLS of its own.
    """
    events = run.watched(_by_library if run.name == LIBRARY else lambda: _by_flags(run))
    calls = [event for event in events if event.call.startswith(("clone", "fork"))]
    _saw_fork(run, calls[0])
    if len(calls) > 1:
        _saw_thread(run, calls[1], calls[0].child)


def _saw_fork(run: Run, event: Event) -> None:
    run.saw("the first call", _in_order(event))
    run.saw("its exit signal", event.args["exit_signal"])
    stored = event.args.get("child_tid_holds", 0)
    run.saw("its child's word holds", "the child's pid" if stored == event.result else "nothing")


def _saw_thread(run: Run, event: Event, child: int) -> None:
    run.saw("the second call", _in_order(event))
    run.saw("its exit signal, too", event.args["exit_signal"])
    stored = event.args.get("parent_tid_holds", 0)
    is_own = event.makes_a_task and stored == event.result
    run.saw("its caller's word holds", "the thread's tid" if is_own else "nothing")
    run.saw("the thread is", "in the child" if event.pid == child else "elsewhere")
    given = {"a stack": event.args["stack"], "a TLS": event.args["tls"]}
    run.saw("it has", [name for name, address in given.items() if address])


def _in_order(event: Event) -> list[str]:
    """The flags as the expectation has them."""
    known = [name for name in words.flags((1 << 64) - 1) if name in event.flags]
    return known + sorted(event.flags - set(known))


def _by_library() -> None:
    if os.confstr("CS_GNU_LIBC_VERSION") is None:
        raise Unsupported("its C library is not glibc")
    pid = os.fork()
    if pid == 0:
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        os._exit(0)
    os.waitpid(pid, 0)


def _by_flags(run: Run) -> None:
    flags = run.flags & FORK | signal.SIGCHLD
    with Block() as word, Block() as own, Block(STACK) as stack:
        # With neither stack nor CLONE_VM both go on here, as after fork. The child's word is the
        # fourth argument or, with CLONE_BACKWARDS, the fifth; the other one is not looked at.
        how = {"exit_signal": signal.SIGCHLD, "child_tid": word.address, "call": 2}
        text = words.clone(run.flags & FORK, how)
        pid = run.syscall("clone", flags, 0, 0, word.address, word.address, text=text)
        if pid == 0:
            _child(run, own, stack)
        os.waitpid(pid, 0)


def _child(run: Run, own: Block, stack: Block) -> NoReturn:
    at = own.address
    given = {"stack": stack.stack, "tls": at + 512, "parent_tid": at, "child_tid": at}
    try:
        with run.clone([], run.flags & sum(THREAD), exact=True, **given):
            pass
    except OSError:
        pass  # the tracer has seen it
    finally:
        os._exit(0)
