# SPDX-License-Identifier: Apache-2.0
"""The cgroup trees of this host (cgroups(7)): v1 has one for each set of controllers, v2 one for
all, and both can be there at once: a controller belongs to the tree that has it.
"""

from __future__ import annotations

import os

from minibox.spec import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

V1 = ("memory", "cpu", "cpuacct", "cpuset", "pids", "blkio", "freezer", "devices")


class Hierarchy(Record):
    """version: 1 or 2. controllers: what can be limited in it; those of v2 have v2's names, so
    that blkio is `io` there. point: where it is mounted. shown: the cgroup that the mount shows,
    "/" for all. own: the caller's cgroup."""

    version: int
    controllers: tuple[str, ...]
    point: str
    shown: str
    own: str

    def path(self, cgroup: str) -> str:
        """The directory of a cgroup that /proc/PID/cgroup names; the mount point where the cgroup
        is not below what the mount shows."""
        inner = cgroup
        if self.shown != "/":
            is_below = cgroup == self.shown or cgroup.startswith(self.shown + "/")
            inner = cgroup[len(self.shown) :] if is_below else "/"
        inner = inner.strip("/")
        return f"{self.point}/{inner}" if inner and ".." not in inner.split("/") else self.point


def mounts(lines: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Of mountinfo's lines: controller ("" is v2) -> (mount point, the cgroup that it shows). The
    last mount at a place hides the others."""
    found: dict[str, tuple[str, str]] = {}
    for line in lines:
        head, _, tail = line.partition(" - ")
        fields, (kind, _, options) = head.split(" "), (tail.rstrip("\n") + "  ").split(" ", 2)
        if kind not in ("cgroup", "cgroup2"):
            continue
        place = (_unescape(fields[4]), _unescape(fields[3]))
        for name in [""] if kind == "cgroup2" else options.strip().split(","):
            found.setdefault(name, place)
    return found


def memberships(lines: Iterable[str]) -> dict[str, str]:
    """Of the lines of /proc/PID/cgroup: controllers ("" is v2) -> path."""
    rows = [line.rstrip("\n").split(":", 2) for line in lines]
    return {row[1]: row[2] for row in rows if len(row) == 3}


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def arrange(
    mountinfo: Iterable[str], membership: Iterable[str], unified: Iterable[str]
) -> list[Hierarchy]:
    """The trees in which something can be limited, v2 first. unified: the controllers of v2."""
    places = mounts(mountinfo)
    found = []
    for names, own in memberships(membership).items():
        words = names.split(",") if names else [""]
        place = next((places[word] for word in words if word in places), None)
        if place is None or words[0].startswith("name="):
            continue
        if names:
            known = tuple(word for word in words if word in V1)
            found.append(Hierarchy(1, known, *place, own))
        else:
            found.insert(0, Hierarchy(2, tuple(unified), *place, own))
    return found


def of_this_process() -> list[Hierarchy]:
    """The trees as the calling process sees them. OSError."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        mountinfo = [line for line in file if " - cgroup" in line]
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        membership = file.readlines()
    place = mounts(mountinfo).get("")
    unified = words(f"{place[0]}/cgroup.controllers") if place else []
    return arrange(mountinfo, membership, unified)


def words(path: str) -> list[str]:
    """The words of a cgroup's file; none when it cannot be read."""
    return text(path).split()


def text(path: str) -> str:
    """What a cgroup's file says; "" when it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 1 << 16).decode()
    except OSError:
        return ""
    finally:
        os.close(fd)


def pairs(path: str) -> dict[str, int]:
    """Of a cgroup's file with NAME NUMBER a line; nothing when there is no path, or no reading."""
    found = {}
    for line in text(path).splitlines() if path else ():
        name, _, value = line.partition(" ")
        if value.isdigit():
            found[name] = int(value)
    return found


def mkdir(path: str) -> None:
    """A cgroup that anybody may enter, whatever the umask is: the container's root, who is nobody
    here, mounts it. OSError."""
    os.mkdir(path)
    os.chmod(path, 0o755)


def put(path: str, value: str) -> None:
    """Write to a cgroup's file. OSError with its path."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
