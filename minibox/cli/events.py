# SPDX-License-Identifier: Apache-2.0
"""minibox events: JSON lines, as they happen, until it is interrupted."""

from __future__ import annotations

import json
import sys
import time

from minibox import events, logs
from minibox.cli import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values


def execute(values: Values) -> int:
    now = time.time_ns()
    since, until = (
        logs.moment(f"--{word}", values[word], now) if values.get(word) else None
        for word in ("since", "until")
    )
    filters = values.get("filters") or ()
    root = containers.store()
    if values.get("no_stream"):
        found = events.read(root.root, since=since, until=until, filters=filters)
    else:
        root.prepare()
        found = events.follow(
            root.root, since=since, until=until, filters=filters, stop=lambda: False
        )
    template = values.get("format")
    render = None
    if template not in (None, "json"):
        from minibox.cli import template as templates

        render = templates.compile(template)
    for event in found:
        text = render.render(json.loads(event.line)) if render else event.line
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    return 0
