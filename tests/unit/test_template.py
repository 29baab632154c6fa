# SPDX-License-Identifier: Apache-2.0
"""What --format prints, and what it refuses. The expected texts are those of Go's text/template
with docker's functions, but where a comment says otherwise."""

import pytest

from minibox.cli import template
from minibox.errors import SpecError

DATA = {
    "ID": "0123456789ab",
    "Names": "web-1 of bob",
    "State": {"Pid": 42, "Running": True, "Health": None, "Ratio": 0.25},
    "Labels": {"k": "v", "com.x": "y z"},
    "Mounts": [{"Source": "/a", "RW": True}, {"Source": "/b", "RW": False}],
    "Env": ["A=1", "B=é", 'C="q"\t'],
    "Empty": [],
    "EmptyMap": {},
    "None": None,
    "Zero": 0,
    "Blank": "",
    "Mixed": [1, "a", None, True, 1.5, [2]],
}
HEADINGS = {"ID": "CONTAINER ID", "Names": "NAMES", "State.Pid": "PID OUTSIDE"}


def render(text, data=DATA):
    return template.compile(text).render(data)


def refuse(text, data=DATA):
    with pytest.raises(SpecError) as caught:
        render(text, data)
    message = str(caught.value)
    assert message.startswith("--format: ") and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("", ""),
        ("plain } {", "plain } {"),
        ("{{.Names}}", "web-1 of bob"),
        ("{{.State.Pid}} {{.state.PID}}", "42 42"),  # as docker's own contexts never would
        ("{{ $.ID }}{{(.State).Pid}}{{(index .Mounts 1).Source}}", "0123456789ab42/b"),
        ("{{.Names\n}}", "web-1 of bob"),
        (r"a\tb\nc", "a\tb\nc"),
        (r'{{"a\tb"}}{{`a\tb`}}', "a\tba\\tb"),
        (r'{{"\x41\101\u00e9\U0001f600\\\"\a"}}', 'AAé\U0001f600\\"\a'),
        (r'{{"\xff"}}', "\udcff"),
        ("{{1}} {{-3}} {{ +5 }} {{0x1F}} {{0o17}} {{0b11}} {{1_000}}", "1 -3 5 31 15 3 1000"),
        ("{{1.5}} {{.5}} {{2e3}} {{2e-3}} {{1e20}}", "1.5 0.5 2000 0.002 1e+20"),
        ("{{true}} {{false}} {{print nil}}", "true false <nil>"),
        ('{{"}}"}} {{"{{"}}', "}} {{"),
    ],
)
def test_fields_and_literals(text, printed):
    assert render(text) == printed


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("a  {{- .ID -}}  b", "a0123456789abb"),
        ("a \t\n{{- 3}} {{3 -}}\n\n b", "a3 3b"),
        ("{{ -3 }}{{- -3 }}", "-3-3"),
        (r"a\n{{- 3 -}}\t b", "a3b"),
        ("a {{/* c }} c */}} b", "a  b"),
        ("a {{- /* c */ -}} b", "ab"),
        ("{{/**/}}", ""),
    ],
)
def test_trimming_and_comments(text, printed):
    assert render(text) == printed


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("{{.Empty}} {{.EmptyMap}} {{.None}} {{.Zero}} {{.Blank}}", "[] map[] <no value> 0 "),
        ("{{.State}}", "map[Health:<nil> Pid:42 Ratio:0.25 Running:true]"),
        ("{{.Labels}}", "map[com.x:y z k:v]"),
        ("{{.Mixed}}", "[1 a <nil> true 1.5 [2]]"),
        ("{{.Mounts}}", "[map[RW:true Source:/a] map[RW:false Source:/b]]"),
    ],
)
def test_printing(text, printed):
    assert render(text) == printed


@pytest.mark.parametrize(
    ("number", "printed"),
    [
        (2.0, "2"), (-0.5, "-0.5"), (123456.0, "123456"), (1e6, "1e+06"), (1234567.5, "1.2345675e+06"),
        (-123456789.5, "-1.234567895e+08"), (1e15, "1e+15"), (1.5e17, "1.5e+17"), (3e21, "3e+21"),
        (0.0001, "0.0001"), (0.00001, "1e-05"), (float("inf"), "+Inf"), (float("nan"), "NaN"),
        (10**20, "1" + "0" * 20),
    ],
)  # fmt: skip
def test_numbers(number, printed):
    assert render("{{.}}", number) == printed


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("{{if .Zero}}a{{else if .Blank}}b{{else if .None}}c{{else}}d{{end}}", "d"),
        ("{{if .Zero}}a{{else if .ID}}b{{else}}c{{end}}.", "b."),
        ("{{if .Empty}}a{{end}}{{if .EmptyMap}}a{{end}}{{if not .State}}a{{end}}", ""),
        ("{{with .State}}{{.Pid}} {{$.ID}}{{else}}no{{end}}", "42 0123456789ab"),
        ("{{with .None}}x{{else with .State}}{{.Pid}}{{else}}y{{end}}", "42"),
        ("{{with .None}}x{{else}}{{.Zero}}{{end}}", "0"),
        ("{{range .Env}}<{{.}}>{{else}}none{{end}}", '<A=1><B=é><C="q"\t>'),
        ("{{range .Empty}}<{{.}}>{{else}}{{.Zero}}{{end}}", "0"),
        ("{{range .None}}x{{else}}none{{end}}", "none"),
        ("{{range .Mounts}}{{.Source}}{{end}}", "/a/b"),
        ("{{range $i, $v := .Mounts}}{{if $i}}, {{end}}{{$i}}={{$v.Source}}{{end}}", "0=/a, 1=/b"),
        ("{{range $v := .Env}}{{$v}}{{$.Zero}}{{end}}", 'A=10B=é0C="q"\t0'),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "com.x=y z;k=v;"),
        ("{{range .Mounts}}{{range $.Mounts}}{{.Source}}{{end}};{{end}}", "/a/b;/a/b;"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
        ("{{$x := .State}}{{$x.Pid}}{{with $y := 3}}{{$y}}{{end}}", "423"),
        ("{{$x := 1}}{{$x := print $x $x}}{{$x}}", "1 1"),
    ],
)
def test_blocks_and_variables(text, printed):
    assert render(text) == printed


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("{{.Names | upper}}", "WEB-1 OF BOB"),
        ('{{.ID | printf "%s-%s" "x"}}', "x-0123456789ab"),
        ('{{upper "a"}}{{lower "ÄB"}}', "Aäb"),
        ("{{title \"hello wORLD x_y a-b 'q don't ünder\"}}", "Hello WORLD X_y A-B 'Q Don'T Ünder"),
        ('{{join .Env ","}} {{join .Empty ","}}', 'A=1,B=é,C="q"\t '),
        ('{{.Env | join ";"}}{{join .None ","}}', 'A=1;B=é;C="q"\t'),  # Go wants the list first
        ('{{split "a b" " "}} {{split "abc" ""}} {{split "" ","}}', "[a b] [a b c] []"),
        ('{{range split .Names " "}}<{{.}}>{{end}}', "<web-1><of><bob>"),
        ('{{len .Names}} {{len "é"}} {{len .Env}} {{len .Labels}} {{len .None}}', "12 2 3 2 0"),
        ('{{index .Labels "k"}}|{{index .Labels "x"}}|{{index .EmptyMap "x"}}|', "v|||"),
        ('{{index .State "x"}} {{index .None "x"}}|', "<no value> |"),
        ('{{index .Mounts 0}} {{index .Mounts 1 "Source"}}', "map[RW:true Source:/a] /b"),
        ('{{.Label "k"}}|{{.Label "x"}}|{{"k" | .Label | upper}}|{{$.Label "com.x"}}', "v||V|y z"),
        ('{{range .Mounts}}{{$.Label "k"}}{{end}}', "vv"),
        ('{{eq .ID "0123456789ab"}} {{eq .State.Pid 1 2 42}} {{ne .Zero 1}}', "true true true"),
        ("{{lt -7 0}} {{gt .Names `a`}} {{le 1 1}} {{ge 1 2}} {{lt 1 1.5}}", "true true true false true"),
        ("{{eq .None nil}} {{eq .ID nil}} {{ne nil nil}}", "true false false"),
        ('{{and 1 0 2}} {{and 1 2}} {{or 0 "" `x`}} {{or 0 ""}}. {{not .Zero}}', "0 2 x . true"),
        ("{{and .None .None.X}} {{or 1 (index .Empty 5)}}", "<no value> 1"),
        ("{{print 1 2 `a` `b` 3 4 nil true}}|{{print}}", "1 2ab3 4 <nil> true|"),
        ("{{println .ID .Zero}}{{println}}", "0123456789ab 0\n\n"),
        ("{{.Names|upper|lower}}", "web-1 of bob"),
        ("{{print (print `a` (len `bc`)) `d`}}", "a2d"),
    ],
)  # fmt: skip
def test_functions(text, printed):
    assert render(text) == printed


@pytest.mark.parametrize(
    ("form", "values", "printed"),
    [
        ("%s %d %v %q", '.ID 42 true "a b"', '0123456789ab 42 true "a b"'),
        ("%5d|%-5d|%05d|%+d|% d|%06d", "42 42 42 42 42 -42", "   42|42   |00042|+42| 42|-00042"),
        ("%10s|%-10s|%.3s|%6.2s|%-5.1s|", "`hello` `hello` `hello` `hello` `hello`",
         "     hello|hello     |hel|    he|h    |"),
        ("%5t|%v|%6.2f|%f|%.0f|%+.1f", "true nil 3.14159 2 2.5 2.25", " true|<nil>|  3.14|2.000000|2|+2.2"),
        ("%%|%5%|", "", "%|%|"),
        ("%v %v", ".Mixed .Labels", "[1 a <nil> true 1.5 [2]] map[com.x:y z k:v]"),
        ("%s", ".State.Pid", "42"),  # Go prints %!s(int=42)
        ("", "", ""),
        ("é%5sé", "`é`", "é    éé"),
    ],
)  # fmt: skip
def test_printf(form, values, printed):
    assert render(f'{{{{printf "{form}" {values}}}}}') == printed


def test_quoting():
    text = 'a\n\t"\\\x01\x7fé\u200b\U0001f600\U000e0001\udcff\ud800'
    quoted = r'"a\n\t\"\\\x01\x7fé\u200b' + "\U0001f600" + r'\U000e0001\xff\ufffd"'
    assert render('{{printf "%q" .}}', text) == quoted


def test_json():
    assert render("{{json .State}}") == '{"Pid":42,"Running":true,"Health":null,"Ratio":0.25}'
    assert render("{{json .}}", {"a": ["<é>\n", 1.5, {}]}) == '{"a":["<é>\\n",1.5,{}]}'
    assert render("{{json .}}", "a\udcff") == r'"a\udcff"'
    assert render("{{.X | json}}", {"X": None}) == "null"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{{.ID", 1), ("ab {{", 4), ("{{}}", 3), ("{{ | upper}}", 4), ("{{.ID | }}", 9),
        ('{{"a}}', 3), ('{{"a\nb"}}', 3), ("{{`a}}", 3), (r'{{"\q"}}', 4), (r'{{"\x4"}}', 4),
        (r'{{"\ud800"}}', 4), (r'{{"\777"}}', 4), (r'{{"\U00110000"}}', 4), ("{{'a'}}", 3),
        ("{{1a}}", 3), ("{{010}}", 3), ("{{99999999999999999999}}", 3), ("{{1e999}}", 3),
        ("{{.Names | nope}}", 12), ("{{.Label 'k'}}", 10), ("{{eq len 1}}", 6),
        ("{{(.ID}}", 7), ("{{.ID)}}", 6), ("{{..ID}}", 3), ("{{. ID}}", 5), ("{{.ID.}}", 3),
        ("{{3 4}}", 3), ("{{.ID 3}}", 3), ("{{.ID | 3}}", 9), ("{{upper}}", 3), ("{{.ID | upper 1}}", 9),
        ("{{eq 1}}", 3), ("{{`a` | .ID}}", 9), ("{{.Label 1 2}}", 3),
        ("{{$y}}", 3), ("{{if true}}{{$x := 1}}{{end}}{{$x}}", 32), ("{{$x = 3}}", 6), ("{{$x := }}", 9),
        ("{{$a, $b := 1}}", 5), ("{{range $a, 3 := .X}}{{end}}", 13), ("{{range $a, $b, $c := .}}{{end}}", 15),
        ("{{if .ID}}x", 3), ("{{if}}x{{end}}", 5), ("{{if .ID}}{{else}}{{else}}{{end}}", 3),
        ("{{end}}", 3), ("{{else}}", 3), ("{{range .X}}{{else if .Y}}{{end}}", 20), ("{{if .X}}{{end 1}}", 16),
        ("{{define `x`}}{{end}}", 3), ("{{template `x`}}", 3), ("{{break}}", 3),
        ("{{/* a}}", 1), ("{{/* a */ .ID}}", 1), ("{{/*/}}", 1), ("{{.ID-}}", 6), ("{{\0}}", 3),
        ("{{.ID | if}}", 9), ("{{true true}}", 3), ("{{_}}", 3), ("{{__import__ `os`}}", 3), ("{{@}}", 3),
    ],
)  # fmt: skip
def test_a_syntax_error_has_its_place(text, place):
    with pytest.raises(SpecError) as caught:
        template.compile(text)
    assert str(caught.value).startswith(f"--format: character {place}: ")


@pytest.mark.parametrize(
    "text",
    [
        "{{upper 1}}", "{{lower .None}}", "{{title .Env}}", "{{split .Env `a`}}", "{{join .ID .ID}}",
        "{{join .Env 1}}", "{{len 3}}", "{{len true}}", "{{index .Env 3}}", "{{index .Env -1}}",
        "{{index .Env `a`}}", "{{index .Env true}}", "{{index .Labels 1}}", "{{index nil 1}}",
        "{{index .ID 1}}", "{{lt 1 `a`}}", "{{lt true false}}", "{{gt .None 1}}", "{{eq 1 `a`}}",
        "{{eq 1 true}}", "{{eq .Env .Env}}", "{{ne .Labels .Labels}}", "{{range .ID}}{{end}}",
        "{{range 3}}{{end}}", "{{printf 3}}", "{{printf `%d` `a`}}", "{{printf `%d` true}}",
        "{{printf `%d` 1.5}}", "{{printf `%d`}}", "{{printf `%d` 1 2}}", "{{printf `%x` 1}}",
        "{{printf `%`}}", "{{printf `%5`}}", "{{printf `%*d` 1 2}}", "{{printf `%[1]d` 1}}",
        "{{printf `%q` 1}}", "{{printf `%t` 1}}", "{{printf `%f` `a`}}", "{{printf `%.2d` 1}}",
        "{{printf `%1001d` 1}}", "{{printf `%.9999999999999f` 1}}", "{{.Label 1}}", "{{.State.Label `k`}}",
        "{{printf `%d` .None}}",
    ],
)  # fmt: skip
def test_a_value_that_a_function_does_not_take(text):
    refuse(text)


def test_a_missing_field_names_those_there_are():
    known = ", ".join(DATA)
    assert refuse("{{.Nmaes}}") == f"--format: there is no field .Nmaes; there are {known}"
    assert "no field .State.X; there are Pid, Running, Health, Ratio" in refuse("{{.State.X}}")
    assert "no field $.X; there are " in refuse("{{$.X}}")
    assert "no field .X; there are none" in refuse("{{.X}}", {})
    assert "no field .ID.X: .ID is a text" in refuse("{{.ID.X}}")
    assert "no field .Mounts.Source: .Mounts is a list" in refuse("{{.Mounts.Source}}")
    assert "no field .State.Health.X: .State.Health is nil" in refuse("{{.State.Health.X}}")
    assert "no field .X: the value is a text" in refuse("{{range .Env}}{{.X}}{{end}}")
    assert "no field (…).X; there are Source, RW" in refuse("{{(index .Mounts 0).X}}")
    assert "no field .Label;" in refuse("{{.Label}}")
    assert len(refuse("{{.X}}", {"y" * 999 + str(i): i for i in range(999)})) < 1000


def test_a_field_is_found_as_written_first():
    data = {"name": 1, "Name": 2, "NAME": 3}
    assert render("{{.name}}{{.Name}}{{.NAME}}{{.nAME}}", data) == "1231"


def test_nothing_of_python_can_be_reached():
    for text in ("{{.__class__}}", "{{.ID.upper}}", "{{.Env.append}}", "{{$.keys}}"):
        refuse(text)
    assert render("{{.__class__}}", {"__class__": 1}) == "1"
    for value in (object(), b"x", {1, 2}, (1,), 1j):
        assert "cannot be printed" in refuse("{{.}}", value)
    assert "json" in refuse("{{json .}}", {"a": b"x"})
    assert "json" in refuse("{{json .}}", float("nan"))


def test_nesting_is_bounded():
    assert render("{{" + "(" * 60 + "3" + ")" * 60 + "}}") == "3"
    assert "nested" in refuse("{{" + "(" * 2000 + "3" + ")" * 2000 + "}}")
    assert render("{{if 1}}" * 60 + "x" + "{{end}}" * 60) == "x"
    assert "nested" in refuse("{{if 1}}" * 2000)
    assert "nested" in refuse("{{if 0}}" + "{{else if 0}}" * 2000 + "{{end}}")
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for text in ("{{.}}", "{{json .}}", "{{printf `%v` .}}"):
        assert "nested" in refuse(text, deep)
    assert render("{{eq 1 1}}", deep) == "true"
    with pytest.raises(SpecError, match="nested"):
        template.rows("table {{.}}", [deep], {})


@pytest.mark.parametrize("inner", ["", "{{eq . 1}}"])
def test_work_is_bounded(monkeypatch, inner):
    monkeypatch.setattr(template, "MOST_STEPS", 10_000)
    nested = f"{{{{range $}}}}{{{{range $}}}}{inner}{{{{end}}}}{{{{end}}}}"
    render(nested, list(range(50)))
    assert "steps" in refuse(nested, list(range(2000)))


def test_memory_is_bounded():
    double = "{{$x := print `aaaaaaaaaaaaaaaa` 1}}" + "{{$x := print $x $x}}" * 60
    assert "Mi characters" in refuse(double)
    wide = '{{$x := split (printf "%1000s" "") ""}}{{$s := join $x (printf "%1000s" "")}}'
    assert "Mi characters" in refuse(wide + "{{join (split $s ``) $s}}")
    assert "Mi characters" in refuse(wide + "{{printf `" + "%v" * 100 + "`" + " $s" * 100 + "}}")
    assert "Mi characters" in refuse("{{range .}}" + "x" * 60000 + "{{end}}", [0] * 2000)
    assert "characters at most" in refuse("x" * 70000)
    assert "too large" in refuse("{{.}}", 10**5000)
    assert "too large" in refuse("{{printf `%.2f` .}}", 10**5000)


def test_rows_are_a_line_each():
    items = [{"ID": "1", "Names": "web"}, {"ID": "2", "Names": "a\tb"}]
    assert template.rows("{{.ID}} {{.Names}}", items, HEADINGS) == "1 web\n2 a\tb\n"
    assert template.rows("tables {{.ID}}", items, {}) == "tables 1\ntables 2\n"
    assert template.rows("{{.ID}}", [], HEADINGS) == ""


def test_a_table_has_headings_and_aligned_columns():
    items = [{"ID": "0123456789ab", "Names": "web"}, {"ID": "1", "Names": "日本"}]
    shown = (
        "NAMES   CONTAINER ID\n"
        "web     0123456789ab\n"
        "日本    1\n"
    )  # fmt: skip
    for text in (
        r"table {{.Names}}\t{{.ID}}", "table {{.Names}}\t{{.ID}}", r"table   {{.Names}}\t{{.ID}}  ",
        r"table{{.Names}}\t{{.ID}}", '''table {{.Names}}{{"\\t"}}{{.ID}}''', r"table {{.names}}\t{{.id}}",
    ):  # fmt: skip
        assert template.rows(text, items, HEADINGS) == shown, text
    assert template.rows(r"table {{.Names}}\t{{.ID}}", [], HEADINGS) == "NAMES   CONTAINER ID\n"


def test_a_table_alone_has_all_headings():
    item = {"ID": "1", "Names": "web", "State": {"Pid": 7}}
    shown = template.rows("table", [item], HEADINGS)
    assert shown == "CONTAINER ID   NAMES   PID OUTSIDE\n1              web     7\n"
    assert template.rows("table ", [item], HEADINGS) == shown


@pytest.mark.parametrize(
    ("column", "heading"),
    [
        ("{{.State.Pid}}", "PID OUTSIDE"),
        ("{{.State.Running}}", "RUNNING"),
        ("{{upper .Names}}", "NAMES"),
        ("{{.ID | printf `%.3s`}}", "CONTAINER ID"),
        ('{{.Label "com.x-y_z"}}', "X Y Z"),
        ('{{index .Labels "k"}}', "LABELS"),
        ("{{(index .Mounts 0).Source}}", "SOURCE"),
        ("{{len (index .Mounts 0)}}", "MOUNTS"),
        ("{{range .Env}}{{.}} {{end}}", "ENV"),
        ("{{if .State}}{{.ID}}{{end}}", "CONTAINER ID"),
        ("{{if .State}}yes{{else}}no{{end}}", "STATE"),
        ("{{with .State}}{{.Pid}}{{end}}", "PID"),
        ("id: {{.ID}}", "id: CONTAINER ID"),
        ("{{json .}}", ""),
        ("{{`a`}}{{println}}{{printf `%d` 1}}", "a\n1"),
        ("{{$x := .ID}}{{$x}} of {{$.Names}}", " of NAMES"),
    ],
)
def test_headings(column, heading):
    assert template.rows(f"table {column}", [], HEADINGS) == f"{heading}\n"


def test_a_value_cannot_add_lines_or_columns_to_a_table():
    items = [{"A": "x\ny\tz\x1b[2J", "B": ["a\nb"]}, {"A": "1", "B": []}]
    shown = template.rows(r"table {{.A}}\t{{.B}}\t{{printf `%s\t%s` .A .A}}", items, {})
    assert shown.count("\n") == 3
    assert shown.replace("\n", "").isprintable()
    shown = template.rows('table {{printf "%s\\t%s" .A .A}}', [{"A": "1"}], {"A": "A"})
    assert shown == "A\n1   1\n"


def test_an_error_in_a_table_has_its_place_too():
    with pytest.raises(SpecError, match="character 15: "):
        template.rows("table {{.ID | nope}}", [], HEADINGS)
    with pytest.raises(SpecError, match=r"no field \.Nope"):
        template.rows("table {{.Nope}}", [DATA], HEADINGS)
