# SPDX-License-Identifier: Apache-2.0
"""The result of a load run, and its forms: a table, load.json and load.svg."""

from __future__ import annotations

import json
import statistics
import sys
from bisect import bisect_right
from dataclasses import asdict, dataclass, field

from leftovers import ROUGH
from report import Row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from starter import Entry

WINDOW = 50  # starts that are compared with others
MARKS = (100, 250, 500)  # starts around so many alive are listed
MOST_SLOWER, MOST_CPU, MOST_PSS = 1.5, 300, 1536  # times, ms, KiB
SMOOTH = 51


@dataclass
class Mode:
    """One of the two halves of a run: the same work by `processes` at a time. Entries are those of
    starter.py; samples of `minibox ps` those of load.py; monitors: PSS in KiB."""

    processes: int
    started: list[Entry] = field(default_factory=list)
    extra: list[Entry] = field(default_factory=list)  # with all of the others alive
    again: list[Entry] = field(default_factory=list)  # when all have gone
    stopped: list[Entry] = field(default_factory=list)
    empty: list[Entry] = field(default_factory=list)
    ps: list[Entry] = field(default_factory=list)
    quiet: list[Entry] = field(default_factory=list)
    monitors: list[float] = field(default_factory=list)
    each: dict[str, float] = field(default_factory=dict)
    settled: dict[str, dict[str, float]] = field(default_factory=dict)
    stop_rate: float = 0
    remove_rate: float = 0

    @property
    def name(self) -> str:
        return "one process" if self.processes == 1 else f"{self.processes} processes"

    @property
    def start_rate(self) -> float:
        """Containers a second, from the first start to the last."""
        ended = max(entry["ended"] for entry in self.started)
        return len(self.started) / (ended - self.started[0]["began"]) * 1e9


@dataclass
class Load:
    machine: dict[str, str]
    containers: int
    modes: list[Mode] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def latency(entry: Entry) -> float:
    took: float = entry["create"] + entry["start"]
    return took


def middle(entries: Sequence[Entry], key: str) -> float:
    return statistics.median(entry[key] for entry in entries)


def median(entries: Sequence[Entry]) -> float:
    return statistics.median(map(latency, entries))


def quartile(entries: Sequence[Entry]) -> float:
    """The lower one: what else the machine does makes a start slower, never faster."""
    return statistics.quantiles(map(latency, entries), n=4)[0]


def p99(entries: Sequence[Entry]) -> float:
    """The nearest rank; of fifty it is the slowest."""
    return sorted(map(latency, entries))[-(-99 * len(entries) // 100) - 1]


def alive(entries: Sequence[Entry]) -> list[int]:
    """How many containers of these were alive when each start began."""
    ends = sorted(entry["ended"] for entry in entries)
    return [bisect_right(ends, entry["began"]) for entry in entries]


def windows(load: Load, mode: Mode) -> dict[str, list[Entry]]:
    """The starts that are compared, by when they were made."""
    found = {f"the first {WINDOW}": mode.started[:WINDOW]}
    for mark in MARKS:
        low = mark - WINDOW // 2
        if low >= WINDOW and low + WINDOW <= load.containers:
            found[f"around {mark}"] = mode.started[low : low + WINDOW]
    found[f"with {load.containers}"] = mode.extra
    found["when all have gone"] = mode.again
    return found


def rows(load: Load) -> list[Row]:
    found: list[Row] = []
    for mode in load.modes:
        first, last, again = mode.started[:WINDOW], mode.extra, mode.again
        what = f"start with {load.containers} alive / the first {WINDOW}, {mode.name}"
        found.append(compared(what, median(last), median(first), MOST_SLOWER))
        what = f"  the same, of lower quartiles, {mode.name}"
        found.append(compared(what, quartile(last), quartile(first)))
        what = f"  when all have gone / the first {WINDOW}, {mode.name}"
        found.append(compared(what, median(again), median(first)))
        what = f"  CPU of the starter alone, {load.containers} alive / first, {mode.name}"
        found.append(compared(what, middle(last, "cpu"), middle(first, "cpu")))
    ps = [sample for mode in load.modes for sample in mode.ps]
    quiet = [sample for mode in load.modes for sample in mode.quiet]
    for what, samples in (("ps", ps), ("ps -q", quiet)):
        cpu, wall = middle(samples, "cpu"), middle(samples, "wall")
        note = f"user {middle(samples, 'user'):.0f} ms, wall {wall:.0f} ms"
        row = Row(f"CPU of minibox {what}", " ms", cpu, limit=MOST_CPU, strictly=True, note=note)
        found.append(row)
    monitors = [pss for mode in load.modes for pss in mode.monitors]
    note = f"all {len(load.modes[0].monitors)}: {sum(load.modes[0].monitors) / 1024:.1f} MiB"
    found.append(Row("PSS of the largest monitor", " KiB", max(monitors), MOST_PSS, note=note))
    for mode in load.modes:
        found.append(Row(f"starts by {mode.name}", "/s", mode.start_rate))
        found.append(Row(f"stops by {mode.name}", "/s", mode.stop_rate))
        found.append(Row(f"removals by {mode.name}", "/s", mode.remove_rate))
    return found


def compared(what: str, left: float, right: float, limit: float | None = None) -> Row:
    return Row(what, "x", left / right, limit, left=left, right=right)


def summary(load: Load) -> str:
    """The windows of both modes, and what a container takes of the machine."""
    lines = []
    for mode in load.modes:
        lines.append(f"Starts by {mode.name}, ms:   median    p99 create  start    CPU")
        for name, entries in windows(load, mode).items():
            parts = "".join(f"{middle(entries, key):7.2f}" for key in ("create", "start", "cpu"))
            lines.append(f"  {name:24}{median(entries):9.2f}{p99(entries):7.2f}{parts}")
        each = ", ".join(f"{value:.1f} {name}" for name, value in mode.each.items())
        lines.append(f"  A container takes {each}.")
        stop = f"{middle(mode.stopped, 'took'):.1f} ms"
        empty = f"{middle(mode.empty, 'cpu'):.0f} ms CPU"
        lines.append(f"  Median of a stop: {stop}; minibox ps without containers: {empty}.")
        for name, settled in mode.settled.items():
            kept = ", ".join(f"{what}: {settled[what]:+.0f}" for what in ROUGH)
            how = "not as before after" if settled["changed"] else "as before in"
            lines.append(f"  Host, {name}: {how} {settled['seconds']:.1f} s ({kept}).")
    return "\n".join(lines) + "\n"


def write(load: Load, name: str, out: Path, plots: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    data = asdict(load)
    data["rows"] = [
        {**asdict(row), "target": row.target, "verdict": row.verdict} for row in rows(load)
    ]
    (out / f"{name}.json").write_text(json.dumps(data) + "\n")
    try:
        plot(load, plots / f"{name}.svg")
    except ImportError:
        print("no plot: matplotlib is not installed", file=sys.stderr)


def plot(load: Load, file: Path) -> None:
    """Latency against the number alive, one picture for each mode."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "minibox", "svg.fonttype": "none"}
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(load.modes), 1, figsize=(8, 7), layout="constrained")
    for axis, mode in zip(axes, load.modes, strict=True):
        draw(axis, load, mode)
    facts = load.machine
    title = f"minibox, {load.containers} containers alive, {facts['date']}"
    figure.suptitle(f"{title}\n{facts['kernel']}, {facts['cpu']}", fontsize=10)
    figure.savefig(file, metadata={"Date": None}, dpi=80)
    pyplot.close(figure)


def draw(axis: Any, load: Load, mode: Mode) -> None:
    entries = mode.started + mode.extra
    x, y = alive(entries), [latency(entry) for entry in entries]
    half = SMOOTH // 2
    smooth = [statistics.median(y[max(0, k - half) : k + half + 1]) for k in range(len(y))]
    # A picture of the dots, or the file has an element for each.
    axis.plot(x, y, ".", color="tab:gray", alpha=0.35, markersize=4, rasterized=True)
    axis.plot(x, smooth, color="tab:orange", label=f"median of {SMOOTH}")
    again = median(mode.again)
    axis.axhline(again, color="black", linestyle=":", label="median when all have gone")
    first, last = median(mode.started[:WINDOW]), median(mode.extra)
    name = f"by {mode.name}: first {first:.1f} ms, with {load.containers} alive {last:.1f} ms"
    axis.set_title(f"{name}: {last / first:.2f}x", fontsize=10, loc="left")
    axis.set_xlabel("containers alive")
    axis.set_ylabel("create + start, ms")
    axis.set_ylim(0, 1.3 * sorted(y)[len(y) * 97 // 100])
    axis.legend(fontsize=8, loc="upper left")
    axis.grid(alpha=0.3)
