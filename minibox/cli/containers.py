# SPDX-License-Identifier: Apache-2.0
"""What the verbs about containers share: the store, the words of a command line, one by one."""

from __future__ import annotations

import os
import sys

from minibox import cli, request, settings
from minibox.errors import MiniboxError, NoSuchContainer, SpecError
from minibox.resident import Resident, residents
from minibox.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minibox.request import Options
    from minibox.settings import Settings

    Values = dict[str, Any]


def store() -> Store:
    """The one of --root, or the user's."""
    return Store(cli.root)


def find(name: str) -> Resident:
    return Resident.find(store(), name)


def each(
    names: list[str],
    act: Callable[[Resident], object],
    *,
    say: bool = True,
    may_be_gone: bool = False,
) -> int:
    """Do something with each container; print the name of each with which it went well. Those with
    which it did not are said, and do not stop the others."""
    code = 0
    for name in names:
        try:
            act(find(name))
        except (MiniboxError, OSError) as error:
            if not (may_be_gone and isinstance(error, NoSuchContainer)):
                code = cli.report(error)
        else:
            if say:
                print(name, flush=True)
    return code


def each_chosen(
    values: Values, wanted: Callable[[Resident], bool], act: Callable[[Resident], object]
) -> int:
    """The same with the containers that a command line names; with --all those that are `wanted`,
    of which nobody has named one: that it is gone meanwhile is no error."""
    return each(_chosen(values, wanted), act, may_be_gone=bool(values.get("all")))


def _chosen(values: Values, wanted: Callable[[Resident], bool]) -> list[str]:
    names: list[str] = values["args"]
    if not values.get("all"):
        if not names:
            raise SpecError("CONTAINER", "none is named")
        return names
    if names:
        raise SpecError("--all", "it goes without names")
    found = []
    for container in residents(store()):
        try:
            if wanted(container):
                found.append(container.id)
        except NoSuchContainer:
            pass
        except MiniboxError as error:
            cli.report(error)
    return found


def asked(values: Values) -> tuple[Options, Settings]:
    """What of a command line is about the container, and what about its life."""
    options = {name: value for name, value in values.items() if name in request.OPTIONS}
    wanted = {name: value for name, value in values.items() if name in settings.FIELDS}
    return options, wanted  # type: ignore[return-value]


def check_cidfile(values: Values) -> None:
    path = values.get("cidfile")
    if path and os.path.lexists(path):
        raise SpecError("--cidfile", f"{path}: it is there already")


def write_cidfile(values: Values, id_: str) -> None:
    """The id, to a file that was not there. SpecError."""
    path = values.get("cidfile")
    if not path:
        return
    try:
        with open(path, "x", encoding="ascii") as file:
            file.write(id_)
    except OSError as error:
        raise SpecError("--cidfile", f"{path}: {error.strerror}") from None


def remove_cidfile(values: Values) -> None:
    if values.get("cidfile"):
        os.unlink(values["cidfile"])


def print_json(data: object) -> None:
    """For programs: indented, and a newline at the end."""
    import json

    json.dump(data, sys.stdout, indent=4)
    sys.stdout.write("\n")
