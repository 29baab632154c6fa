# SPDX-License-Identifier: Apache-2.0
"""What libseccomp cannot say: the few instructions in front of its program (seccomp(2), bpf(4)).

Jumps are relative, so that a program can be put in front of another. What passes this one goes on
with the next. Pure.
"""

from __future__ import annotations

import struct

from minibox.seccomp.rules import AUDIT_ARCH, ENOSYS, WORD, permits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from minibox.seccomp.rules import Profile

# BPF_LD|W|ABS, BPF_JMP|JA, |JEQ, |JGT, |JGE with K, BPF_RET|K.
LD, JA, JEQ, JGT, JGE, RET = 0x20, 0x05, 0x15, 0x25, 0x35, 0x06
NR, ARCH = 0, 4  # struct seccomp_data
X32 = 0x40000000  # x32's calls are x86-64's with this bit (__X32_SYSCALL_BIT)
ARM_PRIVATE = (0xF0000, 0xF00FF)  # arm's own few calls, far above all others

Code = list[tuple[int, int, int, int]]  # code, jt, jf, k


def prologue(profile: Profile, numbers: Mapping[str, Iterable[int]]) -> bytes:
    """struct sock_filter[]: ENOSYS for what a kernel may have that the profile's author did not
    know, so that programs use what came before; and for the x32 ABI. libseccomp has one answer for
    all that no rule is about.

    numbers: by ABI those of the calls that the profile names.
    """
    code: Code = []
    for abi in reversed(profile.abis):
        tests = [step for some in _refused(profile, abi, numbers[abi]) for step in _test(*some)]
        if tests:
            body = [(LD, 0, 0, NR), *tests, *([(JA, 0, 0, len(code))] if code else [])]
            code = [(JEQ, 0, len(body), AUDIT_ARCH[abi]), *body, *code]
    if code:
        code = [(LD, 0, 0, ARCH), *code]
    return b"".join([struct.pack("=HBBI", *step) for step in code])


def _refused(profile: Profile, abi: str, numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Ranges of numbers: first, last."""
    highest = max([n for n in numbers if n < ARM_PRIVATE[0]], default=-1)
    if highest < 0 or permits(profile.default):
        return [(X32, WORD)] if abi == "x86_64" else []
    if abi != "arm":
        return [(highest + 1, WORD)]
    return [(highest + 1, ARM_PRIVATE[0] - 1), (ARM_PRIVATE[1] + 1, WORD)]


def _test(first: int, last: int) -> Code:
    if last == WORD:
        return [(JGE, 0, 1, first), (RET, 0, 0, ENOSYS)]
    return [(JGE, 0, 2, first), (JGT, 1, 0, last), (RET, 0, 0, ENOSYS)]
