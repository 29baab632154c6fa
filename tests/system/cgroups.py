# SPDX-License-Identifier: Apache-2.0
"""The kernel's own files about a process's cgroups, seen from the host: v1 and v2."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.conftest import empty_cgroups

TOP = "/sys/fs/cgroup"
IS_V2 = os.path.exists(f"{TOP}/cgroup.controllers")


def _mount_v2():
    """The words that mount v2 as it is mounted already: the options of one mount are those of all
    of them, the host's too, which is not a test's to change."""
    rows = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    options = next((row[3] for row in rows if row[2] == "cgroup2"), "rw")
    return f"mount -t cgroup2 -o {options} none"


MOUNT_V2 = _mount_v2()
V2_ALONE = f"umount -R -l {TOP}; {MOUNT_V2} {TOP}"


def memberships(pid):
    """controllers ("" is v2) -> path, of /proc/PID/cgroup."""
    rows = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    return {names: path for _, names, path in rows}


def directory(pid, controller):
    """Where this controller has the process. controller: v1's name."""
    found = memberships(pid)
    if IS_V2:
        return Path(TOP + found[""])
    names = next(names for names in found if controller in names.split(","))
    return Path(f"{TOP}/{controller}{found[names]}")


def read(pid, old, new):
    """A file by its name in v1 and in v2; v1's begins with its controller."""
    return (directory(pid, old.partition(".")[0]) / (new if IS_V2 else old)).read_text().strip()


def left():
    """The cgroups of minibox's that nobody is in; a moment is given to what ends by itself."""
    deadline = time.monotonic() + 1
    while (found := sorted(empty_cgroups())) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found
