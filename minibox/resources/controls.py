# SPDX-License-Identifier: Apache-2.0
"""Limits as what is written into the files of a cgroup: v1 (Documentation/admin-guide/cgroup-v1/)
and v2 (admin-guide/cgroup-v2.rst). Only the numbers of devices are looked up.
"""

from __future__ import annotations

import os
import stat

from minibox.errors import SpecError, Unsupported
from minibox.spec import Limits, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

NONE = Limits()
# The field of Limits -> the option, and the controller of v2. What v1 calls otherwise: OLD.
CONTROLLERS = {
    "memory": ("--memory", "memory"),
    "memory_swap": ("--memory-swap", "memory"),
    "memory_reservation": ("--memory-reservation", "memory"),
    "cpu_quota": ("--cpus", "cpu"),
    "cpu_shares": ("--cpu-shares", "cpu"),
    "cpuset_cpus": ("--cpuset", "cpuset"),
    "cpuset_mems": ("--cpuset-mems", "cpuset"),
    "pids": ("--pids", "pids"),
    "blkio_weight": ("--io-weight", "io"),
    "throttle_read_bps": ("--io-rbps", "io"),
    "throttle_write_bps": ("--io-wbps", "io"),
    "throttle_read_iops": ("--io-riops", "io"),
    "throttle_write_iops": ("--io-wiops", "io"),
}
OLD = {"io": "blkio"}
THROTTLES = {
    "throttle_read_bps": ("blkio.throttle.read_bps_device", "rbps"),
    "throttle_write_bps": ("blkio.throttle.write_bps_device", "wbps"),
    "throttle_read_iops": ("blkio.throttle.read_iops_device", "riops"),
    "throttle_write_iops": ("blkio.throttle.write_iops_device", "wiops"),
}


class Write(Record):
    """One write. option: whom it is for. files: the first that is there is written to; when none
    is, `missing` says what the kernel lacks, or, if it is "", nothing is to be done."""

    option: str
    controller: str
    files: tuple[str, ...]
    value: str
    missing: str = "this kernel has no such file"


def needed(limits: Limits) -> dict[str, str]:
    """The controllers, by v2's names, that these limits need, each with the option that asks."""
    found: dict[str, str] = {}
    for field, (option, controller) in CONTROLLERS.items():
        if getattr(limits, field):
            found.setdefault(controller, option)
    return found


def unavailable(option: str, controller: str, reason: str) -> Unsupported:
    """What is said of a controller, by v2's name, that an option needs and cannot have."""
    known = "io (blkio)" if controller == "io" else controller
    return Unsupported(f"{option}: the {known} controller is not available: {reason}", "cgroups")


def writes(limits: Limits, version: int, controllers: tuple[str, ...]) -> Iterator[Write]:
    """What is written for those of these controllers, in order. SpecError."""
    for one in _v1(limits) if version == 1 else _v2(limits):
        if one.controller in controllers:
            yield one


NO_SWAP = "the kernel counts no swap here"


def _v1(limits: Limits) -> Iterator[Write]:
    if limits.memory:
        yield Write("--memory", "memory", ("memory.limit_in_bytes",), str(limits.memory))
        total = limits.memory_swap or 2 * limits.memory  # as docker has it
        option, missing = _swap_asked(limits)
        yield Write(option, "memory", ("memory.memsw.limit_in_bytes",), str(total), missing)
    if limits.memory_reservation:
        value = str(limits.memory_reservation)
        yield Write("--memory-reservation", "memory", ("memory.soft_limit_in_bytes",), value)
    if limits.cpu_quota:
        yield Write("--cpus", "cpu", ("cpu.cfs_period_us",), str(limits.cpu_period))
        yield Write("--cpus", "cpu", ("cpu.cfs_quota_us",), str(limits.cpu_quota))
    if limits.cpu_shares:
        yield Write("--cpu-shares", "cpu", ("cpu.shares",), str(limits.cpu_shares))
    yield from _cpuset(limits)
    yield from _pids(limits)
    if limits.blkio_weight:
        files = ("blkio.weight", "blkio.bfq.weight")
        yield Write("--io-weight", "blkio", files, str(limits.blkio_weight), NO_WEIGHT)
    for field, (file, _) in THROTTLES.items():
        option = CONTROLLERS[field][0]
        for path, rate in getattr(limits, field):
            yield Write(option, "blkio", (file,), f"{device(option, path)} {rate}")


NO_WEIGHT = "this kernel has neither io.cost nor the BFQ scheduler"


def _v2(limits: Limits) -> Iterator[Write]:
    if limits.memory:
        yield Write("--memory", "memory", ("memory.max",), str(limits.memory))
        option, missing = _swap_asked(limits)
        total = limits.memory_swap or 2 * limits.memory
        swap = "max" if total == -1 else str(total - limits.memory)
        yield Write(option, "memory", ("memory.swap.max",), swap, missing)
    if limits.memory_reservation:
        value = str(limits.memory_reservation)
        yield Write("--memory-reservation", "memory", ("memory.low",), value)
    if limits.cpu_quota:
        value = f"{limits.cpu_quota if limits.cpu_quota > 0 else 'max'} {limits.cpu_period}"
        yield Write("--cpus", "cpu", ("cpu.max",), value)
    if limits.cpu_shares:
        yield Write("--cpu-shares", "cpu", ("cpu.weight",), str(weight(limits.cpu_shares)))
    yield from _cpuset(limits)
    yield from _pids(limits)
    if limits.blkio_weight:
        files = ("io.weight", "io.bfq.weight")
        yield Write("--io-weight", "io", files, str(io_weight(limits.blkio_weight)), NO_WEIGHT)
    for field, (_, key) in THROTTLES.items():
        option = CONTROLLERS[field][0]
        for path, rate in getattr(limits, field):
            yield Write(option, "io", ("io.max",), f"{device(option, path)} {key}={rate}")


def _swap_asked(limits: Limits) -> tuple[str, str]:
    """Only who asks for it is told that swap cannot be limited."""
    return ("--memory-swap", NO_SWAP) if limits.memory_swap else ("--memory", "")


def _cpuset(limits: Limits) -> Iterator[Write]:
    if limits.cpuset_cpus:
        yield Write("--cpuset", "cpuset", ("cpuset.cpus",), limits.cpuset_cpus)
    if limits.cpuset_mems:
        yield Write("--cpuset-mems", "cpuset", ("cpuset.mems",), limits.cpuset_mems)


def _pids(limits: Limits) -> Iterator[Write]:
    if limits.pids:
        value = "max" if limits.pids < 0 else str(limits.pids)
        yield Write("--pids", "pids", ("pids.max",), value)


def weight(shares: int) -> int:
    """cpu.weight (1 to 10000, 100 is everybody's) of cpu.shares (2 to 262144, 1024 is), by OCI's
    formula (config-linux.md, "CPU")."""
    from math import ceil, log2

    power = log2(shares)
    return min(10_000, max(1, ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))))


def io_weight(weight: int) -> int:
    """io.weight (1 to 10000) of OCI's 10 to 1000."""
    return 1 + (weight - 10) * 9999 // 990


def device(option: str, path: str) -> str:
    """MAJOR:MINOR of a block device. SpecError."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise SpecError(option, f"{path}: {error.strerror}") from None
    if not stat.S_ISBLK(found.st_mode):
        raise SpecError(option, f"{path} is no block device")
    return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
