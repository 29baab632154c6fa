# SPDX-License-Identifier: Apache-2.0
"""State that is not true any more: pids that somebody else has now, files of another boot, torn
files. Who is not the container's process, is never signalled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from minibox import life
from minibox.directory import try_lock
from minibox.resident import boot_id, start_time
from minibox.store import Store

OTHER_BOOT = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def bystander():
    """A process that has nothing to do with containers; it must be alive at the end. What comes
    after it begins at another tick of the clock."""
    process = subprocess.Popen(["sleep", "1000"])
    ticks = os.sysconf("SC_CLK_TCK")
    while time.clock_gettime(time.CLOCK_BOOTTIME) * ticks < start_time(process.pid) + 1:
        pass
    yield process
    assert process.poll() is None, "a bystander was hit"
    process.kill()
    process.wait()


@pytest.fixture
def edit(box):
    """`edit(pid=5)` changes what run.json says, at once."""

    def put(name="c", **changes):
        path = box.files(name) / "run.json"
        beside = path.with_name(".edited")
        beside.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        os.rename(beside, path)

    return put


@pytest.fixture
def end(until):
    """`end(state)`: kill a container by the monitor that `state` names; it is gone then."""

    def kill(state):
        os.kill(state["ConmonPid"], signal.SIGKILL)
        until(lambda: not is_alive(state["Pid"]) and not is_alive(state["ConmonPid"]))

    return kill


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


VERBS = [("stop", "-t", "0"), ("stop",), ("kill",), ("kill", "-s", "TERM"), ("exec",), ("restart",)]


# A pid that somebody else has now.


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_who_has_the_pid_now_is_left_alone(box, edit, bystander, words):
    box.run()
    true = box.state()["Pid"]
    edit(pid=bystander.pid)
    last = ("c", "true") if words == ("exec",) else ("c",)
    assert "container c is not running" in box.refused(*words, *last)
    assert bystander.poll() is None
    edit(pid=true)
    assert box.do("exec", "c", "echo", "here") == "here"


def _reads_signals(pid):
    try:
        return any("signalfd" in os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        return False  # an fd was closed while we looked


def test_a_signal_of_who_is_attached_goes_to_nobody_else(box, edit, bystander, until):
    box.run()
    attached = box.begin("attach", "c")
    until(lambda: _reads_signals(attached.pid))
    edit(pid=bystander.pid)
    attached.send_signal(signal.SIGTERM)
    box.do("rm", "-f", "c")
    assert box.finish(attached).returncode == 137


def test_rm_by_force_finds_the_container_all_the_same(box, edit, bystander):
    box.run()
    state = box.state()
    edit(pid=bystander.pid, monitor=bystander.pid)
    box.do("rm", "-f", "c")
    assert box.names() == set()
    assert not is_alive(state["Pid"])
    assert not is_alive(state["ConmonPid"])


@pytest.mark.parametrize("words", [("stop", "c"), ("rm", "-f", "c")], ids=" ".join)
def test_who_has_the_monitors_pid_now_is_left_alone(box, edit, bystander, until, words):
    box.run("--restart", "always", command=("false",))
    until(lambda: box.inspect()["RestartCount"] == 3 and box.status() == "restarting")
    true = box.state()["ConmonPid"]
    edit(monitor=bystander.pid)
    box.finish(box.begin(*words), patience=20)
    assert bystander.poll() is None
    if box.names():
        edit(monitor=true)
        box.do("rm", "-f", "c")
    until(lambda: not is_alive(true))


@pytest.mark.parametrize("pid", [0, -1, 1, os.getpid(), 1 << 40])
def test_numbers_that_are_no_containers_pid(box, edit, pid):
    box.run()
    true = box.state()
    edit(pid=pid, monitor=pid)
    try:
        for words in (("stop", "-t", "0", "c"), ("exec", "c", "true")):
            assert b"internal error" not in box(*words).stderr
        said = box.refused("kill", "c")
        is_pid = 0 <= pid < 1 << 31
        assert ("is not running" if is_pid else "pid is missing or wrong") in said
        box.do("rm", "-f", "c")
        assert box.names() == set()
    finally:
        if box.names():
            edit(pid=true["Pid"], monitor=true["ConmonPid"])


# Another boot.


def test_after_another_boot_it_has_ended(box, edit, end, bystander):
    """Its pid may be anybody's, with the same start time by chance."""
    box.run()
    end(box.state())
    edit(boot_id=OTHER_BOOT, pid=bystander.pid, start_time=start_time(bystander.pid))
    state = box.state()
    assert (state["Status"], state["Pid"], state["ExitCode"]) == ("exited", 0, 137)
    assert "is not running" in box.refused("kill", "c")
    assert "is not running" in box.refused("exec", "c", "true")
    assert box.do("stop", "c") == "c"
    assert box.do("wait", "c") == "137"
    box.do("start", "c")
    assert box.status() == "running"
    assert box.resident().directory.read("run.json")["boot_id"] == boot_id()


def test_another_boot_counts_more_than_a_lock(box, edit, end, bystander):
    box.run()
    end(box.state())
    edit(boot_id=OTHER_BOOT, pid=bystander.pid, start_time=start_time(bystander.pid))
    held = os.open(box.files() / "alive", os.O_RDWR)
    try:
        assert try_lock(held)
        assert box.status() == "exited"
        assert "is not running" in box.refused("kill", "c")
    finally:
        os.close(held)


def test_after_another_boot_the_monitors_pid_is_anybodys(box, edit, end, until, bystander):
    """It was about to be restarted when the machine went down."""
    box.run("--restart", "always", command=("false",))
    until(lambda: box.inspect()["RestartCount"] == 2 and box.status() == "restarting")
    monitor = box.state()["ConmonPid"]
    os.kill(monitor, signal.SIGKILL)
    until(lambda: not is_alive(monitor))
    began = start_time(bystander.pid)
    edit(boot_id=OTHER_BOOT, monitor=bystander.pid, monitor_start_time=began)
    held = os.open(box.files() / "alive", os.O_RDWR)
    try:
        assert try_lock(held)
        box("stop", "c", "-t", "0")
        assert bystander.poll() is None
    finally:
        os.close(held)
    assert box.status() == "exited"


def test_after_another_boot_rm_needs_no_force(box, edit, end):
    box.run()
    end(box.state())
    edit(boot_id=OTHER_BOOT)
    box.do("rm", "c")
    assert box.names() == set()


# Torn, hostile and missing files.

TORN = {
    "empty": b"",
    "binary": bytes(range(256)),
    "half": b'{"version": 1, "run": 1, "pid": 12',
    "list": b"[1, 2]",
    "null": b"null",
    "deep": b"[" * 100_000,
    "huge number": b'{"version": 1, "run": ' + b"9" * 10_000 + b"}",
    "other version": b'{"version": 999}',
    "wrong kinds": b'{"version":1,"id":[],"name":{},"args":"x","options":[],"run":"1","pid":null}',
    "bools": b'{"version": 1, "run": true, "pid": true, "start_time": true, "monitor": true}',
}


@pytest.mark.parametrize("file", ["config.json", "run.json"])
@pytest.mark.parametrize("text", TORN.values(), ids=TORN)
def test_a_torn_file_is_said_and_can_be_removed(box, file, text):
    box.run()
    state, id_, path = box.state(), box.inspect()["Id"], box.files() / file
    path.write_bytes(text)
    verbs = (("stop", id_), ("inspect", id_), ("rm", id_), ("ps", "-a"))
    for words in verbs if text == TORN["half"] else verbs[1:2]:
        done = box(*words)
        assert b"internal error" not in done.stderr, done
        if words[0] != "ps":
            assert done.returncode == 125
        assert done.stderr.startswith(f"minibox: container {id_[:12]}: {file} cannot".encode())
        assert done.stderr.count(b"minibox: ") == 1
        assert done.stderr.endswith(f"hint: minibox rm -f {id_[:12]} removes it\n".encode())
    assert is_alive(state["Pid"])
    assert box.do("rm", "-f", id_) == id_
    assert not is_alive(state["Pid"])
    for _ in life.gc(Store(str(box.root))):
        pass
    assert not any(os.listdir(box.root / kind) for kind in ("names", "ids", "containers"))


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink(path, path)])
@pytest.mark.parametrize("file", ["config.json", "run.json"])
def test_a_file_that_is_something_else(box, file, make):
    box.create()
    id_, path = box.inspect()["Id"], box.files() / file
    path.unlink(missing_ok=True)
    make(path)
    try:
        for words in (("inspect", id_), ("rm", "-f", id_)):
            done = box.finish(box.begin(*words), patience=3)
            assert b"internal error" not in done.stderr
    finally:
        if path.is_fifo():
            path.unlink()
    assert not os.listdir(box.root / "containers")


@pytest.mark.parametrize("file", ["config.json", "run.json"])
def test_each_word_of_a_file_may_be_missing(box, file):
    box.run()
    id_, path = box.inspect()["Id"], box.files() / file
    whole = json.loads(path.read_text())
    wrong = []
    for key in whole:
        path.write_text(json.dumps({name: value for name, value in whole.items() if name != key}))
        done = box("inspect", id_)
        if b"internal error" in done.stderr:
            wrong.append((key, done.stderr))
    path.write_text(json.dumps(whole))
    assert wrong == []


@pytest.mark.parametrize(
    "text", [b"", b" " * 128, b"{}", b'{"exit_code": "x"}', b"\xff" * 128, b"[" * 128]
)
def test_an_end_that_cannot_be_read_is_one_that_was_killed(box, until, text):
    box.run(command=("true",))
    until(lambda: box.status() == "exited" and not box.resident().directory.is_alive())
    (box.files() / "exit-1.json").write_bytes(text)
    assert box.state()["ExitCode"] == 137
    assert box.do("wait", "c") == "137"
    box.do("start", "c")
    assert box.do("wait", "c") == "0"


def test_a_name_that_leads_elsewhere_is_none(box, rootfs):
    box.create()
    for target in ("../../etc", "/etc", "x", "0" * 64, ""):
        if target:
            os.symlink(target, box.root / "names" / "wrong")
        else:
            (box.root / "names" / "wrong").mkdir()
        assert "no such container" in box.refused("stop", "wrong")
        if target:
            box.create(name="wrong")
            box.do("rm", "wrong")
            (box.root / "names" / "wrong").unlink(missing_ok=True)
    (box.root / "names" / "wrong").rmdir()


def test_what_lies_about_is_swept_up(box, until):
    box.create(name="kept")
    files = box.files("kept")
    litter = [files / ".config.json.1", box.root / "containers" / ".hidden", box.root / ".x"]
    for path in litter:
        path.write_text("{")
    os.symlink("f" * 64, box.root / "names" / "stale")
    os.symlink("f" * 64, box.root / "ids" / "5")
    said = box.do("gc").splitlines()
    for path in [*litter, box.root / "names" / "stale", box.root / "ids" / "5"]:
        assert str(path) in said
        assert not path.is_symlink()
        assert not path.exists()
    assert box.names() == {"kept"}
    assert box.do("gc") == ""
    box.do("start", "kept")


def test_one_with_rm_whose_monitor_was_killed_is_swept_up(box, end):
    box.run("--rm")
    box.run(name="other")
    end(box.state())
    assert box.status() == "exited"
    assert "c" in box.do("gc")
    assert box.names() == {"other"}
    assert box.status("other") == "running"
