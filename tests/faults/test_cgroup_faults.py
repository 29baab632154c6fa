# SPDX-License-Identifier: Apache-2.0
"""Making a cgroup fails at any of its calls, or is killed there: nothing starts, nothing is left
but what the next one sweeps. What the dead have left goes; what somebody holds stays."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from minibox import life
from tests.conftest import run_cli
from tests.system import cgroups
from tests.system.conftest import box  # noqa: F401 - a fixture

WORDS = ("run", "--memory", "64m", "--pids", "20", "--cpus", "1", "--cpuset", "0")
MAKING = {"mkdir", "write", "openat", "flock"}
PIDS = Path(cgroups.TOP if cgroups.IS_V2 else f"{cgroups.TOP}/pids") / "minibox"


@pytest.fixture
def steps(command, tmp_path, rootfs):
    """The calls from the first mkdir of a cgroup on to the last process put into one, as (call,
    which occurrence), without those that only look."""
    command.run(*WORDS, rootfs, "/bin/true")  # what Python keeps of modules is there after this
    lines = command.trace(tmp_path / "trace", *WORDS, rootfs, "/bin/true")
    ways = ("cgroup.procs", "CLONE_INTO_CGROUP")
    last = max(k for k, line in enumerate(lines) if any(way in line for way in ways)) + 1
    start = next(line for line in lines if line.startswith('mkdir("/sys/fs/cgroup'))
    first = lines.index(start)
    numbered = command.numbered(lines, start)
    found = []
    for line, step in zip(lines[first : last + 1], numbered, strict=False):
        is_looking = step[0] == "openat" and "O_WRONLY" not in line
        if step[0] in MAKING and not is_looking:
            found.append(step)
    assert len(found) > (5 if cgroups.IS_V2 else 20)
    return found


def test_each_call_that_fails_fails_the_start(command, message, steps, rootfs, no_process_left):
    wrong = []
    for call, number in steps:
        fault = f"{call}:error=EIO:when={number}"
        done = command.inject(fault, *WORDS, rootfs, "/bin/echo", "started", follow=False)
        said = message(done.stderr)
        if done.returncode != 125 or done.stdout or said or cgroups.left():
            wrong.append((fault, done.returncode, done.stdout, done.stderr, said, cgroups.left()))
    assert wrong == []
    assert no_process_left()


def test_killed_at_any_call_the_next_one_sweeps(command, steps, rootfs, no_process_left):
    wrong = []
    for call, number in steps:
        fault = f"{call}:signal=KILL:when={number}"
        done = command.inject(fault, *WORDS, rootfs, "/bin/echo", "started", follow=False)
        assert no_process_left()
        full = [path for path in cgroups.left() if Path(path, "cgroup.procs").read_text()]
        after = run_cli(*WORDS, rootfs, "/bin/true")
        if done.stdout or full or (after.returncode, after.stderr) != (0, b"") or cgroups.left():
            wrong.append((fault, done, full, after, cgroups.left()))
    assert wrong == []


def dead_pid():
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.fixture
def left_over():
    """`left_over(name)`: a cgroup of pids of that name; the test sees to its end."""

    def make(name):
        (PIDS / name).mkdir(parents=True)
        return PIDS / name

    return make


def test_what_a_dead_run_has_left_goes(cli, rootfs, left_over):
    path = left_over(f"{dead_pid()}-1-1")
    (path / "below").mkdir()
    process = subprocess.Popen(["sleep", "1000"])
    (path / "below/cgroup.procs").write_text(str(process.pid))
    assert cli("run", "--pids", "20", rootfs, "/bin/true").returncode == 0
    assert process.wait(10) == -9
    assert cgroups.left() == []


def test_what_somebody_holds_stays(cli, rootfs, left_over):
    """Its owner may live in another pid namespace, where its pid is another one."""
    path = left_over(f"{dead_pid()}-1-1")
    fd = os.open(path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    assert cli("run", "--pids", "20", rootfs, "/bin/true").returncode == 0
    assert path.exists()
    os.close(fd)
    assert cli("run", "--pids", "20", rootfs, "/bin/true").returncode == 0
    assert cgroups.left() == []


def test_a_pid_that_is_somebody_elses_by_now(cli, rootfs, left_over, tmp_path):
    path = left_over(f"{os.getpid()}-1-1")
    assert cli("run", "--pids", "20", rootfs, "/bin/true").returncode == 0
    assert path.exists()  # that costs a look at each; gc takes the time
    done = cli("--root", tmp_path / "none", "gc")
    assert str(path) in done.stdout.decode().splitlines()
    assert cgroups.left() == []


def test_gc_leaves_what_lives(cli, rootfs, left_over, tmp_path):
    """A kept container of some other store: a process is in it."""
    path = left_over("a" * 64)
    (path / "its-own").mkdir()
    process = subprocess.Popen(["sleep", "1000"])
    (path / "cgroup.procs").write_text(str(process.pid))
    assert cli("--root", tmp_path / "none", "gc").returncode == 0
    assert (path / "its-own").exists()
    process.kill()
    process.wait()
    assert str(path) in cli("--root", tmp_path / "none", "gc").stdout.decode()
    assert cgroups.left() == []


def test_what_is_frozen_can_be_killed(cli, rootfs, tmp_path):
    top = PIDS if cgroups.IS_V2 else Path(f"{cgroups.TOP}/freezer/minibox")
    path = top / f"{dead_pid()}-1-1"
    path.mkdir(parents=True)
    process = subprocess.Popen(["sleep", "1000"])
    (path / "cgroup.procs").write_text(str(process.pid))
    file, word = ("cgroup.freeze", "1") if cgroups.IS_V2 else ("freezer.state", "FROZEN")
    (path / file).write_text(word)
    assert cli("--root", tmp_path / "none", "gc").returncode == 0
    assert process.wait(10) == -9
    assert cgroups.left() == []


def test_a_cgroup_that_is_busy_for_a_moment(command, rootfs):
    done = command.inject("rmdir:error=EBUSY:when=1", *WORDS, rootfs, "/bin/true", follow=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert cgroups.left() == []


def test_a_kept_one_takes_the_place_of_what_a_killed_start_has_left(box, left_over):  # noqa: F811
    box.create("--pids", "20")
    path = left_over(box.resident().id)
    life.start(box.resident())
    assert cgroups.directory(box.state()["Pid"], "pids") == path
    life.remove(box.resident(), force=True)
    assert cgroups.left() == []


def test_a_kept_one_that_was_never_started_leaves_nothing(box, left_over):  # noqa: F811
    box.create()
    left_over(box.resident().id)
    life.remove(box.resident())
    assert cgroups.left() == []
