# SPDX-License-Identifier: Apache-2.0
"""minibox attach"""

from __future__ import annotations

from minibox import attach, settings
from minibox.cli import containers, start
from minibox.errors import SpecError, StateError
from minibox.resident import Ending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values


def execute(values: Values) -> int:
    container = containers.find(values["args"][0])
    config, state = container.config, container.state()
    if not state.is_running:
        raise StateError(f"container {container.name} is not running")
    proxy = values.get("sig_proxy") or "true"
    if proxy not in ("true", "false"):
        raise SpecError("--sig-proxy", f"{proxy!r} is neither true nor false")
    given = values.get("detach_keys")
    keys = settings.detach_keys(config["detach_keys"] if given is None else given)
    with Ending(container, state.run) as ending:
        talk = attach.Attached(
            container,
            attach.connect(container),
            tty=config["tty"],
            stdin=config["interactive"] and not values.get("no_stdin"),
            keys=keys,
            ends=False,
            proxy=proxy == "true" and not config["tty"],
        )
        talk.hold()
        return 0 if talk.detached else start.exit_code(container, ending, talk.ended_by)
