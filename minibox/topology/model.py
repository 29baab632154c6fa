# SPDX-License-Identifier: Apache-2.0
"""What a topology is: from a TOML file, or the same as a dict, to records that make sense.

    rootfs = "./rootfs"              # of all nodes; a path beside the file

    [networks.left]
    subnet = "10.1.0.0/24"           # else one is chosen
    latency = "20ms"                 # of everybody's link to it; loss, rate
    outside = true                   # it leads out through the host; also ipv6, mtu

    [routers.r]
    networks = ["left", "right"]

    [containers.a]
    command = ["httpd", "-f"]   # else it sleeps; also any option of minibox run
    networks.left = { ip = "10.1.0.9", rate = "1mbit" }

Pure, but for reading the file.
"""

from __future__ import annotations

import os
import sys

from minibox import request
from minibox.errors import SpecError
from minibox.network.attachment import LINK, WORDS
from minibox.spec import Record
from minibox.store import is_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from minibox.request import Options

FLAGS = frozenset(("overlay", "read_only", "init", "time"))
LISTS = frozenset(
    (
        *("volumes", "tmpfs", "publish", "dns", "add_host", "network_alias", "route", "sysctl"),
        *("env", "env_file", "cap_add", "cap_drop"),
    )
)
# What a topology says itself.
TAKEN = frozenset(("net", "ip", *LINK, "share", "join", "hostname"))
SLEEP = ("sleep", "1000000000")
LARGEST = 1 << 20
FORWARDS = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")


class Net(Record):
    """name: in the topology. subnet: empty where one is to be chosen. outside: does it lead out
    through the host? link: words of --net for everybody's interface there."""

    name: str
    subnet: str = ""
    outside: bool = False
    ipv6: bool = False
    mtu: int = 0
    link: tuple[tuple[str, str], ...] = ()


class Link(Record):
    """A node's interface. words: of --net, "ip" among them."""

    network: str
    words: tuple[tuple[str, str], ...] = ()

    @property
    def ip(self) -> str:
        return dict(self.words).get("ip", "")


class Node(Record):
    """A container. forwards: is it a router?"""

    name: str
    forwards: bool
    links: tuple[Link, ...]
    rootfs: str
    command: tuple[str, ...]
    options: Options

    def link(self, network: str) -> Link | None:
        return next((link for link in self.links if link.network == network), None)


class Model(Record):
    """given: what it was made from, as plain data."""

    name: str
    networks: tuple[Net, ...]
    nodes: tuple[Node, ...]
    given: dict[str, Any]

    def network(self, name: str) -> Net:
        return next(one for one in self.networks if one.name == name)


def load(path: str) -> Model:
    """A file's. SpecError."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with open(path, "rb") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise ValueError("it is larger than 1 MiB")
        data = tomllib.loads(text.decode())
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SpecError(path, reason or "it cannot be read") from None
    name = os.path.basename(path).removesuffix(".toml")
    return parse({"name": name, **data}, os.path.dirname(path) or ".")


def parse(data: Mapping[str, Any], directory: str = ".") -> Model:
    """directory: against which paths count. SpecError."""
    top = _Table("", "topology", data, ("name", "rootfs", "networks", "routers", "containers"))
    name = top.text("name")
    if not is_name(name):
        raise SpecError("name", f"{name!r}: letters, digits and _ . - after a letter or digit")
    networks = tuple(_net(one) for one in top.tables("networks"))
    if not networks:
        raise SpecError("networks", "there is none")
    known = [net.name for net in networks]
    rootfs = _absolute(top.text("rootfs"), directory)
    nodes: list[Node] = []
    given: dict[str, Any] = {**top.data, "rootfs": rootfs, "routers": {}, "containers": {}}
    for kind in ("routers", "containers"):
        for one in top.tables(kind):
            node = _node(one, kind == "routers", known, rootfs, directory)
            if any(node.name == other.name for other in nodes):
                raise SpecError(one.where, "there is a router of that name, too")
            nodes.append(node)
            given[kind][node.name] = {**one.data, "rootfs": node.rootfs, **_paths(node)}
    if not nodes:
        raise SpecError("containers", "there is none")
    has_six = any(net.ipv6 or ":" in net.subnet for net in networks)
    for node in nodes:
        # A new namespace has what the host has (ip-sysctl, devconf_inherit_init_net).
        forwarding = [f"{word}={int(node.forwards)}" for word in FORWARDS[: 1 + has_six]]
        node.options["sysctl"] = [*forwarding, *(node.options.get("sysctl") or ())]
    return Model(name, networks, tuple(nodes), given)


def _paths(node: Node) -> dict[str, Any]:
    """Its options that hold paths, which mean the same from anywhere."""
    words = ("volumes", "env_file")
    return {word: node.options[word] for word in words if word in node.options}  # type: ignore[literal-required]


class _Table:
    """A table of the file, and what it is called there; a word that is not known is a mistake."""

    def __init__(
        self, where: str, name: str, data: Any, words: tuple[str, ...] | frozenset[str]
    ) -> None:
        self.where = where
        self.name = name
        if not hasattr(data, "items"):
            raise SpecError(where or name, "a table is needed")
        self.data: dict[str, Any] = {str(word): value for word, value in data.items()}
        for word in self.data:
            if words and word not in words:
                raise SpecError(self.at(word), f"none of {', '.join(sorted(words))}")

    def at(self, word: str) -> str:
        return f"{self.where}.{word}" if self.where else word

    def text(self, word: str) -> str:
        """It is shown, too."""
        value = self.data.get(word, "")
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if not isinstance(value, str) or not value.isprintable():
            raise SpecError(self.at(word), "a string that can be printed is needed")
        return value

    def flag(self, word: str) -> bool:
        value = self.data.get(word, False)
        if not isinstance(value, bool):
            raise SpecError(self.at(word), "true or false is needed")
        return value

    def texts(self, word: str) -> tuple[str, ...]:
        value = self.data.get(word, ())
        if word == "env" and hasattr(value, "items"):
            value = [f"{name}={text}" for name, text in value.items()]
        if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
            raise SpecError(self.at(word), "a list of strings is needed")
        return tuple(value)

    def tables(self, word: str) -> list[_Table]:
        """The tables in a table."""
        names = _Table(self.at(word), word, self.data.get(word, {}), ())
        for name in names.data:
            if not is_name(name):
                raise SpecError(names.at(name), "it cannot be the name of a container")
        return [_Table(names.at(name), name, value, ()) for name, value in names.data.items()]


def _net(table: _Table) -> Net:
    words = ("subnet", "outside", "ipv6", "mtu", *LINK)
    known = _Table(table.where, table.name, table.data, words)
    mtu = known.data.get("mtu", 0)
    if not isinstance(mtu, int) or isinstance(mtu, bool):
        raise SpecError(known.at("mtu"), "a number is needed")
    link = tuple((word, known.text(word)) for word in LINK if word in known.data)
    return Net(
        known.name, known.text("subnet"), known.flag("outside"), known.flag("ipv6"), mtu, link
    )


def _node(table: _Table, forwards: bool, networks: list[str], rootfs: str, directory: str) -> Node:
    own = ("rootfs", "command", "networks")
    words = (request.OPTIONS - TAKEN).union(own)
    known = _Table(table.where, table.name, table.data, words)
    options: dict[str, Any] = {}
    for word in known.data:
        if word in own:
            continue
        read = known.flag if word in FLAGS else known.texts if word in LISTS else known.text
        value = read(word)
        options[word] = list(value) if isinstance(value, tuple) else value
    for word in ("volumes", "env_file"):
        if word in options:
            options[word] = [_absolute(text, directory) for text in options[word]]
    tree = _absolute(known.text("rootfs"), directory) or rootfs
    if not tree:
        raise SpecError(known.at("rootfs"), "it is missing")
    return Node(
        known.name,
        forwards,
        _links(known, networks),
        tree,
        known.texts("command") or SLEEP,
        options,  # type: ignore[arg-type]
    )


def _links(table: _Table, networks: list[str]) -> tuple[Link, ...]:
    given = table.data.get("networks", ())
    where = table.at("networks")
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise SpecError(where, "a list, or a table by network, is needed")
    if not hasattr(given, "items"):
        given = {name: {} for name in table.texts("networks")}
    found = []
    for name, words in given.items():
        if name not in networks:
            raise SpecError(where, f"{name!r} is none of {', '.join(networks)}")
        one = _Table(f"{where}.{name}", name, words, WORDS)
        found.append(Link(name, tuple((word, one.text(word)) for word in one.data)))
    if not found:
        raise SpecError(where, "it is on no network")
    return tuple(found)


def _absolute(path: str, directory: str) -> str:
    return path and os.path.join(os.path.abspath(directory), path)
