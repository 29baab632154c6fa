# SPDX-License-Identifier: Apache-2.0
"""What comes after an end: the restart policies, what wins over them, and the verb restart."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from minibox import life
from minibox.directory import try_lock

# The first of these delays is 100 ms, each one after it twice as long (minibox/life/start.py).
FIRST_DELAY = 0.1


def counting(script):
    """A command that says in /mnt/count that it has begun."""
    return ("/bin/sh", "-c", f"echo begun >> /mnt/count; {script}")


@pytest.fixture
def counted(box, tmp_path):
    """`counted("exit 3", options…)`: a container that counts its starts; `counted.times()`."""
    count = tmp_path / "count"

    def run(script, *options):
        box.run("-v", f"{tmp_path}:/mnt", *options, command=counting(script))

    run.times = lambda: len(count.read_text().splitlines()) if count.exists() else 0
    return run


@pytest.fixture
def at_rest(box, until):
    """`at_rest()`: its state, once it has ended and nothing of it, monitor included, is alive."""

    def wait(name="c"):
        directory = box.resident(name).directory
        until(lambda: not directory.is_alive() and box.status(name) == "exited" and not busy(box))
        return box.state(name)

    return wait


def busy(box):
    """Is a monitor of the box's, or what it has become, alive?"""
    root = os.fsencode(str(box.root))
    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            is_monitor = Path(f"/proc/{pid}/comm").read_text() == "minibox-monitor\n"
        except (FileNotFoundError, ProcessLookupError):
            continue
        if (root in words or is_monitor) and not is_zombie(pid):
            return True
    return False


def is_zombie(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def restarting(box, until, least=2):
    """Wait for a time in which it waits to be restarted, a long one."""
    until(lambda: box.inspect()["RestartCount"] >= least and box.status() == "restarting")


# The policies.


@pytest.mark.parametrize("options", [(), ("--restart", "no")])
def test_without_a_policy_it_stays_as_it_ended(counted, at_rest, options):
    counted("exit 3", *options)
    state = at_rest()
    assert (state["Status"], state["ExitCode"]) == ("exited", 3)
    assert counted.times() == 1


@pytest.mark.parametrize("policy", ["always", "unless-stopped"])
@pytest.mark.parametrize("code", [0, 3])
def test_always_is_always(box, counted, until, policy, code):
    counted(f"test $(wc -l < /mnt/count) = 3 && exec sleep 1000; exit {code}", "--restart", policy)
    until(lambda: counted.times() == 3 and box.status() == "running")
    shown = box.inspect()
    assert shown["RestartCount"] == 2
    assert shown["HostConfig"]["RestartPolicy"]["Name"] == policy
    assert box.do("exec", "c", "echo", "here") == "here"


def test_each_time_it_is_the_same_container(box, tmp_path, until):
    script = "echo $(hostname) $SAID $1 $(pwd) $(cat /proc/self/uid_map) >> /mnt/line; exit 1"
    options = ("-v", f"{tmp_path}:/mnt", "-e", "SAID=before", "-w", "/tmp")
    box.run(*options, "--restart=on-failure:2", command=("sh", "-c", script, "sh", "word"))
    until(lambda: box.inspect()["RestartCount"] == 2 and box.status() == "exited")
    lines = (tmp_path / "line").read_text().splitlines()
    assert len(lines) == 3
    assert len(set(lines)) == 1
    assert lines[0].startswith(f"{box.inspect()['Id'][:12]} before word /tmp ")


def test_on_failure_ends_with_a_success(box, counted, at_rest):
    counted("test $(wc -l < /mnt/count) = 3; exit $?", "--restart", "on-failure")
    assert at_rest()["ExitCode"] == 0
    assert counted.times() == 3
    assert box.inspect()["RestartCount"] == 2


def test_on_failure_leaves_a_success_alone(counted, at_rest):
    counted("exit 0", "--restart", "on-failure")
    assert at_rest()["ExitCode"] == 0
    assert counted.times() == 1


@pytest.mark.parametrize("most", [1, 2])
def test_on_failure_has_a_limit(box, counted, at_rest, most):
    counted("exit 7", "--restart", f"on-failure:{most}")
    assert at_rest()["ExitCode"] == 7
    assert counted.times() == most + 1
    assert box.inspect()["HostConfig"]["RestartPolicy"] == {
        "Name": "on-failure",
        "MaximumRetryCount": most,
    }


def test_an_end_by_a_signal_is_a_failure(box, counted, until):
    counted("exec sleep 1000", "--init", "--restart", "on-failure")
    box.do("kill", "-s", "USR1", "c")
    until(lambda: counted.times() == 2 and box.status() == "running")


def test_the_pauses_become_longer(counted, box, at_rest):
    counted("echo now; exit 1", "--restart", "on-failure:3")
    at_rest()
    times = [line.split()[0].decode()[:26] for line in box.log().splitlines()]
    moments = [datetime.fromisoformat(text).timestamp() for text in times]
    pauses = [after - before for before, after in pairwise(moments)]
    assert len(pauses) == 3
    for k, pause in enumerate(pauses):
        assert pause >= FIRST_DELAY * 2**k


def test_in_between_it_is_restarting(box, counted, until):
    counted("exit 3", "--restart", "always")
    restarting(box, until)
    assert "is not running" in box.refused("exec", "c", "true")
    assert "is not running" in box.refused("attach", "c")
    assert box.do("ps", "--format", "{{.State}} {{.Status}}").startswith(
        "restarting Restarting (3)"
    )


# What wins over them.


@pytest.fixture
def at_its_end(box, until):
    """While this lasts, the container's monitor is the command that follows its end, and waits for
    the lock. Gives its pid."""

    @contextlib.contextmanager
    def held():
        lock = os.open(box.files() / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            assert try_lock(lock)
            monitor = box.resident().directory.read("run.json")["monitor"]
            until(lambda: Path(f"/proc/{monitor}/comm").read_text() != "minibox-monitor\n")
            yield monitor
        finally:
            os.close(lock)

    return held


@pytest.mark.parametrize(
    ("words", "policy"),
    [
        (("stop",), "always"),
        (("stop",), "unless-stopped"),
        (("stop", "-t", "0"), "on-failure"),
        (("stop", "-a"), "always"),
        (("kill",), "always"),
        (("kill",), "on-failure"),
        (("kill", "-s", "TERM"), "always"),
    ],
)
def test_one_that_is_stopped_stays_so(box, counted, at_rest, until, words, policy):
    counted(
        "trap 'exit 9' TERM; echo ready; while :; do sleep 1000 & wait; done", "--restart", policy
    )
    until(lambda: b"ready" in box.log())
    box.do(*words, *(() if "-a" in words else ("c",)))
    at_rest()
    assert counted.times() == 1


@pytest.mark.parametrize(
    "words", [("stop", "c"), ("stop", "--all"), ("kill", "c"), ("rm", "-f", "c")]
)
def test_one_that_waits_for_its_restart_is_not_restarted(box, counted, until, at_rest, words):
    counted("exit 3", "--restart", "always")
    restarting(box, until)
    box.do(*words)
    if words[0] == "rm":
        until(lambda: not busy(box))
        assert box.names() == set()
    else:
        at_rest()
    times = counted.times()
    assert not busy(box)
    assert counted.times() == times


@pytest.mark.parametrize("words", [("stop", "c"), ("rm", "-f", "c"), ("rm", "c")])
def test_no_end_is_too_late_for_a_stop(box, counted, at_its_end, until, words):
    """The monitor has become the command that starts anew, and has not come to it."""
    counted("test $(wc -l < /mnt/count) = 1 || exec sleep 1000; exit 3", "--restart", "always")
    with at_its_end() as monitor:
        os.kill(monitor, signal.SIGSTOP)
    try:
        done = box(*words)
    finally:
        os.kill(monitor, signal.SIGCONT)
    until(lambda: not Path(f"/proc/{monitor}").exists() or is_zombie(monitor))
    if done.returncode == 0:
        assert not busy(box), "it was started although it had been stopped"
        assert counted.times() == 1
    else:
        assert words == ("rm", "c")  # which may say that it is about to run


def test_rm_by_force_waits_for_nobody_who_waits_for_it(box, counted, at_its_end):
    """The monitor has become the command that would see that there is nothing to be done."""
    counted("exit 0", "--restart", "on-failure")
    with at_its_end() as monitor:
        os.kill(monitor, signal.SIGSTOP)
    try:
        done = box.finish(box.begin("rm", "-f", "c"), patience=3)
    finally:
        os.kill(monitor, signal.SIGCONT)
    assert (done.returncode, done.stderr) == (0, b"")


def test_until_it_is_started_again_it_is_restarting(box, counted, at_its_end, until):
    """Also while the monitor has become the command that starts it anew."""
    counted("test $(wc -l < /mnt/count) = 1 || exec sleep 1000; exit 3", "--restart", "always")
    with at_its_end():
        status = box.status()
    until(lambda: counted.times() == 2)
    assert status == "restarting"


def test_rm_of_one_that_is_restarting_wants_force(box, counted, until):
    counted("exit 3", "--restart", "always")
    restarting(box, until)
    box.refused("rm", "c")
    assert box.names() == {"c"}
    box.do("rm", "-f", "c")
    assert box.names() == set()


def test_rm_of_all_leaves_alone_what_is_restarting(box, counted, until):
    counted("exit 3", "--restart", "always")
    restarting(box, until)
    assert box.do("rm", "--all") == ""
    assert box.names() == {"c"}


def test_a_policy_with_nothing_to_do_is_in_nobodys_way(box):
    """`wait` has said that it is over."""
    box.create("--restart", "on-failure", command=("true",))
    container = box.resident()
    box.do("start", "c")
    assert life.wait(container).exit_code == 0
    status = container.state().status
    box("rm", "-f", "c")
    assert status == "exited"


def test_a_signal_that_is_no_stop_leaves_the_policy_alone(box, counted, until):
    counted(
        "trap 'exit 9' USR1; echo ready; while :; do sleep 1000 & wait; done", "--restart=always"
    )
    until(lambda: b"ready" in box.log())
    box.do("kill", "-s", "USR1", "c")
    until(lambda: counted.times() == 2)


def test_once_started_again_the_policy_counts_again(box, counted, until):
    counted("test $(wc -l < /mnt/count) = 2 && exit 3; exec sleep 1000", "--restart", "always")
    until(lambda: counted.times() == 1)
    box.do("stop", "c")
    box.do("start", "c")
    until(lambda: counted.times() == 3 and box.status() == "running")
    assert box.inspect()["RestartCount"] == 1


def test_with_its_monitor_killed_nobody_restarts_it(box, counted, at_rest, until):
    counted("exec sleep 1000", "--restart", "always")
    until(lambda: counted.times() == 1)
    os.kill(box.state()["ConmonPid"], signal.SIGKILL)
    state = at_rest()
    assert (state["ExitCode"], state["Error"]) == (137, "its monitor was killed")
    assert counted.times() == 1
    box.do("start", "c")
    assert box.status() == "running"


def test_one_that_cannot_be_started_any_more_is_exited(box, tmp_path, until, at_rest):
    volume = tmp_path / "volume"
    volume.mkdir()
    options = ("-v", f"{volume}:/opt", "-v", f"{tmp_path}:/mnt", "--restart", "always")
    box.run(*options, command=("sh", "-c", "rmdir /mnt/volume; exit 3"))
    until(lambda: not volume.exists())
    assert at_rest()["ExitCode"] == 3


# The verb restart.


def test_restart_of_one_that_runs(box, counted, until):
    counted("trap 'exit 0' TERM; echo ready; while :; do sleep 1000 & wait; done")
    until(lambda: b"ready" in box.log())
    before = box.state()
    assert box.do("restart", "c") == "c"
    after = box.state()
    assert after["Status"] == "running"
    assert after["Pid"] != before["Pid"]
    assert after["StartedAt"] > before["StartedAt"]
    assert not Path(f"/proc/{before['Pid']}").exists()
    until(lambda: counted.times() == 2)
    assert box.inspect()["RestartCount"] == 0


def test_restart_of_one_that_does_not_run_starts_it(box):
    box.create()
    box.do("restart", "c")
    assert box.status() == "running"
    box.do("stop", "c")
    box.do("restart", "c")
    assert box.status() == "running"


def test_restart_of_one_that_is_restarting(box, counted, until):
    counted("test $(wc -l < /mnt/count) -ge 4 && exec sleep 1000; exit 3", "--restart", "always")
    restarting(box, until)
    box.do("restart", "c")
    until(lambda: counted.times() == 4 and box.status() == "running")


def test_restart_has_a_time_for_the_stop(box, until):
    box.run(command=("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1000; done"))
    until(lambda: b"ready" in box.log())
    began = time.monotonic()
    box.do("restart", "--time", "0", "c")
    assert time.monotonic() - began < 6
    assert box.status() == "running"


def test_a_restart_that_fails_leaves_it_stopped(box, tmp_path):
    volume = tmp_path / "volume"
    volume.mkdir()
    box.run("-v", f"{volume}:/mnt")
    volume.rmdir()
    assert str(volume) in box.refused("restart", "c")
    assert box.status() == "exited"


def test_restart_of_many(box):
    box.run(name="one")
    box.create(name="two")
    done = box("restart", "one", "none", "two")
    assert (done.returncode, done.stdout) == (125, b"one\ntwo\n")
    assert done.stderr == b"minibox: none: no such container\n"


def test_who_follows_the_log_sees_all_starts(box):
    box.run("--restart", "on-failure:2", command=("/bin/sh", "-c", "echo begun; exit 3"))
    done = box("logs", "-f", "c")
    assert (done.returncode, done.stdout) == (0, b"begun\n" * 3)
