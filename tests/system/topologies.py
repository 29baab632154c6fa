# SPDX-License-Identifier: Apache-2.0
"""Topologies for tests, and what is there of one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "faults"))
import kept

# Two routers in a row; who is also outside has the outer network first, as a file may.
WHOLE = """
rootfs = "ROOTFS"

[networks.left]
subnet = "10.1.0.0/24"
ipv6 = true
rate = "50mbit"
[networks.middle]
subnet = "10.2.0.0/24"
ipv6 = true
[networks.right]
subnet = "10.3.0.0/24"
ipv6 = true
mtu = 1400
[networks.outer]
outside = true

[routers.r]
networks = ["left", "middle"]
[routers.s]
networks = ["middle", "right"]

[containers.a]
networks.left = { ip = "10.1.0.9", mac = "02:00:00:00:00:0a" }
[containers.b]
networks.right = { rate = "20mbit" }
[containers.c]
networks = ["outer", "left"]
env = ["COLOUR=blue"]
"""
SMALL = """
rootfs = "ROOTFS"
[networks.left]
subnet = "10.1.0.0/24"
[networks.right]
subnet = "10.2.0.0/24"
[routers.r]
networks = ["left", "right"]
[containers.a]
networks = ["left"]
[containers.b]
networks = ["right"]
"""
SMALLEST = """
rootfs = "ROOTFS"
[networks.n]
[containers.a]
networks = ["n"]
"""
PING = "ping -c 1 -W 5"


def written(site, text, name="lab"):
    """The text as a file."""
    path = site.root.parent / f"{name}.toml"
    path.write_text(text.replace("ROOTFS", site.rootfs))
    return path


def up(site, text, name="lab"):
    """It is up; its file."""
    path = written(site, text, name)
    assert site.do("topology", "up", "-q", path) == name
    return path


def left(site):
    """What there is of containers and networks on a host and in its state directory."""
    found = []
    for kind in ("containers", "names", "ids", "networks", "topologies", "ports"):
        path = site.root / kind
        names = os.listdir(path) if path.exists() else []
        found += [f"{kind}/{name}" for name in names if name != "lock"]
    words = site.sh("ls /sys/class/net; nft list ruleset").splitlines()
    return [*found, *(word for word in words if word != "lo")]


def all_gone(site):
    """Nothing is left: interfaces go a moment after the namespace that they were in."""
    kept.until(lambda: not left(site))
    return left(site) == []


def all_end(site):
    """No process is left, of a killed command either."""
    return kept.until(lambda: not kept.descendants() - {site.host.pid})


def pings(site, container, to, *options):
    return "1 packets received" in site.do("exec", container, *PING.split(), *options, to)
