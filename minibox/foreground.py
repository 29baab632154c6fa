# SPDX-License-Identifier: Apache-2.0
"""A container in the foreground of a terminal or script: streams, signals, time limit, status.

All signals are blocked and read from a signalfd, beside the pidfd and the streams: one loop, in
one thread, that nothing interrupts.
"""

from __future__ import annotations

import os
import select
import struct
import time

from minibox import core
from minibox import syscalls as sc
from minibox.supervisor import SIGKILL, start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minibox.host import Host
    from minibox.plan import Plan
    from minibox.resources.console import Flow, Streams
    from minibox.spec import Spec
    from minibox.supervisor import Process

# signal(7); the module signal costs 3 ms to import.
HUP, INT, QUIT, USR1, USR2, TERM = 1, 2, 3, 10, 12, 15
CHLD, CONT, STOP, TSTP, TTIN, TTOU, WINCH = 17, 18, 19, 20, 21, 22, 28
ENDING = (HUP, INT, QUIT, USR1, USR2, TERM)
FORWARDED = (*ENDING, CONT, TSTP, WINCH)
SI_KERNEL = 0x80
SIGINFO = 128
PR_SET_CHILD_SUBREAPER = 36


class Outcome:
    """exit_code: as a shell says it, 128+n for the signal n that the user ended it with."""

    __slots__ = ("exit_code", "timed_out")

    def __init__(self, exit_code: int, timed_out: bool) -> None:
        self.exit_code = exit_code
        self.timed_out = timed_out


def _mask(signals: tuple[int, ...]) -> bytes:
    return struct.pack("=Q", sum(1 << signal - 1 for signal in signals))


def block_signals() -> int:
    """Block what is forwarded, and give a signalfd for it."""
    mask = _mask((*FORWARDED, CHLD))
    default = bytes(32)
    # A caller that ignores SIGCHLD would have the kernel reap the container unseen.
    core.syscall(sc.NUMBERS["rt_sigaction"], CHLD, default, None, 8)
    core.syscall(sc.NUMBERS["rt_sigprocmask"], sc.SIG_SETMASK, mask, None, 8)
    return core.syscall(sc.NUMBERS["signalfd4"], -1, mask, 8, sc.SFD_NONBLOCK | sc.SFD_CLOEXEC)


class Foreground:
    """The loop over one running container."""

    def __init__(
        self, process: Process, signals: int, streams: Streams | None, timeout: float | None
    ) -> None:
        self.process = process
        self.signals = signals
        self.streams = streams
        self.deadline = None if timeout is None else time.monotonic() + timeout
        self.timed_out = False
        self.ended_by = 0

    def wait(self) -> Outcome:
        """Until the first process has ended and its last output is through."""
        while not self._turn():
            pass
        if self.streams:
            self.streams.drain()
        status = self.process.wait()
        assert status is not None
        code = status.exit_code
        if self.ended_by and status.signal == SIGKILL:
            code = 128 + self.ended_by
        return Outcome(code, self.timed_out)

    def _turn(self) -> bool:
        """Wait for something and do what it asks for; True when the process has ended."""
        poll = select.poll()
        poll.register(self.process.pidfd, select.POLLIN)
        poll.register(self.signals, select.POLLIN)
        flows = self._register_flows(poll)
        ready = [fd for fd, _ in poll.poll(self._time_left())]
        if self.deadline is not None and time.monotonic() >= self.deadline:
            self.deadline, self.timed_out = None, True
            self.process.kill(SIGKILL)
        if self.signals in ready:
            self._take_signals()
        if self.streams and self.streams.awaited in ready:
            self.streams.receive()
        for flow in flows:
            if flow.wants()[0] in ready:
                flow.move()
        return self.process.pidfd in ready

    def _register_flows(self, poll: select.poll) -> list[Flow]:
        if not self.streams:
            return []
        if self.streams.awaited >= 0:
            poll.register(self.streams.awaited, select.POLLIN)
        wanted: dict[int, int] = {}
        flows = [flow for flow in self.streams.flows if not flow.ended]
        for flow in flows:
            fd, event = flow.wants()
            wanted[fd] = wanted.get(fd, 0) | event
        for fd, events in wanted.items():
            poll.register(fd, events)
        return flows

    def _time_left(self) -> float | None:
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - time.monotonic()) * 1000

    def _take_signals(self) -> None:
        try:
            data = os.read(self.signals, 16 * SIGINFO)
        except BlockingIOError:
            return
        for at in range(0, len(data), SIGINFO):
            number, _, code = struct.unpack_from("=Iii", data, at)
            self._forward(number, code == SI_KERNEL)

    def _forward(self, signal: int, from_terminal: bool) -> None:
        """Pass a signal on, as the terminal or the shell would have sent it to the command.

        What the terminal sends goes to the command's whole process group, as for any foreground
        job; what a process sends, to the command. An init is in that group and forwards.
        """
        if signal == CHLD:
            return
        if signal == WINCH and self.streams:
            self.streams.resized()
            return
        if from_terminal and not self.process.spec.init:
            self._signal_group(signal)
        else:
            self.process.kill(signal)
        if signal in ENDING and self._would_be_ignored(signal):
            # The kernel spares PID 1 what it has no handler for; the user meant to end it.
            self.ended_by = self.ended_by or signal
            self.process.kill(SIGKILL)
        elif signal == TSTP:
            self._stop()

    def _signal_group(self, signal: int) -> None:
        try:
            # Not reaped yet, so the number is still its own, and it leads a session.
            os.killpg(self.process.pid, signal)
        except (ProcessLookupError, PermissionError):
            self.process.kill(signal)

    def _would_be_ignored(self, signal: int) -> bool:
        """Is the default action due, for a process the kernel will not let it happen to?"""
        if not self.process.spec.makes("pid"):
            return False
        if not self.process.is_started():
            return True
        caught, ignored, blocked = self._dispositions()
        bit = 1 << signal - 1
        return not (caught | ignored | blocked) & bit

    def _dispositions(self) -> tuple[int, int, int]:
        """SigCgt, SigIgn and SigBlk of the first process (proc_pid_status(5))."""
        found = {"SigCgt": 0, "SigIgn": 0, "SigBlk": 0}
        try:
            with open(f"/proc/{self.process.pid}/status", encoding="utf-8", errors="replace") as f:
                for line in f:
                    key, _, value = line.partition(":")
                    if key in found:
                        found[key] = int(value, 16)
        except (OSError, ValueError):
            pass
        return found["SigCgt"], found["SigIgn"], found["SigBlk"]

    def _stop(self) -> None:
        """^Z: the container stops, then minibox, until the shell continues both."""
        caught, ignored, blocked = self._dispositions()
        if not (caught | ignored | blocked) & 1 << TSTP - 1:
            self.process.kill(STOP)
        os.kill(os.getpid(), STOP)
        self._signal_group(CONT)


def run(
    spec: Spec,
    plan: Plan,
    host: Host,
    *,
    streams: Streams | None,
    timeout: float | None,
    show: Callable[[Process], None] | None,
) -> Outcome:
    """Run a container in the foreground; SetupError when it cannot be set up.

    With `show` the plan is traced, and it is called when set-up has ended, well or not.
    """
    signals = block_signals()
    if not spec.makes("pid"):
        # What the command leaves behind becomes a child of ours, to be ended with it.
        core.syscall(sc.NUMBERS["prctl"], PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if streams:
        streams.open()
    image = plan.encode(trace=show is not None)
    process = start(spec, plan, host, image, streams.inputs if streams else {})
    try:
        if streams:
            streams.started()
        outcome = Foreground(process, signals, streams, timeout).wait()
        if not spec.makes("pid"):
            end_orphans()
        if show:
            show(process)
        process.raise_failure()
    finally:
        process.close()
        os.close(signals)
    return outcome


def end_orphans() -> None:
    """Kill the children of this process until there are none: a subreaper's cleaning up."""
    while children := _children():
        for pid in children:
            try:
                os.kill(pid, SIGKILL)
            except ProcessLookupError:
                pass
        for pid in children:
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return [int(pid) for pid in file.read().split()]
