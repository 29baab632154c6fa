# SPDX-License-Identifier: Apache-2.0
"""From a plan to a running process, and from its end to a status."""

from __future__ import annotations

import os
import select
import time
from _thread import allocate_lock
from errno import E2BIG, EACCES, EBUSY, EINVAL, ENOSYS, EOPNOTSUPP, EPERM

from minibox import core
from minibox.compile import slots
from minibox.compile.command import ORPHANED
from minibox.errors import MiniboxError, StateError
from minibox.plan import FORK
from minibox.resources import idmap, ranges, rlimits
from minibox.syscalls import CLONE_INTO_CGROUP, SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from minibox.host import Host
    from minibox.plan import Image, Plan
    from minibox.resources.cgroup import Cgroup
    from minibox.spec import Spec

# A child that cannot be waited for is one that a SIG_IGN for SIGCHLD, or a stranger's wait, reaped.
LOST = "the exit status is lost: this process ignores SIGCHLD, or something else has waited"


class Status:
    """How a process ended: exit_code as a shell says it, signal or None."""

    __slots__ = ("exit_code", "signal")

    def __init__(self, exit_code: int, signal: int | None) -> None:
        self.exit_code = exit_code
        self.signal = signal


class Process:
    """A container's first process, and the plan it came by."""

    def __init__(self, plan: Plan, spec: Spec, child: core.Child) -> None:
        self.plan = plan
        self.spec = spec
        self.pid = child.pid
        self.pidfd = child.pidfd
        self._child = child
        self._status: Status | None = None
        self._reaping = allocate_lock()
        self._is_closed = False

    def is_started(self, timeout: float = 0) -> bool:
        """Has the command been exec'd (or has set-up failed, or the process died)?"""
        return self._child.left(timeout)

    def started(self) -> None:
        """Wait until the command has been exec'd. SetupError when it never will be."""
        while not self._child.left(0.1):
            if self._is_dead():
                break
        self.raise_failure()

    def raise_failure(self) -> None:
        """SetupError if a step of the plan has failed."""
        if self._child.error:
            self.wait()
            from minibox import explain

            raise explain.failure(self.plan, self.spec, self._child.report())

    def report(self) -> core.Report:
        return self._child.report()

    def _is_dead(self) -> bool:
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def kill(self, signal: int) -> bool:
        """Send a signal to the first process; False when it has ended."""
        if self._status:
            return False
        if signal == SIGKILL and self.spec.has_init and not self.spec.makes("pid"):
            # Killed itself, the init could not end what the command has started.
            signal = ORPHANED if self.is_started() else SIGKILL
        try:
            core.pidfd_send_signal(self.pidfd, signal)
        except ProcessLookupError:
            return False
        return True

    def wait(self, timeout: float | None = None) -> Status | None:
        """How it ended, or None after `timeout` seconds. StateError when that cannot be known."""
        if self._status is None:
            if (timeout is not None or _guests) and not _wait_for(self, timeout):
                return None
            self.reap()
        return self._status

    def reap(self) -> None:
        """It has ended, or is about to: take its status, once, whichever thread comes first."""
        with self._reaping:
            self._status = self._status or self._reap()
            _guests.pop(self.pidfd, None)

    def _reap(self) -> Status:
        try:
            info = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        except ChildProcessError:
            raise StateError(LOST) from None
        assert info is not None
        recorded = self._child.init_status
        if recorded is not None:  # minibox-init ends as 128+n, and says what it was
            signal = recorded & 0x7F
            return Status(128 + signal, signal) if signal else Status(recorded >> 8, None)
        if info.si_code == os.CLD_EXITED:
            return Status(info.si_status, None)
        return Status(128 + info.si_status, info.si_status)

    def close(self) -> None:
        """Give everything back; a process that still runs is killed. Once is enough."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._status is None:
            self.kill(SIGKILL)
            try:
                self.wait()
            except StateError:
                pass
        os.close(self.pidfd)
        self._child.close()


# Children of ours in a pid namespace of somebody else's, by pidfd. Its init cannot end before they
# are reaped, so whoever waits for an init reaps them, too (pid_namespaces(7)).
_guests: dict[int, Process] = {}


def _wait_for(process: Process, timeout: float | None) -> bool:
    """Wait until `process` has ended, at most `timeout` seconds; reap guests meanwhile."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        poll = select.poll()
        for pidfd in {process.pidfd, *_guests}:
            poll.register(pidfd, select.POLLIN)
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        ended = [pidfd for pidfd, _ in poll.poll(left)]
        if process.pidfd in ended:
            return True
        for pidfd in ended:
            guest = _guests.pop(pidfd, None)
            if guest:
                guest.reap()
        if not ended and deadline is not None and time.monotonic() >= deadline:
            return False


def start(
    spec: Spec,
    plan: Plan,
    host: Host,
    image: Image,
    streams: Mapping[str, int] | None = None,
    prepare: Callable[[int], object] | None = None,
    plug: Callable[[int], object] | None = None,
    blanks: Mapping[str, bytes] = core.NOTHING,
    group: Cgroup | None = None,
) -> Process:
    """Launch the plan: the child is on its way when this returns. SetupError.

    streams: fds for the slots stdin, stdout, stderr and console, where the plan has them.
    prepare: called with the child's pid while it waits at its gate; OSError. plug: the same for its
    interfaces, while it makes its mounts. blanks: as core.launch takes them. group: its cgroup; the
    child is born in it where that can be, else it is put in before anything is done for it.
    """
    try:
        given = inputs(plan, image, dict(streams or {}))
        born = _born(image, plan, given, blanks, group.fd) if group else None
        child = born or core.launch(image, plan.flags, given, staged=plan.staged, blanks=blanks)
    except core.LaunchError as error:
        from minibox import explain

        raise explain.launch_failure(plan, spec, error) from None
    process = Process(plan, spec, child)
    try:
        if plan.staged and any(op.call == FORK for op in plan.ops):
            _adopt(process, child)
        if group and not born:
            group.admit(process.pid)
        if plan.uid_map:
            idmap.map_ids(process.pid, plan, host)
            rlimits.make_room(process.pid, spec)
        if prepare:
            prepare(process.pid)
        child.go()
        if plug:
            plug(process.pid)
            child.go(2)
    except OSError as error:
        try:
            process.raise_failure()  # it may be why there was nobody to do something for
        finally:
            process.close()
        raise _said(error, "prepare the container's process") from None
    except MiniboxError:
        process.close()
        raise
    return process


# clone3 does not exist or does not know the flag (before 5.7), or not this cgroup.
NOT_INTO = (ENOSYS, EINVAL, E2BIG, EPERM, EACCES, EBUSY, EOPNOTSUPP)


def _born(
    image: Image, plan: Plan, given: Mapping[str, int], blanks: Mapping[str, bytes], into: int
) -> core.Child | None:
    """Launch into the cgroup whose fd is `into`: no migration, for which the kernel would wait
    until all CPUs have seen it. None where that cannot be, and without an fd. LaunchError."""
    if into < 0:
        return None
    flags = plan.flags | CLONE_INTO_CGROUP
    try:
        return core.launch(
            image, flags, given, staged=plan.staged, blanks=blanks, cgroup=into, call=3
        )
    except core.LaunchError as error:
        if error.report or error.what or error.errno not in NOT_INTO:
            raise
        return None


def inputs(plan: Plan, image: Image, given: dict[str, int]) -> dict[str, int]:
    """The streams, and what is made once a process for the slots that the plan has. SetupError."""
    try:
        if slots.PARENT in image.slots:
            given[slots.PARENT] = core.own_pidfd()
        if slots.STAGE in image.slots:
            given[slots.STAGE] = core.stage_fd()
        if slots.USERNS in image.slots and plan.uid_map and slots.USERNS not in given:
            given[slots.USERNS] = ranges.userns(plan.uid_map, plan.gid_map)
    except OSError as error:
        raise _said(error, "prepare the launch") from None
    return given


def _said(error: OSError, what: str) -> MiniboxError:
    if isinstance(error, MiniboxError):
        return error
    from minibox import explain

    return explain.parent_failure(error, what)


def _adopt(process: Process, child: core.Child) -> None:
    """The stage has made a second child of ours and ends: that one is the container's."""
    os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
    pid = child.second_pid
    if not pid:
        process._status = Status(125, None)
        process.raise_failure()
        raise StateError("the stage ended before it could make the container's process")
    pidfd = core.pidfd_open(pid)
    # The number came through shared memory: only a child of ours can be waited for.
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    os.close(process.pidfd)
    process.pid, process.pidfd = pid, pidfd
    if process.spec.joins("pid"):
        _guests[pidfd] = process
