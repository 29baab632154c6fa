# SPDX-License-Identifier: Apache-2.0
"""The cgroups of processes (cgroups(7)): v1, v2, and both at once."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    Groups = dict[str, str]


def of(pid: int | str) -> Groups:
    """The cgroups of a process: the hierarchy's controllers ("" is v2) -> path. OSError."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        rows = [line.rstrip("\n").split(":", 2) for line in file]
    return {row[1]: row[2] for row in rows if len(row) == 3}


def mounts() -> dict[str, tuple[str, str]]:
    """Where hierarchies are mounted: controllers -> (mount point, the cgroup that it shows)."""
    found: dict[str, tuple[str, str]] = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            head, _, tail = line.partition(" - ")
            fields, (kind, _, options) = head.split(" "), tail.split(" ", 2)
            place = (_unescape(fields[4]), _unescape(fields[3]))
            if kind == "cgroup2":
                found.setdefault("", place)
            elif kind == "cgroup":
                for option in options.rstrip("\n").split(","):
                    found.setdefault(option, place)
    return found


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def join(pid: int, member: int) -> None:
    """Move a process into the cgroups of another one, where they differ. OSError."""
    ours, theirs = of(pid), of(member)
    wanted = {name: path for name, path in theirs.items() if ours.get(name) != path}
    places = mounts() if wanted else {}
    for controllers, path in wanted.items():
        place = places.get(controllers.split(",")[0])
        if place is None:
            continue  # a hierarchy that is mounted nowhere can hold nobody to anything
        point, shown = place
        inner = os.path.relpath(path, shown) if shown != "/" else path.lstrip("/")
        procs = os.path.join(point, inner, "cgroup.procs")
        fd = os.open(procs, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, str(pid).encode())
        except OSError as error:
            raise OSError(error.errno, error.strerror, procs) from None
        finally:
            os.close(fd)
