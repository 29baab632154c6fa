# SPDX-License-Identifier: Apache-2.0
"""minibox completion: the scripts are click's, the names are the store's."""

from __future__ import annotations

import sys

from minibox import resident
from minibox.cli import containers
from minibox.errors import MiniboxError, SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minibox.cli.containers import Values


def execute(values: Values) -> int:
    from click.shell_completion import get_completion_class

    from minibox.cli.click_app import app

    shell = values["args"][0]
    kind = get_completion_class(shell)
    if kind is None or shell not in ("bash", "zsh", "fish"):
        raise SpecError("SHELL", f"{shell!r} is none of bash, zsh, fish")
    sys.stdout.write(kind(app, {}, "minibox", "_MINIBOX_COMPLETE").source())
    return 0


def names(kind: str, start: str) -> list[str]:
    """The names that begin so, of what a verb completes (options.py); none when in doubt."""
    found = []
    try:
        for name in _all(kind):
            if name.startswith(start):
                found.append(name)
    except (MiniboxError, OSError):
        pass
    return found


def _all(kind: str) -> Iterator[str]:
    store = containers.store()
    if kind == "networks":
        from minibox.network.config import Networks

        yield from Networks(store.root).names()
    elif kind == "topologies":
        from minibox.topology import standing

        yield from standing.names(store.root)
    elif kind == "experiments":
        from minibox.lab import catalogue

        yield from (one.name for one in catalogue())
    else:
        for container in resident.residents(store):
            if kind != "running" or container.state().is_running:
                yield container.name
