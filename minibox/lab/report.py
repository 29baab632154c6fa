# SPDX-License-Identifier: Apache-2.0
"""Results as one self-contained page: no script, and no style or picture from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import minibox
from minibox.lab import cost, figures
from minibox.lab.catalogue import KINDS
from minibox.lab.result import DIFFERS, HOLDS, UNSUPPORTED
from minibox.lab.shown import call_lines, in_words

STYLE = """
:root { color-scheme: light dark; --line: #8884; --holds: #2f855a; --differs: #b7791f;
  --unsupported: #c53030; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 3rem; } h3 { margin: 2.5rem 0 0.3rem; }
table { border-collapse: collapse; margin: 0.6rem 0; }
td, th { border-bottom: 1px solid var(--line); padding: 0.2rem 0.9rem 0.2rem 0; text-align: left;
  vertical-align: top; }
code, pre, td.value { font-family: ui-monospace, monospace; font-size: 0.85rem; }
pre { overflow-x: auto; padding: 0.6rem; border-left: 3px solid var(--line); margin: 0.3rem 0; }
.verdict { font-size: 0.8rem; padding: 0.1rem 0.5rem; border-radius: 1rem; color: #fff; }
.holds { background: var(--holds); } .differs { background: var(--differs); }
.unsupported { background: var(--unsupported); } .faint { opacity: 0.7; }
.wide { overflow-x: auto; } td:first-child { white-space: nowrap; }
td.not { color: var(--differs); font-weight: bold; }
svg { max-width: 100%; height: auto; }
@media (prefers-color-scheme: dark) { svg { background: #fff; } }
"""


def page(results: Sequence[dict[str, Any]]) -> str:
    """The page for what Result.as_data gave of each experiment."""
    return "\n".join(_page(results)) + "\n"


def _page(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    uname = os.uname()
    yield "<!DOCTYPE html>"
    yield '<html lang="en"><head><meta charset="utf-8"><title>minibox lab</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<style>{STYLE}</style></head><body>"
    yield "<h1>What every clone flag does</h1>"
    where = f"minibox {minibox.__version__} on Linux {uname.release}, {_machine()}"
    yield f"<p>{_text(where)}.</p>"
    yield from _summary(results)
    for kind, title in KINDS.items():
        chosen = [one for one in results if one["kind"] == kind]
        if chosen:
            yield f"<h2>{_text(title)}</h2>"
        for one in chosen:
            yield from _experiment(one)
    costs = cost.figure(results)
    if costs:
        yield "<h2>What flags cost</h2>"
        yield from _figure(costs, cost.ABOUT)
    yield "</body></html>"


def _machine() -> str:
    """The processor and the memory, as far as /proc tells."""
    words = [os.uname().machine, f"{os.cpu_count()} CPUs"]
    for path, key in (("/proc/cpuinfo", "model name"), ("/proc/meminfo", "MemTotal")):
        try:
            with open(path, encoding="utf-8") as file:
                found = next((line for line in file if line.startswith(key)), "")
        except OSError:
            continue
        if found:
            words.append(found.partition(":")[2].strip())
    return ", ".join(words)


def _summary(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    counts = {
        verdict: sum(one["verdict"] == verdict for one in results)
        for verdict in (HOLDS, DIFFERS, UNSUPPORTED)
    }
    yield "<p>" + ", ".join(f"{verdict}: {count}" for verdict, count in counts.items()) + "</p>"
    yield "<table><tr><th>experiment</th><th>verdict</th><th>hypothesis</th></tr>"
    for one in results:
        yield f'<tr><td><a href="#{_text(one["name"])}">{_text(one["name"])}</a></td>'
        yield f"<td>{_verdict(one)}</td><td>{_text(one['hypothesis'])}</td></tr>"
    yield "</table>"


def _verdict(one: dict[str, Any]) -> str:
    return f'<span class="verdict {one["verdict"]}">{one["verdict"]}</span>'


def _experiment(one: dict[str, Any]) -> Iterator[str]:
    yield f'<h3 id="{_text(one["name"])}">{_text(one["name"])} {_verdict(one)}</h3>'
    yield f"<p>{_text(one['hypothesis'])}</p>"
    yield f"<p><code>{_text(' | '.join(one['flags']))}</code></p>"
    for paragraph in one["about"].split("\n\n"):
        if paragraph:
            yield f'<p class="faint">{_text(paragraph)}</p>'
    if one["why"]:
        yield f"<p><strong>{_text(one['verdict'])}:</strong> {_text(one['why'])}</p>"
    yield from _observed(one)
    if one["cost"]:
        yield f"<p>Cost: {_text(cost.in_words(one['cost']))}</p>"
    for figure in one["figures"]:
        yield from _figure(figure)
    yield "<details><summary>the calls</summary>"
    for name, calls in one["plans"].items():
        lines = "\n".join(line[4:] for call in calls for line in call_lines(call))
        yield f"<p>{_text(name)}</p><pre>{_text(lines)}</pre>"
    yield f'</details><p class="faint">{_text(one["source"])}</p>'


def _figure(figure: dict[str, Any], about: str = "") -> Iterator[str]:
    drawn = figures.svg(figure)
    bars = _text("\n".join(figures.bars(figure)))
    yield f"<figure>{drawn or f'<pre>{bars}</pre>'}"
    yield f"<figcaption>{_text(figure['title'] + about)}</figcaption></figure>"


def _observed(one: dict[str, Any]) -> Iterator[str]:
    """What each run saw, side by side; what was expected otherwise is marked."""
    names = list(one["observed"])
    what = dict.fromkeys(
        key
        for name in names
        for kind in ("observed", "measured", "skipped")
        for key in one[kind][name]
    )
    if not what:
        return
    yield (
        '<div class="wide"><table><tr><th></th>'
        + "".join(f"<th>{_text(name)}</th>" for name in names)
        + "</tr>"
    )
    for key in what:
        cells = "".join(_cell(one, name, key) for name in names)
        yield f"<tr><td>{_text(key)}</td>{cells}</tr>"
    yield "</table></div>"


def _cell(one: dict[str, Any], name: str, key: str) -> str:
    if key in one["measured"][name]:
        value, unit = one["measured"][name][key]
        return f'<td class="value">{value:.4g} {_text(unit)}</td>'
    if key in one["skipped"][name]:
        return f'<td class="faint">not here: {_text(one["skipped"][name][key])}</td>'
    if key not in one["observed"][name]:
        return "<td></td>"
    saw = one["observed"][name][key]
    wanted = one["expected"].get(name, {}).get(key, saw)
    if wanted == saw:
        return f'<td class="value">{_text(in_words(saw))}</td>'
    return (
        f'<td class="value not">{_text(in_words(saw))} (expected: {_text(in_words(wanted))})</td>'
    )


def _text(value: str) -> str:
    return escape(value, quote=True)
