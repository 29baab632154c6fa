# SPDX-License-Identifier: Apache-2.0
"""Id maps: which host ids a container gets, and the user namespace that carries them.

Sources: user_namespaces(7), mount_setattr(2) under MOUNT_ATTR_IDMAP.
"""

from __future__ import annotations

import os

from minibox import core
from minibox import syscalls as sc
from minibox.compile import lifeline, slots
from minibox.errors import SpecError, Unsupported
from minibox.plan import Plan
from minibox.spec import IDMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minibox.forms import Userns
    from minibox.host import Host
    from minibox.spec import Spec

Maps = tuple[IDMapping, ...]


def choose(userns: Userns, host: Host) -> tuple[Maps, Maps]:
    """The uid and gid map of a new user namespace. SpecError, Unsupported, StateError.

    As root a range that belongs to nobody. Without privilege the caller's own ids as the
    container's root, and, where newuidmap can map them, those of /etc/subuid behind it.
    """
    if userns.mode == "range":
        return (
            (IDMapping(0, userns.uid, userns.size),),
            (IDMapping(0, userns.gid, userns.size),),
        )
    if host.privileged:
        from minibox.resources import ranges

        if userns.mode == "keep-id":
            raise SpecError("--userns", "keep-id keeps the caller's id, root's: that is host")
        home = ranges.pool().home()
        return home.uids, home.gids
    from minibox.resources import subids

    uids, gids = subids.own() if host.uid else ([], [])
    if userns.mode == "keep-id":
        if not uids or not gids:
            hint = "it needs newuidmap, and rows for the caller in /etc/subuid and /etc/subgid"
            text = f"--userns keep-id: there are no ids for the rest: {hint}"
            raise Unsupported(text, subids.LACK)
        return around(host.uid, host.uid, uids), around(host.gid, host.gid, gids)
    if not uids or not gids:
        return (IDMapping(0, host.uid, 1),), (IDMapping(0, host.gid, 1),)
    return around(0, host.uid, uids), around(0, host.gid, gids)


def around(own: int, host_id: int, rows: list[tuple[int, int]]) -> Maps:
    """A map in which `own` is `host_id`, and the ids of `rows` are what lies before and behind. Of
    rows that give the caller his own id, the rest: the kernel maps none twice."""
    found, next_ = [], 0
    for first, count in _without(host_id, rows):
        while count:
            if next_ == own:
                next_ += 1
            size = min(count, own - next_) if next_ < own else count
            found.append(IDMapping(next_, first, size))
            first, count, next_ = first + size, count - size, next_ + size
    found.append(IDMapping(own, host_id, 1))
    return tuple(sorted(found, key=lambda mapping: int(mapping.container_id)))


def _without(id_: int, rows: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for first, count in rows:
        if first <= id_ < first + count:
            yield first, id_ - first
            yield id_ + 1, first + count - id_ - 1
        else:
            yield first, count


def map_ids(pid: int, plan: Plan, host: Host) -> None:
    """Give the user namespace of a child at its gate the maps of its plan. OSError, Unsupported."""
    uid_map, gid_map = plan.uid_map, plan.gid_map
    if host.privileged:
        write(pid, uid_map, gid_map, deny_setgroups=False)
    elif is_own_alone(gid_map, host.gid) and is_own_alone(uid_map, host.uid):
        write(pid, uid_map, gid_map, deny_setgroups=True)
    else:
        from minibox.resources import subids

        subids.write(pid, uid_map, gid_map)


def is_own_alone(map_: bytes, host_id: int) -> bool:
    """Is the caller's own id all that is mapped? That the kernel lets everybody do."""
    return map_.split()[1:] == [b"%d" % host_id, b"1"]


def write(pid: int | str, uid_map: bytes, gid_map: bytes, *, deny_setgroups: bool) -> None:
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
    """The same, the caller's to close: for maps that are used once. SetupError, OSError."""
    waiting = Plan((), 0, (*lifeline.bind(), sc.gate()))
    flags = sc.CLONE_VM | sc.CLONE_NEWUSER | sc.CLONE_PIDFD | sc.CLONE_CHILD_CLEARTID
    try:
        child = core.launch(waiting.encode(), flags, {slots.PARENT: core.own_pidfd()})
    except core.LaunchError as error:
        from minibox import explain

        raise explain.no_userns(error) from None
    try:
        write(child.pid, uid_map, gid_map, deny_setgroups=False)
        return os.open(f"/proc/{child.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        child.go()
        core.await_end(child.pidfd)
        os.close(child.pidfd)
        child.left(1)
        child.close()
