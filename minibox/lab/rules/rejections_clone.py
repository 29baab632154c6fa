# SPDX-License-Identifier: Apache-2.0
"""What clone refuses"""

from __future__ import annotations

from minibox.lab import Run, asking, experiment
from minibox.lab.asking import MADE, Row, ask

RUNS = {"clone": 2, "clone3": 3}
ONE_WORD, GONE = ask("PIDFD|PARENT_SETTID"), ask("PIDFD|DETACHED")
ROWS = {
    "clone": [Row(ONE_WORD, "EINVAL", ask("PIDFD")), Row(GONE, "EINVAL", ask("DETACHED"))],
    "clone3": [Row(ONE_WORD, MADE, ask("PIDFD")), Row(GONE, "EINVAL")],
}
FLAGS = asking.flags(*ROWS.values())


@experiment(
    FLAGS,
    source="clone(2), ERRORS, CLONE_PIDFD; kernel/fork.c kernel_clone, copy_process",
    expected={name: asking.expected(rows) for name, rows in ROWS.items()},
    runs=dict.fromkeys(RUNS, FLAGS),
)
def rejections_clone(run: Run) -> None:
    """clone has one word for the pidfd and for the parent's tid, so it refuses both at once; clone3
    has two.

    CLONE_DETACHED, which clone else ignores, is refused beside CLONE_PIDFD, so that its bit may
    have a meaning there one day; clone3 refuses it always.
    """
    asking.see(run, ROWS[run.name], RUNS[run.name])
