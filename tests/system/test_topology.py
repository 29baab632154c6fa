# SPDX-License-Identifier: Apache-2.0
"""Topologies go up and down as one, with real traffic over their routers; each on a host that is a
network namespace of its own. Whatever goes wrong on the way, nothing is left."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.conftest import COMMAND
from tests.system.hosts import Site
from tests.system.topologies import (
    PING,
    SMALL,
    SMALLEST,
    WHOLE,
    all_gone,
    left,
    pings,
    up,
    written,
)

sys.path.append(str(Path(__file__).parents[1] / "faults"))
import kept


@pytest.fixture(scope="module")
def shared_box(tmp_path_factory, subreaper, rootfs):
    """A host on which WHOLE is up, for the tests that only look at it."""
    site = Site(tmp_path_factory.mktemp("shared") / "state", rootfs)
    done = site("topology", "up", written(site, WHOLE))
    assert done.returncode == 0, done
    site.settle(site.host.pid)
    yield site
    site.close()
    site.settle()


# What is up.


@pytest.mark.parametrize("who", ["a", "b", "r", "s"])
def test_all_find_each_other_by_name_over_the_routers(shared_box, who):
    others = [name for name in ("a", "b", "r", "s") if name != who]
    script = " && ".join(f"{PING} {name} | grep '1 packets received'" for name in others)
    assert len(shared_box.do("exec", f"lab-{who}", "sh", "-c", script).splitlines()) == 3


def test_the_way_leads_over_both_routers(shared_box):
    text = shared_box.do("exec", "lab-a", "traceroute", "-n", "-w", "5", "-q", "1", "b")
    assert re.findall(r"^ *\d+ +(\S+)", text, re.MULTILINE) == ["10.1.0.2", "10.2.0.3", "10.3.0.3"]


def test_the_way_of_ipv6_leads_over_both_routers(shared_box):
    assert pings(shared_box, "lab-a", "b", "-6")
    text = shared_box.do("exec", "lab-b", "traceroute6", "-n", "-w", "5", "-q", "1", "a")
    assert re.findall(r"^ *\d+ +fd66:.*::(\w+) ", text, re.MULTILINE) == ["2", "2", "9"]


def test_a_name_leads_to_an_address_that_can_be_reached(shared_box):
    """b knows no way to the outer network, which is the first that c is on."""
    assert pings(shared_box, "lab-b", "c")


def test_a_given_address_holds(shared_box):
    text = shared_box.do("exec", "lab-a", "ip", "addr", "show", "eth0")
    assert "inet 10.1.0.9/24 " in text
    assert "link/ether 02:00:00:00:00:0a " in text


def test_a_rate_holds_for_who_is_on_the_network_and_for_a_link(shared_box):
    """That of the kernel's queue: the other interface of the same router has none."""
    found = {}
    for who in ("a", "b", "r", "s"):
        text = shared_box.do("exec", f"lab-{who}", "ip", "addr", "show")
        found[who] = re.findall(r"eth\d@\S+ .*?(?:qdisc (tbf))?(?: qlen \d+)?$", text, re.MULTILINE)
    assert found == {"a": ["tbf"], "b": ["tbf"], "r": ["tbf", ""], "s": ["", ""]}


def test_an_mtu_holds(shared_box):
    assert shared_box.do("exec", "lab-b", "cat", "/sys/class/net/eth0/mtu") == "1400"
    assert shared_box.do("exec", "lab-a", "cat", "/sys/class/net/eth0/mtu") == "1500"


def test_who_is_outside_has_a_default_route_and_others_have_none(shared_box):
    found = {}
    for who in ("a", "b", "c", "r", "s"):
        text = shared_box.do("exec", f"lab-{who}", "ip", "route")
        found[who] = re.findall("^default (.*?) *$", text, re.MULTILINE)
    assert found == {"a": [], "b": [], "c": ["via 10.67.0.1 dev eth0"], "r": [], "s": []}


def test_an_option_of_run_holds(shared_box):
    assert shared_box.do("exec", "lab-c", "sh", "-c", "echo $COLOUR; hostname") == "blue\nc"


def test_a_router_forwards_and_a_container_does_not(shared_box):
    read = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding"
    assert shared_box.do("exec", "lab-r", "sh", "-c", read) == "1\n1"
    assert shared_box.do("exec", "lab-a", "sh", "-c", read) == "0\n0"


def test_they_are_ordinary_containers_and_networks(shared_box):
    words = ("ps", "--filter", "label=minibox.topology=lab", "--format", "{{.Names}}")
    assert set(shared_box.do(*words).split()) == {"lab-a", "lab-b", "lab-c", "lab-r", "lab-s"}
    found = shared_box.do("network", "ls", "-q").split()
    assert set(found) == {"lab-left", "lab-middle", "lab-outer", "lab-right"}


def test_what_is_up_is_listed(shared_box):
    assert shared_box.do("topology", "ls") == "lab"


def test_up_again_is_one_clear_error_and_changes_nothing(shared_box):
    before = shared_box.do("ps", "-aq")
    said = shared_box.refused("topology", "up", shared_box.root.parent / "lab.toml")
    assert said == "minibox: topology lab is up already"
    assert shared_box.do("ps", "-aq") == before


def test_what_is_up_is_shown_by_name_and_by_file(shared_box):
    text = shared_box.do("topology", "show", "lab")
    assert re.search(r"^r ──.*10\.1\.0\.2  10\.2\.0\.2  router$", text, re.MULTILINE)
    assert re.search(r"^b ──.*10\.3\.0\.3 20mbit$", text, re.MULTILINE)
    assert "10.67.0.0/24" in text  # which was chosen
    assert shared_box.do("topology", "show", shared_box.root.parent / "lab.toml") == text


def test_what_is_shown_is_what_they_have(shared_box):
    """Of each of them, as inspect knows it."""
    text = shared_box.do("topology", "show", "lab")
    for who in "abcrs":
        found = json.loads(shared_box.do("inspect", f"lab-{who}"))[0]["NetworkSettings"]["Networks"]
        row = next(line for line in text.splitlines() if line.startswith(f"{who} "))
        assert {one["IPAddress"] for one in found.values()} <= set(row.split())


def test_what_is_up_is_drawn(shared_box, tmp_path):
    assert shared_box.do("topology", "show", "lab", "--svg", tmp_path / "lab.svg") == ""
    words = [text.strip() for text in ElementTree.parse(tmp_path / "lab.svg").getroot().itertext()]
    assert {"left", "outer", "r", "a", "10.67.0.0/24", "10.3.0.3 20mbit"} <= set(words)


@pytest.mark.parametrize("where", ["", "nope/lab.svg"])
def test_a_drawing_that_cannot_be_written_is_one_error(shared_box, tmp_path, where):
    said = shared_box.refused("topology", "show", "lab", "--svg", tmp_path / where)
    assert said.startswith(f"minibox: --svg: {tmp_path}")


def test_another_state_directory_knows_nothing_of_it(shared_box, tmp_path):
    """Nor does a name that is not up."""
    other = (str(COMMAND), "--root", str(tmp_path / "state"), "topology")
    done = subprocess.run([*other, "ls"], capture_output=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    done = subprocess.run([*other, "show", "lab"], capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (125, b"minibox: lab: no such topology is up\n")


# Words.


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("paint", "x"), "'paint' is none of up, down, show, ls"),
        (("up",), "FILE: no topology is named"),
        (("up", "nope.toml"), "nope.toml: No such file"),
        (("show", "nope.toml"), "nope.toml: No such file"),
        (("show", "nope"), "nope: no such topology is up"),
        (("down", ""), "no such topology is up"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_done_is_one_error(box, words, said):
    assert said in box.refused("topology", *words)


def test_a_word_too_many_is_named(box):
    """Not the action, which is a good one."""
    assert "'ls' is none of" not in box.refused("topology", "ls", "lab")


def test_a_file_that_is_not_up_is_shown(box, tmp_path):
    """As far as it says something; nothing is made."""
    text = box.do("topology", "show", written(box, WHOLE))
    assert re.search(r"^a ──●.*10\.1\.0\.9 02:00:|^a ──●.*10\.1\.0\.9$", text, re.MULTILINE)
    assert "10.67." not in text
    assert "outside" in text
    box.do("topology", "show", tmp_path / "lab.toml", "--svg", tmp_path / "lab.svg")
    assert ElementTree.parse(tmp_path / "lab.svg").getroot().tag.endswith("svg")
    assert not box.root.exists()


# Up and down.


def test_down_takes_all_away_and_up_makes_the_same_again(site):
    path = written(site, SMALL)
    shown = site.do("topology", "up", path)
    assert shown == site.do("topology", "show", "lab")
    assert pings(site, "lab-a", "b")
    assert site.do("topology", "down", path) == "lab"
    assert all_gone(site), left(site)
    # Once more: a file says what shall not be there; a name is that of nothing.
    assert site.do("topology", "down", path) == "lab"
    assert "lab: no such topology is up" in site.refused("topology", "down", "lab")
    assert site.do("topology", "up", path) == shown
    assert pings(site, "lab-a", "b")
    assert site.do("topology", "down", "lab") == "lab"
    assert all_gone(site), left(site)
    assert site.do("topology", "ls") == ""


def test_who_is_restarted_has_its_address_and_ways_again(site):
    up(site, SMALL)
    site.do("restart", "-t", "0", "lab-r", "lab-a")
    assert pings(site, "lab-a", "b")
    site.do("topology", "down", "lab")
    assert all_gone(site)


def test_down_is_well_when_some_of_it_is_gone(site):
    up(site, SMALL)
    site.do("rm", "-f", "lab-a", "lab-r")
    site.do("network", "rm", "lab-left")
    assert site.do("topology", "down", "lab") == "lab"
    assert all_gone(site)


def test_two_of_different_names_do_not_meet(site):
    first = up(site, SMALL)
    other = SMALL.replace("10.1.", "10.8.").replace("10.2.", "10.9.")
    up(site, other, "other")
    assert site.do("topology", "ls") == "lab\nother"
    assert pings(site, "lab-a", "b") and pings(site, "other-a", "b")
    assert "10.8." not in site.do("exec", "lab-a", "cat", "/etc/hosts")
    site.do("exec", "lab-a", "sh", "-c", "! ping -c 1 -W 1 10.8.0.3 2>&1")
    site.do("topology", "down", first)
    assert site.do("topology", "ls") == "other"
    assert pings(site, "other-a", "b")
    site.do("topology", "down", "other")
    assert all_gone(site)


def test_several_are_named_at_once_and_a_bad_one_stops_no_other(site):
    paths = [written(site, SMALLEST, name) for name in ("one", "two")]
    done = site("topology", "up", "-q", paths[0], "nope.toml", paths[1])
    assert (done.returncode, done.stdout) == (125, b"one\ntwo\n")
    assert done.stderr.startswith(b"minibox: nope.toml: No such file")
    assert site.do("topology", "down", "one", "two") == "one\ntwo"
    assert all_gone(site)


def test_of_two_that_bring_it_up_at_once_one_does(site):
    path = written(site, SMALL)
    begun = [site.begin("topology", "up", "-q", path) for _ in range(2)]
    done = sorted((site.finish(one) for one in begun), key=lambda one: one.returncode)
    assert [one.returncode for one in done] == [0, 125], done
    assert done[1].stderr == b"minibox: topology lab is up already\n"
    assert pings(site, "lab-a", "b")
    site.do("topology", "down", "lab")
    assert all_gone(site)


def test_a_subnet_of_ipv6_alone_leads_over_a_router(site):
    six = SMALL.replace("10.1.0.0/24", "fd01::/64").replace("10.2.0.0/24", "fd02::/64")
    up(site, six)
    assert pings(site, "lab-a", "b", "-6")


def test_a_name_may_have_a_dot(site):
    text = SMALLEST.replace("networks.n]", 'networks."n.1"]').replace('["n"]', '["n.1"]')
    up(site, text.replace("containers.a]", 'containers."a.1"]'))
    assert site.do("exec", "lab-a.1", "hostname") == "a.1"
    assert site.do("network", "ls", "-q") == "lab-n.1"


def test_down_of_a_file_that_has_changed_takes_down_what_is_up(site):
    """What was brought up is written down; the file may say something else by now."""
    path = up(site, SMALL)
    path.write_text(path.read_text().replace("containers.b]", "containers.other]"))
    site.do("topology", "down", path)
    assert all_gone(site)


def test_what_others_have_plugged_in_stops_down_until_it_is_gone(site):
    path = up(site, SMALL)
    site.do("run", "-d", "--name", "guest", "--net", "lab-left", site.rootfs, "sleep", "1000")
    assert "network lab-left is in use by" in site.refused("topology", "down", path)
    assert site.do("exec", "guest", "echo", "here") == "here"
    site.do("rm", "-f", "guest")
    site.do("topology", "down", "lab")
    assert all_gone(site)


# Up that fails.


@pytest.mark.parametrize(
    ("old", "new", "code", "said"),
    [
        ("[containers.b]", '[containers.b]\ncommand = ["/nope"]', 127, "/nope"),
        ("[containers.b]", '[containers.b]\nrootfs = "/nonexistent"', 125, "/nonexistent"),
        ("[containers.b]", '[containers.b]\npublish = ["80:80"]', 125, "not internal"),
        ('["right"]', '{ right = { ip = "10.2.9.9" } }', 125, "10.2.9.9 cannot be given"),
        ('["right"]', '{ right = { latency = "soon" } }', 125, "is no duration"),
        ("10.2.0.0/24", "10.2.0.0/30", 125, "all addresses are in use"),
        ("10.2.0.0/24", "10.5.0.0/24", 125, "overlaps 10.5.0.0/16"),
    ],
    ids=lambda value: str(value)[-30:],
)  # fmt: skip
def test_a_failing_up_is_one_error_and_leaves_nothing(site, old, new, code, said):
    site.sh("ip link add d0 type bridge; ip addr add 10.5.0.1/16 dev d0; ip link set d0 up")
    path = written(site, SMALL.replace(old, new))
    assert said in site.refused("topology", "up", path, code=code)
    site.sh("ip link del d0")
    assert all_gone(site)


def test_one_address_for_two_is_one_error_and_leaves_nothing(site):
    twice = SMALL.replace('["left"]', '{ left = { ip = "10.1.0.9" } }')
    twice = twice.replace('["left", "right"]', '{ left = { ip = "10.1.0.9" }, right = {} }')
    assert "networks.left: two nodes" in site.refused("topology", "up", written(site, twice))
    assert all_gone(site)


def test_a_port_in_use_is_one_error_and_the_port_stays_whose_it_is(site):
    site.serve("web", "--net", "bridge", "-p", "8080:80", "--hostname", "web")
    site.do("network", "create", "theirs")
    text = SMALL.replace("[networks.right]", "[networks.right]\noutside = true")
    text = text.replace("[containers.b]", '[containers.b]\npublish = ["8080:80"]')
    before = left(site)
    said = site.refused("topology", "up", written(site, text))
    assert "port 8080/tcp of the host is in use by container" in said
    assert kept.until(lambda: sorted(left(site)) == sorted(before)), (before, left(site))
    assert site.get("http://127.0.0.1:8080/name") == "web"


def test_somebody_elses_container_of_that_name_is_left_alone(site):
    """It is in the way of up, and no matter of down's."""
    site.do("run", "-d", "--name", "lab-b", "--net", "none", site.rootfs, "sleep", "1000")
    path = written(site, SMALL)
    assert "lab-b" in site.refused("topology", "up", path)
    site.do("topology", "down", path)
    assert site.do("exec", "lab-b", "echo", "here") == "here"
    assert site.do("ps", "-a", "--format", "{{.Names}}") == "lab-b"
    assert site.do("network", "ls", "-q") == ""


@pytest.mark.parametrize("action", ["up", "down"])
def test_somebody_elses_network_of_that_name_is_left_alone(site, action):
    """It is in the way of up, and no matter of down's."""
    site.do("network", "create", "lab-right", "--subnet", "10.7.0.0/24")
    path = written(site, SMALL)
    if action == "up":
        assert "network lab-right already" in site.refused("topology", "up", path)
    else:
        site("topology", "down", path)
    assert site.do("network", "ls", "-q") == "lab-right"
    assert "10.7.0.0/24" in site.do("network", "inspect", "lab-right")


def test_a_record_that_cannot_be_used_is_one_error(site):
    path = up(site, SMALLEST)
    (site.root / "topologies/lab.json").write_text("{")
    for words in (("up", path), ("show", "lab"), ("down", "lab")):
        assert "lab.json cannot be used" in site.refused("topology", *words)


# The library.


def program(site, script, *words):
    """A program on the host; it must succeed. What it prints."""
    python = COMMAND.with_name("python")
    argv = site.enter(python, "-W", "error", "-c", script, site.root, site.rootfs, *words)
    done = subprocess.run(argv, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b""), done
    return done.stdout.decode()


BEGIN = """
import sys, minibox
root, rootfs = sys.argv[1:3]
DATA = {
    "name": "lab",
    "rootfs": rootfs,
    "networks": {"left": {"subnet": "10.1.0.0/24"}, "right": {"subnet": "10.2.0.0/24"}},
    "routers": {"r": {"networks": ("left", "right")}},
    "containers": {"a": {"networks": {"left": {"ip": "10.1.0.9"}}}, "b": {"networks": ["right"]}},
}
"""


def test_a_program_brings_one_up_runs_commands_in_it_and_takes_it_down(site):
    text = program(
        site,
        BEGIN
        + """
with minibox.Topology(DATA, root=root) as lab:
    print(lab.name, lab.called("a"), lab.container("a").name)
    print(lab.subnets(), lab.addresses()["a", "left"], lab.addresses()["r", "right"])
    found = lab.run("a", ["ping", "-c", "1", "-W", "5", "b"])
    print(found.exit_code, b"1 packets received" in found.stdout, found.timed_out)
    found = lab.run("b", ["sh", "-c", "tr a-z A-Z; echo no >&2; exit 7"], input=b"yes")
    print(found.exit_code, found.stdout, found.stderr, found.signal)
    found = lab.run("b", ["cat"])
    print(found.exit_code, found.stdout)
    found = lab.run("b", ["sh", "-c", "echo early; exec sleep 1000"], timeout=0.2)
    print(found.timed_out, found.stdout, found.exit_code, 0.2 <= found.duration < 10)
    found = lab.run("b", ["sh", "-c", "head -c 100000 /dev/zero"], output_limit=10)
    print(found.exit_code, len(found.stdout), found.truncated)
    try:
        lab.run("b", ["/nope"])
    except minibox.CommandNotFound as error:
        print(error.exit_code)
    try:
        lab.run("nobody", ["true"])
    except minibox.StateError as error:
        print(error)
    print(minibox.Topology.find("lab", root=root).text() == lab.text(), "<svg" in lab.svg())
print(lab.subnets(), lab.addresses())
""",
    )
    assert text.splitlines() == [
        "lab lab-a lab-a",
        "{'left': '10.1.0.0/24', 'right': '10.2.0.0/24'} 10.1.0.9 10.2.0.2",
        "0 True False",
        "7 b'YES' b'no\\n' None",
        "0 b''",
        "True b'early\\n' 137 True",
        "0 10 True",
        "127",
        "lab-nobody: no such container",
        "True True",
        "{} {}",
    ]
    assert all_gone(site)


def test_an_error_in_the_block_takes_it_down_too(site):
    script = """
try:
    with minibox.Topology(DATA, root=root) as lab:
        raise KeyError(lab.name)
except KeyError as error:
    print(error)
lab.up()
lab.down()
lab.down()
try:
    minibox.Topology.find("lab", root=root)
except minibox.StateError as error:
    print(error)
"""
    assert program(site, BEGIN + script) == "'lab'\nlab: no such topology is up\n"
    assert all_gone(site)


def test_many_threads_of_a_program_run_commands_in_it(site):
    script = """
from concurrent.futures import ThreadPoolExecutor
with minibox.Topology(DATA, root=root) as lab, ThreadPoolExecutor(6) as pool:
    def one(k):
        return lab.run("abr"[k % 3], ["sh", "-c", "cat; hostname"], input=b"%d " % k).stdout
    print(b"".join(pool.map(one, range(12))).decode().split("\\n"))
"""
    expected = [*(f"{k} {'abr'[k % 3]}" for k in range(12)), ""]
    assert program(site, BEGIN + script) == f"{expected}\n"
    assert all_gone(site)


def test_a_program_may_name_a_tree_by_its_path(site):
    """Also that of one node: what is kept of it on disk is text."""
    script = """
import pathlib
DATA["containers"]["b"]["rootfs"] = pathlib.Path(rootfs)
with minibox.Topology({**DATA, "rootfs": pathlib.Path(rootfs)}, root=root) as lab:
    print(lab.run("b", ["echo", "hi"]).stdout)
"""
    assert program(site, BEGIN + script) == "b'hi\\n'\n"
    assert all_gone(site)


def test_a_program_loads_a_file_and_hears_what_changes_on_the_host(site):
    site.sh("echo 0 >/proc/sys/net/ipv4/ip_forward")
    path = written(site, SMALL.replace("[networks.right]", "[networks.right]\noutside = true"))
    script = """
lab = minibox.Topology.load(sys.argv[3], root=root)
said = []
lab.up(said.append)
print(lab.name, said)
lab.down()
"""
    assert "net.ipv4.ip_forward was 0 and is 1 now" in program(site, BEGIN + script, path)
    assert all_gone(site)
