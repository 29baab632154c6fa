# SPDX-License-Identifier: Apache-2.0
"""Aligned columns, and times, sizes and colours in docker's words."""

import io

import pytest

from minibox.cli import table as tables
from minibox.cli.table import ago, is_coloured, paint, shorten, size, table, width

MINUTE, HOUR, DAY = 60, 3600, 86400
WEEK, MONTH, YEAR = 7 * DAY, 30 * DAY, 365 * DAY


def test_columns_are_three_blanks_apart_and_end_without_any():
    assert table(["ID", "NAMES"], [["1", "web"], ["22222", ""]]) == (
        "ID      NAMES\n"
        "1       web\n"
        "22222\n"
    )  # fmt: skip


def test_rows_may_be_short_or_long():
    assert table(["A", "B"], [["1"], [], ["1", "2", "3"]]) == "A   B\n1\n\n1   2   3\n"
    assert table(["A", "B"], []) == "A   B\n"
    assert table([], [["1", "2"]]) == "1   2\n"
    assert table([], []) == ""


def test_wide_characters_take_two_columns_and_accents_none():
    assert [width(text) for text in ("", "ab", "日本", "e\u0301", "ﾊ", "🙂")] == [0, 2, 4, 1, 1, 2]
    lines = table(["A", "B"], [["日本", "x"], ["abcd", "x"], ["e\u0301", "x"]]).splitlines()
    assert lines == ["A      B", "日本   x", "abcd   x", "e\u0301      x"]


@pytest.mark.parametrize(
    "text", ["a\nb", "a\tb", "a\rb", "\x1b[2J", "\x9b2J", "\0", "\u2028", "\u202e", "\udcff"]
)
def test_a_cell_cannot_leave_its_place(text):
    shown = table(["A", "B"], [[text, "x"]])
    assert shown.count("\n") == 2
    assert shown.replace("\n", "").isprintable()
    assert table([text], []).count("\n") == 1


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "Less than a second"), (0, "Less than a second"), (0.99, "Less than a second"),
        (float("nan"), "Less than a second"), (float("-inf"), "Less than a second"),
        (1, "1 second"), (1.9, "1 second"), (2, "2 seconds"), (59.9, "59 seconds"),
        (60, "About a minute"), (119, "About a minute"), (120, "2 minutes"), (5 * MINUTE, "5 minutes"),
        (HOUR - 1, "59 minutes"), (HOUR, "About an hour"), (HOUR + 29 * MINUTE, "About an hour"),
        (HOUR + 30 * MINUTE, "2 hours"), (3 * HOUR + 31 * MINUTE, "4 hours"), (DAY, "24 hours"),
        (36 * HOUR, "36 hours"), (2 * DAY - 1801, "47 hours"), (2 * DAY - 1800, "2 days"),
        (3 * DAY, "3 days"), (13 * DAY + 5 * HOUR, "13 days"), (2 * WEEK, "2 weeks"),
        (4 * WEEK + 3 * DAY, "4 weeks"), (MONTH, "4 weeks"), (MONTH + 2 * WEEK, "6 weeks"),
        (2 * MONTH, "2 months"), (5 * MONTH + 2 * WEEK, "5 months"), (24 * MONTH, "24 months"),
        (24 * MONTH + 2 * WEEK, "2 years"), (2 * YEAR, "2 years"), (3 * YEAR + 2 * MONTH, "3 years"),
        (1e300, "292 years"), (float("inf"), "292 years"),
    ],
)  # fmt: skip
def test_ago(seconds, words):
    assert ago(seconds) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0B"), (1, "1B"), (999, "999B"), (1000, "1kB"), (1024, "1.024kB"), (1500000, "1.5MB"),
        (1048576, "1.049MB"), (999999, "1000kB"), (123456789, "123.5MB"), (3.42e9, "3.42GB"),
        (5.372e12, "5.372TB"), (2.22e15, "2.22PB"), (10**28, "1e+04YB"), (-5, "-5B"),
    ],
)  # fmt: skip
def test_size(number, words):
    assert size(number) == words


def test_no_size_is_too_large():
    for number in (10**5000, -(10**5000), float("inf"), float("nan")):
        assert size(number).endswith("B")


@pytest.mark.parametrize(
    ("text", "most", "short"),
    [
        ("", 5, ""), ("", 1, ""), ("abc", 3, "abc"), ("abcd", 3, "ab…"), ("abcd", 2, "a…"),
        ("abcd", 1, "a"), ("abcd", 0, ""), ("abcd", -1, ""), ("日本語", 6, "日本語"), ("日本語", 5, "日本…"),
        ("日本語", 4, "日…"), ("日本語", 2, "…"), ("a日本", 3, "a…"), ("e\u0301e\u0301e\u0301", 2, "e\u0301…"),
        ("a\nb", 4, "a\\nb"), ("a\nb", 3, "a\\…"),
    ],
)  # fmt: skip
def test_shorten(text, most, short):
    assert shorten(text, most) == short
    assert width(short) <= max(most, 0)


class Terminal(io.StringIO):
    def isatty(self):
        if self.closed:
            raise ValueError("closed")
        return True


def test_colours_are_for_a_terminal_that_has_them(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert is_coloured(Terminal())
    monkeypatch.setenv("NO_COLOR", "")
    assert is_coloured(Terminal())
    assert not is_coloured(io.StringIO())
    assert not is_coloured(None)
    closed = Terminal()
    closed.close()
    assert not is_coloured(closed)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not is_coloured(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not is_coloured(Terminal())


def test_paint():
    assert paint("x", "green", True) == "\033[32mx\033[0m"
    assert paint("x", "bold", True) == "\033[1mx\033[0m"
    assert paint("x", "red", False) == "x"
    assert set(tables.COLOURS) == {"green", "red", "yellow", "bold"}


def test_a_painted_cell_keeps_its_column_and_only_its_own_colour():
    shown = table(["S", "N"], [[paint("up\x1b[2J", "green", True), "a"], ["down", "b"]])
    assert shown == (
        "S           N\n"
        "\033[32mup\\x1b[2J\033[0m   a\n"
        "down        b\n"
    )  # fmt: skip
    # The same characters from elsewhere are no paint.
    assert table([], [["\033[32mx\033[0m"]]) == "\\x1b[32mx\\x1b[0m\n"
