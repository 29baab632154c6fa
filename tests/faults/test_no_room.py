# SPDX-License-Identifier: Apache-2.0
"""Verbs when there is no room: a state directory that is full or cannot be written, and a caller
who may open, write, start or map little. One message or success, nothing lost, nobody else harmed,
and the same verb works when there is room again.

MINIBOX_EVERY=1 tries each verb with each strain, MINIBOX_EVERY=n each n-th.
"""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
import kept
import kept_verbs

FAILED = (125, 126, 127)
FULL = ("no byte", "no file", "read-only")
# Each of its kind: the limits of the command, soft ones.
FILES = [{resource.RLIMIT_NOFILE: number} for number in range(4, 26)]
SIZES = [{resource.RLIMIT_FSIZE: size} for size in (0, 1, 100, 4096)]
MEMORY = [{resource.RLIMIT_AS: size << 20} for size in (1, 30, 60, 100, 150)]


def fill(directory):
    """No byte more fits into a file there."""
    with (directory / "filler").open("wb", buffering=0) as file:
        for size in (1 << 16, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError as error:
                assert error.errno == errno.ENOSPC


def crowd(directory):
    """No file more fits."""
    for number in range(10_000):
        try:
            (directory / f"filler{number}").symlink_to("x")
        except OSError:
            return


def mount(*words):
    subprocess.run(["mount", *words], check=True)


class Strained(kept_verbs.Trial):
    """`call`: what is wrong, for as long as the command lives; a word or limits."""

    def __call__(self, call):
        room = self.top / f"room-{os.getpid()}"
        room.mkdir()
        mount("-t", "tmpfs", "-o", "size=4m,nr_inodes=200", "none", str(room))
        top, self.top = self.top, room
        try:
            return super().__call__(call)
        finally:
            self.top = top
            subprocess.run(["umount", "--lazy", room], check=True)
            room.rmdir()

    def strike(self, home, words, call):
        if isinstance(call, dict):
            return home.run(*words, limits=call)
        if call == "no byte":
            fill(self.top)
        elif call == "no file":
            crowd(self.top)
        else:
            mount("--bind", str(self.top), str(self.top))
            mount("-o", "remount,bind,ro", str(self.top))
        try:
            return home.run(*words)
        finally:
            if call == "read-only":
                subprocess.run(["umount", self.top], check=True)
            for path in self.top.glob("filler*"):
                path.unlink()


@pytest.fixture
def strained(tmp_path, rootfs, message):
    def verdict(done, call):
        if done.returncode == 0:
            return [] if not done.stderr else [f"success, and {done.stderr!r}"]
        if done.returncode not in FAILED:
            return [f"{done}"]
        return [problem for problem in [message(done.stderr)] if problem]

    return lambda case: Strained(case, tmp_path, rootfs, message, None, verdict)


@pytest.mark.parametrize("name", kept_verbs.CASES)
def test_a_full_or_read_only_state_directory(strained, name):
    trial = strained(kept_verbs.CASES[name])
    assert kept.few(kept.in_parallel(trial, list(FULL), own_mounts=True)) == []


@pytest.mark.parametrize("name", kept_verbs.CASES)
@pytest.mark.parametrize("limits", [FILES, SIZES, MEMORY], ids=["files", "size", "memory"])
def test_a_caller_who_may_little(strained, name, limits):
    trial = strained(kept_verbs.CASES[name])
    chosen = limits[:: kept.every(3)]
    assert kept.few(kept.in_parallel(trial, chosen, own_mounts=True)) == []
