# SPDX-License-Identifier: Apache-2.0
"""Calls, flags and errors in words; and ops that only experiments need."""

from __future__ import annotations

import errno
import signal
import struct
from collections.abc import Mapping
from typing import Any

from minibox import describe
from minibox.numbers import NUMBERS
from minibox.plan import Memory, Op, Slot

# An experiment foresees the errors that it is about. Any other of these tells of rights, limits and
# filters of system calls around the lab: nothing about the manual.
LACKS = frozenset(
    (*(errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOSPC), *(errno.EAGAIN, errno.ENOMEM),
     *(errno.EMFILE, errno.ENFILE))
)  # fmt: skip


def op(
    call: str,
    *args: int | bytes | Memory | Slot | None,
    to: Slot | None = None,
    ok: tuple[int, ...] = (),
) -> Op:
    """An op for any call that numbers.py has; to: the slot for the result. ok: errnos that
    are no failure."""
    return Op(call, NUMBERS[call], args, to, ok)


def sigaction(number: int, handler: int) -> Op:
    """rt_sigaction(2); handler: an address, or SIG_DFL or SIG_IGN."""
    text = signal.Handlers(handler).name if handler in (0, 1) else str(getattr(handler, "text", ""))
    action = Memory(struct.pack("=4Q", handler, 0, 0, 0), f"{{{text}}}")
    return op("rt_sigaction", number, action, None, 8)


def flags(bits: int) -> list[str]:
    """The names of the CLONE_* bits."""
    return describe.flags(bits, "CLONE_").split("|") if bits else []


def error(number: int) -> str:
    """The name of an errno, as the kernel has it: EINVAL."""
    if number == errno.EOPNOTSUPP:
        return "EOPNOTSUPP"  # which to the C library is ENOTSUP as well
    return errno.errorcode.get(number, str(number))


def outcome(result: int) -> str:
    """What a call came to: "done", or the name of its error."""
    return error(-result) if -4095 <= result < 0 else "done"


# The rest of clone3's struct, by minibox.clone's names.
POINTERS, FIELDS = ("parent_tid", "child_tid", "tls"), ("set_tid", "cgroup")


def clone(bits: int, how: Mapping[str, Any]) -> str:
    """The call that made a child, as strace shows it; how: what minibox.clone was given."""
    end = describe.signal_name(how["exit_signal"])
    stack, size = how.get("stack", (0, 0))
    more = [f", stack={stack:#x}, stack_size={size:#x}"] if stack else []
    more += [f", {name}={how[name]:#x}" for name in POINTERS if how.get(name)]
    more += [f", {name}={how[name]}" for name in FIELDS if name in how]
    if how.get("call") == 2:
        return f"clone({'|'.join([*flags(bits), end])}{''.join(more)})"
    names = describe.flags(bits, "CLONE_")
    return f"clone3({{flags={names}, exit_signal={end}{''.join(more)}}})"


def steps(program: tuple[Op, ...], results: list[int], last: int) -> list[dict[str, str]]:
    """Each op of a child, and what it returned if it came so far."""
    return [
        {
            "call": f"{step.call}({', '.join(describe.args(step))})",
            "returned": describe.result(step, results[i]) if results and i <= last else "",
        }
        for i, step in enumerate(program)
    ]
