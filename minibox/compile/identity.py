# SPDX-License-Identifier: Apache-2.0
"""Who the child is: root of its user namespace while it sets up, then the wanted user."""

from __future__ import annotations

from errno import EPERM

from minibox import syscalls as sc
from minibox.errors import SpecError
from minibox.spec import User

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minibox.host import Host
    from minibox.plan import Op
    from minibox.spec import IDMapping, Spec


def id_map(mappings: tuple[IDMapping, ...]) -> bytes:
    """The text of /proc/PID/uid_map (user_namespaces(7))."""
    return b"".join(b"%d %d %d\n" % m.astuple() for m in mappings)


def is_mapped(spec: Spec, uid: int, gid: int) -> bool:
    """Do these ids of the container exist there?"""
    if not spec.makes("user"):
        return True
    return _has(spec.uid_mappings, uid) and _has(spec.gid_mappings, gid)


def _has(mappings: tuple[IDMapping, ...], id_: int) -> bool:
    return any(m.container_id <= id_ < m.container_id + m.size for m in mappings)


def _can_set_groups(spec: Spec, host: Host) -> bool:
    # Without privilege the kernel wants setgroups denied before it takes a map of the caller's own
    # gid; newgidmap, which maps others, has the privilege.
    is_own_alone = [m.astuple()[1:] for m in spec.gid_mappings] == [(host.gid, 1)]
    return host.privileged or not spec.makes("user") or not is_own_alone


def _become(spec: Spec, host: Host, user: User, why: str) -> Iterator[Op]:
    if _can_set_groups(spec, host):
        # Before a user namespace was joined, which may deny this, all groups were dropped.
        tolerated = (EPERM,) if spec.joins("user") and not user.groups else ()
        yield sc.setgroups(user.groups, ok=tolerated, why="no group of the caller's stays")
    yield sc.setresgid(user.gid, why=why)
    yield sc.setresuid(user.uid, why=why)


def become_root(spec: Spec, host: Host) -> Iterator[Op]:
    """Until its ids are mapped ones, files made in a user namespace would belong to nobody."""
    yield sc.umask(0o022, why="the caller's may be anything")
    if spec.has_own_ids:
        yield from _become(spec, host, User(), "root of the user namespace")


def become_user(spec: Spec, host: Host) -> Iterator[Op]:
    """The ids, the umask and the end of all new privileges."""
    if spec.umask != 0o022:
        yield sc.umask(spec.umask, why="as asked")
    user = spec.user
    if not is_mapped(spec, user.uid, user.gid):
        ids = f"{user.uid}:{user.gid}"
        raise SpecError("user", f"{ids} is not mapped in the user namespace")
    if user.groups and not _can_set_groups(spec, host):
        raise SpecError("user", "supplementary groups need root")
    is_root_already = spec.has_own_ids and user == User()
    if not is_root_already:
        yield from _become(spec, host, user, "the user asked for")
    if spec.no_new_privileges:
        yield sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1, why="set-uid files give nothing")
