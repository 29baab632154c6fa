# SPDX-License-Identifier: Apache-2.0
"""The host's side of a network: made by whoever first needs it, and again by whoever finds it
missing. That is setup.py's work; a start that finds everything there does not import it.
"""

from __future__ import annotations

import os
from errno import ENODEV

from minibox.errors import SetupError
from minibox.netlink import AF_INET, AF_INET6
from minibox.network.config import DEFAULT, Network, Networks, no_such

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minibox.resources.links import Link, Links

FORWARDING = {AF_INET: "net/ipv4/ip_forward", AF_INET6: "net/ipv6/conf/all/forwarding"}


def ensure(
    networks: Networks, name: str, links: Links, say: Callable[[str], object]
) -> tuple[Network, Link]:
    """The network and its bridge, or its parent interface; what is missing is made. say: gets a
    line about what of the host's has been changed. SetupError, StateError."""
    network = networks.find(name)
    if network is None:
        if name != DEFAULT:
            raise no_such(name)
        from minibox.network import manage

        network = manage.create_default(networks)
    link = links.find(network.interface.encode())
    if network.driver == "bridge" and not (link and link.is_up and _is_ready(network)):
        from minibox.network import setup

        with networks.lock(name):
            setup.make(network, say)
        link = links.find(network.interface.encode())
    if link is None:
        raise SetupError(ENODEV, f"network {name}: the interface {network.interface}")
    return network, link


def _is_ready(network: Network) -> bool:
    """Does the host forward what the network needs?"""
    return network.internal or all(forwards(one.family) for one in network.subnets)


def forwards(family: int) -> bool:
    try:
        fd = os.open(f"/proc/sys/{FORWARDING[family]}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.read(fd, 1) > b"0"
    finally:
        os.close(fd)
