# SPDX-License-Identifier: Apache-2.0
"""minibox completion: the scripts are click's, the names are the store's."""

from __future__ import annotations

import sys

from minibox import resident
from minibox.cli import containers
from minibox.errors import MiniboxError, SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values
    from minibox.cli.options import Verb


def execute(values: Values) -> int:
    from click.shell_completion import get_completion_class

    from minibox.cli.click_app import app

    shell = values["args"][0]
    kind = get_completion_class(shell)
    if kind is None or shell not in ("bash", "zsh", "fish"):
        raise SpecError("SHELL", f"{shell!r} is none of bash, zsh, fish")
    sys.stdout.write(kind(app, {}, "minibox", "_MINIBOX_COMPLETE").source())
    return 0


def names(verb: Verb, start: str) -> list[str]:
    """The names that begin so, of those that make sense for the verb; none when in doubt."""
    found = []
    try:
        for container in resident.residents(containers.store()):
            if container.name.startswith(start) and (
                verb.completes != "running" or container.state().is_running
            ):
                found.append(container.name)
    except (MiniboxError, OSError):
        pass
    return found
