# SPDX-License-Identifier: Apache-2.0
"""The signals that minibox gets, passed on to the command as a shell user expects (signal(7)).

Numbers, not the module signal, which costs 3 ms to import.
"""

from __future__ import annotations

import os
import struct

from minibox import core
from minibox import syscalls as sc
from minibox.numbers import NUMBERS
from minibox.syscalls import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.resources.console import Streams
    from minibox.supervisor import Process

HUP, INT, QUIT, USR1, USR2, TERM = 1, 2, 3, 10, 12, 15
CHLD, CONT, STOP, TSTP, WINCH = 17, 18, 19, 20, 28
ENDING = (HUP, INT, QUIT, USR1, USR2, TERM)
FORWARDED = (*ENDING, CONT, TSTP, WINCH)
IGNORED = 1  # SIG_IGN
SI_KERNEL = 0x80
SIGINFO = 128


def open_signalfd() -> int:
    """Block what is forwarded, and give a signalfd for it. OSError.

    What the caller ignores stays ignored (nohup, a script's background job). But if it ignores
    SIGCHLD, the kernel would reap the container unseen.
    """
    rt_sigaction = NUMBERS["rt_sigaction"]
    wanted = [CHLD]
    for signal in FORWARDED:
        old = bytearray(32)
        core.syscall(rt_sigaction, signal, None, old, 8)
        if struct.unpack_from("=Q", old)[0] != IGNORED:
            wanted.append(signal)
    mask = struct.pack("=Q", sum(1 << signal - 1 for signal in wanted))
    core.syscall(rt_sigaction, CHLD, bytes(32), None, 8)
    core.syscall(NUMBERS["rt_sigprocmask"], sc.SIG_SETMASK, mask, None, 8)
    return core.syscall(NUMBERS["signalfd4"], -1, mask, 8, sc.SFD_NONBLOCK | sc.SFD_CLOEXEC)


def has_default(pid: int, signal: int) -> bool:
    """Does the process neither catch, ignore nor block it (proc_pid_status(5))? OSError."""
    busy = 0
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key in ("SigCgt", "SigIgn", "SigBlk"):
                    busy |= int(value, 16)
    except (FileNotFoundError, ProcessLookupError):
        return True  # nothing is left to do so
    return not busy >> signal - 1 & 1


class Forwarder:
    """Passes signals on to one process. ended_by: the signal that the user ended it with, or 0."""

    def __init__(self, process: Process, streams: Streams | None) -> None:
        self.process = process
        self.streams = streams
        self.has_init = process.spec.has_init
        self.ended_by = 0
        self._was_asked = False

    def take(self, signalfd: int) -> bool:
        """Read and forward what has come; True when the user wants an end of it."""
        try:
            data = os.read(signalfd, 16 * SIGINFO)
        except BlockingIOError:
            return False
        found = [struct.unpack_from("=Iii", data, at) for at in range(0, len(data), SIGINFO)]
        for number, _, code in found:
            self.forward(number, from_terminal=code == SI_KERNEL)
        return any(number in ENDING for number, _, _ in found)

    def forward(self, signal: int, *, from_terminal: bool) -> None:
        """What the terminal sends goes to the command's whole process group, as for any job in
        the foreground; what a process sends, to the command. An init forwards all to the group."""
        if signal == CHLD:
            return
        if signal == WINCH and self.streams:
            self.streams.resized()
            return
        if from_terminal:
            self._signal_group(signal)
        else:
            self.process.kill(signal)
        if signal == TERM and self._was_asked:
            self.process.kill(SIGKILL)  # asked twice, it is told
        elif signal in ENDING:
            self._was_asked |= signal == TERM
            self.end_if_spared(signal)
        elif signal == TSTP:
            self._stop()

    def typed(self, data: bytes) -> None:
        """The container's terminal has sent its foreground group what these keys mean; if that
        group is PID 1's, it may have been spared."""
        if self.streams and self.streams.foreground == self.process.pid:
            for signal in self.streams.typed(data):
                self.end_if_spared(signal)

    def end_if_spared(self, signal: int) -> None:
        """The kernel spares PID 1 what it has no handler for; the user meant to end it."""
        if self._is_spared(signal):
            self.ended_by = self.ended_by or signal
            self.process.kill(SIGKILL)

    def _signal_group(self, signal: int) -> None:
        if self.has_init:
            self.process.kill(signal)
            return
        try:
            # Not reaped yet, so the number is still its own, and it leads a session.
            os.killpg(self.process.pid, signal)
        except (ProcessLookupError, PermissionError):
            self.process.kill(signal)

    def _is_spared(self, signal: int) -> bool:
        """Is the default action due, for a process the kernel will not let it happen to?"""
        if self.has_init or not self.process.spec.makes("pid"):
            return False
        return not self.process.is_started() or has_default(self.process.pid, signal)

    def _stop(self) -> None:
        """^Z: the container stops, then minibox, until the shell continues both."""
        if not self.has_init and has_default(self.process.pid, TSTP):
            self.process.kill(STOP)
        if self.streams:
            self.streams.restore()
        os.kill(os.getpid(), STOP)
        if self.streams:
            self.streams.make_raw()
        self._signal_group(CONT)
