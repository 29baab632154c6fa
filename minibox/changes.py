# SPDX-License-Identifier: Apache-2.0
"""What a container has changed in its root file system, read off the overlay's upper layer.

Source: overlayfs in the kernel's documentation. A whiteout, a 0/0 character device, hides what the
lower layer has; a directory with the attribute user.overlay.opaque hides all that it has there. The
layers are walked by fds and never through a link, since the container may change the upper one
meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat

from minibox.errors import StateError
from minibox.resources import below

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from minibox.resources.idmap import Maps

ADDED, CHANGED, DELETED = "A", "C", "D"
OPAQUE = "user.overlay.opaque"
LAYER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
# What the paths that are found may take, in bytes. Each costs the container more than it costs us.
MOST_BYTES = 1 << 28
ENTRY_BYTES = 128


def changes(
    upper: bytes, lower: bytes, skip: Collection[bytes], maps: tuple[Maps, Maps] = ((), ())
) -> list[tuple[str, bytes]]:
    """What `upper` makes of `lower`: ("A" added, "C" changed or "D" deleted, b"/path"), by path.

    Of a deleted directory only itself is listed; the root never is. A directory of both layers is
    changed when something below it is, or its mode, owner or time. skip: paths that minibox has
    made; they are not listed unless something below them is. maps: of uids and gids, where the
    upper layer's owners are those outside and the lower one's those inside. What lies deeper than a
    path can say (PATH_MAX) is not looked at. StateError.
    """
    above = below_it = -1
    try:
        above = os.open(upper, LAYER)
        below_it = os.open(lower, LAYER)
        return _Comparison(above, below_it, frozenset(skip), maps).run()
    except OSError as error:
        raise StateError(f"the layers of the overlay cannot be read: {error.strerror}") from None
    finally:
        for fd in (above, below_it):
            if fd >= 0:
                os.close(fd)


class _Comparison:
    """Of two layers. found: path -> what happened to it. quiet: the same of directories that count
    only when something below them has been found."""

    def __init__(
        self, upper: int, lower: int, skip: Collection[bytes], maps: tuple[Maps, Maps]
    ) -> None:
        self._maps = maps
        self._upper = upper
        self._lower = lower
        self._skip = skip
        self._found: dict[bytes, str] = {}
        self._quiet: dict[bytes, str] = {}
        self._room = MOST_BYTES
        # Directories to be gone through: where, their names, and whether all below is hidden.
        self._waiting: list[tuple[bytes, list[bytes], bool]] = [(b"", [b""], False)]

    def run(self) -> list[tuple[str, bytes]]:
        """OSError, StateError."""
        while self._waiting:
            where, names, hidden = self._waiting[-1]
            if names:
                self._directory(where + names.pop(), hidden)
            else:
                self._waiting.pop()
        for path in list(self._found):
            self._found_below(path)
        return [(kind, path) for path, kind in sorted(self._found.items())]

    def _found_below(self, path: bytes) -> None:
        """The directories that `path` is in have changed, since it has."""
        above = path.rpartition(b"/")[0]
        while above and above not in self._found:
            self._found[above] = self._quiet.get(above, CHANGED)
            above = above.rpartition(b"/")[0]

    def _directory(self, path: bytes, hidden: bool) -> None:
        """Everything in the directory `path` of the upper layer (b"" or b"/a/b"). hidden: of the
        lower layer nothing shows here, because a directory above is opaque."""
        try:
            upper = below.open_directory(self._upper, path.lstrip(b"/"))
        except OSError as error:
            if error.errno in below.GONE:
                return
            raise
        try:
            lower = self._open_lower(path)
            try:
                self._compare(path, upper, lower, hidden or _is_opaque(upper))
            finally:
                if lower >= 0:
                    os.close(lower)
        finally:
            os.close(upper)

    def _open_lower(self, path: bytes) -> int:
        try:
            return below.open_directory(self._lower, path.lstrip(b"/"))
        except OSError as error:
            if error.errno in below.GONE:
                return -1
            raise

    def _compare(self, path: bytes, upper: int, lower: int, hidden: bool) -> None:
        names = below.names(upper)
        directories = [name for name in names if self._entry(path + b"/" + name, upper, lower)]
        if lower >= 0:
            if hidden:
                for name in set(below.names(lower)).difference(names):
                    self._note(self._found, path + b"/" + name, DELETED)
            # Only itself, and not by the container, if it was to hold a mount point.
            has_ours = any(path + b"/" + name in self._skip for name in names)
            if self._found.get(path) == CHANGED and self._is_same(upper, lower, has_ours):
                self._quiet[path] = self._found.pop(path)
        if directories:
            self._waiting.append((path + b"/", directories, hidden))

    def _entry(self, path: bytes, upper: int, lower: int) -> bool:
        """Note what has become of `path`, which the upper layer has; True if it is a directory."""
        name = path.rpartition(b"/")[2]
        new = below.status(upper, name)
        old = below.status(lower, name) if lower >= 0 else None
        if new is None:
            return False  # it has gone meanwhile
        if stat.S_ISCHR(new.st_mode) and new.st_rdev == 0:
            if old:
                self._note(self._found, path, DELETED)
            return False
        found = self._quiet if path in self._skip else self._found
        self._note(found, path, CHANGED if old else ADDED)
        return stat.S_ISDIR(new.st_mode)

    def _is_same(self, upper: int, lower: int, any_time: bool) -> bool:
        """Has a directory been left alone?"""
        new, old = os.fstat(upper), os.fstat(lower)
        uids, gids = self._maps
        return (
            new.st_mode == old.st_mode
            and _inner(new.st_uid, uids) == old.st_uid
            and _inner(new.st_gid, gids) == old.st_gid
            and (any_time or new.st_mtime_ns == old.st_mtime_ns)
        )

    def _note(self, found: dict[bytes, str], path: bytes, kind: str) -> None:
        self._room -= len(path) + ENTRY_BYTES
        if self._room < 0:
            raise StateError("there are more changes than can be listed")
        found[path] = kind


def _is_opaque(directory: int) -> bool:
    try:
        return os.getxattr(directory, OPAQUE) == b"y"
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return False
        raise


def _inner(id_: int, maps: Maps) -> int:
    """An id of the host as the container sees it."""
    for mapping in maps:
        if 0 <= id_ - mapping.host_id < mapping.size:
            return int(mapping.container_id + id_ - mapping.host_id)
    return id_
