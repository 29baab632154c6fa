# SPDX-License-Identifier: Apache-2.0
"""The streams of a detached container, joined from outside: what its monitor relays on a socket.

Packets (csrc/monitor.c): to us one byte, 1 for stdout and 2 for stderr, and the data; from us a
letter: i and input, e for the end of the input, w and the window's rows and columns.
"""

from __future__ import annotations

import os
import select
import socket
import struct

from minibox import signals
from minibox.errors import StateError
from minibox.life.stop import is_spared, send
from minibox.resources.console import window_size
from minibox.syscalls import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minibox.resident import Resident

CHUNK = 4096
PACKET = 1 << 16
STDERR = 2


def connect(container: Resident) -> socket.socket:
    """A connection to its monitor. StateError when there is none, or it does not answer."""
    connection = container.directory.connect(container.name)
    if connection is None:
        raise StateError(f"container {container.name} is not running")
    return connection


class Keys:
    """Looks for the detach keys in what is typed. `feed` gives what is to be passed on, and
    whether the keys were there; a beginning of them is held back."""

    def __init__(self, keys: bytes) -> None:
        self.keys = keys
        self.held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        if not self.keys:
            return data, False
        text = self.held + data
        at = text.find(self.keys)
        if at >= 0:
            self.held = b""
            return text[:at], True
        size = min(len(text), len(self.keys) - 1)
        while size and not self.keys.startswith(text[-size:]):
            size -= 1
        self.held = text[len(text) - size :]
        return text[: len(text) - size], False


class Attached:
    """The caller's streams and a container's. detached: it goes on without us. ended_by: the
    signal by which the caller ended a PID 1 that the kernel spares, or 0."""

    def __init__(
        self,
        container: Resident,
        connection: socket.socket,
        *,
        tty: bool,
        stdin: bool,
        keys: bytes,
        ends: bool,
        proxy: bool = True,
    ) -> None:
        self.container = container
        self.connection = connection
        self.tty = tty
        self.keys = Keys(keys)
        self.ends = ends  # the end of our stdin is the end of its stdin
        self.proxy = proxy
        self.detached = False
        self.ended_by = 0
        self._is_typing = stdin
        self._unsent = b""
        self._saved: Any = None

    def hold(self) -> None:
        """Until the container has ended, the keys were typed, or a signal that is not passed on
        came."""
        signalfd = signals.open_signalfd()
        self.connection.setblocking(False)
        self._open_terminal()
        try:
            while self._turn(signalfd):
                pass
        finally:
            self._restore()
            os.close(signalfd)
            self.connection.close()

    def _open_terminal(self) -> None:
        if not (self.tty and os.isatty(0)):
            return
        self.resize()
        if not self._is_typing:
            return
        import termios
        import tty

        try:
            self._saved = termios.tcgetattr(0)
            tty.setraw(0, termios.TCSANOW)
        except termios.error:
            self._saved = None

    def _restore(self) -> None:
        if self._saved is not None:
            import termios

            try:
                termios.tcsetattr(0, termios.TCSANOW, self._saved)
            except termios.error:
                pass

    def resize(self) -> None:
        rows, columns = window_size(0 if os.isatty(0) else 1)
        self._post(b"w" + struct.pack("<HH", rows, columns))

    def _post(self, packet: bytes) -> None:
        try:
            self.connection.send(packet)
        except OSError:
            pass  # full: the next one tells; closed: the loop sees it

    def _turn(self, signalfd: int) -> bool:
        """One turn; False at the end of it all."""
        poll = select.poll()
        poll.register(signalfd, select.POLLIN)
        ours = self.connection.fileno()
        poll.register(ours, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        if self._is_typing and not self._unsent:
            poll.register(0, select.POLLIN)
        ready = dict(poll.poll())
        if signalfd in ready and not self._take_signals(signalfd):
            return False
        if ready.get(ours, 0) & ~select.POLLOUT and not self._take_output():
            return False
        if self._unsent:
            self._send()
        elif 0 in ready:
            self._take_input()
        return not self.detached

    def _take_output(self) -> bool:
        try:
            packet = self.connection.recv(PACKET)
        except (BlockingIOError, ConnectionResetError):
            return True  # it went away with input of ours unread: its output is still there
        except OSError:
            return False
        if not packet:
            return False
        _write(2 if packet[0] == STDERR else 1, packet[1:])
        return True

    def _take_input(self) -> None:
        try:
            data = os.read(0, CHUNK - len(self.keys.held))
        except OSError:
            data = b""
        if not data:
            self._is_typing = False
            if self.ends:
                self._unsent = b"e"
                self._send()
            return
        data, self.detached = self.keys.feed(data) if self.tty else (data, False)
        if data:
            self._unsent = b"i" + data
            self._send()

    def _send(self) -> None:
        try:
            self.connection.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            pass
        self._unsent = b""

    def _take_signals(self, signalfd: int) -> bool:
        try:
            data = os.read(signalfd, 16 * signals.SIGINFO)
        except BlockingIOError:
            return True
        for at in range(0, len(data), signals.SIGINFO):
            (number,) = struct.unpack_from("=I", data, at)
            if number == signals.WINCH and self.tty:
                self.resize()
            elif number != signals.CHLD and not self._forward(number):
                return False
        return True

    def _forward(self, signal: int) -> bool:
        """Pass a signal on to the container; False when it is ours: the conversation ends."""
        if signal == signals.TSTP:
            self._restore()
            os.kill(os.getpid(), signals.STOP)
            self._open_terminal()
            return True
        if signal == signals.HUP or not self.proxy:
            self.detached = True  # the terminal is gone, the container is not
            return False
        state = self.container.state()
        try:
            pidfd = self.container.open_pidfd(state)
        except StateError:
            return True
        try:
            if signal in signals.ENDING and is_spared(self.container, state, signal):
                self.ended_by = signal
                signal = SIGKILL
            send(self.container, pidfd, signal)
        finally:
            os.close(pidfd)
        return True


def _write(fd: int, data: bytes) -> None:
    """All of it, also where the caller's stream does not block."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
