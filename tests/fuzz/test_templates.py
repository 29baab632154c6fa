# SPDX-License-Identifier: Apache-2.0
"""What people write after --format, over whatever data: text or a SpecError, and it ends. The same
templates every time: the generator's seed is fixed."""

from __future__ import annotations

import random

import pytest

from minibox.cli import table, template, template_values
from minibox.errors import SpecError

PIECES = (
    "{{", "}}", "{{-", "-}}", "{{ ", " }}", " -}}", "{{- ", "{{/*", "*/}}", " ", "\n", "\t", "\\n", "\\t",
    ".", ".A", ".B.C", ".L", ".Label", "..", "$", "$x", "$x :=", "$i, $v :=", ":=", "=", ",", "|", "(",
    ")", "if ", "else", "else if ", "end", "{{end}}", "{{else}}", "range ", "with ", "define ", "{{if .A}}",
    "{{range .L}}", "{{.}}", "{{.A}}", "1", "-1", "0x", "1e9", "1.5", "007", "99999999999999999999", "٣", "²",
    "true", "nil", '"', '"a"', '"%d"', '"%-5s %v"', "`", "`x`", "\\", '"\\xff"', '"\\', "'", "%", "x" * 300,
    "(" * 80, "{{if 1}}" * 80, "\0", "\udc80", "\ud800", "\u2028", "🙂", "é", "__class__", ".__init__",
)  # fmt: skip
ATOMS = (
    ".", ".A", ".a", ".B.C", ".L", ".M", ".N", "$", "$.A", "$x", "(index .L 0)", '"a"', "`b c`", '"%v"',
    '"%-5s|"', '"%q"', '"%05d"', '"%.3f"', "0", "-2", "1.5", "true", "nil", "(len .L)", "(split .A `e`)",
)  # fmt: skip
VALUES = (
    None, True, False, 0, -1, 10**30, 10**5000, 0.5, 1e300, float("nan"), float("inf"), "", "text", "a\nb\x1b[2J",
    "\udcff", "\ud800", "🙂", [], {}, ["a", 1, None], {"C": "c", "": 1}, {1: 2, None: 3}, b"bytes", (1,), object(),
)  # fmt: skip


def garbage(rng):
    return "".join(rng.choice(PIECES) for _ in range(rng.randrange(10)))


def pipeline(rng):
    """Something that is well-formed most of the time, but seldom makes sense."""
    commands = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        function = rng.choice([*template_values.FUNCTIONS, ".Label", "", "", ""])
        count = 1 if not function else rng.randrange(4)
        commands.append(" ".join([function, *(rng.choice(ATOMS) for _ in range(count))]))
    return " | ".join(commands)


def sentence(rng, depth=0):
    if depth > 2 or rng.random() < 0.6:
        return rng.choice(["{{%s}}", "{{- %s -}}", "a\\t{{%s}}"]) % pipeline(rng)
    opener = rng.choice(["if", "with", "range", "range $x :=", "range $i, $x :="])
    middle = rng.choice(["", "{{else}}" + sentence(rng, depth + 1)])
    return f"{{{{{opener} {pipeline(rng)}}}}}{sentence(rng, depth + 1)}{middle}{{{{end}}}}"


def data(rng, depth=0):
    if depth < 3 and rng.random() < 0.5:
        return [data(rng, depth + 1) for _ in range(rng.randrange(3))]
    if depth < 2:
        return {name: data(rng, depth + 1) for name in ("A", "B", "L", "M", "Labels")}
    return rng.choice(VALUES)


def render(text, value):
    """What is printed, or None; anything but a text and a SpecError fails the test."""
    try:
        printed = template.compile(text).render(value)
    except SpecError as error:
        assert str(error).startswith("--format: ") and "\n" not in str(error)
        assert len(str(error)) < 2000
        return None
    except Exception as error:  # noqa: BLE001
        pytest.fail(f"{text!r} with {type(value)}: {type(error).__name__}: {error}")
    assert isinstance(printed, str)
    return printed


def test_garbage_is_a_template_or_a_spec_error():
    rng = random.Random("minibox templates")
    rendered = sum(render(garbage(rng), data(rng)) is not None for _ in range(4000))
    assert rendered > 200


def test_any_template_over_any_data_is_text_or_a_spec_error():
    rng = random.Random("minibox template sentences")
    printed = [render("{{$x := 3}}" + sentence(rng), data(rng)) for _ in range(5000)]
    assert sum(text is not None for text in printed) > 300


def test_any_table_has_a_line_for_each_item():
    rng = random.Random("minibox template tables")
    shown = 0
    for _ in range(1500):
        columns = (rng.choice(ATOMS).replace("$x", ".A") for _ in range(rng.randrange(4)))
        text = "table " + "\\t".join("{{" + column + "}}" for column in columns)
        items = [data(rng, 1) for _ in range(rng.randrange(4))]
        try:
            lines = template.rows(text, items, {"A": "HEADING", "B": "\n"})
        except SpecError:
            continue
        except Exception as error:  # noqa: BLE001
            pytest.fail(f"{text!r}: {type(error).__name__}: {error}")
        assert lines.count("\n") == 1 + len(items), (text, items)
        assert lines.replace("\n", "").isprintable()
        assert not any(line.endswith(" ") for line in lines.split("\n"))
        shown += bool(items)
    assert shown > 100


def test_any_text_is_shortened_to_its_width():
    rng = random.Random("minibox widths")
    for _ in range(2000):
        text, most = garbage(rng), rng.randrange(-1, 20)
        short = table.shorten(text, most)
        assert table.width(short) <= max(most, 0) or most == 1
        assert short.isprintable()
