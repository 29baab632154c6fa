# SPDX-License-Identifier: Apache-2.0
"""minibox create"""

from __future__ import annotations

from minibox import life
from minibox.cli import containers, default_net
from minibox.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values
    from minibox.resident import Resident


def execute(values: Values) -> int:
    print(create(values).id)
    return 0


def create(values: Values) -> Resident:
    """The container of a command line."""
    if values.get("tty") and values.get("no_tty"):
        raise SpecError("--tty", "it contradicts --no-tty")
    default_net.settle(values)
    containers.check_cidfile(values)
    options, wanted = containers.asked(values)
    rootfs, *args = values["args"]
    container = life.create(containers.store(), args, rootfs, options, wanted)
    try:
        containers.write_cidfile(values, container.id)
    except SpecError:
        life.remove(container)
        raise
    return container
