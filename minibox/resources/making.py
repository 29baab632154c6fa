# SPDX-License-Identifier: Apache-2.0
"""Making a container's cgroup.

It is called minibox/NAME in each tree where it is. NAME is the id of a kept container, or
PID-START-N with the pid and the start time of the process that makes it; its directories are locked
while that process is responsible for them. So whoever meets one later can tell whether it is
anybody's, and no record is needed.
"""

from __future__ import annotations

import os
from errno import EACCES, EPERM

from minibox.errors import MiniboxError, SetupError, Unsupported
from minibox.resources import applying, controls, delegation, hierarchies, leftovers
from minibox.resources.cgroup import Cgroup, Part
from minibox.resources.leftovers import DIRECTORY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minibox.resources.hierarchies import Hierarchy
    from minibox.spec import Cgroup as Asked

# What a kept container gets where it can: for stats, pause and update.
KEPT = ("memory", "cpu", "cpuacct", "cpuset", "pids", "io", "freezer")
TRIES = 50
DELEGATE = (
    "an ordinary user needs a cgroup to rule: systemd-run --user --scope -p Delegate=yes "
    "minibox …, or --cgroup-manager systemd"
)

_count = 0


def plain(asked: Asked) -> Cgroup:
    """The cgroup of a container that ends with this process. Errors as `make`."""
    global _count
    _count += 1
    pid = os.getpid()
    return make(f"{pid}-{leftovers.start_time(pid)}-{_count}", asked)


def make(name: str, asked: Asked, *, kept: bool = False) -> Cgroup:
    """A new cgroup with these limits, in the trees that they need, and with `kept` in all others
    where one can be made. Unsupported, SetupError, SpecError; nothing is left of it then."""
    if asked.manager == "systemd":
        from minibox.resources import scope

        return scope.make(name, asked)
    applying.check(asked.limits)
    made = Cgroup([], asked.limits)
    try:
        trees = hierarchies.of_this_process()
    except OSError:
        trees = []
    needed = controls.needed(asked.limits) | ({"devices": asked.devices} if asked.devices else {})
    try:
        for tree, controllers in _chosen(trees, needed, kept or bool(asked.parent)):
            _make_in(made, tree, controllers, needed, name, asked.parent)
        made.need(needed)
        for tree in trees if asked.ends else ():
            if not made.parts:  # any one will do
                _make_in(made, tree, (), needed, name, asked.parent)
        if asked.devices:
            _restrict_devices(made, asked.devices)
        if asked.parent and not made.parts:
            raise Unsupported(f"--cgroup-parent: no cgroup could be made below {asked.parent}")
    except BaseException:
        made.remove()
        raise
    return made


def _chosen(
    trees: list[Hierarchy], needed: dict[str, str], kept: bool
) -> Iterator[tuple[Hierarchy, tuple[str, ...]]]:
    """The trees where it is to be made, with what it is to have there."""
    wanted = {*(KEPT if kept else ()), *needed}
    has_v1 = any(tree.version == 1 for tree in trees)
    # v2 has no controller for devices: any cgroup takes a program.
    lacks_v1 = not any("devices" in tree.controllers for tree in trees)
    needs_v2 = "devices" in needed and lacks_v1
    for tree in trees:
        names = {
            controls.OLD.get(name, name) if tree.version == 1 else name: name for name in wanted
        }
        mine = tuple(names[word] for word in tree.controllers if word in names)
        if mine or (kept and not has_v1) or (needs_v2 and tree.version == 2):
            yield tree, mine


def _make_in(
    made: Cgroup,
    tree: Hierarchy,
    controllers: tuple[str, ...],
    needed: dict[str, str],
    name: str,
    parent: str,
) -> None:
    """The cgroup in one tree, with its limits. Where nobody needs it, it is left out if need be."""
    must = tuple(word for word in controllers if word in needed)
    known = len(made.parts)
    try:
        part = _directory(made, tree, controllers, must, name, parent)
        if tree.version == 1 and "cpuset" in controllers:
            delegation.inherit_cpuset(part.path)
    except OSError as error:
        if must:
            raise _unavailable(must[0], needed, error) from None
        Cgroup(made.parts[known:]).remove()
        del made.parts[known:]
        return
    made.write(part)


def _restrict_devices(made: Cgroup, option: str) -> None:
    from minibox.resources import devices

    part = made.part("devices")
    assert part is not None
    try:
        devices.restrict(part.path, part.version)
    except OSError as error:
        what = f"{option}: limit the devices: {error.filename}"
        raise SetupError(error.errno or 0, what, lack="cgroups") from None


def _directory(
    made: Cgroup,
    tree: Hierarchy,
    controllers: tuple[str, ...],
    must: tuple[str, ...],
    name: str,
    parent: str,
) -> Part:
    """Make the directory, and hold it; where a dead container's of that name is, it goes first.
    OSError."""
    home = delegation.home(tree, parent)
    path = f"{home}/{DIRECTORY}/{name}"
    tries = 0
    while True:
        try:
            tries += 1
            delegation.open_up(tree, home, DIRECTORY, controllers, must)
            leftovers.sweep_in(home)
            hierarchies.mkdir(path)
            made.hold(path)
            have = controllers
            if tree.version == 2:
                there = hierarchies.words(f"{path}/cgroup.controllers")
                have = tuple(word for word in controllers if word in there)
            os.stat(path)
            made.parts.append(Part(tree.version, have, path))
            return made.parts[-1]
        except OSError as error:
            leftovers.remove(path)
            leftovers.rmdir(f"{home}/{DIRECTORY}")
            # A dead one's is gone now; or somebody has swept, and thought that this was nobody's.
            may_pass = isinstance(error, (FileExistsError, FileNotFoundError, BlockingIOError))
            if not may_pass or tries > TRIES or not os.path.isdir(home):
                raise


def _unavailable(controller: str, needed: dict[str, str], error: OSError) -> MiniboxError:
    where, _, said = str(error.filename or "").partition(" +")
    controller = said if said in needed else controller
    hint = f"\n  hint: {DELEGATE}" if error.errno in (EACCES, EPERM) and os.geteuid() else ""
    reason = f"{where}: {error.strerror}{hint}"
    return controls.unavailable(needed[controller], controller, reason)
