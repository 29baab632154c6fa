# SPDX-License-Identifier: Apache-2.0
"""Limits of kept containers: stats, update, pause, what is known after an end."""

import json
import os
import signal
from pathlib import Path

import pytest

from minibox import life
from minibox.errors import StateError
from minibox.guests import run_inside
from tests.system import cgroups

HOG = "x=a; while :; do x=$x$x; done"
SHORT = ("--memory", "16m", "--memory-swap", "16m")
MIB = 1 << 20


def pid_of(box, name="c"):
    return box.state(name)["Pid"]


@pytest.fixture
def place(box):
    """`place()`: the container's directory in the tree of pids."""
    return lambda name="c": cgroups.directory(pid_of(box, name), "pids")


def test_it_has_a_cgroup_without_any_limit(box, place):
    box.run()
    assert place().name == box.resident().id
    trees = (
        {"": 1} if cgroups.IS_V2 else dict.fromkeys(("memory", "cpu", "pids", "freezer", "blkio"))
    )
    for names in trees:
        path = cgroups.memberships(pid_of(box))[names]
        assert path == f"/minibox/{box.resident().id}"


def test_it_is_gone_at_the_end_and_comes_again(box, place):
    box.run("--pids", "20")
    first = place()
    life.stop(box.resident(), 0)
    assert not first.exists()
    life.start(box.resident())
    assert place() == first
    life.remove(box.resident(), force=True)
    assert cgroups.left() == []


def test_without_a_monitor_the_next_start_clears_up(box, place, until):
    box.run("--pids", "20")
    os.kill(box.state()["ConmonPid"], signal.SIGKILL)
    until(lambda: box.status() == "exited")
    life.start(box.resident())
    assert box.state()["Running"]
    os.kill(box.state()["ConmonPid"], signal.SIGKILL)
    until(lambda: box.status() == "exited")
    box.do("gc")
    assert cgroups.left() == []


def test_an_end_for_want_of_memory_is_known(box):
    name = box.create(*SHORT, command=("sh", "-c", HOG))
    done = box("start", "-a", name)
    assert (done.returncode, done.stderr) == (137, b"minibox: out of memory (limit 16 MiB)\n")
    assert (box.state()["OOMKilled"], box.state()["ExitCode"]) == (True, 137)
    assert '"oomKilled":"true"' in box.do("events", "--no-stream", "--filter", "event=die")
    life.start(box.resident())
    life.wait(box.resident())
    life.kill  # noqa: B018
    assert box.state()["OOMKilled"]


def test_being_killed_is_another_thing(box):
    box.run(*SHORT)
    life.kill(box.resident(), signal.SIGKILL)
    assert (box.state()["OOMKilled"], box.state()["ExitCode"]) == (False, 137)


def test_one_more_process_is_limited_too(box, place):
    box.run("--pids", "20")
    result = run_inside(box.resident(), ["cat", "/proc/self/cgroup"])
    assert {line.rpartition(b":")[2] for line in result.stdout.splitlines()} == {b"/"}
    hog = run_inside(box.resident(), ["sh", "-c", "for i in $(seq 30); do sleep 9 & done; wait"])
    assert b"fork" in hog.stderr


# stats


def test_stats(box):
    box.run("--memory", "64m", "--pids", "20", command=("sh", "-c", "while :; do :; done"))
    (one,) = json.loads(box.do("stats", "--no-stream", "--json"))
    assert (one["name"], one["status"], one["pids"]) == ("c", "running", 1)
    assert (one["memory_limit_bytes"], one["pids_limit"]) == (64 * MIB, 20)
    assert one["cpu_percent"] > 1
    assert 0 < one["memory_bytes"] < 64 * MIB
    assert (one["net_received_bytes"], one["net_sent_bytes"]) == (0, 0)
    lines = box.do("stats", "--no-stream", "c").splitlines()
    head = [
        "CONTAINER",
        "ID",
        "NAME",
        "CPU",
        "%",
        "MEM",
        "USAGE",
        "/",
        "LIMIT",
        "MEM",
        "%",
        "NET",
        "I/O",
        "BLOCK",
        "I/O",
        "PIDS",
    ]
    assert lines[0].split() == head
    assert "/ 64MiB" in lines[1]
    assert box.do("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}") == "c 1"


def test_stats_go_on(box):
    box.run()
    process = box.begin("stats", "--format", "{{.Name}}")
    assert [process.stdout.readline() for _ in range(2)] == [b"c\n", b"c\n"]
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130


def test_stats_of_what_does_not_run(box):
    box.create()
    assert box.do("stats", "--no-stream", "--format", "{{.Name}}{{.CPUPerc}}") == ""
    assert box.do("stats", "--no-stream", "-a", "--format", "{{.Name}} {{.CPUPerc}}") == "c --"


# update


def test_update_is_at_once_and_for_good(box):
    box.run("--memory", "64m")
    box.do("update", "--memory", "128m", "--pids", "30", "c")  # more than memory and swap were
    for _ in range(2):
        pid = pid_of(box)
        assert cgroups.read(pid, "memory.limit_in_bytes", "memory.max") == str(128 * MIB)
        assert cgroups.read(pid, "pids.max", "pids.max") == "30"
        life.restart(box.resident(), 0)
    box.do("update", "--memory", "32m", "--pids", "-1", "c")
    assert cgroups.read(pid_of(box), "memory.limit_in_bytes", "memory.max") == str(32 * MIB)
    assert cgroups.read(pid_of(box), "pids.max", "pids.max") == "max"
    assert box.inspect()["HostConfig"]["Memory"] == 32 * MIB


def test_update_of_one_that_does_not_run(box):
    box.create()
    box.do("update", "--cpus", "0.5", "c")
    life.start(box.resident())
    assert cgroups.read(pid_of(box), "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"


@pytest.mark.parametrize("words", [("--pids", "20", "--cpuset", "99"), ("--memory", "1m")])
def test_update_is_all_or_nothing(box, words):
    box.run("--memory", "64m", "--pids", "10")
    before = box.inspect()["Options"]
    box.refused("update", *words, "c")
    assert cgroups.read(pid_of(box), "pids.max", "pids.max") == "10"
    assert cgroups.read(pid_of(box), "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    assert box.inspect()["Options"] == before


def test_update_that_the_kernel_refuses_changes_nothing(box):
    box.run("--pids", "10", "--cpus", "0.5")
    if cgroups.IS_V2:
        words = ("--pids", "20", "--cpuset-mems", "999")
    else:
        words = ("--pids", "20", "--cpuset-mems", "7")
    box.refused("update", *words, "c")
    assert cgroups.read(pid_of(box), "pids.max", "pids.max") == "10"


def test_update_needs_a_limit(box):
    box.create()
    assert box.refused("update", "c").startswith("minibox: update: no limit is given")


# pause


def threads_run(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_pause_and_resume(box, until):
    box.run(command=("sh", "-c", "while :; do echo x; done"))
    until(box.log)
    box.do("pause", "c")
    assert (box.status(), box.state()["Paused"], box.state()["Running"]) == ("paused", True, True)
    used = [cgroups.read(pid_of(box), "cpuacct.usage", "cpu.stat").split("\n")[0] for _ in "ab"]
    assert used[0] == used[1]
    assert "(Paused)" in box.do("ps")
    assert box.do("ps", "-q", "--filter", "status=paused")
    assert box.refused("pause", "c") == "minibox: container c is paused already"
    assert box.refused("exec", "c", "true").startswith("minibox: container c is paused\n  hint: ")
    with pytest.raises(StateError, match="is paused"):
        run_inside(box.resident(), ["true"])
    box.do("unpause", "c")
    assert box.status() == "running"
    assert box.refused("resume", "c") == "minibox: container c is not paused"
    box.do("pause", "--all")
    box.do("resume", "--all")
    assert box.status() == "running"
    actions = box.do("events", "--no-stream", "--format", "{{.Action}}").splitlines()
    assert actions[-4:] == ["pause", "unpause"] * 2


def test_what_does_not_run_cannot_be_paused(box):
    box.create()
    for verb in ("pause", "resume"):
        assert box.refused(verb, "c") == "minibox: container c is not running"


@pytest.mark.parametrize(
    "words", [("stop", "-t", "0"), ("stop",), ("kill",), ("rm", "-f")], ids=" ".join
)
def test_a_paused_one_can_be_ended(box, until, words):
    trap = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    box.run(command=("sh", "-c", trap))
    until(box.log)
    life.pause(box.resident())
    box.do(*words, "c")
    if words[0] != "rm":
        assert box.status() == "exited"
        assert box.state()["ExitCode"] == (5 if words == ("stop",) else 137)
        life.remove(box.resident())
    assert cgroups.left() == []


def test_a_paused_one_ends_when_its_time_is_up(box, until):
    box.create("--pids", "20")
    config = box.resident().config
    box.resident().directory.write("config.json", {**config, "timeout": 0.3})
    life.start(box.resident())
    life.pause(box.resident())
    until(lambda: box.status() == "exited")


def test_a_paused_one_whose_monitor_was_killed_is_ended_by_the_next(box, until):
    box.run()
    life.pause(box.resident())
    pid = pid_of(box)
    os.kill(box.state()["ConmonPid"], signal.SIGKILL)
    until(lambda: box.status() == "exited")
    box.do("gc")
    until(lambda: not os.path.exists(f"/proc/{pid}") or threads_run(pid) == "Z")
    assert cgroups.left() == []


def test_a_paused_one_may_have_other_limits(box):
    box.run()
    life.pause(box.resident())
    box.do("update", "--pids", "9", "c")
    assert box.status() == "paused"
    life.resume(box.resident())
    assert cgroups.read(pid_of(box), "pids.max", "pids.max") == "9"
