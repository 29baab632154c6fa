# SPDX-License-Identifier: Apache-2.0
"""minibox doctor"""

from __future__ import annotations

import sys

from minibox import doctor
from minibox.cli import containers, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values

HEADINGS = ("WHAT", "", "FOUND", "WHAT FOLLOWS")
COLOURS = {doctor.YES: "green", doctor.PARTLY: "yellow", doctor.NO: "red"}


def execute(values: Values) -> int:
    findings = list(doctor.examine())
    if values.get("json"):
        names = doctor.Finding._fields
        containers.print_json([dict(zip(names, one.astuple(), strict=True)) for one in findings])
        return 0
    paints = table.is_coloured(sys.stdout)
    rows = [
        (one.name, table.paint(one.state, COLOURS[one.state], paints), one.found, one.follows)
        for one in findings
    ]
    mends = [(f"{one.name}:", one.mend) for one in findings if one.mend]
    sys.stdout.write(table.table(HEADINGS, rows))
    if mends:
        sys.stdout.write("\nWhat mends it:\n" + table.table((), mends))
    return 0
