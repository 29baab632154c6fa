# SPDX-License-Identifier: Apache-2.0
"""Limits written into the files of a cgroup in one tree, and what is said when one is refused."""

from __future__ import annotations

import os
from errno import EACCES, EBUSY, EINVAL, ERANGE

from minibox.errors import MiniboxError, SetupError, SpecError, Unsupported
from minibox.resources import controls
from minibox.resources.hierarchies import put, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.resources.controls import Write
    from minibox.spec import Limits

    Undo = list[tuple[str, str]]


def write(
    path: str,
    version: int,
    controllers: tuple[str, ...],
    limits: Limits,
    undo: Undo | None = None,
) -> None:
    """Those of the limits that belong to these controllers, into the cgroup `path`. undo: gets
    what was there before. SetupError, SpecError, Unsupported."""
    names = tuple(controls.OLD.get(word, word) for word in controllers)
    wanted = list(controls.writes(limits, version, (*controllers, *names)))
    for one in wanted if undo is None else _ordered(path, wanted):
        file = next(
            (f"{path}/{name}" for name in one.files if os.path.exists(f"{path}/{name}")), ""
        )
        if not file:
            if one.missing:
                raise Unsupported(f"{one.option}: {one.files[0]}: {one.missing}")
            continue
        before = "" if undo is None else _before(file, one.value)
        try:
            put(file, one.value)
        except OSError as error:
            raise _refusal(path, one, error) from None
        if undo is not None:
            undo.append((file, before))


def _before(file: str, value: str) -> str:
    """What has to be written to have it as it is now: of a device, its own line."""
    now = text(file).strip()
    device, space, rate = value.partition(" ")
    if not space or ":" not in device:
        return now.removeprefix("default ")
    line = next((line for line in now.splitlines() if line.startswith(f"{device} ")), "")
    key, equals, _ = rate.partition("=")
    return line or (f"{device} {key}=max" if equals else f"{device} 0")


def _ordered(path: str, wanted: list[Write]) -> list[Write]:
    """v1: memory and swap together are never less than memory, not for a moment."""
    total = text(f"{path}/memory.memsw.limit_in_bytes").strip()
    memory = next((one for one in wanted if one.files == ("memory.limit_in_bytes",)), None)
    if memory is None or not total or int(memory.value) <= int(total):
        return wanted
    both = next(one for one in wanted if one.files == ("memory.memsw.limit_in_bytes",))
    return [both, *[one for one in wanted if one is not both]]


def _refusal(path: str, one: Write, error: OSError) -> MiniboxError:
    number, hint = error.errno or 0, ""
    if number == EBUSY and one.controller == "memory":
        hint = "it uses more than that now"
    elif one.controller == "cpuset" and number in (EINVAL, EACCES, ERANGE):
        have = text(f"{os.path.dirname(path)}/{one.files[0]}").strip()
        hint = f"the cgroup above has {have}" if have else ""
    return SetupError(number, f"{one.option}: write {one.value!r} to {error.filename}", hint=hint)


def check(limits: Limits) -> None:
    """Are the CPUs there? v2 would take others without a word. SpecError."""
    if not limits.cpuset_cpus:
        return
    from minibox.limits import numbers

    present = text("/sys/devices/system/cpu/online").strip()
    have = {n for one in numbers("--cpuset", present) for n in one} if present else None
    want = {n for one in numbers("--cpuset", limits.cpuset_cpus) for n in one}
    if have is not None and not want <= have:
        raise SpecError("--cpuset", f"{limits.cpuset_cpus}: the CPUs of this host are {present}")
