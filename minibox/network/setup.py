# SPDX-License-Identifier: Apache-2.0
"""What is done once a network, or seldom: bridges, routes, sysctls, rules. pyroute2 does it, in a
thread of its own: it has an event loop, and the caller may be in the middle of another.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from errno import EEXIST, EIO

from pyroute2 import IPRoute, NetlinkError

from minibox.errors import SetupError
from minibox.netlink import AF_INET6
from minibox.network import firewall
from minibox.network.bridge import FORWARDING, forwards
from minibox.network.subnet import FAMILIES, Subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, TypeVar

    from minibox.network.config import Network

    P = ParamSpec("P")
    T = TypeVar("T")


def _apart(work: Callable[P, T]) -> Callable[P, T]:
    """The same, done in a thread of its own."""

    @functools.wraps(work)
    def call(*args: P.args, **how: P.kwargs) -> T:
        with ThreadPoolExecutor(1, "minibox-network") as pool:
            return pool.submit(work, *args, **how).result()

    return call


@_apart
def routes() -> list[Subnet]:
    """Where this host knows the way to, default routes excepted. SetupError."""
    found = []
    try:
        with IPRoute() as rtnetlink:
            for family in FAMILIES:
                for route in rtnetlink.get_routes(family=family):
                    to, length = route.get_attr("RTA_DST"), route["dst_len"]
                    if to and length:
                        found.append(Subnet.parse("route", f"{to}/{length}"))
    except (NetlinkError, OSError) as error:
        raise _failed(error, "read the routes") from None
    return found


@_apart
def make(network: Network, say: Callable[[str], object]) -> None:
    """The bridge with its addresses, the rules, and what the host must forward; as far as it is
    not there. The bridge comes up last: one that is up is whole. SetupError."""
    name = network.interface
    what = f"make the bridge {name}"
    try:
        with IPRoute() as rtnetlink:
            try:
                rtnetlink.link("add", ifname=name, kind="bridge", group=firewall.GROUP)
            except NetlinkError as error:
                if error.code != EEXIST:
                    raise
            index = rtnetlink.link_lookup(ifname=name)[0]
            # Of its own: otherwise it would change with whoever is plugged in.
            rtnetlink.link("set", index=index, mtu=network.mtu, address=_mac(network))
            for subnet, gateway in zip(network.subnets, network.gateways, strict=True):
                _address(rtnetlink, index, gateway, subnet)
            if not network.internal:
                for subnet in network.subnets:
                    forward(subnet.family, say)
            with firewall.Rules() as rules:
                rules.make(network)
            what = f"set up the bridge {name}"
            sysctl(f"net/ipv4/conf/{name}/route_localnet", "1")
            rtnetlink.link("set", index=index, state="up")
    except (NetlinkError, OSError, IndexError) as error:
        raise _failed(error, what) from None


def _address(rtnetlink: IPRoute, index: int, gateway: str, subnet: Subnet) -> None:
    flags = {"flags": 0x02} if subnet.family == AF_INET6 else {}  # IFA_F_NODAD
    try:
        rtnetlink.addr("add", index=index, address=gateway, prefixlen=subnet.length, **flags)
    except NetlinkError as error:
        if error.code != EEXIST:
            raise


def forward(family: int, say: Callable[[str], object]) -> None:
    """Let the host pass packets on, and say so. OSError."""
    if forwards(family):
        return
    name = FORWARDING[family]
    sysctl(name, "1")
    say(f"{name.replace('/', '.')} was 0 and is 1 now: containers reach out through this host")


def sysctl(name: str, value: str) -> None:
    """Set one of the host's. OSError."""
    with open(f"/proc/sys/{name}", "w", encoding="ascii") as file:
        file.write(value)


@_apart
def unmake(network: Network) -> None:
    """The rules go, and the bridge with everything that is plugged into it. SetupError."""
    with firewall.Rules() as rules:
        rules.remove(network)
    try:
        with IPRoute() as rtnetlink:
            for index in rtnetlink.link_lookup(ifname=network.interface):
                rtnetlink.link("del", index=index)
    except (NetlinkError, OSError) as error:
        raise _failed(error, f"remove {network.interface}") from None


def _failed(error: Exception, what: str) -> SetupError:
    if isinstance(error, SetupError):
        return error
    number = error.code if isinstance(error, NetlinkError) else getattr(error, "errno", None)
    return SetupError(number or EIO, what, hint=firewall.WITHOUT)


def _mac(network: Network) -> str:
    subnet = network.subnets[0]
    return subnet.mac(subnet.number(network.gateways[0])).hex(":")
