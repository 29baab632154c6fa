# SPDX-License-Identifier: Apache-2.0
"""What unshare refuses"""

from __future__ import annotations

from minibox.lab import Run, asking, before, experiment
from minibox.lab.asking import Row, ask


def _threads(name: str) -> Row:
    asked = ask(name, f"{name}, with two threads", before=before.two_threads)
    return Row(asked, "EINVAL", ask(name, "with one"))


ROWS = [
    Row(ask("VFORK"), "EINVAL", ask("", "nothing")),
    Row(ask("PIDFD"), "EINVAL", ask("", "nothing")),
    *map(_threads, ["NEWUSER", "THREAD", "SIGHAND", "VM"]),
]
FLAGS = asking.flags(ROWS)


@experiment(
    FLAGS,
    source="unshare(2), ERRORS; kernel/fork.c check_unshare_flags",
    expected={"unshare": asking.expected(ROWS)},
    runs={"unshare": FLAGS},
)
def rejections_unshare(run: Run) -> None:
    """unshare takes back what clone has shared, as far as it is a thing of the process and not of
    one of many threads; other flags of clone are EINVAL.

    THREAD, SIGHAND and VM are accepted where they change nothing: in a process with one thread. A
    user namespace is for the whole process, and cannot be entered by one thread of two.
    """
    asking.see(run, ROWS, "unshare")
