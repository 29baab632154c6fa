# SPDX-License-Identifier: Apache-2.0
"""The values of a template: how Go prints them, and what the functions do with them.

The sources are the documentation of Go's packages text/template, fmt, strconv and strings, and for
json, join, lower, split, title and upper docker's. Where Go prints its complaint into the output
(`%!d(string=x)`), there is an error here. Values are what JSON has; nothing of Python's is called
on them.
"""

from __future__ import annotations

import math

from minibox.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Function = Callable[[list[object]], object]

OPTION = "--format"
MOST_TEXT = 1 << 24  # characters that a rendering may make
MOST_WIDTH = 1000
MOST_NAMES = 40
MANY = 1 << 16
DIGITS = "0123456789"
ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", '"': '"',
}  # fmt: skip
ESCAPED = {character: "\\" + letter for letter, character in ESCAPES.items()}


def bad(reason: str) -> SpecError:
    return SpecError(OPTION, reason)


def kind(value: object) -> str:
    """What a value is, in the words of a message."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "a bool"
    for types, name in (((int, float), "a number"), (str, "a text"), (dict, "a map")):
        if isinstance(value, types):
            return name
    return "a list" if isinstance(value, list) else f"a {type(value).__name__}"


# Printing


def text(value: object) -> str:
    """A value as an action prints it."""
    return "<no value>" if value is None else shown(value)


def shown(value: object) -> str:
    """A value as Go's %v prints it: `true`, `[a b]`, `map[k:v]`, `<nil>`."""
    if isinstance(value, str):
        return value
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return _number(value)
    if isinstance(value, list):
        return f"[{joined((shown(item) for item in value), ' ')}]"
    if isinstance(value, dict):
        items = sorted((shown(key), item) for key, item in value.items())
        return f"map[{joined((f'{key}:{shown(item)}' for key, item in items), ' ')}]"
    raise bad(f"{kind(value)} cannot be printed")


def joined(pieces: Iterable[str], between: str = "") -> str:
    """All the pieces. Every text that is made of others is made here, so none becomes too large."""
    found, size = [], 0
    for piece in pieces:
        size += len(piece) + len(between)
        if size > MOST_TEXT + len(between):
            raise bad(f"it prints more than {MOST_TEXT >> 20} Mi characters")
        found.append(piece)
    return between.join(found)


def _number(value: float) -> str:
    """The fewest digits that mean the number; from 1e6 on a float has an exponent."""
    if isinstance(value, int):
        return str(_integer(value))
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    digits = repr(value).removesuffix(".0")
    if abs(value) < 1e6 or "e" in digits:
        return digits
    sign = "-" * (value < 0)
    whole, _, fraction = digits.removeprefix("-").partition(".")
    rest = (whole[1:] + fraction).rstrip("0")
    return f"{sign}{whole[0]}{'.' * bool(rest)}{rest}e+{len(whole) - 1:02}"


def _integer(value: int) -> int:
    """Python can neither print a number of thousands of digits nor make a float of it."""
    if value.bit_length() > 1000:
        raise bad("a number is too large to be printed")
    return value


def quoted(value: str) -> str:
    """A text as Go's %q prints it. A byte that is no UTF-8 is a surrogate in Python: \\xff."""
    return '"' + joined(map(_quoted, value)) + '"'


def _quoted(character: str) -> str:
    code = ord(character)
    if character in ESCAPED:
        return ESCAPED[character]
    if character.isprintable():
        return character
    if code < 0x80 or 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code & 0xFF:02x}"
    if 0xD800 <= code <= 0xDFFF:
        return "\\ufffd"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _print(values: list[object]) -> str:
    """A space between two values if neither is a text."""
    pieces: list[str] = []
    for i, value in enumerate(values):
        if i and not isinstance(value, str) and not isinstance(values[i - 1], str):
            pieces.append(" ")
        pieces.append(shown(value))
    return joined(pieces)


def _printf(values: list[object]) -> str:
    return joined(_pieces(_text("printf", values[0]), values[1:]))


def _pieces(form: str, values: list[object]) -> Iterable[str]:
    """A format's literal text and its values by turns."""
    at = taken = 0
    while (percent := form.find("%", at)) >= 0:
        yield form[at:percent]
        flags, at = _run(form, percent + 1, "-+ 0")
        columns, at = _run(form, at, DIGITS)
        digits, after = _run(form, at + 1, DIGITS) if form[at : at + 1] == "." else ("", at)
        precision = _count(digits) if after > at else None
        verb, at = form[after : after + 1], after + 1
        if verb == "%":
            yield "%"
            continue
        if taken == len(values):
            raise bad(f"printf: there is no value for %{verb}")
        yield _padded(_verb(verb, values[taken], flags, precision), flags, _count(columns))
        taken += 1
    if taken < len(values):
        raise bad(f"printf: the format takes {taken} values, not {len(values)}")
    yield form[at:]


def _run(form: str, at: int, known: str) -> tuple[str, int]:
    """The characters of a kind from there on, and where they end."""
    end = at
    while form[end : end + 1] and form[end] in known:
        end += 1
    return form[at:end], end


def _count(digits: str) -> int:
    if len(digits) > 4 or int(digits or "0") > MOST_WIDTH:
        raise bad(f"printf: a width is {MOST_WIDTH} at most")
    return int(digits or "0")


def _verb(verb: str, value: object, flags: str, precision: int | None) -> str:
    """One value as its verb prints it, not yet padded."""
    if verb not in tuple("svdqtf"):
        raise bad(f"printf: %{verb} is none of %s, %v, %d, %q, %t, %f, %%")
    if isinstance(value, str) and verb in "svq":
        return quoted(value[:precision]) if verb == "q" else value[:precision]
    if verb == "f" and kind(value) == "a number":
        return _signed(_fixed(value, 6 if precision is None else precision), flags)
    if precision is not None:
        raise bad(f"printf: only a text and %f have a precision, %{verb} of {kind(value)} has none")
    if verb == "d" and kind(value) == "a number" and isinstance(value, int):
        return _signed(shown(value), flags)
    if verb in "sv" or (verb == "t" and isinstance(value, bool)):
        return shown(value)
    raise bad(f"printf: %{verb} cannot print {kind(value)}")


def _fixed(value: object, digits: int) -> str:
    number = shown(value)
    return number if number[-1] in "Nf" else f"{float(number):.{digits}f}"


def _signed(number: str, flags: str) -> str:
    if number[0] in "-+":
        return number
    return ("+" if "+" in flags else " " if " " in flags else "") + number


def _padded(piece: str, flags: str, columns: int) -> str:
    if "-" in flags or "0" not in flags:
        return piece.ljust(columns) if "-" in flags else piece.rjust(columns)
    return piece.zfill(columns)


# Functions


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise bad(f"{name} takes a text, not {kind(value)}")
    return value


def _title(value: str) -> str:
    """Each word with a capital; the rest stays as it is."""
    found, before = [], " "
    for character in value:
        is_inside = before.isalnum() or before == "_" or not (before.isascii() or before.isspace())
        found.append(character if is_inside else character.title())
        before = character
    return "".join(found)


def _split(values: list[object]) -> list[str]:
    value, between = (_text("split", value) for value in values)
    return value.split(between) if between else list(value)


def _join(values: list[object]) -> str:
    """The list comes first, as docker has it; or last, for who writes {{.List | join ","}}."""
    items, between = values if isinstance(values[0], (list, type(None))) else reversed(values)
    if not isinstance(items, (list, type(None))):
        raise bad(f"join takes a list, not {kind(values[0])}")
    return joined((shown(item) for item in items or ()), _text("join", between))


def _json(value: object) -> str:
    import json

    try:
        found = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError):
        raise bad("json: this value has no JSON") from None
    if found.isascii():
        return found
    # JSON is UTF-8, which has no surrogates; Python has them for bytes that are none.
    return "".join(c if not "\ud800" <= c <= "\udfff" else f"\\u{ord(c):04x}" for c in found)


def _length(value: object) -> int:
    """Of a text the bytes, as Go counts; nil is a list or a map that has nothing."""
    if value is None:
        return 0
    if isinstance(value, str):
        return len(value.encode(errors="replace"))
    if isinstance(value, (list, dict)):
        return len(value)
    raise bad(f"len takes a text, a list or a map, not {kind(value)}")


def _index(values: list[object]) -> object:
    """An item of a list, of a map, or of one in the other. What a map does not have is empty."""
    value = values[0]
    for key in values[1:]:
        if isinstance(value, list):
            if not isinstance(key, int) or isinstance(key, bool):
                raise bad(f"index takes a number for a list, not {kind(key)}")
            if not 0 <= key < len(value):
                raise bad(f"index {shown(key)} is not in the list, which has {len(value)}")
            value = value[key]
        elif isinstance(value, dict) or (value is None and isinstance(key, str)):
            items = value or {}
            has_texts = all(isinstance(item, str) for item in items.values())
            value = items.get(_text("index of a map", key), "" if has_texts else None)
        else:
            raise bad(f"index takes a list or a map, not {kind(value)}")
    return value


def field(value: object, name: str, path: str = "") -> object:
    """A field of a map, in capitals or small letters if need be. `path`: what the map is called."""
    if not isinstance(value, dict):
        raise bad(f"there is no field {path}.{name}: {path or 'the value'} is {kind(value)}")
    if name in value:
        return value[name]
    for key, item in value.items():
        if isinstance(key, str) and key.lower() == name.lower():
            return item
    names = [shown(key) for key in value] or ["none"]
    known = ", ".join(names[:MOST_NAMES])[: 20 * MOST_NAMES] + ", …" * (len(names) > MOST_NAMES)
    raise bad(f"there is no field {path}.{name}; there are {known}")


def _label(values: list[object]) -> object:
    """`.Label "k"`: one of the Labels, empty if there is none of that name."""
    return _index([field(values[0], "Labels"), _text(".Label", values[1])])


def _equal(name: str, left: object, right: object) -> bool:
    """As Go's ==: nil is itself alone, other kinds are never mixed up, 1 is not true."""
    if left is None or right is None:
        return left is right
    if kind(left) != kind(right) or isinstance(left, (list, dict)):
        raise bad(f"{name} cannot compare {kind(left)} with {kind(right)}")
    return left == right


def _is_less(name: str, left: object, right: object) -> bool:
    if kind(left) != kind(right) or kind(left) not in ("a text", "a number"):
        raise bad(f"{name} cannot compare {kind(left)} with {kind(right)}")
    return left < right  # type: ignore[operator,no-any-return]


# name -> how many values it takes, at least and at most; and what it does
FUNCTIONS: dict[str, tuple[int, int, Function]] = {
    ".Label": (2, 2, _label),
    "and": (1, MANY, lambda v: next((value for value in v if not value), v[-1])),
    "or": (1, MANY, lambda v: next((value for value in v if value), v[-1])),
    "not": (1, 1, lambda v: not v[0]),
    "eq": (2, MANY, lambda v: any(_equal("eq", v[0], value) for value in v[1:])),
    "ne": (2, 2, lambda v: not _equal("ne", v[0], v[1])),
    "lt": (2, 2, lambda v: _is_less("lt", v[0], v[1])),
    "le": (2, 2, lambda v: not _is_less("le", v[1], v[0])),
    "gt": (2, 2, lambda v: _is_less("gt", v[1], v[0])),
    "ge": (2, 2, lambda v: not _is_less("ge", v[0], v[1])),
    "index": (1, MANY, _index),
    "join": (2, 2, _join),
    "json": (1, 1, lambda v: _json(v[0])),
    "len": (1, 1, lambda v: _length(v[0])),
    "lower": (1, 1, lambda v: _text("lower", v[0]).lower()),
    "print": (0, MANY, _print),
    "printf": (1, MANY, _printf),
    "println": (0, MANY, lambda v: joined((shown(value) for value in v), " ") + "\n"),
    "split": (2, 2, _split),
    "title": (1, 1, lambda v: _title(_text("title", v[0]))),
    "upper": (1, 1, lambda v: _text("upper", v[0]).upper()),
}
