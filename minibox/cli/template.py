# SPDX-License-Identifier: Apache-2.0
"""What --format takes: the part of Go's text/template that users of docker and podman write.

`compile(text).render(data)` for one object, `rows` for a list. Data is what JSON has. A template
walks a tree over data and calls the functions of template_values, nothing else; how deep, how long
and how large it may become has bounds. Whatever is wrong is a SpecError.
"""

from __future__ import annotations

from minibox.cli.table import table
from minibox.cli.template_syntax import Block, Literal, Path, Pipeline, Text, parse
from minibox.cli.template_values import FUNCTIONS, MOST_TEXT, bad, field, joined, kind, text
from minibox.errors import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from minibox.cli.template_syntax import Command, Node, Operand

    Variables = dict[str, object]

MOST_STEPS = 1 << 20
# The functions that need not look at all their values: the truth of the one that decides.
DECIDES = {"and": False, "or": True}


class Template:
    """A template that can be rendered any number of times."""

    __slots__ = ("nodes",)

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self.nodes = nodes

    def render(self, data: object) -> str:
        """The text of one object, without a newline at the end. SpecError: the data has no such
        field, or not the kind of value that a function takes."""
        return _rendered(self.nodes, data)


def compile(text: str) -> Template:
    """A template's text. SpecError: it is none; the message has the place."""
    return Template(parse(text))


def _rendered(nodes: tuple[Node, ...], data: object, *, is_cell: bool = False) -> str:
    rendering = _Rendering()
    try:
        data = _printable(data) if is_cell else data
        rendering.body(nodes, data, {"$": data})
    except RecursionError:
        raise bad("the data is nested too deep") from None
    return joined(rendering.pieces)


class _Rendering:
    """One walk over a tree. steps and size: what it has done and made, which has a bound."""

    __slots__ = ("pieces", "size", "steps")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.size = 0
        self.steps = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise bad(f"the template takes more than {MOST_STEPS} steps")

    def body(self, nodes: tuple[Node, ...], dot: object, variables: Variables) -> None:
        self.step()
        for node in nodes:
            if isinstance(node, Text):
                self.pieces.append(node.text)
            elif isinstance(node, Block):
                self.block(node, dot, dict(variables))
            else:
                value = self.pipeline(node, dot, variables)
                if not node.variables:
                    self.pieces.append(text(value))

    def block(self, block: Block, dot: object, variables: Variables) -> None:
        """`variables` are the block's own: what it declares ends with it."""
        if block.keyword == "range":
            self.range(block, dot, variables)
            return
        value = self.pipeline(block.pipeline, dot, variables)
        if not value:
            self.body(block.otherwise, dot, variables)
        else:
            self.body(block.body, value if block.keyword == "with" else dot, variables)

    def range(self, block: Block, dot: object, variables: Variables) -> None:
        """Over a list, or a map in the order of its keys."""
        value = self.pipeline(block.pipeline, dot, variables)
        items: list[tuple[object, object]] = []
        if isinstance(value, list):
            items += enumerate(value)
        elif isinstance(value, dict):
            items += sorted(value.items(), key=lambda item: str(item[0]))
        elif value is not None:
            raise bad(f"range takes a list or a map, not {kind(value)}")
        names = block.pipeline.variables
        for item in items:
            inner = dict(variables)
            inner.update(zip(names, item if len(names) > 1 else item[1:], strict=False))
            self.body(block.body, item[1], inner)
        if not items:
            self.body(block.otherwise, dot, variables)

    def pipeline(self, pipeline: Pipeline, dot: object, variables: Variables) -> object:
        values: list[object] = []
        for command in pipeline.commands:
            values = [self.command(command, dot, variables, values)]
        for name in pipeline.variables:
            variables[name] = values[0]
        return values[0]

    def command(
        self, command: Command, dot: object, variables: Variables, piped: list[object]
    ) -> object:
        """A command's value; `piped` is the one from the command before, or none."""
        self.step()
        values: list[object] = []
        for operand in command.operands:
            values.append(self.operand(operand, dot, variables))
            if bool(values[-1]) is DECIDES.get(command.function):
                return values[-1]
        if not command.function:
            return values[0]
        value = FUNCTIONS[command.function][2](values + piped)
        self.size += len(value) if isinstance(value, (str, list)) else 0
        if self.size > MOST_TEXT:
            raise bad(f"the template makes more than {MOST_TEXT >> 20} Mi characters")
        return value

    def operand(self, operand: Operand, dot: object, variables: Variables) -> object:
        if isinstance(operand, Literal):
            return operand.value
        base, path = operand.base, ""
        if not isinstance(base, str):
            value = self.pipeline(base, dot, dict(variables))
            path = "(…)"
        else:
            value = variables[base] if base else dot
            path = base
        for name in operand.names:
            value = field(value, name, path)
            path += "." + name
        return value


# Lists


def rows(text: str, items: Sequence[object], headings: Mapping[str, str]) -> str:
    """All items: a line each; for `table …` a line of headings first, and aligned columns, which
    the template divides by tabs. `table` alone has a column for each heading.

    `headings`: field -> heading. What is no field of these, or is computed, is headed by the name
    of its first field, in capitals.
    """
    start = _table_start(text)
    if start < 0:
        nodes = parse(text)
        return joined(_rendered(nodes, item) + "\n" for item in items)
    text = text.rstrip(" ")
    if start >= len(text):
        text, start = "\t".join(f"{{{{.{name}}}}}" for name in headings), 0
    nodes = parse(text, start)
    heading = "".join(_heading(node, headings) for node in nodes)
    lines = [heading, *(_rendered(nodes, item, is_cell=True) for item in items)]
    cells = [line.split("\t") for line in "\n".join(lines).split("\n")]
    return table(cells[0], cells[1:])


def _table_start(text: str) -> int:
    """Where the template after the word `table` begins; -1 if that is not the first word."""
    rest = text.removeprefix("table")
    if rest == text or not (rest + " ").startswith((" ", "\t", "\n", "\\", "{{")):
        return -1
    return len(text) - len(rest.lstrip(" "))


def _printable(value: object) -> object:
    """A copy in which no text ends a line or a column."""
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, list):
        return [_printable(item) for item in value]
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return value


def _heading(node: Node, headings: Mapping[str, str]) -> str:
    """What stands above a node: above a text the same, else the heading of the first field."""
    if isinstance(node, Text):
        return node.text
    if isinstance(node, Pipeline) and node.variables:
        return ""
    if isinstance(node, Pipeline) and _is_constant(node):
        return _rendered((node,), None)
    name = next(_names(node), "")
    known = {field.lower(): heading for field, heading in headings.items()}
    found = headings.get(name) or known.get(name.lower()) or name.rpartition(".")[2].upper()
    return one_line(found)


def _is_constant(pipeline: Pipeline) -> bool:
    """`{{"\\t"}}`, which is not about the data."""
    operands = [operand for command in pipeline.commands for operand in command.operands]
    return all(isinstance(operand, Literal) for operand in operands)


def _names(node: Node | Operand) -> Iterator[str]:
    """The fields that a node is about, `State.Pid`; of a label the last word of its name."""
    if isinstance(node, Pipeline):
        for command in node.commands:
            if command.function == ".Label" and isinstance(command.operands[-1], Literal):
                label = text(command.operands[-1].value).rpartition(".")[2]
                yield label.replace("-", " ").replace("_", " ")
            else:
                for operand in command.operands:
                    yield from _names(operand)
    elif isinstance(node, Path):
        if node.names:
            yield ".".join(node.names)
        elif not isinstance(node.base, str):
            yield from _names(node.base)
    elif isinstance(node, Block):
        about = (node.pipeline,)
        for part in about + node.body if node.keyword == "range" else node.body + about:
            yield from _names(part)
