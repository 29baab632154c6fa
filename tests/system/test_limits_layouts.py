# SPDX-License-Identifier: Apache-2.0
"""Cgroups as hosts have them: none, read-only, one tree missing, v2 alone. A limit that cannot be
had fails the start by the names of the option and the controller; without one, nothing is needed."""

import os
import subprocess

import pytest

from tests.conftest import COMMAND
from tests.system import cgroups

GONE = "umount -l /sys/fs/cgroup"
READ_ONLY = """for point in $(grep ' - cgroup' /proc/self/mountinfo | cut -d' ' -f5); do
    mount -o remount,bind,ro "$point"; done"""
MEMORY_MISSING = cgroups.V2_ALONE if cgroups.IS_V2 else "umount -l /sys/fs/cgroup/memory"
NOWHERE = "the {} controller is not available: no cgroup file system that is mounted here has it"


@pytest.fixture
def host(helper, rootfs, tmp_path):
    """`host(script)`: a host whose cgroups look so; `host.run(…)` runs minibox there."""

    def make(script):
        made = helper("-m", script=script)

        def run(*words):
            return made.run(str(COMMAND), "--root", str(tmp_path / "state"), *map(str, words))

        run.helper = made
        run.do = lambda *words: _done(run(*words))
        run.refused = lambda *words: _refused(run(*words))
        return run

    yield make
    store = tmp_path / "state"
    for name in os.listdir(store / "names") if (store / "names").exists() else ():
        subprocess.run([COMMAND, "--root", store, "rm", "-f", name], capture_output=True)
    subprocess.run([COMMAND, "--root", store, "gc"], capture_output=True)


def _done(done):
    assert (done.returncode, done.stderr) == (0, b""), done
    return done.stdout.decode().strip()


def _refused(done):
    """What is said; without the line of doctor's that may follow."""
    assert (done.returncode, done.stdout) == (125, b""), done
    first, *others = done.stderr.decode().splitlines()
    assert [line for line in others if not line.startswith("  doctor: cgroups: ")] == []
    return first


LAYOUTS = {
    "gone": GONE,
    "read only": READ_ONLY,
    "no memory": MEMORY_MISSING,
    "v2": cgroups.V2_ALONE,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_a_limit_nothing_is_needed(host, rootfs, layout):
    run = host(LAYOUTS[layout])
    assert run.do("run", rootfs, "echo", "hi") == "hi"
    name = run.do("run", "-d", "--name", "c", rootfs, "sleep", "1000")
    assert run.do("exec", name, "echo", "ho") == "ho"
    run.do("stats", "--no-stream")
    run.do("rm", "-f", "c")


@pytest.mark.parametrize(
    ("option", "value", "controller"),
    [
        ("--memory", "64m", "memory"),
        ("--pids", "20", "pids"),
        ("--cpus", "1", "cpu"),
        ("--cpuset", "0", "cpuset"),
        ("--io-weight", "100", "io (blkio)"),
    ],
)
def test_a_limit_without_its_tree_is_refused(host, rootfs, option, value, controller):
    run = host(GONE)
    said = f"minibox: {option}: {NOWHERE.format(controller)}"
    assert run.refused("run", option, value, rootfs, "/bin/true") == said
    assert run.refused("run", "-d", "--name", "c", option, value, rootfs, "/bin/true") == said
    assert run.do("ps", "-aq") == ""


def test_a_limit_that_may_not_be_written_is_refused(host, rootfs):
    said = host(READ_ONLY).refused("run", "--memory", "64m", rootfs, "/bin/true")
    assert said.startswith(
        "minibox: --memory: the memory controller is not available: /sys/fs/cgroup/"
    )
    assert said.endswith(": Read-only file system")


@pytest.mark.skipif(cgroups.IS_V2, reason="this kernel has no v1")
def test_one_tree_missing_is_no_matter_to_the_others(host, rootfs):
    run = host(MEMORY_MISSING)
    assert run.do("run", "--pids", "20", rootfs, "echo", "hi") == "hi"
    said = run.refused("run", "--pids", "20", "--memory", "64m", rootfs, "/bin/true")
    assert said == f"minibox: --memory: {NOWHERE.format('memory')}"
    assert cgroups.left() == []


def test_a_kept_one_without_a_cgroup_cannot_be_paused(host, rootfs):
    run = host(GONE)
    run.do("run", "-d", "--name", "c", rootfs, "sleep", "1000")
    assert (
        run.refused("pause", "c") == "minibox: container c: it has no cgroup that could be frozen"
    )
    assert NOWHERE.format("memory") in run.refused("update", "--memory", "64m", "c")
    assert run.do("stats", "--no-stream", "--format", "{{.MemUsage}}") == "-- / --"
    run.do("rm", "-f", "c")


def test_v2_alone(host, rootfs):
    """Also where it has no controller: it can be frozen, and counts CPU time."""
    run = host(cgroups.V2_ALONE)
    run.do("run", "-d", "--name", "c", rootfs, "sleep", "1000")
    assert run.do("exec", "c", "cat", "/proc/self/cgroup").splitlines()[-1] == "0::/"
    assert run.do("exec", "c", "cat", "/sys/fs/cgroup/cgroup.procs").split()[0] == "1"
    options = run.do("exec", "c", "grep", "cgroup2", "/proc/self/mountinfo").split()
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(options[5].split(","))
    run.do("pause", "c")
    assert run.do("ps", "--format", "{{.State}}") == "paused"
    run.do("resume", "c")
    run.do("pause", "c")
    assert run.do("stats", "--no-stream", "--format", "{{.CPUPerc}}") == "0.00%"
    run.do("rm", "-f", "c")
    if not cgroups.IS_V2:  # then its v2 tree has none of these controllers
        said = run.refused("run", "--memory", "64m", rootfs, "/bin/true")
        assert said == f"minibox: --memory: {NOWHERE.format('memory')}"


def test_a_plain_one_is_born_in_its_cgroup(host, rootfs, tmp_path):
    """Not moved, which takes the kernel milliseconds: strace sees no write to cgroup.procs."""
    run = host(cgroups.V2_ALONE)
    trace = tmp_path / "trace"
    words = ("run", "--cgroup-parent", f"mbx{os.getpid()}", rootfs, "cat", "/proc/self/cgroup")
    done = run.helper.run("strace", "-o", str(trace), str(COMMAND), *words)
    assert (done.returncode, done.stdout.split()[-1]) == (0, b"0::/")
    assert "CLONE_INTO_CGROUP" in trace.read_text()
    assert "cgroup.procs" not in trace.read_text()
    refusal = ["strace", "-o", "/dev/null", "-e", "inject=clone3:error=E2BIG:when=2"]
    done = run.helper.run(*refusal, str(COMMAND), *words)  # an older kernel
    assert (done.returncode, done.stdout.split()[-1]) == (0, b"0::/"), done
    assert run.helper.run("rmdir", f"/sys/fs/cgroup/mbx{os.getpid()}").returncode == 0


def test_a_parent_where_there_is_none(host, rootfs):
    said = host(GONE).refused("run", "--cgroup-parent", "a/b", rootfs, "/bin/true")
    assert said == "minibox: --cgroup-parent: no cgroup could be made below a/b"


@pytest.mark.skipif(os.path.isdir("/run/systemd/system"), reason="this kernel has no other init")
def test_systemd_where_there_is_none(refused, rootfs):
    said = refused("--cgroup-manager", "systemd", rootfs, "/bin/true")
    assert said.startswith("minibox: --cgroup-manager systemd: no systemd runs here")
