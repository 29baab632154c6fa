# SPDX-License-Identifier: Apache-2.0
"""Id maps: which host ids a container gets, and the user namespace that carries them.

Sources: user_namespaces(7), mount_setattr(2) under MOUNT_ATTR_IDMAP.
"""

from __future__ import annotations

import os

from minibox import core
from minibox import syscalls as sc
from minibox.compile import lifeline, slots
from minibox.plan import Plan
from minibox.spec import IDMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.host import Host
    from minibox.spec import Spec

RANGE = 65536
# Above what useradd hands out as subordinate ids, below 2^31, where some programs see a sign.
FIRST, RANGES = 1 << 30, 8192


def choose(host: Host) -> tuple[tuple[IDMapping, ...], tuple[IDMapping, ...]]:
    """The uid and gid map of a new user namespace.

    As root a range that belongs to nobody, another one for each supervising process; without
    privilege the caller's own ids alone, as the container's root.
    """
    if host.privileged:
        mapping = _range_of(os.getpid())
        return mapping, mapping
    return (IDMapping(0, host.uid, 1),), (IDMapping(0, host.gid, 1),)


def leased(number: int) -> tuple[IDMapping, ...]:
    """The range of a lease, 0 to RANGES - 1: others than those that `choose` gives."""
    return (IDMapping(0, FIRST + (RANGES + number) * RANGE, RANGE),)


_ranges: dict[int, tuple[IDMapping, ...]] = {}


def _range_of(pid: int) -> tuple[IDMapping, ...]:
    if pid not in _ranges:
        _ranges[pid] = (IDMapping(0, FIRST + pid % RANGES * RANGE, RANGE),)
    return _ranges[pid]


def write(pid: int, uid_map: bytes, gid_map: bytes, *, deny_setgroups: bool) -> None:
    """Give the user namespace of `pid` its maps; each can be written once. OSError."""
    files = [("uid_map", uid_map), ("gid_map", gid_map)]
    if deny_setgroups:
        files.insert(0, ("setgroups", b"deny"))
    for name, text in files:
        path = f"/proc/{pid}/{name}"
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        finally:
            os.close(fd)


def give(fd: int, spec: Spec) -> None:
    """Make a pipe of ours the container's user's: he may open /dev/stdout, which is it."""
    for mapping in spec.uid_mappings:
        inner = spec.user.uid - mapping.container_id
        if 0 <= inner < mapping.size and os.geteuid() == 0:
            os.fchown(fd, mapping.host_id + inner, -1)


def userns(uid_map: bytes, gid_map: bytes) -> int:
    """An fd of a user namespace with these maps and no process in it; kept for the next call.

    mount_setattr copies the maps, so one namespace serves all mounts with the same maps.
    """
    return core.once(("userns", uid_map, gid_map), lambda: make_userns(uid_map, gid_map))


def make_userns(uid_map: bytes, gid_map: bytes) -> int:
    """The same, the caller's to close: for maps that are used once."""
    waiting = Plan((), 0, (*lifeline.bind(), sc.gate()))
    flags = sc.CLONE_VM | sc.CLONE_NEWUSER | sc.CLONE_PIDFD | sc.CLONE_CHILD_CLEARTID
    child = core.launch(waiting.encode(), flags, {slots.PARENT: core.own_pidfd()})
    try:
        write(child.pid, uid_map, gid_map, deny_setgroups=False)
        return os.open(f"/proc/{child.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        child.go()
        core.await_end(child.pidfd)
        os.close(child.pidfd)
        child.left(1)
        child.close()
