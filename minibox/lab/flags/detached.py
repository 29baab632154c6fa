# SPDX-License-Identifier: Apache-2.0
"""CLONE_DETACHED"""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minibox import syscalls as sc
from minibox.lab import Run, experiment

CLONE, CLONE3, SENT = "clone makes", "clone3 says", "SIGCHLD at its end"
EXPECTED = {
    "with": {CLONE: "a child to wait for", SENT: True, CLONE3: "EINVAL"},
    "without": {CLONE: "a child to wait for", SENT: True, CLONE3: "a child"},
}


@contextmanager
def by_clone(_: Run) -> Iterator[dict[str, Any]]:
    """For the cost."""
    yield {"call": 2}


@experiment(
    sc.CLONE_DETACHED,
    source="clone(2), CLONE_DETACHED; kernel/fork.c clone3_args_valid",
    expected=EXPECTED,
    arguments=by_clone,
)
def detached(run: Run) -> None:
    """clone takes CLONE_DETACHED and does nothing for it; clone3 refuses it.

    While Linux 2.5 was made it kept the exit of a thread from its parent, which CLONE_THREAD does
    by itself since 2.6.2. clone has to take what old programs give it, clone3 has none.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    with run.clone([], call=2) as child:
        is_over = child.wait().exit_code == 0
        run.saw(CLONE, "a child to wait for" if is_over else "another")
        run.saw(SENT, signal.SIGCHLD in signal.sigpending())
    try:
        with run.clone([], call=3):
            run.saw(CLONE3, "a child")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        run.saw(CLONE3, errno.errorcode[error.errno or 0])
