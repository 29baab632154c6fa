# SPDX-License-Identifier: Apache-2.0
"""CLONE_SETTLS"""

from __future__ import annotations

import errno
import os

from minibox import syscalls as sc
from minibox.lab import Block, Run, experiment, function, op

NO_ADDRESS = 1 << 62  # not canonical: its upper bits are not all alike
OWN = 42
VALUE, BASE, REFUSED = "its thread-local word", "its FS base", "a base that is no address"
EXPECTED = {"with": {VALUE: "its own"}, "without": {VALUE: "the parent's"}}
IS_X86 = os.uname().machine == "x86_64"
if IS_X86:
    EXPECTED["with"] |= {BASE: "the one given", REFUSED: "EPERM"}
    EXPECTED["without"] |= {BASE: "the parent's", REFUSED: "ignored"}


@experiment(
    sc.CLONE_SETTLS,
    source="clone(2), CLONE_SETTLS; arch/x86/kernel/process_64.c, arch/arm64/kernel/process.c",
    expected=EXPECTED,
    also=sc.CLONE_VM,
)
def settls(run: Run) -> None:
    """A child with CLONE_SETTLS begins with the thread pointer that is given for it.

    All that is thread-local is found from that register (FS on x86-64, TPIDR_EL0 on arm64), so two
    tasks in one memory have each their own. Here the first word at it is read, by the same
    instruction in both runs.
    """
    with Block() as block:
        block.set(0, OWN)
        program = [sc.call(function("lab_thread_local"), block.pointer(4))]
        if IS_X86:
            program.append(op("arch_prctl", sc.ARCH_GET_FS, block.pointer(8)))
        with run.clone([*program, sc.gate()], tls=block.address) as child:
            child.arrived()
            run.saw(VALUE, "its own" if block.word(4) == OWN else "the parent's")
            if IS_X86:
                base = block.word(8) & 0xFFFFFFFF | block.word(9) << 32
                run.saw(BASE, {block.address: "the one given"}.get(base, _own(run, base)))
    if IS_X86:
        try:
            with run.clone([], tls=NO_ADDRESS):
                run.saw(REFUSED, "ignored")
        except OSError as error:
            run.saw(REFUSED, errno.errorcode[error.errno or 0])


def _own(run: Run, base: int) -> str:
    own = bytearray(8)
    run.syscall("arch_prctl", sc.ARCH_GET_FS, own, text="arch_prctl(ARCH_GET_FS, …)")
    return "the parent's" if base == int.from_bytes(own, "little") else "another"
