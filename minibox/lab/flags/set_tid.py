# SPDX-License-Identifier: Apache-2.0
"""set_tid of clone3"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minibox import syscalls as sc
from minibox.lab import Run, experiment, op, status

CHOSEN = 4242
PID, OWN, AGAIN = "its pid", "its own getpid", "the same again, while it lives"
LEVELS = "its pids, in a pid namespace of its own"
EXPECTED = {
    "with": {PID: "as chosen", OWN: "as chosen", AGAIN: "EEXIST", LEVELS: "as chosen"},
    "without": {PID: "the next", OWN: "the next", AGAIN: "a child", LEVELS: "the next"},
}


@contextmanager
def chosen(_: Run) -> Iterator[dict[str, Any]]:
    """For the cost."""
    yield {"set_tid": [CHOSEN]}


@experiment(
    0,
    source="clone(2), 'The set_tid array'; kernel/pid.c alloc_pid",
    expected=EXPECTED,
    runs={"with": 0, "without": 0},
    fields=("set_tid",),
    order=1,
    arguments=chosen,
)
def set_tid(run: Run) -> None:
    """clone3 can be told which pid the child is to have, in each pid namespace that it is in.

    That is how a checkpoint is restored (CRIU). It takes CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE
    in the user namespace of each of those pid namespaces, and a pid that nobody has.
    """
    how: dict[str, Any] = {"set_tid": [CHOSEN]} if run.name == "with" else {}
    run.probe(0, "5.5", **how)
    with run.clone([op("getpid"), sc.gate()], **how) as child:
        child.arrived()
        run.saw(PID, _name(child.pid == CHOSEN))
        run.saw(OWN, _name(child.report().results[0] == CHOSEN))
        try:
            with run.clone([], **how):
                run.saw(AGAIN, "a child")
        except OSError as error:
            run.saw(AGAIN, errno.errorcode[error.errno or 0])
    how = {"set_tid": [1, CHOSEN]} if how else {}
    with run.clone([sc.gate()], sc.CLONE_NEWPID, **how) as child:
        run.saw(LEVELS, _name(status(child.pid)["NSpid"].split() == [str(CHOSEN), "1"]))


def _name(is_chosen: bool) -> str:
    return "as chosen" if is_chosen else "the next"
