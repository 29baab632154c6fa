# SPDX-License-Identifier: Apache-2.0
"""What containers leave on the host, or do not: compared before and after.

Some of it is exact: processes, mounts, cgroups, fds, files of the state. Some is the whole
machine's, and counted roughly by the kernel: open files, network namespaces, memory. Of that a
little is allowed to stay, far less than the containers took.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from starter import reap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Facts = dict[str, Any]

# Kernel memory frees itself behind the containers' ends: a work queue, one at a time.
SETTLE_WITHIN = 60.0
# What may stay: for what else the machine does meanwhile, and for each container that there was
# (one that lives has ten files open or more, and one network namespace; slabs are in use in part).
SLACK = {
    "open files": (256, 0.5),
    # SLUB counts every object of the slabs that a CPU keeps at hand as in use, and keeps them until
    # it needs them: a third was seen, while the memory of these namespaces had long been free.
    "network namespaces": (64, 0.7),
    "kernel memory, KiB": (16 << 10, 48),
    "available memory, KiB": (256 << 10, 48),
}
EXACT = ("processes", "mounts", "cgroups", "fds", "state")
ROUGH = tuple(SLACK)


def facts(state: Path, own: set[int]) -> Facts:
    """own: pids of children of this process that do not count, being no containers."""
    memory = meminfo()
    return {
        "processes": sorted(descendants(os.getpid()) - own),
        "mounts": Path("/proc/self/mountinfo").read_text().splitlines(),
        "cgroups": sorted(path for path, _, _ in os.walk("/sys/fs/cgroup") if "minibox" in path),
        "fds": sorted(os.listdir("/proc/self/fd")),
        "state": kept(state),
        "open files": int(Path("/proc/sys/fs/file-nr").read_text().split()[0]),
        "network namespaces": slab_objects("net_namespace"),
        "kernel memory, KiB": unreclaimable(memory),
        "available memory, KiB": memory["MemAvailable"],
    }


def changes(before: Facts, after: Facts, containers: int) -> dict[str, str]:
    """What is not as it was, and how."""
    found = {}
    for name in EXACT:
        if before[name] != after[name]:
            more = [item for item in after[name] if item not in before[name]]
            less = [item for item in before[name] if item not in after[name]]
            found[name] = f"more: {more[:5]} ({len(more)}), less: {less[:5]} ({len(less)})"
    for name, (slack, share) in SLACK.items():
        more = after[name] - before[name]
        if (-more if name.startswith("available") else more) > slack + share * containers:
            found[name] = f"{before[name]}, then {after[name]}"
    return found


def settle(before: Facts, state: Path, own: set[int], containers: int) -> Facts:
    """Wait until the host is as before. The facts then; with "changes", and "seconds" it took."""
    began = time.monotonic()
    while True:
        reap()
        after = facts(state, own)
        found = changes(before, after, containers)
        seconds = time.monotonic() - began
        if not found or seconds > SETTLE_WITHIN:
            return {**after, "changes": found, "seconds": seconds}
        time.sleep(0.1)


def kept(state: Path) -> list[str]:
    """The files of containers in the state directory; the journal and the locks may stay."""
    found: list[str] = []
    for name in ("containers", "names", "ids"):
        if (state / name).is_dir():
            found += [f"{name}/{entry}" for entry in os.listdir(state / name)]
    return sorted(found)


def descendants(pid: int) -> set[int]:
    """All processes below this one, zombies too (proc_pid_stat(5), field 4)."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(name))
    found: set[int] = set()
    new = [pid]
    while new:
        new = [child for parent in new for child in children.get(parent, ())]
        found.update(new)
    return found


def meminfo() -> dict[str, int]:
    """KiB by name (proc_meminfo(5))."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}


def unreclaimable(memory: dict[str, int]) -> int:
    return sum(memory.get(name, 0) for name in ("SUnreclaim", "Percpu", "KernelStack"))


def slab_objects(name: str) -> int:
    """How many of them the kernel has (slabinfo(5)); 0 where it does not say."""
    try:
        for line in Path("/proc/slabinfo").read_text().splitlines():
            if line.startswith(f"{name} "):
                return int(line.split()[1])
    except OSError:
        pass
    return 0
