# SPDX-License-Identifier: Apache-2.0
"""The machine was rebooted in the middle, without a word to anybody: what before_reboot.py has left in
a state directory on a disk is another boot's. make vm-test does both."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.system.conftest import Box
from tests.vm.before_reboot import HERE
from tests.vm.conftest import TOP

RAN = ("plain", "always", "networked", "volatile", "paused")


@pytest.fixture(scope="module")
def facts():
    """What was before."""
    path = HERE / "facts.json"
    assert path.exists(), "tests/vm/before_reboot.py has not run, or nothing was rebooted"
    return json.loads(path.read_text())


@pytest.fixture
def left(rootfs, facts):
    """The containers of before."""
    return Box(HERE / "state", rootfs)


def test_it_is_another_boot(facts):
    assert Path("/proc/sys/kernel/random/boot_id").read_text().strip() != facts["boot_id"]
    assert {one["State"]["Status"] for one in facts["containers"].values()} >= {"running", "paused"}


def test_nobody_is_running(left, facts):
    """Whoever has their pids now; and nothing is told to them."""
    lines = left.do("ps", "-a", "--format", "{{.Names}} {{.State}}").splitlines()
    states = dict(line.split() for line in lines)
    assert {name: states[name] for name in RAN} == dict.fromkeys(RAN, "exited")
    assert states["created"] == "created"
    for name in RAN:
        state = left.state(name)
        assert (state["Pid"], state["ExitCode"]) == (0, 137), name
        assert "is not running" in left.refused("exec", name, "true")
        assert "is not running" in left.refused("kill", name)


def test_what_was_left_is_swept(left):
    """The one with --rm, and every lease and name that nobody has. Nothing on the host is of them."""
    said = left.do("gc")
    assert "gone" in said
    assert "gone" not in left.names()
    assert left.do("gc") == ""
    assert not list((TOP / "minibox").glob("*")) if (TOP / "minibox").exists() else True
    assert not [name for name in os.listdir("/sys/class/net") if name.startswith("mb")]


@pytest.mark.parametrize("name", ["plain", "always", "volatile", "paused"])
def test_it_can_be_started_again(left, name):
    left.do("start", name)
    assert left.status(name) == "running"
    assert left.do("exec", name, "echo", "here") == "here"
    left.do("stop", "-t", "0", name)
    left.settle()


def test_one_with_a_network_can_be_started_again(left, site):
    """Its bridge, its address and its rules went with the kernel; another host stands for the new."""
    site.root = left.root
    site.do("start", "networked")
    assert site.do("exec", "networked", "ip", "-4", "addr", "show", "eth0").count("inet ") == 1
    site.do("rm", "-f", "networked")


def test_all_can_be_removed(left):
    for name in left.names():
        left.do("rm", "-f", name)
    assert left.names() == set()
    left.do("network", "rm", "lan")
    left.do("gc")
    for kind in ("containers", "names", "ids"):
        assert os.listdir(left.root / kind) == []
