# SPDX-License-Identifier: Apache-2.0
"""Subnets as numbers: `ipaddress` would take longer to import than a container to start."""

from __future__ import annotations

from _socket import inet_ntop

from minibox.errors import SpecError
from minibox.netlink import AF_INET, AF_INET6, packed

FAMILIES = {AF_INET: 32, AF_INET6: 128}


class Subnet:
    """family: AF_INET or AF_INET6. base: the network's address as a number. length: of the prefix,
    in bits."""

    __slots__ = ("base", "family", "length")

    def __init__(self, family: int, base: int, length: int) -> None:
        self.family = family
        self.base = base
        self.length = length

    @classmethod
    def parse(cls, option: str, text: str) -> Subnet:
        """`10.66.0.0/16`; bits below the prefix are cleared. SpecError."""
        plain, slash, bits = text.partition("/")
        family, number = address(option, plain)
        width = FAMILIES[family]
        if not slash or not bits.isascii() or not bits.isdigit() or int(bits) > width:
            raise SpecError(option, f"{text!r}: write 10.66.0.0/16, or fd00:66::/64")
        length = int(bits)
        host = (1 << width - length) - 1
        return cls(family, number & ~host, length)

    @property
    def is_six(self) -> bool:
        return self.family == AF_INET6

    @property
    def size(self) -> int:
        """How many addresses there are."""
        return 1 << FAMILIES[self.family] - self.length

    def address(self, number: int) -> str:
        """Its n-th."""
        width = FAMILIES[self.family] // 8
        return inet_ntop(self.family, (self.base + number).to_bytes(width, "big"))

    def mac(self, number: int) -> bytes:
        """Of whoever has the n-th: always the same, so nobody's neighbour cache is wrong."""
        return b"\x02\x42" + (self.base + number & 0xFFFFFFFF).to_bytes(4, "big")

    def number(self, text: str) -> int:
        """Which one an address is; -1 when it is none of this subnet."""
        family, value = address("net", text)
        number = value - self.base
        return number if family == self.family and 0 <= number < self.size else -1

    def overlaps(self, other: Subnet) -> bool:
        if self.family != other.family:
            return False
        return self.base < other.base + other.size and other.base < self.base + self.size

    def __str__(self) -> str:
        return f"{self.address(0)}/{self.length}"


def address(option: str, text: str) -> tuple[int, int]:
    """The family of an address, and the address as a number. SpecError."""
    try:
        family, data = packed(text)
    except ValueError as error:
        raise SpecError(option, str(error)) from None
    return family, int.from_bytes(data, "big")
