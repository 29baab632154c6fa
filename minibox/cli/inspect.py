# SPDX-License-Identifier: Apache-2.0
"""minibox inspect"""

from __future__ import annotations

from minibox import cli
from minibox.cli import containers, shown
from minibox.errors import MiniboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values


def execute(values: Values) -> int:
    found, code = [], 0
    for name in values["args"]:
        try:
            container = containers.find(name)
            found.append(shown.whole(container, container.state()))
        except MiniboxError as error:
            code = cli.report(error)
    template = values.get("format")
    if template in (None, "json"):
        containers.print_json(found)
        return code
    from minibox.cli import template as templates

    compiled = templates.compile(template)
    for one in found:
        print(compiled.render(one))
    return code
