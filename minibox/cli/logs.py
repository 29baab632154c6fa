# SPDX-License-Identifier: Apache-2.0
"""minibox logs"""

from __future__ import annotations

import json
import sys
import time

from minibox import logs, settings
from minibox.cli import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from minibox.cli.containers import Values
    from minibox.logs import Entry


def execute(values: Values) -> int:
    container = containers.find(values["args"][0])
    now = time.time_ns()
    since, until = (
        logs.moment(f"--{word}", values[word], now) if values.get(word) else None
        for word in ("since", "until")
    )
    tail = values.get("tail")
    count = None if tail in (None, "all", "-1") else settings.whole("--tail", str(tail))
    path = container.directory.path
    if values.get("follow"):
        ended = container.directory.is_at_rest
        entries: Iterable[Entry] = logs.follow(path, ended, tail=count, since=since, until=until)
    else:
        entries = logs.read(path, tail=count, since=since, until=until)
    if values.get("json"):
        print_json(entries)
    else:
        logs.write(entries, 1, 2, bool(values.get("timestamps")))
    return 0


def print_json(entries: Iterable[Entry]) -> None:
    """An object a line; the text with what is no UTF-8 escaped."""
    for entry in entries:
        text = entry.text.decode(errors="backslashreplace")
        line = {"time": logs.rfc3339(entry.time), "stream": entry.stream, "log": text}
        sys.stdout.write(json.dumps({**line, "ends": entry.ends}) + "\n")
        sys.stdout.flush()
