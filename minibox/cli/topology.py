# SPDX-License-Identifier: Apache-2.0
"""minibox topology up, down, show, ls"""

from __future__ import annotations

import os
import sys

from minibox import cli
from minibox.cli import containers
from minibox.errors import MiniboxError, SpecError
from minibox.topology import standing
from minibox.topology.standing import Topology

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values


def execute(values: Values) -> int:
    action, *names = values["args"]
    if values.get("svg") and (action != "show" or len(names) != 1):
        raise SpecError("--svg", "it goes with show and one topology")
    if action == "ls":
        if names:
            raise SpecError("NAME", "ls lists all topologies")
        print("".join(f"{name}\n" for name in standing.names(containers.store().root)), end="")
        return 0
    act = {"up": _up, "down": _down, "show": _show}.get(action)
    if act is None:
        raise SpecError("ACTION", f"{action!r} is none of up, down, show, ls")
    if not names:
        raise SpecError("FILE", "no topology is named")
    code = 0
    for name in names:
        try:
            act(name, values)
        except MiniboxError as error:
            code = cli.report(error)
    return code


def _found(name: str) -> Topology:
    """A file, or what was brought up by that name."""
    root = containers.store().root
    if os.path.isfile(name) or "/" in name or name.endswith(".toml"):
        return Topology.load(name, root=root)
    return Topology.find(name, root=root)


def _up(name: str, values: Values) -> None:
    topology = Topology.load(name, root=containers.store().root)
    topology.up(cli.say)
    if values.get("quiet"):
        print(topology.name)
    else:
        sys.stdout.write(topology.text())


def _down(name: str, values: Values) -> None:
    topology = _found(name)
    topology.down()
    print(topology.name)


def _show(name: str, values: Values) -> None:
    topology = _found(name)
    path = values.get("svg")
    if not path:
        sys.stdout.write(topology.text())
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(topology.svg())
    except OSError as error:
        raise SpecError("--svg", f"{path}: {error.strerror}") from None
