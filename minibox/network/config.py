# SPDX-License-Identifier: Apache-2.0
"""What a network is, and where that is kept: ROOT/networks/NAME/, beside the containers.

network     these words, a line each; read at every start, so it is no JSON
leases/N    a link for each address in use, whose text is its holder (leases.py)
last        a link whose text is the number that was leased last
lock        held while one of these changes
"""

from __future__ import annotations

import os
import time

from minibox.directory import Lock, is_there, listed, put, said, slurp
from minibox.errors import SpecError, StateError, one_line
from minibox.network.subnet import Subnet
from minibox.spec import Record
from minibox.store import default_root, is_name, remove_tree

DEFAULT = "bridge"
DRIVERS = ("bridge", "macvlan", "ipvlan")
FIRST_SUBNET = "10.66.0.0/16"
FIRST_BRIDGE = "minibox0"
MTU = 1500


class Network(Record):
    """name: as it is asked for. driver: one of DRIVERS. interface: the bridge of the host's, or the
    parent of macvlan and ipvlan. subnets, gateways: of IPv4 and then of IPv6, as far as there are
    some. mtu: bytes. internal: nothing outside can be reached. created: ns since the epoch.
    topology: the name of the one that it belongs to, or empty."""

    name: str
    driver: str
    interface: str
    subnets: tuple[Subnet, ...]
    gateways: tuple[str, ...]
    mtu: int
    internal: bool
    created: int
    topology: str = ""


def no_such(name: str) -> StateError:
    hint = f"\n  hint: minibox network create {name}" if is_name(name) else ""
    return StateError(one_line(f"{name}: no such network") + hint)


class Networks:
    """The networks of a state directory."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._top = f"{root}/networks"

    def path(self, name: str) -> str:
        return f"{self._top}/{name}"

    def lock(self, name: str) -> Lock:
        return Lock(f"{self.path(name)}/lock", f"network {name}", no_such(name))

    def names(self) -> list[str]:
        """StateError."""
        return [name for name in listed(self._top) if is_name(name)]

    def find(self, name: str) -> Network | None:
        """StateError when its file cannot be used."""
        if not is_name(name):
            return None
        path = f"{self.path(name)}/network"
        try:
            text = slurp(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise said(error, path) from None
        try:
            return _parse(name, text.decode())
        except (ValueError, KeyError, SpecError):
            hint = f"\n  hint: minibox network rm {name} removes it"
            raise StateError(f"network {name}: {path} cannot be used{hint}") from None

    def get(self, name: str) -> Network:
        """The same; StateError when there is none."""
        found = self.find(name)
        if found is None:
            raise no_such(name)
        return found

    def default(self, subnet: Subnet) -> Network:
        """What the network that nobody has made is like, on this subnet."""
        return Network(
            name=DEFAULT,
            driver="bridge",
            interface=self.bridge_name(DEFAULT),
            subnets=(subnet,),
            gateways=(subnet.address(1),),
            mtu=MTU,
            internal=False,
            created=time.time_ns(),
        )

    def write(self, network: Network) -> None:
        """A new one. StateError; the caller holds the lock of the store."""
        path = self.path(network.name)
        try:
            os.makedirs(f"{path}/leases", 0o700, exist_ok=True)
            os.makedirs(f"{path}/hosts", 0o700, exist_ok=True)
        except OSError as error:
            raise said(error, path) from None
        put(f"{path}/network", _text(network).encode())

    def forget(self, name: str) -> None:
        """Its directory goes. StateError."""
        hidden = f"{self._top}/.{name}"
        remove_tree(hidden)
        try:
            os.rename(self.path(name), hidden)
        except FileNotFoundError:
            return
        except OSError as error:
            raise said(error, self.path(name)) from None
        remove_tree(hidden)

    def bridge_name(self, name: str) -> str:
        """Of the host's interface: each state directory has its own."""
        if name == DEFAULT and self.root == default_root():
            return FIRST_BRIDGE
        from binascii import crc32

        return f"mb{crc32(f'{self.root} {name}'.encode()):08x}"

    def is_there(self, name: str) -> bool:
        return is_there(self.path(name))


def _text(network: Network) -> str:
    rows = {
        "driver": network.driver,
        "interface": network.interface,
        "subnets": " ".join(map(str, network.subnets)),
        "gateways": " ".join(network.gateways),
        "mtu": str(network.mtu),
        "internal": "yes" if network.internal else "no",
        "created": str(network.created),
        "topology": network.topology,
    }
    return "".join(f"{key} {value}\n" for key, value in rows.items())


def _parse(name: str, text: str) -> Network:
    """ValueError, KeyError."""
    rows = dict((line + " ").split(" ", 1) for line in text.splitlines())
    found = {key: value.strip() for key, value in rows.items()}
    network = Network(
        name=name,
        driver=found["driver"],
        interface=found["interface"],
        subnets=tuple(Subnet.parse("network", one) for one in found["subnets"].split()),
        gateways=tuple(found["gateways"].split()),
        mtu=int(found["mtu"]),
        internal={"yes": True, "no": False}[found["internal"]],
        created=int(found["created"]),
        topology=found.get("topology", ""),
    )
    if network.driver not in DRIVERS or not network.interface or not network.subnets:
        raise ValueError
    return network
