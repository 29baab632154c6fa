# SPDX-License-Identifier: Apache-2.0
"""minibox plan"""

from __future__ import annotations

import os
import sys

from minibox import describe
from minibox.cli import default_net, run
from minibox.compile import compile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.quick import Values


def execute(values: Values) -> int:
    terminals = tuple(fd for fd in range(3) if os.isatty(fd)) if values.get("tty") else ()
    default_net.settle(values)
    wiring = run.networks(values, plans=True)
    if wiring:
        wiring.preview()
    spec, here = run.prepare(values, terminals=terminals, wiring=wiring)
    plan = compile(spec, here)
    if values.get("json"):
        import json

        json.dump(describe.as_data(plan), sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        sys.stdout.write(describe.table(plan))
    return 0
