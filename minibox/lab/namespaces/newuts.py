# SPDX-License-Identifier: Apache-2.0
"""CLONE_NEWUTS"""

from __future__ import annotations

import os
import socket

from minibox import syscalls as sc
from minibox.lab import Block, Run, experiment, op, own_namespace

EXPECTED = {
    "with": {
        "at first": "outside",
        "the names inside": "inside inside.example",
        "the names outside": "outside outside.example",
        "its namespace": "new",
    },
    "without": {
        "at first": "outside",
        "the names inside": "inside inside.example",
        "the names outside": "inside inside.example",
        "its namespace": "the parent's",
    },
}
# struct new_utsname of include/uapi/linux/utsname.h: six texts of 65 bytes.
NODENAME, DOMAINNAME = 65, 65 * 5
LATER = 400  # where the second one lies in the block: a multiple of four


@experiment(
    sc.CLONE_NEWUTS,
    source="uts_namespaces(7); kernel/utsname.c copy_utsname",
    expected=EXPECTED,
)
def newuts(run: Run) -> None:
    """The host name and the domain name that a child sets stay in its UTS namespace, if it has one
    of its own.

    The namespace begins as a copy of the parent's: at first the child has the parent's names.
    """
    socket.sethostname("outside")
    run.syscall("setdomainname", b"outside.example", 15)
    with Block(shared=True) as block:
        program = [
            op("uname", block.pointer(0, "&first")),
            sc.sethostname(b"inside"),
            sc.setdomainname(b"inside.example"),
            op("uname", block.pointer(LATER // 4, "&later")),
            sc.gate(),
        ]
        with run.clone(program) as child:
            child.arrived()
            own = own_namespace("uts", child.pid)
            run.saw("its namespace", "new" if own else "the parent's")
            run.saw("at first", block.text(NODENAME))
            names = block.text(LATER + NODENAME), block.text(LATER + DOMAINNAME)
            run.saw("the names inside", " ".join(names))
            with open("/proc/sys/kernel/domainname", encoding="ascii") as file:
                run.saw("the names outside", f"{os.uname().nodename} {file.read().strip()}")
