# SPDX-License-Identifier: Apache-2.0
"""cgroup v2 with all its controllers, as distributions mount it (cgroup-v2.rst)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import COMMAND
from tests.system import cgroups
from tests.vm.conftest import TOP, sh

ALL = ("--memory", "64m", "--cpus", "0.5", "--pids", "20", "--cpuset", "1")
DISK = "/dev/vda"


@pytest.fixture
def parent():
    """The name of a cgroup for --cgroup-parent, which is removed in the end."""
    name = f"mbx{os.getpid()}"
    yield name
    for directory, _, _ in os.walk(TOP / name, topdown=False):
        os.rmdir(directory)


def test_v2_alone_with_every_controller():
    mounted = sh("stat --file-system --format %T /sys/fs/cgroup")
    there = (TOP / "cgroup.controllers").read_text().split()
    assert (mounted, {"memory", "cpu", "pids", "io", "cpuset"} <= set(there)) == ("cgroup2fs", True)
    assert cgroups.memberships("self").keys() == {""}


def test_every_controller_at_once(inside):
    """Read inside, where the cgroup is the root of what the container sees."""
    files = "memory.max cpu.max pids.max cpuset.cpus.effective io.max"
    found = inside(f"cd /sys/fs/cgroup; cat {files}", *ALL, "--io-rbps", f"{DISK}:1mb")
    number = os.stat(DISK).st_rdev
    limit = f"{os.major(number)}:{os.minor(number)} rbps=1048576 wbps=max riops=max wiops=max"
    assert found.splitlines() == [str(64 << 20), "50000 100000", "20", "1", limit]


def test_a_cpuset_holds(inside):
    assert inside("grep Cpus_allowed_list /proc/self/status", "--cpuset", "1").split()[1] == "1"


def test_controllers_are_opened_all_the_way_down(inside, parent):
    """systemd opens cpuset and io for units that want them, and only for those; a new cgroup gives
    nothing to its children (cgroup-v2.rst, Enabling and Disabling)."""
    where = ("--cgroup-parent", f"{parent}/inner", "--cpuset", "0", "--io-wiops", f"{DISK}:9")
    assert inside("cat /sys/fs/cgroup/cpuset.cpus", *where) == "0"
    for path in (parent, f"{parent}/inner"):
        opened = (TOP / path / "cgroup.subtree_control").read_text().split()
        assert {"cpuset", "io"} <= set(opened)


def test_it_is_born_in_its_cgroup(tmp_path, rootfs):
    """CLONE_INTO_CGROUP (clone(2)): nothing of it is charged to anybody else, nobody moves it."""
    trace = tmp_path / "trace"
    words = ["run", "--net", "none", *ALL, rootfs, "cat", "/sys/fs/cgroup/cgroup.procs"]
    done = subprocess.run(
        ["strace", "-f", "-o", trace, "-e", "trace=clone3,openat", COMMAND, *words],
        capture_output=True,
    )
    assert (done.returncode, done.stdout.split()[:1]) == (0, [b"1"]), done
    assert "CLONE_INTO_CGROUP" in trace.read_text()
    assert "cgroup.procs" not in trace.read_text().split("CLONE_INTO_CGROUP")[0]


def test_no_process_is_in_a_cgroup_whose_children_have_controllers(rootfs):
    """Who has a part of the tree, and sits at its top, is moved to a leaf; then the controllers can
    be opened for the container beside."""
    script = f"""{COMMAND} run --net none --memory 64m --pids 9 {rootfs} cat /sys/fs/cgroup/pids.max
        cat /proc/self/cgroup /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/cgroup.subtree_control"""
    inside = f"unshare --cgroup --mount sh -ec 'umount /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup\n{script}'"
    unit = "systemd-run --quiet --pipe --wait --collect --property=Delegate=yes"
    limit, own, *opened = sh(f"""{unit} {inside}""").splitlines()
    assert (limit, own) == ("9", "0::/minibox.callers")
    assert {"memory", "pids"} <= set(opened[-1].split())


def test_what_runs_out_of_memory_is_killed_alone(rootfs, cli, parent):
    """The neighbour of the same parent goes on, and the parent has counted it."""
    place = ("--net", "none", "--cgroup-parent", parent)
    neighbour = subprocess.Popen(
        [COMMAND, "run", *place, "--memory", "64m", rootfs, "sh", "-c", "echo ready; cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert neighbour.stdout.readline() == b"ready\n"
        hog = cli("run", *place, "--memory", "16m", rootfs, "tail", "/dev/zero")
        assert hog.returncode == 137
        assert hog.stderr.startswith(b"minibox: out of memory (limit 16 MiB)")
        assert "oom_kill 1" in (TOP / parent / "memory.events").read_text()
        assert neighbour.communicate(b"on\n")[0] == b"on\n"
    finally:
        neighbour.kill()
        neighbour.communicate()


def test_it_waits_for_cpu_and_that_is_counted(box):
    """PSI (accounting/psi.rst), of the container alone."""
    box.run("--cpus", "0.1", command=("sh", "-c", "while :; do :; done & while :; do :; done"))
    place = Path(f"{TOP}{cgroups.memberships(box.state()['Pid'])['']}")
    waited = _total(place / "cpu.pressure")
    (one,) = json.loads(box.do("stats", "--no-stream", "--json"))
    assert _total(place / "cpu.pressure") > waited
    assert one["pressure"]["cpu"]["some"].keys() == {"avg10", "avg60", "avg300", "total"}
    assert one["cpu_throttled_periods"] > 0


def _total(path):
    """Microseconds that some of its tasks have waited."""
    return int(path.read_text().splitlines()[0].rpartition("=")[2])


def test_what_is_frozen_is_frozen_by_the_kernel(box):
    box.run(command=("sh", "-c", "while :; do :; done"))
    place = Path(f"{TOP}{cgroups.memberships(box.state()['Pid'])['']}")
    box.do("pause", "c")
    assert "frozen 1" in (place / "cgroup.events").read_text()
    used = (place / "cpu.stat").read_text().split()[1]
    box.do("ps")
    assert (place / "cpu.stat").read_text().split()[1] == used
    box.do("resume", "c")


@pytest.mark.parametrize("mask", ["077", "777"])
def test_a_private_umask_is_no_matter(rootfs, parent, mask):
    """The container's root is nobody on the host, and mounts its part of the tree."""
    run = f"{COMMAND} run --net none --cgroup-parent {parent}/inner --pids 9 {rootfs}"
    assert sh(f"umask {mask}; {run} cat /sys/fs/cgroup/pids.max") == "9"


def test_a_restarted_one_has_its_cgroup_again(box, until):
    """The monitor's umask is 077; it is the monitor that starts it again."""
    box.run("--restart", "always", "--pids", "9", command=("sh", "-c", "sleep 1"))
    until(lambda: box.inspect()["RestartCount"] and box.status() == "running")
    place = Path(f"{TOP}{cgroups.memberships(box.state()['Pid'])['']}")
    assert (place / "pids.max").read_text() == "9\n"
    box.do("rm", "-f", "c")
