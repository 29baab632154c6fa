# SPDX-License-Identifier: Apache-2.0
"""What the kernel's interpreter makes of a seccomp program, for tests of programs (bpf(4))."""

from __future__ import annotations

import struct

LD, JA, JEQ, JGT, JGE, AND, RET = 0x20, 0x05, 0x15, 0x25, 0x35, 0x54, 0x06


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
