# SPDX-License-Identifier: Apache-2.0
"""minibox pause"""

from __future__ import annotations

from minibox import life
from minibox.cli import containers
from minibox.resident import PAUSED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values
    from minibox.resident import Resident


def execute(values: Values) -> int:
    return containers.each_chosen(values, _runs, life.pause)


def _runs(container: Resident) -> bool:
    state = container.state()
    return state.is_running and state.status != PAUSED
