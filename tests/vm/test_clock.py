# SPDX-License-Identifier: Apache-2.0
"""The clock is set back, and forward. What is measured goes by clocks that are not set
(clock_gettime(2), CLOCK_MONOTONIC)."""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from tests.system.conftest import SLEEP

HOUR = 3600
RUN = ("run", "-d", "--name", "c")


@pytest.fixture
def clock():
    """`clock(-3600)` sets it; afterwards it is what it would have been."""
    ahead = time.time() - time.monotonic()
    yield lambda seconds: time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)
    time.clock_settime(time.CLOCK_REALTIME, time.monotonic() + ahead)


@pytest.mark.parametrize("by", [-HOUR, HOUR])
def test_a_time_limit_is_of_time_that_passes(box, clock, until, by):
    box.do(*RUN, "--timeout", "1s", box.rootfs, *SLEEP)
    clock(by)
    assert box.do("wait", "c") == "137"


@pytest.mark.parametrize("by", [-HOUR, HOUR])
def test_a_time_limit_is_not_up_early(box, clock, by):
    box.do(*RUN, "--timeout", "1h", box.rootfs, *SLEEP)
    clock(by)
    assert box.do("exec", "c", "echo", "on") == "on"
    assert box.status() == "running"


def test_a_stop_waits_as_long_as_it_says(box, clock):
    """Five seconds are for the container to end by itself; it does after the clock went back."""
    box.run(command=("sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done"))
    process = box.begin("stop", "-t", "60", "c")
    clock(-HOUR)
    assert box.finish(process).returncode == 0
    assert box.state()["ExitCode"] == 7


@pytest.mark.parametrize("by", [-HOUR, HOUR])
def test_one_that_runs_is_known(box, clock, by):
    """By its start in ticks since boot, not by a date."""
    box.run()
    clock(by)
    assert box.status() == "running"
    assert "running" in box.do("ps", "--format", "{{.State}}")
    assert box.do("ps", "--format", "{{.Status}}").startswith("Up ")
    assert json.loads(box.do("stats", "--no-stream", "--json"))[0]["status"] == "running"
    assert box.do("top", "c")
    box.do("restart", "-t", "0", "c")
    assert box.status() == "running"


def test_it_is_restarted_all_the_same(box, clock, until):
    """The pause before a restart is one of time that passes."""
    box.run("--restart", "always", command=("false",))
    until(lambda: box.inspect()["RestartCount"] >= 1)
    clock(-HOUR)
    seen = box.inspect()["RestartCount"]
    until(lambda: box.inspect()["RestartCount"] > seen)
    box.do("rm", "-f", "c")


def test_health_is_looked_after_all_the_same(box, clock, until):
    box.run("--health-cmd", "test -e /etc/passwd", "--health-interval", "1s")
    until(lambda: box.state()["Health"]["Status"] == "healthy")
    clock(-HOUR)
    before = len(box.state()["Health"]["Log"])
    until(lambda: len(box.state()["Health"]["Log"]) > before or before >= 5)
    assert box.state()["Health"]["Status"] == "healthy"


def test_logs_are_in_the_order_of_writing(box, clock):
    """Whatever the dates beside the lines say."""
    box.run(command=("sh", "-c", "echo one; read x </etc/passwd; sleep 1000"))
    box.do("exec", "c", "sh", "-c", "echo two >/proc/1/fd/1")
    clock(-HOUR)
    box.do("exec", "c", "sh", "-c", "echo three >/proc/1/fd/1")
    assert box.do("logs", "c").splitlines() == ["one", "two", "three"]
    assert box.do("logs", "--tail", "1", "c") == "three"


def test_who_follows_sees_what_comes(box, clock):
    box.run(command=("sh", "-c", "echo one; cat </proc/self/fd/0; sleep 1000"))
    process = box.begin("logs", "-f", "c")
    assert process.stdout.readline() == b"one\n"
    clock(-HOUR)
    box.do("exec", "c", "sh", "-c", "echo two >/proc/1/fd/1")
    assert process.stdout.readline() == b"two\n"
    box.do("rm", "-f", "c")
    assert box.finish(process).returncode == 0


def test_events_are_all_there(box, clock):
    box.run()
    clock(-HOUR)
    box.do("stop", "-t", "0", "c")
    clock(HOUR)
    said = box.do("events", "--since", "3h", "--until", "0s", "--format", "{{.Action}}").split()
    assert {"create", "start", "die", "stop"} <= set(said)


def test_clocks_inside_do_not_jump(inside, clock):
    """CLOCK_BOOTTIME with an offset of ours goes on from there."""
    clock(-HOUR)
    found = float(inside("cut -d ' ' -f 1 /proc/uptime", "--boottime", "86400", "--init"))
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert now + 86400 - 60 < found <= now + 86400


def test_seccomp_filters_made_in_the_future_are_used(cli, rootfs, clock):
    """A cache whose files are newer than now."""
    cli("run", rootfs, "/bin/true")
    clock(-HOUR)
    assert cli("run", rootfs, "/bin/true").returncode == 0
    assert subprocess.run(["true"]).returncode == 0
