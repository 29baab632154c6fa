# SPDX-License-Identifier: Apache-2.0
"""The plan as data: encoding, and its agreement with the C header."""

import struct

import pytest

from minibox import syscalls as sc
from minibox._core import ffi
from minibox.numbers import NUMBERS
from minibox.plan import ARENA_FD, HEAD, MAGIC, OP, ArenaFd, Memory, Offset, Plan, Slot, Strings


def test_the_structs_are_those_of_the_header():
    assert ffi.sizeof("struct mb_plan") == HEAD.size
    assert ffi.sizeof("struct mb_op") == OP.size
    assert ffi.offsetof("struct mb_plan", "arena_fd") == ARENA_FD


def fields(kind, blob, at=0):
    value = ffi.from_buffer(
        f"struct {kind} *", bytearray(blob[at : at + ffi.sizeof(f"struct {kind}")])
    )
    return value


def test_c_reads_what_python_packs():
    op = sc.openat2(Slot("root"), b"etc", sc.open_how(1, 2), to=Slot("x"), ok=(2, 17))
    image = Plan((), 0, (op,)).encode()
    head = fields("mb_plan", image.blob)
    assert (head.magic, head.n_ops, head.n_before, head.status) == (MAGIC, 1, 0, -1)
    row = fields("mb_op", image.blob, head.ops)
    assert row.nr == NUMBERS["openat2"]
    assert (row.slots, row.pointers) == (0b0001, 0b0110)
    assert list(row.tolerated) == [2, 17, 0]
    assert row.result == image.slots["x"]
    text = image.blob[row.argument[1] :].split(b"\0")[0]
    assert text == b"etc"
    assert image.blob[row.argument[2] :][:24] == struct.pack("=QQQ", 1, 0, 2)


def test_pointers_in_memory_are_relocated():
    argv = Strings((b"a", b"bc"))
    image = Plan((), 0, (sc.execve(b"/a", argv, argv),)).encode()
    head = fields("mb_plan", image.blob)
    places = struct.unpack_from(f"={head.n_relocations}I", image.blob, head.relocations)
    found = [struct.unpack_from("=Q", image.blob, place)[0] for place in places]
    assert [image.blob[at:].split(b"\0")[0] for at in found] == [b"a", b"bc"]


def test_the_same_memory_is_encoded_once():
    pollfd = Memory(bytes(8), "x")
    ops = (sc.store(Slot("a"), Offset(pollfd, 4, "&x")), sc.ppoll_now(Slot("a"), pollfd))
    image = Plan((), 0, ops).encode()
    first = fields("mb_op", image.blob, HEAD.size)
    second = fields("mb_op", image.blob, HEAD.size + OP.size)
    assert first.argument[1] == second.argument[0] + 4


def test_the_arenas_fd_is_an_address_in_the_head():
    argv = Memory(bytes(16), "", ((0, ArenaFd()),))
    image = Plan((), 0, (sc.execveat(Slot("stage"), argv, Strings(())),)).encode()
    head = fields("mb_plan", image.blob)
    (place,) = struct.unpack_from("=1I", image.blob, head.relocations)
    assert struct.unpack_from("=Q", image.blob, place)[0] == ARENA_FD


def test_encoding_is_deterministic_and_holds_no_object():
    def make():
        return Plan((), 0, (sc.mkdirat(Slot("r"), b"x", 0o755), sc.exit_(3))).encode().blob

    assert make() == make()


def test_times_are_there_only_with_a_trace():
    plan = Plan((), 0, (sc.exit_(0),))
    assert plan.encode().times == 0
    assert plan.encode(trace=True).times > 0


@pytest.mark.parametrize("step", [0, 1])
def test_a_step_can_be_made_to_fail(step):
    plan = Plan((sc.close(9),), 0, (sc.chdir(b"/", ok=(2,)),)).failing_at(step, 4095)
    assert plan.steps[step].number == 4095
    assert plan.steps[step].ok == ()
    assert (len(plan.before), len(plan.ops)) == (1, 1)
