# SPDX-License-Identifier: Apache-2.0
"""minibox stop"""

from __future__ import annotations

from minibox import forms, life, settings
from minibox.cli import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values


def execute(values: Values) -> int:
    timeout = values.get("timeout")
    seconds = None if timeout is None else float(settings.whole("--time", timeout))
    signal = values.get("signal")
    number = None if signal is None else forms.signal("--signal", signal)
    return containers.each_chosen(
        values,
        lambda it: not it.state().is_at_rest,
        lambda container: life.stop(container, seconds, number),
    )
