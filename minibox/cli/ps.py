# SPDX-License-Identifier: Apache-2.0
"""minibox ps"""

from __future__ import annotations

import sys

from minibox import cli, resident, settings
from minibox.cli import containers, shown, table
from minibox.directory import SHORT
from minibox.errors import MiniboxError, SpecError
from minibox.resident import Resident, State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from minibox.cli.containers import Values

    Row = dict[str, Any]
    T = TypeVar("T")
    Test = Callable[[Resident, State], bool]

COLUMNS = (
    ("CONTAINER ID", "ID"),
    ("ROOTFS", "Image"),
    ("COMMAND", "Command"),
    ("CREATED", "RunningFor"),
    ("STATUS", "Status"),
    ("PORTS", "Ports"),
    ("NAMES", "Names"),
)
HEADINGS = {field: heading for heading, field in COLUMNS}
COLOURS = {"running": "green", "paused": "yellow", "restarting": "yellow"}


def execute(values: Values) -> int:
    template = values.get("format") or ""
    if values.get("json") and template not in ("", "json"):
        raise SpecError("--format", "it contradicts --json")
    whole = bool(values.get("no_trunc"))

    def row(it: Resident, state: State) -> Row:
        return shown.row(it, state, whole=whole)

    if values.get("quiet"):
        lines = select(values, lambda it, _: it.id if whole else it.id[:SHORT])
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    elif values.get("json") or template == "json":
        containers.print_json(select(values, shown.entry))
    elif template in ("", "table"):
        print_table(select(values, row))
    else:
        from minibox.cli import template as templates

        sys.stdout.write(templates.rows(template, select(values, row), HEADINGS))
    return 0


def print_table(found: list[Row]) -> None:
    is_coloured = table.is_coloured(sys.stdout)
    rows = []
    for row in found:
        colour = COLOURS.get(row["State"]) or ("red" if row["ExitCode"] else "")
        if colour:
            row["Status"] = table.paint(row["Status"], colour, is_coloured)
        rows.append([row[field] for _, field in COLUMNS])
    sys.stdout.write(table.table([heading for heading, _ in COLUMNS], rows))


def select(values: Values, show: Callable[[Resident, State], T]) -> list[T]:
    """What is to be shown of the containers that are asked for, the newest first; one whose files
    are damaged is said and left out."""
    tests: dict[str, list[Test]] = {}
    for text in values.get("filters") or ():
        key, test = _filter(text)
        tests.setdefault(key, []).append(test)
    last = settings.whole("--last", values["last"]) if values.get("last") else 0
    last = 1 if values.get("latest") else last
    asks_state = any(
        text.startswith(("status=", "exited=")) for text in values.get("filters") or ()
    )
    wants_all = bool(values.get("all") or last or asks_state)
    found: list[T] = []
    for container in reversed(resident.residents(containers.store())):
        try:
            state = container.state()
            container.config  # noqa: B018 # here, where one that is damaged does no harm
            is_shown = wants_all or not state.is_at_rest
            if is_shown and all(
                any(test(container, state) for test in alike) for alike in tests.values()
            ):
                found.append(show(container, state))
        except MiniboxError as error:
            if not _is_gone(container):
                cli.report(error)
    return found[:last] if last else found


def _is_gone(container: Resident) -> bool:
    """Was it removed while we looked?"""
    return not container.directory.files()


def _filter(text: str) -> tuple[str, Test]:
    """docker's filters: id, name, label, status, exited, health, ancestor (the root). Of several
    of one kind one must hold (all of the labels), and of each kind."""
    key, equals, value = text.partition("=")
    if not equals:
        raise SpecError("--filter", f"{text!r}: write KEY=VALUE")
    name, has_value, wanted = value.partition("=")
    tests: dict[str, Test] = {
        "id": lambda it, _: it.id.startswith(value),
        "name": lambda it, _: value in it.name,
        "label": lambda it, _: (
            name in it.config["labels"] and (not has_value or it.config["labels"][name] == wanted)
        ),
        "status": lambda _, state: state.status == value,
        "exited": lambda _, state: (
            state.status == resident.EXITED and str(state.exit_code) == value
        ),
        "health": lambda it, state: (shown.health_of(it, state) or "none") == value,
        "ancestor": lambda it, _: it.config["rootfs"] == value,
    }
    if key not in tests:
        raise SpecError("--filter", f"{key!r} is none of {', '.join(tests)}")
    return text if key == "label" else key, tests[key]
