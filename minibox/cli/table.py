# SPDX-License-Identifier: Apache-2.0
"""Text for people: aligned columns, times, sizes and colours, worded as docker words them.

The rules are those of docker's go-units (HumanDuration, HumanSize) and of its formatter (Ellipsis).
Pure but for `is_coloured`, which asks a stream and the environment.
"""

from __future__ import annotations

import os

from minibox.errors import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

GAP = "   "
ELLIPSIS = "…"
SIZES = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
# Go's time.Duration ends after 292 years.
MOST_SECONDS = (2**63 - 1) // 10**9
MOST_BYTES = 1e300
ONE = {"second": "1 second", "minute": "About a minute", "hour": "About an hour"}
COLOURS = {"bold": "\033[1m", "red": "\033[31m", "green": "\033[32m", "yellow": "\033[33m"}
PLAIN = "\033[0m"


class Painted(str):
    """A text in its colour: the one way to bring escape sequences into a table."""

    __slots__ = ("colour", "plain")
    colour: str
    plain: str


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of aligned columns, the headings first if there are any; a row may be short or long.

    What cannot be printed is escaped, so a cell can neither break its line nor move the cursor.
    """
    lines = [[_cell(text) for text in row] for row in ((headings,) if headings else ())]
    lines += [[_cell(text) for text in row] for row in rows]
    widths: list[int] = []
    for line in lines:
        widths += [0] * (len(line) - len(widths))
        for column, (_, width) in enumerate(line):
            widths[column] = max(widths[column], width)
    return "".join(_line(line, widths) for line in lines)


def _cell(text: str) -> tuple[str, int]:
    """What is printed for a cell, and how many columns of a terminal it takes."""
    if isinstance(text, Painted):
        plain = one_line(text.plain)
        return f"{COLOURS[text.colour]}{plain}{PLAIN}", width(plain)
    plain = one_line(text)
    return plain, width(plain)


def _line(cells: list[tuple[str, int]], widths: list[int]) -> str:
    padded = [text + " " * (widths[i] - taken) for i, (text, taken) in enumerate(cells)]
    return GAP.join(padded).rstrip(" ") + "\n"


def width(text: str) -> int:
    """How many columns of a terminal a text takes (Unicode's annex 11): a wide character takes two,
    one that is put over the character before it none."""
    if text.isascii():
        return len(text)
    import unicodedata

    columns = 0
    for character in text:
        if unicodedata.combining(character) == 0:
            columns += 2 if unicodedata.east_asian_width(character) in "WF" else 1
    return columns


def shorten(text: str, most: int) -> str:
    """A text in at most `most` columns, with `…` for what is cut off. One column has no room for
    that: it gets the first character."""
    text = one_line(text)
    if most <= 1:
        return text[: max(most, 0)]
    if width(text) <= most:
        return text
    end, room = 0, most - 1
    while (room := room - width(text[end])) >= 0:
        end += 1
    return text[:end] + ELLIPSIS


def ago(seconds: float) -> str:
    """How long that is, roughly: "5 minutes", "About an hour", "3 days"."""
    if not seconds >= 1:  # nor is a NaN
        return "Less than a second"
    seconds = int(min(seconds, MOST_SECONDS))
    minutes = seconds // 60
    hours = (seconds + 1800) // 3600
    days = hours // 24
    scale = (
        (seconds < 60, seconds, "second"),
        (minutes < 60, minutes, "minute"),
        (hours < 48, hours, "hour"),
        (days < 14, days, "day"),
        (days < 60, days // 7, "week"),
        (days < 730, days // 30, "month"),
        (True, seconds // 3600 // 24 // 365, "year"),
    )
    count, unit = next((count, unit) for fits, count, unit in scale if fits)
    return ONE[unit] if count == 1 else f"{count} {unit}s"


def size(bytes: float) -> str:
    """A number of bytes with four digits and a decimal unit: "1.5MB"."""
    number = float(max(-MOST_BYTES, min(bytes, MOST_BYTES)))
    unit = 0
    while number >= 1000 and unit < len(SIZES) - 1:
        number /= 1000
        unit += 1
    return f"{number:.4g}{SIZES[unit]}"


def is_coloured(stream: TextIO | None) -> bool:
    """Does this stream show colours: a terminal, not a dumb one, and NO_COLOR is unset or empty."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    try:
        return stream is not None and stream.isatty()
    except (OSError, ValueError):  # closed
        return False


def paint(text: str, colour: str, on: bool) -> str:
    """A text in green, red, yellow or bold; as it is if not `on`. A cell may be painted."""
    if not on:
        return text
    painted = Painted(f"{COLOURS[colour]}{text}{PLAIN}")
    painted.colour, painted.plain = colour, text
    return painted
