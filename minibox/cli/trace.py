# SPDX-License-Identifier: Apache-2.0
"""minibox trace"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

from minibox import tracing
from minibox.errors import CannotExecute, CommandNotFound, SpecError
from minibox.tracing import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from minibox.cli.quick import Values
    from minibox.tracing import Event


def execute(values: Values) -> int:
    words: list[str] = values["args"]  # type: ignore[assignment]
    if not words[0]:
        raise SpecError("COMMAND", "it is empty")
    out = _open(values.get("output"))  # type: ignore[arg-type]
    events: list[Event] = []

    def say(event: Event) -> None:
        out.write(f"{event.tid:7} {event.text} {tree.shown(event.namespaces)}".rstrip() + "\n")
        out.flush()

    def ignore(event: Event) -> None:
        pass

    tell = events.append if values.get("json") else ignore if values.get("quiet") else say
    try:
        outcome = tracing.follow(words, tell)
    except tracing.NotExecuted as error:
        raise _failure(error.errno, words[0]) from None
    if values.get("json"):
        data = {
            "command": words,
            "exit_code": outcome.exit_code,
            "events": [event.as_data() for event in events],
            "processes": [asdict(process) for process in outcome.processes],
        }
        out.write(json.dumps(data, indent=2) + "\n")
    else:
        out.writelines(line + "\n" for line in tree.lines(outcome.processes))
    out.flush()
    return outcome.exit_code


def _open(path: str | None) -> TextIO:
    if path is None:
        return sys.stderr
    try:
        return open(path, "w", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise SpecError("--output", f"{path or 'empty'}: {error.strerror}") from None


def _failure(number: int, name: str) -> CommandNotFound | CannotExecute:
    missing = isinstance(OSError(number, ""), FileNotFoundError)
    reason = "command not found" if missing and "/" not in name else os.strerror(number)
    kind = CommandNotFound if missing else CannotExecute
    return kind(number, name, reason=reason)
