# SPDX-License-Identifier: Apache-2.0
"""What is to be undone when a container has ended, or when whoever had something is gone."""

from __future__ import annotations

from minibox.directory import is_there
from minibox.errors import StateError
from minibox.network import user
from minibox.network.config import DEFAULT, Network, Networks
from minibox.network.leases import Leases
from minibox.network.neighbours import Neighbours
from minibox.network.published import Published
from minibox.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minibox.directory import Data


def withdraw(root: str, id_: str, run: Data) -> None:
    """What a container that has ended has left to be done: its ports and its names. run: its
    run.json. StateError, SetupError."""
    networks = Networks(root)
    if is_there(f"{root}/ports"):
        Published(networks).release(id_)
    for one in run.get("networks") or ():
        network = networks.find(one["name"]) if one["name"] != DEFAULT else None
        addresses = [text.partition("/")[0] for text in one["addresses"]]
        if network and addresses:
            number = network.subnets[0].number(addresses[0])
            neighbours = Neighbours(networks.path(network.name), network.subnets)
            with networks.lock(network.name):
                holders = dict(Leases(networks, network).all())
                if holders.get(number, id_) == id_:  # else somebody has it already
                    neighbours.forget(number, addresses)


def sweep(root: str) -> Iterator[str]:
    """Take back what nobody holds any more; says what. StateError, SetupError."""
    networks = Networks(root)
    yield from user.sweep(root)
    yield from Published(networks).sweep()
    for name in networks.names():
        try:
            network = networks.find(name)
            sweeping = _sweep(networks, network) if network else _sweep_half_made(networks, name)
            yield from sweeping
        except StateError as error:
            yield f"left alone: {error}"


def _sweep(networks: Networks, network: Network) -> Iterator[str]:
    """Leases, and the names of who had them."""
    leases, path = Leases(networks, network), networks.path(network.name)
    for number in leases.sweep():
        yield f"{path}/leases/{number}"
    neighbours = Neighbours(path, network.subnets)
    with networks.lock(network.name):
        for number in neighbours.stale(number for number, _ in leases.all()):
            neighbours.forget(number, [one.address(number) for one in network.subnets])
            yield neighbours.file(number)


def _sweep_half_made(networks: Networks, name: str) -> Iterator[str]:
    """Who makes a network holds the lock of the store until its file is there."""
    with Store(networks.root).lock():
        if networks.find(name) is None and networks.is_there(name):
            networks.forget(name)
            yield networks.path(name)
