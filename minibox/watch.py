# SPDX-License-Identifier: Apache-2.0
"""Woken when something happens in a directory (inotify(7)).

The kernel gives an inotify instance to few (fs.inotify.max_user_instances): without one the caller
is woken every now and then, and looks in vain.
"""

from __future__ import annotations

import os
import select
import struct
import time
from errno import EMFILE, ENFILE, ENOMEM, ENOSPC, ENOSYS, EPERM

from minibox import core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

# include/uapi/linux/inotify.h
IN_MODIFY, IN_CLOSE_WRITE = 0x2, 0x8
IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE = 0x40, 0x80, 0x100
IN_DELETE, IN_DELETE_SELF = 0x200, 0x400
IN_ONLYDIR = 0x01000000
IN_NONBLOCK, IN_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
CHANGES = IN_MODIFY | IN_CLOSE_WRITE | IN_CREATE | IN_MOVED_FROM | IN_MOVED_TO
CHANGES |= IN_DELETE | IN_DELETE_SELF
EVENT = struct.Struct("=iIII")  # struct inotify_event; the name follows

# inotify_init1(2) and inotify_add_watch(2).
INIT, ADD = (26, 27) if os.uname().machine == "aarch64" else (294, 254)
# EPERM and ENOSYS: a seccomp filter.
NONE_LEFT = (EMFILE, ENFILE, ENOSPC, ENOMEM, ENOSYS, EPERM)
PAUSE = 0.1  # s; between two looks without inotify
CHUNK = 65536


class Watch:
    """Events in one directory from now on; a context manager.

    mask: IN_*, what is to wake. OSError when the directory cannot be watched, but none when the
    kernel has no inotify to give.
    """

    __slots__ = ("_fd", "_poll")

    def __init__(self, directory: str, mask: int = CHANGES) -> None:
        self._fd = -1
        self._poll = select.poll()
        try:
            self._fd = core.syscall(INIT, IN_NONBLOCK | IN_CLOEXEC)
            core.syscall(ADD, self._fd, os.fsencode(directory) + b"\0", mask | IN_ONLYDIR)
            self._poll.register(self._fd, select.POLLIN)
        except OSError as error:
            self.close()
            if error.errno not in NONE_LEFT:
                raise OSError(error.errno, error.strerror, directory) from None

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """The inotify fd, readable when something has happened; -1 where there is none."""
        return self._fd

    def wait(self, timeout: float) -> int:
        """The IN_* of what has happened since the last call, waited for at most `timeout` seconds.

        0: nothing, or nobody knows (no inotify; then it waits PAUSE at most).
        """
        timeout = max(0.0, timeout)
        if self._fd < 0:
            time.sleep(min(timeout, PAUSE))
            return 0
        try:
            data = os.read(self._fd, CHUNK) if self._poll.poll(timeout * 1000) else b""
        except BlockingIOError:
            return 0  # another thread was faster
        happened = at = 0
        while at < len(data):
            _, mask, _, size = EVENT.unpack_from(data, at)
            happened |= mask
            at += EVENT.size + size
        return happened

    def close(self) -> None:
        """The fd is closed; once more does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
