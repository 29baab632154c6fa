# SPDX-License-Identifier: Apache-2.0
"""Below the caller's own cgroup: in a container's part of a v2 tree, and for ordinary users."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.conftest import COMMAND
from tests.ordinary import DROP, USER, uncover
from tests.system import cgroups

needs_v2 = pytest.mark.skipif(
    not cgroups.IS_V2 or "memory" not in Path(f"{cgroups.TOP}/cgroup.controllers").read_text(),
    reason="this kernel has no memory controller in v2",
)
NAME = f"mbx{os.getpid()}"
# A part of the tree that looks whole: the caller is in its root, together with a stranger.
PART = f"""
mkdir /sys/fs/cgroup/{NAME}
echo $$ >/sys/fs/cgroup/{NAME}/cgroup.procs
sleep 1000 & stranger=$!
trap 'kill $stranger' EXIT
unshare -C -m sh -ec '
umount /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
{{}}'
"""


def shell(script):
    done = subprocess.run(
        ["unshare", "-m", "sh", "-ec", script],
        capture_output=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def part():
    """The tree is as it was, once everybody has left it."""
    yield lambda script: shell(PART.format(script))
    for path in (f"{NAME}/minibox.callers", NAME):
        for pid in Path(f"{cgroups.TOP}/{path}/cgroup.procs").read_text().split():
            os.kill(int(pid), 9)
        os.rmdir(f"{cgroups.TOP}/{path}")


@needs_v2
def test_processes_in_the_way_are_moved_to_a_leaf(part, rootfs, until):
    """A cgroup whose children have controllers holds no process (nsjail#219)."""
    run = f"{COMMAND} run --memory 64m --pids 20 {rootfs} cat /sys/fs/cgroup/memory.max"
    code, said, errors = part(f"{run}\ncat /proc/self/cgroup\n{run}\nls -d /sys/fs/cgroup/*/")
    assert (code, errors) == (0, "")
    limit, own, again, *left = said.split()
    assert (limit, own, again) == ("67108864", "0::/minibox.callers", "67108864")
    assert left == ["/sys/fs/cgroup/minibox.callers/"]


def as_user(*words):
    script = f'{uncover()}\nexec {shlex.join(DROP)} -- "$@"'
    argv = [
        "unshare",
        "--mount",
        "--propagation=private",
        "sh",
        "-c",
        script,
        "sh",
        *map(str, words),
    ]
    return subprocess.run(argv, capture_output=True, timeout=60, stdin=subprocess.DEVNULL, cwd="/")


def test_a_user_to_whom_nothing_is_delegated(rootfs):
    done = as_user(COMMAND, "run", "--read-only", rootfs, "/bin/echo", "hi")
    assert (done.returncode, done.stdout) == (0, b"hi\n"), done
    done = as_user(COMMAND, "run", "--read-only", "--memory", "64m", rootfs, "/bin/true")
    first, hint = done.stderr.decode().splitlines()[:2]
    assert first.startswith("minibox: --memory: the memory controller is not available: /sys/")
    assert first.endswith(": Permission denied")
    assert hint.startswith("  hint: an ordinary user needs a cgroup to rule: systemd-run --user ")


@needs_v2
def test_a_user_with_a_tree_of_its_own(rootfs):
    top = f"{cgroups.TOP}/{NAME}"
    script = f"""mkdir {top} {top}/shell
chown {USER} {top} {top}/cgroup.procs {top}/cgroup.subtree_control {top}/shell
chown {USER} {top}/shell/cgroup.procs {top}/shell/cgroup.subtree_control
echo $$ >{top}/shell/cgroup.procs
{uncover()}
exec {shlex.join(DROP)} -- {COMMAND} run --read-only --pids 20 {rootfs} cat /sys/fs/cgroup/pids.max"""
    try:
        assert shell(script) == (0, "20\n", "")
    finally:
        for path in (f"{top}/shell/minibox.callers", f"{top}/shell", top):
            if os.path.isdir(path):
                os.rmdir(path)
