# SPDX-License-Identifier: Apache-2.0
"""minibox rm"""

from __future__ import annotations

from minibox import life
from minibox.cli import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values


def execute(values: Values) -> int:
    force = bool(values.get("force"))
    names = containers.chosen(values, lambda it: force or it.state().is_at_rest)
    all_ = values.get("all")
    return containers.each(
        names, lambda container: life.remove(container, force=force), all_there_are=all_
    )
