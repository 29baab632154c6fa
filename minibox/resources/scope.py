# SPDX-License-Identifier: Apache-2.0
"""--cgroup-manager systemd: the container's cgroup is a transient scope of systemd's, which then
knows about it and lets an ordinary user have one (org.freedesktop.systemd1(5), StartTransientUnit;
systemd.resource-control(5)). On cgroup v2 alone. systemd removes a scope when nobody is in it.
"""

from __future__ import annotations

import os
import time

from minibox.errors import SetupError, SpecError, Unsupported
from minibox.resources import applying, controls, hierarchies
from minibox.resources.cgroup import Cgroup, Part, of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.spec import Cgroup as Asked
    from minibox.spec import Limits

RUNNING = "/run/systemd/system"  # sd_booted(3)
BUSCTL = ("/usr/bin/busctl", "/bin/busctl", "/run/current-system/sw/bin/busctl")
MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
INTERFACE = "org.freedesktop.systemd1.Manager"
START, ATTACH = ("StartTransientUnit", "ssa(sv)a(sa(sv))"), "AttachProcessesToUnit"
PATIENCE = 5.0  # seconds for systemd to do it
IN_THE_WAY = "was already loaded"  # the scope of the start before is not quite gone
CONTROLLERS = ("memory", "cpu", "cpuset", "pids", "io")
THROTTLES = {
    "throttle_read_bps": "IOReadBandwidthMax",
    "throttle_write_bps": "IOWriteBandwidthMax",
    "throttle_read_iops": "IOReadIOPSMax",
    "throttle_write_iops": "IOWriteIOPSMax",
}


class Scope(Cgroup):
    """A scope that begins to be when the first process is put into it."""

    def __init__(self, unit: str, slice_: str, limits: Limits, point: str, is_user: bool) -> None:
        path = f"{point}{place(slice_, os.geteuid() if is_user else None)}/{unit}"
        super().__init__([Part(2, CONTROLLERS, path)], limits)
        self._unit, self._slice, self._is_user = unit, slice_, is_user

    def admit(self, pid: int) -> None:
        """Have systemd put the process into it, and wait until it has. SetupError."""
        argv = start(_busctl(), self._unit, self._slice, pid, self.limits, is_user=self._is_user)
        deadline = time.monotonic() + PATIENCE
        while said := _call(argv):
            if IN_THE_WAY not in said or time.monotonic() > deadline:
                raise SetupError(5, f"--cgroup-manager systemd: {self._unit}", reason=said)
            time.sleep(0.02)
        while not of(pid).get("", "").endswith(f"/{self._unit}"):
            if time.monotonic() > deadline:
                raise SetupError(110, f"--cgroup-manager systemd: {self._unit}")
            time.sleep(0.002)
        # What systemd has no property for; the rest is there already.
        for part in self.parts:
            self.write(part)


def attach(path: str, pid: int) -> None:
    """Have systemd put one more process into the scope at `path`, which may lie where the caller
    can put nobody. SetupError."""
    unit = os.path.basename(path)
    how = [*_manager(is_user=os.geteuid() != 0), ATTACH, "ssau", unit, "", "1", str(pid)]
    said = _call([_busctl(), *how])
    if said:
        raise SetupError(5, f"put a process into {unit}", reason=said)


def _call(argv: list[str]) -> str:
    """Run busctl: what it says when it fails."""
    import subprocess

    words = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
    env = {word: os.environ[word] for word in words if word in os.environ}
    done = subprocess.run(argv, capture_output=True, env=env, timeout=60)
    said = done.stderr.decode(errors="replace").strip() or f"status {done.returncode}"
    return said if done.returncode else ""


def _manager(*, is_user: bool) -> list[str]:
    return [*(["--user"] if is_user else []), "call", *MANAGER, INTERFACE]


def make(name: str, asked: Asked) -> Scope:
    """The scope minibox-NAME.scope, of which nothing is there yet. Unsupported, SpecError."""
    option = "--cgroup-manager systemd"
    applying.check(asked.limits)
    if asked.devices:
        raise Unsupported(f"{asked.devices}: limiting devices needs --cgroup-manager cgroupfs")
    if not os.path.isdir(RUNNING):
        raise Unsupported(f"{option}: no systemd runs here ({RUNNING} is missing)")
    trees = hierarchies.of_this_process()
    if not trees or trees[0].version != 2 or len(trees) > 1:
        raise Unsupported(f"{option}: it needs cgroup v2 alone (minibox doctor)")
    _busctl()
    is_user = os.geteuid() != 0
    slice_ = asked.parent or ("user.slice" if is_user else "minibox.slice")
    if "/" in slice_ or not slice_.endswith(".slice"):
        raise SpecError("--cgroup-parent", f"{slice_!r}: systemd wants the name of a slice")
    return Scope(f"minibox-{name}.scope", slice_, asked.limits, trees[0].point, is_user)


def _busctl() -> str:
    for path in BUSCTL:
        if os.access(path, os.X_OK):
            return path
    raise Unsupported(f"--cgroup-manager systemd: busctl is missing ({BUSCTL[0]})")


def place(slice_: str, uid: int | None) -> str:
    """The path of a slice: a-b.slice lies in a.slice (systemd.slice(5)); a user's below the user's
    manager."""
    top = "" if uid is None else f"/user.slice/user-{uid}.slice/user@{uid}.service"
    parts = slice_.removesuffix(".slice").split("-")
    return top + "".join(f"/{'-'.join(parts[: k + 1])}.slice" for k in range(len(parts)))


def start(
    busctl: str, unit: str, slice_: str, pid: int, limits: Limits, *, is_user: bool
) -> list[str]:
    """The command line that asks for the scope."""
    found = [
        ["Description", "s", f"minibox container {unit.removesuffix('.scope')}"],
        ["Slice", "s", slice_],
        ["PIDs", "au", "1", str(pid)],
        ["Delegate", "b", "true"],
        ["CollectMode", "s", "inactive-or-failed"],
        *properties(limits),
    ]
    flat = [word for row in found for word in row]
    how = _manager(is_user=is_user)
    return [busctl, *how, *START, unit, "fail", str(len(found)), *flat, "0"]


NO_LIMIT = (1 << 64) - 1


def properties(limits: Limits) -> list[list[str]]:
    """Limits as systemd's properties: name, signature, value."""
    total = limits.memory_swap or 2 * limits.memory
    swap = NO_LIMIT if total < 0 else total - limits.memory
    second = limits.cpu_quota * 1_000_000 // (limits.cpu_period or 1)
    shares, weight = limits.cpu_shares, limits.blkio_weight
    numbers = (
        ("MemoryMax", limits.memory, limits.memory),
        ("MemorySwapMax", limits.memory, swap),
        ("MemoryLow", limits.memory_reservation, limits.memory_reservation),
        ("TasksMax", limits.pids, limits.pids if limits.pids > 0 else NO_LIMIT),
        ("CPUQuotaPerSecUSec", limits.cpu_quota, second if second > 0 else NO_LIMIT),
        ("CPUWeight", shares, controls.weight(shares) if shares else 0),
        ("IOWeight", weight, controls.io_weight(weight)),
    )
    found = [[name, "t", str(value)] for name, asked, value in numbers if asked]
    sets = (("AllowedCPUs", limits.cpuset_cpus), ("AllowedMemoryNodes", limits.cpuset_mems))
    for name, text in sets:
        if text:
            mask = _mask(text)
            found.append([name, "ay", str(len(mask)), *map(str, mask)])
    for field, name in THROTTLES.items():
        pairs = getattr(limits, field)
        if pairs:
            words = [word for path, rate in pairs for word in (path, str(rate))]
            found.append([name, "a(st)", str(len(pairs)), *words])
    return found


def _mask(text: str) -> bytes:
    """A list of CPUs as a set of bits, the lowest first."""
    from minibox.limits import numbers

    bits = sum(1 << n for one in numbers("--cpuset", text) for n in one)
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")
