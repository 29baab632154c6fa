# SPDX-License-Identifier: Apache-2.0
"""What came out: the verdict, and all of it as plain data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minibox.lab import words
from minibox.lab.experiment import Experiment
from minibox.lab.run import Notes

HOLDS, DIFFERS, UNSUPPORTED = "holds", "differs", "unsupported"


@dataclass(frozen=True)
class Result:
    """An experiment and the notes of its runs, by name. cost: of its flags (cost.py), or None."""

    experiment: Experiment
    notes: Mapping[str, Notes]
    cost: Mapping[str, Any] | None = None

    @property
    def failures(self) -> list[str]:
        """What went wrong that the experiment did not foresee, by run."""
        return [f"{name}: {notes.failed}" for name, notes in self.notes.items() if notes.failed]

    @property
    def verdict(self) -> str:
        """`holds`; `differs` from what the manual says; `unsupported` on this kernel or machine."""
        if any(notes.unsupported for notes in self.notes.values()):
            return UNSUPPORTED
        return DIFFERS if self.differences else HOLDS

    @property
    def differences(self) -> list[str]:
        """Each thing that was seen otherwise than it was expected, in words."""
        found = self.failures
        for name, wanted in self.expected.items():
            saw = self.notes[name].saw
            for what, value in wanted.items():
                if self.notes[name].failed:
                    continue
                if what not in saw:
                    found.append(f"{name}: {what}: expected {value!r}, and it was not seen")
                elif saw[what] != value:
                    found.append(f"{name}: {what}: expected {value!r}, saw {saw[what]!r}")
        return found

    @property
    def expected(self) -> dict[str, dict[str, object]]:
        """What each run should have seen, but for what could not be shown here."""
        return {
            name: {k: v for k, v in wanted.items() if k not in self.notes[name].skipped}
            for name, wanted in self.experiment.expected.items()
        }

    @property
    def why(self) -> str:
        """The reason of a verdict other than `holds`."""
        reasons = [
            f"{name}: {notes.unsupported}"
            for name, notes in self.notes.items()
            if notes.unsupported
        ]
        return "; ".join(dict.fromkeys(reasons or self.differences))

    @property
    def figures(self) -> list[dict[str, Any]]:
        """title, x, y, log, bars, and lines: [{name, points: [[x, y], …]}]."""
        figures: dict[str, dict[str, Any]] = {}
        for notes in self.notes.values():
            for (title, x, y, log, bars), line, *point in notes.points:
                figure = figures.setdefault(
                    title, {"title": title, "x": x, "y": y, "log": log, "bars": bars, "lines": {}}
                )
                figure["lines"].setdefault(line, []).append(point)
        return [
            {**figure, "lines": [{"name": n, "points": p} for n, p in figure["lines"].items()]}
            for figure in figures.values()
        ]

    def as_data(self) -> dict[str, Any]:
        """All of it, for --json and the report."""
        uname = os.uname()
        return {
            "name": self.experiment.name,
            "kind": self.experiment.kind,
            "flags": [*words.flags(self.experiment.flags), *self.experiment.fields],
            "hypothesis": self.experiment.hypothesis,
            "about": self.experiment.about,
            "source": self.experiment.source,
            "plans": {name: notes.calls for name, notes in self.notes.items()},
            "expected": self.expected,
            "observed": {name: notes.saw for name, notes in self.notes.items()},
            "skipped": {name: notes.skipped for name, notes in self.notes.items()},
            "measured": {name: notes.measured for name, notes in self.notes.items()},
            "figures": self.figures,
            "cost": self.cost,
            "verdict": self.verdict,
            "why": self.why,
            "kernel": uname.release,
            "machine": uname.machine,
        }
