# SPDX-License-Identifier: Apache-2.0
"""The device cgroup: which nodes a container's processes may open, whatever nodes there are.

v1 has a list of allowed ones, v2 a program of eBPF that the kernel asks (cgroup-v1/devices and
cgroup-v2, "Device controller", in the kernel's documentation). It matters where the container's
root is the host's: a user namespace has no device nodes of its own anyway.
"""

from __future__ import annotations

import os
import struct

from minibox import core
from minibox.numbers import NUMBERS
from minibox.resources.hierarchies import put

ANY = -1
# (major, minor): what the /dev of a container has, and terminals (admin-guide/devices.txt).
ALLOWED = (
    *((1, 3), (1, 5), (1, 7), (1, 8), (1, 9)),  # null, zero, full, random, urandom
    *((5, 0), (5, 2), (136, ANY)),  # tty, ptmx, pts
)
# include/uapi/linux/bpf.h
PROG_LOAD, PROG_ATTACH = 5, 8
CGROUP_DEVICE_PROGRAM, CGROUP_DEVICE = 15, 6
ALLOW_MULTI = 2
DEV_CHAR = 2
ACCESS_MKNOD = 1
CONTEXT, TYPE, ACCESS, MAJOR, MINOR, RESULT = 1, 2, 3, 4, 5, 0
LOAD_WORD, AND, SHIFT_RIGHT, MOVE, COPY, UNEQUAL, EXIT = 0x61, 0x54, 0x74, 0xB7, 0xBC, 0x55, 0x95


def restrict(path: str, version: int) -> None:
    """Let the cgroup at `path` open the nodes of ALLOWED, and make any node. OSError."""
    if version == 1:
        write_list(path)
    else:
        attach(path)


def write_list(path: str) -> None:
    """cgroup v1: nothing, then what is allowed."""
    rows = [("devices.deny", "a"), ("devices.allow", "c *:* m"), ("devices.allow", "b *:* m")]
    for major, minor in ALLOWED:
        shown = "*" if minor == ANY else minor
        rows.append(("devices.allow", f"c {major}:{shown} rwm"))
    for name, text in rows:
        put(f"{path}/{name}", text)


def attach(path: str) -> None:
    """cgroup v2: the program; it goes with the cgroup, and others above it are asked as well."""
    program = assemble()
    code, licence = bytearray(program), bytearray(b"Apache-2.0\0")
    load = struct.pack(
        "=IIQQ", CGROUP_DEVICE_PROGRAM, len(program) // 8, *map(core.address, (code, licence))
    )
    fd = core.syscall(NUMBERS["bpf"], PROG_LOAD, load.ljust(128, b"\0"), 128)
    cgroup = -1
    try:
        cgroup = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        data = struct.pack("=IIII", cgroup, fd, CGROUP_DEVICE, ALLOW_MULTI)
        core.syscall(NUMBERS["bpf"], PROG_ATTACH, data, len(data))
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        for one in (fd, cgroup):
            if one >= 0:
                os.close(one)


def assemble() -> bytes:
    """struct bpf_insn[] over struct bpf_cgroup_dev_ctx: access_type (the access above the type),
    major, minor."""
    code = [
        _instruction(LOAD_WORD, TYPE, CONTEXT, 0, 0),
        _instruction(COPY, ACCESS, TYPE),
        _instruction(AND, TYPE, 0, 0, 0xFFFF),
        _instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        _instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        _instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
        # To make a node is not to open it.
        *_if(((ACCESS, ACCESS_MKNOD),)),
    ]
    for major, minor in ALLOWED:
        wanted = [(TYPE, DEV_CHAR), (MAJOR, major), (MINOR, minor)]
        code += _if(tuple(test for test in wanted if test[1] != ANY))
    code += [_instruction(MOVE, RESULT, 0, 0, 0), _instruction(EXIT)]
    return b"".join(code)


def _if(tests: tuple[tuple[int, int], ...]) -> list[bytes]:
    """Return 1 if all registers have these values."""
    code = [_instruction(MOVE, RESULT, 0, 0, 1), _instruction(EXIT)]
    for register, value in reversed(tests):
        code.insert(0, _instruction(UNEQUAL, register, 0, len(code), value))
    return code


def _instruction(code: int, dst: int = 0, src: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, src << 4 | dst, offset, value)
