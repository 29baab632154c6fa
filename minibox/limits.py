# SPDX-License-Identifier: Apache-2.0
"""What a container may use: the texts of --memory, --cpus and so on as a spec.Limits.

Pure, as forms.py: text -> value, or SpecError. The rules are docker's (daemon_unix.go), the words
OCI's (config-linux.md, "Control groups").
"""

from __future__ import annotations

from minibox.errors import SpecError
from minibox.spec import Cgroup, CgroupTree, Limits, Sysfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from minibox.host import Host
    from minibox.spec import Spec

# The options that are limits, by their keywords, with their names on the command line.
NAMES = {
    "memory": "--memory",
    "memory_swap": "--memory-swap",
    "memory_reservation": "--memory-reservation",
    "cpus": "--cpus",
    "cpu_shares": "--cpu-shares",
    "cpuset": "--cpuset",
    "cpuset_mems": "--cpuset-mems",
    "pids": "--pids",
    "io_weight": "--io-weight",
    "io_rbps": "--io-rbps",
    "io_wbps": "--io-wbps",
    "io_riops": "--io-riops",
    "io_wiops": "--io-wiops",
}
MANAGERS = ("cgroupfs", "systemd")
UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
LEAST_MEMORY = 6 << 20
MOST = (1 << 63) - 1
PERIOD = 100_000  # µs
SHARES = (2, 262_144)  # kernel/sched/sched.h: MIN_SHARES, MAX_SHARES
WEIGHTS = (10, 1000)
MOST_PIDS = 4_194_304  # include/linux/threads.h: PID_MAX_LIMIT
LAST_CPU = 8191


def asked(options: Mapping[str, Any], cpus: int) -> Cgroup:
    """What the options say of a container's cgroup. SpecError."""
    return Cgroup(
        parse(options, cpus),
        parent(options.get("cgroup_parent")),
        manager(options.get("cgroup_manager")),
    )


def fit(spec: Spec, group: Cgroup | None, host: Host) -> Spec:
    """The same with this cgroup, and with a view of it where all cgroups are in one tree."""
    mounts = tuple(mount for mount in spec.mounts if not isinstance(mount, CgroupTree))
    sysfs = next((k for k, mount in enumerate(mounts) if isinstance(mount, Sysfs)), None)
    if group and host.unified and spec.makes("cgroup") and sysfs is not None:
        mounts = (*mounts[: sysfs + 1], CgroupTree(), *mounts[sysfs + 1 :])
    return spec.replace(cgroup=group, mounts=mounts)


def parse(options: Mapping[str, Any], cpus: int) -> Limits:
    """All of them together. cpus: how many this host has. Values may be numbers, too. SpecError."""
    given = {name: options[name] for name in NAMES if options.get(name) is not None}
    if not given:
        return NONE
    memory = _memory(given, "memory")
    if memory and memory < LEAST_MEMORY:
        raise SpecError("--memory", f"{given['memory']}: 6m is the least")
    reservation = _memory(given, "memory_reservation")
    if memory and reservation > memory:
        raise SpecError("--memory-reservation", "it is more than --memory")
    return Limits(
        memory=memory,
        memory_swap=_swap(given, memory),
        memory_reservation=reservation,
        cpu_quota=_quota(str(given["cpus"]), cpus) if "cpus" in given else 0,
        cpu_period=PERIOD if "cpus" in given else 0,
        cpu_shares=_between(given, "cpu_shares", *SHARES),
        cpuset_cpus=_set(given, "cpuset"),
        cpuset_mems=_set(given, "cpuset_mems"),
        pids=_pids(given),
        blkio_weight=_between(given, "io_weight", *WEIGHTS),
        throttle_read_bps=_rates(given, "io_rbps", size),
        throttle_write_bps=_rates(given, "io_wbps", size),
        throttle_read_iops=_rates(given, "io_riops", _count),
        throttle_write_iops=_rates(given, "io_wiops", _count),
    )


NONE = Limits()


def size(option: str, text: str) -> int:
    """Bytes: `64m`, `64MiB`, `1.5g`, `65536`; a unit is a power of 1024. SpecError."""
    number = text.strip().lower()
    number = number.removesuffix("b").removesuffix("i")
    unit = number[-1:] if number[-1:] in UNITS and not number[-1:].isdigit() else ""
    digits = number.removesuffix(unit).strip()
    whole, dot, part = digits.partition(".")
    is_number = _is_digits(whole) and (not dot or _is_digits(part))
    value = int(whole) * UNITS[unit] if is_number else 0
    if is_number and part:
        value += int(part) * UNITS[unit] // 10 ** len(part)
    if not 0 < value <= MOST:
        raise SpecError(option, f"{text!r} is no size; write 64m, 1.5g or a number of bytes")
    return value


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 19


def _memory(given: Mapping[str, Any], name: str) -> int:
    return size(NAMES[name], str(given[name])) if name in given else 0


def _swap(given: Mapping[str, Any], memory: int) -> int:
    """Memory and swap together; -1 is no limit."""
    option = NAMES["memory_swap"]
    if "memory_swap" not in given:
        return 0
    text = str(given["memory_swap"])
    if not memory:
        raise SpecError(option, "it is memory and swap together: give --memory, too")
    if text == "-1":
        return -1
    total = size(option, text)
    if total < memory:
        raise SpecError(option, f"{text}: it is memory and swap together, at least --memory")
    return total


def _quota(text: str, cpus: int) -> int:
    """µs of CPU time in each period, from a number of CPUs; -1 is no limit, and 0 says so."""
    if text == "0":
        return -1
    whole, dot, part = text.partition(".")
    is_number = _is_digits(whole or "0") and (not dot or _is_digits(part)) and text not in ("", ".")
    quota = int(float(text) * PERIOD + 0.5) if is_number else 0
    if not PERIOD // 100 <= quota <= cpus * PERIOD:
        reason = f"{text!r}: from 0.01 to {cpus}, the CPUs of this host"
        raise SpecError("--cpus", reason)
    return quota


def _between(given: Mapping[str, Any], name: str, least: int, most: int) -> int:
    if name not in given:
        return 0
    text = str(given[name])
    if not _is_digits(text) or not least <= int(text) <= most:
        raise SpecError(NAMES[name], f"{text!r}: a number from {least} to {most}")
    return int(text)


def _pids(given: Mapping[str, Any]) -> int:
    """-1 is no limit, and so is 0, as docker has it."""
    if "pids" not in given:
        return 0
    text = str(given["pids"])
    if text in ("-1", "0", "max"):
        return -1
    if not _is_digits(text) or not 1 <= int(text) <= MOST_PIDS:
        raise SpecError("--pids", f"{text!r}: a number from 1 to {MOST_PIDS}, or -1 for no limit")
    return int(text)


def numbers(option: str, text: str) -> list[range]:
    """`0-2,4` (cpuset(7), "List format"). SpecError."""
    found = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not (_is_digits(first) and _is_digits(last)) or not int(first) <= int(last) <= LAST_CPU:
            raise SpecError(option, f"{text!r}: write 0-2,4")
        found.append(range(int(first), int(last) + 1))
    return found


def _set(given: Mapping[str, Any], name: str) -> str:
    if name not in given:
        return ""
    numbers(NAMES[name], str(given[name]))
    return str(given[name])


def _count(option: str, text: str) -> int:
    if not _is_digits(text) or not 0 < int(text) <= MOST:
        raise SpecError(option, f"{text!r} is no number of operations a second")
    return int(text)


def _rates(given: Mapping[str, Any], name: str, parse: Any) -> tuple[tuple[str, int], ...]:
    """`/dev/sda:1mb`: a device and what may go through it a second. The last of a device wins."""
    found: dict[str, int] = {}
    texts = given.get(name) or ()
    for text in (texts,) if isinstance(texts, str) else texts:
        device, colon, rate = text.rpartition(":")
        if not colon or not device.startswith("/"):
            raise SpecError(NAMES[name], f"{text!r}: write DEVICE:RATE, as /dev/sda:1mb")
        found[device] = parse(NAMES[name], rate)
    return tuple(found.items())


def parent(text: str | None) -> str:
    """--cgroup-parent: a path in each hierarchy, "" for the usual place. SpecError."""
    if text is None:
        return ""
    parts = text.strip("/").split("/")
    if any(part in ("", ".", "..") or not part.isprintable() for part in parts):
        raise SpecError("--cgroup-parent", f"{text!r}: a path of cgroups, without ..")
    return "/".join(parts)


def manager(text: str | None) -> str:
    """--cgroup-manager. SpecError."""
    found = MANAGERS[0] if text is None else text
    if found not in MANAGERS:
        raise SpecError("--cgroup-manager", f"{text!r} is none of {', '.join(MANAGERS)}")
    return found


def short_of(memory: int) -> str:
    """What is said of a container that was killed for want of memory."""
    return f"out of memory (limit {_words(memory)})" if memory else "out of memory"


def _words(bytes_: int) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if bytes_ % factor == 0 and bytes_ >= factor:
            return f"{bytes_ // factor} {unit}"
    return f"{bytes_} bytes"
