# SPDX-License-Identifier: Apache-2.0
"""minibox stats: docker's columns, from two looks at the cgroup a second apart."""

from __future__ import annotations

import os
import sys
import time

from minibox import cli, resident
from minibox.cli import containers, table
from minibox.directory import SHORT
from minibox.errors import MiniboxError, SpecError
from minibox.resources import usage
from minibox.spec import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minibox.cli.containers import Values
    from minibox.resident import Resident, State
    from minibox.resources.usage import Usage

COLUMNS = (
    ("CONTAINER ID", "ID"),
    ("NAME", "Name"),
    ("CPU %", "CPUPerc"),
    ("MEM USAGE / LIMIT", "MemUsage"),
    ("MEM %", "MemPerc"),
    ("NET I/O", "NetIO"),
    ("BLOCK I/O", "BlockIO"),
    ("PIDS", "PIDs"),
)
HEADINGS = {field: heading for heading, field in COLUMNS}
PAUSE = 1.0  # s
FIRST_PAUSE = 0.25  # s between the first two looks
REDRAW = "\033[H\033[J"
NOTHING = "--"


class Look(Record):
    """One container at one moment. at: ns of the monotonic clock. net: bytes received and sent by
    all interfaces but lo, None where they are the host's."""

    container: Resident
    state: State
    at: int
    usage: Usage
    net: tuple[int, int] | None


def execute(values: Values) -> int:
    template = values.get("format") or ""
    if values.get("json") and template not in ("", "json"):
        raise SpecError("--format", "it contradicts --json")
    is_live = not values.get("no_stream")
    before = _looks(values)
    time.sleep(FIRST_PAUSE)
    try:
        while True:
            after = _looks(values, quiet=True)
            _print(values, template, before, after)
            if not is_live:
                return 0
            before = after
            sys.stdout.flush()
            time.sleep(PAUSE)
    except KeyboardInterrupt:
        return 130


def _print(values: Values, template: str, before: list[Look], after: list[Look]) -> None:
    earlier = {look.container.id: look for look in before}
    pairs = [(earlier.get(look.container.id, look), look) for look in after]
    if values.get("json") or template == "json":
        if not values.get("no_stream"):
            import json

            sys.stdout.write("".join(json.dumps(data(*pair)) + "\n" for pair in pairs))
        else:
            containers.print_json([data(*pair) for pair in pairs])
        return
    rows = [row(*pair, whole=bool(values.get("no_trunc"))) for pair in pairs]
    if not values.get("no_stream") and sys.stdout.isatty():
        sys.stdout.write(REDRAW)
    if template in ("", "table"):
        headings = [heading for heading, _ in COLUMNS]
        cells = [[one[field] for _, field in COLUMNS] for one in rows]
        sys.stdout.write(table.table(headings, cells))
    else:
        from minibox.cli import template as templates

        sys.stdout.write(templates.rows(template, rows, HEADINGS))


def _looks(values: Values, *, quiet: bool = False) -> list[Look]:
    """Those that are named, or all that run; one that has gone meanwhile is left out."""
    names: list[str] = values["args"]
    wants_all = bool(values.get("all") or names)
    found = []
    chosen = [containers.find(name) for name in names] or resident.residents(containers.store())
    for container in chosen:
        try:
            state = container.state()
            container.config  # noqa: B018 # one that is damaged has no name
            if state.is_running or wants_all:
                found.append(look(container, state))
        except MiniboxError as error:
            if not quiet and container.directory.files():
                cli.report(error)
    return found


def look(container: Resident, state: State) -> Look:
    """At one container. StateError."""
    counted = usage.Usage()
    net = None
    if state.is_running:
        counted = usage.read(container.cgroup())
        net = _net(state.pid)
    return Look(container, state, time.monotonic_ns(), counted, net)


def _net(pid: int) -> tuple[int, int] | None:
    """proc_pid_net(5), dev."""
    received = sent = 0
    try:
        if os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            return None
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            for line in file.readlines()[2:]:
                name, _, counts = line.partition(":")
                if name.strip() != "lo":
                    received += int(counts.split()[0])
                    sent += int(counts.split()[8])
    except OSError:
        return None
    return received, sent


def cpu_percent(before: Look, after: Look) -> float | None:
    """Of one CPU, since the last look."""
    then, now, passed = before.usage.cpu, after.usage.cpu, after.at - before.at
    if then is None or now is None or passed <= 0:
        return None
    return max(0.0, (now - then) / passed * 100)


def memory_limit(used: Usage) -> int:
    """Of its own, or all that the host has."""
    if used.memory_limit:
        return used.memory_limit
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def row(before: Look, after: Look, *, whole: bool = False) -> dict[str, Any]:
    """docker's placeholders."""
    used, container = after.usage, after.container
    cpu, memory = cpu_percent(before, after), used.memory
    limit = memory_limit(used)
    net = [_size(value) for value in after.net or (None, None)]
    return {
        "Container": container.name,
        "ID": container.id if whole else container.id[:SHORT],
        "Name": container.name,
        "CPUPerc": NOTHING if cpu is None else f"{cpu:.2f}%",
        "MemUsage": f"{binary(memory)} / {NOTHING if memory is None else binary(limit)}",
        "MemPerc": NOTHING if memory is None else f"{100 * memory / limit:.2f}%",
        "NetIO": " / ".join(net),
        "BlockIO": f"{_size(used.read)} / {_size(used.written)}",
        "PIDs": NOTHING if used.pids is None else str(used.pids),
    }


def _size(bytes_: int | None) -> str:
    return NOTHING if bytes_ is None else table.size(bytes_)


def binary(bytes_: int | None) -> str:
    """`1.5MiB`: four digits, units of 1024 (docker's go-units, BytesSize)."""
    if bytes_ is None:
        return NOTHING
    number, units = float(bytes_), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while number >= 1024 and len(units) > 1:
        number /= 1024
        units.pop(0)
    return f"{number:.4g}{units[0]}"


def data(before: Look, after: Look) -> dict[str, Any]:
    """For programs: numbers, null where the host does not count."""
    used, container = after.usage, after.container
    return {
        "id": container.id,
        "name": container.name,
        "status": after.state.status,
        "cpu_percent": cpu_percent(before, after),
        "cpu_ns": used.cpu,
        "cpu_periods": used.periods,
        "cpu_throttled_periods": used.throttled_periods,
        "cpu_throttled_ns": used.throttled,
        "memory_bytes": used.memory,
        "memory_limit_bytes": used.memory_limit or None,
        "oom_kills": used.oom_kills,
        "pids": used.pids,
        "pids_limit": used.pids_limit or None,
        "block_read_bytes": used.read,
        "block_written_bytes": used.written,
        "net_received_bytes": after.net[0] if after.net else None,
        "net_sent_bytes": after.net[1] if after.net else None,
        "pressure": used.pressure,
    }
