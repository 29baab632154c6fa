# SPDX-License-Identifier: Apache-2.0
"""A result as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from minibox.lab import cost, figures

WIDTH = 100


def page(data: dict[str, Any]) -> str:
    """All that Result.as_data has, to be read from top to bottom."""
    return "\n".join(_lines(data)) + "\n"


def _lines(data: dict[str, Any]) -> Iterator[str]:
    yield f"{data['name']}: {data['hypothesis']}"
    for paragraph in data["about"].split("\n\n"):
        if paragraph:
            yield textwrap.fill(paragraph, WIDTH, initial_indent="  ", subsequent_indent="  ")
    yield f"  flags: {' | '.join(data['flags']) or 'none'}"
    yield f"  source: {data['source']}"
    for name, calls in data["plans"].items():
        yield f"\n  {name}"
        for call in calls:
            yield from call_lines(call)
        yield from _seen(data, name)
    if data["cost"]:
        yield f"\n  cost: {cost.in_words(data['cost'])}"
    for figure in data["figures"]:
        yield ""
        yield from (f"  {line}" for line in figures.bars(figure))
    yield f"\n  verdict: {data['verdict']}{': ' + data['why'] if data['why'] else ''}"
    yield f"  kernel: {data['kernel']} ({data['machine']})"


def call_lines(call: dict[str, Any]) -> Iterator[str]:
    """A call and the steps of the child that it made, one a line."""
    yield f"    {_returned(call)}"
    for number, step in enumerate(call["steps"], 1):
        yield f"      {number:2} {_returned(step)}"


def _returned(call: dict[str, Any]) -> str:
    return f"{call['call']} = {call['returned']}" if call["returned"] else str(call["call"])


def _seen(data: dict[str, Any], name: str) -> Iterator[str]:
    expected = data["expected"].get(name, {})
    saw = data["observed"][name]
    measured, skipped = data["measured"][name], data["skipped"][name]
    width = max((len(what) for what in (*saw, *measured, *skipped)), default=0)
    for what, value in saw.items():
        differs = what in expected and expected[what] != value
        note = f"   (expected: {in_words(expected[what])})" if differs else ""
        yield f"    {what:{width}}  {in_words(value)}{note}"
    for what, (value, unit) in measured.items():
        yield f"    {what:{width}}  {value:.4g} {unit}".rstrip()
    for what, reason in skipped.items():
        yield f"    {what:{width}}  not here: {reason}"


def in_words(value: Any) -> str:
    """An observed value for people: yes and no for booleans."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value)
