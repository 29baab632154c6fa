# SPDX-License-Identifier: Apache-2.0
"""Where in a tree of cgroups we may make some, and what has to be opened on the way there.

As root of the host: at the top. Where the tree that we see is somebody's part of it (a container's,
a user's), or is not ours to write at the top: below the caller's own cgroup. v2 lets no process be
in a cgroup whose children have controllers (cgroup-v2.rst, "No Internal Process Constraint"), so
whoever is there is moved to a leaf beside.
"""

from __future__ import annotations

import os
from errno import EBUSY, EINVAL, ENOENT, ESRCH

from minibox.resources.hierarchies import Hierarchy, mkdir, put, words

LEAF = "minibox.callers"
TRIES = 20


def home(tree: Hierarchy, parent: str) -> str:
    """The directory in which minibox/ is, or shall be. parent: what --cgroup-parent says."""
    top = tree.point
    is_root = os.geteuid() == 0
    if tree.version == 2:
        # Only the real root has no type.
        is_root = is_root and not os.path.exists(f"{top}/cgroup.type")
    if parent:
        return f"{top}/{parent}"
    if is_root:
        return top
    return own(tree)


def own(tree: Hierarchy) -> str:
    """The caller's cgroup, or the one above where the caller is in the leaf that we have made."""
    own = tree.path(tree.own)
    return os.path.dirname(own) if os.path.basename(own) == LEAF else own


def open_up(
    tree: Hierarchy, home: str, name: str, controllers: tuple[str, ...], must: tuple[str, ...]
) -> None:
    """Make `home`/`name`, in which cgroups with these controllers can be made. must: the ones that
    it cannot do without. OSError, with " +CONTROLLER" after the path where one could not be had."""
    for directory in _way(tree.point, f"{home}/{name}"):
        if not os.path.isdir(directory):
            try:
                mkdir(directory)
            except FileExistsError:
                pass  # somebody else was faster
    if tree.version == 1:
        if "cpuset" in controllers:
            _inherit_down(tree.point, f"{home}/{name}")
        return
    for directory in _way(tree.point, f"{home}/{name}"):
        _enable(directory, controllers, must, is_ours=directory == own(tree))


def _way(top: str, path: str) -> list[str]:
    """The directories from the top to `path`, of which each has to open the next."""
    found = [top]
    for part in os.path.relpath(path, top).split("/"):
        if part != ".":
            found.append(f"{found[-1]}/{part}")
    return found


def _enable(
    directory: str, controllers: tuple[str, ...], must: tuple[str, ...], *, is_ours: bool
) -> None:
    """Let the children of this cgroup have them. OSError for what must be."""
    path = f"{directory}/cgroup.subtree_control"
    have = words(path)
    for controller in controllers:
        if controller in have:
            continue
        try:
            _enable_one(directory, path, controller, is_ours)
        except OSError as error:
            if controller in must:
                raise OSError(error.errno, error.strerror, f"{path} +{controller}") from None


def _enable_one(directory: str, path: str, controller: str, is_ours: bool) -> None:
    """Only processes beside ourselves are moved, not anybody's; and before it is tried: cpu, cpuset
    and pids can be had without, but then the children are no domains (cgroups(7), "Threaded")."""
    for _ in range(TRIES):
        has_moved = is_ours and move_out(directory)
        try:
            put(path, f"+{controller}")
            return
        except OSError as error:
            if error.errno != EBUSY or not has_moved:
                raise
    raise OSError(EBUSY, os.strerror(EBUSY), path)


def move_out(directory: str) -> bool:
    """Move the processes of a cgroup to a leaf of it. Was there one? OSError."""
    with open(f"{directory}/cgroup.procs", encoding="ascii") as file:
        pids = [line.strip() for line in file if line.strip() != "0"]  # 0: of another namespace
    if not pids:
        return False
    try:
        mkdir(f"{directory}/{LEAF}")
    except FileExistsError:
        pass
    for pid in pids:
        try:
            put(f"{directory}/{LEAF}/cgroup.procs", pid)
        except OSError as error:
            if error.errno not in (ESRCH, EINVAL):  # it has ended, or is a kernel's thread
                raise
    return True


def _inherit_down(top: str, path: str) -> None:
    for directory in _way(top, path)[1:]:
        inherit_cpuset(directory)


def inherit_cpuset(directory: str) -> None:
    """v1: a new cpuset has neither CPUs nor memory, and holds no process until it has. OSError."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not words(f"{directory}/{name}"):
            theirs = " ".join(words(f"{os.path.dirname(directory)}/{name}"))
            if not theirs:
                raise OSError(ENOENT, "the cgroup above has none", f"{directory}/{name}")
            put(f"{directory}/{name}", theirs)
