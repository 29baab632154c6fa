# SPDX-License-Identifier: Apache-2.0
"""minibox update"""

from __future__ import annotations

from minibox import life
from minibox.cli import containers
from minibox.cli.options import ADJUSTABLE
from minibox.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values
    from minibox.request import Options


def execute(values: Values) -> int:
    given = {word: values[word] for word in ADJUSTABLE if values.get(word) is not None}
    if not given:
        raise SpecError("update", "no limit is given")
    changes: Options = given  # type: ignore[assignment]
    return containers.each(values["args"], lambda container: life.update(container, changes))
