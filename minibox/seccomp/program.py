# SPDX-License-Identifier: Apache-2.0
"""Profile -> the program that the kernel runs at each system call (seccomp(2), bpf(4)).

What is not decided by arguments is the same for whole ranges of numbers. So a program is, for each
ABI, a balanced tree of comparisons over the bounds of those ranges; the kernel keeps the answers
that are "allow" in a bitmap anyway (kernel/seccomp.c, seccomp_cache_prepare) and runs the program
for few calls. Pure.
"""

from __future__ import annotations

import struct

from minibox.seccomp import calls
from minibox.spec import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# SECCOMP_RET_* (include/uapi/linux/seccomp.h); the low 16 bits are an errno or a tracer's message.
KILL_PROCESS, KILL_THREAD, TRAP, ERRNO = 0x80000000, 0, 0x00030000, 0x00050000
TRACE, LOG, ALLOW = 0x7FF00000, 0x7FFC0000, 0x7FFF0000
EPERM, ENOSYS, EAFNOSUPPORT = ERRNO | 1, ERRNO | 38, ERRNO | 97
# BPF_LD|W|ABS, BPF_JMP|JA, |JEQ, |JGT, |JGE with K, BPF_ALU|AND|K, BPF_RET|K.
LD, JA, JEQ, JGT, JGE, AND, RET = 0x20, 0x05, 0x15, 0x25, 0x35, 0x54, 0x06
# struct seccomp_data.
NR, ARCH, ARGS = 0, 4, 16
WORD = 0xFFFFFFFF
FARTHEST = 255
X32 = 0x40000000  # x32's calls are x86-64's with this bit (__X32_SYSCALL_BIT)
ARM_PRIVATE = 0xF0000  # arm's own few calls begin here, far above all others

Instruction = tuple[int, int, int, int]  # code, jt, jf, k
Code = list[Instruction]


class Condition(Record):
    """What an argument must be, unsigned. index: 0 to 5. op: "EQ", "NE", "LT", "LE", "GE", "GT".
    mask: for EQ, the bits of the argument that are looked at."""

    index: int
    op: str
    value: int
    mask: int = (1 << 64) - 1


class Rule(Record):
    """An action, SECCOMP_RET_* with its data, for calls that meet all the conditions."""

    action: int
    conditions: tuple[Condition, ...] = ()


class Profile(Record):
    """What a filter shall do.

    calls: by name; of a call's rules the first that fits counts, `default` if none does. newer: for
    numbers above the highest of those named, None: as others. abis: of calls.ABIS; a call of any
    other one gets ENOSYS. flags: SECCOMP_FILTER_FLAG_*.
    """

    default: int
    calls: Mapping[str, tuple[Rule, ...]]
    abis: tuple[str, ...]
    newer: int | None = None
    flags: int = 0


def low(index: int, value: int, mask: int = WORD) -> Condition:
    """Of an argument's low 32 bits, which are all that the kernel reads of an int: what the others
    hold must not matter (CVE-2019-10063)."""
    return Condition(index, "EQ", value, mask)


def assemble(profile: Profile) -> bytes:
    """struct sock_filter[]."""
    code: Code = [(LD, 0, 0, ARCH)]
    for abi in profile.abis:
        body = [(LD, 0, 0, NR), *_tree(_ranges(profile, abi), abi)]
        code += [(JEQ, 1, 0, calls.AUDIT_ARCH[abi]), (JA, 0, 0, len(body)), *body]
    code.append((RET, 0, 0, ENOSYS))
    return b"".join([struct.pack("=HBBI", *instruction) for instruction in code])


Range = tuple[int, tuple[Rule, ...]]


def _ranges(profile: Profile, abi: str) -> list[Range]:
    """(first number, rules), ascending and without a gap: neighbours differ."""
    numbers = calls.numbers(abi)
    named = {numbers[name]: rules for name, rules in profile.calls.items() if name in numbers}
    highest = max([number for number in named if number < ARM_PRIVATE], default=-1)
    others: tuple[Rule, ...] = (Rule(profile.default),)
    beyond = others if profile.newer is None or highest < 0 else (Rule(profile.newer),)
    points = {0: others, highest + 1: beyond}
    for number, rules in sorted(named.items()):
        points[number] = _shortest((*rules, *others))
        points.setdefault(number + 1, others if number < highest else beyond)
    if abi == "x86_64":
        points[X32] = (Rule(ENOSYS),)
    found: list[Range] = []
    for number in sorted(points):
        if not found or found[-1][1] != points[number]:
            found.append((number, points[number]))
    return found


def _shortest(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Up to the first that fits always, and nothing before it that says the same."""
    end = next(k for k, rule in enumerate(rules) if not rule.conditions)
    start = end
    while start and rules[start - 1].action == rules[end].action:
        start -= 1
    return (*rules[:start], rules[end])


def _tree(ranges: list[Range], abi: str) -> Code:
    if len(ranges) == 1:
        return _leaf(ranges[0][1], abi)
    middle = len(ranges) // 2
    left, right = _tree(ranges[:middle], abi), _tree(ranges[middle:], abi)
    bound = ranges[middle][0]
    if len(left) <= FARTHEST:
        return [(JGE, len(left), 0, bound), *left, *right]
    return [(JGE, 0, 1, bound), (JA, 0, 0, len(left)), *left, *right]


def _leaf(rules: tuple[Rule, ...], abi: str) -> Code:
    """The rules one after the other; a condition that fails jumps behind its rule."""
    code: Code = []
    for rule in rules:
        after: Code = [(RET, 0, 0, rule.action)]
        for condition in reversed(rule.conditions):
            after = [*_test(condition, len(after), abi), *after]
        code += after
    return code


def _test(condition: Condition, skip: int, abi: str) -> Code:
    """Instructions that fall through when the condition holds, and else jump over `skip` more.

    An argument of a 32-bit ABI has no high word: it is zero. A value such as -1, which 64 bits hold
    as all ones, means its low word there.
    """
    value, mask = condition.value, condition.mask
    if abi in ("i386", "arm") and value >> 32 == WORD:
        value, mask = value & WORD, mask & WORD
    at = ARGS + 8 * condition.index
    first, second = (LD, 0, 0, at + 4), (LD, 0, 0, at)
    high, rest = value >> 32, value & WORD
    if condition.op == "EQ":
        return _equal(((at + 4, high, mask >> 32), (at, rest, mask & WORD)), skip)
    if condition.op == "NE":
        return [first, (JEQ, 0, 2, high), second, (JEQ, skip, 0, rest)]
    last = JGT if condition.op in ("GT", "LE") else JGE
    if condition.op in ("GT", "GE"):
        return [first, (JGT, 3, 0, high), (JEQ, 0, 2 + skip, high), second, (last, 0, skip, rest)]
    return [first, (JGT, 3 + skip, 0, high), (JEQ, 0, 2, high), second, (last, skip, 0, rest)]


def _equal(words: tuple[tuple[int, int, int], ...], skip: int) -> Code:
    """(offset, value, mask): words of which nothing is asked are not read."""
    code: Code = []
    for at, value, mask in reversed(words):
        if mask or value:
            masked = [(AND, 0, 0, mask)] if mask != WORD else []
            code = [(LD, 0, 0, at), *masked, (JEQ, 0, skip + len(code), value), *code]
    return code
