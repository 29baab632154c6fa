# SPDX-License-Identifier: Apache-2.0
"""What clone3 refuses and clone does not"""

from __future__ import annotations

import signal

from minibox.lab import Run, asking, experiment
from minibox.lab.asking import MADE, Row, ask

RUNS = {"clone3": 3, "clone": 2}
TEXTS = DETACHED, SIGNAL_65, PARENT, THREAD = (
    "DETACHED",
    "exit signal 65",
    "PARENT with an exit signal",
    "THREAD with an exit signal",
)
ASKED = [
    ask("DETACHED"),
    ask("", SIGNAL_65, exit_signal=65),
    ask("PARENT", PARENT, exit_signal=signal.SIGCHLD),
    ask("VM|SIGHAND|THREAD", THREAD, exit_signal=signal.SIGCHLD),
]
BESIDE = [
    None,
    ask("", "64", exit_signal=64),
    ask("PARENT", "with 0"),
    ask("VM|SIGHAND|THREAD", "with 0"),
]
ROWS = {
    "clone3": [
        *(Row(asked, "EINVAL", beside) for asked, beside in zip(ASKED, BESIDE, strict=True)),
        Row(
            ask("VM|SIGHAND|CLEAR_SIGHAND"),
            "EINVAL",
            ask("CLEAR_SIGHAND"),
        ),
        Row(ask("", "SIGCHLD among the flags", flags=signal.SIGCHLD, exit_signal=0), "EINVAL"),
        Row(ask("", "an unknown flag", flags=1 << 62), "EINVAL"),
    ],
    "clone": [Row(asked, MADE) for asked in ASKED],
}
FLAGS = asking.flags(*ROWS.values())


@experiment(
    FLAGS,
    source="clone(2), ERRORS, clone3; kernel/fork.c clone3_args_valid, copy_clone_args_from_user",
    expected={name: asking.expected(rows) for name, rows in ROWS.items()},
    runs=dict.fromkeys(RUNS, FLAGS),
    fields=("exit_signal",),
)
def rejections_clone3(run: Run) -> None:
    """clone3 refuses what clone ignores: so every bit of it can have a meaning one day.

    clone must go on taking what old programs give it. clone3 was made when that was known: flags
    without a meaning, exit signals that there are none of, and an exit signal for a child that
    sends none (a thread; one with CLONE_PARENT sends its parent's) are EINVAL.
    """
    signal.signal(signal.SIGRTMAX, signal.SIG_IGN)  # 64, which would end this process
    asking.see(run, ROWS[run.name], RUNS[run.name])
