# SPDX-License-Identifier: Apache-2.0
"""Bridges, addresses, NAT, published ports and names, with real traffic between real hosts: the
host of each test is a network namespace of its own, and so is what lies outside of it."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest

from tests.conftest import COMMAND
from tests.system.hosts import OUTSIDE, SERVE


def bridge(site, name="bridge"):
    return json.loads(site.do("network", "inspect", name))[0]["network_interface"]


# One container.


def test_a_container_has_an_address_a_gateway_and_a_name(site):
    text = site.inside("ip -4 -o addr show eth0; ip route; cat /etc/hosts /etc/hostname")
    assert re.search(r"inet 10\.66\.0\.2/16 brd 10\.66\.255\.255 ", text)
    assert "default via 10.66.0.1 dev eth0" in text
    assert "10.66.0.2       minibox\n" in text
    assert text.endswith("\nminibox\n")


def test_it_reaches_its_host(site):
    assert "1 packets received" in site.inside("ping -c 1 -W 5 10.66.0.1")


def test_the_change_of_forwarding_is_said_once(site):
    site.sh("echo 0 >/proc/sys/net/ipv4/ip_forward")
    first = site("run", "--net", "bridge", site.rootfs, "true")
    again = site("run", "--net", "bridge", site.rootfs, "true")
    assert b"net.ipv4.ip_forward was 0 and is 1 now" in first.stderr
    assert (again.returncode, again.stderr) == (0, b"")
    assert site.sh("cat /proc/sys/net/ipv4/ip_forward") == "1\n"


def test_each_has_the_next_address(site):
    found = [site.inside("hostname -i").strip() for _ in range(3)]
    assert found == ["10.66.0.2", "10.66.0.3", "10.66.0.4"]


@pytest.mark.parametrize(
    "options",
    [(), ("--init",), ("--overlay",), ("--read-only",), ("--userns", "host"), ("--user", "1000")],
    ids=str,
)
def test_with_other_options(site, options):
    text = site.inside("cat /proc/net/route /etc/resolv.conf /etc/hosts", *options)
    assert "eth0" in text
    assert "minibox" in text


def test_none_is_nothing_but_lo(site):
    assert site.inside("ls /sys/class/net", net="none") == "lo\n"


def test_without_a_network_nothing_is_made(site):
    site.inside("true", net="none")
    assert not (site.root / "networks").exists()
    assert site.sh("ls /sys/class/net") == "lo\n"


def test_names_are_to_be_had_without_a_network(site):
    words = ("--dns", "192.0.2.53", "--add-host", "far:192.0.2.7")
    for net in ("none", "host"):
        text = site.inside("cat /etc/resolv.conf /etc/hosts", *words, net=net)
        assert text.startswith("nameserver 192.0.2.53\n")
        assert "\n192.0.2.7       far\n" in text


def test_a_route_and_a_word_about_one_interface(site):
    site.do("network", "create", "lan", "--internal", "--subnet", "10.9.0.0/24")
    words = ("--net", "lan:ip=10.9.0.7,mac=02:00:00:00:00:07", "--route", "10.8.0.0/16=10.9.0.1")
    text = site.inside("ip addr show eth1; ip route", *words)
    assert "inet 10.9.0.7/24" in text
    assert "link/ether 02:00:00:00:00:07" in text
    assert "10.8.0.0/16 via 10.9.0.1 dev eth1" in text
    assert "default via 10.66.0.1 dev eth0" in text
    text = site.inside("ip route", "--route", "default=10.66.0.9")
    assert "default via 10.66.0.9 dev eth0" in text
    assert "10.66.0.1" not in text


def test_the_words_about_an_interface_are_not_its_networks_name(site):
    site.do("network", "create", "lan", "--internal", "--subnet", "10.9.0.0/24")
    site.do("create", "--name", "c", "--net", "lan:ip=10.9.0.7", site.rootfs, "true")
    assert site.inspect("c")["HostConfig"]["NetworkMode"] == "lan"
    assert site.do("ps", "-a", "--format", "{{.Networks}}") == "lan"


def test_sysctls_are_the_containers_own(site):
    read = "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/shmmni"
    words = ("--sysctl", "net.ipv4.ip_default_ttl=33", "--sysctl", "kernel.shmmni=99")
    assert site.inside(read, *words, net="none") == "33\n99\n"
    assert site.sh(read) != "33\n99\n"


def test_the_same_network_as_another_container(site):
    address = site.serve("web", "--net", "bridge")
    text = site.inside(
        "ip -4 -o addr show eth0; wget -q -O- http://127.0.0.1/name", net="container:web"
    )
    assert f"inet {address}/16" in text
    assert text.endswith(f"{site.inspect('web')['Config']['Hostname']}\n")


def test_a_network_namespace_by_its_path(site):
    site.sh("ip netns add blue; ip netns exec blue ip link set lo up")
    ours = site.sh("ip netns exec blue readlink /proc/self/ns/net")
    assert site.inside("readlink /proc/self/ns/net", net="ns:/run/netns/blue") == ours
    site.sh("ip netns del blue")


# Outside.


def test_nat_reaches_outside_and_outside_does_not_reach_in(site, outside):
    address = site.serve("web", "--net", "bridge")
    seen = outside.begin(
        'python3 -uc \'import socket; s = socket.create_server(("", 7)); print("ready");'
        " c, who = s.accept(); print(who[0]); c.close()'"
    )
    assert seen.stdout.readline() == b"ready\n"
    site.inside(f"timeout 5 nc {OUTSIDE} 7 </dev/null")
    out, _ = seen.communicate(timeout=20)
    assert out == b"198.51.100.1\n"
    outside(f"! ping -c 1 -W 1 {address}")


@pytest.mark.parametrize("where", ["127.0.0.1", "10.66.0.1", "198.51.100.1", "localhost"])
def test_a_published_port_from_the_host_itself(site, outside, where):
    site.serve("web", "--net", "bridge", "-p", "8080:80", "--hostname", "web")
    assert site.get(f"http://{where}:8080/name") == "web"


def test_a_published_port_from_outside(site, outside):
    site.serve("web", "--net", "bridge", "-p", "8080:80", "--hostname", "web")
    site.get("http://127.0.0.1:8080/name")
    assert outside("curl -sf --max-time 5 http://198.51.100.1:8080/name") == "web\n"


def test_a_published_port_from_itself_and_a_neighbour(site, outside):
    site.serve("web", "--net", "bridge", "-p", "8080:80", "--hostname", "web")
    site.get("http://127.0.0.1:8080/name")
    fetch = "wget -q -O- http://198.51.100.1:8080/name"
    assert site.do("exec", "web", "sh", "-c", fetch) == "web"
    assert site.inside(fetch) == "web\n"


def test_a_port_of_one_address_only(site, outside):
    site.serve("web", "--net", "bridge", "-p", "127.0.0.1:8080:80", "--hostname", "web")
    assert site.get("http://127.0.0.1:8080/name") == "web"
    outside("! curl -s --max-time 1 http://198.51.100.1:8080/name")


ASK = """
import socket
for port in 9000, 9001:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(0.3)
    for _ in range(30):
        s.sendto(b"hi%d" % port, ("127.0.0.1", port))
        try:
            print(s.recv(100).decode())
            break
        except (TimeoutError, ConnectionRefusedError):
            pass
"""


ECHO = """
import select, socket
servers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for port in (90, 91)]
[server.bind(("", 90 + k)) for k, server in enumerate(servers)]
print("ready", flush=True)
while True:
    for server in select.select(servers, [], [])[0]:
        server.sendto(*server.recvfrom(100))
"""


def test_a_range_and_udp(site):
    words = ("--net", "bridge", "-p", "9000-9001:90-91/udp", site.rootfs, "sleep", "1000")
    site.do("run", "-d", "--name", "echo", *words)
    pid = site.state("echo")["Pid"]
    server = subprocess.Popen(
        ["nsenter", "-t", str(pid), "-n", "python3", "-c", ECHO], stdout=subprocess.PIPE
    )
    try:
        assert server.stdout.readline() == b"ready\n"
        assert site.sh(f"python3 -c '{ASK}'") == "hi9000\nhi9001\n"
    finally:
        server.kill()
        server.communicate()


def test_ipv6_with_nat_and_a_published_port(site, outside):
    site.do("network", "create", "six", "--ipv6")
    words = ("--net", "six", "-p", "8080:80", "--hostname", "web")
    done = site(
        "run", "-d", "--name", "web", *words, site.rootfs, "sh", "-c", SERVE.format("[::]:80")
    )
    assert done.returncode == 0, done
    site.get("http://[2001:db8::1]:8080/name")
    assert outside("curl -sf --max-time 5 http://[2001:db8::1]:8080/name") == "web\n"
    assert "1 packets received" in site.inside("ping -c 1 -W 5 2001:db8::2", net="six")


def test_two_containers_cannot_have_one_port(site):
    site.serve("web", "--net", "bridge", "-p", "8080:80")
    for words in (("-p", "8080:81"), ("-p", "127.0.0.1:8080:81"), ("-p", "8000-8100:1-101")):
        said = site.refused("run", "--net", "bridge", *words, site.rootfs, "true")
        assert "port 8080/tcp of the host is in use by container" in said
    site.serve("other", "--net", "bridge", "-p", "8080:80/udp")
    site.do("rm", "-f", "web")
    site.serve("web", "--net", "bridge", "-p", "8080:80")


def test_nobody_reaches_the_hosts_loopback(site):
    """CVE-2020-8558: route_localnet opens it, the table closes it again."""
    site.serve("web", "--net", "bridge", "-p", "8080:80")
    server = subprocess.Popen(
        site.enter("python3", "-m", "http.server", "--bind", "127.0.0.1", "4444"),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        site.get("http://127.0.0.1:4444/")
        site.inside(
            "ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.0/8 via 10.66.0.1 2>/dev/null;"
            "! timeout 1 wget -q -O- http://127.0.0.1:4444/",
            "--cap-add", "NET_ADMIN",
        )  # fmt: skip
    finally:
        server.kill()
        server.wait()


# Several networks.


def test_containers_find_each_other_by_name(site):
    site.do("network", "create", "web")
    site.serve("first", "--net", "web")
    site.serve("second", "--net", "web", "--network-alias", "deputy")
    fetch = "until wget -q -O- http://{}/name; do :; done"
    names = {name: site.inspect(name)["Config"]["Hostname"] for name in ("first", "second")}
    assert site.do("exec", "first", "sh", "-c", fetch.format("deputy")) == names["second"]
    assert site.do("exec", "second", "sh", "-c", fetch.format("first")) == names["first"]
    assert site.inside(fetch.format("second"), net="web") == names["second"] + "\n"
    site.do("rm", "-f", "second")
    site.do("exec", "first", "sh", "-c", "! ping -c 1 -W 1 second 2>&1")


def test_who_comes_back_has_one_address(site):
    site.do("network", "create", "web")
    site.serve("first", "--net", "web")
    site.serve("second", "--net", "web")
    site.do("restart", "-t", "0", "second")
    text = site.do("exec", "first", "sh", "-c", "grep -v '^#' /etc/hosts")
    assert re.findall(r"(\S+) +\w+ second$", text, re.MULTILINE) == [site.address("second")]


def test_a_container_on_two_networks(site):
    for name in ("front", "back"):
        site.do("network", "create", name)
    site.serve("db", "--net", "back")
    site.serve("web", "--net", "front", "--net", "back")
    assert "1 packets received" in site.do("exec", "web", "ping", "-c", "1", "db")
    text = site.do("exec", "web", "ip", "-4", "-o", "addr")
    assert len(re.findall(r"eth\d +inet ", text)) == 2


def test_networks_do_not_reach_each_other(site):
    for name in ("front", "back"):
        site.do("network", "create", name)
    address = site.serve("db", "--net", "back")
    site.inside(f"! timeout 1 wget -q -O- http://{address}/name", net="front")
    site.inside(f"timeout 5 wget -q -O- http://{address}/name", net="back")


def test_an_internal_network_does_not_reach_out(site, outside):
    site.do("network", "create", "inner", "--internal")
    address = site.serve("db", "--net", "inner")
    assert site.inside(f"timeout 5 wget -q -O- http://{address}/name", net="inner")
    site.sh("echo 1 >/proc/sys/net/ipv4/ip_forward")
    site.inside(
        f"ip route add default via {address.rpartition('.')[0]}.1; ! ping -c 1 -W 1 {OUTSIDE}",
        "--cap-add", "NET_ADMIN", net="inner",
    )  # fmt: skip
    assert "not internal" in site.refused("run", "--net", "inner", "-p", "1:1", site.rootfs, "true")


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_a_network_that_shares_an_interface(site, outside, driver):
    if subprocess.run(site.enter("ip", "link", "add", "link", "wire", "type", driver)).returncode:
        pytest.skip(f"this kernel has no {driver}")
    words = ("--driver", driver, "--parent", "wire", "--subnet", "198.51.100.0/24")
    site.do("network", "create", "lan", *words)
    text = site.inside(
        f"ping -c 1 -W 5 {OUTSIDE}; ip -4 -o addr show eth0", "--ip", "198.51.100.9", net="lan"
    )
    assert "1 packets received" in text
    assert "198.51.100.9/24" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("create", "bridge"), "is a word of --net"),
        (("create", "a/b"), "letters, digits"),
        (("create", "x", "--subnet", "10.0.0.0/31"), "no room"),
        (("create", "x", "--subnet", "nonsense"), "is no address"),
        (("create", "x", "--subnet", "198.51.100.0/25"), "overlaps 198.51.100.0/24"),
        (("create", "x", "--gateway", "1.2.3.4"), "is no address in"),
        (("create", "x", "--mtu", "7"), "from 68 to"),
        (("create", "x", "--driver", "vlan"), "is none of"),
        (("create", "x", "--driver", "macvlan"), "--parent"),
        (("rm", "nope"), "no such network"),
        (("inspect", "nope"), "no such network"),
        (("paint", "x"), "is none of create, ls, inspect, rm"),
    ],
    ids=str,
)  # fmt: skip
def test_what_no_network_can_be(site, outside, words, said):
    assert said in site.refused("network", *words)
    assert site.do("network", "ls", "-q") == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--net", "nope"), "nope: no such network"),
        (("--net", "container:nope"), "no such container"),
        (("--net", "ns:/nonexistent"), "No such file"),
        (("--net", ""), "a mode or the name of a network"),
        (("--net", "host", "--net", "bridge"), "does not go with others"),
        (("--net", "bridge", "--net", "bridge"), "is given twice"),
        (("--net", "none", "--latency", "1ms"), "--latency: it needs a network"),
        (("--net", "host", "--ip", "10.66.0.9"), "--ip: it needs a network"),
        (("--net", "none", "--network-alias", "x"), "--network-alias: it needs a network"),
        (("--net", "none", "--route", "default=1.2.3.4"), "--route: it needs a network"),
        (("--net", "none:ip=10.66.0.9"), "only a network takes words"),
        (("--net", "bridge:ip"), "write NAME:WORD=VALUE"),
        (("--net", "bridge:colour=red"), "write NAME:WORD=VALUE"),
        (("--net", "bridge:ip=1.2.3.4,ip=1.2.3.5"), "write NAME:WORD=VALUE"),
        (("--net", "bridge:mac=ff:ff:ff:ff:ff:ff"), "no address of one interface"),
        (("--net", "bridge", "--route", "10.0.0.0/8=fd00::1"), "write SUBNET=GATEWAY"),
        (("--net", "bridge", "--route", "10.0.0.0=10.66.0.1"), "write SUBNET=GATEWAY"),
        (("--sysctl", "net.ipv4.ip_forward"), "write NAME=VALUE"),
        (("--sysctl", "net/ipv4/../../kernel/core_pattern=x"), "write NAME=VALUE"),
        (("--sysctl", "kernel.core_pattern=x"), "is the host's"),
        (("--net", "host", "--sysctl", "net.ipv4.ip_forward=1"), "is the host's"),
        (("--net", "none", "--sysctl", "net.ipv4.nonsense=1"), "No such file"),
        (("-p", "80:80"), "it needs a network"),
        (("--net", "bridge", "-p", "80"), "write [ADDRESS:]8080:80"),
        (("--net", "bridge", "-p", "1-2:3"), "write [ADDRESS:]8080:80"),
        (("--net", "bridge", "-p", "0:80"), "write [ADDRESS:]8080:80"),
        (("--net", "bridge", "-p", "80:80/icmp"), "write [ADDRESS:]8080:80"),
        (("--net", "bridge", "-p", "80:80", "-p", "80:81"), "is given twice"),
        (("--net", "bridge", "--ip", "10.99.0.1"), "cannot be given"),
        (("--net", "bridge", "--dns", "nonsense"), "is no address"),
        (("--net", "bridge", "--add-host", "x"), "write NAME:ADDRESS"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_plugged_in(site, words, said):
    site("run", "--net", "bridge", site.rootfs, "true")
    assert said in site.refused("run", *words, site.rootfs, "true")
    assert os.listdir(site.root / "networks/bridge/leases") == []


def test_an_address_of_ones_choice(site):
    assert site.inside("hostname -i", "--ip", "10.66.7.7") == "10.66.7.7\n"
    site.do(
        "run",
        "-d",
        "--name",
        "a",
        "--net",
        "bridge",
        "--ip",
        "10.66.7.7",
        site.rootfs,
        "sleep",
        "99",
    )
    said = site.refused("run", "--net", "bridge", "--ip", "10.66.7.7", site.rootfs, "true")
    assert "10.66.7.7 is in use" in said


def test_a_subnet_that_the_host_has_is_left_out(site):
    site.sh("ip link add d0 type bridge; ip addr add 10.66.3.1/24 dev d0; ip link set d0 up")
    assert site.inside("hostname -i") == "10.67.0.2\n"


def test_all_addresses_in_use(site):
    site.do("network", "create", "tiny", "--subnet", "10.99.0.0/30")
    site.do("run", "-d", "--name", "a", "--net", "tiny", site.rootfs, "sleep", "99")
    said = site.refused("run", "--net", "tiny", site.rootfs, "true")
    assert "all addresses are in use" in said
    assert "in use by" in site.refused("network", "rm", "tiny")
    site.do("kill", "a")
    assert site.inside("hostname -i", net="tiny") == "10.99.0.2\n"
    site.do("network", "rm", "tiny")


# Names of servers.


@pytest.mark.parametrize(
    ("resolv", "behind", "options", "found"),
    [
        ("nameserver 192.0.2.1\nsearch a.example\n", None, (), "nameserver 192.0.2.1\nsearch a.example\n"),
        ("nameserver 127.0.0.53\noptions edns0\n", "nameserver 192.0.2.7\n", (), "nameserver 192.0.2.7\n"),
        ("nameserver 127.0.0.1\nnameserver 192.0.2.1\n", None, (), "nameserver 192.0.2.1\n"),
        ("nameserver 192.0.2.1\n", None, ("--dns", "192.0.2.9"), "nameserver 192.0.2.9\n"),
    ],
)  # fmt: skip
def test_the_resolver(site, tmp_path, resolv, behind, options, found):
    (tmp_path / "resolv.conf").write_text(resolv)
    site.sh(f"mount --bind {tmp_path}/resolv.conf $(readlink -f /etc/resolv.conf)")
    if behind:
        site.sh(
            f"mkdir -p /run/systemd/resolve; printf '{behind}' >/run/systemd/resolve/resolv.conf"
        )
    assert site.inside("cat /etc/resolv.conf", *options) == found


# What is left.


def leftovers(site):
    """Everything of a host's that a network could leave behind."""
    return site.sh("ip -o link | cut -d: -f2; ip -4 -o addr; ip route; nft list ruleset")


def test_after_the_last_container_only_the_bridge_is_there(site, until):
    site.inside("true")
    until(lambda: "mbv" not in leftovers(site))
    # A bridge says up to a second later that it has no carrier any more (linkwatch).
    until(lambda: "linkdown" in leftovers(site))
    before = leftovers(site)
    for _ in range(8):
        site.inside("true")
        site.serve("web", "--net", "bridge", "-p", "8080:80")
        site.do("rm", "-f", "web")
    until(lambda: leftovers(site) == before)
    assert os.listdir(site.root / "networks/bridge/leases") == []
    assert os.listdir(site.root / "ports") == ["lock"]
    site.do("network", "rm", "bridge")
    assert (
        leftovers(site)
        == " lo\n1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever\n"
    )


def test_who_ends_by_itself_leaves_nothing(site, until):
    site.do("network", "create", "web")
    script = "read line </mnt/go"
    os.mkfifo(site.root.parent / "go")
    words = ("--net", "web", "-p", "8080:80", "-v", f"{site.root.parent}:/mnt")
    site.do("run", "-d", "--name", "a", *words, site.rootfs, "sh", "-c", script)
    (site.root.parent / "go").write_text("go\n")
    site.do("wait", "a")
    until(lambda: os.listdir(site.root / "ports") == ["lock"])
    until(lambda: os.listdir(site.root / "networks/web/hosts") == [])
    assert os.listdir(site.root / "networks/web/leases") == []
    assert "8080" not in site.sh("nft list ruleset")


def test_gc_clears_what_killed_ones_have_left(site, until):
    site.do("network", "create", "web")
    site.do("run", "-d", "--name", "a", "--net", "web", "-p", "8080:80", site.rootfs, "sleep", "99")
    monitor = site.state("a")["ConmonPid"]
    os.kill(monitor, 9)
    site.settle(site.host.pid)
    until(lambda: site.status("a") == "exited")
    assert "8080" in site.sh("nft list ruleset")
    site.do("gc")
    assert "8080" not in site.sh("nft list ruleset")
    assert os.listdir(site.root / "ports") == ["lock"]
    assert os.listdir(site.root / "networks/web/leases") == []
    assert os.listdir(site.root / "networks/web/hosts") == []


def test_a_lease_of_a_killed_command_is_taken_over(site):
    site.do("network", "create", "tiny", "--subnet", "10.99.0.0/30")
    process = site.begin("run", "--net", "tiny", site.rootfs, "sh", "-c", "echo ready; sleep 99")
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.wait()
    assert os.listdir(site.root / "networks/tiny/leases") == ["2"]
    assert site.inside("hostname -i", net="tiny") == "10.99.0.2\n"


def test_a_bridge_that_was_removed_is_made_again(site):
    site.inside("true")
    site.sh(f"ip link del {bridge(site)}")
    assert "1 packets received" in site.inside("ping -c 1 -W 5 10.66.0.1")


def test_other_rules_are_left_alone(site):
    site.sh("nft add table inet theirs; nft add chain inet theirs c")
    site.serve("web", "--net", "bridge", "-p", "8080:80")
    site.do("rm", "-f", "web")
    site.do("network", "rm", "bridge")
    assert site.sh("nft list ruleset") == "table inet theirs {\n\tchain c {\n\t}\n}\n"


def test_a_host_without_nftables_says_so_where_it_is_needed(site):
    """socket(AF_NETLINK, …, NETLINK_NETFILTER) is what such a kernel refuses."""
    line = ["--root", str(site.root), "run"]

    def run(*words):
        fault = "inject=socket:error=EPROTONOSUPPORT:when="
        strace = ("strace", "-f", "-o", "/dev/null", "-e", "trace=socket", "-e")
        for k in range(1, 20):  # which of the sockets it is
            done = subprocess.run(
                site.enter(*strace, f"{fault}{k}", COMMAND, *line, *words, site.rootfs, "true"),
                capture_output=True,
                timeout=30,
            )
            if b"firewall" in done.stderr or done.returncode == 0:
                return done
            site("network", "rm", "bridge")
        return done

    done = run("--net", "bridge")
    said, hint, doctor = done.stderr.decode().splitlines()
    assert done.returncode == 125
    reason = "this kernel has no nftables, which this network needs"
    assert said == f"minibox: change the firewall: {reason}"
    assert hint == "  hint: --net none and --net host need nothing of the kind"
    assert doctor.startswith("  doctor: networks: ")
    assert site.sh("nft list ruleset") == ""


TWO_HUNDRED = """
import os, sys, minibox
rootfs = sys.argv[1]
def start():
    words = ["/bin/sh", "-c", "hostname -i; exec cat"]
    return minibox.Container(words, rootfs=rootfs, net="bridge", stdin="pipe", stdout="pipe").start()
for _ in range(8):
    if os.fork() == 0:
        boxes = [start() for _ in range(25)]
        print("".join(box.stdout.readline().decode() for box in boxes), end="", flush=True)
        sys.stdin.read()  # until all have started
        [box.close() for box in boxes]
        os._exit(0)
"""


def test_two_hundred_on_one_bridge_from_eight_processes(site):
    """No address is given twice, and the last ones reach the first."""
    argv = site.enter(COMMAND.with_name("python"), "-c", TWO_HUNDRED, site.rootfs)
    begun = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    found = [begun.stdout.readline().decode().strip() for _ in range(200)]
    assert len(set(found)) == 200, found
    pings = " && ".join(f"ping -c 1 -W 5 {found[k]}" for k in (0, 99, 199))
    # The library's containers are in the default state directory, and this one has to be.
    words = site.enter(COMMAND, "run", "--net", "bridge", site.rootfs, "sh", "-c", pings)
    done = subprocess.run(words, capture_output=True, timeout=30, stdin=subprocess.DEVNULL)
    begun.communicate(timeout=30)
    assert (begun.returncode, done.returncode) == (0, 0), done


def test_many_on_one_bridge_at_once(site):
    """No address is given twice, whoever starts."""
    begun = [
        site.begin("run", "--net", "bridge", site.rootfs, "sh", "-c", "hostname -i; exec cat",
                   stdin=subprocess.PIPE)
        for _ in range(24)
    ]  # fmt: skip
    found = [process.stdout.readline() for process in begun]
    assert len(set(found)) == 24, found
    for process in begun:
        process.stdin.close()
        assert process.wait(30) == 0


def test_threads_of_one_program(site):
    script = """
import threading, warnings, minibox
warnings.simplefilter("ignore")
found = []
def one():
    for _ in range(8):
        found.append(minibox.run(["hostname", "-i"], rootfs=ROOT, net="bridge").stdout)
threads = [threading.Thread(target=one) for _ in range(6)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(found), len(set(found)))
"""
    python = COMMAND.with_name("python")
    done = subprocess.run(
        site.enter(python, "-c", script.replace("ROOT", repr(site.rootfs))),
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"48 48\n"), done


def test_in_the_middle_of_an_event_loop(site):
    script = """
import asyncio, sys, warnings, minibox
warnings.simplefilter("ignore")
async def main():
    return minibox.run(["hostname", "-i"], rootfs=sys.argv[1], net="bridge")
print(asyncio.run(main()).stdout)
"""
    python = COMMAND.with_name("python")
    done = subprocess.run(
        site.enter(python, "-c", script, site.rootfs), capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, b"b'10.66.0.2\\n'\n"), done


# Links for experiments.


def rate(site, *options):
    """Megabits a second that a container sends to its host."""
    server = (
        "import socket, time; s = socket.create_server(('', 7)); print('ready', flush=True);"
        "c, _ = s.accept(); n = len(c.recv(1 << 20)); t = time.monotonic();\n"
        "while d := c.recv(1 << 20): n += len(d)\n"
        "print(n * 8e-6 / (time.monotonic() - t))"
    )
    process = subprocess.Popen(site.enter("python3", "-c", server), stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    site.inside("head -c 2000000 /dev/zero | nc 10.66.0.1 7", *options)
    return float(process.communicate(timeout=60)[0])


def test_a_rate_is_kept(site):
    site.inside("true")
    assert rate(site, "--rate", "8mbit") < 12 < rate(site)


@pytest.mark.parametrize("words", [("--latency", "20ms"), ("--loss", "10%")], ids=" ".join)
def test_latency_and_loss_or_a_word_why_not(site, words):
    site.inside("true")
    has_netem = not subprocess.run(
        site.enter("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms")
    ).returncode
    done = site(
        "run", "--net", "bridge", *words, site.rootfs, "ping", "-c", "20", "-i", "0.05", "10.66.0.1"
    )
    if not has_netem:
        assert done.returncode == 125
        assert b"this kernel has no netem" in done.stderr
    elif words[0] == "--latency":
        # Twenty each way.
        assert float(re.search(rb"min/avg/max = ([\d.]+)", done.stdout)[1]) > 39
    else:
        assert int(re.search(rb"(\d+) packets received", done.stdout)[1]) < 20


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--latency", "2h"), "at most a minute"),
        (("--latency", "soon"), "is no duration"),
        (("--loss", "101%"), "write 1%"),
        (("--loss", "-1"), "write 1%"),
        (("--loss", "nan"), "write 1%"),
        (("--rate", "10"), "write 10mbit"),
        (("--rate", "1bit"), "from 1kbit"),
        (("--rate", "99999gbit"), "from 1kbit"),
    ],
)
def test_what_a_link_cannot_do(site, words, said):
    assert said in site.refused("run", "--net", "bridge", *words, site.rootfs, "true")


def test_two_hundred_on_one_bridge(site):
    """Each reaches the first of them; and then nothing of them is left."""
    script = """
import sys, threading, warnings, minibox
warnings.simplefilter("ignore")
rootfs = sys.argv[1]
first = minibox.Container(["sleep", "1000"], rootfs=rootfs, net="bridge").start()
boxes = [
    minibox.Container(
        ["sh", "-c", "ping -q -c 1 -W 20 10.66.0.2 && echo yes && exec sleep 1000"],
        rootfs=rootfs, net="bridge", stdout="pipe",
    ).start()
    for _ in range(200)
]
answers = 0
for box in boxes:
    text = b""
    while not text.endswith(b"yes\\n"):
        text += box.stdout.read(4096)
    answers += 1
for box in [first, *boxes]:
    box.close()
print(answers)
"""
    python = COMMAND.with_name("python")
    done = subprocess.run(
        site.enter(python, "-c", script, site.rootfs), capture_output=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, b"200\n"), done
