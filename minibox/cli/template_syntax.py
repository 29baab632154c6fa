# SPDX-License-Identifier: Apache-2.0
"""The syntax of a template: text -> tokens -> a tree, or a SpecError that says where.

It is that of Go's package text/template, without templates in templates (define, block, template),
break, continue, assignment (`=`) and character or complex constants. As with docker, \\n and \\t
that reach us as two characters are a newline and a tab, but only outside of actions.
"""

from __future__ import annotations

import math

from minibox.cli.template_values import DIGITS, ESCAPES, FUNCTIONS, OPTION
from minibox.errors import SpecError
from minibox.spec import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Operand: TypeAlias = "Literal | Path"
    Node: TypeAlias = "Text | Pipeline | Block"

SPACE = " \t\r\n"
MARKS = (":=", "(", ")", "|", ",", ".")
MOST_CHARACTERS = 1 << 16
MOST_DEPTH = 64
BLOCKS = ("if", "range", "with")
FOREIGN = ("block", "break", "continue", "define", "template")
CONSTANTS: dict[str, object] = {"true": True, "false": False, "nil": None}
HEXADECIMAL = {"x": 2, "u": 4, "U": 8}


class Text(Record):
    """What is printed as it is."""

    text: str


class Literal(Record):
    """A constant."""

    value: object


class Path(Record):
    """`.A.B`, `$x.A`, `(…).A`: the fields of the dot (""), of a variable or of a pipeline."""

    base: str | Pipeline
    names: tuple[str, ...]


class Command(Record):
    """A function and its arguments; or, without a function, one operand."""

    function: str
    operands: tuple[Operand, ...]


class Pipeline(Record):
    """Commands, each of which gets the value of the one before; the variables that get the last."""

    variables: tuple[str, ...]
    commands: tuple[Command, ...]


class Block(Record):
    """`{{if}}`, `{{range}}` or `{{with}}` up to its `{{end}}`."""

    keyword: str
    pipeline: Pipeline
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


def fail(place: int, reason: str) -> SpecError:
    return SpecError(OPTION, f"character {place + 1}: {reason}")


# Tokens


class Token:
    """kind: "text", "{{", "}}", "name", "field", "variable", "literal", "" (the end), or a mark of
    MARKS. word: as it is written, but for a text, which is as it is printed. value: of a literal.
    is_joined: there is no space before it."""

    __slots__ = ("is_joined", "kind", "place", "value", "word")

    def __init__(self, kind: str, place: int, word: str, value: object = None) -> None:
        self.kind = kind
        self.place = place
        self.word = word
        self.value = value
        self.is_joined = False


def tokens(text: str, start: int) -> list[Token]:
    """All tokens from there on."""
    found: list[Token] = []
    at, is_trimmed = start, False
    while (opening := text.find("{{", at)) >= 0:
        literal = _unescaped(text[at:opening], is_trimmed)
        inside = opening + 2
        if text[inside : inside + 1] == "-" and text[inside + 1 : inside + 2] in tuple(SPACE):
            literal = literal.rstrip(SPACE)
            inside += 2
        found.append(Token("text", at, literal))
        if text.startswith("/*", inside):
            end = text.find("*/", inside) + 2
            if end < inside + 4 or not _closing(text, end):
                raise fail(opening, "the comment does not end in */}}")
        else:
            found.append(Token("{{", opening, "{{"))
            end = _action(text, opening, inside, found)
            found.append(Token("}}", end, "}}"))
        at = end + _closing(text, end)
        is_trimmed = at - end > 2
    found.append(Token("text", at, _unescaped(text[at:], is_trimmed)))
    found.append(Token("", len(text), ""))
    return found


def _unescaped(text: str, is_trimmed: bool) -> str:
    text = text.replace("\\t", "\t").replace("\\n", "\n")
    return text.lstrip(SPACE) if is_trimmed else text


def _closing(text: str, at: int) -> int:
    """The length of the `}}` or ` -}}` there; 0 for none."""
    if text.startswith("}}", at):
        return 2
    return 4 if text[at : at + 1] in tuple(SPACE) and text.startswith("-}}", at + 1) else 0


def _action(text: str, opening: int, at: int, found: list[Token]) -> int:
    """Find the tokens of an action; where it is closed."""
    is_joined = False
    while not _closing(text, at):
        if at >= len(text):
            raise fail(opening, "the action has no }}")
        is_space = text[at] in SPACE
        if is_space:
            at += 1
        else:
            token, at = _token(text, at)
            token.is_joined = is_joined
            found.append(token)
        is_joined = not is_space
    return at


def _token(text: str, at: int) -> tuple[Token, int]:
    """The token that starts there, and where it ends."""
    first, second = text[at], text[at + 1 : at + 2]
    if first in '"`':
        value, end = _string(text, at) if first == '"' else _raw(text, at)
        return Token("literal", at, text[at:end], value), end
    if first in DIGITS or (first in "+-." and second in tuple(DIGITS)):
        return _number(text, at)
    end = at + 1
    while end < len(text) and (text[end].isalnum() or text[end] == "_"):
        end += 1
    if first == "$":
        kind = "variable"
    elif first == "." and end > at + 1:
        kind = "field"
    elif first == "_" or first.isalpha():
        kind = "name"
    else:
        kind = next((mark for mark in MARKS if text.startswith(mark, at)), "")
        end = at + len(kind)
        if not kind:
            hint = '; a text has "" or ``' if first == "'" else ""
            raise fail(at, f"{first!r} does not belong there{hint}")
    return Token(kind, at, text[at:end]), end


def _number(text: str, at: int) -> tuple[Token, int]:
    """12, -3, 0x1f, 1_000, 1.5, 2e3; a whole number has 64 bits."""
    end = at + 1
    while text[end : end + 1].isalnum() or text[end : end + 1] in tuple("._+-"):
        if text[end] in "+-" and text[end - 1] not in "eE":
            break
        end += 1
    word, value = text[at:end], math.inf
    is_whole = "x" in word.lower() or not set(word) & set(".eE")
    try:
        value = int(word, 0) if is_whole else float(word)
    except ValueError:
        pass
    fits = -(2**63) <= value < 2**63 if is_whole else math.isfinite(value)
    if not fits or not word.isascii():
        raise fail(at, f"{word[:40]!r} is no number")
    return Token("literal", at, word, value), end


def _raw(text: str, at: int) -> tuple[str, int]:
    end = text.find("`", at + 1)
    if end < 0:
        raise fail(at, "the text has no second `")
    return text[at + 1 : end], end + 1


def _string(text: str, at: int) -> tuple[str, int]:
    """The value of a "text", and where it ends."""
    found, end = [], at + 1
    while (character := text[end : end + 1]) != '"':
        if character in ("", "\n"):
            raise fail(at, 'the text has no second "')
        if character == "\\":
            character, end = _escape(text, end + 1)
        else:
            end += 1
        found.append(character)
    return "".join(found), end + 1


def _escape(text: str, at: int) -> tuple[str, int]:
    """What stands after a backslash: n, x41, 101, u00e9, U0001f600."""
    letter = text[at : at + 1]
    if letter in ESCAPES:
        return ESCAPES[letter], at + 1
    base, start, count = 8, at, 3
    if letter in HEXADECIMAL:
        base, start, count = 16, at + 1, HEXADECIMAL[letter]
    digits = text[start : start + count]
    known = "0123456789abcdefABCDEF" if base == 16 else "01234567"
    is_code = len(digits) == count and all(digit in known for digit in digits)
    code = int(digits, base) if is_code else -1
    is_byte = count < 4
    if not 0 <= code <= (0xFF if is_byte else 0x10FFFF) or 0xD800 <= code < 0xE000:
        raise fail(at - 1, f"\\{letter} is no escape that Go has, or its digits are wrong")
    # A byte that may be no UTF-8 is what Python makes of such a byte.
    return chr(code + 0xDC00 if is_byte and code >= 0x80 else code), start + count


# The tree


def parse(text: str, start: int = 0) -> tuple[Node, ...]:
    """The tree of a template that begins at `start`."""
    if len(text) > MOST_CHARACTERS:
        raise SpecError(OPTION, f"a template has {MOST_CHARACTERS} characters at most")
    return _Parser(tokens(text, start)).body(None)[0]


class _Parser:
    """Reads tokens one after the other; one method for each thing there can be."""

    __slots__ = ("at", "depth", "tokens", "variables")

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.variables = ["$"]

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def is_name(self, *names: str) -> bool:
        return self.token.kind == "name" and self.token.word in names

    def take(self) -> Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def expect(self, kind: str) -> None:
        if self.token.kind != kind:
            raise self.unexpected(f"{kind} must follow")
        self.at += 1

    def unexpected(self, reason: str) -> SpecError:
        word = self.token.word[:40]
        return fail(self.token.place, f"{word!r} does not belong there: {reason}")

    def deepen(self) -> None:
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise fail(self.token.place, f"it is nested more than {MOST_DEPTH} deep")

    def body(self, opener: Token | None) -> tuple[tuple[Node, ...], str]:
        """What is in a block, and what ends it: "end" or "else", which are read; "" for all."""
        found: list[Node] = []
        while self.token.kind:
            token = self.take()
            if token.kind == "text":
                found.append(Text(token.word))
            elif opener and self.is_name("end", "else"):
                return tuple(found), self.take().word
            elif self.is_name(*BLOCKS):
                found.append(self.block())
            else:
                found.append(self.pipeline())
                self.expect("}}")
        if opener:
            raise fail(opener.place, f"this {opener.word} has no {{{{end}}}}")
        return tuple(found), ""

    def block(self) -> Block:
        """From the keyword on."""
        self.deepen()
        opener = self.take()
        known = len(self.variables)
        pipeline = self.pipeline(is_range=opener.word == "range")
        self.expect("}}")
        body, word = self.body(opener)
        otherwise: tuple[Node, ...] = ()
        if word == "else" and opener.word != "range" and self.is_name(opener.word):
            otherwise = (self.block(),)  # has read the {{end}} that both share
        else:
            if word == "else":
                self.expect("}}")
                otherwise, word = self.body(opener)
                if word == "else":
                    raise fail(opener.place, f"this {opener.word} has a second {{{{else}}}}")
            self.expect("}}")
        del self.variables[known:]
        self.depth -= 1
        return Block(opener.word, pipeline, body, otherwise)

    def pipeline(self, *, is_range: bool = False) -> Pipeline:
        self.deepen()
        names = self.declared(most=2 if is_range else 1)
        commands = [self.command(is_first=True)]
        while self.token.kind == "|":
            self.at += 1
            commands.append(self.command(is_first=False))
        self.variables += names
        self.depth -= 1
        return Pipeline(tuple(names), tuple(commands))

    def declared(self, most: int) -> list[str]:
        """`$x :=`, or `$i, $x :=` for a range."""
        if self.token.kind != "variable" or self.tokens[self.at + 1].kind not in (":=", ","):
            return []
        names = [self.take().word]
        if self.token.kind == "," and most > 1:
            self.at += 1
            if self.token.kind != "variable":
                raise self.unexpected("a variable must follow the comma")
            names.append(self.take().word)
        self.expect(":=")
        return names

    def command(self, *, is_first: bool) -> Command:
        """A function and its arguments, or one operand."""
        start, function = self.token, ""
        if start.kind == "name" and start.word not in CONSTANTS:
            function = start.word
            if function not in FUNCTIONS:
                raise fail(start.place, _instead(function))
            self.at += 1
        operands: list[Operand] = []
        while self.token.kind not in ("|", ")", "}}"):
            operands.append(self.operand())
        if not function and not operands:
            raise self.unexpected("a value must stand there")
        count = len(operands) + (not is_first)
        if not function and isinstance(operands[0], Path):
            base, names = operands[0].base, operands[0].names
            if names[-1:] == ("Label",) and count > 1:
                function = ".Label"
                operands[0] = Path(base, names[:-1])
        _check(start, function, count)
        return Command(function, tuple(operands))

    def operand(self) -> Operand:
        """One value, with the fields that follow it without a space."""
        token = self.take()
        if token.kind == "literal":
            return Literal(token.value)
        if token.kind == "name" and token.word in CONSTANTS:
            return Literal(CONSTANTS[token.word])
        names: list[str] = []
        base: str | Pipeline = ""
        if token.kind == "field":
            names.append(token.word[1:])
        elif token.kind == "variable":
            base = token.word
            if base not in self.variables:
                raise fail(token.place, f"there is no variable {base[:40]}")
        elif token.kind == "(":
            known = len(self.variables)
            base = self.pipeline()
            del self.variables[known:]
            self.expect(")")
        elif token.kind != ".":
            self.at -= 1
            raise self.unexpected("a value must stand there, a function needs parentheses")
        while self.token.kind == "field" and self.token.is_joined and token.kind != ".":
            names.append(self.take().word[1:])
        return Path(base, tuple(names))


def _instead(word: str) -> str:
    """Why a word is no function."""
    if word in FOREIGN:
        return f"minibox's templates have no {word}"
    if word in (*BLOCKS, "else", "end"):
        return f"{word} does not belong there; else and end follow an if, a range or a with"
    known = ", ".join(name for name in FUNCTIONS if name[0] != ".")
    return f"there is no function {word[:40]}; there are {known}"


def _check(start: Token, function: str, count: int) -> None:
    """The number of values that a command gets, with the one from the pipeline."""
    if not function and count > 1:
        raise fail(start.place, "only a function takes values, and this is none")
    least, most, _ = FUNCTIONS.get(function, (1, 1, None))
    if not least <= count <= most:
        if function == ".Label":  # whose first value is what stands before the dot
            least, most, count = 1, 1, count - 1
        asked = f"{least} value{'s' * (least != 1)}{' or more' * (least != most)}"
        raise fail(start.place, f"{function} takes {asked}, not {count}")
