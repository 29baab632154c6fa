# SPDX-License-Identifier: Apache-2.0
"""Limits as they are asked for, and what the kernel's files say of cgroups."""

from __future__ import annotations

import os
import re
import tempfile

from hypothesis import strategies as st

from minibox import limits
from minibox.resources import controls, hierarchies, leftovers, usage
from minibox.resources.cgroup import Cgroup, Part
from tests.fuzz import strategies as s
from tests.fuzz.properties import PLACE, Property

RIGHT = {
    "memory": ["64m", "1.5g", "65536k"],
    "memory_swap": ["-1", "128m"],
    "memory_reservation": ["32m"],
    "cpus": ["0.5", "2", "0"],
    "cpu_shares": ["512"],
    "cpuset": ["0-1", "0,1"],
    "cpuset_mems": ["0"],
    "pids": ["64", "-1", "max"],
    "io_weight": ["500"],
    "io_rbps": ["/dev/sda:1mb"],
    "io_wbps": ["/dev/sda:1mb"],
    "io_riops": ["/dev/sda:100"],
    "io_wiops": ["/dev/sda:100"],
    "cgroup_parent": ["a/b", "/a"],
    "cgroup_manager": ["cgroupfs", "systemd"],
}


def value(name):
    some = st.sampled_from(RIGHT[name]) | s.bent(RIGHT[name], most=2) | s.texts
    if name in ("io_rbps", "io_wbps", "io_riops", "io_wiops"):
        return st.lists(some, max_size=2)
    return some if name.startswith("cgroup") else some | s.numbers


options = st.lists(st.sampled_from(sorted(RIGHT)), max_size=4, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: value(name) for name in names})
)


def limit(given):
    found = limits.asked(given, 4)
    assert ".." not in found.parent.split("/")
    for version, controllers in (
        (1, hierarchies.V1),
        (2, ("memory", "cpu", "cpuset", "pids", "io")),
    ):
        if not found.limits.throttle_read_bps and not any("throttle" in word for word in given):
            for write in _writes(found.limits, version, controllers):
                assert write


def _writes(asked, version, controllers):
    from minibox.errors import SpecError

    try:
        return list(controls.writes(asked, version, controllers))
    except SpecError:  # no such block device
        return []


# What the kernel writes: the shape is its own, the names may be anybody's.

name = st.text("abAB/.:,=-_\\0134é\udcff", min_size=1, max_size=12)
paths = name.map(lambda text: f"/{text}") | st.sampled_from(
    ["/", "/user.slice", "/../x", "/a\\040b", "/a/../../b"]
)
kinds = st.sampled_from(["cgroup", "cgroup2", "ext4", "cgroup"])
words = st.lists(
    st.sampled_from([*hierarchies.V1, "rw", "name=systemd", "xattr"]) | name, min_size=1, max_size=4
).map(",".join)
mount_lines = st.tuples(paths, paths, kinds, name, words).map(
    lambda row: f"36 25 0:32 {row[0]} {row[1]} rw,nosuid shared:9 - {row[2]} {row[3]} {row[4]}\n"
)
membership = st.tuples(st.integers(0, 20), st.just("") | words, paths).map(
    lambda row: f"{row[0]}:{row[1]}:{row[2]}\n"
)


def trees(given):
    mountinfo, members, unified = given
    for tree in hierarchies.arrange(mountinfo, members, unified):
        assert tree.version in (1, 2) and tree.point.startswith("/")
        for path in (tree.own, "/", "/../..", "/a/../../b"):
            found = tree.path(path)
            assert found == tree.point or found.startswith(f"{tree.point}/")
            assert ".." not in found[len(tree.point) :].split("/")


FILES = {
    "memory.usage_in_bytes": "4096\n", "memory.current": "4096\n", "memory.stat": "anon 1\ntotal_inactive_file 2\ninactive_file 3\n",
    "memory.limit_in_bytes": "9223372036854771712\n", "memory.max": "max\n", "memory.oom_control": "oom_kill_disable 0\noom_kill 1\n",
    "memory.events": "oom 0\noom_kill 2\n", "pids.current": "1\n", "pids.max": "max\n", "cpuacct.usage": "123456\n",
    "cpu.stat": "usage_usec 5\nnr_periods 1\nnr_throttled 2\nthrottled_usec 3\n", "freezer.state": "THAWED\n", "cgroup.events": "populated 1\nfrozen 0\n",
    "blkio.throttle.io_service_bytes_recursive": "8:0 Read 4096\n8:0 Write 0\nTotal 4096\n", "io.stat": "8:0 rbytes=1 wbytes=2 rios=3\n",
    "cpu.pressure": "some avg10=0.00 avg60=1.50 avg300=0.00 total=12\n", "cgroup.procs": "0\n4194304\n",
}  # fmt: skip


@st.composite
def file_of(draw, text):
    """Some of its lines, and other numbers in them."""
    lines = [line for line in text.splitlines() if draw(st.integers(0, 5))]
    number = draw(st.sampled_from(["0", "1", "18446744073709551615", "9223372036854771712"]))
    at = draw(st.integers(0, 5))
    return "".join(
        f"{re.sub(NUMBER, number, line) if k == at else line}\n" for k, line in enumerate(lines)
    )


NUMBER = r"(?<![0-9:.g])[0-9]+$|(?<==)[0-9]+(?= |$)"
contents = st.fixed_dictionaries({}, optional={name: file_of(text) for name, text in FILES.items()})


def used(given):
    files, version = given
    with tempfile.TemporaryDirectory(dir=PLACE) as top:
        for one, text in files.items():
            with open(f"{top}/{one}", "w", encoding="ascii") as file:
                file.write(text)
        every = ("memory", "cpu", "cpuacct", "pids", "io", "blkio", "freezer")
        found = usage.read(Cgroup([Part(version, every, top)]))
        assert isinstance(found, usage.Usage)
        assert sorted(os.listdir(top)) == sorted(files)


def own_names(text):
    """Of a directory in .../minibox: is its owner dead?"""
    assert leftovers._is_left(text, False) in (True, False)
    assert leftovers._is_left(text, True) in (True, False)


PROPERTIES = [
    Property("limits", options, limit, 40),
    Property("cgroup trees", st.tuples(
        st.lists(mount_lines, max_size=5), st.lists(membership, max_size=5), st.lists(name, max_size=3)), trees, 30, variants=0),
    Property("cgroup usage", st.tuples(contents, st.sampled_from([1, 2])), used, 4, variants=0),
    Property("cgroup names", s.bent(["123-456-1", "ab" * 32, "0-0-0"]), own_names, 10),
]  # fmt: skip
