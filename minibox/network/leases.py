# SPDX-License-Identifier: Apache-2.0
"""Who has which address. A lease is a link, made in one system call or not at all; its text says
who holds it, so that whoever meets it can find out whether that one is still there.
"""

from __future__ import annotations

import os

from minibox.directory import is_there, listed, said
from minibox.errors import StateError
from minibox.resident import Resident, start_time
from minibox.store import Store, read_link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from minibox.network.config import Network, Networks

ID_LENGTH = 64


def holder_of_process() -> str:
    """Who holds the leases of a container that ends with this process."""
    pid = os.getpid()
    return f"{pid}:{start_time(pid)}"


class Leases:
    """The addresses of one network, by their number in its subnets."""

    def __init__(self, networks: Networks, network: Network) -> None:
        self._networks = networks
        self._network = network
        self._path = networks.path(network.name)
        self._size = min(one.size for one in network.subnets)
        self._taken = self._reserved()

    def _reserved(self) -> set[int]:
        """The gateway's; the first is the network's own, the last IPv4's broadcast."""
        ranges = self._network.subnets
        found = {0, self._size - 1}
        for gateway in self._network.gateways:
            found |= {one.number(gateway) for one in ranges}
        return found

    def take(self, holder: str, wanted: str | None = None) -> int:
        """A number that nobody has, the one after the last if it is free: so an address comes back
        late, when its last holder is long forgotten. wanted: this address. StateError."""
        with self._networks.lock(self._network.name):
            if wanted is not None:
                return self._exactly(holder, wanted)
            last = read_link(f"{self._path}/last")
            start = int(last) if last.isdecimal() else 0
            for step in range(1, min(self._size, 1 << 20) + 1):
                number = (start + step) % self._size
                if number not in self._taken and self._lease(number, holder):
                    self._remember(number)
                    return number
        raise StateError(f"network {self._network.name}: all addresses are in use")

    def preview(self) -> int:
        """What take would try first."""
        last = read_link(f"{self._path}/last")
        number = (int(last) if last.isdecimal() else 0) + 1
        while number % self._size in self._taken:
            number += 1
        return number % self._size

    def number(self, wanted: str) -> int:
        """Of an address. StateError for one that nobody can have."""
        number = max(one.number(wanted) for one in self._network.subnets)
        if number < 0 or number in self._taken:
            raise StateError(f"network {self._network.name}: {wanted} cannot be given to anybody")
        return number

    def free(self, but: Container[int]) -> Iterator[int]:
        """Numbers that can be given to somebody, these excepted. StateError after the last one."""
        for number in range(self._size):
            if number not in self._taken and number not in but:
                yield number
        raise StateError(f"network {self._network.name}: all addresses are in use")

    def _exactly(self, holder: str, wanted: str) -> int:
        number = self.number(wanted)
        if not self._lease(number, holder):
            raise StateError(f"network {self._network.name}: {wanted} is in use")
        return number

    def _lease(self, number: int, holder: str) -> bool:
        path = self._file(number)
        try:
            try:
                os.symlink(holder, path)
            except FileExistsError:
                other = read_link(path)
                if other != holder and is_held(self._networks.root, other):
                    return False
                os.unlink(path)
                os.symlink(holder, path)
        except OSError as error:
            raise said(error, path) from None
        return True

    def _file(self, number: int) -> str:
        return f"{self._path}/leases/{number}"

    def _remember(self, number: int) -> None:
        beside = f"{self._path}/.last"
        try:
            if is_there(beside):
                os.unlink(beside)
            os.symlink(str(number), beside)
            os.rename(beside, f"{self._path}/last")
        except OSError as error:
            raise said(error, beside) from None

    def release(self, number: int, holder: str) -> None:
        """Give it back, if it is still the holder's."""
        path = self._file(number)
        try:
            if os.readlink(path) == holder:
                os.unlink(path)
        except OSError:
            pass  # it is gone, or the next who wants it finds out

    def all(self) -> Iterator[tuple[int, str]]:
        """Number and holder. StateError."""
        for name in listed(f"{self._path}/leases"):
            if name.isdecimal():
                yield int(name), read_link(f"{self._path}/leases/{name}")

    def sweep(self) -> Iterator[int]:
        """Give back what those have left who are not there any more. StateError."""
        with self._networks.lock(self._network.name):
            for number, holder in self.all():
                if not is_held(self._networks.root, holder):
                    self.release(number, holder)
                    yield number


def is_held(root: str, holder: str) -> bool:
    """Is the container there, running, or the process? StateError when that cannot be known."""
    pid, colon, began = holder.partition(":")
    if colon:
        return pid.isdecimal() and began.isdecimal() and start_time(int(pid)) == int(began) != 0
    if len(holder) != ID_LENGTH:
        return False
    store = Store(root)
    directory = store.directory(holder)
    if not is_there(directory.path):
        return False
    resident = Resident(store, directory)
    return not resident.directory.is_at_rest()
