# SPDX-License-Identifier: Apache-2.0
"""minibox lab list, run, show"""

from __future__ import annotations

import sys

from minibox import cli, lab
from minibox.cli import containers, table
from minibox.errors import SpecError
from minibox.lab import report, shown
from minibox.lab.catalogue import KINDS
from minibox.lab.result import DIFFERS, HOLDS, UNSUPPORTED, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from minibox.cli.containers import Values
    from minibox.lab import Experiment

COLOURS = {HOLDS: "green", DIFFERS: "yellow", UNSUPPORTED: "red"}


def execute(values: Values) -> int:
    if "site" not in sys.modules:
        # The command leaves it out for speed (csrc/start.c); packages with experiments may be
        # wherever it looks.
        import site

        site.main()
    action, *names = values["args"] or ["list"]
    act = {"list": _list, "ls": _list, "run": _run, "show": _show}.get(action)
    if act is None:
        raise SpecError("ACTION", f"{action!r} is none of list, run, show")
    if action != "run" and (values.get("report") or values.get("all")):
        raise SpecError("--report" if values.get("report") else "--all", "it goes with run")
    return act(names, values)


def _list(names: list[str], values: Values) -> int:
    chosen = lab.find(names) if names else lab.catalogue()
    if values.get("json"):
        fields = ("name", "kind", "hypothesis", "source")
        containers.print_json([{field: getattr(one, field) for field in fields} for one in chosen])
        return 0
    width = max(len(one.name) for one in chosen)
    for kind, title in KINDS.items():
        rows = [(f"  {one.name:{width}}", one.hypothesis) for one in chosen if one.kind == kind]
        if rows:
            sys.stdout.write(f"{title}\n{table.table((), rows)}")
    return 0


def _run(names: list[str], values: Values) -> int:
    if bool(names) == bool(values.get("all")):
        raise SpecError("NAME", "name experiments, or say --all")
    chosen = lab.find(names) if names else lab.catalogue()
    path = values.get("report")
    # Before the experiments: they take a while, and a path that is wrong would lose them.
    file = None if path is None else _open(path)
    results = []
    for result in _results(chosen):
        results.append(result)
        if not values.get("json"):
            _say(result, max(len(one.name) for one in chosen))
    if values.get("json"):
        containers.print_json([result.as_data() for result in results])
    if file:
        _write(file, report.page([result.as_data() for result in results]))
    return _code(results)


def _open(path: str) -> TextIO:
    try:
        return open(path, "w", encoding="utf-8")
    except OSError as error:
        raise SpecError("--report", f"{path or 'empty'}: {error.strerror}") from None


def _write(file: TextIO, page: str) -> None:
    try:
        with file:
            file.write(page)
    except OSError as error:
        raise SpecError("--report", f"{file.name}: {error.strerror}") from None


def _show(names: list[str], values: Values) -> int:
    if not names:
        raise SpecError("NAME", "no experiment is named")
    results = list(_results(lab.find(names)))
    if values.get("json"):
        containers.print_json([result.as_data() for result in results])
    else:
        sys.stdout.write("\n".join(shown.page(result.as_data()) for result in results))
    return _code(results)


def _results(chosen: list[Experiment]) -> Iterator[Result]:
    for one in chosen:
        # What is in a buffer would be written by each process that is forked off.
        cli.flush()
        yield lab.perform(one)


def _say(result: Result, width: int) -> None:
    paints = table.is_coloured(sys.stdout)
    verdict = table.paint(f"{result.verdict:11}", COLOURS[result.verdict], paints)
    line = f"{verdict} {result.experiment.name:{width}}  {result.why}"
    sys.stdout.write(line.rstrip() + "\n")


def _code(results: list[Result]) -> int:
    """1 when an experiment itself went wrong: that the kernel differs is a finding."""
    return 1 if any(result.failures for result in results) else 0
