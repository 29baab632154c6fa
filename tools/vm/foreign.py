# SPDX-License-Identifier: Apache-2.0
"""Runs a command where arm64's programs run, too: in a user namespace with a binfmt_misc of its own
(since Linux 6.7), so that no other process of this machine is concerned. The ids are the same.

usage: python foreign.py COMMAND…      as root; with qemu-aarch64-static
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x20000
BINFMT = "/proc/sys/fs/binfmt_misc"
# An ELF file of 64 bits for EM_AARCH64 (elf(5)): magic, mask. F: opened now, for all mounts.
MAGIC = rb"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
MASK = rb"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
ENTRY = b":qemu-aarch64:M::" + MAGIC + b":" + MASK + b":/usr/bin/qemu-aarch64-static:F"


def main() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    made, mapped = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS):
            sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
        os.write(made[1], b"x")
        os.read(mapped[0], 1)
        if libc.mount(b"binfmt_misc", BINFMT.encode(), b"binfmt_misc", 0, None):
            why = ctypes.get_errno()
            hint = ": it needs Linux 6.7" if why == errno.EPERM else ""
            sys.exit(f"binfmt_misc of our own: {os.strerror(why)}{hint}")
        with open(f"{BINFMT}/register", "wb") as file:
            file.write(ENTRY)
        os.execvp(sys.argv[1], sys.argv[1:])
    os.close(made[1])
    os.read(made[0], 1)
    for kind in ("uid", "gid"):
        with open(f"/proc/{pid}/{kind}_map", "w", encoding="ascii") as file:
            file.write("0 0 4294967295")
    os.write(mapped[1], b"x")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
