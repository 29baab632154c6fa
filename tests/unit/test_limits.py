# SPDX-License-Identifier: Apache-2.0
"""Limits as text, as files of a cgroup, as systemd's properties; and where cgroups are, from the
files of /proc."""

import pytest

from minibox import limits
from minibox.errors import SpecError
from minibox.resources import controls, hierarchies, scope
from minibox.spec import Limits

MIB = 1 << 20


def parsed(**options):
    return limits.parse(options, 4)


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("6m", 6 * MIB), ("64mb", 64 * MIB), ("64MiB", 64 * MIB), ("1.5g", 3 << 29),
     (8 * MIB, 8 * MIB), ("8388608b", 8 * MIB), ("1T", 1 << 40), ("7000k", 7000 << 10)],
)  # fmt: skip
def test_memory(text, bytes_):
    assert parsed(memory=text).memory == bytes_


@pytest.mark.parametrize(
    "text", ["", "m", "-1", "1.g", ".5g", "64q", "64 mm", "1e3", "½m", "9" * 30]
)
def test_what_is_no_size(text):
    with pytest.raises(SpecError, match="--memory: "):
        parsed(memory=text)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"memory": "5m"}, "--memory: 5m: 6m is the least"),
        ({"memory_swap": "64m"}, "--memory-swap: .*give --memory, too"),
        ({"memory": "64m", "memory_swap": "32m"}, "--memory-swap: .*at least --memory"),
        ({"memory": "64m", "memory_reservation": "65m"}, "--memory-reservation: .*more than"),
        ({"cpus": "4.01"}, "--cpus: '4.01': from 0.01 to 4, the CPUs of this host"),
        ({"cpus": "0.001"}, "--cpus"),
        ({"cpus": "-1"}, "--cpus"),
        ({"cpus": "1e1"}, "--cpus"),
        ({"cpus": "nan"}, "--cpus"),
        ({"cpu_shares": "1"}, "--cpu-shares: '1': a number from 2 to 262144"),
        ({"cpuset": "1-0"}, "--cpuset: '1-0': write 0-2,4"),
        ({"cpuset": "0,"}, "--cpuset"),
        ({"cpuset_mems": "x"}, "--cpuset-mems"),
        ({"pids": "x"}, "--pids"),
        ({"pids": "-2"}, "--pids"),
        ({"io_weight": "5"}, "--io-weight: '5': a number from 10 to 1000"),
        ({"io_rbps": ["/dev/sda"]}, "--io-rbps: .*DEVICE:RATE"),
        ({"io_wbps": ["sda:1m"]}, "--io-wbps: .*DEVICE:RATE"),
        ({"io_riops": ["/dev/sda:1m"]}, "--io-riops: '1m' is no number"),
        ({"io_wiops": ["/dev/sda:0"]}, "--io-wiops"),
    ],
)
def test_what_is_refused(options, reason):
    with pytest.raises(SpecError, match=reason):
        parsed(**options)


def test_what_is_taken():
    found = parsed(
        memory="64m", memory_swap="-1", cpus=0.5, cpu_shares=512, cpuset="0-1,3", pids="max",
        io_rbps=["/dev/a:1mb", "/dev/a:2mb", "/dev/b:3"], io_wiops="/dev/a:10", io_weight="10",
    )  # fmt: skip
    assert found == Limits(
        memory=64 * MIB, memory_swap=-1, cpu_quota=50_000, cpu_period=100_000, cpu_shares=512,
        cpuset_cpus="0-1,3", pids=-1, blkio_weight=10,
        throttle_read_bps=(("/dev/a", 2 * MIB), ("/dev/b", 3)),
        throttle_write_iops=(("/dev/a", 10),),
    )  # fmt: skip
    assert parsed() is limits.NONE
    assert parsed(cpus="0").cpu_quota == -1
    assert limits.numbers("x", "0-1,3") == [range(2), range(3, 4)]


def test_parent_and_manager():
    assert limits.parent("/a/b/") == "a/b"
    assert limits.parent(None) == ""
    assert limits.manager(None) == "cgroupfs"
    for text in ("", "/", "a/../b", "a//b"):
        with pytest.raises(SpecError, match="--cgroup-parent"):
            limits.parent(text)
    with pytest.raises(SpecError, match="'x' is none of cgroupfs, systemd"):
        limits.manager("x")


def test_what_is_said_of_a_killed_one():
    assert limits.short_of(64 * MIB) == "out of memory (limit 64 MiB)"
    assert limits.short_of(MIB + 1) == "out of memory (limit 1048577 bytes)"
    assert limits.short_of(0) == "out of memory"


# The files.

ALL = Limits(
    memory=64 * MIB, memory_swap=96 * MIB, memory_reservation=32 * MIB, cpu_quota=50_000,
    cpu_period=100_000, cpu_shares=1024, cpuset_cpus="0", cpuset_mems="0", pids=20,
    blkio_weight=1000,
)  # fmt: skip
EVERY = ("memory", "cpu", "cpuset", "pids", "io", "blkio")


def written(given, version):
    return [(one.files[0], one.value) for one in controls.writes(given, version, EVERY)]


def test_the_files_of_v1():
    assert written(ALL, 1) == [
        ("memory.limit_in_bytes", "67108864"),
        ("memory.memsw.limit_in_bytes", "100663296"),
        ("memory.soft_limit_in_bytes", "33554432"),
        ("cpu.cfs_period_us", "100000"),
        ("cpu.cfs_quota_us", "50000"),
        ("cpu.shares", "1024"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
        ("pids.max", "20"),
        ("blkio.weight", "1000"),
    ]


def test_the_files_of_v2():
    assert written(ALL, 2) == [
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("memory.low", "33554432"),
        ("cpu.max", "50000 100000"),
        ("cpu.weight", "100"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
        ("pids.max", "20"),
        ("io.weight", "10000"),
    ]


def test_no_limit_is_written_too():
    nothing = Limits(memory=64 * MIB, memory_swap=-1, pids=-1, cpu_quota=-1, cpu_period=100_000)
    assert dict(written(nothing, 1)) | {} == {
        "memory.limit_in_bytes": "67108864",
        "memory.memsw.limit_in_bytes": "-1",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "-1",
        "pids.max": "max",
    }
    assert ("memory.swap.max", "max") in written(nothing, 2)
    assert ("cpu.max", "max 100000") in written(nothing, 2)


def test_swap_that_nobody_asked_for_may_be_missing():
    def missing(**given):
        found = controls.writes(Limits(memory=64 * MIB, **given), 1, EVERY)
        return next(one.missing for one in found if "memsw" in one.files[0])

    assert missing() == ""
    assert missing(memory_swap=64 * MIB) == controls.NO_SWAP


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 100), (262_144, 10_000)])
def test_the_weight_of_shares(shares, weight):
    assert controls.weight(shares) == weight


def test_a_device_must_be_one():
    with pytest.raises(SpecError, match="--io-rbps: /dev/null is no block device"):
        controls.device("--io-rbps", "/dev/null")
    with pytest.raises(SpecError, match="--io-rbps: /nope: No such file"):
        controls.device("--io-rbps", "/nope")


def test_who_needs_which_controller():
    assert controls.needed(Limits(memory_reservation=1, cpuset_mems="0", throttle_read_bps=(("a", 1),))) == {
        "memory": "--memory-reservation", "cpuset": "--cpuset-mems", "io": "--io-rbps",
    }  # fmt: skip


# Where they are.

V1 = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/mem\\040ory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
""".splitlines()
OWN = "12:cpu,cpuacct:/a/b\n4:memory:/m\n7:pids:/p\n9:name=systemd:/s\n0::/u\n".splitlines()


def test_both_versions_at_once():
    found = hierarchies.arrange(V1, OWN, ["hugetlb"])
    assert [(one.version, one.controllers, one.point, one.own) for one in found] == [
        (2, ("hugetlb",), "/sys/fs/cgroup/unified", "/u"),
        (1, ("cpu", "cpuacct"), "/sys/fs/cgroup/cpu,cpuacct", "/a/b"),
        (1, ("memory",), "/sys/fs/cgroup/mem ory", "/m"),
    ]  # pids is mounted nowhere, and systemd's own tree limits nothing


def test_v2_alone():
    mountinfo = ["30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate"]
    found = hierarchies.arrange(mountinfo, ["0::/user.slice\n"], ["memory", "pids"])
    assert [(one.version, one.controllers, one.point) for one in found] == [
        (2, ("memory", "pids"), "/sys/fs/cgroup")
    ]
    assert hierarchies.arrange([], ["0::/\n"], []) == []


@pytest.mark.parametrize(
    ("shown", "cgroup", "path"),
    [
        ("/", "/", "/c"),
        ("/", "/a/b", "/c/a/b"),
        ("/docker/1", "/docker/1", "/c"),
        ("/docker/1", "/docker/1/a", "/c/a"),
        ("/docker/1", "/docker/12", "/c"),
        ("/", "/../..", "/c"),
    ],
)
def test_the_directory_of_a_cgroup(shown, cgroup, path):
    assert hierarchies.Hierarchy(2, (), "/c", shown, "/").path(cgroup) == path


# systemd.


def test_the_call_of_systemd():
    given = Limits(
        memory=64 * MIB, pids=20, cpu_quota=50_000, cpu_period=100_000, cpuset_cpus="0,9"
    )
    argv = scope.start(
        "/usr/bin/busctl", "minibox-1.scope", "minibox.slice", 42, given, is_user=True
    )
    assert argv == [
        "/usr/bin/busctl", "--user", "call", "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "StartTransientUnit",
        "ssa(sv)a(sa(sv))", "minibox-1.scope", "fail", "10",
        "Description", "s", "minibox container minibox-1",
        "Slice", "s", "minibox.slice",
        "PIDs", "au", "1", "42",
        "Delegate", "b", "true",
        "CollectMode", "s", "inactive-or-failed",
        "MemoryMax", "t", "67108864",
        "MemorySwapMax", "t", "67108864",
        "TasksMax", "t", "20",
        "CPUQuotaPerSecUSec", "t", "500000",
        "AllowedCPUs", "ay", "2", "1", "2",
        "0",
    ]  # fmt: skip


def test_the_throttles_of_systemd():
    given = Limits(throttle_read_bps=(("/dev/a", 1), ("/dev/b", 2)), blkio_weight=10)
    assert scope.properties(given) == [
        ["IOWeight", "t", "1"],
        ["IOReadBandwidthMax", "a(st)", "2", "/dev/a", "1", "/dev/b", "2"],
    ]


def test_where_a_slice_is():
    assert scope.place("minibox.slice", None) == "/minibox.slice"
    assert scope.place("a-b.slice", None) == "/a.slice/a-b.slice"
    assert scope.place("user.slice", 7).startswith("/user.slice/user-7.slice/user@7.service/")
