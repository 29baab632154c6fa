# SPDX-License-Identifier: Apache-2.0
"""A tree to a tar stream, although somebody may change the tree meanwhile.

Below the path that is given no link is followed. What is not there any more when its turn comes is
left out, with a warning; a file is as long as it was when it was opened.
"""

from __future__ import annotations

import errno
import os
import stat

from minibox.errors import StateError
from minibox.resources import archive, below
from minibox.resources.archive import CHUNK, PATH_MAX, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    Warn = Callable[[str], object]

PLACE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# Names of files with several of them that are remembered; further ones are sent as files again.
MOST_LINKS = 1 << 16
NOTHING = bytes(CHUNK)


def trouble(path: bytes, error: OSError) -> StateError:
    """What an error of the kernel's means to whoever named `path`."""
    reasons = {errno.ELOOP: "a symbolic link is in the way", errno.EXDEV: "a mount is in the way"}
    reason = reasons.get(error.errno or 0) or error.strerror or "it failed"
    return StateError(f"{show(path)}: {reason}")


def split(path: bytes) -> tuple[bytes, bytes, bool]:
    """A path as (the directory it is in, its name there, whether it must be a directory).

    What ends in `/.` (or `/..`, or is `/`) stands for what is in the directory: its name is b".".
    """
    bare = path.rstrip(b"/")
    name = bare.rpartition(b"/")[2]
    if name in (b"", b".", b".."):
        return path or b".", b".", True
    return bare[: -len(name)] or b".", name, path != bare


def write(fd: int, data: bytes) -> None:
    """All of it. OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _readlink(at: int, name: bytes) -> bytes:
    """Where a link points; what is none any more is as good as gone. OSError."""
    try:
        return os.readlink(name, dir_fd=at)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None
        raise


class Packing:
    """Writes a tree to an fd. kernel: the file systems (st_dev) that the kernel makes up, whose
    files have no size: a directory there is packed as an empty one."""

    def __init__(self, out: int, warn: Warn, kernel: Collection[int] = ()) -> None:
        self._out = out
        self._warn = warn
        self._kernel = kernel
        self._links: dict[tuple[int, int], bytes] = {}

    def pack(self, path: bytes, *, follow_link: bool) -> None:
        """`path` and all below it, then the archive's end. StateError; BrokenPipeError."""
        directory, name, must_be_directory = split(path)
        follow = follow_link or must_be_directory
        try:
            at = os.open(directory, PLACE)
            try:
                status = os.stat(name, dir_fd=at, follow_symlinks=follow)
                is_directory = stat.S_ISDIR(status.st_mode)
                if must_be_directory and not is_directory:
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
                if status.st_dev in self._kernel:
                    raise StateError(f"{show(path)}: what the kernel makes up cannot be copied")
                if is_directory:
                    nofollow = 0 if follow else os.O_NOFOLLOW
                    top = os.open(name, READ | os.O_DIRECTORY | nofollow, dir_fd=at)
                    try:
                        self._tree(top, name)
                    finally:
                        os.close(top)
                else:
                    self._member(at, name, name, status, follow)
            finally:
                os.close(at)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise trouble(path, error) from None
        write(self._out, archive.END)

    def _tree(self, top: int, shown: bytes) -> None:
        """Directory by directory, each followed by all that is below it; one at a time is open."""
        waiting = [(b"", self._directory(top, shown))]
        while waiting:
            where, names = waiting[-1]
            if not names:
                waiting.pop()
                continue
            path = where + names.pop()
            try:
                fd = below.open_directory(top, path)
            except OSError as error:
                if error.errno not in below.GONE:
                    raise trouble(shown + b"/" + path, error) from None
                self._leave_out(shown + b"/" + path, "it changed while it was read")
                continue
            try:
                waiting.append((path + b"/", self._directory(fd, shown + b"/" + path)))
            finally:
                os.close(fd)

    def _directory(self, fd: int, shown: bytes) -> list[bytes]:
        """Itself and its files; the names of its directories, the first one last."""
        status = os.fstat(fd)
        write(self._out, archive.header(shown, status))
        if status.st_dev in self._kernel:
            return []
        directories = []
        for name in below.names(fd):
            path = shown + b"/" + name
            if len(path) >= PATH_MAX:
                self._leave_out(path, "its path is too long")
            elif self._entry(fd, name, path):
                directories.append(name)
        directories.reverse()
        return directories

    def _entry(self, at: int, name: bytes, shown: bytes) -> bool:
        """Pack it, unless it is a directory: True."""
        try:
            status = os.stat(name, dir_fd=at, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                return True
            self._member(at, name, shown, status)
        except BrokenPipeError:
            raise
        except OSError as error:
            if error.errno not in below.GONE:
                raise trouble(shown, error) from None
            self._leave_out(shown, "it changed while it was read")
        return False

    def _member(
        self, at: int, name: bytes, shown: bytes, status: os.stat_result, follow: bool = False
    ) -> None:
        """Anything but a directory."""
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG:
            self._file(at, name, shown, follow)
        elif kind not in archive.TYPES:
            self._leave_out(shown, "an archive cannot hold a socket")
        else:
            link = _readlink(at, name) if kind == stat.S_IFLNK else b""
            write(self._out, archive.header(shown, status, link=link))

    def _file(self, at: int, name: bytes, shown: bytes, follow: bool) -> None:
        """A file, as long as its header says whatever happens to it meanwhile."""
        fd = os.open(name, READ if follow else READ | os.O_NOFOLLOW, dir_fd=at)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                self._leave_out(shown, "it changed while it was read")
                return
            key = status.st_dev, status.st_ino
            known = self._links.get(key, b"")
            write(self._out, archive.header(shown, status, link=known, is_link=bool(known)))
            if known:
                return
            if status.st_nlink > 1 and len(self._links) < MOST_LINKS:
                self._links[key] = shown
            left = status.st_size
            while left:
                try:
                    data = os.read(fd, min(CHUNK, left))
                except OSError as error:  # it has been announced, and cannot be left out any more
                    raise trouble(shown, error) from None
                if not data:
                    break
                left -= len(data)
                write(self._out, data)
            if left:
                self._warn(f"{show(shown)}: it shrank while it was read; zeros fill the copy up")
            left += -status.st_size % archive.BLOCK
            while left:
                zeros = NOTHING[:left]
                left -= len(zeros)
                write(self._out, zeros)
        finally:
            os.close(fd)

    def _leave_out(self, shown: bytes, reason: str) -> None:
        self._warn(f"{show(shown)}: left out: {reason}")
