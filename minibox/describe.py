# SPDX-License-Identifier: Apache-2.0
"""Ops in words, in strace's way. Imported only when something is printed."""

from __future__ import annotations

import errno
import os

from minibox import syscalls as sc
from minibox.numbers import SYSCALLS
from minibox.plan import STEPS, Address, ArenaFd, Memory, Slot, Strings, Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from minibox.plan import Op, Plan

    Arg = int | bytes | Memory | Slot | None


def _names(prefix: str, known: Mapping[str, object]) -> dict[str, int]:
    return {
        name: value
        for name, value in known.items()
        if name.startswith(prefix) and isinstance(value, int)
    }


def flags(value: int, prefix: str, known: Mapping[str, object] = vars(sc)) -> str:
    """0x6 -> "MS_NOSUID|MS_NODEV", with what has no name in hexadecimal."""
    found = []
    rest = value
    for name, bit in _names(prefix, known).items():
        if bit and rest & bit == bit:
            found.append(name)
            rest &= ~bit
    if rest or not found:
        found.append(hex(rest) if rest else "0")
    return "|".join(found)


def quoted(data: bytes) -> str:
    """Bytes as C would have them between quotation marks."""
    return '"' + data.decode("latin-1").encode("unicode_escape").decode().replace('"', '\\"') + '"'


def _integer(value: int, kind: str) -> str:
    if kind.startswith("|"):
        return flags(value, kind[1:])
    if kind.startswith("="):
        names = [name for name, number in _names(kind[1:], vars(sc)).items() if number == value]
        return names[0].removeprefix("IOCTL_") if names else str(value)
    if kind == "octal":
        return f"0{value:o}"
    if kind == "mode":
        file_type = "S_IFREG|" if value & sc.S_IFREG else ""
        return f"{file_type}0{value & 0o7777:o}"
    if kind == "fd" and value == sc.AT_FDCWD:
        return "AT_FDCWD"
    return hex(value) if value == 0xFFFFFFFF else str(value)


def _memory(memory: Memory) -> str:
    if isinstance(memory, ArenaFd):
        return '"<arena fd>"'
    if isinstance(memory, Strings):
        return "[" + ", ".join(quoted(item) for item in memory.items) + "]"
    if isinstance(memory, Struct):
        shown = [f"{name}={_arg(value, kind)}" for name, value, kind in memory.fields if value]
        return "{" + ", ".join(shown) + "}"
    return memory.text


def _arg(arg: Arg, kind: str) -> str:
    if arg is None:
        return "NULL"
    if isinstance(arg, Address):
        return arg.text
    if isinstance(arg, int):
        return _integer(arg, kind)
    if isinstance(arg, bytes):
        return quoted(arg)
    if isinstance(arg, Memory):
        return _memory(arg)
    return f"@{arg}"


def args(op: Op) -> list[str]:
    """The arguments of an op as text."""
    kinds = SYSCALLS[op.call][2].split()
    return [_arg(arg, kinds[k] if k < len(kinds) else "") for k, arg in enumerate(op.args)]


def call(op: Op) -> str:
    """`mkdirat(@root, "proc", 0755) = 0 or EEXIST`; an fd slot is @name."""
    text = f"{op.call}({', '.join(args(op))})"
    if op.to is not None:
        text += f" = @{op.to}"
    elif op.ok:
        text += " = 0"
    return text + "".join(f" or {errno.errorcode[number]}" for number in op.ok)


def phrase(op: Op) -> str:
    """The step in a few words for an error message: the call and what it was about."""
    about = [
        arg.decode(errors="backslashreplace") for arg in op.args if isinstance(arg, bytes) and arg
    ]
    return f"{op.call} {' '.join(about)}".strip()


def result(op: Op, value: int) -> str:
    """What the call returned, with the error's name."""
    if -4095 <= value < 0:
        name = errno.errorcode.get(-value, str(-value))
        return f"-1 {name} ({os.strerror(-value)})"
    return f"{value} @{op.to}" if op.to is not None else str(value)


def signal_name(number: int) -> str:
    """SIGCHLD, SIGRTMIN+3; a number that is no signal's as it is."""
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        low = signal.SIGRTMIN
        return f"SIGRTMIN+{number - low}" if low < number < signal.SIGRTMAX else str(number)


def clone_line(plan: Plan) -> str:
    return f"clone3({{flags={flags(plan.flags, 'CLONE_')}, exit_signal=SIGCHLD}})"


def table(plan: Plan) -> str:
    """The whole plan, one step a line: number, side, call, then its origin and reason."""
    lines = []
    for number, op in enumerate(plan.steps, 1):
        if number == len(plan.before) + 1:
            lines.append(f"          {clone_line(plan)}")
        side = "parent" if number <= len(plan.before) else "child"
        lines.append(_line(f"{number:3} {side:6} {call(op)}", op))
        if op.call == "gate" and op.args == (1,) and plan.uid_map:
            for name, text in (("uid_map", plan.uid_map), ("gid_map", plan.gid_map)):
                lines.append(f"          minibox: write /proc/PID/{name} {quoted(text)}")
    return "\n".join(lines) + "\n"


def _line(text: str, op: Op) -> str:
    return f"{text:<78} # {op.origin.partition(', ')[2] or op.origin}: {op.why}"


def traced(plan: Plan, results: list[int], micros: list[float], last: int) -> str:
    """The steps that ran, with result and duration; `last` is the index of the last one."""
    lines = []
    for i, op in enumerate(plan.steps[: last + 1]):
        if i == len(plan.before):
            lines.append(f"          {clone_line(plan)}")
        side = "parent" if i < len(plan.before) else "child"
        text = f"{op.call}({', '.join(args(op))}) = {result(op, results[i])}"
        took = f"{micros[i]:8.1f}" if i < len(micros) and micros[i] >= 0 else "       -"
        lines.append(_line(f"{i + 1:3} {side:6} {took} us {text}", op))
    return "\n".join(lines) + "\n"


def as_data(plan: Plan) -> dict[str, object]:
    """The plan as plain data, for --json."""
    return {
        "clone_flags": flags(plan.flags, "CLONE_").split("|"),
        "staged": plan.staged,
        "uid_map": plan.uid_map.decode(),
        "gid_map": plan.gid_map.decode(),
        "steps": [
            {
                "step": number,
                "side": "parent" if number <= len(plan.before) else "child",
                "call": op.call,
                "number": None if op.call in STEPS else op.number,
                "args": args(op),
                "result": op.to,
                "tolerated": [errno.errorcode[error] for error in op.ok],
                "origin": op.origin,
                "why": op.why,
            }
            for number, op in enumerate(plan.steps, 1)
        ],
    }
