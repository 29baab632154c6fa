# SPDX-License-Identifier: Apache-2.0
"""The plan: a container as a table of system calls, and the table as one block of bytes.

A Plan is plain data: it can be printed (describe.py), compared, cached and run (core.py). The
block that `Plan.encode` makes is self-contained: every address in it counts from its own first
byte. csrc/minibox.h declares the same structs; the two must agree, and a test compares them.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MAGIC = 0x31784F42
STACK = 16384
HEAD = struct.Struct("=12I3Q4I2i12sIiI")
OP = struct.Struct("=iBBh3HH6Q")
EXPECT_ZERO, RETRY = 1, 2
# Where the stage's argument, the arena's fd in decimal, lies in the head.
ARENA_FD = 96

# The steps that are no system call, with their op numbers.
GATE, STORE, FORK, INIT, MONITOR, NETLINK = "gate", "store", "fork", "init", "monitor", "netlink"
CALL = "call"
STEPS = {GATE: -1, STORE: -2, FORK: -3, INIT: -4, MONITOR: -5, NETLINK: -6, CALL: -7}


class Slot(str):
    """The name of a place that keeps an fd: the result of an earlier op, or an input of launch."""

    __slots__ = ()


class Address(int):
    """An address in the program's own memory, and how it is shown."""

    text: str

    def __new__(cls, value: int, text: str) -> Address:
        made = super().__new__(cls, value)
        made.text = text
        return made


class Memory:
    """Bytes in the arena that a call gets the address of, with the pointers that lie in them.

    data: the bytes. pointers: (offset in data, what is pointed at), each 8 bytes wide.
    text: how strace would show it. The same object is encoded once, however often it is used.
    """

    __slots__ = ("data", "pointers", "text")

    def __init__(
        self, data: bytes, text: str = "", pointers: tuple[tuple[int, bytes | Memory], ...] = ()
    ) -> None:
        self.data = data
        self.text = text
        self.pointers = pointers


class Blank(Memory):
    """Bytes that launch may replace by as many others, so that one encoded plan serves containers
    that differ in nothing else. name: by which launch knows them."""

    __slots__ = ("name",)

    def __init__(self, name: str, data: bytes, text: str = "") -> None:
        super().__init__(data, text)
        self.name = name


class Struct(Memory):
    """A struct of integers. fields: (name, value, the kind describe.py shows it as)."""

    __slots__ = ("fields",)

    def __init__(self, layout: str, *fields: tuple[str, int, str]) -> None:
        super().__init__(struct.pack(layout, *[value for _, value, _ in fields]))
        self.fields = fields


class Strings(Memory):
    """A NULL-ended array of pointers to strings: argv or envp."""

    __slots__ = ("items",)

    def __init__(self, items: Iterable[bytes]) -> None:
        self.items = tuple(items)
        size = len(self.items)
        super().__init__(
            bytes(8 * (size + 1)), "", tuple(zip(range(0, 8 * size, 8), self.items, strict=True))
        )


class ArenaFd(Memory):
    """The arena's own fd as a decimal string; launch writes it, the stage reads it."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(b"", '"<arena fd>"')


class Offset(Memory):
    """An address inside another Memory."""

    __slots__ = ("at", "memory")

    def __init__(self, memory: Memory, at: int, text: str) -> None:
        super().__init__(b"", text)
        self.memory = memory
        self.at = at


class Op:
    """One row of the table.

    call: the system call's name, or one of STEPS. number: its number on this architecture.
    args: int, bytes (a string), Memory, Slot, or None for NULL; at most six.
    to: the slot that keeps the result. ok: errnos (at most three) that are no failure here.
    why: what the op is for. origin: the part of the Spec it came from.
    expect_zero: a positive result is a failure too. retry: EAGAIN means "again".
    """

    __slots__ = ("args", "call", "flags", "number", "ok", "origin", "to", "why")

    def __init__(
        self,
        call: str,
        number: int,
        args: tuple[int | bytes | Memory | Slot | None, ...],
        to: Slot | None = None,
        ok: tuple[int, ...] = (),
        why: str = "",
        origin: str = "",
        expect_zero: bool = False,
        retry: bool = False,
    ) -> None:
        self.call = call
        self.number = number
        self.args = args
        self.to = to
        self.ok = ok
        self.why = why
        self.origin = origin
        self.flags = (EXPECT_ZERO if expect_zero else 0) | (RETRY if retry else 0)

    def failing(self, number: int) -> Op:
        """The same op as a call that does not exist, so that it fails: for tests of failures."""
        return Op(self.call, number, self.args, self.to, (), self.why, self.origin)


class Image:
    """An encoded plan: the block of bytes and where to find things in it."""

    __slots__ = ("blanks", "blob", "n_before", "n_ops", "parents", "results", "size", "slots",
                 "slots_at", "times")  # fmt: skip

    def __init__(
        self,
        blob: bytes,
        n_ops: int,
        n_before: int,
        results: int,
        times: int,
        slots: dict[str, int],
        slots_at: int,
        parents: tuple[int, ...],
        blanks: dict[str, int],
    ) -> None:
        self.blob = blob
        self.n_ops = n_ops
        self.n_before = n_before
        self.results = results
        self.times = times
        self.slots = slots
        self.slots_at = slots_at
        self.parents = parents  # the slots that the parent's ops fill
        self.blanks = blanks  # where they are
        # The stack needs whole pages that share nothing with the table.
        self.size = (len(blob) + STACK + 8191) // 4096 * 4096


class Plan:
    """A whole container: what the parent calls before clone, clone's flags, what the child calls.

    staged: the child execs the static init first, which runs the rest with memory of its own.
    uid_map, gid_map: what the parent writes into /proc/PID/… before it opens the gate, or b"".
    reset_signals: the child begins with every signal at its default.
    """

    __slots__ = ("before", "flags", "gid_map", "ops", "reset_signals", "staged", "uid_map")

    def __init__(
        self,
        before: tuple[Op, ...],
        flags: int,
        ops: tuple[Op, ...],
        *,
        staged: bool = False,
        uid_map: bytes = b"",
        gid_map: bytes = b"",
        reset_signals: bool = True,
    ) -> None:
        self.before = before
        self.flags = flags
        self.ops = ops
        self.staged = staged
        self.uid_map = uid_map
        self.gid_map = gid_map
        self.reset_signals = reset_signals

    @property
    def steps(self) -> tuple[Op, ...]:
        """All ops in the order in which they run."""
        return self.before + self.ops

    def failing_at(self, step: int, number: int) -> Plan:
        """This plan with step `step` (from 0) made to fail: for tests of failures."""
        steps = list(self.steps)
        steps[step] = steps[step].failing(number)
        split = len(self.before)
        return Plan(
            tuple(steps[:split]),
            self.flags,
            tuple(steps[split:]),
            staged=self.staged,
            uid_map=self.uid_map,
            gid_map=self.gid_map,
            reset_signals=self.reset_signals,
        )

    def mapped(self, uid_map: bytes, gid_map: bytes) -> Plan:
        """This plan with other ids outside: no step of it knows them."""
        return Plan(
            self.before,
            self.flags,
            self.ops,
            staged=self.staged,
            uid_map=uid_map,
            gid_map=gid_map,
            reset_signals=self.reset_signals,
        )

    def encode(self, *, trace: bool = False) -> Image:
        """The block of bytes that csrc/ runs. With `trace` every op leaves the time of its end."""
        return Encoder(self, trace).image


class Encoder:
    """Lays a plan out: head | ops | results | times | slots | data | relocations."""

    def __init__(self, plan: Plan, trace: bool) -> None:
        steps = plan.steps
        self.slots: dict[str, int] = {}
        self.known: dict[bytes | int, int] = {}
        self.relocations: list[int] = []
        self.blanks: dict[str, int] = {}
        self.names = tuple(
            self.slot(arg) for op in steps for arg in (*op.args, op.to) if isinstance(arg, Slot)
        )
        n = len(steps)
        results = HEAD.size + OP.size * n
        times = results + 8 * n
        slots_at = times + 8 * n if trace else times
        self.start = (slots_at + 4 * len(self.slots) + 7) // 8 * 8
        self.data = bytearray()
        ops = b"".join([self.op(op) for op in steps])
        relocations_at = self.place(struct.pack(f"={len(self.relocations)}I", *self.relocations))
        head = HEAD.pack(
            MAGIC,
            0,
            HEAD.size,
            n,
            len(plan.before),
            results,
            times if trace else 0,
            slots_at,
            len(self.slots),
            relocations_at,
            len(self.relocations),
            plan.reset_signals,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            -1,
            b"",
            0,
            0,
            0,
        )
        middle = bytes(8 * n) + (bytes(8 * n) if trace else b"") + b"\xff" * (4 * len(self.slots))
        pad = bytes(self.start - HEAD.size - len(ops) - len(middle))
        blob = b"".join((head, ops, middle, pad, self.data))
        self.image = Image(
            blob,
            n,
            len(plan.before),
            results,
            times if trace else 0,
            self.slots,
            slots_at,
            tuple(self.slots[op.to] for op in plan.before if op.to is not None),
            self.blanks,
        )

    def slot(self, name: Slot) -> int:
        return self.slots.setdefault(name, len(self.slots))

    def place(self, data: bytes) -> int:
        self.data += bytes(-len(self.data) % 8)
        offset = self.start + len(self.data)
        self.data += data
        return offset

    def string(self, text: bytes) -> int:
        if text not in self.known:
            self.known[text] = self.start + len(self.data)
            self.data += text + b"\0"
        return self.known[text]

    def address(self, target: bytes | Memory) -> int:
        """The offset of `target` in the arena, which is put there if it is not yet."""
        if isinstance(target, bytes):
            return self.string(target)
        if isinstance(target, Offset):
            return self.address(target.memory) + target.at
        if isinstance(target, ArenaFd):
            return ARENA_FD
        if id(target) not in self.known:
            data = bytearray(target.data)
            for at, inner in target.pointers:
                struct.pack_into("=Q", data, at, self.address(inner))
            self.known[id(target)] = offset = self.place(bytes(data))
            self.relocations += [offset + at for at, _ in target.pointers]
            if isinstance(target, Blank):
                self.blanks[target.name] = offset
        return self.known[id(target)]

    def op(self, op: Op) -> bytes:
        values = [0] * 6
        pointers = slots = 0
        for k, arg in enumerate(op.args):
            if isinstance(arg, int):
                values[k] = arg & 0xFFFFFFFFFFFFFFFF
            elif isinstance(arg, Slot):
                values[k] = self.slots[arg]
                slots |= 1 << k
            elif arg is not None:
                values[k] = self.address(arg)
                pointers |= 1 << k
        ok = (*op.ok, 0, 0, 0)[:3]
        to = -1 if op.to is None else self.slots[op.to]
        return OP.pack(op.number, pointers, slots, to, *ok, op.flags, *values)
