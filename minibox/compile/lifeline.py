# SPDX-License-Identifier: Apache-2.0
"""The child must not outlive the process that supervises it."""

from __future__ import annotations

import struct

from minibox import syscalls as sc
from minibox.compile.slots import PARENT
from minibox.plan import Memory, Offset
from minibox.syscalls import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minibox.host import Host
    from minibox.plan import Op
    from minibox.spec import Spec

POLLFD = Memory(struct.pack("=ihh", -1, sc.POLLIN, 0), "[{fd=@parent, events=POLLIN}]")


def bind() -> Iterator[Op]:
    """From now on the parent's death is the child's; and it has not died before. A pidfd tells:
    getppid would be 0 in a new pid namespace anyway."""
    yield sc.prctl(sc.PR_SET_PDEATHSIG, SIGKILL, why="die with minibox")
    yield sc.store(PARENT, Offset(POLLFD, 0, "&pollfd.fd"), why="for the next call")
    yield sc.ppoll_now(PARENT, POLLFD, expect_zero=True, why="minibox is alive")


def tie(spec: Spec, host: Host) -> Iterator[Op]:
    """First of all: nobody would open the gate for an orphan. A monitor ties its child itself."""
    if spec.starts_supervised and not spec.monitor:
        yield from bind()


def wait(spec: Spec, host: Host) -> Iterator[Op]:
    """What only the parent can do, it does while the child waits here."""
    if spec.makes("user"):
        if spec.monitor and not host.privileged:
            # The stage is nobody's to look into, and its files in /proc are root's.
            yield sc.prctl(sc.PR_SET_DUMPABLE, 1, why="for minibox to write the id maps")
        pasta = ", and pasta is there" if spec.uplink else ""
        yield sc.gate(why=f"until minibox has written uid_map and gid_map{pasta}")
    elif spec.guest:
        yield sc.gate(why="until minibox has moved it into the container's cgroup")
    elif spec.uplink:
        yield sc.gate(why="until pasta is there")
    elif spec.cgroup:
        yield sc.gate(why="until minibox has put it into its cgroup")


def check(spec: Spec, host: Host) -> Iterator[Op]:
    """Again, last of all: a change of ids has cleared the death signal (prctl(2))."""
    if spec.supervised:
        yield from bind()
    elif spec.starts_supervised:
        yield sc.prctl(sc.PR_SET_PDEATHSIG, 0, why="from here on it lives by itself")
