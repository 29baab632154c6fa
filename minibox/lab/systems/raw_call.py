# SPDX-License-Identifier: Apache-2.0
"""The raw call clone, and the C library's"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct

from minibox import describe
from minibox import syscalls as sc
from minibox.lab import Block, Run, experiment, function
from minibox.lab.memory import PAGE
from minibox.lab.words import error as name_of

# arch/*/Kconfig: CLONE_BACKWARDS, CLONE_BACKWARDS2, CLONE_BACKWARDS3, or none of them.
ORDERS = {
    "the plain order": ("flags", "stack", "ptid", "ctid", "tls"),
    "CLONE_BACKWARDS": ("flags", "stack", "ptid", "tls", "ctid"),
    "CLONE_BACKWARDS2": ("stack", "flags", "ptid", "ctid", "tls"),
    "CLONE_BACKWARDS3": ("flags", "stack", "stack_size", "ptid", "ctid", "tls"),
}
BY_MACHINE = {
    "CLONE_BACKWARDS": "aarch64 armv6l armv7l i386 i686 mips mips64 ppc ppc64 ppc64le riscv64",
    "CLONE_BACKWARDS2": "s390 s390x",
    "CLONE_BACKWARDS3": "microblaze",
}
# Where things lie in the block: struct lab_bare of csrc/lab/bare.h first, in bytes; then words.
RESULT = struct.Struct("=qQii")
RESULT_AT, PTID, CTID, TLS = 48, 64, 65, 128
ENDED_BY_ITSELF, CODE = "by itself", 7
FLAGS = sc.CLONE_PARENT_SETTID | sc.CLONE_CHILD_SETTID | sc.CLONE_SETTLS


def expected_order() -> str:
    """The table's order for this machine."""
    machine = os.uname().machine
    rows = (order for order, machines in BY_MACHINE.items() if machine in machines.split())
    return next(rows, "the plain order")


EXPECTED = {
    "the raw call": {
        "the order here": expected_order(),
        "flags alone, no stack": "a child, like fork's",
        "the pid is returned": True,
    },
    "the library's": {
        "tids and TLS": "in their places",
        "the pid is returned": True,
        "its function's result": f"exit code {CODE}",
        "no function": "EINVAL",
        "no stack": "EINVAL",
    },
}


@experiment(
    FLAGS,
    source="clone(2), C library/kernel differences; kernel/fork.c SYSCALL_DEFINE5(clone)",
    expected=EXPECTED,
    runs={"the raw call": FLAGS, "the library's": FLAGS},
    order=6,
)
def raw_call(run: Run) -> None:
    """The order of the arguments of the raw call depends on the architecture; the C library's clone
    hides it, and wants a function and a stack.

    Each of the four orders that kernels have is tried in a process of its own: where the tid is at
    both places and the TLS register as asked, the order is right. A wrong one puts things at wrong
    places, or (flags and stack exchanged) gives the child a stack that is none; it has memory of
    its own and ends at once. The raw call goes on in both processes behind itself, and without a
    stack the child uses a copy of its parent's, as after fork. The library's begins the child in a
    function, which needs a stack to begin on.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a try may crash
    if run.name == "the raw call":
        found = [name for name in ORDERS if _tried(run, name)]
        run.saw("the order here", " and ".join(found) or "none of these")
        _plain(run)
    else:
        _library(run)


def _tried(run: Run, name: str) -> bool:
    """Is it the right order?"""
    with Block(shared=True) as block:
        values = {
            "flags": run.flags | signal.SIGCHLD,
            "stack": 0,
            "stack_size": 0,
            "ptid": block.address + 4 * PTID,
            "ctid": block.address + 4 * CTID,
            "tls": block.address + TLS * 4,
        }
        _call(run, block, [values[word] for word in ORDERS[name]])
        pid, tls, tid, status = RESULT.unpack_from(block.memory, RESULT_AT)
        right = [
            *(["ptid"] if tid and block.word(PTID) == tid else []),
            *(["ctid"] if tid and block.word(CTID) == tid else []),
            *(["tls"] if tls == values["tls"] else []),
        ]
        placed = " ".join(right) or "nothing"
        run.saw(f"{name}: at its place", placed)
        run.saw(f"{name}: how it ended", _ended(pid, status))
        return right == ["ptid", "ctid", "tls"] and pid == tid


def _plain(run: Run) -> None:
    """Flags are the first word but on s390, where the stack, of which there is none, is."""
    with Block(shared=True) as block:
        words = [signal.SIGCHLD, 0]
        _call(run, block, words[::-1] if expected_order() == "CLONE_BACKWARDS2" else words)
        pid, _, tid, _ = RESULT.unpack_from(block.memory, RESULT_AT)
        run.saw("flags alone, no stack", "a child, like fork's" if pid > 0 else name_of(-pid))
        run.saw("the pid is returned", pid == tid)


def _call(run: Run, block: Block, arguments: list[int]) -> None:
    """A child of ours makes the call, so that what it breaks is not ours."""
    struct.pack_into(f"={len(arguments)}Q", block.memory, 0, *arguments)
    bare = sc.call(function("lab_bare"), block.pointer(0, f"[{', '.join(map(hex, arguments))}]"))
    with run.clone([bare, sc.gate()], 0) as child:
        child.arrived()


def _ended(pid: int, status: int) -> str:
    if pid < 0:
        return name_of(-pid)
    if os.WIFSIGNALED(status):
        return describe.signal_name(os.WTERMSIG(status))
    return ENDED_BY_ITSELF


def _library(run: Run) -> None:
    with Block(PAGE * 5, shared=True) as block:
        tls = block.address + TLS * 4
        child = function("lab_bare_child")
        top = block.address + block.size
        pid, code = _clone(run, child, top, block, tls)
        _, seen, tid, _ = RESULT.unpack_from(block.memory, RESULT_AT)
        is_right = block.word(PTID) == block.word(CTID) == tid and seen == tls
        run.saw("tids and TLS", "in their places" if is_right else "elsewhere")
        run.saw("the pid is returned", pid == tid)
        run.saw("its function's result", f"exit code {code}")
        run.saw("no function", name_of(-_clone(run, 0, top, block, tls)[0]))
        run.saw("no stack", name_of(-_clone(run, child, 0, block, tls)[0]))


def _clone(run: Run, child: int, top: int, block: Block, tls: int) -> tuple[int, int]:
    """clone of the C library, with its one order: the pid or -errno, and the exit code."""
    clone = ctypes.CDLL(None, use_errno=True).clone
    pointer, ptid, ctid = (ctypes.c_void_p(block.address + at) for at in (0, 4 * PTID, 4 * CTID))
    flags = run.flags | signal.SIGCHLD
    pid = clone(ctypes.c_void_p(child), ctypes.c_void_p(top), ctypes.c_int(flags), pointer, ptid,
                ctypes.c_void_p(tls), ctid)  # fmt: skip
    result = pid if pid >= 0 else -ctypes.get_errno()
    words = ("function" if child else "NULL", "stack" if top else "NULL")
    run.called(f"clone({', '.join(words)}, {flags:#x}, argument, &ptid, &tls, &ctid)", result)
    if pid < 0:
        return result, 0
    return pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
