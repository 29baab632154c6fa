# SPDX-License-Identifier: Apache-2.0
"""Reading files of a root file system from outside, without trusting it.

Its links are resolved inside it (openat2(2), RESOLVE_IN_ROOT), only regular files are read, and
never more than a limit: it may hold a fifo, a device or a link to the host's files.
"""

from __future__ import annotations

import os
import stat
import struct

from minibox import core
from minibox import syscalls as sc
from minibox.numbers import NUMBERS

LIMIT = 1 << 20


def open_inside(root: bytes, path: bytes, flags: int) -> int:
    """An fd of `path` as a process whose root is `root` would find it. OSError."""
    directory = os.open(root, sc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        resolve = sc.RESOLVE_IN_ROOT | sc.RESOLVE_NO_MAGICLINKS
        how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, resolve)
        while True:
            try:
                return core.syscall(NUMBERS["openat2"], directory, path + b"\0", how, len(how))
            except BlockingIOError:
                continue  # something on the host was renamed meanwhile (openat2(2), EAGAIN)
    finally:
        os.close(directory)


def exists(root: bytes, path: bytes) -> bool:
    """Is there something at `path`?"""
    try:
        os.close(open_inside(root, path, sc.O_PATH))
    except OSError:
        return False
    return True


def read(root: bytes, path: bytes, limit: int = LIMIT) -> bytes:
    """The first `limit` bytes of a regular file. OSError."""
    fd = open_inside(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(22, "not a regular file", os.fsdecode(path))
        data = b""
        while len(data) < limit and (piece := os.read(fd, limit - len(data))):
            data += piece
        return data
    finally:
        os.close(fd)
