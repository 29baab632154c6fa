# SPDX-License-Identifier: Apache-2.0
"""What a filter of system calls shall do, as plain data, in the words of seccomp(2). Pure."""

from __future__ import annotations

from minibox.spec import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# SECCOMP_RET_* (include/uapi/linux/seccomp.h); the low 16 bits are an errno or a tracer's message.
KILL_PROCESS, KILL_THREAD, TRAP, ERRNO = 0x80000000, 0, 0x00030000, 0x00050000
TRACE, LOG, ALLOW = 0x7FF00000, 0x7FFC0000, 0x7FFF0000
EPERM, ENOSYS, EAFNOSUPPORT = ERRNO | 1, ERRNO | 38, ERRNO | 97
PERMITTING = (TRACE, LOG, ALLOW)
WORD = 0xFFFFFFFF
ALL_BITS = (1 << 64) - 1
# The arch field of struct seccomp_data, AUDIT_ARCH_* (include/uapi/linux/audit.h); libseccomp's
# SCMP_ARCH_* are the same numbers.
AUDIT_ARCH = {
    "x86_64": 0xC000003E,
    "i386": 0x40000003,
    "arm64": 0xC00000B7,
    "arm": 0x40000028,
}
# By os.uname().machine: its own calls, and those of its 32-bit programs.
MACHINES = {"x86_64": ("x86_64", "i386"), "aarch64": ("arm64", "arm")}


class Condition(Record):
    """What an argument must be, unsigned. index: 0 to 5. op: "EQ", "NE", "LT", "LE", "GE", "GT".
    mask: for EQ, the bits of the argument that are looked at."""

    index: int
    op: str
    value: int
    mask: int = ALL_BITS


class Rule(Record):
    """An action, SECCOMP_RET_* with its data, for calls that meet all the conditions."""

    action: int
    conditions: tuple[Condition, ...] = ()


NOTHING: Mapping[str, tuple[Rule, ...]] = {}


class Profile(Record):
    """What a filter shall do.

    calls: by name, what is not left to `default`. abis: of AUDIT_ARCH, the machine's own first; a
    call of any other one gives ENOSYS. own: more rules, for the first of abis alone. flags:
    SECCOMP_FILTER_FLAG_*.
    """

    default: int
    calls: Mapping[str, tuple[Rule, ...]]
    abis: tuple[str, ...]
    own: Mapping[str, tuple[Rule, ...]] = NOTHING
    flags: int = 0


def low(index: int, value: int, mask: int = WORD) -> Condition:
    """Of an argument's low 32 bits, which are all that the kernel reads of an int: what the others
    hold must not matter (CVE-2019-10063)."""
    return Condition(index, "EQ", value, mask)


def permits(action: int) -> bool:
    """Does the call happen? (A tracer may still keep it away.)"""
    return action & 0xFFFF0000 in PERMITTING
