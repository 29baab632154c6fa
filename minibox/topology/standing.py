# SPDX-License-Identifier: Apache-2.0
"""Bringing a topology up and taking it down. Its networks and containers are ordinary ones, called
NAME-left and NAME-a, so every other verb works on them.

ROOT/topologies/NAME.json    what it is; written before the first network, and again when all runs,
                             so that what a killed command has left is known by who comes next
ROOT/topologies/lock         held while one goes up or down
"""

from __future__ import annotations

import json
import os

from minibox import life, shapes
from minibox.directory import discard, is_there, listed, lock_in, put, said, slurp
from minibox.errors import MiniboxError, NoSuchContainer, StateError
from minibox.network import manage
from minibox.network.config import MTU, Networks
from minibox.network.leases import Leases
from minibox.resident import Resident
from minibox.store import Store, default_root
from minibox.topology import model, picture, routes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from typing_extensions import Self

    from minibox.network.config import Network
    from minibox.runtime import Result
    from minibox.topology.model import Model, Node

LABEL = "minibox.topology"


class Topology:
    """Networks, routers and containers as one; a context manager that brings them up and down.

    data: what a file says (topology/model.py), with a name. directory: against which its paths
    count. root: the state directory. SpecError.
    """

    def __init__(
        self, data: Mapping[str, Any], *, directory: str = ".", root: str | None = None
    ) -> None:
        self._set(model.parse(data, directory), root)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, root: str | None = None) -> Self:
        """A file's, which is its name where it says none. SpecError."""
        self = cls.__new__(cls)
        self._set(model.load(os.fspath(path)), root)
        return self

    @classmethod
    def find(cls, name: str, *, root: str | None = None) -> Self:
        """One that has been brought up. StateError."""
        record = _read(root or default_root(), name)
        if record is None:
            raise StateError(f"{name}: no such topology is up")
        return cls(record["given"], root=root)

    def _set(self, model_: Model, root: str | None) -> None:
        self.model = model_
        self._store = Store(root or default_root())
        self._networks = Networks(self._store.root)

    @property
    def name(self) -> str:
        return self.model.name

    def called(self, part: str) -> str:
        """The name of one of its networks or containers, for all other verbs."""
        return f"{self.name}-{part}"

    # Up and down.

    def up(self, say: Callable[[str], object] = str) -> None:
        """Make and start all of it; what there is of it is taken down when that fails. say: gets a
        line about what of the host's was changed. MiniboxError."""
        with lock_in(f"{self._store.root}/topologies"):
            record = _read(self._store.root, self.name)
            if record and record["is_up"]:
                raise StateError(f"topology {self.name} is up already")
            self._was(record)._clear()
            self._write({"is_up": False})
            try:
                self._build(say)
            except BaseException:
                try:
                    self._clear()
                except MiniboxError:
                    pass  # it is written down what there is, and why up has failed is to be said
                raise

    def _build(self, say: Callable[[str], object]) -> None:
        made = {net.name: self._make(net) for net in self.model.networks}
        numbers = self._numbers(made)
        for node in self.model.nodes:
            options = self._options(node, made, numbers)
            wanted: Any = {"name": self.called(node.name), "labels": [f"{LABEL}={self.name}"]}
            container = life.create(self._store, node.command, node.rootfs, options, wanted)
            life.start(container, say=say)
        self._write(
            {
                "is_up": True,
                "subnets": {name: str(one.subnets[0]) for name, one in made.items()},
                "addresses": [
                    [node, net, made[net].subnets[0].address(number)]
                    for (node, net), number in numbers.items()
                ],
            }
        )

    def _make(self, net: model.Net) -> Network:
        return manage.create(
            self._networks,
            self.called(net.name),
            subnets=[net.subnet] if net.subnet else (),
            ipv6=net.ipv6,
            internal=not net.outside,
            mtu=net.mtu or MTU,
            topology=self.name,
        )

    def _numbers(self, made: Mapping[str, Network]) -> dict[tuple[str, str], int]:
        """Which address each node has on each of its networks, by node and network. StateError."""
        found: dict[tuple[str, str], int] = {}
        for name, network in made.items():
            leases = Leases(self._networks, network)
            ends = [(node.name, node.link(name)) for node in self.model.nodes]
            given = {node: link.ip for node, link in ends if link and link.ip}
            fixed = {node: leases.number(where) for node, where in given.items()}
            if len(set(fixed.values())) < len(fixed):
                raise StateError(f"networks.{name}: two nodes have the same ip")
            free = leases.free(set(fixed.values()))
            for node, link in ends:
                if link:
                    found[node, name] = fixed[node] if node in fixed else next(free)
        return found

    def _options(
        self, node: Node, made: Mapping[str, Network], numbers: Mapping[tuple[str, str], int]
    ) -> Any:
        """What minibox run would be asked for."""
        # The first one leads to everywhere else, if it leads outside.
        links = sorted(node.links, key=lambda link: not self.model.network(link.network).outside)
        net = []
        for link in links:
            first = made[link.network].subnets[0]
            words = {**dict(self.model.network(link.network).link), **dict(link.words)}
            words["ip"] = first.address(numbers[node.name, link.network])
            pairs = ",".join(f"{word}={value}" for word, value in words.items())
            net.append(f"{self.called(link.network)}:{pairs}")
        ways = []
        far = routes.ways(self.model, node)
        for network, (router, here) in far.items():
            for to in made[network].subnets:
                by = next((one for one in made[here].subnets if one.family == to.family), None)
                if by:
                    ways.append(f"{to}={by.address(numbers[router, here])}")
        # Who is on one network with it, it finds there.
        hosts = [
            f"{other.name}:{subnet.address(numbers[other.name, link.network])}"
            for other in self.model.nodes
            if not any(node.link(link.network) for link in other.links)
            for link in other.links
            if link.network in far
            for subnet in made[link.network].subnets
        ]
        given: dict[str, Any] = {**node.options, "net": net, "hostname": node.name}
        given["route"] = [*ways, *given.get("route", ())]
        given["add_host"] = [*hosts, *given.get("add_host", ())]
        return given

    def down(self) -> None:
        """Nothing of it is left when this returns; that there was nothing is well. MiniboxError."""
        with lock_in(f"{self._store.root}/topologies"):
            record = _read(self._store.root, self.name)
            if record:
                put(_path(self._store.root, self.name), _text({**record, "is_up": False}))
            self._was(record)._clear()

    def _was(self, record: dict[str, Any] | None) -> Topology:
        """As it was brought up, which may not be what its file says now."""
        return Topology(record["given"], root=self._store.root) if record else self

    def _clear(self) -> None:
        """Take away what there is."""
        for node in self.model.nodes:
            try:
                container = Resident.find(self._store, self.called(node.name))
                if container.config["labels"].get(LABEL) == self.name:
                    life.remove(container, force=True)
            except NoSuchContainer:
                pass
        for net in self.model.networks:
            found = self._networks.find(self.called(net.name))
            if found and found.topology == self.name:
                manage.remove(self._networks, self.called(net.name))
        discard(_path(self._store.root, self.name))

    def _write(self, state: dict[str, Any]) -> None:
        put(_path(self._store.root, self.name), _text({"given": self.model.given, **state}))

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    # What it is like.

    def subnets(self) -> dict[str, str]:
        """By network, when it is up."""
        found: dict[str, str] = self._state().get("subnets", {})
        return found

    def addresses(self) -> dict[tuple[str, str], str]:
        """By node and network, when it is up."""
        return {(node, net): where for node, net, where in self._state().get("addresses", ())}

    def _state(self) -> dict[str, Any]:
        return _read(self._store.root, self.name) or {}

    def text(self) -> str:
        """Its picture, for a terminal."""
        return picture.text(self.model, self.subnets(), self.addresses())

    def svg(self) -> str:
        """Its picture, as a file for a browser."""
        return picture.svg(self.model, self.subnets(), self.addresses())

    def container(self, node: str) -> Resident:
        """StateError."""
        return Resident.find(self._store, self.called(node))

    def run(self, node: str, args: Iterable[str], **how: Any) -> Result:
        """A command in one of its containers, as guests.run_inside does it."""
        from minibox import guests

        return guests.run_inside(self.container(node), args, **how)


def names(root: str) -> list[str]:
    """Of all that are up, or half up. StateError."""
    found = listed(f"{root}/topologies")
    whole = [name for name in found if name.endswith(".json") and not name.startswith(".")]
    return [name.removesuffix(".json") for name in whole]


def sweep(root: str) -> Iterator[str]:
    """Take down what a killed command has left half up; says which. MiniboxError."""
    if not is_there(f"{root}/topologies"):
        return
    with lock_in(f"{root}/topologies"):
        for name in listed(f"{root}/topologies"):
            if name.startswith("."):  # a record that was not written to its end
                discard(f"{root}/topologies/{name}")
        for name in names(root):
            record = _read(root, name)
            if record and not record["is_up"]:
                Topology(record["given"], root=root)._clear()
                yield f"topology {name}"


def _path(root: str, name: str) -> str:
    return f"{root}/topologies/{name}.json"


def _text(record: dict[str, Any]) -> bytes:
    return json.dumps({"version": 1, **record}, indent=1).encode() + b"\n"


def _read(root: str, name: str) -> dict[str, Any] | None:
    """StateError."""
    path = _path(root, name)
    if not is_there(path):
        return None
    try:
        found = json.loads(slurp(path))
        if not shapes.fits(found, shapes.TOPOLOGY):
            raise ValueError
        model.parse(found["given"])
    except (ValueError, RecursionError, MiniboxError):
        hint = f"\n  hint: remove it, and the containers and networks called {name}-…"
        raise StateError(f"topology {name}: {path} cannot be used{hint}") from None
    except OSError as error:
        raise said(error, path) from None
    return dict(found)
