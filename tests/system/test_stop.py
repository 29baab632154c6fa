# SPDX-License-Identifier: Apache-2.0
"""stop and kill: which signal comes, to whom, and when it is SIGKILL."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.conftest import PATIENCE

CATCH = "trap 'echo caught; exit 7' {}; echo ready; while :; do sleep 1000 & wait; done"
IGNORE = "trap '' {}; echo ready; while :; do sleep 1000; done"
# More than a stop takes, less than the ten seconds after which it kills.
SOON = 6.0
WAYS = [(), ("--init",), ("--share=pid",), ("--userns=host",), ("--user=1000",)]


@pytest.fixture
def shell(box, until):
    """`shell(script, options…)`: a container whose shell runs it, once it has said `ready`."""

    def run(script, *options):
        box.run(*options, command=("/bin/sh", "-c", script))
        until(lambda: b"ready\n" in box.log())

    return run


def stop_in_time(box, *words):
    """The container's exit code after a stop that did not wait for its time to be over."""
    began = time.monotonic()
    assert box.do("stop", *words, "c") == "c"
    assert time.monotonic() - began < SOON
    assert box.status() == "exited"
    return box.state()["ExitCode"]


def descendants(pid):
    found = []
    try:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += [int(child), *descendants(int(child))]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def letter(pid):
    """The state of a process, as proc_pid_stat(5) has it; "" when it is gone. A zombie waits for
    its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


# What stop sends.


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_a_handler_has_its_say(box, shell, options):
    shell(CATCH.format("TERM"), *options)
    assert stop_in_time(box) == 7
    assert b"caught\n" in box.log()
    assert box.state()["Signal"] == 0


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_one_without_a_handler_ends_at_once(box, options):
    """PID 1 is spared the signal, which must not cost the ten seconds."""
    box.run(*options)
    has_init = options in [("--init",), ("--share=pid",)]
    assert stop_in_time(box) == (143 if has_init else 137)


@pytest.mark.parametrize("options", [(), ("--init",), ("--share=pid",)], ids=str)
def test_one_that_ignores_it_is_killed_when_its_time_is_over(box, shell, options):
    shell(IGNORE.format("TERM"), *options)
    pid = box.state()["Pid"]
    inside = [pid, *descendants(pid)]
    began = time.monotonic()
    box.do("stop", "--time", "1", "c")
    assert time.monotonic() - began >= 1
    assert box.state()["ExitCode"] == 137
    assert not [pid for pid in inside if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize("options", [(), ("--init",), ("--share=pid",)], ids=str)
def test_no_time_at_all_is_a_kill(box, shell, options):
    shell(CATCH.format("TERM"), *options)
    assert stop_in_time(box, "-t", "0") == 137
    assert b"caught" not in box.log()


def test_the_time_may_be_set_once_and_for_all(box, shell):
    shell(IGNORE.format("TERM"), "--stop-timeout", "0")
    assert stop_in_time(box) == 137


def test_the_time_of_the_stop_counts_more(box, shell):
    shell(CATCH.format("TERM"), "--stop-timeout", "0")
    assert stop_in_time(box, "-t", "60") == 7


@pytest.mark.parametrize("options", [(), ("--init",)], ids=str)
@pytest.mark.parametrize(
    ("signal", "name"), [("INT", "INT"), ("SIGUSR1", "USR1"), ("12", "USR2"), ("RTMIN+3", "37")]
)
def test_another_signal_may_be_asked_for(box, shell, options, signal, name):
    shell(CATCH.format(name), "--stop-signal", signal, *options)
    assert stop_in_time(box) == 7


def test_the_signal_of_the_stop_counts_more(box, shell):
    shell(CATCH.format("USR1"), "--stop-signal", "USR2")
    assert stop_in_time(box, "--signal", "USR1") == 7


@pytest.mark.parametrize(
    "words", [("-t", "-1"), ("-t", "x"), ("-t", "1.5"), ("-t", ""), ("-s", "x"), ("-s", "0")]
)
def test_a_stop_that_makes_no_sense_does_nothing(box, words):
    box.run()
    box.refused("stop", *words, "c")
    assert box.status() == "running"


def test_stop_of_one_that_does_not_run_is_fine(box):
    box.create()
    assert box.do("stop", "c") == "c"
    assert box.status() == "created"
    box.run(name="d", command=("/bin/sh", "-c", "exit 3"))
    box.do("wait", "d")
    before = box.state("d")
    assert box.do("stop", "d") == "d"
    assert box.state("d") == before


def test_stop_of_many(box):
    box.run(name="one")
    box.run(name="two")
    done = box("stop", "one", "none", "two")
    assert (done.returncode, done.stdout) == (125, b"one\ntwo\n")
    assert done.stderr == b"minibox: none: no such container\n"
    assert (box.status("one"), box.status("two")) == ("exited", "exited")


def test_stop_of_all(box):
    box.create(name="created")
    box.run(name="one")
    box.run(name="two")
    ids = {box.inspect(name)["Id"] for name in ("one", "two")}
    assert set(box.do("stop", "--all").split()) == ids
    assert {box.status(name) for name in ("one", "two")} == {"exited"}
    assert box.do("stop", "--all") == ""


@pytest.mark.parametrize("options", [(), ("--init",), ("--share=pid",)], ids=str)
def test_what_it_has_left_in_the_background_ends_as_well(box, shell, until, options):
    script = "setsid sh -c 'trap \"\" TERM; while :; do sleep 1000; done' & "
    shell(script + CATCH.format("TERM"), *options)
    pid = box.state()["Pid"]
    inside = until(lambda: len(found := descendants(pid)) >= 3 and found)
    assert stop_in_time(box) == 7
    assert not [pid for pid in inside if Path(f"/proc/{pid}").exists()]


def test_one_that_stands_still_is_killed(box, shell, until):
    shell(CATCH.format("TERM"), "--stop-timeout", "1")
    box.do("kill", "-s", "STOP", "c")
    until(lambda: letter(box.state()["Pid"]) == "T")
    assert stop_in_time(box) == 137
    assert b"caught" not in box.log()


# kill


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_kill(box, options):
    box.run(*options)
    pid = box.state()["Pid"]
    assert box.do("kill", "c") == "c"
    assert not Path(f"/proc/{pid}").exists()
    state = box.state()
    assert (state["Status"], state["ExitCode"], state["Signal"]) == ("exited", 137, 9)


@pytest.mark.parametrize("options", WAYS[:3], ids=str)
def test_kill_with_another_signal_runs_its_handler(box, shell, options):
    shell(CATCH.format("USR1"), *options)
    box.do("kill", "--signal=SIGUSR1", "c")
    assert box.do("wait", "c") == "7"


def test_a_kill_that_is_caught_is_no_end(box, shell, until):
    shell("trap 'echo caught' HUP; echo ready; while :; do sleep 1000 & wait; done")
    pid = box.state()["Pid"]
    box.do("kill", "-s", "HUP", "c")
    until(lambda: b"caught" in box.log())
    assert (box.status(), box.state()["Pid"]) == ("running", pid)


def test_the_kernel_spares_pid_1_what_it_has_no_handler_for(box):
    """As everywhere: kill sends, stop ends."""
    box.run()
    box.do("kill", "-s", "TERM", "c")
    assert box.do("exec", "c", "echo", "here") == "here"
    assert box.status() == "running"


def test_with_an_init_it_is_not_spared(box):
    box.run("--init")
    box.do("kill", "-s", "USR1", "c")
    assert box.do("wait", "c") == str(128 + 10)


def test_kill_of_one_that_does_not_run(box):
    box.create()
    assert box.refused("kill", "c") == "minibox: container c is not running"
    box.run(name="d")
    box.do("kill", "d")
    assert box.refused("kill", "d") == "minibox: container d is not running"


@pytest.mark.parametrize("name", ["", "0", "65", "-9", "SIGNOTHING", "TERM INT", "RTMIN+31"])
def test_kill_with_what_is_no_signal(box, name):
    box.run()
    assert "is no signal" in box.refused("kill", f"--signal={name}", "c")
    assert box.status() == "running"


def test_kill_of_all(box):
    box.run(name="one")
    box.run(name="two")
    box.create(name="created")
    box.do("kill", "-a")
    assert {box.state(name)["ExitCode"] for name in ("one", "two")} == {137}
    assert box.status("created") == "created"


# A shared pid namespace: the container's processes have neighbours.


def test_with_a_shared_pid_namespace_nobody_else_is_hit(box, helper):
    neighbour = helper("--user", "--map-root-user")
    box.run("--share=pid")
    box.do("stop", "c")
    box.do("start", "c")
    box.do("kill", "c")
    assert neighbour.process.poll() is None
    os.kill(neighbour.pid, 0)


def test_a_container_whose_monitor_is_killed_dies_with_it(box, until):
    box.run("--share=pid", command=("/bin/sh", "-c", "setsid sleep 1000 & exec sleep 1000"))
    state = box.state()
    until(lambda: len(descendants(state["Pid"])) == 2)
    inside = [state["Pid"], *descendants(state["Pid"])]
    os.kill(state["ConmonPid"], 9)
    until(lambda: not [pid for pid in inside if letter(pid) not in ("", "Z")])
    state = box.state()
    assert (state["Status"], state["ExitCode"]) == ("exited", 137)
    assert state["Error"] == "its monitor was killed"
    box.do("start", "c")
    assert box.status() == "running"


@pytest.mark.parametrize("options", [(), ("--init",)], ids=["first", "with an init"])
def test_who_lives_longer_than_the_timeout_is_killed_and_it_is_said(box, options):
    timeout = f"{300 * PATIENCE:.0f}ms"  # enough for a start and a kill
    done = box(
        "run", "--name", "c", "--timeout", timeout, *options, box.rootfs, "/bin/sleep", "1000"
    )
    said = b"minibox: the container has ended: its time was up (--timeout)\n"
    assert (done.returncode, done.stdout, done.stderr) == (137, b"", said)
    assert box.state()["Error"] == "its time was up (--timeout)"
    box.do("start", "c")
    box.do("kill", "c")
    assert box.state()["Error"] == ""


def test_who_has_anothers_network_is_stopped_and_removed_as_all_others(box):
    box.run(name="first")
    box.run("--net=container:first", name="c")
    assert box.do("inspect", "-f", "{{.HostConfig.NetworkMode}}", "c") == "container:first"
    assert box.do("stop", "-t", "1", "c") == "c"
    assert box.status() == "exited"
    box.run("--net=container:first", name="d")
    assert box.do("rm", "-f", "d") == "d"
