# SPDX-License-Identifier: Apache-2.0
"""A container in the foreground of a terminal or script: streams, signals, time limit, status.

All signals are blocked and read from a signalfd, beside the pidfd and the streams: one loop, in
one thread, that nothing interrupts.
"""

from __future__ import annotations

import os
import select
import time

from minibox import signals
from minibox.supervisor import start
from minibox.syscalls import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from minibox.host import Host
    from minibox.plan import Plan
    from minibox.resources.cgroup import Cgroup
    from minibox.resources.console import Flow, Streams
    from minibox.spec import Spec
    from minibox.supervisor import Process

# How long the last output of a container that was killed may wait for its reader.
GRACE = 1.0


class Outcome:
    """exit_code: as a shell says it, 128+n for the signal n that the user ended it with.
    was_killed: by SIGKILL, which neither the user nor the time limit has sent."""

    __slots__ = ("exit_code", "timed_out", "was_killed")

    def __init__(self, exit_code: int, timed_out: bool, was_killed: bool) -> None:
        self.exit_code = exit_code
        self.timed_out = timed_out
        self.was_killed = was_killed


class Foreground:
    """The loop over one running container."""

    def __init__(
        self,
        process: Process,
        signalfd: int,
        streams: Streams | None,
        timeout: float | None,
        tied_to: int = -1,
    ) -> None:
        self.process = process
        self.signalfd = signalfd
        self.streams = streams
        self.forwarder = signals.Forwarder(process, streams)
        self.deadline = None if timeout is None else time.monotonic() + timeout
        self.timed_out = False
        self.tied_to = tied_to  # a pidfd: when that process ends, ours is killed

    def wait(self) -> Outcome:
        """Until the first process has ended and its last output is through."""
        while not self._turn():
            pass
        self._drain()
        status = self.process.wait()
        assert status is not None
        code, ended_by = status.exit_code, self.forwarder.ended_by
        if ended_by and status.signal == SIGKILL:
            code = 128 + ended_by
        was_killed = status.signal == SIGKILL and not ended_by and not self.timed_out
        return Outcome(code, self.timed_out, was_killed)

    def _turn(self) -> bool:
        """Wait for something and do what it asks for; True when the process has ended."""
        flows = [flow for flow in self.streams.flows if not flow.ended] if self.streams else []
        awaited = self.streams.awaited if self.streams else -1
        ready = self._poll([self.process.pidfd, self.tied_to, awaited], flows, self._time_left())
        if self.tied_to in ready:
            self.tied_to = -1
            self.process.kill(SIGKILL)
        if self.deadline is not None and time.monotonic() >= self.deadline:
            self.deadline, self.timed_out = None, True
            self.process.kill(SIGKILL)
        if self.signalfd in ready:
            self.forwarder.take(self.signalfd)
        if self.streams and awaited in ready:
            self.streams.receive()
        for flow in flows:
            if flow.wants()[0] in ready:
                flow.move()
                if flow.source == 0 and flow.data:
                    self.forwarder.typed(flow.data)
        return self.process.pidfd in ready

    def _poll(self, fds: list[int], flows: list[Flow], left: float | None) -> list[int]:
        """Wait at most `left` seconds; the fds that are ready, the signalfd among them."""
        wanted = {fd: select.POLLIN for fd in (self.signalfd, *fds) if fd >= 0}
        for flow in flows:
            fd, event = flow.wants()
            wanted[fd] = wanted.get(fd, 0) | event
        poll = select.poll()
        for fd, events in wanted.items():
            poll.register(fd, events)
        return [fd for fd, _ in poll.poll(None if left is None else left * 1000)]

    def _time_left(self) -> float | None:
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def _drain(self) -> None:
        """What the container has written goes out, however slow the reader is; a signal ends the
        wait for it, and after --timeout it is short."""
        if not self.streams:
            return
        flows = [flow for flow in self.streams.flows if flow.source != 0]
        while flows := [flow for flow in flows if flow.take()]:
            ready = self._poll([], flows, GRACE if self.timed_out else None)
            if self.signalfd in ready and self.forwarder.take(self.signalfd):
                return
            if not ready:
                return
            for flow in flows:
                if flow.sink in ready:
                    flow.move()


def run(
    spec: Spec,
    plan: Plan,
    host: Host,
    *,
    streams: Streams | None,
    timeout: float | None,
    show: Callable[[Process], None] | None,
    inputs: Mapping[str, int] | None = None,
    prepare: Callable[[int], object] | None = None,
    plug: Callable[[int], object] | None = None,
    tied_to: int = -1,
    group: Cgroup | None = None,
) -> Outcome:
    """Run a container in the foreground; SetupError when it cannot be set up.

    With `show` the plan is traced, and it is called when set-up has ended, well or not. inputs,
    prepare, plug, group: as supervisor.start takes them.
    tied_to: a pidfd of a process with whose end this one is killed.
    """
    signalfd = signals.open_signalfd()
    if streams:
        streams.open()
    image = plan.encode(trace=show is not None)
    given = {**(inputs or {}), **(streams.inputs if streams else {})}
    process = start(spec, plan, host, image, given, prepare, plug, group=group)
    try:
        if streams:
            streams.started()
        let_go(streams.terminals if streams else ())
        outcome = Foreground(process, signalfd, streams, timeout, tied_to).wait()
        if show:
            show(process)
        process.raise_failure()
    finally:
        process.close()
        os.close(signalfd)
    return outcome


def let_go(terminals: tuple[int, ...]) -> None:
    """stdin and stdout are the container's now: who reads or writes the other end shall see its
    end when the container has closed them. stderr stays, for messages."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1):
        if fd not in terminals:
            os.dup2(null, fd)
    os.close(null)
