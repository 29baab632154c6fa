# SPDX-License-Identifier: Apache-2.0
"""CLONE_NEWTIME"""

from __future__ import annotations

import errno
import os
import struct

from minibox import syscalls as sc
from minibox.lab import Block, Run, experiment, namespace, op

CLOCK_BOOTTIME, CLOCK_REALTIME = 7, 0
LATER = 1_000_000  # seconds
EXPECTED = {
    "with": {
        "the child is in": "the parent's",
        "its children will be in": "a new one",
        "offsets": "set",
        "uptime, for such a child": "1000000 s more",
        "the date, for such a child": "the same",
    },
    "with, and memory of its own": {
        "the child is in": "a new one",
        "its children will be in": "a new one",
        "offsets": "refused",
        "uptime, for such a child": "the same",
        "the date, for such a child": "the same",
    },
    "without": {
        "the child is in": "the parent's",
        "its children will be in": "the parent's",
        "offsets": "refused",
        "uptime, for such a child": "the same",
        "the date, for such a child": "the same",
    },
}


@experiment(
    sc.CLONE_NEWTIME,
    source="time_namespaces(7); kernel/time/namespace.c timens_on_fork, proc_timens_set_offset",
    expected=EXPECTED,
    runs={
        "with": sc.CLONE_NEWTIME | sc.CLONE_VM,
        "with, and memory of its own": sc.CLONE_NEWTIME,
        "without": sc.CLONE_VM,
    },
)
def newtime(run: Run) -> None:
    """A time namespace shifts the clocks that count from the boot for those who are made in it; its
    offsets can be set until the first process is in it.

    A child that shares its parent's memory stays in the old namespace, for the clocks are pages of
    that memory; only its children are in the new one. So its offsets can be set meanwhile. A child
    with memory of its own is in it at once, and then it is too late (with Linux 6.1 so is one that
    shares it, and the verdict is "differs"). The parent joins the namespace by setns(2) in place
    of a child of the child, and lets a child of its own read the clocks. The date (CLOCK_REALTIME)
    has no offset.
    """
    with run.clone([sc.gate()], call=3) as child:
        child.arrived()
        run.saw("the child is in", _which("time", child.pid))
        run.saw("its children will be in", _which("time_for_children", child.pid))
        run.saw("offsets", _set(child.pid))
        space = os.open(f"/proc/{child.pid}/ns/time_for_children", os.O_RDONLY)
    before = _clocks(run)
    # One with the same memory as another process may not: the child must be gone by now.
    run.syscall("setns", space, sc.CLONE_NEWTIME, text="setns(the child's, CLONE_NEWTIME)")
    after = _clocks(run)
    run.saw("uptime, for such a child", _shift(before[0], after[0]))
    run.saw("the date, for such a child", _shift(before[1], after[1]))


def _which(kind: str, pid: int) -> str:
    return "the parent's" if namespace(kind, pid) == namespace("time") else "a new one"


def _set(child: int) -> str:
    try:
        with open(f"/proc/{child}/timens_offsets", "w", encoding="ascii") as file:
            file.write(f"boottime {LATER} 0")
    except PermissionError as error:
        is_new = _which("time_for_children", child) != "the parent's"
        if is_new and error.errno == errno.EPERM:
            raise  # there is no CAP_SYS_TIME here
        return "refused"
    return "set"


def _clocks(run: Run) -> tuple[int, int]:
    """The seconds since the boot and those of the date, as a child reads them."""
    with Block(shared=True) as block:
        program = [
            op("clock_gettime", CLOCK_BOOTTIME, block.pointer(0, "&boottime")),
            op("clock_gettime", CLOCK_REALTIME, block.pointer(4, "&realtime")),
            sc.gate(),
        ]
        with run.clone(program, 0) as child:
            child.arrived()
            boottime, _, realtime, _ = struct.unpack_from("=4q", block.memory)
    return boottime, realtime


def _shift(before: int, after: int) -> str:
    """By how much, as a machine under load counts too."""
    rounded = round((after - before) / LATER) * LATER
    return f"{rounded} s more" if rounded else "the same"
