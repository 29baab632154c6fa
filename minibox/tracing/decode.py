# SPDX-License-Identifier: Apache-2.0
"""Arguments of calls: numbers and pointers into a task's memory become names and texts.

A program may pass whatever it likes: what cannot be read is shown as the number it is.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterable
from typing import Any

from minibox import describe
from minibox import syscalls as sc
from minibox.tracing import calls, stops
from minibox.tracing.stops import Stop

# struct clone_args of include/uapi/linux/sched.h, and mount_attr of mount.h.
CLONE_ARGS = (
    *("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls"),
    *("set_tid", "set_tid_size", "cgroup"),
)
MOUNT_ATTR = (
    *(("attr_set", "|MOUNT_ATTR_"), ("attr_clr", "|MOUNT_ATTR_"), ("propagation", "|MS_")),
    ("userns_fd", "fd"),
)
CSIGNAL = 0xFF
# Old programs put this before the flags of mount(2).
MS_MGC_VAL, MS_MGC_MSK = 0xC0ED0000, 0xFFFF0000
VFORK = sc.CLONE_VFORK | sc.CLONE_VM
SIGCHLD = 17
# Of a command's arguments so many are shown in a line, and so much of each; data have all of these.
SHOWN, LENGTH, MOST = 12, 64, 256
# include/linux/errno.h: the call is made again, or ends with EINTR; the program sees none of them.
RESTARTS = range(512, 518)
WITH_TEXT = (sc.FSCONFIG_SET_STRING, 3, 4)


class Call:
    """A call in progress. args: its arguments as plain data; flags: its CLONE_* bits; child: the
    tid of the child that it has made."""

    def __init__(self, stop: Stop) -> None:
        abi = calls.ARCHITECTURES[stop.arch][0]
        self.name = calls.NUMBERED[stop.arch, stop.number]
        self.tid = stop.tid
        self.abi = "x32" if abi == "x86-64" and stop.number & calls.X32 else abi
        self.word = 8 if self.abi in ("x86-64", "arm64") else 4
        self.args: dict[str, Any] = {}
        self.flags = 0
        self.child = 0
        self._texts: list[str] = []
        if self.name in calls.FAMILY:
            self._clone(stop)
        else:
            self._plain(stop, calls.CALLS[self.name][4])
            self.flags = stop.args[0] if self.name == "unshare" else 0

    @property
    def text(self) -> str:
        """As strace shows it, without the result."""
        abi = "" if self.abi == NATIVE else f"/* {self.abi} */ "
        if self.name in calls.FAMILY:
            shown = ", ".join(self._clone_items())
            if self.name == "clone3" and "flags" in self.args:
                shown = f"{{{shown}}}, {self.args['size']}"
        else:
            shown = ", ".join(self._texts)
        return f"{abi}{self.name}({shown})"

    def _plain(self, stop: Stop, parameters: str) -> None:
        for k, parameter in enumerate(parameters.split()):
            name, _, kind = parameter.partition(":")
            if kind == "value":  # of fsconfig
                kind = "path" if stop.args[k - 2] in WITH_TEXT else "pointer"
            data, text = self._argument(kind, stop.args[k])
            self.args[name] = data
            self._texts.append(text)

    def _argument(self, kind: str, value: int) -> tuple[Any, str]:
        """An argument as data and as text."""
        prefix, rest = kind[0], kind[1:]
        if prefix == "|":
            return _flags(value & 0xFFFFFFFF, rest)
        if prefix == "=":
            name = calls.one_of(value, rest)
            return name, name
        kinds: dict[str, Callable[[int], tuple[Any, str]]] = {
            "path": self._path,
            "fd": self._fd,
            "strings": self._strings,
            "count": self._count,
            "attr": self._attr,
            "pointer": lambda value: (value, _pointer(value)),
            "int": lambda value: (value, str(value)),
        }
        return kinds[kind](value)

    def _path(self, address: int) -> tuple[str | None, str]:
        if address == 0:
            return None, "NULL"
        data = stops.text(self.tid, address)
        if data is None:
            return hex(address), hex(address)
        return plain(data), describe.quoted(data)

    def _fd(self, value: int) -> tuple[int, str]:
        fd = struct.unpack("=i", struct.pack("=I", value & 0xFFFFFFFF))[0]
        if fd == sc.AT_FDCWD:
            return fd, "AT_FDCWD"
        try:
            path = os.readlink(f"/proc/{self.tid}/fd/{fd}")
        except OSError:
            return fd, str(fd)
        return fd, f"{fd}<{path}>"

    def _pointers(self, address: int) -> Iterable[int]:
        """Those of an array up to NULL."""
        for k in range(MOST * 16 if address else 0):
            data = stops.read(self.tid, address + k * self.word, self.word)
            pointer = int.from_bytes(data, "little")
            if len(data) < self.word or pointer == 0:
                return
            yield pointer

    def _strings(self, address: int) -> tuple[list[str] | str | None, str]:
        if address == 0 or not stops.read(self.tid, address, self.word):
            return (hex(address), hex(address)) if address else (None, "NULL")
        found: list[bytes] = []
        for pointer in self._pointers(address):
            if len(found) == MOST:
                break
            found.append(stops.text(self.tid, pointer) or b"")
        shown = [
            describe.quoted(item[:LENGTH]) + ("..." if len(item) > LENGTH else "")
            for item in found[:SHOWN]
        ]
        more = ["..."] if len(found) > SHOWN else []
        return [plain(item) for item in found], f"[{', '.join(shown + more)}]"

    def _count(self, address: int) -> tuple[int, str]:
        count = sum(1 for _ in self._pointers(address))
        return count, f"{_pointer(address)} /* {count} vars */"

    def _attr(self, address: int) -> tuple[Any, str]:
        data = stops.read(self.tid, address, 32)
        if len(data) < 32:
            return hex(address), _pointer(address)
        attr: dict[str, Any] = {}
        shown = []
        for (name, kind), value in zip(MOUNT_ATTR, struct.unpack("=4Q", data), strict=True):
            attr[name], text = self._argument(kind, value)
            if value:
                shown.append(f"{name}={text}")
        return attr, f"{{{', '.join(shown)}}}"

    # The clone family.

    def _clone(self, stop: Stop) -> None:
        raw = self._clone_args(stop)
        self.flags = raw.get("flags", 0)
        end = raw.get("exit_signal", 0)
        for name, value in raw.items():
            self.args[name] = value
        if "flags" in raw:
            self.args["flags"] = calls.flags(self.flags, "CLONE_")
            self.args["exit_signal"] = describe.signal_name(end) if end else 0

    def _clone_args(self, stop: Stop) -> dict[str, Any]:
        """The words of clone3(2), whichever call it is."""
        args = stop.args
        if self.name == "fork":
            return {"flags": 0, "exit_signal": SIGCHLD}
        if self.name == "vfork":
            return {"flags": VFORK, "exit_signal": SIGCHLD}
        if self.name == "clone3":
            return self._clone3_args(args[0], args[1])
        # Of the four orders of clone(2) these architectures have two.
        tls, child_tid = (4, 3) if stop.arch == calls.X86_64 else (3, 4)
        flags = args[0] & 0xFFFFFFFF
        word = "pidfd" if flags & sc.CLONE_PIDFD else "parent_tid"
        return {
            "flags": flags & ~CSIGNAL,
            word: args[2],
            "child_tid": args[child_tid],
            "exit_signal": flags & CSIGNAL,
            "stack": args[1],
            "tls": args[tls],
        }

    def _clone3_args(self, address: int, size: int) -> dict[str, Any]:
        data = stops.read(self.tid, address, min(size, 8 * len(CLONE_ARGS)))
        words = struct.unpack(f"={len(data) // 8}Q", data[: len(data) // 8 * 8])
        if not words:
            return {"args": address, "size": size}
        raw: dict[str, Any] = {
            "flags": 0,
            "exit_signal": 0,
            **dict(zip(CLONE_ARGS, words, strict=False)),
        }
        count = min(raw.get("set_tid_size", 0), 32)
        if raw.get("set_tid") and count:
            pids = stops.read(self.tid, raw["set_tid"], 4 * count)
            raw["set_tid"] = list(struct.unpack(f"={len(pids) // 4}i", pids[: len(pids) // 4 * 4]))
        return {**raw, "size": size}

    def made(self, child: int) -> None:
        """It has made a child, which stands still before its first step: what do the words hold?"""
        self.child = child
        for flag, name, tid in (
            (sc.CLONE_PIDFD, "pidfd", self.tid),
            (sc.CLONE_PARENT_SETTID, "parent_tid", self.tid),
            (sc.CLONE_CHILD_SETTID, "child_tid", child),
        ):
            data = stops.read(tid, self.args.get(name, 0), 4) if self.flags & flag else b""
            if len(data) == 4:
                self.args[f"{name}_holds"] = struct.unpack("=i", data)[0]

    def _clone_items(self) -> Iterable[str]:
        args = self.args
        if self.name in ("fork", "vfork"):
            return
        if "flags" not in args:
            yield from (_pointer(args["args"]), str(args["size"]))
            return
        yield f"flags={'|'.join(args['flags']) or 0}"
        for name, flags in (
            ("pidfd", sc.CLONE_PIDFD),
            ("child_tid", sc.CLONE_CHILD_SETTID | sc.CLONE_CHILD_CLEARTID),
            ("parent_tid", sc.CLONE_PARENT_SETTID),
        ):
            # Without its flag a word is not looked at, and clone(2)'s are what was in a register.
            if args.get(name) and (
                self.flags & flags or (self.name == "clone3" and name != "pidfd")
            ):
                holds = args.get(f"{name}_holds")
                yield f"{name}={hex(args[name])}" + ("" if holds is None else f" [{holds}]")
        yield f"exit_signal={args['exit_signal']}"
        yield f"stack={_pointer(args.get('stack', 0))}"
        if args.get("stack_size"):
            yield f"stack_size={hex(args['stack_size'])}"
        if args.get("tls") and (self.flags & sc.CLONE_SETTLS or self.name == "clone3"):
            yield f"tls={hex(args['tls'])}"
        if args.get("set_tid_size"):
            yield f"set_tid={args['set_tid']}, set_tid_size={args['set_tid_size']}"
        if self.flags & sc.CLONE_INTO_CGROUP:
            yield f"cgroup={self._fd(args.get('cgroup', 0))[1]}"


def _native() -> str:
    machine = os.uname().machine
    return {"x86_64": "x86-64", "aarch64": "arm64"}.get(machine, machine)


NATIVE = _native()


def plain(data: bytes) -> str:
    """Any bytes as text that every reader of JSON takes."""
    return data.decode(errors="backslashreplace")


def _flags(value: int, prefix: str) -> tuple[list[str], str]:
    names = calls.flags(value, prefix)
    if prefix == "MS_" and value & MS_MGC_MSK == MS_MGC_VAL:
        names = ["MS_MGC_VAL", *calls.flags(value & ~MS_MGC_MSK, prefix)]
    return names, "|".join(names) or "0"


def _pointer(address: int) -> str:
    return hex(address) if address else "NULL"


def result(value: int | None) -> str:
    """What a call returned, with the error's name; None: it never returned."""
    if value is None:
        return "?"
    if -4095 <= value < 0:
        name = errno.errorcode.get(-value, str(-value))
        return f"-1 {name} ({os.strerror(-value)})"
    return str(value)
