# SPDX-License-Identifier: Apache-2.0
"""minibox gc"""

from __future__ import annotations

from minibox import life
from minibox.cli import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values


def execute(values: Values) -> int:
    for line in life.gc(containers.store()):
        if not values.get("quiet"):
            print(line)
    return 0
