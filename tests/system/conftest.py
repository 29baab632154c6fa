# SPDX-License-Identifier: Apache-2.0
"""What the system tests share: a shell inside, refusals, helpers with namespaces of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("minibox")


@pytest.fixture
def inside(cli, rootfs):
    """`inside("id -u", "--user", "5", root=tree)`: what a shell inside prints, as text.

    The script must succeed and say nothing on stderr.
    """

    def run(script, *options, root=rootfs, **how):
        done = cli("run", *options, root, "/bin/sh", "-c", script, **how)
        assert (done.returncode, done.stderr) == (0, b""), done
        return os.fsdecode(done.stdout).removesuffix("\n")

    return run


@pytest.fixture
def refused(cli):
    """`refused("--share", "mnt", rootfs, "/bin/true")`: minibox run fails; its one message."""

    def run(*words, code=125, **how):
        done = cli("run", *words, **how)
        lines = os.fsdecode(done.stderr).splitlines()
        assert (done.returncode, done.stdout) == (code, b""), done
        assert lines and lines[0].startswith("minibox: "), done
        assert all(line.startswith("  ") for line in lines[1:]), done
        return "\n".join(lines)

    return run


class Helper:
    """A process in namespaces of its own, made by unshare(1), that waits for its end."""

    def __init__(self, flags, script):
        words = ["unshare", *flags, "sh", "-ec", f"{script}\necho ready\nexec cat"]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"
        self.pid = self.process.pid

    @property
    def child(self):
        """The pid of its only child (unshare --fork)."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()[0])

    def mounts(self):
        """The lines of its mountinfo."""
        return Path(f"/proc/{self.pid}/mountinfo").read_text().splitlines()

    def run(self, *words, cwd="/", **how):
        """Run a command in its mount namespace."""
        how.setdefault("stdin", subprocess.DEVNULL)
        enter = ["nsenter", "-t", str(self.pid), "-m", "--", "env", "-C", str(cwd)]
        return subprocess.run([*enter, *words], capture_output=True, timeout=60, **how)

    def minibox(self, *words, **how):
        """`minibox run` there."""
        return self.run(str(COMMAND), "run", *map(str, words), **how)

    def start(self, *words):
        """Start `minibox run` there, with pipes; the first line it prints must be `ready`."""
        enter = ["nsenter", "-t", str(self.pid), "-m", "--", str(COMMAND), "run"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([*enter, *map(str, words)], **pipes)
        line = process.stdout.readline()
        if line != b"ready\n":
            _, errors = process.communicate()
            pytest.fail(f"the container did not start: {line!r} {os.fsdecode(errors)}")
        return process

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(10)


@pytest.fixture
def helper():
    """`helper("-m", script="mount …")`: a Helper; it ends with the test."""
    made = []

    def make(*flags, script=":"):
        made.append(Helper(flags, script))
        return made[-1]

    yield make
    for one in reversed(made):
        one.close()


@pytest.fixture
def until():
    """`until(lambda: …)` polls until the function gives something true, 10 s at most."""

    def poll(function):
        deadline = time.monotonic() + 10
        while not (value := function()):
            assert time.monotonic() < deadline, "it did not happen within 10 s"
            time.sleep(0.002)
        return value

    return poll
