# SPDX-License-Identifier: Apache-2.0
"""Going down a tree that somebody else may change meanwhile: by fds, and never through a link.

Source: openat2(2). RESOLVE_NO_SYMLINKS refuses a link anywhere in the path, RESOLVE_IN_ROOT lets
nothing lead above the directory that the path counts from.
"""

from __future__ import annotations

import errno
import os
import struct

from minibox import core
from minibox import syscalls as sc
from minibox.numbers import NUMBERS

RESOLVE = sc.RESOLVE_IN_ROOT | sc.RESOLVE_NO_SYMLINKS | sc.RESOLVE_NO_MAGICLINKS
# What a path gives that is no longer, or not, what it was taken for.
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


def open_directory(top: int, path: bytes, flags: int = os.O_RDONLY) -> int:
    """An fd of the directory `path`, which counts from the directory `top`; b"" is `top` itself.

    OSError: ELOOP where a link is in the way, ENOTDIR where something else is.
    """
    how = struct.pack("=QQQ", flags | os.O_DIRECTORY | os.O_CLOEXEC, 0, RESOLVE)
    while True:
        try:
            return core.syscall(NUMBERS["openat2"], top, (path or b".") + b"\0", how, len(how))
        except InterruptedError:
            continue


def names(directory: int) -> list[bytes]:
    """What is in the directory that an fd is open for, sorted. OSError."""
    return sorted(map(os.fsencode, os.listdir(directory)))


def status(directory: int, name: bytes) -> os.stat_result | None:
    """lstat(2) of a name in a directory, or None when there is no such thing."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno in GONE:
            return None
        raise
