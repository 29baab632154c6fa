# SPDX-License-Identifier: Apache-2.0
"""A cgroup of the host's v2 tree for a run, which goes in any case.

It is where containers' are, and named as theirs: minibox/PID-START-lab, with the pid and the start
time of the lab, and locked while it is used (resources/making.py). Whoever ends the run in its
middle sweeps; where the lab itself was killed, the next start and `minibox gc` do.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from minibox import syscalls as sc
from minibox.errors import Unsupported
from minibox.lab.memory import Block
from minibox.lab.run import Run
from minibox.lab.words import op
from minibox.plan import Op, Slot
from minibox.resources import cgroup, delegation, hierarchies, leftovers

TRIES = 50


class Cgroup(NamedTuple):
    """fd: of the directory. name: its last part. path: all of it."""

    fd: int
    name: str
    path: str


@contextmanager
def new(run: Run, controller: str = "") -> Iterator[Cgroup]:
    """An empty one in v2, or in the tree that has the controller; removed at the end with all that
    is in it. Unsupported."""
    name = f"{run.owner}-lab"
    path = _make(_with(controller) if controller else _tree(2), name, controller)
    fd = -1
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield Cgroup(fd, name, path)
    finally:
        if fd >= 0:
            os.close(fd)
        _remove(path)


@contextmanager
def given(run: Run) -> Iterator[dict[str, Any]]:
    """What clone needs for CLONE_INTO_CGROUP."""
    with new(run) as made:
        yield {"cgroup": made.fd}


@contextmanager
def entered(run: Run) -> Iterator[Cgroup]:
    """A new one in v2, in which this process is until the end. Unsupported, OSError."""
    tree = _tree(2)
    with new(run) as made:
        hierarchies.put(f"{made.path}/cgroup.procs", str(os.getpid()))
        try:
            yield made
        finally:
            hierarchies.put(f"{tree.path(tree.own)}/cgroup.procs", str(os.getpid()))


def top(version: int) -> str:
    """The uppermost directory that is mounted here of a tree of version 1 or 2. Unsupported."""
    return _tree(version).point


def _tree(version: int) -> hierarchies.Hierarchy:
    for tree in hierarchies.of_this_process():
        if tree.version == version:
            return tree
    raise Unsupported(f"no cgroup v{version} file system is mounted here")


def _with(controller: str) -> hierarchies.Hierarchy:
    for tree in hierarchies.of_this_process():
        if controller in tree.controllers:
            return tree
    raise Unsupported(f"no cgroup file system that is mounted here has {controller}")


def _make(tree: hierarchies.Hierarchy, name: str, controller: str) -> str:
    """As root at the top, else (root here may be nobody outside) below the caller's own."""
    reason = ""
    for home in dict.fromkeys((delegation.home(tree, ""), delegation.own(tree))):
        path = f"{home}/{leftovers.DIRECTORY}/{name}"
        for _ in range(TRIES):
            try:
                if controller:
                    wanted = (controller,)
                    delegation.open_up(tree, home, leftovers.DIRECTORY, wanted, wanted)
                os.makedirs(path)
                return path
            except OSError as error:
                reason = f"{error.strerror} ({error.filename})"
                if not isinstance(error, FileNotFoundError):
                    break  # else another has just removed minibox/, as it was empty
        leftovers.rmdir(os.path.dirname(path))
    raise Unsupported(f"no cgroup can be made: {reason}")


def _remove(path: str) -> None:
    leftovers.remove(path)
    leftovers.rmdir(os.path.dirname(path))


def sweep(owner: str) -> None:
    """Remove what a run of this lab has left that was killed."""
    for home in leftovers.homes():
        path = f"{home}/{leftovers.DIRECTORY}/{owner}-lab"
        if os.path.isdir(path):
            _remove(path)


def own() -> str:
    """This process's cgroup in v2; "" without any. OSError."""
    return cgroup.of("self").get("", "")


def reading(block: Block) -> list[Op]:
    """The calls with which a child reads its own /proc/self/cgroup into a block."""
    fd = Slot("fd")
    return [
        sc.openat(sc.AT_FDCWD, b"/proc/self/cgroup", sc.O_RDONLY, to=fd),
        op("read", fd, block.pointer(0, "&text"), block.size - 1),
    ]


def read(block: Block) -> dict[str, str]:
    """What it has read: the tree's controllers ("" is v2) -> its cgroup, as the child sees it."""
    return hierarchies.memberships(block.text().splitlines())
