# SPDX-License-Identifier: Apache-2.0
"""Filters that were made before, in files of the user's own.

A first start with other capabilities spends 19 ms on its filter, one that finds it here 6 ms, most
of that on modules: libseccomp takes 12 ms for one as long as the default's, and 1 ms to be opened.
Without a place for them, or with one that others could write to, filters are made each time: no
error is a cache's.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

INSTRUCTION, LONGEST = 8, 4096  # struct sock_filter, BPF_MAXINSNS (include/uapi/linux/filter.h)
MOST = 64  # files, of some KiB each; then all go
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def kept(name: str, make: Callable[[], bytes]) -> bytes:
    """The program by that name, made and put there when there is none. What `make` raises."""
    directory = _open()
    try:
        program = None if directory is None else _read(directory, name)
        if program is None:
            program = make()
            if directory is not None and _fits(len(program)):
                _write(directory, name, program)
        return program
    finally:
        if directory is not None:
            os.close(directory)


def _open() -> int | None:
    """minibox/seccomp in the user's cache (XDG Base Directory Specification), if nobody else can
    put a file there. A home that is somebody else's, as with sudo, is left alone."""
    above = os.environ.get("XDG_CACHE_HOME", "")
    if not above.startswith("/"):
        home = os.environ.get("HOME", "")
        if not home.startswith("/") or not home.strip("/"):  # "/" is no user's
            return None
        above = f"{home}/.cache"
    try:
        fd = _directory(above)
        for name in ("minibox", "seccomp"):
            outer = fd
            try:
                fd = _directory(name, os.O_NOFOLLOW, outer)
            finally:
                os.close(outer)
    except (OSError, ValueError):  # ValueError: a lone surrogate or the like in the path
        return None
    return fd


def _directory(name: str, flags: int = 0, outer: int | None = None) -> int:
    """OSError, also when it is not ours alone."""
    try:
        fd = os.open(name, DIRECTORY | flags, dir_fd=outer)
    except FileNotFoundError:
        os.mkdir(name, 0o700, dir_fd=outer)
        fd = os.open(name, DIRECTORY | flags, dir_fd=outer)
    if not _is_ours(os.fstat(fd)):
        os.close(fd)
        raise PermissionError
    return fd


def _is_ours(found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _fits(size: int) -> bool:
    return 0 < size <= INSTRUCTION * LONGEST and size % INSTRUCTION == 0


def _read(directory: int, name: str) -> bytes | None:
    try:
        fd = os.open(name, READ, dir_fd=directory)
        with open(fd, "rb") as file:
            found = os.fstat(fd)
            if not (stat.S_ISREG(found.st_mode) and _is_ours(found) and _fits(found.st_size)):
                return None
            program = file.read(found.st_size)
    except OSError:
        return None
    return program if len(program) == found.st_size else None


def _write(directory: int, name: str, program: bytes) -> None:
    """Beside its place, and renamed."""
    beside = f".{name}.{os.getpid()}"
    try:
        there = os.listdir(directory)
        for one in there if len(there) >= MOST else ():
            os.unlink(one, dir_fd=directory)
        fd = os.open(beside, WRITE, 0o600, dir_fd=directory)
        try:
            with open(fd, "wb", buffering=0) as file:
                done = file.write(program) == len(program)
            if done:
                os.rename(beside, name, src_dir_fd=directory, dst_dir_fd=directory)
        finally:
            _discard(directory, beside)
    except OSError:
        pass


def _discard(directory: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass  # it has been renamed
