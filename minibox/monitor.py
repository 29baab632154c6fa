# SPDX-License-Identifier: Apache-2.0
"""Starting a detached container: launch, id maps, gate, and the commit that lets it live on.

Until `commit` nothing has happened: the monitor undoes the start when the process that starts it
ends, closes the socket between them, or calls `undo`.
"""

from __future__ import annotations

import os
import select
import struct

from minibox import core, supervisor
from minibox import syscalls as sc
from minibox.compile import slots
from minibox.errors import MiniboxError, SetupError, StateError
from minibox.numbers import NUMBERS
from minibox.resources import idmap, rlimits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from minibox.host import Host
    from minibox.plan import Plan
    from minibox.spec import Spec

    class Plugs(Protocol):
        """What network/wiring.py does for a container that is being started."""

        def prepare(self, pid: int) -> None: ...
        def plug_in(self, pid: int) -> None: ...


UPPER_FD = 9  # where the monitor keeps the overlay's upper layer (csrc/monitor.c)
COMMIT, UNDO = b"c", b"u"
# How long an undone start may take to be gone; what is killed is gone in far less.
GONE_WITHIN = 5.0
ANSWERED_WITHIN = 10.0
KILLED = "the container's monitor has been killed"


def _socketpair() -> tuple[int, int]:
    """socketpair(2), without the import of socket."""
    pair = bytearray(8)
    kind = sc.SOCK_SEQPACKET | sc.SOCK_CLOEXEC
    core.syscall(NUMBERS["socketpair"], sc.AF_UNIX, kind, 0, pair)
    ours, theirs = struct.unpack("=ii", pair)
    return ours, theirs


class Start:
    """One start of a detached container. directory: an fd of its directory. alive: an fd whose
    lock the monitor is to hold as long as it lives."""

    def __init__(self, spec: Spec, plan: Plan, host: Host, directory: int, alive: int) -> None:
        assert spec.monitor is not None
        self.spec = spec
        self.plan = plan
        self._host = host
        self._child: core.Child | None = None
        self._starter = -1
        self._given: dict[str, int] = {slots.DIRECTORY: directory, slots.ALIVE: alive}

    @property
    def pid(self) -> int:
        """The pid of the container's first process."""
        return self._launched.second_pid

    @property
    def monitor_pid(self) -> int:
        return self._launched.monitor_pid

    @property
    def is_launched(self) -> bool:
        return self._child is not None

    def report(self) -> core.Report:
        return self._launched.report()

    @property
    def _launched(self) -> core.Child:
        if self._child is None:
            raise StateError("the container has not been launched")
        return self._child

    def launch(self, *, trace: bool = False) -> None:
        """Set it going, up to its gate. SetupError."""
        inputs = dict(self._given)
        opened: list[int] = []
        image = self.plan.encode(trace=trace)
        with core.SignalsHeld():  # until it is known what there is to be undone
            try:
                self._open(inputs, opened)
                if slots.USERNS in image.slots and self.plan.uid_map:
                    userns = idmap.make_userns(self.plan.uid_map, self.plan.gid_map)
                    inputs[slots.USERNS] = userns
                    opened.append(userns)
                inputs = supervisor.inputs(self.plan, image, inputs)
                self._child = core.launch(image, self.plan.flags, inputs, staged=True)
            except core.LaunchError as error:
                from minibox import explain

                raise explain.launch_failure(self.plan, self.spec, error) from None
            except OSError as error:
                raise _said(error, "prepare the launch") from None
            finally:
                for fd in opened:
                    os.close(fd)
        # The child that we have made only makes the monitor, and ends.
        core.await_end(self._child.pidfd)
        self.raise_failure()

    def _open(self, inputs: dict[str, int], theirs: list[int]) -> None:
        """The pipes. theirs: gets the fds that are not ours to keep, also when this fails."""
        inputs[slots.STARTER], self._starter = _socketpair()
        theirs.append(inputs[slots.STARTER])
        if self.spec.sends_fds:
            inputs[slots.FDS], inputs[slots.CONSOLE] = _socketpair()
            theirs += [inputs[slots.FDS], inputs[slots.CONSOLE]]
        if self.spec.terminal:
            return
        assert self.spec.monitor is not None
        for fd, (inner, outer) in enumerate(zip(slots.STDIO, slots.STREAM_ENDS, strict=True)):
            if fd == 0 and not self.spec.monitor.stdin:
                inputs[inner] = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
                theirs.append(inputs[inner])
                continue
            read, write = os.pipe2(os.O_CLOEXEC)
            inputs[inner], inputs[outer] = (read, write) if fd == 0 else (write, read)
            theirs += [read, write]
            idmap.give(inputs[inner], self.spec)

    def go(self, plugs: Plugs | None = None, admit: Callable[[int], object] | None = None) -> None:
        """Do the parent's part, and wait until the command has been exec'd. plugs: prepares the
        child at its first gate, and makes its interfaces after that. admit: called with its pid at
        that gate, before anything else. SetupError, StateError."""
        child = self._launched
        try:
            if self.spec.makes("user") or self.spec.uplink or self.spec.cgroup:
                while not child.arrived(0.1):
                    self._check(is_dead=child.left(0))
                if admit:
                    admit(self.pid)
                if self.plan.uid_map:
                    idmap.map_ids(self.pid, self.plan, self._host)
                    rlimits.make_room(self.pid, self.spec)
                if plugs:
                    plugs.prepare(self.pid)
                child.go()
        except OSError as error:
            raise _said(error, "prepare the container's process") from None
        if plugs:
            self._plug(plugs)
        while not child.left(0.1):
            self._check(is_dead=False)
        self._check(is_dead=self.plan.steps[child.report().step].call != "execve")

    def _plug(self, plugs: Plugs) -> None:
        try:
            plugs.plug_in(self.pid)
            self._launched.go(2)
        except OSError as error:
            self._check(is_dead=self._launched.left(0))  # it may be why there was nobody to plug in
            raise _said(error, "plug in the network") from None

    def _check(self, *, is_dead: bool) -> None:
        """SetupError when a step has failed, StateError when somebody has been killed."""
        self.raise_failure()
        if is_dead:
            raise StateError("the container's process has been killed while it was set up")
        if self._is_gone(0):
            raise StateError(KILLED)

    def raise_failure(self) -> None:
        """SetupError if a step of the plan has failed."""
        if self._launched.error:
            from minibox import explain

            raise explain.failure(self.plan, self.spec, self._launched.report())

    def _is_gone(self, timeout: float) -> bool:
        """Has the monitor ended? Then nobody has the other end."""
        poll = select.poll()
        poll.register(self._starter, 0)
        return bool(poll.poll(timeout * 1000))

    def commit(self) -> None:
        """From now on it lives without us. StateError when it does not live any more."""
        poll = select.poll()
        poll.register(self._starter, select.POLLIN)
        is_told = self._tell(COMMIT) and bool(poll.poll(ANSWERED_WITHIN * 1000))
        if not is_told or os.read(self._starter, 1) != COMMIT:
            raise StateError(KILLED)

    def undo(self) -> None:
        """Nothing of it is left when this returns."""
        if self._child and self._starter >= 0 and self._tell(UNDO):
            self._is_gone(GONE_WITHIN)

    def _tell(self, word: bytes) -> bool:
        try:
            os.write(self._starter, word)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def close(self) -> None:
        """Give everything back; a start that was not committed is undone."""
        if self._starter >= 0:
            os.close(self._starter)
            self._starter = -1
        if self._child is not None:
            os.close(self._child.pidfd)
            self._child.close()
            self._child = None


def _said(error: OSError, what: str) -> MiniboxError:
    if isinstance(error, SetupError):
        return error
    from minibox import explain

    return explain.parent_failure(error, what)
