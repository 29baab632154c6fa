# SPDX-License-Identifier: Apache-2.0
"""clone and clone3 past minibox.clone: with any fields and any size of struct clone_args.

The child of such a call goes on as this Python does, so it must have memory of its own: CLONE_VM is
never asked for here.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping

from minibox import core, describe
from minibox import syscalls as sc
from minibox.lab import words
from minibox.lab.memory import PAGE, Block
from minibox.lab.run import Run
from minibox.plan import Address
from minibox.primitive import WALL

# struct clone_args of include/uapi/linux/sched.h (CLONE_ARGS_SIZE_VER2), and its sizes by Linux
# version: 5.3, 5.5, 5.7.
FIELDS = ("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls",
          "set_tid", "set_tid_size", "cgroup")  # fmt: skip
SIZES = (64, 80, 88)
SIZE = SIZES[-1]
NOWHERE = 8  # an address that nobody has


def fork(
    run: Run,
    call: int,
    flags: int,
    fields: Mapping[str, int | str],
    does: Callable[[], object] | None = None,
    meanwhile: Callable[[int, Block], object] | None = None,
) -> int:
    """The pid of a child that calls `does` and ends, or -errno. It is reaped; before that,
    `meanwhile` looks at it, with its pid and the block.

    fields: of the struct; "&name" is the address of a word of that name in the block, which has as
    many as there are names. Three are not in the struct: `size`, its size; `last`, its last byte;
    `at`, its address instead of the right one. exit_signal is SIGCHLD unless it is given.
    """
    bits = flags & ~run.taken_out
    assert not bits & sc.CLONE_VM
    with Block(shared=True) as block:
        given = {"flags": bits, "exit_signal": core.SIGCHLD, **_addresses(run, fields, block)}
        result = _clone(run, given) if call == 2 else _clone3(run, given)
        if result == 0:
            try:
                if does:
                    does()
            finally:
                os._exit(0)
        if result > 0:
            if meanwhile:
                meanwhile(result, block)
            os.waitid(os.P_PID, result, os.WEXITED | WALL)
        return result


def _clone3(run: Run, given: Mapping[str, int]) -> int:
    size = given.get("size", SIZE)
    data = bytearray(max(size, SIZE, PAGE))
    struct.pack_into("=11Q", data, 0, *(given.get(name, 0) & 0xFFFFFFFFFFFFFFFF for name in FIELDS))
    if "last" in given:
        data[size - 1] = given["last"]
    shown = [f"{name}={_shown(name, given[name])}" for name in (*FIELDS, "last") if name in given]
    at = given.get("at")
    text = f"clone3({{{', '.join(shown)}}}, {size})" if at is None else f"clone3({at:#x}, {size})"
    return run.syscall("clone3", data if at is None else at, size, text=text)


def _clone(run: Run, given: Mapping[str, int]) -> int:
    """No stack, and no words for the tid in the child and TLS: their order differs."""
    end = given["exit_signal"]
    bits = given["flags"] | end
    word = given.get("pidfd" if bits & sc.CLONE_PIDFD else "parent_tid", 0)
    names = "|".join([*words.flags(given["flags"]), describe.signal_name(end)])
    text = f"clone({names}, NULL, {_shown('word', word)})"
    return run.syscall("clone", bits, 0, word, 0, 0, text=text)


def _addresses(run: Run, fields: Mapping[str, int | str], block: Block) -> dict[str, int]:
    names = list(dict.fromkeys(value for value in fields.values() if isinstance(value, str)))
    return {
        key: block.pointer(names.index(value), value) if isinstance(value, str) else value
        for key, value in fields.items()
        if key not in run.left_out
    }


def _shown(name: str, value: int) -> str:
    if isinstance(value, Address):
        return value.text
    if name == "exit_signal":
        return describe.signal_name(value)
    return describe.flags(value, "CLONE_") if name == "flags" else str(value)
