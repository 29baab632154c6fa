# SPDX-License-Identifier: Apache-2.0
"""clone(2) and clone3(2), bare: run a program of system calls under any flags."""

from __future__ import annotations

import os

from minibox import core, explain, supervisor
from minibox import syscalls as sc
from minibox.plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

    from minibox.plan import Op

WALL = 0x40000000


class Clone:
    """A child made by `clone`; as a context manager it gives its memory back at the end, by which
    time the child must have been waited for."""

    def __init__(self, plan: Plan, child: core.Child) -> None:
        self._plan = plan
        self._child = child
        self.pid = child.pid
        self.pidfd = child.pidfd

    def go(self, gates: int = 1) -> None:
        """Open the gate that a program may wait at, or the first so many."""
        self._child.go(gates)

    def arrived(self, timeout: float = 10.0) -> bool:
        """Wait until it is at its gate: does it come there in so many seconds?"""
        return self._child.arrived(timeout)

    def left(self, timeout: float) -> bool:
        """Has it left the shared memory, by exec or death (CLONE_CHILD_CLEARTID)?"""
        return self._child.left(timeout)

    def report(self) -> core.Report:
        """What its calls returned so far."""
        return self._child.report()

    def wait(self) -> supervisor.Status:
        """Reap it. SetupError (an OSError) if a call of its program failed; OSError ECHILD for a
        child that is not this process's to wait for (CLONE_PARENT, CLONE_THREAD)."""
        info = os.waitid(os.P_PID, self.pid, os.WEXITED | WALL)
        assert info is not None
        report = self._child.report()
        if report.error:
            raise explain.failure(self._plan, None, report)
        code = info.si_status
        is_exit = info.si_code == os.CLD_EXITED
        return supervisor.Status(code if is_exit else 128 + code, None if is_exit else code)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the memory back, once the child is out of it."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        self._child.close()


def reaching(flags: int, *, exact: bool) -> int:
    """The flags that reach the kernel when `flags` are asked for."""
    if exact:
        return flags
    without_pidfd = sc.CLONE_THREAD | sc.CLONE_PARENT_SETTID | sc.CLONE_DETACHED
    return flags | sc.CLONE_CHILD_CLEARTID | (0 if flags & without_pidfd else sc.CLONE_PIDFD)


def clone(
    program: Sequence[Op],
    flags: int = 0,
    *,
    exit_signal: int = core.SIGCHLD,
    tls: int = 0,
    stack: tuple[int, int] = (0, 0),
    parent_tid: int = 0,
    child_tid: int = 0,
    set_tid: Sequence[int] = (),
    cgroup: int = -1,
    call: int = 0,
    inputs: Mapping[str, int] | None = None,
    exact: bool = False,
) -> Clone:
    """Clone a child that runs a program of system calls: clone(2) and clone3(2), bare.

    flags reach the kernel as they are, with CLONE_CHILD_CLEARTID, and with CLONE_PIDFD where the
    call allows it; exact: without these two. After the last op the child exits with 0. stack:
    address and bytes of one of the caller's own, 0 for one of 16 KiB. parent_tid, child_tid:
    addresses of his own words for the flags of that name; `left` is then not told of the end.
    call: 2 or 3 insists on clone or clone3. inputs: fds by the name of the slot. OSError with the
    kernel's errno.
    """
    shares_handlers = bool(flags & sc.CLONE_SIGHAND)
    plan = Plan((), flags, tuple(program), reset_signals=not shares_handlers)
    try:
        child = core.launch(
            plan.encode(),
            reaching(flags, exact=exact),
            dict(inputs or {}),
            exit_signal=exit_signal,
            tls=tls,
            stack=stack,
            parent_tid=parent_tid,
            child_tid=child_tid,
            set_tid=set_tid,
            cgroup=cgroup,
            call=call,
        )
    except core.LaunchError as error:
        # OSError makes a PermissionError, a BlockingIOError … of it.
        raise OSError(error.errno, error.strerror, error.what or "clone") from None
    return Clone(plan, child)
