# SPDX-License-Identifier: Apache-2.0
"""minibox diff"""

from __future__ import annotations

import os
import sys

from minibox import host, life
from minibox.changes import changes
from minibox.cli import containers
from minibox.errors import StateError
from minibox.monitor import UPPER_FD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values


def execute(values: Values) -> int:
    container = containers.find(values["args"][0])
    config, state = container.config, container.state()
    if not config["options"].get("overlay"):
        what = "its root is ROOTFS itself: only a --volatile one has something to compare"
        raise StateError(f"container {container.name}: {what}")
    if not state.is_running:
        raise StateError(f"container {container.name} is not running: its changes went with it")
    here = host.probe()
    spec = life.build(config, here, None)
    maps = (spec.uid_mappings, spec.gid_mappings) if here.privileged else ((), ())
    skip = {mount.target for mount in spec.mounts}
    upper = f"/proc/{state.monitor}/fd/{UPPER_FD}/upper"
    try:
        found = changes(os.fsencode(upper), os.fsencode(config["rootfs"]), skip, maps)
    except FileNotFoundError:
        raise StateError(f"container {container.name} is not running") from None
    if values.get("json"):
        kinds = {"C": 0, "A": 1, "D": 2}  # as docker's API counts them
        containers.print_json(
            [{"Path": os.fsdecode(path), "Kind": kinds[kind]} for kind, path in found]
        )
    else:
        sys.stdout.flush()
        os.write(1, b"".join(kind.encode() + b" " + path + b"\n" for kind, path in found))
    return 0
