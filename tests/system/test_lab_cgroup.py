# SPDX-License-Identifier: Apache-2.0
"""A cgroup of the host's that an experiment uses is gone after it, however it ends."""

from __future__ import annotations

import os
import signal
import time

import pytest

from minibox import lab
from minibox import syscalls as sc
from minibox.lab import cgroups
from minibox.resources import hierarchies, leftovers

pytestmark = pytest.mark.skipif(
    not any(tree.version == 2 for tree in hierarchies.of_this_process()),
    reason="no cgroup v2 file system is mounted here",
)


def stuck(write):
    """An experiment that makes a cgroup with a process in it, tells the path, and does not end."""

    def observe(run):
        """It hangs."""
        with (
            cgroups.new(run) as made,
            run.clone([sc.gate()], sc.CLONE_INTO_CGROUP, cgroup=made.fd),
        ):
            os.write(write, os.readlink(f"/proc/self/fd/{made.fd}").encode())
            time.sleep(60)

    return lab.experiment(
        sc.CLONE_INTO_CGROUP, source="none", expected={}, runs={"with": 0}, timeout=2
    )(observe)


@pytest.fixture
def pipe():
    fds = os.pipe()
    yield fds
    for fd in fds:
        os.close(fd)


def test_a_run_that_is_late_leaves_none(pipe):
    read, write = pipe
    result = lab.perform(stuck(write))
    assert "not over after 2 s" in result.why
    path = os.read(read, 4096).decode()
    assert path.endswith("-lab")
    assert not os.path.exists(path)


def test_what_a_killed_lab_leaves_is_swept(pipe):
    read, write = pipe
    pid = os.fork()
    if pid == 0:
        lab.perform(stuck(write))
        os._exit(0)
    path = os.read(read, 4096).decode()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert os.path.basename(path).startswith(f"{pid}-")
    deadline = time.monotonic() + 10
    # The bench ends by and by, and holds it until then.
    while os.path.exists(path):
        assert time.monotonic() < deadline
        list(leftovers.sweep())
