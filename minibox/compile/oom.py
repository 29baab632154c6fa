# SPDX-License-Identifier: Apache-2.0
"""How soon the kernel takes the container when memory is short (proc_pid_oom_score_adj(5)).

The value is that of all processes that share the memory, so the child must have left Python's; and
the file is the host root's while the child cannot be looked into. A monitor's child, or one that
joins, has memory of its own and the caller's ids from the start; another one has it only as root of
its user namespace, and shows itself for the moment of the write: nobody else is there to look.
"""

from __future__ import annotations

from minibox import syscalls as sc
from minibox.errors import SpecError
from minibox.plan import Slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minibox.host import Host
    from minibox.plan import Op
    from minibox.spec import Spec

PATH = b"/proc/self/oom_score_adj"


def _write(spec: Spec) -> Iterator[Op]:
    value = spec.oom_score_adj
    assert value is not None
    if not -1000 <= value <= 1000:
        raise SpecError("--oom-score-adj", f"{value}: it is -1000 to 1000")
    file = Slot("oom_score_adj")
    flags = sc.O_WRONLY | sc.O_CLOEXEC
    for op in (
        sc.openat(sc.AT_FDCWD, PATH, flags, to=file, why="the host's proc still"),
        sc.write(file, b"%d" % value, why="--oom-score-adj"),
    ):
        op.origin = f"oom, --oom-score-adj {value}"
        yield op


def adjust_early(spec: Spec, host: Host) -> Iterator[Op]:
    if spec.oom_score_adj is not None and (spec.joined or spec.monitor):
        yield from _write(spec)


def adjust_late(spec: Spec, host: Host) -> Iterator[Op]:
    if spec.oom_score_adj is not None and not spec.joined and not spec.monitor:
        yield sc.prctl(sc.PR_SET_DUMPABLE, 1, why="or its files in /proc are the host root's")
        yield from _write(spec)
        yield sc.prctl(sc.PR_SET_DUMPABLE, 0, why="nobody may look into the stage")
