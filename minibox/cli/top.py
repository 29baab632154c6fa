# SPDX-License-Identifier: Apache-2.0
"""minibox top"""

from __future__ import annotations

import sys
import time

from minibox import processes
from minibox.cli import containers, table
from minibox.errors import StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values
    from minibox.processes import Row

HEADINGS = ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")


def execute(values: Values) -> int:
    container = containers.find(values["args"][0])
    state = container.state()
    if not state.is_running:
        raise StateError(f"container {container.name} is not running")
    try:
        rows = processes.of(state.pid)
    except (FileNotFoundError, ProcessLookupError):
        raise StateError(f"container {container.name} is not running") from None
    if values.get("json"):
        containers.print_json([dict(zip(row._fields, row.astuple(), strict=True)) for row in rows])
    else:
        sys.stdout.write(table.table(HEADINGS, [_cells(row) for row in rows]))
    return 0


def _cells(row: Row) -> list[str]:
    age = max(1.0, time.time() - row.began)
    seconds = int(row.busy)
    is_today = time.time() - row.began < 86400
    began = time.strftime("%H:%M" if is_today else "%b%d", time.localtime(row.began))
    spent = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    share = str(min(99, int(100 * row.busy / age)))
    return [
        *(str(row.uid), str(row.pid), str(row.ppid), share),
        *(began, row.terminal, spent, row.command),
    ]
