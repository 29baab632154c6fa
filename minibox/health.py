# SPDX-License-Identifier: Apache-2.0
"""Health checks: one run of the command in the container, and what follows for its health.

The monitor runs `minibox healthcheck` now and then; docker's rules decide (Dockerfile reference,
HEALTHCHECK): a failure within the start period does not count, `retries` failures in a row make a
container unhealthy, one success makes it healthy.
"""

from __future__ import annotations

import time

from minibox import shapes
from minibox.directory import Damaged
from minibox.logs import rfc3339
from minibox.resident import NS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.directory import Data
    from minibox.resident import Resident, State

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
KEPT_RESULTS = 5
KEPT_OUTPUT = 4096
TIMED_OUT = -1


def last(container: Resident, state: State) -> Data:
    """What the last check of this run has left: status, failing, log."""
    blank: Data = {"run": state.run, "status": STARTING, "failing": 0, "log": []}
    try:
        found = container.directory.read("health.json") or {}
    except Damaged:
        return blank
    is_sound = shapes.fits(found, shapes.HEALTH) and found["run"] == state.run
    return found if is_sound else blank


def note(container: Resident, state: State, began: int, exit_code: int, output: bytes) -> str:
    """Write down one result; the health that follows from it."""
    rules: Data = container.config["health"]
    before = last(container, state)
    status: str = before["status"]
    failing: int = before["failing"]
    if exit_code == 0:
        status, failing = HEALTHY, 0
    elif status != STARTING or time.time_ns() - state.began >= rules["start_period"] * NS:
        failing += 1
        if failing >= rules["retries"]:
            status = UNHEALTHY
    result = {
        "Start": rfc3339(began),
        "End": rfc3339(time.time_ns()),
        "ExitCode": exit_code,
        "Output": output[:KEPT_OUTPUT].decode(errors="backslashreplace"),
    }
    log = [*before["log"], result][-KEPT_RESULTS:]
    container.directory.write(
        "health.json", {"run": state.run, "status": status, "failing": failing, "log": log}
    )
    return status
