# SPDX-License-Identifier: Apache-2.0
"""Facts about this host that the compiler needs, read once."""

from __future__ import annotations

import os

from minibox.errors import SetupError, Unsupported
from minibox.spec import Record

CAP_SYS_ADMIN = 21
EXEC_ENTERS_TIME = [6, 3]  # before, only children do (fs/exec.c)


class Host(Record):
    """uid, gid: the caller's effective ids. privileged: it is root in the initial user namespace,
    with CAP_SYS_ADMIN, so that it may clone mounts, idmap them and write any id map.
    capabilities: its effective set. last_capability: the highest number the kernel knows.
    exec_enters_time: who has unshared its time namespace is in the new one after an exec. unified:
    /sys/fs/cgroup is a cgroup2, and there is no older one."""

    uid: int
    gid: int
    privileged: bool
    capabilities: int = 0
    last_capability: int = 40
    exec_enters_time: bool = True
    unified: bool = False


def _read(path: str) -> str:
    """A fact that cannot be read is no fact: a guess could give the container more rights."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, 1 << 16).decode()  # "ascii" would import a codec
        finally:
            os.close(fd)
    except OSError as error:
        raise SetupError(error.errno or 0, f"look at the host: {path}") from None


def _capabilities() -> int:
    for line in _read("/proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    raise Unsupported("/proc/self/status has no CapEff line: is /proc a procfs?")


def probe() -> Host:
    """Look at the running kernel (user_namespaces(7), capabilities(7))."""
    is_initial = _read("/proc/self/uid_map").split() == ["0", "0", "4294967295"]
    uid, effective = os.geteuid(), _capabilities()
    privileged = uid == 0 and is_initial and bool(effective >> CAP_SYS_ADMIN & 1)
    last = _read("/proc/sys/kernel/cap_last_cap").strip()
    enters_time = _version() >= EXEC_ENTERS_TIME
    unified = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    return Host(uid, os.getegid(), privileged, effective, int(last), enters_time, unified)


def _version() -> list[int]:
    numbers = os.uname().release.replace("-", ".").split(".")[:2]
    return [int(number) for number in numbers if number.isdigit()]
