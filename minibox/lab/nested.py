# SPDX-License-Identifier: Apache-2.0
"""A child that clones: the op for it."""

from __future__ import annotations

import os

from minibox import core
from minibox import syscalls as sc
from minibox.lab.memory import function
from minibox.plan import Address, Op, Struct
from minibox.primitive import Clone

SIZE = 88  # of struct clone_args, with `cgroup`
# The order of struct lab_clone in csrc/lab/nested.h.
FIELDS = ("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls",
          "set_tid", "set_tid_size", "cgroup", "size", "function", "argument")  # fmt: skip


def grandchild(
    flags: int,
    does: Address | None = None,
    argument: Address | None = None,
    ok: tuple[int, ...] = (),
    **fields: int,
) -> Op:
    """The child calls clone3 and goes on with the pid, or -errno, as the result; its own calls
    `does`, a C function, and ends. fields: words of struct clone_args; exit_signal is SIGCHLD
    unless another is given. With CLONE_VM it needs a stack of its own. ok: errnos that are no
    failure."""
    words = {"exit_signal": core.SIGCHLD, "size": SIZE, **fields}
    words |= {"flags": flags, "function": does or 0, "argument": argument or 0}
    kinds = {"flags": "|CLONE_", "exit_signal": "=SIG"}
    rows = [(name, words.get(name, 0), kinds.get(name, "")) for name in FIELDS]
    return sc.call(function("lab_clone"), Struct(f"={len(FIELDS)}Q", *rows), ok=ok)


def grandchild_pid(child: Clone, step: int = 0) -> int:
    """What that op, the child's step of this number (from 0), has returned; 0 before. OSError."""
    result = child.report().results[step]
    if result < 0:
        raise OSError(-result, os.strerror(-result), "clone3")
    return result
