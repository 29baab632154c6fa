# SPDX-License-Identifier: Apache-2.0
"""What a flag costs: how much longer clone takes with it than without it.

Clones with and without take turns, each of a child that ends at once; the plan is encoded once.
What is measured lasts from the call in Python to its return. If the kernel allows it, both have
CLONE_VM|CLONE_VFORK: nothing is copied then that would hide a few µs, and since the parent waits
until the child is done, what the flag makes the child do counts, too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import sqrt
from statistics import median
from typing import Any

from minibox import core
from minibox import syscalls as sc
from minibox.lab import words
from minibox.lab.experiment import Experiment
from minibox.lab.run import SILENT, Figure, Run
from minibox.plan import Image, Plan
from minibox.primitive import WALL

KINDS = ("flags", "namespaces")
BARE = sc.CLONE_VM | sc.CLONE_VFORK
PAIRS, FEW = 100, 15
WARM = 3
# Destroyed by and by in the kernel: too many at once would be in each other's way.
SLOW = sc.CLONE_NEWNET
LEAST = 0.1
ABOUT = f" more than the same clone without it (what may be nothing is drawn as {LEAST} µs)"
FIGURE = Figure("What each flag costs", "flag", "µs", "y", True)


def measure(experiment: Experiment, run: Run) -> dict[str, Any]:
    """value: the median of the differences; range: where it is with 95 %; base: what both have. µs.
    Makes and reaps children. OSError, as the kernel refuses."""
    others = next(iter(experiment.runs.values())) & ~experiment.flags
    with _arguments(experiment, run) as arguments:
        if experiment.flags & BARE:
            return _measure(experiment, others, arguments)
        try:
            return _measure(experiment, others | BARE, arguments)
        except OSError:
            return _measure(experiment, others, arguments)


@contextmanager
def _arguments(experiment: Experiment, run: Run) -> Iterator[dict[str, Any]]:
    if experiment.arguments is None:
        yield {}
    else:
        with experiment.arguments(run) as arguments:
            yield arguments


def _measure(experiment: Experiment, base: int, arguments: dict[str, Any]) -> dict[str, Any]:
    # Without the reset of all handlers, which is most of what such a child would do.
    image = Plan((), 0, (), reset_signals=False).encode()
    without = {key: value for key, value in arguments.items() if key not in experiment.fields}
    differences = []
    for turn in range(WARM + (FEW if experiment.flags & SLOW else PAIRS)):
        pair = [(-1, base, without), (1, base | experiment.flags, arguments)]
        if turn % 2:
            pair.reverse()  # whoever comes second may find something warm
        difference = sum(sign * _time(image, flags, given) for sign, flags, given in pair)
        if turn >= WARM:
            differences.append(difference)
    low, middle, high = (round(value, 2) for value in _median(differences))
    shown = "|".join(words.flags(base)) or "fork"
    return {"value": middle, "unit": "µs", "range": [low, high], "base": shown}


def _median(values: list[float]) -> tuple[float, float, float]:
    """The median between the two ends of where it is with 95 %, by rank: how many of the values are
    below it is binomial."""
    ranked = sorted(values)
    half = len(ranked) / 2
    aside = 0.98 * sqrt(len(ranked))
    return ranked[int(half - aside)], median(ranked), ranked[int(half + aside)]


def _time(image: Image, flags: int, arguments: dict[str, Any]) -> float:
    """One clone, from the call to its return, in µs; the child is reaped. OSError."""
    how = {"exit_signal": 0 if flags & SILENT else core.SIGCHLD, **arguments}
    began = time.perf_counter_ns()
    child = core.launch(image, flags, {}, **how)
    took = time.perf_counter_ns() - began
    if child.pidfd >= 0:
        os.close(child.pidfd)
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | WALL)
    except ChildProcessError:
        pass  # a thread, or another's child; CLONE_VFORK said that it is out of this memory
    child.close()
    return took / 1000


def in_words(cost: dict[str, Any]) -> str:
    """3.1 µs over CLONE_VM|CLONE_VFORK (2.8 to 3.6)"""
    low, high = cost["range"]
    value = f"{cost['value']:.4g} {cost['unit']}"
    return f"{value} over {cost['base']} ({low:.4g} to {high:.4g})"


def figure(results: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """A bar for what each flag costs, of Result.as_data; None where no cost is known. By a
    logarithmic scale: what may be nothing, or a saving, is drawn as LEAST."""
    costs: dict[str, float] = {}
    for one in results:
        found = one["cost"]
        if found:
            value = found["value"] if found["range"][0] > 0 else 0
            name = "|".join(flag.removeprefix("CLONE_") for flag in one["flags"])
            costs.setdefault(name, max(LEAST, value))
    if not costs:
        return None
    points = [[name, value] for name, value in sorted(costs.items(), key=lambda pair: pair[1])]
    title, x, y, log, bars = FIGURE
    lines = [{"name": "", "points": points}]
    return {"title": title, "x": x, "y": y, "log": log, "bars": bars, "lines": lines}
