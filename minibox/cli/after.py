# SPDX-License-Identifier: Apache-2.0
"""minibox after"""

from __future__ import annotations

from minibox import life
from minibox.cli import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values


def execute(values: Values) -> int:
    name, number = values["args"]
    life.after(containers.find(name), int(number))
    return 0
