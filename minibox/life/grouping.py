# SPDX-License-Identifier: Apache-2.0
"""The cgroup of a kept container: it has one wherever one can be made, for stats, pause and update.

The monitor removes it at the end. Where the monitor was killed, the next start does, rm, or gc.
"""

from __future__ import annotations

from minibox import limits, request
from minibox.errors import StateError
from minibox.resources import leftovers, making
from minibox.spec import Cgroup as Asked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.host import Host
    from minibox.resident import Resident
    from minibox.resources.cgroup import Cgroup
    from minibox.spec import Monitor, Spec


def make(container: Resident) -> Cgroup:
    """For one start; what a dead one has left is taken away. Without parts where none can be made
    and no limit is asked for. Unsupported, SetupError, SpecError."""
    asked = request.cgroup(container.config["options"]) or Asked()
    container.cgroup().remove()
    return making.make(container.id, asked, kept=True)


def fit(group: Cgroup, spec: Spec, host: Host) -> Spec:
    """The Spec with what came of it."""
    return spec if group.parts else limits.fit(spec, None, host)


def watched(group: Cgroup, monitor: Monitor) -> Monitor:
    """The monitor with what it does about it."""
    oom = group.file("memory", "memory.oom_control", "memory.events")
    thaw, thawed = group.thaw_file()
    paths = tuple(part.path.encode() for part in group.parts if not part.is_scope)
    return monitor.replace(
        leases=(*monitor.leases, *paths),
        oom=oom.encode(),
        thaw=thaw.encode(),
        thawed=thawed.encode(),
    )


def remove(container: Resident) -> None:
    """What is left of it, when it has ended and cannot be cleared by its monitor any more."""
    try:
        container.cgroup().remove()
    except StateError:
        pass  # its record is damaged
    leftovers.remove_named(container.id)
