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
    return containers.each_chosen(
        values,
        lambda it: force or it.state().is_at_rest,
        lambda container: life.remove(container, force=force),
    )
