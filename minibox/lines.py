# SPDX-License-Identifier: Apache-2.0
"""The lines of a file that others append to and rotate: NAME, older NAME.1, NAME.2, …

Who rotates renames the oldest first, then NAME, and then makes a new NAME: a file only ever moves
to a higher number, and nobody appends to it for long after. What a file is called may change
between two system calls, so files are held open and told apart by device and inode, whose number
is not given to another file while this one is open.
"""

from __future__ import annotations

import os
import stat
import time
from errno import ELOOP, ENOENT, ENOTDIR, ENXIO

from minibox.errors import StateError
from minibox.watch import IN_MODIFY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from minibox.watch import Watch

    Key = tuple[int, int]  # st_dev, st_ino

CHUNK = 65536
LONGEST = 1 << 20  # a longer line is cut: memory is not for who writes no newline
NONE_THERE = (ENOENT, ENOTDIR, ELOOP, ENXIO)
ATTEMPTS = 1000
IDLE, SOON = 1.0, 0.02  # s; how long it waits for an event, and where an end is likely
LIKELY = 0.5  # s; for so long after a file was closed
LATE = 50_000_000  # ns; what is stamped in time may be written a moment later


class _File:
    """One of the files. at: what was read ends here. rest: of it, what follows the last newline.
    skips: what comes up to the next newline is not wanted."""

    __slots__ = ("at", "fd", "key", "rest", "skips")

    def __init__(self, fd: int, key: Key) -> None:
        self.fd = fd
        self.key = key
        self.seek(0)

    def seek(self, at: int, *, skips: bool = False) -> None:
        self.at = at
        self.rest = b""
        self.skips = skips

    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def lines(self, limit: int) -> Iterator[bytes]:
        """The lines that end before `limit`, a place in the file; each with its newline."""
        while self.at < limit:
            data = os.pread(self.fd, min(CHUNK, limit - self.at), self.at)
            if not data:
                return
            self.at += len(data)
            if self.skips:
                _, newline, data = data.partition(b"\n")
                self.skips = not newline
            lines = (self.rest + data).split(b"\n")
            self.rest = lines.pop()
            if len(self.rest) > LONGEST:
                lines.append(self.rest)
                self.seek(self.at, skips=True)
            for line in lines:
                yield line + b"\n"

    def finish(self) -> Iterator[bytes]:
        """The line that was read in part, if by now it is there."""
        if self.rest or self.skips:
            data = os.pread(self.fd, CHUNK, self.at)
            yield from self.lines(self.at + data.find(b"\n") + 1)

    def end(self) -> Iterator[bytes]:
        """The line that nobody will go on with, as its next writer would have ended it."""
        rest, self.rest = self.rest, b""
        if rest:
            yield rest + b"\n"


def _open(path: str) -> _File | None:
    """None: there is no such file, or it is none to read lines from. OSError."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    try:
        fd = os.open(path, flags)
    except OSError as error:
        if error.errno in NONE_THERE:
            return None
        raise
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode):
        return _File(fd, (status.st_dev, status.st_ino))
    os.close(fd)
    return None


def _key(path: str) -> Key | None:
    try:
        status = os.lstat(path)
    except OSError as error:
        if error.errno in NONE_THERE:
            return None
        raise
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


class Lines:
    """Reads `name` in `directory` and, before it, at most `rotated` older files; a context manager.

    What there is when it is made comes from past(), what comes later from more(). No line comes
    twice, none is left out, unless its file is gone before it was opened. OSError; StateError when
    the files never stand still.
    """

    __slots__ = ("_files", "_limit", "_paths", "directory")

    def __init__(self, directory: str, name: str, rotated: int) -> None:
        self.directory = directory
        path = os.path.join(directory, name)
        self._paths = [path, *[f"{path}.{number}" for number in range(1, rotated + 1)]]
        self._files = self._newer()
        self._limit = self._files[-1].size() if self._files else 0

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _newer(self, last: _File | None = None) -> list[_File]:
        """The files newer than `last`, the oldest first."""
        for _ in range(ATTEMPTS):
            found: list[_File] = []
            keys: list[Key | None] = []
            try:
                for path in self._paths:
                    file = _open(path)
                    keys.append(file.key if file else None)
                    found += [file] if file else []
                    if last and keys[-1] == last.key:
                        break
                # Nothing has changed its name from here to there, so what was seen one after the
                # other was so at one moment.
                if [_key(path) for path in self._paths[: len(keys)]] == keys:
                    if last and found and found[-1].key == last.key:
                        os.close(found.pop().fd)
                    return found[::-1]
            except BaseException:
                _close(found)
                raise
            _close(found)
        raise StateError(f"{self._paths[0]}: it is rotated faster than it can be read")

    def rewind(self, window: int) -> bool:
        """past() gives the lines of about the last `window` bytes; True when that is all of it."""
        for file in reversed(self._files):
            size = self._limit if file is self._files[-1] else file.size()
            if window < 0:
                file.seek(size)
            elif size <= window:
                file.seek(0)
            else:
                # From the byte before: if it is a newline, then the line after it is whole.
                file.seek(size - window - 1, skips=True)
            window = window - size if size <= window else -1
        return window >= 0

    def past(self) -> Iterator[bytes]:
        """The lines, each with its newline, that there were at the beginning. To be exhausted."""
        for file in self._files[:-1]:
            yield from file.lines(file.size())
            yield from file.end()
        if self._files:
            yield from self._files[-1].lines(self._limit)
            yield from self._files[-1].finish()

    def more(self) -> Iterator[bytes]:
        """The lines that have come since. To be exhausted."""
        yield from self._drain()
        last = self._files[-1] if self._files else None
        if last and _key(self._paths[0]) == last.key:
            return
        newer = self._newer(last)
        if newer:
            self._files += newer
            yield from self._drain()
        # A writer that was slow may still append to the last but one.
        _close(self._files[:-2])
        self._files = self._files[-2:]

    def _drain(self) -> Iterator[bytes]:
        for file in self._files:
            size = file.size()
            if size < file.at:
                file.seek(0)  # somebody has emptied it
            yield from file.lines(size)
            if file is not self._files[-1]:
                yield from file.end()

    def torn(self) -> bytes:
        """What follows the last newline of all that was read."""
        return self._files[-1].rest if self._files else b""

    def close(self) -> None:
        """The files are closed; once more does nothing."""
        files, self._files = self._files, []
        _close(files)


def _close(files: list[_File]) -> None:
    for file in files:
        os.close(file.fd)


def follow(
    lines: Lines, watch: Watch, ended: Callable[[], bool], until: int | None
) -> Iterator[bytes]:
    """The lines that come, until `ended()` is true or the clock shows `until`, ns since the epoch,
    or the directory is gone; and all that was there by then has been read."""
    likely = time.monotonic() + LIKELY
    while True:
        # Asked before the last look: what was written before the end is seen by it.
        over = ended() or _left(until) <= 0 or not os.path.isdir(lines.directory)
        yield from lines.more()
        if over:
            return
        pause = SOON if time.monotonic() < likely else IDLE
        if watch.wait(min(pause, _left(until))) & ~IN_MODIFY:
            likely = time.monotonic() + LIKELY


def _left(until: int | None) -> float:
    """Seconds; the clock may jump, so it is asked again each time."""
    return IDLE if until is None else (until + LATE - time.time_ns()) / 1e9
