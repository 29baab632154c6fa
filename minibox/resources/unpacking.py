# SPDX-License-Identifier: Apache-2.0
"""A tar stream to a tree, by docker cp's rules about names, although the stream may be hostile.

Nothing is made outside the destination, nothing is written through a link that lies there, and no
device is made at all.
"""

from __future__ import annotations

import errno
import os
import stat

from minibox.errors import StateError
from minibox.resources import archive, below
from minibox.resources.archive import CHUNK, PATH_MAX, show
from minibox.resources.packing import NOTHING, PLACE, READ, split, trouble, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.resources.archive import Member
    from minibox.resources.packing import Warn

    Owner = tuple[int, int]

MOST_SYMLINKS = 40  # as in the kernel (path_resolution(7))
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def components(name: bytes) -> list[bytes]:
    """The parts of a member's name. StateError when it might lead out of the destination."""
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if name.startswith(b"/") or b".." in parts or b"\0" in name or len(name) >= PATH_MAX:
        raise StateError(f"the tar stream names {show(name[:200])!r}, outside the destination")
    return parts


def _end_of_links(path: bytes) -> bytes:
    """What a path stands for that is no directory, and may be missing. OSError.

    Not realpath(3): directories above, which it would go through, may be closed to the caller.
    """
    path = path.rstrip(b"/")
    while path.endswith(b"/."):
        path = path[:-2].rstrip(b"/")
    for _ in range(MOST_SYMLINKS):
        try:
            link = os.readlink(path)
        except OSError:
            return path
        path = os.path.join(os.path.dirname(path), link)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


class Unpacking:
    """Makes a tree of the tar stream that `source` gives.

    is_copy: it is one tree, and docker cp's rules find what it is called at `destination`; if not,
    the destination must be a directory, and everything goes into it. owner: whose all of it
    becomes; None leaves that to the kernel. as_is: owners and set-id bits are the stream's.
    A directory that is there already keeps its owner, mode and time.
    """

    def __init__(
        self, source: int, destination: bytes, warn: Warn,
        *, is_copy: bool, owner: Owner | None, as_is: bool,
    ) -> None:  # fmt: skip
        self._stream = archive.Incoming(source)
        self._destination = destination
        self._warn = warn
        self._is_copy = is_copy
        self._owner = owner
        self._as_is = as_is
        self._goes_into = True
        self._exists = False
        # What the stream calls the tree, and what it is to be called below `_top`.
        self._old: list[bytes] = []
        self._new: list[bytes] = []
        self._top = self._at = -1
        self._where: list[bytes] = []
        # Directories that more may come for; then they get their owner, mode and time.
        self._unfinished: list[tuple[list[bytes], Member]] = []

    def unpack(self) -> None:
        """All of the stream. StateError."""
        try:
            self._top = self._open_destination()
        except OSError as error:
            raise trouble(self._destination, error) from None
        try:
            member = self._stream.next()
            if member and self._is_copy:
                self._name(member)
            while member:
                self._put(member, self._place(member.name))
                member = self._stream.next()
            self._leave(None)
            self._stream.drain()
        finally:
            os.close(self._top)
            if self._at >= 0:
                os.close(self._at)

    # Names.

    def _open_destination(self) -> int:
        """The directory that all is made in: the destination, or where it is to be. OSError."""
        path = self._destination
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            mode = 0
        if stat.S_ISDIR(mode):
            return os.open(path, PLACE)
        if not self._is_copy:
            raise OSError(errno.ENOTDIR, "it must be a directory, for a tar stream goes into it")
        if mode and not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "neither a file nor a directory")
        self._goes_into, self._exists = False, bool(mode)
        directory, name, _ = split(_end_of_links(path))
        self._new = [name]
        return os.open(directory, PLACE)

    def _name(self, first: Member) -> None:
        """The rules for which one must know what is copied."""
        self._old = components(first.name)
        is_directory = first.kind == archive.DIRECTORY
        shown = show(self._destination)
        if self._goes_into:
            self._new = self._old
        elif is_directory and self._exists:
            raise StateError(f"{shown}: a directory cannot be copied to a file")
        elif not is_directory and split(self._destination)[2]:
            raise StateError(f"{shown}: no such directory")

    def _place(self, name: bytes) -> list[bytes]:
        """Where a member of this name goes, counted from `_top`. StateError."""
        parts = components(name)
        if parts[: len(self._old)] != self._old:
            raise StateError(f"the tar stream names {show(name)!r}, which is not in what is copied")
        return self._new + parts[len(self._old) :]

    def _shown(self, parts: list[bytes]) -> bytes:
        below_it = parts if self._goes_into else parts[1:]
        return b"/".join([self._destination.rstrip(b"/"), *below_it]) or b"/"

    # Members.

    def _put(self, member: Member, parts: list[bytes]) -> None:
        self._leave(parts)
        try:
            if member.kind in (archive.DEVICE, archive.OTHER):
                self._warn(f"{show(self._shown(parts))}: left out: it is a {member.kind}")
            elif member.kind == archive.DIRECTORY:
                self._make_directory(parts, member)
            elif parts:
                self._replace(self._directory(parts[:-1]), parts[-1], member)
            else:
                raise OSError(errno.EISDIR, "a directory cannot be replaced by a file")
        except OSError as error:
            raise trouble(self._shown(parts), error) from None

    def _directory(self, parts: list[bytes]) -> int:
        """An fd of this directory, which is made if need be; it is kept for the next member."""
        if self._at < 0 or parts != self._where:
            fd = self._reach(parts)
            if self._at >= 0:
                os.close(self._at)
            self._at, self._where = fd, parts
        return self._at

    def _reach(self, parts: list[bytes]) -> int:
        try:
            return below.open_directory(self._top, b"/".join(parts), os.O_PATH)
        except FileNotFoundError:
            pass
        fd = os.dup(self._top)
        for part in parts:
            try:
                try:
                    os.mkdir(part, 0o755, dir_fd=fd)
                except FileExistsError:
                    pass
                deeper = below.open_directory(fd, part, os.O_PATH)
            finally:
                os.close(fd)
            fd = deeper
        return fd

    def _make_directory(self, parts: list[bytes], member: Member) -> None:
        if not parts:
            return
        at, name = self._directory(parts[:-1]), parts[-1]
        try:
            os.mkdir(name, 0o700, dir_fd=at)
        except FileExistsError:
            status = below.status(at, name)
            if status is None or not stat.S_ISDIR(status.st_mode):
                reason = "a directory cannot replace what is none"
                raise OSError(errno.ENOTDIR, reason) from None
            return
        self._unfinished.append((parts, member))

    def _leave(self, parts: list[bytes] | None) -> None:
        """Nothing more comes for the directories that `parts` is not below."""
        while self._unfinished:
            done, member = self._unfinished[-1]
            if parts is not None and parts[: len(done)] == done:
                return
            self._unfinished.pop()
            try:
                fd = below.open_directory(self._top, b"/".join(done))
                try:
                    self._settle(fd, member)
                finally:
                    os.close(fd)
            except OSError as error:
                raise trouble(self._shown(done), error) from None

    def _replace(self, at: int, name: bytes, member: Member) -> None:
        """Make it under a name of its own, then put it in the place of what is there. So no link
        is written through, and what is there stays if making the new one fails."""
        spare = b".minibox-" + os.urandom(8).hex().encode()
        try:
            if member.kind == archive.FILE:
                self._make_file(at, spare, member)
            elif member.kind == archive.SYMLINK:
                self._make_symlink(at, spare, member)
            elif member.kind == archive.LINK:
                self._make_link(at, spare, member)
            else:
                os.mkfifo(spare, 0o600, dir_fd=at)
                self._settle_and_close(os.open(spare, READ | os.O_NOFOLLOW, dir_fd=at), member)
            os.rename(spare, name, src_dir_fd=at, dst_dir_fd=at)
        finally:
            try:
                # Also after rename(2), which leaves both names of one file as they are.
                os.unlink(spare, dir_fd=at)
            except OSError:
                pass

    def _make_file(self, at: int, name: bytes, member: Member) -> None:
        fd = os.open(name, CREATE, 0o600, dir_fd=at)
        try:
            for piece in self._stream.pieces():
                if piece == NOTHING:
                    os.lseek(fd, CHUNK, os.SEEK_CUR)  # a hole, as there may have been one
                else:
                    write(fd, piece)
            os.ftruncate(fd, member.size)
        except BaseException:
            os.close(fd)
            raise
        self._settle_and_close(fd, member)

    def _make_symlink(self, at: int, name: bytes, member: Member) -> None:
        if b"\0" in member.link:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        os.symlink(member.link, name, dir_fd=at)
        os.utime(name, ns=(member.mtime, member.mtime), dir_fd=at, follow_symlinks=False)
        owner = self._owner_of(member)
        if owner:
            os.chown(name, *owner, dir_fd=at, follow_symlinks=False)

    def _make_link(self, at: int, name: bytes, member: Member) -> None:
        """Another name of a member that has come before."""
        target = self._place(member.link)
        if not target:
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        source = below.open_directory(self._top, b"/".join(target[:-1]), os.O_PATH)
        try:
            os.link(target[-1], name, src_dir_fd=source, dst_dir_fd=at, follow_symlinks=False)
        finally:
            os.close(source)

    # Owner, mode and time.

    def _owner_of(self, member: Member) -> Owner | None:
        return (member.uid, member.gid) if self._as_is else self._owner

    def _settle_and_close(self, fd: int, member: Member) -> None:
        try:
            self._settle(fd, member)
        finally:
            os.close(fd)

    def _settle(self, fd: int, member: Member) -> None:
        owner = self._owner_of(member)
        if owner:
            try:
                os.fchown(fd, *owner)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                reason = f"the owner {owner[0]}:{owner[1]} does not exist there"
                raise OSError(errno.EINVAL, reason) from None
        # After chown(2), which takes set-id bits away.
        os.fchmod(fd, member.mode if self._as_is else member.mode & 0o1777)
        os.utime(fd, ns=(member.mtime, member.mtime))
