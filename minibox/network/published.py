# SPDX-License-Identifier: Apache-2.0
"""Published ports: a link for each in ROOT/ports, so that no two containers have the same, and an
element of the network's nftables map, which is what leads there. The link comes first and goes
last: it says what to take out of the map when its holder was killed.

ROOT/ports/tcp-8080            a link whose text is: the holder, its network, the port inside, and
ROOT/ports/tcp-8080-127.0.0.1  its addresses
"""

from __future__ import annotations

import os
from errno import EEXIST

from minibox.directory import discard, listed, lock_in
from minibox.errors import SetupError, StateError
from minibox.network.leases import is_held
from minibox.network.ports import Port
from minibox.store import read_link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from minibox.network.config import Network, Networks


class Published:
    """The published ports of a state directory."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._path = f"{networks.root}/ports"

    def take(
        self, wanted: Iterable[Port], holder: str, network: Network, addresses: tuple[str, ...]
    ) -> None:
        """All of these, or none. StateError when somebody has one; SetupError."""
        from minibox.network import firewall

        with lock_in(self._path):
            for port in wanted:
                self._check_free(port, holder)
            for port in wanted:
                text = f"{holder} {network.name} {port.port} {' '.join(addresses)}"
                os.symlink(text, f"{self._path}/{_name(port)}")
            elements = [one for port in wanted for one in _elements(port, addresses)]
            try:
                with firewall.Rules() as rules:
                    rules.make(network)
                    rules.publish(network, elements)
            except SetupError as error:
                self._release(wanted, holder)
                if error.errno == EEXIST:
                    raise StateError(
                        "a port is published by rules that are not minibox's"
                    ) from None
                raise

    def _check_free(self, port: Port, ours: str) -> None:
        for name in self._names():
            other = _parse(name)
            if other is None or not port.meets(other):
                continue
            holder = read_link(f"{self._path}/{name}").partition(" ")[0]
            if holder and holder != ours and is_held(self._networks.root, holder):
                whose = f"container {holder[:12]}" if ":" not in holder else "another container"
                what = f"{port.host_port}/{port.protocol}"
                raise StateError(f"port {what} of the host is in use by {whose}")
            self._withdraw(name)

    def _names(self) -> list[str]:
        return [name for name in listed(self._path) if name != "lock"]

    def release(self, holder: str) -> None:
        """All that are the holder's. StateError, SetupError."""
        if wanted := self.of(holder):
            with lock_in(self._path):
                self._release(wanted, holder)

    def _release(self, wanted: Iterable[Port], holder: str) -> None:
        for port in wanted:
            name = _name(port)
            if read_link(f"{self._path}/{name}").partition(" ")[0] == holder:
                self._withdraw(name)

    def _withdraw(self, name: str) -> None:
        """The element goes, then the link."""
        from minibox.network import firewall

        path = f"{self._path}/{name}"
        words, port = read_link(path).split(" "), _parse(name)
        network = self._networks.find(words[1]) if len(words) > 3 else None
        if port and network and words[2].isdecimal():
            whole = port.replace(port=int(words[2]))
            with firewall.Rules() as rules:
                if rules.is_there(network.interface):
                    rules.withdraw(network, _elements(whole, tuple(words[3:])))
        discard(path)

    def of(self, holder: str) -> list[Port]:
        """What a container has."""
        found = []
        for name in self._names():
            words, port = read_link(f"{self._path}/{name}").split(" "), _parse(name)
            if port and words[0] == holder and len(words) > 2 and words[2].isdecimal():
                found.append(port.replace(port=int(words[2])))
        return found

    def sweep(self) -> Iterator[str]:
        """Withdraw those whose holders are gone. StateError, SetupError."""
        if not self._names():
            return
        with lock_in(self._path):
            for name in self._names():
                holder = read_link(f"{self._path}/{name}").partition(" ")[0]
                if not is_held(self._networks.root, holder):
                    self._withdraw(name)
                    yield f"{self._path}/{name}"


def _name(port: Port) -> str:
    return f"{port.protocol}-{port.host_port}" + (f"-{port.host}" if port.host else "")


def _parse(name: str) -> Port | None:
    protocol, _, rest = name.partition("-")
    number, _, host = rest.partition("-")
    return Port(host or None, int(number), 0, protocol) if number.isdecimal() else None


def _elements(port: Port, addresses: tuple[str, ...]) -> list[tuple[str, bytes, bytes]]:
    from minibox.network import firewall

    return [
        firewall.element(port.host, port.host_port, where, port.port, port.protocol)
        for where in addresses
        if port.suits(where)
    ]
