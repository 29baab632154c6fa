# SPDX-License-Identifier: Apache-2.0
"""Who the child is: root of its user namespace while it sets up, then the wanted user."""

from __future__ import annotations

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


def _is_mapped(mappings: tuple[IDMapping, ...], id_: int) -> bool:
    return any(m.container_id <= id_ < m.container_id + m.size for m in mappings)


def _can_set_groups(spec: Spec, host: Host) -> bool:
    # Without privilege the kernel wants setgroups denied before it takes a gid map.
    return host.privileged or not spec.makes("user")


def _become(user: User, groups: bool, why: str) -> Iterator[Op]:
    if groups:
        yield sc.setgroups(user.groups, why="no group of the caller's stays")
    yield sc.setresgid(user.gid, why=why)
    yield sc.setresuid(user.uid, why=why)


def become_root(spec: Spec, host: Host) -> Iterator[Op]:
    """Until its ids are mapped ones, files made in a user namespace would belong to nobody."""
    yield sc.umask(0o022, why="the caller's may be anything")
    if spec.has_own_ids:
        yield from _become(User(), _can_set_groups(spec, host), "root of the user namespace")


def become_user(spec: Spec, host: Host) -> Iterator[Op]:
    """The ids, the umask and the end of all new privileges."""
    if spec.umask != 0o022:
        yield sc.umask(spec.umask, why="as asked")
    user = spec.user
    if spec.makes("user"):
        for mappings, id_, word in (
            (spec.uid_mappings, user.uid, "uid"),
            (spec.gid_mappings, user.gid, "gid"),
        ):
            if not _is_mapped(mappings, id_):
                raise SpecError("user", f"{word} {id_} is not mapped in the user namespace")
    if user.groups and not _can_set_groups(spec, host):
        raise SpecError("user", "supplementary groups need root")
    is_root_already = spec.has_own_ids and user == User()
    if not is_root_already:
        yield from _become(user, _can_set_groups(spec, host), "the user asked for")
    yield sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1, why="set-uid files give nothing")
