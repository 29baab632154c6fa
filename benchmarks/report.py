# SPDX-License-Identifier: Apache-2.0
"""The result of a run, and its forms: a table, bench.json, bench.md and bench.svg."""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import asdict, dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from sampler import Samples

COLD = " (cold)"  # ends the name of a contestant that is started as a command
HEADINGS = ("what", "value", "quartiles", "target", "", "medians")


@dataclass
class Row:
    """One line of the result. value: None when it could not be measured; note says why then.
    left, right: medians in milliseconds. low, high: the quartiles of the rounds' own ratios."""

    name: str
    unit: str
    value: float | None = None
    limit: float | None = None
    strictly: bool = False
    left: float | None = None
    right: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""
    required: bool = False

    @property
    def target(self) -> str:
        if self.limit is None:
            return "-"
        return f"{'<' if self.strictly else '<='} {self.limit:g}{self.unit}"

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        if self.limit is None:
            return "info"
        met = self.value < self.limit if self.strictly else self.value <= self.limit
        return "met" if met else "MISSED"


@dataclass
class Outcome:
    """All of a run: where it ran, the rows, and the samples in milliseconds by contestant."""

    machine: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    samples: Samples = field(default_factory=dict)


def cells(row: Row) -> tuple[str, ...]:
    digits = 2 if row.unit == "x" else 1
    value = "-" if row.value is None else f"{row.value:.{digits}f}{row.unit}"
    spread = "" if row.low is None else f"{row.low:.{digits}f} to {row.high:.{digits}f}"
    medians = row.note if row.left is None else f"{row.left:.2f} ms, {row.right:.2f} ms"
    return row.name, value, spread, row.target, row.verdict, medians


def plain_table(rows: Sequence[Row]) -> str:
    lines = [HEADINGS, *[cells(row) for row in rows]]
    widths = [max(len(line[k]) for line in lines) for k in range(len(HEADINGS))]
    shown = ["  ".join(f"{c:{w}}" for c, w in zip(line, widths, strict=True)) for line in lines]
    return "".join(line.rstrip() + "\n" for line in shown)


def markdown(outcome: Outcome) -> str:
    facts = "".join(f"- {key}: {value}\n" for key, value in outcome.machine.items())
    lines = [HEADINGS, ("---",) * len(HEADINGS), *[cells(row) for row in outcome.rows]]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"# Benchmarks\n\n{facts}\n{table}"


def write(outcome: Outcome, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    data = asdict(outcome)
    for entry, row in zip(data["rows"], outcome.rows, strict=True):
        entry |= {"target": row.target, "verdict": row.verdict}
    (out / "bench.json").write_text(json.dumps(data, indent=1) + "\n")
    (out / "bench.md").write_text(markdown(outcome))
    try:
        plot(outcome, out / "bench.svg")
    except ImportError:
        print("no plot: matplotlib is not installed", file=sys.stderr)


def plot(outcome: Outcome, file: Path) -> None:
    """The samples of what is warm and of what is cold, and how far each target is used up."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "minibox"
    from matplotlib import pyplot

    cold = {n: s for n, s in outcome.samples.items() if n.endswith(COLD)}
    warm = {n: s for n, s in outcome.samples.items() if n not in cold}
    figure, axes = pyplot.subplots(3, 1, figsize=(9, 9.5), layout="constrained")
    draw_samples(axes[0], warm, "A container from a running program", "linear")
    draw_samples(axes[1], cold, "A container from the shell", "log")
    draw_targets(axes[2], [row for row in outcome.rows if row.limit and row.value is not None])
    facts = outcome.machine
    figure.suptitle(f"minibox, {facts['date']}\n{facts['kernel']}, {facts['cpu']}", fontsize=10)
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def draw_samples(axis: Any, samples: Samples, title: str, scale: str) -> None:
    """A line of dots for each contestant, the slowest at the bottom, its median marked."""
    median = {name: statistics.median(taken) for name, taken in samples.items()}
    order = sorted(samples, key=lambda name: median[name], reverse=True)
    for y, name in enumerate(order):
        colour = "tab:orange" if name.startswith(("library", "minibox")) else "tab:gray"
        axis.plot(samples[name], [y] * len(samples[name]), "o", color=colour, alpha=0.25)
        axis.plot([median[name]], [y], "|", color="black", markersize=18, markeredgewidth=2)
    labels = [f"{name.removesuffix(COLD)}: {median[name]:.1f} ms" for name in order]
    axis.set_yticks(range(len(order)), labels, fontsize=9)
    axis.set_ylim(-0.6, len(order) - 0.4)
    axis.set_xscale(scale)
    axis.set_title(title, fontsize=10, loc="left")
    axis.set_xlabel("milliseconds" + (", logarithmic" if scale == "log" else ""))
    if order and scale == "linear":
        # One slow sample must not squeeze all others together.
        slow = max(sorted(taken)[len(taken) * 95 // 100] for taken in samples.values())
        axis.set_xlim(0, 1.1 * slow)
    axis.grid(axis="x", which="both", alpha=0.3)


def draw_targets(axis: Any, rows: Sequence[Row]) -> None:
    rows = rows[::-1]
    shares = [(row.value or 0) / (row.limit or 1) for row in rows]
    colours = ["tab:red" if row.verdict == "MISSED" else "tab:green" for row in rows]
    axis.barh(range(len(rows)), shares, color=colours, alpha=0.7)
    labels = [f"{row.name}: {cells(row)[1]} ({row.target})" for row in rows]
    axis.set_yticks(range(len(rows)), labels, fontsize=8)
    axis.axvline(1, color="black")
    axis.set_title("Part of each target that is used up", fontsize=10, loc="left")
    axis.set_xlim(left=0)
