# SPDX-License-Identifier: Apache-2.0
"""CLONE_NEWUSER"""

from __future__ import annotations

import errno
import struct

from minibox import syscalls as sc
from minibox.lab import Run, experiment, look, op, outcome, own_namespace

INSIDE = 7
CAP_SETGID, CAP_SYS_ADMIN, CAP_SETFCAP = 6, 21, 31
VERSION_3 = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
MAPS = (("setgroups", "deny"), ("uid_map", f"{INSIDE} 0 1"), ("gid_map", f"{INSIDE} 0 1"))
EXPECTED = {
    "with": {
        "uid at first": 65534,
        "capabilities": "all",
        "sethostname outside": "EPERM",
        "its maps": ["done", "done", "done"],
        "uid when it is mapped": INSIDE,
        "setgroups": "EPERM",
        "its namespace": "new",
    },
    "without": {
        "uid at first": 0,
        "capabilities": "the parent's",
        "sethostname outside": "done",
        "uid when it is mapped": 0,
        "its namespace": "the parent's",
    },
}


@experiment(
    sc.CLONE_NEWUSER,
    source="user_namespaces(7); kernel/user_namespace.c create_user_ns",
    expected=EXPECTED,
)
def newuser(run: Run) -> None:
    """In a user namespace of its own a child is nobody until ids are mapped, and has all
    capabilities there and none outside.

    Before, the parent lays down all its capabilities but three: CAP_SYS_ADMIN and CAP_SETGID, which
    sethostname(2) and setgroups(2) need, and CAP_SETFCAP, without which nobody may map the root
    outside. The host's name belongs to the user namespace outside, where the child's
    capabilities do not count. Who writes a map without privilege must first deny setgroups(2), or a
    process could drop a group by which files are kept from it.
    """
    _keep_only(run, CAP_SETGID, CAP_SYS_ADMIN, CAP_SETFCAP)
    program = [
        op("getuid"),
        op("sethostname", b"inside", 6, ok=(errno.EPERM,)),
        sc.gate(),
        op("getuid"),
        op("setgroups", 0, None, ok=(errno.EPERM,)),
    ]
    with run.clone(program) as child:
        child.arrived()
        own = own_namespace("user", child.pid)
        run.saw("its namespace", "new" if own else "the parent's")
        run.saw("capabilities", _capabilities(child.pid))
        run.saw("its maps", [_write(f"/proc/{child.pid}/{name}", text) for name, text in MAPS])
        child.go()
        child.wait()
        results = child.report().results
        run.saw("uid at first", results[0])
        run.saw("sethostname outside", outcome(results[1]))
        run.saw("uid when it is mapped", results[3])
        run.saw("setgroups", outcome(results[4]))


def _keep_only(run: Run, *kept: int) -> None:
    bits = sum(1 << number for number in kept)
    header, low = struct.pack("=Ii", VERSION_3, 0), struct.pack("=3I", bits, bits, 0)
    run.syscall("capset", header, low + bytes(12), text="capset(SETGID, SYS_ADMIN, SETFCAP)")


def _capabilities(pid: int) -> str:
    effective = look.status(pid)["CapEff"]
    if effective == look.status()["CapEff"]:
        return "the parent's"
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        last = int(file.read())
    return "all" if int(effective, 16) == (1 << last + 1) - 1 else effective


def _write(path: str, text: str) -> str:
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        return outcome(-(error.errno or 0))
    return "done"
