# SPDX-License-Identifier: Apache-2.0
"""minibox resume"""

from __future__ import annotations

from minibox import life
from minibox.cli import containers
from minibox.resident import PAUSED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values


def execute(values: Values) -> int:
    return containers.each_chosen(values, lambda it: it.state().status == PAUSED, life.resume)
