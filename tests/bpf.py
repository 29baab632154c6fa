# SPDX-License-Identifier: Apache-2.0
"""What the kernel's interpreter makes of a seccomp program, for tests of programs (bpf(4)); and the
numbers of calls."""

from __future__ import annotations

import struct

from minibox.seccomp import default, library

LD, JA, JEQ, JGT, JGE, AND, RET = 0x20, 0x05, 0x15, 0x25, 0x35, 0x54, 0x06
WORDS = sorted(
    {
        *" ".join([default.ALLOWED, default.REFUSED, *default.BY_CAPABILITY.values()]).split(),
        *default.BY_ARGUMENT,
    }
)


def numbers(abi):
    """Of the calls in the tables that this libseccomp knows. i386's own socket and so on, of which
    it only says that socketcall has them, are the kernel's (syscall_32.tbl)."""
    found = {name: library.number(name, abi) for name in WORDS}
    if abi == "i386":
        found |= {"socket": 359, "bind": 361, "semget": 393}
    return {name: number for name, number in found.items() if (number or -1) >= 0 or number == 0}


def answer(program: bytes, arch: int, number: int, *args: int) -> int:
    """SECCOMP_RET_* of a call. What the kernel would refuse to load fails."""
    code = list(struct.iter_unpack("=HBBI", program))
    words = [arg & (1 << 64) - 1 for arg in (*args, *[0] * (6 - len(args)))]
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, arch, 0, *words)
    accumulator, at = 0, 0
    while True:
        operation, yes, no, k = code[at]
        at += 1
        if operation == RET:
            return k
        if operation == LD:
            assert k % 4 == 0 and k < len(data)
            accumulator = struct.unpack_from("=I", data, k)[0]
        elif operation == AND:
            accumulator &= k
        elif operation == JA:
            at += k
        elif operation == JEQ:
            at += yes if accumulator == k else no
        elif operation == JGT:
            at += yes if accumulator > k else no
        elif operation == JGE:
            at += yes if accumulator >= k else no
        else:
            raise AssertionError(f"no instruction {operation:#x}")
