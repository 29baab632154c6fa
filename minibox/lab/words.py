# SPDX-License-Identifier: Apache-2.0
"""Calls, flags and errors in words; and ops that only experiments need."""

from __future__ import annotations

import errno
import signal

from minibox import describe
from minibox.numbers import NUMBERS
from minibox.plan import Memory, Op, Slot


def op(call: str, *args: int | bytes | Memory | Slot | None, to: Slot | None = None) -> Op:
    """An op for any call that numbers.py has; to: the slot for the result."""
    return Op(call, NUMBERS[call], args, to)


def flags(bits: int) -> list[str]:
    """The names of the CLONE_* bits."""
    return describe.flags(bits, "CLONE_").split("|") if bits else []


def error(number: int) -> str:
    """The name of an errno: EINVAL."""
    return errno.errorcode.get(number, str(number))


def clone(bits: int, exit_signal: int, call: int) -> str:
    """The call that made a child, as strace shows it; call: 2 for clone, else clone3."""
    names = describe.flags(bits, "CLONE_")
    try:
        end = signal.Signals(exit_signal).name
    except ValueError:
        end = str(exit_signal)
    if call == 2:
        return f"clone({'|'.join([*flags(bits), end])})"
    return f"clone3({{flags={names}, exit_signal={end}}})"


def steps(program: tuple[Op, ...], results: list[int], last: int) -> list[dict[str, str]]:
    """Each op of a child, and what it returned if it came so far."""
    return [
        {
            "call": f"{step.call}({', '.join(describe.args(step))})",
            "returned": describe.result(step, results[i]) if results and i <= last else "",
        }
        for i, step in enumerate(program)
    ]
