# SPDX-License-Identifier: Apache-2.0
"""Ranges of ids for containers of this process: one each, which no other container has.

A range is held by a socket whose name in the abstract namespace says which (unix(7)): a name can be
bound once, nothing is on disk, and the kernel takes it back when the process dies. The ranges are
those of the rows of "minibox" in /etc/subuid and /etc/subgid, or, where there are none, ids that
nobody is given: above what useradd hands out, below 2^31, where some programs see a sign.

The lower half of them is for containers that end with the process that starts them, the upper half
for kept ones, whose range is leased with a file (store.py).
"""

from __future__ import annotations

import os
import struct
from _thread import allocate_lock
from errno import EADDRINUSE

from minibox import core
from minibox import syscalls as sc
from minibox.compile.identity import id_map
from minibox.errors import SetupError, SpecError, StateError
from minibox.numbers import NUMBERS
from minibox.resources import idmap
from minibox.spec import IDMapping

SIZE = 65536
FIRST, COUNT = 1 << 30, 16384
OWNER = "minibox"
FILES, FILE_LIMIT = ("/etc/subuid", "/etc/subgid"), 1 << 20
Maps = tuple[IDMapping, ...]
Rows = list[tuple[int, int]]


class Range:
    """A range that is held. uids, gids: as a Spec has them."""

    def __init__(self, number: int, holder: int) -> None:
        self.number = number
        self.uids, self.gids = maps(number)
        self._holder = holder
        self._userns = -1

    def userns(self) -> int:
        """An fd of a user namespace with these maps, for idmapped mounts. OSError."""
        if self._userns < 0:
            uid_map, gid_map = id_map(self.uids), id_map(self.gids)
            self._userns = idmap.make_userns(uid_map, gid_map)
        return self._userns

    def close(self) -> None:
        for fd in (self._holder, self._userns):
            if fd >= 0:
                os.close(fd)


class Pool:
    """The ranges that one process holds. The first one it keeps, with the user namespace that was
    made for it, as long as it lives; the others are for containers beside one that has it."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self.kept: Range | None = None  # the first one
        self._is_taken = False

    def home(self) -> Range:
        """The first one, whether it is taken or not. StateError when there is none."""
        with self._lock:
            if self.kept is None:
                self.kept = hold()
            return self.kept

    def take(self) -> Range:
        """A range that no other container has. StateError when there is none."""
        home = self.home()
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return home
        return hold()

    def give_back(self, range_: Range) -> None:
        with self._lock:
            if range_ is self.kept:
                self._is_taken = False
                return
        range_.close()


_pools: dict[int, Pool] = {}


def pool() -> Pool:
    """This process's: what a fork inherits is its parent's."""
    return _pools.setdefault(os.getpid(), Pool())


def userns(uid_map: bytes, gid_map: bytes) -> int:
    """An fd of a user namespace with these maps, kept for the next call: that of the first range
    where it has them. OSError."""
    home = pool().kept
    if home and (id_map(home.uids), id_map(home.gids)) == (uid_map, gid_map):
        return home.userns()
    return idmap.userns(uid_map, gid_map)


def hold() -> Range:
    """Bind the name of the first range that is free, from one on that the pid decides. SetupError,
    StateError."""
    count = number_of() // 2
    start = os.getpid() * 251
    try:
        fd = core.syscall(NUMBERS["socket"], sc.AF_UNIX, sc.SOCK_DGRAM | sc.SOCK_CLOEXEC, 0)
    except OSError as error:
        raise SetupError(error.errno or 0, "hold a range of ids: socket") from None
    for k in range(count):
        number = (start + k) % count
        address = struct.pack("=H", sc.AF_UNIX) + b"\0minibox-ids-%d" % number
        try:
            core.syscall(NUMBERS["bind"], fd, address, len(address))
            return Range(number, fd)
        except OSError as error:
            if error.errno != EADDRINUSE:
                os.close(fd)
                raise SetupError(error.errno or 0, "hold a range of ids: bind") from None
    os.close(fd)
    raise StateError(f"all {count} ranges of ids are in use\n  hint: --userns UID:GID:SIZE")


_chunks: tuple[list[int], list[int]] | None = None


def _rows() -> tuple[list[int], list[int]]:
    """The first ids of the ranges that /etc/subuid and /etc/subgid give, read once a process; both
    empty where there are none. SpecError for rows that do not give two."""
    global _chunks
    if _chunks is None:
        uids, gids = _given()
        chunks = _cut(uids), _cut(gids)
        if (uids or gids) and min(map(len, chunks)) < 2:
            reason = f"{OWNER} needs rows of {2 * SIZE} ids or more in both, or none"
            raise SpecError("/etc/subuid, /etc/subgid", reason)
        _chunks = chunks
    return _chunks


def _given() -> tuple[Rows, Rows]:
    """Most hosts hand out none to us, which is seen at once."""
    if not any(b"%s:" % OWNER.encode() in text(path) for path in FILES):
        return [], []
    from minibox.resources import subids

    return subids.given_to(OWNER)


def text(path: str) -> bytes:
    """Such a file; nothing where there is none, or none for us to read. SetupError."""
    try:
        with open(path, "rb") as file:
            return file.read(FILE_LIMIT)
    except (FileNotFoundError, PermissionError):
        return b""
    except OSError as error:
        raise SetupError(error.errno or 0, f"look at {path}") from None


def _cut(rows: Rows) -> list[int]:
    return [first + k * SIZE for first, count in rows for k in range(min(count // SIZE, COUNT))]


def number_of() -> int:
    """How many ranges there are."""
    uids, gids = _rows()
    return min(len(uids), len(gids), COUNT) if uids else COUNT


def kept(number: int) -> tuple[Maps, Maps]:
    """The maps of the range that a kept container leases, by its number from 0 on."""
    half = number_of() // 2
    return maps(half + number % half)


def maps(number: int) -> tuple[Maps, Maps]:
    """The uid and gid map of a range."""
    uids, gids = _rows()
    if not uids:
        both = (IDMapping(0, FIRST + number * SIZE, SIZE),)
        return both, both
    return (IDMapping(0, uids[number], SIZE),), (IDMapping(0, gids[number], SIZE),)
