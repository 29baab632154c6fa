# SPDX-License-Identifier: Apache-2.0
"""Which device nodes work in a container, and that a cgroup keeps others away where a node could be
made: with the host's ids and CAP_MKNOD, or with the right to lift a nodev."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from tests.conftest import COMMAND
from tests.system import cgroups

# name -> type, major, minor
NODES = {"mem": "c 1 1", "kmsg": "c 1 11", "loop": "b 7 0", "null": "c 1 3", "zero": "c 1 5"}
MAKE = "\n".join(
    f"mknod /t/{name} {node} && (head -c0 /t/{name}) 2>/dev/null && echo {name}"
    for name, node in NODES.items()
)
SCRIPT = f"cd /t\n{MAKE}\ntrue"
OPTIONS = ("--userns", "host", "--cap-add", "MKNOD", "--tmpfs", "/t:dev")


@pytest.fixture
def tree_t(tree):
    (tree / "t").mkdir()
    return tree


def test_the_usual_nodes_and_no_others(inside, tree_t):
    assert inside(SCRIPT, *OPTIONS, root=tree_t).split() == ["null", "zero"]


def test_terminals_and_the_usual_dev_still_work(inside, tree_t):
    script = (
        "cat /dev/null; head -c1 /dev/urandom >/dev/null; ls -l /dev/ptmx >/dev/null; : >/dev/full"
    )
    assert inside(f"{script}; echo ok", *OPTIONS, root=tree_t) == "ok"


@pytest.mark.parametrize("options", [("--userns", "host"), ("--cap-add", "MKNOD")], ids=str)
def test_no_node_can_be_made_without_the_capability_or_with_ids_of_its_own(cli, tree_t, options):
    words = ("--tmpfs", "/t:dev", tree_t, "/bin/mknod", "/t/null", "c", "1", "3")
    done = cli("run", *options, *words)
    assert (done.returncode, b"Operation not permitted" in done.stderr) == (1, True)


def test_sys_admin_lifts_a_nodev_and_gains_nothing(inside, tree_t):
    """A node that is in the tree already; a mount flag is in the way until it is lifted."""
    subprocess.run(["mknod", tree_t / "mem", "c", "1", "1"], check=True)
    script = "mount -o remount,dev,bind / 2>/dev/null; (head -c0 /mem) 2>&1 | sed 's/.*: //'"
    options = ("--userns", "host", "--cap-add", "SYS_ADMIN")
    assert inside(script, *options, root=tree_t) in ("Operation not permitted", "Permission denied")


def _elsewhere(script, *words):
    last = shlex.join(map(str, words))
    argv = ["unshare", "-m", "--propagation=private", "sh", "-ec", f"{script}\nexec {last}"]
    return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def test_on_cgroup_v2_a_program_does_it(tree_t):
    done = _elsewhere(cgroups.V2_ALONE, COMMAND, "run", *OPTIONS, tree_t, "/bin/sh", "-c", SCRIPT)
    assert (done.returncode, done.stdout.split()) == (0, ["null", "zero"]), done


def test_without_cgroups_it_does_not_start(tree_t):
    done = _elsewhere("umount -R -l /sys/fs/cgroup", COMMAND, "run", *OPTIONS, tree_t, "/bin/true")
    assert done.returncode == 125
    said = done.stderr.splitlines()
    assert said[0].startswith("minibox: --cap-add MKNOD: the devices controller is not available: ")
    assert said[-1].startswith("  doctor: cgroups: no: ")


def test_what_is_brought_in_is_held_as_well(cli, tree_t, tmp_path):
    root = ("--root", tmp_path / "state")
    cli(*root, "run", "-d", "--name", "a", *OPTIONS, tree_t, "/bin/sleep", "1000", check=True)
    try:
        done = cli(*root, "exec", "a", "/bin/sh", "-c", SCRIPT)
        assert done.stdout.split() == [b"null", b"zero"], done
    finally:
        cli(*root, "rm", "-f", "a", check=True)
