# SPDX-License-Identifier: Apache-2.0
"""A state directory whose files nobody can trust: what is told of it, without a container."""

from __future__ import annotations

import copy
import json
import os

import pytest

from minibox import cli, resident, shapes
from minibox.cli import inspect, ps
from minibox.directory import Damaged, said
from minibox.errors import StateError
from minibox.network import published
from minibox.network.config import Network, Networks, no_such
from minibox.network.leases import Leases
from minibox.network.neighbours import Neighbours
from minibox.network.subnet import Subnet
from minibox.resident import Resident
from minibox.store import Store
from minibox.topology import standing

ID, OTHER = "ab" * 32, "cd" * 32
CONFIG = {
    "id": ID, "name": "one", "created": 10**18, "rootfs": "/tree", "args": ["sh"], "options": {"net": ["none"], "volumes": ["/a:/b"]},
    "labels": {"a": "b"}, "remove": False, "restart": {"policy": "no", "most": 0}, "tty": False, "interactive": False,
    "detach_keys": "ctrl-p", "stop_signal": 15, "stop_timeout": 10, "timeout": 0.0, "log": {"max-size": 8192, "max-file": 2},
    "health": {"test": ["x"], "interval": 1.0, "timeout": 1, "start_period": 0.0, "retries": 3},
}  # fmt: skip
RUN = {
    "run": 2, "boot_id": "x", "pid": 7, "start_time": 9, "monitor": 6, "monitor_start_time": 8, "began": 10**18, "restarts": 0,
    "networks": [{"name": "lab", "interface": "x", "addresses": ["10.1.0.2/24"], "gateways": [], "mac": "02:42:0a:01:00:02"}],
}  # fmt: skip
END = {"exit_code": 0, "signal": 0, "finished": 10**18}


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "root", str(tmp_path))
    return tmp_path


def put(root, id_=ID, **files):
    where = root / "containers" / id_
    where.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (where / f"{name}.json").write_text(json.dumps(data))
    return Resident(Store(str(root)), Store(str(root)).directory(id_))


def changed(data, *path, to):
    found = copy.deepcopy(data)
    holder = found
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = to
    return found


def test_what_is_right_is_believed(root):
    container = put(root, config=CONFIG, run=RUN)
    (root / "containers" / ID / "exit-2.json").write_text(json.dumps(END))
    assert container.name == "one"
    assert container.state().status == resident.EXITED


@pytest.mark.parametrize(
    ("path", "to"),
    [
        (["created"], True),
        (["created"], 10**30),
        (["created"], -1),
        (["args"], []),
        (["args"], [1]),
        (["args"], ["\ud800"]),
        (["labels"], {"a": 1}),
        (["labels"], ["a"]),
        (["restart"], {}),
        (["restart", "most"], "3"),
        (["log"], {}),
        (["log", "max-size"], None),
        (["timeout"], float("nan")),
        (["stop_signal"], 10**6),
        (["options", "net"], 3),
        (["options", "env"], "A=b"),
        (["options", "volumes"], ["/a"]),
        (["options", "publish"], {}),
        (["health"], {}),
        (["health", "retries"], "3"),
        (["ids"], "3"),
    ],
)
def test_a_config_that_is_not_one(root, path, to):
    container = put(root, config=changed(CONFIG, *path, to=to))
    with pytest.raises(
        Damaged, match=rf"config.json cannot be used: {path[0]} is missing or wrong"
    ):
        container.config  # noqa: B018


@pytest.mark.parametrize(
    ("path", "to"),
    [
        (["run"], True),
        (["run"], -1),
        (["pid"], 1 << 40),
        (["pid"], -1),
        (["began"], 1 << 70),
        (["start_time"], None),
        (["networks"], {}),
        (["networks"], [{}]),
        (["networks", 0, "addresses"], ["10.1.0.2"]),
        (["networks", 0, "addresses"], [1]),
        (["process"], {}),
        (["cgroup"], "/sys"),
        (["cgroup"], [[1, ["memory"], "/"]]),
        (["cgroup"], [[1, ["memory"], f"minibox/{ID}"]]),
        (["cgroup"], [[1, ["memory"], f"/sys/fs/cgroup/minibox/../{ID}"]]),
        (["cgroup"], [[3, ["memory"], f"/minibox/{ID}"]]),
    ],
)
def test_a_run_that_is_not_one(root, path, to):
    container = put(root, config=CONFIG, run=changed(RUN, *path, to=to))
    with pytest.raises(Damaged, match=rf"run.json cannot be used: {path[0]} is missing or wrong"):
        container.state()


@pytest.mark.parametrize("to", [{}, {**END, "exit_code": 300}, {**END, "finished": 1 << 70}, [], 1])
def test_an_end_that_is_not_one_is_that_of_a_killed_monitor(root, to):
    container = put(root, config=CONFIG, run=RUN)
    (root / "containers" / ID / "exit-2.json").write_text(json.dumps(to))
    assert container.state().exit_code == 137


def test_a_cgroup_that_is_another_containers_is_not_touched(root):
    """It is removed with all that is in it."""
    for path in (f"/sys/fs/cgroup/memory/minibox/{OTHER}", "/sys/fs/cgroup/memory/minibox/7-8-0"):
        run = {**RUN, "boot_id": resident.boot_id(), "cgroup": [[1, ["memory"], path]]}
        with pytest.raises(Damaged, match="cgroup is missing or wrong"):
            put(root, config=CONFIG, run=run).cgroup()
    own = [[1, ["memory"], f"/nonexistent/minibox/{ID}"], [2, [], f"/x/minibox-{ID}.scope"]]
    run = {**RUN, "boot_id": resident.boot_id(), "cgroup": own}
    assert [part.path for part in put(root, config=CONFIG, run=run).cgroup().parts] == [
        own[0][2],
        own[1][2],
    ]


def test_ps_says_which_one_it_cannot_show_and_shows_the_rest(root, capfd):
    put(root, config=CONFIG)
    put(
        root,
        OTHER,
        config={**CONFIG, "id": OTHER, "name": "second", "options": {"net": ["a", "a"]}},
    )
    for values in (
        {"all": True},
        {"all": True, "json": True},
        {"all": True, "format": "{{.Names}}"},
    ):
        assert ps.execute(values) == 0
        out, err = capfd.readouterr()
        assert "one" in out and "second" not in out
        assert err == "minibox: --net: 'a' is given twice\n"


def test_inspect_shows_who_has_anothers_network(root, capfd):
    options = {"net": ["container:two"]}
    put(root, config={**CONFIG, "options": options, "health": None})
    assert inspect.execute({"args": [ID]}) == 0
    shown = json.loads(capfd.readouterr().out)[0]["HostConfig"]
    assert shown["NetworkMode"] == "container:two"
    assert "net" not in shown["Namespaces"] and "pid" in shown["Namespaces"]


def test_names_that_only_look_like_numbers(tmp_path):
    """str.isdigit() is true of superscripts, of which int() makes no number."""
    networks = Networks(str(tmp_path))
    subnet = Subnet.parse("x", "10.1.0.0/24")
    network = Network("lab", "bridge", "mb0", (subnet,), ("10.1.0.1",), 1500, False, 1)
    networks.write(network)
    path = networks.path("lab")
    for name in ("²", "5"):
        os.symlink("²:²", f"{path}/leases/{name}")
        open(f"{path}/hosts/{name}", "w").close()
    os.symlink("²", f"{path}/last")
    leases = Leases(networks, network)
    assert list(leases.all()) == [(5, "²:²")]
    assert leases.preview() == 2
    assert list(leases.sweep()) == [5]
    assert Neighbours(path, (subnet,)).stale([]) == [5]
    assert published._parse("tcp-²") is None


def test_a_topology_that_is_not_one(tmp_path):
    given = {
        "name": "lab",
        "rootfs": "/t",
        "networks": {"l": {}},
        "containers": {"a": {"networks": ["l"]}},
    }
    record = {
        "is_up": True,
        "given": given,
        "subnets": {"l": "10.1.0.0/24"},
        "addresses": [["a", "l", "10.1.0.2"]],
    }
    (tmp_path / "topologies").mkdir()
    file = tmp_path / "topologies/lab.json"
    file.write_text(json.dumps(record))
    assert "10.1.0.2" in standing.Topology.find("lab", root=str(tmp_path)).text()
    for word, value in (("subnets", 3), ("addresses", [["a", "l"]]), ("is_up", 1), ("given", [])):
        file.write_text(json.dumps({**record, word: value}))
        with pytest.raises(StateError, match="cannot be used"):
            standing.Topology.find("lab", root=str(tmp_path))


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "", "\udcff"])
def test_a_name_does_not_break_the_line(name):
    for error in (no_such(name), said(OSError(2, "No such file"), f"/tmp/{name}")):
        first, *hints = str(error).split("\n")
        assert first.isprintable() and not hints
    assert "hint: minibox network create lab" in str(no_such("lab"))


def test_shapes():
    assert shapes.fits(True, bool) and not shapes.fits(True, int)
    assert shapes.fits(None, (int, None)) and not shapes.fits("", (int, None))
    assert shapes.fits([1, 2], [int]) and not shapes.fits([1, ""], [int])
    assert shapes.misfit({"a": {"b": 1}}, {"a": {"b": int}}) == ""
    assert shapes.misfit({"a": {"b": ""}}, {"a": {"b": int}}) == "a"
