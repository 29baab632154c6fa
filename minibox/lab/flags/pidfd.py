# SPDX-License-Identifier: Apache-2.0
"""CLONE_PIDFD"""

from __future__ import annotations

import signal
from errno import EFAULT

from minibox import core
from minibox import syscalls as sc
from minibox.lab import Run, experiment, grandchild, words
from minibox.resident import has_ended

BAD = 8
GIVEN, ALIVE, ENDED = "the parent gets", "it is readable while the child runs", "and at its end"
SIGNAL, REFUSED = "pidfd_send_signal ends it by", "with a bad pointer there is"
EXPECTED: dict[str, dict[str, object]] = {
    "with": {
        GIVEN: "a descriptor",
        ALIVE: False,
        ENDED: True,
        SIGNAL: "SIGKILL",
        REFUSED: "EFAULT",
    },
    "without": {GIVEN: "nothing", REFUSED: "a child"},
}


@experiment(
    sc.CLONE_PIDFD,
    source="clone(2), CLONE_PIDFD; pidfd_open(2); kernel/fork.c copy_process",
    expected=EXPECTED,
)
def pidfd(run: Run) -> None:
    """CLONE_PIDFD gives the parent a descriptor that is this child, and no later one of its pid.

    It becomes readable when the child ends, and takes signals. Other than with the flags for tids
    an address that is none is an error: the descriptor would be lost.
    """
    with run.clone([sc.gate()], exact=True) as child:
        run.saw(GIVEN, "a descriptor" if child.pidfd >= 0 else "nothing")
        if child.pidfd >= 0:
            run.saw(ALIVE, has_ended(child.pidfd, 0))
            core.pidfd_send_signal(child.pidfd, signal.SIGKILL)
            run.saw(ENDED, has_ended(child.pidfd, 10))
            run.saw(SIGNAL, signal.Signals(child.wait().signal or 0).name)
    with run.clone([grandchild(run.flags, pidfd=BAD, ok=(EFAULT,))], 0) as child:
        child.wait()
        result = child.report().results[0]
        run.saw(REFUSED, "a child" if result > 0 else words.error(-result))
