# SPDX-License-Identifier: Apache-2.0
"""Figures: bars of text, and where matplotlib is installed (minibox[plots]) SVG."""

from __future__ import annotations

import io
from collections.abc import Iterator
from math import log10
from typing import Any

BAR = 40
COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280", "#718096", "#b7791f")


def bars(figure: dict[str, Any]) -> Iterator[str]:
    """The figure as text: a line a point, with a bar as long as its y (or its logarithm)."""
    yield f"{figure['title']} ({figure['y']} by {figure['x']})"
    points = [y for line in figure["lines"] for _, y in line["points"]]
    is_log = "y" in figure["log"] and min(points) > 0
    low = log10(min(points)) - 1 if is_log else min(0, *points)
    high = log10(max(points)) if is_log else max(points)
    name = max(len(line["name"]) for line in figure["lines"])
    label = max(len(_x(x)) for line in figure["lines"] for x, _ in line["points"])
    for line in figure["lines"]:
        for x, y in line["points"]:
            share = ((log10(y) if is_log else y) - low) / (high - low or 1)
            bar = "▇" * max(1, round(BAR * share))
            yield f"  {line['name']:{name}} {_x(x):>{label}} {bar} {y:.4g}"


def _x(x: float | str) -> str:
    return x if isinstance(x, str) else f"{x:.6g}"


def svg(figure: dict[str, Any]) -> str | None:
    """The figure as an SVG element; None without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return None
    from matplotlib.figure import Figure

    # Text stays text, and the same figure gives the same bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": figure["title"]}):
        drawn = Figure(figsize=(8, _height(figure)), layout="constrained")
        axes = drawn.add_subplot()
        (_draw_bars if figure["bars"] else _draw_lines)(axes, figure)
        axes.grid(alpha=0.3)
        buffer = io.StringIO()
        drawn.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _height(figure: dict[str, Any]) -> float:
    """In inches: each bar takes its place."""
    points = sum(len(line["points"]) for line in figure["lines"])
    return max(4.0, 1 + 0.2 * points) if figure["bars"] else 4.0


def _draw_lines(axes: Any, figure: dict[str, Any]) -> None:
    for line, colour in zip(figure["lines"], COLOURS * len(figure["lines"]), strict=False):
        xs, ys = zip(*line["points"], strict=True)
        axes.plot(xs, ys, marker="o", markersize=4, label=line["name"], color=colour)
    if "x" in figure["log"]:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
    if "y" in figure["log"]:
        axes.set_yscale("log")
    axes.set_xlabel(figure["x"])
    axes.set_ylabel(figure["y"])
    if len(figure["lines"]) > 1:
        axes.legend(frameon=False)


def _draw_bars(axes: Any, figure: dict[str, Any]) -> None:
    names = list(dict.fromkeys(_x(x) for line in figure["lines"] for x, _ in line["points"]))
    height = 0.8 / len(figure["lines"])
    for k, line in enumerate(figure["lines"]):
        places = [names.index(_x(x)) + k * height for x, _ in line["points"]]
        values = [y for _, y in line["points"]]
        axes.barh(places, values, height, label=line["name"], color=COLOURS[k % len(COLOURS)])
    axes.set_yticks([n + 0.4 - height / 2 for n in range(len(names))], names)
    axes.invert_yaxis()
    if "y" in figure["log"]:
        axes.set_xscale("log")
    axes.set_xlabel(figure["y"])
    if len(figure["lines"]) > 1:
        axes.legend(frameon=False)
