# SPDX-License-Identifier: Apache-2.0
"""What clone3 refuses of its struct"""

from __future__ import annotations

import os
from typing import Any

from minibox.lab import Run, asking, experiment
from minibox.lab.asking import Row, ask
from minibox.lab.memory import PAGE
from minibox.lab.raw import NOWHERE


def words(text: str, names: str = "", **words: Any) -> asking.Ask:
    return ask(names, text, raw=words)


TAKEN, FREE = "a pid that is taken", "a pid that is free"
NEW_1 = ask("NEWPID", "pid 1", set_tid=[1])
ROWS = [
    Row(words("a struct of 63 bytes", size=63), "EINVAL", words("64", size=64)),
    Row(
        words("INTO_CGROUP in a struct of 80 bytes", "INTO_CGROUP", size=80, cgroup=-1),
        "EINVAL",
    ),
    Row(words("a struct of a page and 1 byte", size=PAGE + 1), "E2BIG", words("a page", size=PAGE)),
    Row(
        words("a byte after the known ones is 1", size=PAGE, last=1),
        "E2BIG",
        words("0", size=PAGE, last=0),
    ),
    Row(words("the struct where no memory is", at=NOWHERE), "EFAULT"),
    Row(
        words("the pidfd to where no memory is", "PIDFD", pidfd=NOWHERE),
        "EFAULT",
        words("to a word", "PIDFD", pidfd="&pidfd"),
    ),
    Row(
        words("pidfd and parent tid to one word", "PIDFD|PARENT_SETTID", pidfd="&word",
              parent_tid="&word"),
        "EINVAL",
        words("to two", "PIDFD|PARENT_SETTID", pidfd="&pidfd", parent_tid="&tid"),
    ),
    Row(words("a stack without a size", stack="&stack"), "EINVAL"),
    Row(words("a size without a stack", stack_size=PAGE), "EINVAL", words("neither")),
    Row(words("set_tid without a size", set_tid="&pids"), "EINVAL"),
    Row(words("a size without set_tid", set_tid_size=1), "EINVAL", words("neither")),
    Row(ask("", "33 pids", set_tid=[1] * 33), "EINVAL"),
    Row(ask("", "32 pids, which is too deep", set_tid=[1] * 32), "EINVAL"),
    Row(ask("", "pid 0", set_tid=[0]), "EINVAL"),
    Row(ask("", "pid -1", set_tid=[-1]), "EINVAL"),
    Row(ask("NEWPID", "pid 2 for the first one", set_tid=[2]), "EINVAL", NEW_1),
    Row(ask("", TAKEN, set_tid=TAKEN), "EEXIST", ask("", FREE, set_tid=FREE)),
]  # fmt: skip
FLAGS = asking.flags(ROWS)


@experiment(
    FLAGS,
    source="clone(2), ERRORS; kernel/fork.c copy_clone_args_from_user, kernel/pid.c alloc_pid",
    expected={"clone3": asking.expected(ROWS)},
    runs={"clone3": FLAGS},
    fields=("set_tid",),
)
def rejections_struct(run: Run) -> None:
    """clone3 looks at its whole struct: sizes, pairs of pointer and size, and pids must fit.

    The struct may grow, so its size is an argument. A larger one than the kernel knows is fine as
    long as the rest is 0: E2BIG says that something is asked for which this kernel does not know.
    Smaller ones are those of older programs, down to the first (64 bytes).
    """
    free = next(pid for pid in range(300, 30_000) if not os.path.exists(f"/proc/{pid}"))
    asking.see(run, ROWS, 3, {TAKEN: [os.getpid()], FREE: [free]})
