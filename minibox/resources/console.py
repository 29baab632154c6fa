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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CHUNK = 4096
TIOCGWINSZ = 0x5413


class Flow:
    """Bytes on their way from one fd to another: at most one chunk at a time."""

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


def window_size(fd: int) -> tuple[int, int]:
    """Rows and columns of the terminal `fd` (ioctl_tty(2)), 24 by 80 where it does not know."""
    size = bytearray(8)
    try:
        core.syscall(sc.NUMBERS["ioctl"], fd, TIOCGWINSZ, size)
    except OSError:
        return 24, 80
    rows, columns, _, _ = struct.unpack("=4H", size)
    return rows or 24, columns or 80


def set_window_size(fd: int, rows: int, columns: int) -> None:
    size = struct.pack("=4H", rows, columns, 0, 0)
    try:
        core.syscall(sc.NUMBERS["ioctl"], fd, sc.IOCTL_TIOCSWINSZ, size)
    except OSError:
        pass  # the container has closed its terminal


class Streams:
    """What stands in for the caller's terminals, until `close` puts them back as they were.

    pty: fd 0 and 1 are terminals, so the container gets a pty on every fd that is one.
    """

    def __init__(self, terminals: tuple[int, ...], pty: bool) -> None:
        self.terminals = terminals
        self.pty = pty
        self.flows: list[Flow] = []
        self.inputs: dict[str, int] = {}
        self.redirected: tuple[int, ...] = ()
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
        self.redirected = self.terminals
        for fd in self.terminals:
            read, write = os.pipe2(os.O_CLOEXEC)
            mine, childs = (write, read) if fd == 0 else (read, write)
            self.inputs[("stdin", "stdout", "stderr")[fd]] = childs
            self.flows.append(Flow(0, mine, True) if fd == 0 else Flow(mine, fd, False))

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
        self._make_raw()
        self.flows = [Flow(0, self._master, False), Flow(self._master, 1, False)]

    def _make_raw(self) -> None:
        import termios
        import tty

        try:
            self._saved = termios.tcgetattr(0)
            tty.setraw(0, termios.TCSANOW)
        except termios.error:
            pass  # the terminal has hung up: SIGHUP is on its way

    def resized(self) -> None:
        if self._master >= 0:
            set_window_size(self._master, *window_size(0))

    def drain(self) -> None:
        """The container has ended: what it has written and nobody has read yet goes out."""
        for flow in self.flows:
            if flow.source == 0:
                continue
            os.set_blocking(flow.source, False)
            while not flow.ended:
                had = flow.data
                flow.move()
                if not had and not flow.data:
                    break

    def close(self) -> None:
        """The caller's terminal is as it was before."""
        if self._saved is not None:
            import termios

            try:
                termios.tcsetattr(0, termios.TCSADRAIN, self._saved)
            except termios.error:
                pass
        if self._master >= 0:
            os.close(self._master)
