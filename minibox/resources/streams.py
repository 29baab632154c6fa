# SPDX-License-Identifier: Apache-2.0
"""Standard streams of a container that a program feeds and captures."""

from __future__ import annotations

import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 65536


class Capture:
    """What came out of one stream: at most `limit` bytes are kept, the rest is read and dropped,
    so that a flood neither fills this process nor blocks the container."""

    __slots__ = ("fd", "kept", "limit", "size", "truncated")

    def __init__(self, fd: int, limit: int) -> None:
        self.fd = fd
        self.limit = limit
        self.size = 0
        self.kept: list[bytes] = []
        self.truncated = False

    def take(self) -> bool:
        """Read once; False at the end of the stream. BlockingIOError when there is nothing."""
        data = os.read(self.fd, CHUNK)
        room = self.limit - self.size
        if len(data) > room:
            self.truncated = True
            data_kept = data[:room]
        else:
            data_kept = data
        if data_kept:
            self.kept.append(data_kept)
            self.size += len(data_kept)
        return bool(data)

    @property
    def data(self) -> bytes:
        return b"".join(self.kept)


class Conversation:
    """Feeds one process and takes what it says.

    ends: our ends of stdin, stdout, stderr, -1 where there is none. They stay the caller's, but for
    stdin, which is closed (and -1 in the list) as soon as `data` is through.
    """

    def __init__(self, pidfd: int, ends: list[int], data: bytes, limit: int) -> None:
        self.pidfd = pidfd
        self.ends = ends
        self.captures = [Capture(fd, limit) for fd in ends[1:] if fd >= 0]
        self.speaking = {capture.fd: capture for capture in self.captures}
        self.unsent = memoryview(data)
        self.poll = select.poll()
        self.poll.register(pidfd, select.POLLIN)
        for fd in self.speaking:
            os.set_blocking(fd, False)
            self.poll.register(fd, select.POLLIN)
        if ends[0] >= 0:
            os.set_blocking(ends[0], False)
            self.poll.register(ends[0], select.POLLOUT)

    def hold(self, timeout: float | None, expired: Callable[[], object]) -> bool:
        """Until the process has ended and its streams are drained. After `timeout` seconds
        `expired` is called once, to end the process. Returns whether it was."""
        deadline = None if timeout is None else time.monotonic() + timeout
        timed_out = False
        while not self._turn(deadline):
            if deadline is not None and time.monotonic() >= deadline:
                timed_out, deadline = True, None
                expired()
        for capture in self.speaking.values():
            _drain(capture)
        return timed_out

    def _turn(self, deadline: float | None) -> bool:
        """Wait for something and do it; True when the process has ended."""
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        ready = [fd for fd, _ in self.poll.poll(left)]
        for fd in ready:
            if fd == self.ends[0]:
                self.unsent = self.unsent[_feed(fd, self.unsent) :]
                if not self.unsent:
                    self.poll.unregister(fd)
                    self.ends[0] = -1
                    os.close(fd)
            elif fd in self.speaking and not self.speaking[fd].take():
                self.poll.unregister(fd)
                del self.speaking[fd]
        return self.pidfd in ready


def _feed(fd: int, view: memoryview) -> int:
    """Write what fits; a reader that is gone counts as having taken everything."""
    try:
        return os.write(fd, view[:CHUNK])
    except BlockingIOError:
        return 0
    except BrokenPipeError:
        return len(view)


def _drain(capture: Capture) -> None:
    """What the dead process left in the pipe; not what a survivor outside may still write."""
    try:
        while capture.take():
            pass
    except BlockingIOError:
        pass
