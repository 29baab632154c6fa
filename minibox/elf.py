# SPDX-License-Identifier: Apache-2.0
"""The little of an ELF or script header that minibox asks for (elf(5), execve(2))."""

from __future__ import annotations

PT_INTERP = 3


def script_interpreter(head: bytes) -> bytes:
    """The program of a #! line, or b""."""
    if not head.startswith(b"#!"):
        return b""
    words = head[2:].partition(b"\n")[0].split()
    return words[0] if words else b""


def is_elf(head: bytes) -> bool:
    """A 64-bit little-endian ELF file, as far as its first bytes tell."""
    return head[:6] == b"\x7fELF\x02\x01" and len(head) >= 64


def loader(head: bytes) -> bytes:
    """PT_INTERP of a dynamic program, or b"" for a static one. head: its first 4 KiB."""
    if not is_elf(head):
        return b""
    table = int.from_bytes(head[32:40], "little")
    size, count = (int.from_bytes(head[at : at + 2], "little") for at in (54, 56))
    for i in range(count):
        entry = head[table + i * size : table + i * size + 56]
        if len(entry) == 56 and int.from_bytes(entry[:4], "little") == PT_INTERP:
            start = int.from_bytes(entry[8:16], "little")
            return head[start : start + int.from_bytes(entry[32:40], "little")].rstrip(b"\0")
    return b""
