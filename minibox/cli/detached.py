# SPDX-License-Identifier: Apache-2.0
"""minibox run for a container that is kept: with -d, --name and the like. create, then start."""

from __future__ import annotations

import os

from minibox import cli, life
from minibox.cli import containers, create, start
from minibox.errors import MiniboxError, SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values


def execute(values: Values) -> int:
    if values.get("die_with_parent"):
        raise SpecError("--die-with-parent", "a container with a name lives on by itself")
    if values.get("no_tty"):
        values.pop("tty", None)
    elif not values.get("detach"):
        values["tty"] = values.get("tty") or (os.isatty(0) and os.isatty(1))
    if not values.get("detach"):
        values["interactive"] = True  # as for any command in the foreground
    container = create.create(values)
    try:
        if values.get("detach"):
            show = start.show_trace if values.get("trace") else None
            life.start(container, show=show, say=cli.say)
            print(container.id)
            return 0
        return start.start_attached(container, values, stdin=True)
    except (MiniboxError, OSError):
        if not container.state().run:
            life.remove(container)  # it has never been one
            containers.remove_cidfile(values)
        raise
