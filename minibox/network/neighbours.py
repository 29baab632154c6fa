# SPDX-License-Identifier: Apache-2.0
"""On a network that somebody has made, containers find each other by name.

The /etc/hosts of each is a file beside the network's leases, mounted read-only, and whoever joins
or leaves changes all of them in place: a line is appended in one write, and taken back by one byte,
the # at its beginning. So there is no server that could be down, and whoever looks a name up finds
the present.

ROOT/networks/NAME/hosts/N     of who has lease N; the same file in all of its networks
"""

from __future__ import annotations

import os

from minibox.directory import discard, listed, said
from minibox.network import naming

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from minibox.network.subnet import Subnet

    Lines = Sequence[tuple[str, Sequence[str]]]

MARK = "# others"  # before it are a file's own lines
LARGEST = 1 << 20


class Neighbours:
    """Who is on a network, under its lock. directory: the network's."""

    def __init__(self, directory: str, ranges: tuple[Subnet, ...]) -> None:
        self._path = f"{directory}/hosts"
        self._ranges = ranges

    def file(self, number: int) -> str:
        """The /etc/hosts of who has this lease."""
        return f"{self._path}/{number}"

    def _files(self) -> list[str]:
        return [f"{self._path}/{name}" for name in listed(self._path) if name.isdecimal()]

    def known(self) -> list[str]:
        """The lines about all who are there, each from its own file."""
        found = []
        for path in self._files():
            rows = naming.read(path).splitlines()
            own = rows[: rows.index(MARK)] if MARK in rows else []
            found += [row for row in own if self._is_here(row.partition(" ")[0])]
        return found

    def _is_here(self, where: str) -> bool:
        return any(one.number(where) >= 0 for one in self._ranges if (":" in where) == one.is_six)

    def introduce(self, number: int, own: Lines, path: str) -> None:
        """Tell all the others of a new member, whose file is `path`. StateError."""
        here = [(where, names) for where, names in own if names and self._is_here(where)]
        self._strike([where for where, _ in here])
        for other in self._files():
            if other != self.file(number):
                _append(other, "".join(naming.line(where, names) for where, names in here))
        if path != self.file(number):
            self._link(path, self.file(number))

    def _link(self, path: str, beside: str) -> None:
        try:
            discard(beside)
            os.link(path, beside)
        except OSError as error:
            raise said(error, beside) from None

    def write(self, number: int, own: Lines, extra: Lines, others: Iterable[str]) -> str:
        """A new member's file. StateError."""
        path = self.file(number)
        text = naming.hosts([*own, *extra]).decode() + f"{MARK}\n"
        text += "".join(f"{row}\n" for row in others)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            discard(path)  # of who had the lease before
            fd = os.open(path, flags, 0o644)
            try:
                os.fchmod(fd, 0o644)
                os.write(fd, text.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise said(error, path) from None
        return path

    def forget(self, number: int, addresses: Sequence[str]) -> None:
        """Take back what introduce has told. StateError."""
        discard(self.file(number))
        self._strike(addresses)

    def _strike(self, addresses: Sequence[str]) -> None:
        for path in self._files():
            _strike(path, addresses)

    def stale(self, leases: Iterable[int]) -> list[int]:
        """The numbers of files whose lease nobody has."""
        held = set(leases)
        return [
            int(name) for name in listed(self._path) if name.isdecimal() and int(name) not in held
        ]


def _change(path: str, flags: int, change: Callable[[int], object]) -> None:
    """Call `change` with the open file, if it is there. StateError."""
    try:
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            change(fd)
        finally:
            os.close(fd)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise said(error, path) from None


def _append(path: str, text: str) -> None:
    _change(path, os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, text.encode()))


def _strike(path: str, addresses: Sequence[str]) -> None:
    def strike(fd: int) -> None:
        data = os.read(fd, LARGEST)
        start = data.find(f"\n{MARK}\n".encode()) + 1
        for where in addresses:
            at = data.find(f"\n{naming.padded(where)} ".encode(), start)
            while at >= 0:
                os.pwrite(fd, b"#", at + 1)
                at = data.find(f"\n{naming.padded(where)} ".encode(), at + 1)

    _change(path, os.O_RDWR, strike)
