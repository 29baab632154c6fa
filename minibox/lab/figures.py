# SPDX-License-Identifier: Apache-2.0
"""Figures: bars of text, and where matplotlib is installed (minibox[plots]) SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from math import log10
from typing import Any

BAR = 40
COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280", "#718096", "#b7791f")
MARKERS = "osD^vPX"
# An axis whose text ends with this has its numbers in KiB, MiB and GiB.
BYTES = " (bytes)"
TICKS = 8


def bars(figure: dict[str, Any]) -> Iterator[str]:
    """The figure as text: a line a point, with a bar as long as its y (or its logarithm)."""
    x_axis = figure["x"].removesuffix(BYTES)
    yield f"{figure['title']}: {figure['y']}{' by ' if x_axis else ''}{x_axis}"
    points = [y for line in figure["lines"] for _, y in line["points"]]
    is_log = "y" in figure["log"] and min(points) > 0
    low = log10(min(points)) - 1 if is_log else min(0, *points)
    high = log10(max(points)) if is_log else max(points)
    name = max(len(line["name"]) for line in figure["lines"])
    label = max(len(_x(x, figure)) for line in figure["lines"] for x, _ in line["points"])
    for line in figure["lines"]:
        for x, y in line["points"]:
            share = ((log10(y) if is_log else y) - low) / (high - low or 1)
            bar = "▇" * max(1, round(BAR * share)) if share else ""
            yield f"  {line['name']:{name}} {_x(x, figure):>{label}} {bar} {y:.4g}"


def _x(x: float | str, figure: dict[str, Any]) -> str:
    if isinstance(x, str):
        return x
    return in_bytes(x) if figure["x"].endswith(BYTES) else f"{x:.6g}"


def in_bytes(size: float) -> str:
    """4096 -> "4 KiB"."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:g} {unit}"
        size /= 1024
    return f"{size:g} GiB"


def svg(figure: dict[str, Any]) -> str | None:
    """The figure as an SVG element; None without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return None
    # Text stays text, and the same figure gives the same bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": figure["title"]}):
        buffer = io.StringIO()
        draw(figure).savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    # Names that nothing refers to, figure_1 and the like, would be in the page once a figure.
    used = set(re.findall(r"#([\w-]+)", text))
    text = re.sub(r' id="([^"]*)"', lambda name: name[0] if name[1] in used else "", text)
    return text[text.index("<svg") :]


def draw(figure: dict[str, Any]) -> Any:
    """The figure as matplotlib's, without its title. ImportError."""
    from matplotlib.figure import Figure

    names = [line["name"] for line in figure["lines"]]
    height = _height(figure) + 0.25 * ((len(names) + 1) // 2)
    drawn = Figure(figsize=(8, height), layout="constrained")
    axes = drawn.add_subplot()
    (_draw_bars if figure["bars"] else _draw_lines)(axes, figure)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    if len(names) > 1:
        # Above, where it hides nothing.
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize="small"
        )
    return drawn


def _height(figure: dict[str, Any]) -> float:
    """In inches: each bar takes its place."""
    points = [x for line in figure["lines"] for x, _ in line["points"]]
    return max(2.0, 0.8 + 0.2 * len(points) + 0.05 * len(set(points))) if figure["bars"] else 4.0


def _draw_lines(axes: Any, figure: dict[str, Any]) -> None:
    from matplotlib.ticker import MaxNLocator

    for k, line in enumerate(figure["lines"]):
        xs, ys = zip(*line["points"], strict=True)
        style = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)]}
        axes.plot(xs, ys, markersize=4, linewidth=1.4, label=line["name"], **style)
    if "x" in figure["log"]:
        axes.set_xscale("log", base=2)
        places = sorted({x for line in figure["lines"] for x, _ in line["points"]})
        shown = places[:: -(-len(places) // TICKS)]
        axes.set_xticks(shown, [_x(x, figure) for x in shown])
        axes.set_xticks([], minor=True)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if "y" in figure["log"]:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(figure["x"].removesuffix(BYTES))
    axes.set_ylabel(figure["y"])
    axes.grid(alpha=0.3)


def _draw_bars(axes: Any, figure: dict[str, Any]) -> None:
    lines = figure["lines"]
    names = list(dict.fromkeys(_x(x, figure) for line in lines for x, _ in line["points"]))
    height = 0.8 / len(lines)
    for k, line in enumerate(lines):
        places = [names.index(_x(x, figure)) + k * height for x, _ in line["points"]]
        values = [y for _, y in line["points"]]
        colour = COLOURS[k % len(COLOURS)]
        drawn = axes.barh(places, values, height * 0.9, label=line["name"], color=colour)
        axes.bar_label(drawn, fmt="{:.4g}", padding=3, fontsize="small")
    axes.set_yticks([n + 0.4 - height / 2 for n in range(len(names))], names)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    if "y" in figure["log"]:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.1)
    axes.set_xlabel(figure["y"])
    axes.set_ylabel(figure["x"])
    axes.grid(axis="x", alpha=0.3)
