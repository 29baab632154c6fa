# SPDX-License-Identifier: Apache-2.0
"""Facts about this host that the compiler needs, read once."""

from __future__ import annotations

import os

from minibox.spec import Record

CAP_SYS_ADMIN = 21


class Host(Record):
    """uid, gid: the caller's effective ids. privileged: it is root in the initial user namespace,
    with CAP_SYS_ADMIN, so that it may clone mounts, idmap them and write any id map."""

    uid: int
    gid: int
    privileged: bool


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


def _has_sys_admin() -> bool:
    for line in _read("/proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> CAP_SYS_ADMIN & 1)
    return False


def probe() -> Host:
    """Look at the running kernel (user_namespaces(7), capabilities(7))."""
    initial = _read("/proc/self/uid_map").split() == ["0", "0", "4294967295"]
    uid = os.geteuid()
    return Host(uid, os.getegid(), uid == 0 and initial and _has_sys_admin())
