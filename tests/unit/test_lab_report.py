# SPDX-License-Identifier: Apache-2.0
"""What is made of an experiment's result: a verdict, a text, a page, a figure."""

import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from minibox import lab
from minibox import syscalls as sc
from minibox.lab import cost, figures, report, shown
from minibox.lab.result import DIFFERS, HOLDS, UNSUPPORTED, Result
from minibox.lab.run import Notes

FIGURE = {
    "title": "cost <of> a launch",
    "x": "MiB",
    "y": "µs",
    "log": "xy",
    "bars": False,
    "lines": [
        {"name": "fork", "points": [[1, 50.0], [1024, 30000.0]]},
        {"name": "vfork", "points": [[1, 20.0], [1024, 20.0]]},
    ],
}
SIZES = {
    **FIGURE,
    "x": "size (bytes)",
    "lines": [{"name": "fork", "points": [[1 << 12, 1.0], [3 << 19, 2.0], [4 << 30, 9.0]]}],
}
BARS = {**FIGURE, "bars": True, "log": "", "lines": [{"name": "", "points": [["NEWNET", 1100.0]]}]}


@lab.experiment(
    sc.CLONE_VM,
    source="clone(2)",
    expected={"with": {"word": 1, "text": "a<b"}, "without": {"word": 0}},
)
def example(run):
    """A claim with <angles> & more.

    The rest is
    about it.

    A second paragraph.
    """


def notes(**saw):
    found = Notes.empty()
    found.saw.update(saw)
    found.calls.append(
        {
            "call": "clone3({flags=0})",
            "returned": "3",
            "steps": [{"call": "exit(0)", "returned": ""}],
        }
    )
    return found


def result(with_=None, without=None):
    return Result(
        example,
        {
            "with": notes(word=1, text="a<b") if with_ is None else with_,
            "without": notes(word=0) if without is None else without,
        },
    )


def test_the_docstring_is_the_hypothesis():
    assert example.hypothesis == "A claim with <angles> & more."
    assert example.about == "The rest is\nabout it.\n\nA second paragraph."
    assert example.runs == {"with": sc.CLONE_VM, "without": 0}
    assert (example.name, example.kind) == ("example", "own")


def test_a_function_without_a_docstring_is_refused():
    with pytest.raises(TypeError, match="docstring"):
        lab.experiment(0, source="", expected={})(lambda _: None)


def test_as_expected_it_holds():
    assert (result().verdict, result().why) == (HOLDS, "")


@pytest.mark.parametrize(
    ("notes", "why"),
    [
        (notes(word=2, text="a<b"), "with: word: expected 1, saw 2"),
        (notes(text="a<b"), "with: word: expected 1, and it was not seen"),
    ],
)
def test_otherwise_it_differs(notes, why):
    assert (result(notes).verdict, result(notes).why) == (DIFFERS, why)


def test_what_went_wrong_is_told():
    broken = notes()
    broken.failed = "ValueError: no"
    assert (result(broken).verdict, result(broken).why) == (DIFFERS, "with: ValueError: no")
    assert result(broken).failures == ["with: ValueError: no"]


def test_one_run_that_cannot_be_is_enough():
    absent = notes()
    absent.unsupported = "no such bit"
    assert (result(absent).verdict, result(absent).why) == (UNSUPPORTED, "with: no such bit")


def test_what_cannot_be_shown_here_decides_nothing():
    found = notes(text="a<b")
    found.skipped["word"] = "no <words>"
    one = result(found)
    assert (one.verdict, one.expected["with"]) == (HOLDS, {"text": "a<b"})
    assert "word  not here: no <words>" in shown.page(one.as_data())
    assert "not here: no &lt;words&gt;" in report.page([one.as_data()])


def test_the_data_has_all_that_was_promised():
    data = result().as_data()
    assert data["name"] == "example"
    assert data["flags"] == ["CLONE_VM"]
    assert data["plans"]["with"][0]["steps"] == [{"call": "exit(0)", "returned": ""}]
    assert data["observed"] == {"with": {"word": 1, "text": "a<b"}, "without": {"word": 0}}
    assert {"hypothesis", "verdict", "kernel", "machine", "why", "figures"} <= set(data)


def test_runs_draw_into_one_figure():
    one, other = notes(word=1), notes(word=0)
    figure = lab.Figure("t", "x", "y")
    one.points = [[list(figure), "a", 1, 2.0], [list(figure), "a", 2, 3.0]]
    other.points = [[list(figure), "b", 1, 5.0]]
    assert result(one, other).figures == [
        {
            "title": "t", "x": "x", "y": "y", "log": "", "bars": False,
            "lines": [{"name": "a", "points": [[1, 2.0], [2, 3.0]]}, {"name": "b", "points": [[1, 5.0]]}],
        }
    ]  # fmt: skip


def test_the_text_has_the_calls_and_what_differs():
    text = shown.page(result(notes(word=2, text="a<b")).as_data())
    assert "    clone3({flags=0}) = 3\n       1 exit(0)\n" in text
    assert "word  2   (expected: 1)" in text
    assert text.splitlines()[-2].startswith("  verdict: differs: with: word")


COST = {"value": 3.14159, "unit": "µs", "range": [2.5, 4.0], "base": "CLONE_VFORK"}


def test_the_cost_is_told():
    data = replace(result(), cost=COST).as_data()
    assert data["cost"] == COST
    assert "  cost: 3.142 µs over CLONE_VFORK (2.5 to 4)\n" in shown.page(data)
    found = tags(report.page([data])).text
    assert "3.142 µs over CLONE_VFORK" in found
    assert "What each flag costs" in found


def test_without_a_cost_nothing_is_told_of_it():
    data = result().as_data()
    assert data["cost"] is None
    assert "cost" not in shown.page(data) + tags(report.page([data])).text


def test_the_figure_of_costs_has_each_flag_once():
    """What may be nothing, or less than nothing, is next to nothing."""
    saving = replace(result(), cost={**COST, "value": -600.0, "range": [-700.0, -5.0]}).as_data()
    other = {**replace(result(), cost=COST).as_data(), "flags": ["CLONE_NEWUTS"]}
    [line] = cost.figure([saving, other, saving, result().as_data()])["lines"]
    assert line["points"] == [["VM", cost.LEAST], ["NEWUTS", 3.14159]]
    assert cost.figure([]) is None


class Tags(HTMLParser):
    """Holds that every element that is opened is closed, in order."""

    VOID = {"meta", "br", "img", "link"}

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.links, self.ids, self.text = [], set(), [], set(), ""

    def handle_starttag(self, tag, attributes):
        self.seen.add(tag)
        values = dict(attributes)
        self.ids.add(values.get("id"))
        self.links += [values[name] for name in ("href", "src") if name in values]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def tags(page):
    found = Tags()
    found.feed(page)
    found.close()
    assert found.open == []
    return found


def page(figure=FIGURE):
    return report.page([{**result(notes(word=2, text="a<b")).as_data(), "figures": [figure]}])


def test_the_page_is_whole_and_on_its_own():
    found = tags(page())
    assert not {"script", "link", "img", "iframe"} & found.seen
    own = [link for link in found.links if link.startswith("#")]
    assert own == [link for link in found.links if not link.startswith("http")]
    assert {link[1:] for link in own} <= found.ids
    assert "A claim with <angles> & more." in found.text
    assert "2 (expected: 1)" in found.text
    assert "clone3({flags=0}) = 3" in found.text


def test_without_matplotlib_a_figure_is_text(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert figures.svg(FIGURE) is None
    found = tags(page())
    assert "svg" not in found.seen
    assert "▇" in found.text


@pytest.mark.parametrize("figure", [FIGURE, SIZES, BARS], ids=["lines", "sizes", "bars"])
def test_with_matplotlib_it_is_svg(figure):
    pytest.importorskip("matplotlib")
    drawn = figures.svg(figure)
    assert drawn.startswith("<svg")
    assert drawn == figures.svg(figure)
    assert "svg" in tags(page(figure)).seen


def test_bars_are_as_long_as_what_they_show():
    lines = list(figures.bars(BARS)) + list(figures.bars(FIGURE))
    assert lines[0] == "cost <of> a launch: µs by MiB"
    assert lines[1].count("▇") == figures.BAR
    lengths = [line.count("▇") for line in lines[3:]]
    assert lengths[1] == figures.BAR
    assert lengths[0] < lengths[1]
    assert lengths[2] == lengths[3] < lengths[0]


def test_sizes_are_in_kib_and_mib():
    lines = list(figures.bars(SIZES))
    assert lines[0].endswith("by size")
    sizes = ["4 KiB", "1.5 MiB", "4 GiB"]
    assert all(size in line for size, line in zip(sizes, lines[1:], strict=True))
    if (drawn := figures.svg(SIZES)) is not None:
        assert all(size in drawn for size in sizes)


def test_what_is_nothing_has_no_bar():
    lines = [{"name": "", "points": [["none", 0], ["some", 3]]}]
    drawn = list(figures.bars({**BARS, "lines": lines}))
    assert ["▇" in line for line in drawn[1:]] == [False, True]
    nothing = [{"name": "", "points": [["none", 0]]}]
    assert "▇" not in "".join(figures.bars({**BARS, "lines": nothing}))


def test_figures_of_a_page_have_no_name_twice():
    pytest.importorskip("matplotlib")
    both = "".join(figures.svg({**figure, "title": figure["x"]}) for figure in (FIGURE, SIZES))
    names = re.findall(r' id="([^"]*)"', both)
    assert len(names) == len(set(names))
    assert {name[1:] for name in re.findall(r"#[a-z]\w+", both)} >= set(names)
