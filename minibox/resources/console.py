# SPDX-License-Identifier: Apache-2.0
"""The supervisor's side of a container's streams when the caller's are a terminal.

The container never gets the caller's terminal itself (it could push input into it, TIOCSTI): it
gets a pty of its own, or, where only some of the streams are terminals, pipes in their place.
Bytes are moved with bounded buffers: who does not read is not read from.
"""

from __future__ import annotations

import os
import select
import struct

from minibox import core
from minibox import syscalls as sc
from minibox.numbers import NUMBERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CHUNK = 65536
TIOCGWINSZ = 0x5413
INT, QUIT = 2, 3


class Flow:
    """Bytes on their way from one fd to another that does not block: one chunk at a time."""

    __slots__ = ("closes", "data", "ended", "sink", "source")

    def __init__(self, source: int, sink: int, closes: bool) -> None:
        self.source = source
        self.sink = sink
        self.closes = closes  # the end of the source is the end of the sink
        self.data = b""
        self.ended = False

    def wants(self) -> tuple[int, int]:
        """The fd and the event that let it go on."""
        return (self.sink, select.POLLOUT) if self.data else (self.source, select.POLLIN)

    def move(self) -> None:
        """Read or write once; the fd is ready."""
        try:
            if self.data:
                self.data = self.data[os.write(self.sink, self.data) :]
            else:
                self.data = os.read(self.source, CHUNK)
                self.ended = not self.data
        except BlockingIOError:
            pass
        except OSError:  # EIO: the other side of a terminal is gone; EPIPE: the reader is
            self.data = b""
            self.ended = True
        if self.ended and self.closes:
            os.close(self.sink)
            self.closes = False

    def take(self) -> bool:
        """The writer has ended: is there anything (more) of it to be written?"""
        if not self.data and not self.ended:
            self.move()
        return bool(self.data)


def window_size(fd: int) -> tuple[int, int]:
    """Rows and columns of the terminal `fd` (ioctl_tty(2)), 24 by 80 where it does not know."""
    size = bytearray(8)
    try:
        core.syscall(NUMBERS["ioctl"], fd, TIOCGWINSZ, size)
    except OSError:
        return 24, 80
    rows, columns, _, _ = struct.unpack("=4H", size)
    return rows or 24, columns or 80


def set_window_size(fd: int, rows: int, columns: int) -> None:
    size = struct.pack("=4H", rows, columns, 0, 0)
    try:
        core.syscall(NUMBERS["ioctl"], fd, sc.IOCTL_TIOCSWINSZ, size)
    except OSError:
        pass  # the container has closed its terminal


def _own(fd: int) -> int:
    """The terminal `fd`, opened once more so as not to block: the flag is one of the open file,
    and setting it on the caller's would set it for the caller."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return fd


class Streams:
    """What stands in for the caller's terminals, until `close` puts them back as they were.

    pty: fd 0 and 1 are terminals, so the container gets a pty on every fd that is one.
    """

    def __init__(self, terminals: tuple[int, ...], pty: bool) -> None:
        self.terminals = terminals
        self.pty = pty
        self.flows: list[Flow] = []
        self.inputs: dict[str, int] = {}
        self._saved: Any = None
        self._socket: Any = None
        self._master = -1

    def open(self) -> None:
        """Make the socket for the master, or the pipes."""
        if self.pty:
            import socket

            ours, theirs = socket.socketpair()
            self._socket = ours
            self.inputs["console"] = theirs.detach()
            return
        for fd in self.terminals:
            read, write = os.pipe2(os.O_CLOEXEC)
            mine, childs = (write, read) if fd == 0 else (read, write)
            os.set_blocking(mine, False)
            self.inputs[("stdin", "stdout", "stderr")[fd]] = childs
            self.flows.append(Flow(0, mine, True) if fd == 0 else Flow(mine, _own(fd), False))

    def started(self) -> None:
        """The child has its ends: close ours of them."""
        for fd in self.inputs.values():
            os.close(fd)
        self.inputs = {}

    @property
    def awaited(self) -> int:
        """The fd on which the pty's master will come, or -1."""
        return self._socket.fileno() if self._socket is not None else -1

    def receive(self) -> None:
        """Take the master; from now on the caller's terminal is raw and passes everything on."""
        import socket

        fds = socket.recv_fds(self._socket, 1, 1)[1]
        self._socket.close()
        self._socket = None
        if not fds:
            return  # set-up failed before
        self._master = fds[0]
        os.set_inheritable(self._master, False)
        os.set_blocking(self._master, False)
        set_window_size(self._master, *window_size(0))
        self.make_raw()
        self.flows = [Flow(0, self._master, False), Flow(self._master, _own(1), False)]

    def make_raw(self) -> None:
        """Nothing that is typed means anything to the caller's terminal any more."""
        if self._master < 0:
            return
        import termios
        import tty

        try:
            self._saved = termios.tcgetattr(0)
            tty.setraw(0, termios.TCSANOW)
        except termios.error:
            pass  # the terminal has hung up: SIGHUP is on its way

    def typed(self, data: bytes) -> list[int]:
        """The signals that typing this sends to the container's session leader, if its terminal
        makes signals of it (termios(3), ISIG) and the leader is in the foreground."""
        if self._master < 0 or not (b"\x03" in data or b"\x1c" in data):
            return []
        import termios

        try:
            _, _, _, local, _, _, characters = termios.tcgetattr(self._master)
        except termios.error:
            return []
        if not local & termios.ISIG:
            return []
        wanted = ((INT, termios.VINTR), (QUIT, termios.VQUIT))
        return [signal for signal, index in wanted if characters[index] in data]

    @property
    def foreground(self) -> int:
        """The process group in the foreground of the container's terminal, or 0."""
        try:
            return os.tcgetpgrp(self._master)
        except OSError:
            return 0

    def resized(self) -> None:
        if self._master >= 0:
            set_window_size(self._master, *window_size(0))

    def restore(self) -> None:
        """The caller's terminal is as it was before."""
        if self._saved is not None:
            import termios

            try:
                termios.tcsetattr(0, termios.TCSANOW, self._saved)
            except termios.error:
                pass
            self._saved = None

    def close(self) -> None:
        """Put everything back."""
        self.restore()
        if self._master >= 0:
            os.close(self._master)
