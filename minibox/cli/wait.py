# SPDX-License-Identifier: Apache-2.0
"""minibox wait"""

from __future__ import annotations

from minibox import life
from minibox.cli import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values


def execute(values: Values) -> int:
    return containers.each(
        values["args"],
        lambda container: print(life.wait(container).exit_code, flush=True),
        say=False,
    )
