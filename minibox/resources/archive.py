# SPDX-License-Identifier: Apache-2.0
"""A tar stream: its members as they come and as they are written (tar(5), pax in POSIX.1-2001).

Headers are tarfile's; what surrounds them is read here, because a stream may be hostile: nothing in
it makes this process take more memory than a constant, and no piece of it is trusted to be true.
Names are bytes, owners are numbers; no user or group is ever looked up.
"""

from __future__ import annotations

import os
import stat
import tarfile

from minibox.errors import StateError, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 1 << 16
BLOCK = tarfile.BLOCKSIZE
PATH_MAX = 4096
# Long names and pax records before one member, in bytes.
MOST_EXTENSIONS = 1 << 20
MOST_DIGITS = 30
MOST_ID = (1 << 32) - 2  # the next one means "leave it" (chown(2))
MOST_SECONDS = 1 << 40
SECOND = 1_000_000_000
END = bytes(2 * BLOCK)
UTF8 = ("utf-8", "surrogateescape")

FILE, DIRECTORY, LINK, SYMLINK, FIFO = "file", "directory", "hard link", "symbolic link", "fifo"
DEVICE, OTHER = "device", "of an unknown type"
KINDS = {
    tarfile.REGTYPE: FILE, tarfile.AREGTYPE: FILE, tarfile.CONTTYPE: FILE,
    tarfile.DIRTYPE: DIRECTORY, tarfile.LNKTYPE: LINK, tarfile.SYMTYPE: SYMLINK,
    tarfile.FIFOTYPE: FIFO, tarfile.CHRTYPE: DEVICE, tarfile.BLKTYPE: DEVICE,
}  # fmt: skip
TYPES = {
    stat.S_IFREG: tarfile.REGTYPE, stat.S_IFDIR: tarfile.DIRTYPE, stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE, stat.S_IFCHR: tarfile.CHRTYPE, stat.S_IFBLK: tarfile.BLKTYPE,
}  # fmt: skip
PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
LONG = {tarfile.GNUTYPE_LONGNAME: b"path", tarfile.GNUTYPE_LONGLINK: b"linkpath"}
EXTENSIONS = (*PAX, *LONG, tarfile.XGLTYPE)


class Torn(StateError):
    """The stream ended before the archive did."""


def show(name: bytes) -> str:
    """A name in a message, whatever bytes it is made of."""
    return one_line(os.fsdecode(name))


class Member:
    """One member. name, link: bytes as in the archive. size: bytes of data. mtime: nanoseconds."""

    __slots__ = ("gid", "kind", "link", "mode", "mtime", "name", "size", "uid")

    def __init__(self, info: tarfile.TarInfo, records: dict[bytes, bytes]) -> None:
        self.name = records.get(b"path", info.name.encode(*UTF8))
        self.link = records.get(b"linkpath", info.linkname.encode(*UTF8))
        self.kind = KINDS.get(info.type, OTHER)
        self.mode = info.mode & 0o7777
        self.size = _number(records.get(b"size"), info.size)
        self.uid = _number(records.get(b"uid"), info.uid, MOST_ID)
        self.gid = _number(records.get(b"gid"), info.gid, MOST_ID)
        self.mtime = _nanoseconds(records.get(b"mtime"), int(info.mtime))
        if info.type == tarfile.GNUTYPE_SPARSE or any(k[:11] == b"GNU.sparse." for k in records):
            raise StateError(f"{show(self.name)}: sparse members of a tar stream are not read")
        if self.kind not in (FILE, OTHER):
            self.size = 0  # a size is noted for some of them, but no data follow


def _number(record: bytes | None, value: int, most: int = 1 << 63) -> int:
    if record is not None:
        value = int(record) if record.isdigit() and len(record) <= MOST_DIGITS else -1
    if not 0 <= value <= most:
        raise StateError("the tar stream is damaged: a number in it makes no sense")
    return value


def _nanoseconds(record: bytes | None, seconds: int) -> int:
    """A pax record such as b"-1700000000.25"; a time that no file can have is the epoch."""
    fraction = b""
    sign = 1
    if record is not None:
        whole, _, fraction = record.removeprefix(b"-").partition(b".")
        if not whole.isdigit() or len(whole) > MOST_DIGITS or not (fraction or b"0").isdigit():
            return 0
        sign = -1 if record.startswith(b"-") else 1
        seconds = int(whole)
    if abs(seconds) > MOST_SECONDS:
        return 0
    return sign * (seconds * SECOND + int(fraction[:9].ljust(9, b"0")))


def _records(data: bytes) -> dict[bytes, bytes]:
    """The records of a pax header, each b"LENGTH KEY=VALUE\\n". StateError."""
    found = {}
    at = 0
    while at < len(data):
        digits, space, _ = data[at : at + 10].partition(b" ")
        end = at + int(digits) if digits.isdigit() else at
        key, equals, value = data[at + len(digits) + 1 : end].partition(b"=")
        if not (space and equals) or end > len(data) or value[-1:] != b"\n":
            raise StateError("the tar stream is damaged: a pax header in it makes no sense")
        found[key] = value[:-1]
        at = end
    return found


class Incoming:
    """A tar stream that is read from an fd: a member, then its data, then the next member."""

    def __init__(self, fd: int) -> None:
        self._file = open(fd, "rb", CHUNK, closefd=False)
        self._left = 0
        self._padding = 0

    def next(self) -> Member | None:
        """The next member, or None at the end of the archive. Torn, StateError."""
        for _ in self.pieces():
            pass
        records: dict[bytes, bytes] = {}
        room = MOST_EXTENSIONS
        while True:
            info = self._header()
            if info is None:
                return None
            if info.type not in EXTENSIONS:
                break
            room -= info.size + BLOCK
            if info.size < 0 or room < 0:
                raise StateError("the tar stream is damaged: a name in it has no end")
            data = self._exactly(info.size)
            self._exactly(-info.size % BLOCK)
            if info.type in LONG:
                records[LONG[info.type]] = data.partition(b"\0")[0]
            elif info.type in PAX:
                records.update(_records(data))
        member = Member(info, records)
        self._left, self._padding = member.size, -member.size % BLOCK
        return member

    def pieces(self) -> Iterator[bytes]:
        """The data of the present member that have not been read yet, CHUNK bytes at most a piece.
        Torn."""
        while self._left:
            piece = self._exactly(min(CHUNK, self._left))
            self._left -= len(piece)
            yield piece
        self._exactly(self._padding)
        self._padding = 0

    def drain(self) -> None:
        """Read on to the end of the file: what wrote it shall not fail for that we had enough."""
        while self._file.read(CHUNK):
            pass

    def _header(self) -> tarfile.TarInfo | None:
        block = self._exactly(BLOCK)
        if block == bytes(BLOCK):
            return None
        try:
            return tarfile.TarInfo.frombuf(block, *UTF8)
        except (tarfile.TarError, ValueError, OverflowError):
            raise StateError(
                "this is no tar stream, or it is a damaged or compressed one"
            ) from None

    def _exactly(self, size: int) -> bytes:
        data = self._file.read(size) or b""
        if len(data) < size:
            raise Torn("the tar stream ended too early")
        return data


def header(
    name: bytes, status: os.stat_result, *, link: bytes = b"", is_link: bool = False
) -> bytes:
    """The blocks that announce a member. link: where a symbolic link points, or, with is_link, the
    member that this one is another name of."""
    kind = stat.S_IFMT(status.st_mode)
    info = tarfile.TarInfo(name.decode(*UTF8))
    info.type = tarfile.LNKTYPE if is_link else TYPES[kind]
    info.mode = stat.S_IMODE(status.st_mode)
    info.uid, info.gid = status.st_uid, status.st_gid
    info.size = status.st_size if info.type == tarfile.REGTYPE else 0
    info.linkname = link.decode(*UTF8)
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    seconds, fraction = divmod(abs(status.st_mtime_ns), SECOND)
    info.mtime = -seconds if status.st_mtime_ns < 0 else seconds
    if fraction:
        sign = "-" if status.st_mtime_ns < 0 else ""
        info.pax_headers = {"mtime": f"{sign}{seconds}.{fraction:09}"}
    return info.tobuf(tarfile.PAX_FORMAT, *UTF8)
