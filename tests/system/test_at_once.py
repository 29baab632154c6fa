# SPDX-License-Identifier: Apache-2.0
"""Two commands at once on one container, or for one name: one wins, the other says why not."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from minibox import life
from minibox.errors import StateError
from minibox.resident import Resident
from minibox.store import Store

SLEEP = ("sleep", "1000")


@pytest.fixture
def at_once(box):
    """`at_once([words, …])`: all these commands together; their ends, in that order."""

    def run(commands):
        begun = [box.begin(*words) for words in commands]
        return [box.finish(process) for process in begun]

    return run


def kept(box):
    """How many names, leases and directories there are."""
    return [len(os.listdir(box.root / kind)) for kind in ("names", "ids", "containers")]


def winners(done):
    """Those that went well; of the others each has one message."""
    for one in done:
        if one.returncode:
            lines = one.stderr.decode().splitlines()
            assert one.returncode == 125, one
            assert lines[0].startswith("minibox: "), one
            assert all(line.startswith("  ") for line in lines[1:]), one
            assert "internal error" not in lines[0], one
        else:
            assert one.stderr == b"", one
    return [one for one in done if one.returncode == 0]


def reasons(done):
    """What the others have said, up to the hint."""
    return {one.stderr.decode().splitlines()[0] for one in done if one.returncode}


# rm


@pytest.mark.parametrize("options", [(), ("-f",)], ids=str)
def test_of_many_rm_one_removes(box, at_once, options):
    if options:
        box.run()
    else:
        box.create()
    id_ = box.inspect()["Id"]
    done = at_once([("rm", *options, "c")] * (10 if options else 50))
    assert len(winners(done)) == 1
    gone = {"minibox: c: no such container", f"minibox: {id_[:12]}: no such container"}
    assert reasons(done) <= gone
    assert kept(box) == [0, 0, 0]


def test_of_many_rm_of_all_each_container_goes_once(box, at_once, rootfs):
    ids = {box.do("create", rootfs, "/bin/true") for _ in range(8)}
    done = at_once([("rm", "-af")] * 6)
    assert [(one.returncode, one.stderr) for one in done] == [(0, b"")] * 6
    said = [word for one in done for word in one.stdout.decode().split()]
    assert set(said) == ids
    assert len(said) == len(ids)
    assert kept(box) == [0, 0, 0]


# start


def test_of_many_start_one_starts(box, at_once, tmp_path, until):
    script = "echo begun >> /mnt/count; exec sleep 1000"
    box.create("-v", f"{tmp_path}:/mnt", command=("sh", "-c", script))
    done = at_once([("start", "c")] * 8)
    assert len(winners(done)) == 1
    assert reasons(done) == {"minibox: container c is already running"}
    until((tmp_path / "count").exists)
    assert (tmp_path / "count").read_text() == "begun\n"


def test_start_and_rm(box, at_once):
    for _ in range(6):
        box.create()
        start, rm = at_once([("start", "c"), ("rm", "c")])
        assert len(winners([start, rm])) == 1
        if rm.returncode:
            assert box.status() == "running"
            assert reasons([rm]) == {"minibox: container c is running"}
            box.do("rm", "-f", "c")
        else:
            assert "no such container" in start.stderr.decode()
        assert kept(box) == [0, 0, 0]


def test_start_and_rm_by_force(box, at_once):
    for _ in range(4):
        box.create()
        start, rm = at_once([("start", "c"), ("rm", "-f", "c")])
        winners([start])
        assert (rm.returncode, rm.stderr) == (0, b"")
        assert kept(box) == [0, 0, 0]


def test_start_and_stop(box, at_once):
    for _ in range(4):
        box.create()
        done = at_once([("start", "c"), ("stop", "c"), ("start", "c"), ("stop", "c")])
        stops = done[1::2]
        assert len(winners(stops)) == 2
        assert winners(done[::2])
        assert box.status() in ("running", "exited")
        box.do("rm", "-f", "c")


# Names.


def test_of_many_runs_with_one_name_one_runs(box, at_once, rootfs):
    done = at_once([("run", "-d", "--name", "c", rootfs, *SLEEP)] * 8)
    (winner,) = winners(done)
    id_ = winner.stdout.decode().strip()
    assert box.inspect()["Id"] == id_
    assert reasons(done) == {f"minibox: the name c is taken by container {id_[:12]}"}
    assert kept(box) == [1, 1, 1]
    assert box.status() == "running"


def test_of_many_runs_without_a_name_all_run(box, at_once, rootfs):
    done = at_once([("run", "-d", rootfs, *SLEEP)] * 8)
    assert len(winners(done)) == 8
    assert kept(box) == [8, 8, 8]
    firsts = {
        Path(f"/proc/{box.state(one.stdout.decode().strip())['Pid']}/uid_map").read_text()
        for one in done
    }
    assert len(firsts) == 8  # no two have the same range of ids


def test_of_many_renames_to_one_name_one_gets_it(box, at_once):
    for k in range(6):
        box.create(name=f"c{k}")
    done = at_once([("rename", f"c{k}", "wanted") for k in range(6)])
    assert len(winners(done)) == 1
    assert all("the name wanted is taken by" in reason for reason in reasons(done))
    assert len(box.names()) == 6
    assert "wanted" in box.names()
    assert kept(box)[0] == 6


def test_rename_and_run_with_that_name(box, at_once, rootfs):
    for _ in range(3):
        box.create(name="old")
        done = at_once([("rename", "old", "new"), ("create", "--name", "new", rootfs, "true")])
        assert len(winners(done)) == 1
        assert box.inspect("new")["Name"] == "new"
        box.do("rm", "-a")
        assert kept(box) == [0, 0, 0]


def test_of_many_with_one_cidfile_one_has_it(box, at_once, tmp_path, rootfs):
    done = at_once([("create", "--cidfile", tmp_path / "cid", rootfs, "true")] * 6)
    (winner,) = winners(done)
    assert (tmp_path / "cid").read_text() == winner.stdout.decode().strip()
    assert kept(box) == [1, 1, 1]


# stop, kill, restart


@pytest.mark.parametrize("verb", ["stop", "kill", "restart"])
def test_many_of_one_verb(box, at_once, verb):
    box.run("--init")
    done = at_once([(verb, "c")] * 5)
    if verb == "kill":
        assert winners(done)
        assert reasons(done) <= {"minibox: container c is not running"}
    else:
        assert len(winners(done)) == 5
    assert box.status() == ("running" if verb == "restart" else "exited")


def test_whatever_comes_together_the_last_word_is_rms(box, at_once):
    box.run("--restart", "always", "--init")
    verbs = ["stop", "kill", "restart", "start", "exec", "wait", "rename", "inspect", "ps"]
    rest = {"exec": ("c", "true"), "rename": ("c", "d"), "ps": ()}
    done = at_once([(verb, *rest.get(verb, ("c",))) for verb in verbs] * 2 + [("rm", "-af")])
    for one in done:
        assert b"Traceback" not in one.stderr
        assert b"internal error" not in one.stderr
    box.do("rm", "-af")
    assert kept(box) == [0, 0, 0]


def test_exec_and_rm(box, at_once):
    for _ in range(3):
        box.run()
        execs = [("exec", "c", "sleep", "1000")] * 3
        *done, rm = at_once([*execs, ("rm", "-f", "c")])
        assert (rm.returncode, rm.stderr) == (0, b"")
        assert {one.returncode for one in done} <= {137, 125}
        for one in done:
            assert b"internal error" not in one.stderr
            assert len(one.stderr.splitlines()) <= 1 + one.stderr.count(b"\n  "), one


def test_ps_looks_on_while_they_come_and_go(box, at_once, rootfs):
    comers = [("run", "--rm", "-d", rootfs, "true")] * 8
    done = at_once(
        [words for pair in zip(comers, [("ps", "-a")] * 8, strict=True) for words in pair]
    )
    winners(done)
    assert [one for one in done if one.returncode] == []


# A command that is killed holds nobody up.


@pytest.mark.parametrize("verb", ["start", "stop", "rm"])
def test_a_command_that_is_killed_leaves_no_lock(box, verb):
    if verb == "stop":
        box.run(command=("sh", "-c", "trap '' TERM; while :; do sleep 1000; done"))
    else:
        box.create()
    for _ in range(5):
        command = box.begin(verb, "c")
        try:
            command.wait(0.03)
        except (
            subprocess.TimeoutExpired
        ):  # it is killed in the middle of its work, wherever that is
            command.send_signal(signal.SIGKILL)
        command.wait()
        if verb == "rm" and not box.names():
            box.create()
    box.do("rm", "-f", "c")
    box.do("gc")
    assert kept(box) == [0, 0, 0]


# Threads of one process: a lock is one of the open file.


def together(act, count):
    """Call it in so many threads at once; what went well, and the errors."""
    good, bad, barrier = [], [], threading.Barrier(count)

    def run():
        barrier.wait()
        try:
            good.append(act())
        except StateError as error:
            bad.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return good, bad


def test_of_many_threads_one_removes(box):
    box.create()
    store = Store(str(box.root))
    good, bad = together(lambda: life.remove(Resident.find(store, "c")), 20)
    assert len(good) == 1
    assert len(bad) == 19
    assert all(text.endswith(": no such container") for text in bad)


def test_of_many_threads_one_starts(box):
    box.create("--userns=host")
    store = Store(str(box.root))
    good, bad = together(lambda: life.start(Resident.find(store, "c")), 6)
    assert len(good) == 1
    assert set(bad) == {"container c is already running"}
    good, bad = together(lambda: life.stop(Resident.find(store, "c"), 0.0), 6)
    assert (len(good), bad) == (6, [])
    assert box.status() == "exited"


def test_a_program_that_starts_containers_keeps_nothing_of_them(box):
    for k in range(3):
        box.create(name=f"c{k}", command=("true",))
    before = set(os.listdir("/proc/self/fd"))
    for k in range(3):
        container = box.resident(f"c{k}")
        life.start(container)
        life.wait(container)
    after = set(os.listdir("/proc/self/fd"))
    kept_open = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in after - before}
    for fd in kept_open:
        os.close(int(fd))
    assert kept_open == {}
