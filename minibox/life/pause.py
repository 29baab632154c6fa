# SPDX-License-Identifier: Apache-2.0
"""While it runs: held still, let go on, given other limits."""

from __future__ import annotations

from minibox import request
from minibox.errors import SetupError, StateError
from minibox.life.create import journal
from minibox.resident import PAUSED, Resident
from minibox.spec import Cgroup as Asked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.request import Options
    from minibox.resources.cgroup import Cgroup


def pause(container: Resident) -> None:
    """Hold all its processes still (freezer). StateError, SetupError."""
    with container.directory.lock(container.name):
        if container.state().status == PAUSED:
            raise StateError(f"container {container.name} is paused already")
        group = _running(container)
        try:
            group.freeze()
        except OSError as error:
            raise SetupError(error.errno or 0, f"pause: {error.filename}") from None
        except StateError as error:
            raise StateError(f"container {container.name}: {error}") from None
    journal(container, "pause")


def resume(container: Resident) -> None:
    """Let them go on. StateError, SetupError."""
    with container.directory.lock(container.name):
        group = _running(container)
        if container.state().status != PAUSED:
            raise StateError(f"container {container.name} is not paused")
        try:
            group.thaw()
        except OSError as error:
            raise SetupError(error.errno or 0, f"resume: {error.filename}") from None
    journal(container, "unpause")


def _running(container: Resident) -> Cgroup:
    """The cgroup of one that runs. StateError."""
    if not container.state().is_running:
        raise StateError(f"container {container.name} is not running")
    return container.cgroup()


def update(container: Resident, changes: Options) -> None:
    """Other limits, now and from now on; what is not among the changes stays. All of them, or none.
    SpecError, StateError, SetupError, Unsupported."""
    with container.directory.lock(container.name):
        config = container.reload()
        options: Options = {**config["options"], **changes}
        asked = request.cgroup(options) or Asked()
        before = request.cgroup(config["options"]) or Asked()
        if container.state().is_running:
            group = _running(container)
            group.limits = before.limits
            group.update(asked.limits)
        try:
            container.directory.write("config.json", {**config, "options": options})
        except StateError:
            if container.state().is_running:
                group.update(before.limits)
            raise
        container.reload()
    journal(container, "update")
