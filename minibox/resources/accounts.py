# SPDX-License-Identifier: Apache-2.0
"""Users and groups of a root file system: its /etc/passwd and /etc/group, parsed by hand.

Never through NSS, whose modules would be the container's or ask the host (CVE-2019-14271).
"""

from __future__ import annotations

from minibox.errors import SpecError
from minibox.resources import tree
from minibox.spec import User

MAX_ID = 0xFFFFFFFE  # -1 means "unchanged" to the kernel


def _rows(root: bytes, path: bytes, fields: int) -> list[list[bytes]]:
    try:
        text = tree.read(root, path)
    except OSError:
        return []
    rows = [line.split(b":") for line in text.split(b"\n")]
    return [row for row in rows if len(row) >= fields]


def _id(text: bytes) -> int | None:
    """A decimal id, or None. Nothing else: not "+5", not " 5", no overflow (CVE-2026-30892)."""
    if not text.isdigit() or len(text) > 10 or int(text) > MAX_ID:
        return None
    return int(text)


def _group(root: bytes, name: bytes) -> int:
    for row in _rows(root, b"/etc/group", 4):
        if row[0] == name and (gid := _id(row[2])) is not None:
            return gid
    if (gid := _id(name)) is not None:
        return gid
    raise SpecError("user", f"no group {name.decode(errors='replace')!r} in /etc/group inside")


def look_up(root: bytes, text: bytes) -> tuple[User, bytes]:
    """`USER[:GROUP]`, each a name or a number, as (User, home directory). SpecError.

    A name gives the primary group of /etc/passwd and the groups of /etc/group that list it; a
    number that no line has gives group 0, as docker does.
    """
    name, has_group, group = text.partition(b":")
    row = _passwd_row(root, name)
    uid = _id(row[2]) if row else _id(name)
    if uid is None:
        raise SpecError("user", f"no user {name.decode(errors='replace')!r} in /etc/passwd inside")
    home = row[5] if row and row[5].startswith(b"/") and b"\0" not in row[5] else b"/"
    if has_group:
        return User(uid, _group(root, group)), home
    if row is None:
        return User(uid, 0), home
    gid = _id(row[3])
    if gid is None:
        raise SpecError("user", f"{name.decode(errors='replace')!r} has no valid group inside")
    return User(uid, gid, _memberships(root, row[0], gid)), home


def _passwd_row(root: bytes, name: bytes) -> list[bytes] | None:
    """By name first, then by number: a name may be digits, and must not become another user
    (CVE-2016-3697)."""
    rows = _rows(root, b"/etc/passwd", 7)
    for row in rows:
        if row[0] == name and _id(name) is None:
            return row
    wanted = _id(name)
    return next((row for row in rows if wanted is not None and _id(row[2]) == wanted), None)


def _memberships(root: bytes, user: bytes, gid: int) -> tuple[int, ...]:
    groups = {gid}
    for row in _rows(root, b"/etc/group", 4):
        number = _id(row[2])
        if number is not None and user in row[3].split(b","):
            groups.add(number)
    return tuple(sorted(groups))
