# SPDX-License-Identifier: Apache-2.0
"""--publish [HOST:]PORT:PORT[/PROTOCOL], ranges of the same length, as docker takes them."""

from __future__ import annotations

from minibox.errors import SpecError
from minibox.network.subnet import address
from minibox.spec import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

PROTOCOLS = ("tcp", "udp", "sctp")
LAST_PORT = 65535


class Port(Record):
    """host: the host's address, or None for all of them. host_port, port: on either side."""

    host: str | None
    host_port: int
    port: int
    protocol: str

    def suits(self, where: str) -> bool:
        """Can it lead to this address of the container's?"""
        return self.host is None or (":" in self.host) == (":" in where)

    def meets(self, other: Port) -> bool:
        """Would both be the same port of the host's?"""
        same = (self.host_port, self.protocol) == (other.host_port, other.protocol)
        return same and (self.host is None or other.host is None or self.host == other.host)


def ports(texts: Iterable[str]) -> list[Port]:
    """SpecError; also for a port of the host's that is given twice."""
    found = [port for text in texts for port in _parse(text)]
    for k, port in enumerate(found):
        if any(port.meets(other) for other in found[:k]):
            raise SpecError("--publish", f"port {port.host_port} is given twice")
    return found


def _parse(text: str) -> list[Port]:
    rest, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    host: str | None = None
    if rest.startswith("["):
        host, bracket, rest = rest[1:].partition("]")
        rest = rest[1:] if bracket and rest.startswith(":") else ""
    elif rest.count(":") == 2:
        host, _, rest = rest.partition(":")
    outside, colon, inside = rest.partition(":")
    if not colon or protocol not in PROTOCOLS:
        raise _wrong(text)
    first, last = _range(text, outside)
    port, end = _range(text, inside)
    if last - first != end - port:
        raise _wrong(text)
    if host:
        address("--publish", host)
    everywhere = not host or host in ("0.0.0.0", "::")
    return [
        Port(None if everywhere else host, first + k, port + k, protocol)
        for k in range(last - first + 1)
    ]


def _range(text: str, given: str) -> tuple[int, int]:
    first, dash, last = given.partition("-")
    ends = (first, last if dash else first)
    if not all(end.isascii() and end.isdigit() and len(end) <= 5 for end in ends):
        raise _wrong(text)
    low, high = int(ends[0]), int(ends[1])
    if not 1 <= low <= high <= LAST_PORT:
        raise _wrong(text)
    return low, high


def _wrong(text: str) -> SpecError:
    return SpecError("--publish", f"{text!r}: write [ADDRESS:]8080:80, also -8090 and /udp")
