# SPDX-License-Identifier: Apache-2.0
"""What is refused for want of rights or room"""

from __future__ import annotations

from minibox.lab import Run, asking, before, experiment
from minibox.lab.asking import Row, ask

RUNS = {"clone": 2, "clone3": 3}
MEANT = ["NEWNS", "NEWUTS", "NEWIPC", "NEWPID", "NEWNET", "NEWCGROUP"]


def _powerless(name: str) -> Row:
    asked = ask(name, f"{name} without CAP_SYS_ADMIN", before=before.powerless)
    return Row(asked, "EPERM", ask(name, "with it"))


BOTH = [
    *map(_powerless, MEANT),
    Row(
        ask("NEWUSER", "NEWUSER in a chroot", before=before.in_a_chroot),
        "EPERM",
        ask("NEWUSER", "outside"),
    ),
    Row(
        ask("NEWUSER", "NEWUSER as nobody, who is not mapped", before=before.unmapped),
        "EPERM",
        ask("NEWUSER", "as root of such a namespace", before=before.own_users),
    ),
    Row(
        ask("NEWUTS", "NEWUTS where max_uts_namespaces is 0", before=before.no_more_names),
        "ENOSPC",
        ask("NEWUTS", "where it is not", before=before.own_users),
    ),
    Row(
        ask("NEWUSER", "NEWUSER in the deepest of them", before=before.deepest_users),
        "ENOSPC",
        ask("NEWUSER", "above"),
    ),
    Row(
        ask("", "a child above RLIMIT_NPROC", before=before.no_more_processes),
        "EAGAIN",
        ask("", "below", before=before.another_user),
    ),
    Row(
        ask("", "a child above pids.max", before=before.in_a_full_cgroup),
        "EAGAIN",
        ask("", "below"),
    ),
    Row(
        ask("", "a child, where pid 1 is dead", before=before.pids_whose_first_is_dead),
        "ENOMEM",
        ask("", "as pid 1", before=before.unshared_pids),
    ),
]
# For clone3 alone: a bit that clone does not have, and a row that takes the time of the others.
ONE = [
    _powerless("NEWTIME"),
    Row(
        ask("NEWPID", "NEWPID in the deepest of them", before=before.deepest_pids),
        "ENOSPC",
        ask("NEWPID", "above"),
    ),
]
ROWS = {"clone": BOTH, "clone3": [*BOTH, *ONE]}
FLAGS = asking.flags(*ROWS.values())


@experiment(
    FLAGS,
    source="clone(2), ERRORS; namespaces(7); kernel/fork.c, kernel/ucount.c, kernel/pid.c",
    expected={name: asking.expected(rows) for name, rows in ROWS.items()},
    runs=dict.fromkeys(RUNS, FLAGS),
)
def rejections_rights(run: Run) -> None:
    """What contradicts nothing can still be refused: EPERM for want of rights, ENOSPC and EAGAIN
    for want of room, ENOMEM where pid 1 is dead.

    Every namespace but a user namespace needs CAP_SYS_ADMIN in the user namespace that it will
    belong to. That one needs no right at all, but is not for who is in a chroot, which he could
    leave, nor for a user who has no number where he is. User and pid namespaces nest 32 deep.
    """
    asking.see(run, ROWS[run.name], RUNS[run.name])
