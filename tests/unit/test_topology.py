# SPDX-License-Identifier: Apache-2.0
"""Topologies without a container: what a file may say, who goes where by whom, the picture."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from minibox.errors import SpecError
from minibox.topology import model, picture, routes


def small(**changes):
    """A topology with two networks, a router between them and a container on each."""
    data = {
        "name": "lab",
        "rootfs": "/tree",
        "networks": {"left": {"subnet": "10.1.0.0/24"}, "right": {"subnet": "10.2.0.0/24"}},
        "routers": {"r": {"networks": ["left", "right"]}},
        "containers": {"a": {"networks": ["left"]}, "b": {"networks": ["right"]}},
    }
    data.update(changes)
    return {word: value for word, value in data.items() if value is not None}


def networks(**words):
    """The change that the network `left` has these words, too."""
    return {"networks": {"left": words, "right": {}}}


def container(**words):
    """The change that the container `a` has these words, too."""
    return {"containers": {"a": {"networks": ["left"], **words}}}


def shape(nets, routers=(), containers=()):
    """A model of networks, and of nodes that are on some of them."""
    return model.parse(
        {
            "name": "shape",
            "rootfs": "/tree",
            "networks": {name: {} for name in nets.split()},
            "routers": {name: {"networks": on.split()} for name, on in dict(routers).items()},
            "containers": {name: {"networks": on.split()} for name, on in dict(containers).items()},
        }
    )


def node(found, name):
    return next(one for one in found.nodes if one.name == name)


# What it says.


def test_the_words_of_a_file_become_records(tmp_path):
    path = tmp_path / "lab.toml"
    path.write_text(
        """
        rootfs = "./tree"
        [networks.left]
        subnet = "10.1.0.0/24"
        latency = "20ms"
        outside = true
        ipv6 = true
        mtu = 1400
        [routers.r]
        networks = ["left"]
        [containers.a]
        command = ["/bin/httpd", "-f"]
        publish = ["8080:80"]
        read_only = true
        networks.left = { ip = "10.1.0.9", rate = "1mbit" }
        """
    )
    found = model.load(str(path))
    assert found.name == "lab"
    assert found.networks == (
        model.Net("left", "10.1.0.0/24", True, True, 1400, (("latency", "20ms"),)),
    )
    a = node(found, "a")
    assert (a.forwards, a.rootfs) == (False, f"{tmp_path}/./tree")
    assert a.command == ("/bin/httpd", "-f")
    assert {word: a.options[word] for word in ("publish", "read_only")} == {
        "publish": ["8080:80"],
        "read_only": True,
    }
    assert a.links == (model.Link("left", (("ip", "10.1.0.9"), ("rate", "1mbit"))),)
    assert a.links[0].ip == "10.1.0.9"
    assert node(found, "r").command == model.SLEEP


def test_a_name_in_the_file_is_its_name(tmp_path):
    path = tmp_path / "lab.toml"
    path.write_text(
        'name = "other"\nrootfs = "/t"\n[networks.n]\n[containers.a]\nnetworks = ["n"]\n'
    )
    assert model.load(str(path)).name == "other"


def test_a_file_is_found_from_its_own_directory(tmp_path, monkeypatch):
    """Its paths count against where it is, also when that is here and says nothing."""
    (tmp_path / "lab.toml").write_text(
        'rootfs = "tree"\n[networks.n]\n[containers.a]\nnetworks = ["n"]\n'
    )
    monkeypatch.chdir(tmp_path)
    assert node(model.load("lab.toml"), "a").rootfs == f"{tmp_path}/tree"


def test_paths_count_against_the_directory():
    data = small(rootfs="tree")
    data["containers"]["b"]["rootfs"] = "../other"
    data["routers"]["r"]["rootfs"] = "/whole"
    found = model.parse(data, "/x/y")
    assert {one.name: os.path.normpath(one.rootfs) for one in found.nodes} == {
        "a": "/x/y/tree",
        "b": "/x/other",
        "r": "/whole",
    }


def test_a_root_file_system_may_be_a_path():
    assert node(model.parse(small(rootfs=Path("/tree"))), "a").rootfs == "/tree"


def test_a_node_may_bring_the_only_root_file_system():
    data = small(rootfs=None, routers=None, **container(rootfs="/own"))
    assert node(model.parse(data), "a").rootfs == "/own"


def test_networks_may_be_a_list_or_a_table():
    as_list = model.parse(small(**container(networks=["left", "right"])))
    as_table = model.parse(small(**container(networks={"left": {}, "right": {}})))
    assert as_list.nodes == as_table.nodes
    assert [link.network for link in node(as_list, "a").links] == ["left", "right"]


def test_a_router_forwards_and_a_container_does_not():
    found = model.parse(small())
    assert node(found, "r").options == {"sysctl": ["net.ipv4.ip_forward=1"]}
    assert [one.name for one in found.nodes if one.forwards] == ["r"]
    assert node(found, "a").options == {"sysctl": ["net.ipv4.ip_forward=0"]}


def test_a_router_forwards_ipv6_where_there_is_some():
    """The router's own settings come last, so that they win."""
    data = small(**networks(ipv6=True))
    data["routers"]["r"]["sysctl"] = ["net.ipv4.ip_forward=0"]
    assert node(model.parse(data), "r").options["sysctl"] == [
        "net.ipv4.ip_forward=1",
        "net.ipv6.conf.all.forwarding=1",
        "net.ipv4.ip_forward=0",
    ]


def test_a_router_forwards_ipv6_where_a_subnet_is_of_ipv6():
    data = small(networks={"left": {"subnet": "fd01::/64"}, "right": {"subnet": "fd02::/64"}})
    assert "net.ipv6.conf.all.forwarding=1" in node(model.parse(data), "r").options["sysctl"]


def test_what_was_given_stays_as_it_was():
    data = small()
    before = copy.deepcopy(data)
    model.parse(data)
    assert data == before


def test_what_it_was_made_from_makes_the_same_again():
    """From any directory: it is kept on disk and read by other commands."""
    found = model.parse(small(rootfs="tree"), "/x")
    assert model.parse(found.given, "/y").replace(given={}) == found.replace(given={})


def test_the_root_file_system_of_a_node_is_the_same_again():
    found = model.parse(small(**container(rootfs="own")), "/x")
    again = model.parse(found.given, "/y")
    assert node(again, "a").rootfs == node(found, "a").rootfs == "/x/own"


@pytest.mark.parametrize("name", ["a.b", "v1.0", "a_b", "A-1"])
def test_a_name_is_kept_whole(name):
    """A dot is not where a table's name ends."""
    found = model.parse(
        small(
            networks={name: {}}, routers={}, containers={name: {"networks": [name]}}
        )
    )  # fmt: skip
    assert (found.networks[0].name, found.nodes[0].name) == (name, name)


# What it cannot say.


@pytest.mark.parametrize(
    ("changes", "where", "why"),
    [
        # Unknown words.
        ({"network": {}}, "network", "none of containers, name, networks"),
        (networks(subnets="10.0.0.0/8"), "networks.left.subnets", "none of"),
        (container(comand=["x"]), "containers.a.comand", "none of"),
        ({"routers": {"r": {"networks": ["left"], "forward": True}}}, "routers.r.forward", "none"),
        (container(networks={"left": {"adress": "x"}}), "containers.a.networks.left.adress", "ip"),
        # What a topology says itself.
        (container(net="bridge"), "containers.a.net", "none of"),
        (container(hostname="x"), "containers.a.hostname", "none of"),
        (container(latency="1ms"), "containers.a.latency", "none of"),
        (container(share=["net"]), "containers.a.share", "none of"),
        # Wrong types.
        ({"name": 5}, "name", "a string"),
        ({"rootfs": ["x"]}, "rootfs", "a string"),
        ({"networks": ["left"]}, "networks", "a table"),
        ({"networks": {"left": "10.0.0.0/8"}}, "networks.left", "a table"),
        ({"routers": "r"}, "routers", "a table"),
        ({"containers": {"a": ["left"]}}, "containers.a", "a table"),
        (networks(subnet=10), "networks.left.subnet", "a string"),
        (networks(outside="yes"), "networks.left.outside", "true or false"),
        (networks(ipv6=1), "networks.left.ipv6", "true or false"),
        (networks(mtu="1500"), "networks.left.mtu", "a number"),
        (networks(mtu=True), "networks.left.mtu", "a number"),
        (networks(mtu=1500.0), "networks.left.mtu", "a number"),
        (networks(latency=20), "networks.left.latency", "a string"),
        (container(rootfs=7), "containers.a.rootfs", "a string"),
        (container(user=7), "containers.a.user", "a string"),
        (container(init="yes"), "containers.a.init", "true or false"),
        (container(command="/bin/true"), "containers.a.command", "a list of strings"),
        (container(command=5), "containers.a.command", "a list of strings"),
        (container(command=["/bin/sleep", 5]), "containers.a.command", "a list of strings"),
        (container(volumes="/x"), "containers.a.volumes", "a list of strings"),
        (container(volumes=True), "containers.a.volumes", "a list of strings"),
        (container(volumes={"/x": "/y"}), "containers.a.volumes", "a list of strings"),
        (container(networks="left"), "containers.a.networks", "a list, or a table"),
        (container(networks=5), "containers.a.networks", "a list, or a table"),
        (container(networks=[5]), "containers.a.networks", "a list of strings"),
        (container(networks={"left": "10.1.0.9"}), "containers.a.networks.left", "a table"),
        (container(networks={"left": {"ip": 9}}), "containers.a.networks.left.ip", "a string"),
        # What is not there.
        (container(networks=["middle"]), "containers.a.networks", "'middle' is none of left"),
        (container(networks={"middle": {}}), "containers.a.networks", "'middle' is none of left"),
        (container(networks=[]), "containers.a.networks", "no network"),
        (container(networks={}), "containers.a.networks", "no network"),
        ({"containers": {"a": {}}}, "containers.a.networks", "no network"),
        ({"networks": None, "routers": None, "containers": None}, "networks", "there is none"),
        ({"routers": None, "containers": None}, "containers", "there is none"),
        ({"rootfs": None}, "routers.r.rootfs", "missing"),
        # Names.
        ({"name": None}, "name", "letters, digits"),
        ({"name": "a/b"}, "name", "letters, digits"),
        ({"name": ".."}, "name", "letters, digits"),
        ({"networks": {"-x": {}}}, "networks.-x", "cannot be the name"),
        ({"containers": {"x y": {"networks": ["left"]}}}, "containers.x y", "cannot be the name"),
        ({"routers": {"": {"networks": ["left"]}}}, "routers.", "cannot be the name"),
        ({"containers": {"r": {"networks": ["left"]}}}, "containers.r", "a router of that name"),
    ],
    ids=str,
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(changes, where, why):
    with pytest.raises(SpecError) as caught:
        model.parse(small(**changes))
    assert (caught.value.path, why in caught.value.reason) == (where, True), caught.value


def test_a_topology_is_a_table():
    with pytest.raises(SpecError):
        model.parse(["networks"])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"rootfs = [", "Invalid value"),
        (b'rootfs = "/t"\nrootfs = "/u"\n', "line 2"),
        (b'rootfs = "/t"\n[networks.n]\n[networks.n]\n', "line 3"),
        (b'rootfs = "\xff"\n', "utf-8"),
        (b"a = " + b"[" * 100_000, ""),
    ],
    ids=["syntax", "a word twice", "a table twice", "no UTF-8", "too deep"],
)
def test_a_file_that_is_no_toml_is_named(tmp_path, text, why):
    path = tmp_path / "lab.toml"
    path.write_bytes(text)
    with pytest.raises(SpecError) as caught:
        model.load(str(path))
    assert caught.value.path == str(path)
    assert why in caught.value.reason


@pytest.mark.parametrize(
    ("name", "why"), [("nope.toml", "No such file"), (".", "Is a directory"), ("x/y", "No such")]
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, why):
    with pytest.raises(SpecError) as caught:
        model.load(f"{tmp_path}/{name}")
    assert (caught.value.path, why in caught.value.reason) == (f"{tmp_path}/{name}", True)


def test_a_file_is_read_whole_or_refused(tmp_path):
    """Not up to some limit: what comes after would silently be missing."""
    path = tmp_path / "lab.toml"
    start = 'rootfs = "/t"\n[networks.n]\n[containers.a]\nnetworks = ["n"]\n'
    end = '[containers.b]\nnetworks = ["n"]\n'
    path.write_text(f"{start}#{'x' * (model.LARGEST - len(start) - 2)}\n{end}")
    try:
        found = model.load(str(path))
    except SpecError as error:
        assert error.path == str(path)
    else:
        assert [one.name for one in found.nodes] == ["a", "b"]


# Who goes where by whom.


LINE = shape("k l m n", {"p": "k l", "q": "l m", "r": "m n"}, {"a": "k", "b": "n", "c": "l"})
RING = shape(
    "k l m n o", {"p": "k l", "q": "l m", "r": "m n", "s": "n o", "t": "o k"}, {"a": "k"}
)  # fmt: skip


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        ("a", {"l": ("p", "k"), "m": ("p", "k"), "n": ("p", "k")}),
        ("b", {"m": ("r", "n"), "l": ("r", "n"), "k": ("r", "n")}),
        ("c", {"k": ("p", "l"), "m": ("q", "l"), "n": ("q", "l")}),
        ("p", {"m": ("q", "l"), "n": ("q", "l")}),
        ("q", {"k": ("p", "l"), "n": ("r", "m")}),
        ("r", {"l": ("q", "m"), "k": ("q", "m")}),
    ],
)
def test_on_a_line_the_next_router_leads_on(who, expected):
    assert routes.ways(LINE, node(LINE, who)) == expected


def test_on_a_ring_the_shorter_way_is_taken():
    assert routes.ways(RING, node(RING, "a")) == {
        "l": ("p", "k"),
        "m": ("p", "k"),
        "n": ("t", "k"),
        "o": ("t", "k"),
    }


def test_a_way_of_one_router_is_shorter_than_one_of_two():
    """In whatever order the file names them."""
    found = shape("k l m n", {"p": "k l", "q": "l m", "r": "m n", "s": "k n"}, {"a": "k"})
    assert routes.ways(found, node(found, "a"))["n"] == ("s", "k")


def test_of_two_ways_the_first_router_is_taken_each_time():
    found = shape("k l", {"p": "k l", "q": "k l"}, {"a": "k"})
    assert routes.ways(found, node(found, "a")) == {"l": ("p", "k")}


def test_there_is_no_way_to_an_island():
    found = shape("k l m", {"p": "k l"}, {"a": "k", "b": "m"})
    assert routes.ways(found, node(found, "a")) == {"l": ("p", "k")}
    assert routes.ways(found, node(found, "b")) == {}


def test_a_container_on_two_networks_is_no_way():
    found = shape("k l", {}, {"a": "k", "b": "k l"})
    assert routes.ways(found, node(found, "a")) == {}


def test_a_router_is_not_its_own_way():
    found = shape("k l", {"p": "k l"})
    assert routes.ways(found, node(found, "p")) == {}


# The picture.


def pictured():
    return model.parse(
        small(
            networks={
                "left": {"subnet": "10.1.0.0/24"},
                "far": {"latency": "20ms", "loss": "1%", "outside": True},
                "right": {"subnet": "10.2.0.0/24"},
            },
            containers={
                "a": {"networks": {"left": {"ip": "10.1.0.9", "rate": "1mbit"}}},
                "bb": {"networks": ["right"]},
            },
        )
    )


SUBNETS = {"left": "10.1.0.0/24", "far": "10.67.0.0/24", "right": "10.2.0.0/24"}
ADDRESSES = {("r", "left"): "10.1.0.2", ("r", "right"): "10.2.0.2", ("bb", "right"): "10.2.0.3"}

UP = """\
     left          far               right
     10.1.0.0/24   10.67.0.0/24      10.2.0.0/24
                   20ms 1% outside
     │             │                 │
r ───●─────────────┼─────────────────●             10.1.0.2  10.2.0.2  router
a ───●             │                 │             10.1.0.9 1mbit
bb ──┼─────────────┼─────────────────●             10.2.0.3
"""
DOWN = """\
     left          far               right
     10.1.0.0/24                     10.2.0.0/24
                   20ms 1% outside
     │             │                 │
r ───●─────────────┼─────────────────●             router
a ───●             │                 │             10.1.0.9 1mbit
bb ──┼─────────────┼─────────────────●
"""


def test_the_picture_of_what_is_up():
    assert picture.text(pictured(), SUBNETS, ADDRESSES) == UP


def test_the_picture_of_a_file():
    """It shows what the file says, and nothing else is known."""
    assert picture.text(pictured(), {}, {}) == DOWN


def words(svg):
    return [text for text in ElementTree.fromstring(svg).itertext() if text.strip()]


def test_the_drawing_holds_all_names_and_addresses():
    found = words(picture.svg(pictured(), SUBNETS, ADDRESSES))
    assert {"lab", "left", "far", "right", "r", "a", "bb", *SUBNETS.values()} <= set(found)
    assert {"20ms 1% outside", "10.1.0.2  10.2.0.2  router", "10.1.0.9 1mbit"} <= set(found)


def test_the_drawing_has_a_dot_for_each_interface():
    tree = ElementTree.fromstring(picture.svg(pictured(), SUBNETS, ADDRESSES))
    dots = [
        (one.get("cx"), one.get("cy")) for one in tree.iter("{http://www.w3.org/2000/svg}circle")
    ]
    assert len(set(dots)) == len(dots) == 4
    columns = sorted({x for x, _ in dots}, key=int)
    assert len(columns) == 2  # nobody is on the one in the middle


HOSTILE = "<script>&amp;\"'</svg>]]>"


@pytest.mark.parametrize(
    "changes",
    [
        networks(latency=HOSTILE),
        networks(subnet=HOSTILE),
        container(networks={"left": {"ip": HOSTILE}}),
        container(networks={"left": {"rate": HOSTILE}}),
    ],
    ids=["latency", "subnet", "ip", "rate"],
)
def test_the_drawing_escapes_what_it_is_told(changes):
    svg = picture.svg(model.parse(small(**changes)), {}, {})
    assert HOSTILE in words(svg)
    assert "<script>" not in svg


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\x00", "1ms\n2ms"], ids=ascii)
def test_a_picture_holds_nothing_that_cannot_be_printed(hostile):
    """A terminal would obey it, and it is no XML: it is refused, or escaped."""
    try:
        found = model.parse(small(**networks(latency=hostile)))
    except SpecError:
        return
    assert picture.text(found, {}, {}).replace("\n", "").isprintable()
    assert len(picture.text(found, {}, {}).splitlines()) == 6
    assert words(picture.svg(found, {}, {}))
