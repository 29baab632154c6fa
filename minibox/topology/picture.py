# SPDX-License-Identifier: Apache-2.0
"""A topology as a picture: a column for each network, a row for each node, a dot where it is on it.

           left          right
           10.1.0.0/24   10.2.0.0/24
           │             │
a ─────────●             │             10.1.0.3
r ─────────●─────────────●             10.1.0.2  10.2.0.2   router
b ───────────────────────●             10.2.0.3
"""

from __future__ import annotations

from html import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.topology.model import Model, Net, Node

    Addresses = dict[tuple[str, str], str]  # by node and network

GAP = 3  # characters between columns
# Pixels of the SVG, and its colours, which do on white and on black.
CHARACTER, ROW, TOP = 8, 44, 84
LINE, DOT, ROUTER, TEXT = "#6b7a90", "#2f6fd0", "#c2571a", "#4a5568"
BOLD = ' font-weight="bold"'
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}"'
    ' font-family="ui-monospace, monospace" font-size="13">\n<title>{2}</title>\n'
)


def _heading(net: Net, subnets: dict[str, str]) -> list[str]:
    link = " ".join(value for _, value in net.link)
    outside = "outside" if net.outside else ""
    return [net.name, subnets.get(net.name) or net.subnet, " ".join(filter(None, (link, outside)))]


def _about(node: Node, addresses: Addresses) -> str:
    words = []
    for link in node.links:
        held = " ".join(value for word, value in link.words if word not in ("ip", "mac"))
        where = addresses.get((node.name, link.network)) or link.ip
        words.append(" ".join(filter(None, (where, held))))
    return "  ".join([*filter(None, words), *(["router"] if node.forwards else [])])


def _reach(model: Model, node: Node) -> int:
    """The last column that its line comes to."""
    return max(k for k, net in enumerate(model.networks) if node.link(net.name))


def text(model: Model, subnets: dict[str, str], addresses: Addresses) -> str:
    """For a terminal. subnets: by network, as far as they are known."""
    headings = [_heading(net, subnets) for net in model.networks]
    wide = [max(map(len, heading)) + GAP for heading in headings]
    first = max(len(node.name) for node in model.nodes) + GAP
    lines = []
    for k in range(3):
        row = "".join(
            heading[k].ljust(width) for heading, width in zip(headings, wide, strict=True)
        )
        lines.append(" " * first + row)
    lines.append(" " * first + "".join("│".ljust(width) for width in wide))
    for node in model.nodes:
        reach = _reach(model, node)
        line = (node.name + " ").ljust(first, "─")
        for k, (net, width) in enumerate(zip(model.networks, wide, strict=True)):
            is_passed = k < reach
            mark = "●" if node.link(net.name) else "┼" if k < reach else "│"
            line += mark.ljust(width, "─" if is_passed else " ")
        lines.append(line + _about(node, addresses))
    return "".join(f"{line.rstrip()}\n" for line in lines if line.strip())


def svg(model: Model, subnets: dict[str, str], addresses: Addresses) -> str:
    """A file of its own."""
    headings = [_heading(net, subnets) for net in model.networks]
    column = CHARACTER * (max(len(word) for heading in headings for word in heading) + GAP)
    left = CHARACTER * (max(len(node.name) for node in model.nodes) + 2 * GAP)
    last = left + column * (len(headings) - 1)
    about = {node.name: _about(node, addresses) for node in model.nodes}
    width = last + max(column, CHARACTER * (max(map(len, about.values())) + 2 * GAP))
    height = TOP + ROW * len(model.nodes) + ROW // 2
    parts = [HEAD.format(width, height, escape(model.name))]
    for k, heading in enumerate(headings):
        x = left + column * k
        for row, line in enumerate(heading):
            parts.append(_text(x - 4, 18 + 17 * row, line, "" if row else BOLD))
        parts.append(_line(x, TOP - 22, x, height - ROW // 2, LINE))
    for row, node in enumerate(model.nodes):
        y = TOP + ROW * row + ROW // 2
        colour = ROUTER if node.forwards else DOT
        parts.append(_text(12, y + 4, node.name, BOLD))
        parts.append(_line(left - 3 * CHARACTER, y, left + column * _reach(model, node), y, colour))
        for k, net in enumerate(model.networks):
            if node.link(net.name):
                dot = f'cx="{left + column * k}" cy="{y}" r="6" fill="{colour}"'
                parts.append(f"<circle {dot}/>\n")
        parts.append(_text(last + 18, y + 4, about[node.name]))
    return "".join([*parts, "</svg>\n"])


def _text(x: int, y: int, text: str, more: str = "") -> str:
    return f'<text x="{x}" y="{y}" fill="{TEXT}"{more}>{escape(text)}</text>\n' if text else ""


def _line(x: int, y: int, to_x: int, to_y: int, colour: str) -> str:
    ends = f'x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}"'
    return f'<line {ends} stroke="{colour}" stroke-width="2"/>\n'
