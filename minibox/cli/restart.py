# SPDX-License-Identifier: Apache-2.0
"""minibox restart"""

from __future__ import annotations

from minibox import life, settings
from minibox.cli import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values


def execute(values: Values) -> int:
    timeout = values.get("timeout")
    seconds = None if timeout is None else float(settings.whole("--time", timeout))
    return containers.each(values["args"], lambda container: life.restart(container, seconds))
