# SPDX-License-Identifier: Apache-2.0
"""Networks that somebody makes: create, show, remove."""

from __future__ import annotations

import time

from minibox.errors import SpecError, StateError
from minibox.netlink import AF_INET, AF_INET6
from minibox.network import setup
from minibox.network.config import DEFAULT, DRIVERS, MTU, Network, Networks, no_such
from minibox.network.leases import Leases, is_held
from minibox.network.modes import ALONE, OF_ANOTHER
from minibox.network.subnet import FAMILIES, Subnet
from minibox.store import Store, is_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# Where a network without a subnet is looked for: the default one's size, then the others'.
FIRST = tuple(f"10.{number}.0.0/16" for number in range(66, 128))
SMALL = tuple(f"10.{first}.{second}.0/24" for first in range(67, 128) for second in range(256))
SIX = tuple(f"fd66:6d69:6e69:{number:x}::/64" for number in range(1, 4096))
LEAST_MTU, MOST_MTU = 68, 65535


def create(
    networks: Networks,
    name: str,
    *,
    subnets: Sequence[str] = (),
    gateways: Sequence[str] = (),
    ipv6: bool = False,
    internal: bool = False,
    mtu: int = MTU,
    driver: str = "bridge",
    parent: str = "",
    topology: str = "",
) -> Network:
    """A new network; its bridge is made when it is first needed. SpecError, StateError."""
    _check_name(name)
    if driver not in DRIVERS:
        raise SpecError("--driver", f"{driver!r} is none of {', '.join(DRIVERS)}")
    if (driver == "bridge") == bool(parent):
        raise SpecError("--parent", "it is the host's interface of macvlan and ipvlan")
    if not LEAST_MTU <= mtu <= MOST_MTU:
        raise SpecError("--mtu", f"{mtu}: from {LEAST_MTU} to {MOST_MTU}")
    given = [Subnet.parse("--subnet", text) for text in subnets]
    _check_ranges(given)
    store = Store(networks.root)
    store.prepare()
    with store.lock():
        if networks.is_there(name):
            raise StateError(f"there is a network {name} already")
        taken = _taken(networks)
        ranges = _chosen(given, ipv6, taken, may_overlap=driver != "bridge")
        network = Network(
            name=name,
            driver=driver,
            interface=parent or networks.bridge_name(name),
            subnets=tuple(ranges),
            gateways=tuple(_gateway(one, gateways) for one in ranges),
            mtu=mtu,
            internal=internal,
            created=time.time_ns(),
            topology=topology,
        )
        _check_gateways(network, gateways)
        networks.write(network)
    return network


def create_default(networks: Networks) -> Network:
    """The network that nobody has made."""
    store = Store(networks.root)
    store.prepare()
    with store.lock():
        found = networks.find(DEFAULT)
        if found is None:
            found = networks.default(_free(FIRST, _taken(networks)))
            networks.write(found)
    return found


def _check_name(name: str) -> None:
    if not is_name(name):
        raise SpecError("NAME", f"{name!r}: letters, digits and _ . - after a letter or digit")
    if name in (DEFAULT, *ALONE) or f"{name}:" in OF_ANOTHER:
        raise SpecError("NAME", f"{name!r} is a word of --net")


def _check_ranges(ranges: list[Subnet]) -> None:
    families = [one.family for one in ranges]
    if len(set(families)) != len(families):
        raise SpecError("--subnet", "one of IPv4 and one of IPv6 at most")
    for one in ranges:
        if one.size < 4:
            raise SpecError("--subnet", f"{one} has no room for a gateway and a container")
        if FAMILIES[one.family] - one.length > 64:
            raise SpecError("--subnet", f"{one} is too large: /64 at least")


def _taken(networks: Networks) -> list[Subnet]:
    """What the host knows a way to, and what other networks have."""
    found = setup.routes()
    for name in networks.names():
        network = networks.find(name)
        found += network.subnets if network else ()
    return found


def _chosen(
    given: list[Subnet], ipv6: bool, taken: list[Subnet], *, may_overlap: bool
) -> list[Subnet]:
    for one in given:
        other = next((other for other in taken if one.overlaps(other)), None)
        if other and not may_overlap:
            raise StateError(f"the subnet {one} overlaps {other}, which this host has a route to")
    families = [one.family for one in given]
    found = list(given)
    if not given:
        found.append(_free(SMALL, taken))
    if ipv6 and AF_INET6 not in families:
        found.append(_free(SIX, taken))
    return sorted(found, key=lambda one: one.family != AF_INET)


def _free(candidates: Iterable[str], taken: list[Subnet]) -> Subnet:
    for text in candidates:
        subnet = Subnet.parse("--subnet", text)
        if not any(subnet.overlaps(other) for other in taken):
            return subnet
    raise StateError("no subnet is free\n  hint: minibox network create --subnet")


def _gateway(subnet: Subnet, gateways: Sequence[str]) -> str:
    return next((one for one in gateways if subnet.number(one) >= 0), subnet.address(1))


def _check_gateways(network: Network, gateways: Sequence[str]) -> None:
    for gateway in gateways:
        numbers = [(one, one.number(gateway)) for one in network.subnets]
        if not any(0 < number < one.size - 1 for one, number in numbers):
            raise SpecError(
                "--gateway", f"{gateway} is no address in {', '.join(map(str, network.subnets))}"
            )


def remove(networks: Networks, name: str) -> None:
    """The network, its bridge and its rules. StateError while a container is plugged in."""
    store = Store(networks.root)
    if not networks.is_there(name):
        raise no_such(name)
    with store.lock():
        try:
            network = networks.find(name)
        except StateError:
            network = None  # it is damaged: its files are all that is known of it
        if network:
            with networks.lock(name):
                users = [holder for _, holder in members(networks, network)]
                if users:
                    raise StateError(f"network {name} is in use by {', '.join(users)}")
                if network.driver == "bridge":
                    setup.unmake(network)
        networks.forget(name)


def members(networks: Networks, network: Network) -> Iterator[tuple[str, str]]:
    """The first address of each lease that is held, and who holds it."""
    for number, holder in Leases(networks, network).all():
        if is_held(networks.root, holder):
            whose = f"process {holder.partition(':')[0]}" if ":" in holder else holder[:12]
            yield network.subnets[0].address(number), whose
