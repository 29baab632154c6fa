# SPDX-License-Identifier: Apache-2.0
"""What a cgroup has used, by its own account (cgroup-v2.rst; cgroup-v1/)."""

from __future__ import annotations

import os

from minibox.resources.hierarchies import pairs, text
from minibox.spec import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minibox.resources.cgroup import Cgroup

UNLIMITED = 1 << 60  # v1 says about 2^63 for no limit
KINDS = ("cpu", "memory", "io")


class Usage(Record):
    """cpu: ns. periods, throttled_periods: of --cpus; throttled: ns held back. memory: bytes, the
    file cache that nobody has asked for lately left out; memory_limit: 0 is none. pids, pids_limit:
    the same. read, written: bytes of block devices. oom_kills: for want of memory. pressure: of
    cpu, memory and io, by `some` and `full`, avg10, avg60, avg300 in percent and total in µs
    (accounting/psi.rst). None where the host does not count."""

    cpu: int | None = None
    periods: int = 0
    throttled_periods: int = 0
    throttled: int = 0
    memory: int | None = None
    memory_limit: int = 0
    pids: int | None = None
    pids_limit: int = 0
    read: int | None = None
    written: int | None = None
    oom_kills: int = 0
    pressure: dict[str, dict[str, dict[str, float]]] | None = None


def read(group: Cgroup) -> Usage:
    """At this moment."""
    found: dict[str, Any] = {"oom_kills": group.oom_kills()}
    _cpu(group, found)
    _memory(group, found)
    _pids(group, found)
    _io(group, found)
    pressure = _pressure(group)
    return Usage(**found, pressure=pressure or None)


def _number(path: str) -> int | None:
    """None where there is no file; 0 for no limit."""
    value = text(path).strip() if path else ""
    if value == "max":
        return 0
    if not value.isdigit():
        return None
    return 0 if int(value) >= UNLIMITED else int(value)


def _cpu(group: Cgroup, found: dict[str, Any]) -> None:
    used = group.file("cpuacct", "cpuacct.usage", "cpu.stat")
    stat = pairs(group.file("cpu", "cpu.stat", "cpu.stat") or used)
    if used.endswith("cpuacct.usage"):
        found["cpu"] = _number(used)
    elif "usage_usec" in stat:
        found["cpu"] = stat["usage_usec"] * 1000
    found["periods"] = stat.get("nr_periods", 0)
    found["throttled_periods"] = stat.get("nr_throttled", 0)
    old = stat.get("throttled_time", 0)  # v1: ns
    found["throttled"] = old or stat.get("throttled_usec", 0) * 1000


def _memory(group: Cgroup, found: dict[str, Any]) -> None:
    used = _number(group.file("memory", "memory.usage_in_bytes", "memory.current"))
    if used is None:
        return
    stat = pairs(group.file("memory", "memory.stat", "memory.stat"))
    idle = stat.get("total_inactive_file", stat.get("inactive_file", 0))
    found["memory"] = max(0, used - idle)
    limit = _number(group.file("memory", "memory.limit_in_bytes", "memory.max"))
    found["memory_limit"] = limit or 0


def _pids(group: Cgroup, found: dict[str, Any]) -> None:
    found["pids"] = _number(group.file("pids", "pids.current", "pids.current"))
    found["pids_limit"] = _number(group.file("pids", "pids.max", "pids.max")) or 0


def _io(group: Cgroup, found: dict[str, Any]) -> None:
    path = group.file("io", "blkio.throttle.io_service_bytes_recursive", "io.stat")
    if not path or not os.path.exists(path):
        return
    read = written = 0
    for line in text(path).splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in ("Read", "Write"):
            read += int(words[2]) if words[1] == "Read" else 0
            written += int(words[2]) if words[1] == "Write" else 0
        for word in words[1:]:
            key, equals, value = word.partition("=")
            read += int(value) if equals and key == "rbytes" else 0
            written += int(value) if equals and key == "wbytes" else 0
    found["read"], found["written"] = read, written


def _pressure(group: Cgroup) -> dict[str, dict[str, dict[str, float]]]:
    """Of v2 alone, where the kernel has it."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    part = next((part for part in group.parts if part.version == 2), None)
    for kind in KINDS if part else ():
        assert part is not None
        for line in text(f"{part.path}/{kind}.pressure").splitlines():
            who, *words = line.split()
            parts = [word.partition("=") for word in words]
            found.setdefault(kind, {})[who] = {key: float(value) for key, _, value in parts}
    return found
