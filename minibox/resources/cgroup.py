# SPDX-License-Identifier: Apache-2.0
"""A container's cgroup (cgroups(7)): joined, frozen, killed, given other limits, removed. How one
comes to be is in making.py, where it may be in delegation.py.
"""

from __future__ import annotations

import fcntl
import os
import time

from minibox.errors import MiniboxError, StateError
from minibox.resources import applying, controls, hierarchies, leftovers
from minibox.resources.hierarchies import pairs, put, text, words
from minibox.spec import Limits, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minibox.resources.applying import Undo

PATIENCE = 5.0  # seconds until all is frozen


class Part(Record):
    """The cgroup in one tree. controllers: v2's names, but for cpuacct and freezer."""

    version: int
    controllers: tuple[str, ...]
    path: str

    @property
    def is_scope(self) -> bool:
        """Is it systemd's? Then systemd removes it when nobody is in it any more. From a directory
        that is gone it would not learn that (it watches cgroup.events), and keep the unit."""
        return self.path.endswith(".scope")


class Cgroup:
    """A container's cgroup. parts: where it is; without any it is no cgroup at all."""

    def __init__(self, parts: list[Part], limits: Limits = controls.NONE) -> None:
        self.parts = parts
        self.limits = limits
        self._locks: list[int] = []

    def part(self, controller: str) -> Part | None:
        """Where this controller counts. On v2 every cgroup can be frozen, counts CPU time, and
        takes a program about devices."""
        for part in self.parts:
            if controller in part.controllers:
                return part
        if controller in ("freezer", "cpuacct", "devices"):
            return next((part for part in self.parts if part.version == 2), None)
        return None

    def file(self, controller: str, old: str, new: str) -> str:
        """The path of a file, by its names in v1 and v2; "" when the controller is not there."""
        part = self.part(controller)
        return f"{part.path}/{old if part.version == 1 else new}" if part else ""

    def data(self) -> list[Any]:
        """For run.json."""
        return [[part.version, list(part.controllers), part.path] for part in self.parts]

    @classmethod
    def of_data(cls, data: Any) -> Cgroup:
        """What `data` gave; without parts when it is anything else."""
        parts = []
        for row in data if isinstance(data, list) else ():
            if isinstance(row, list) and len(row) == 3 and isinstance(row[2], str):
                parts.append(Part(row[0], tuple(row[1]), row[2]))
        return cls(parts)

    def hold(self, path: str) -> None:
        """Say that it is ours, until we end or let go. OSError."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._locks.append(fd)
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)

    @property
    def fd(self) -> int:
        """For CLONE_INTO_CGROUP: of the directory, where there is one tree and it is v2; or -1."""
        is_one = len(self.parts) == len(self._locks) == 1
        return self._locks[0] if is_one and self.parts[0].version == 2 else -1

    def let_go(self) -> None:
        """It is somebody else's now: of whoever is in it, and of the monitor."""
        while self._locks:
            os.close(self._locks.pop())

    def admit(self, pid: int) -> None:
        """Put a process in. OSError."""
        for part in self.parts:
            put(f"{part.path}/cgroup.procs", str(pid))

    def need(self, needed: dict[str, str]) -> None:
        """Unsupported when one of these controllers, each with the option that asks for it, has no
        tree."""
        for controller, option in needed.items():
            if self.part(controller) is None:
                reason = "no cgroup file system that is mounted here has it"
                raise controls.unavailable(option, controller, reason)

    def write(self, part: Part, undo: Undo | None = None) -> None:
        """The limits that belong into this tree. SetupError, SpecError, Unsupported."""
        applying.write(part.path, part.version, part.controllers, self.limits, undo)

    def update(self, limits: Limits) -> None:
        """Other limits: all of them, or what was before. SetupError, SpecError, Unsupported."""
        applying.check(limits)
        self.need(controls.needed(limits))
        undo: Undo = []
        before, self.limits = self.limits, limits
        try:
            for part in self.parts:
                self.write(part, undo)
        except MiniboxError:
            self.limits = before
            for path, value in reversed(undo):
                try:
                    put(path, value)
                except OSError:
                    pass  # what can be done has been; the error says why
            raise

    def oom_kills(self) -> int:
        """How many of its processes were killed for want of memory."""
        counts = pairs(self.file("memory", "memory.oom_control", "memory.events"))
        return counts.get("oom_kill", 0)

    def thaw_file(self) -> tuple[str, str]:
        """The file that freezes it, and what is written there to thaw it; "", "" without one."""
        path = self.file("freezer", "freezer.state", "cgroup.freeze")
        return (path, "THAWED" if path.endswith(".state") else "0") if path else ("", "")

    def is_frozen(self) -> bool:
        path, thawed = self.thaw_file()
        return bool(path) and text(path).strip() not in (thawed, "")

    def freeze(self) -> None:
        """Stop all its processes, wherever they are. StateError, OSError."""
        path, thawed = self.thaw_file()
        if not path:
            raise StateError("it has no cgroup that could be frozen")
        put(path, "FROZEN" if thawed == "THAWED" else "1")
        deadline = time.monotonic() + PATIENCE
        while not self._has_frozen():
            if time.monotonic() > deadline:
                self.thaw()
                raise StateError("a process of it cannot be frozen")
            time.sleep(0.001)

    def _has_frozen(self) -> bool:
        path = self.file("freezer", "freezer.state", "cgroup.events")
        return "FROZEN" in words(path) or "frozen 1" in text(path)

    def thaw(self) -> None:
        """Let them go on. OSError."""
        path, thawed = self.thaw_file()
        if path:
            put(path, thawed)

    def remove(self) -> None:
        """Take it away, and what is in it. Where it cannot be, the next who sweeps does."""
        self.let_go()
        for part in self.parts:
            if part.is_scope:
                leftovers.kill(part.path)
            else:
                leftovers.remove(part.path)
                leftovers.rmdir(os.path.dirname(part.path))
        self.parts = []


# Of another process.


def of(pid: int | str) -> dict[str, str]:
    """The cgroups of a process: the tree's controllers ("" is v2) -> path. OSError."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        return hierarchies.memberships(file)


def mounts() -> dict[str, tuple[str, str]]:
    """Where trees are mounted: controller ("" is v2) -> (mount point, the cgroup it shows)."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return hierarchies.mounts(file)


def join(pid: int, member: int) -> None:
    """Move a process into the cgroups of another one, where they differ. OSError."""
    ours, theirs = of(pid), of(member)
    wanted = {name: path for name, path in theirs.items() if ours.get(name) != path}
    places = mounts() if wanted else {}
    for names, path in wanted.items():
        place = places.get(names.split(",")[0])
        if place is None:
            continue  # a tree that is mounted nowhere can hold nobody to anything
        point, shown = place
        inner = os.path.relpath(path, shown) if shown != "/" else path.lstrip("/")
        put(os.path.join(point, inner, "cgroup.procs"), str(pid))
