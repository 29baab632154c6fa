# SPDX-License-Identifier: Apache-2.0
"""The beginning: a request becomes a directory with a config.json; and the Spec that it means."""

from __future__ import annotations

import os
import time

from minibox import events, limits, request, settings
from minibox import host as hosts
from minibox.compile import compile
from minibox.directory import SHORT
from minibox.errors import SpecError, StateError
from minibox.network import modes
from minibox.resident import Resident
from minibox.resources import ranges
from minibox.spec import Cgroup, Monitor, Terminal
from minibox.store import Store, is_name, new_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from minibox.directory import Data
    from minibox.host import Host
    from minibox.network.wiring import Wiring
    from minibox.request import Options, Text
    from minibox.settings import Settings
    from minibox.spec import Spec

DEFAULT_SIZE = (24, 80)


def create(
    store: Store, args: Iterable[Text], rootfs: Text, options: Options, wanted: Settings
) -> Resident:
    """A new container, not started. SpecError for what could not be started, StateError when its
    name is taken."""
    host = hosts.probe()
    name = wanted.get("name")
    if name is not None and not is_name(name):
        raise SpecError("--name", f"{name!r}: letters, digits and _ . - after a letter or digit")
    path, frozen = request.freeze(rootfs, options)
    check_networks(store, frozen)
    config = {
        "id": new_id(),
        "name": name,
        "created": time.time_ns(),
        "rootfs": path,
        "args": [os.fsdecode(arg) for arg in args],
        "options": frozen,
        **settings.parse(wanted),
    }
    spec = build(config, host, None)
    compile(spec, host)
    made = Resident(store, store.add(config, lease=spec.is_leased))
    journal(made, "create")
    return made


def check_networks(store: Store, options: Options) -> None:
    """Could they be plugged in? SpecError, StateError."""
    if modes.is_wired(options):
        from minibox.network.wiring import Wiring

        Wiring(store.root, options, "").check()


def build(
    config: Data,
    host: Host,
    watched: Monitor | None,
    size: tuple[int, int] = (24, 80),
    wiring: Wiring | None = None,
) -> Spec:
    """The Spec of a container's config, with this monitor and these networks. SpecError."""
    given = wiring.options if wiring else modes.unwired(config["options"])
    wired = wiring.wired() if wiring else request.UNWIRED
    options: Options = dict(given)  # type: ignore[assignment]
    if "uts" in request.namespaces(options):
        options.setdefault("hostname", config["id"][:SHORT])
    tty = config["tty"]
    streams = () if tty else (0, 1, 2)
    spec = request.build(config["args"], config["rootfs"], options, host, streams, wired)
    if tty:
        has_term = any(item.startswith(b"TERM=") for item in spec.env)
        env = spec.env if has_term else (*spec.env, b"TERM=xterm")
        spec = spec.replace(terminal=Terminal(*size), env=env)
    if "ids" in config and spec.makes("user") and host.privileged:
        uids, gids = ranges.kept(config["ids"])
        spec = spec.replace(uid_mappings=uids, gid_mappings=gids, is_leased=False)
    # A cgroup, if one can be made: life/grouping.py.
    spec = limits.fit(spec, spec.cgroup or Cgroup(), host)
    return spec.replace(monitor=watched or Monitor())


def journal(container: Resident, action: str, **attributes: str) -> None:
    """Say in the journal what has happened; that it cannot be said stops nothing."""
    try:
        labels = container.config["labels"]
        name = container.name
    except StateError:
        labels, name = {}, ""
    events.record(container.store.root, action, container.id, name, **{**labels, **attributes})
