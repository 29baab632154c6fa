# SPDX-License-Identifier: Apache-2.0
"""minibox rename"""

from __future__ import annotations

from minibox import life
from minibox.cli import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values


def execute(values: Values) -> int:
    old, new = values["args"]
    life.rename(containers.find(old), new)
    return 0
