# SPDX-License-Identifier: Apache-2.0
"""minibox kill"""

from __future__ import annotations

from minibox import forms, life
from minibox.cli import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values


def execute(values: Values) -> int:
    signal = values.get("signal")
    number = forms.signal("--signal", "KILL" if signal is None else signal)
    return containers.each_chosen(
        values, lambda it: not it.state().is_at_rest, lambda container: life.kill(container, number)
    )
