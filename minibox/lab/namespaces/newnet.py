# SPDX-License-Identifier: Apache-2.0
"""CLONE_NEWNET"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct

from minibox import core
from minibox import syscalls as sc
from minibox.lab import Run, experiment, op, outcome, own_namespace
from minibox.plan import Memory, Slot

ABSTRACT = "\0minibox-lab"
PORT = 4242
LOOPBACK = Memory(struct.pack("=H2s4s8x", sc.AF_INET, b"\0\7", b"\x7f\0\0\1"), "127.0.0.1:7")
ANY = Memory(struct.pack("=H", sc.AF_INET) + struct.pack("!H12x", PORT), f"0.0.0.0:{PORT}")
UNIX = Memory(struct.pack("=H", sc.AF_UNIX) + ABSTRACT.encode(), "@minibox-lab")
SIOCADDRT, SIOCSIFFLAGS, RTF_UP = 0x890B, 0x8914, 1
# What every network namespace gets where tunnels are built in or loaded.
TUNNELS = {
    "tunl0",
    "gre0",
    "gretap0",
    "erspan0",
    "ip_vti0",
    "ip6_vti0",
    "sit0",
    "ip6tnl0",
    "ip6gre0",
}
EXPECTED = {
    "with": {
        "interfaces": ["lo"],
        "routes": 0,
        "to 127.0.0.1": "ENETUNREACH",
        "the parent's port": "done",
        "the parent's abstract socket": "ECONNREFUSED",
        "its namespace": "new",
    },
    "without": {
        "interfaces": ["lo"],
        "routes": 1,
        "to 127.0.0.1": "done",
        "the parent's port": "EADDRINUSE",
        "the parent's abstract socket": "done",
        "its namespace": "the parent's",
    },
}


@experiment(
    sc.CLONE_NEWNET,
    source="network_namespaces(7); net/core/net_namespace.c copy_net_ns",
    expected=EXPECTED,
)
def newnet(run: Run) -> None:
    """A child with a network namespace of its own has nothing but a loopback interface that is
    down; ports and abstract sockets are its own.

    The parent first goes into a network namespace of the run's own, where it brings `lo` up, adds
    a route, takes a port and listens at an abstract socket, so that what the child lacks can be
    seen. Nothing of the machine's network is touched.
    """
    if run.syscall("unshare", sc.CLONE_NEWNET, text="unshare(CLONE_NEWNET)") < 0:
        run.unsupported("no network namespace can be made here")
    _bring_up()
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        tcp.bind(("0.0.0.0", PORT))
        tcp.listen()
        unix.bind(ABSTRACT)
        unix.listen()
        slots = [Slot(name) for name in ("udp", "tcp", "unix")]
        refused = (errno.ENETUNREACH, errno.EADDRINUSE, errno.ECONNREFUSED)
        program = [
            sc.socket(sc.AF_INET, sc.SOCK_DGRAM, to=slots[0]),
            op("connect", slots[0], LOOPBACK, len(LOOPBACK.data), ok=refused),
            sc.socket(sc.AF_INET, socket.SOCK_STREAM, to=slots[1]),
            sc.bind(slots[1], ANY, ok=refused),
            sc.socket(sc.AF_UNIX, socket.SOCK_STREAM, to=slots[2]),
            op("connect", slots[2], UNIX, len(UNIX.data), ok=refused),
            sc.gate(),
        ]
        with run.clone(program) as child:
            child.arrived()
            results = child.report().results
            own = own_namespace("net", child.pid)
            run.saw("its namespace", "new" if own else "the parent's")
            names = [line.partition(":")[0].strip() for line in _table(child.pid, "dev")[1:]]
            run.saw("interfaces", [name for name in names if name not in TUNNELS])
            run.saw("routes", len(_table(child.pid, "route")))
            run.saw("to 127.0.0.1", outcome(results[1]))
            run.saw("the parent's port", outcome(results[3]))
            run.saw("the parent's abstract socket", outcome(results[5]))


def _bring_up() -> None:
    """`lo` up, and a route through it to an address for documentation (RFC 5737). OSError."""
    # struct ifreq and struct rtentry of include/uapi/linux/if.h and route.h.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("=16sh22x", b"lo", sc.IFF_UP))
        name = bytearray(b"lo\0")
        target, gateway, mask = (
            struct.pack("=HH4s8x", sc.AF_INET, 0, address)
            for address in (b"\xc0\0\2\0", bytes(4), b"\xff\xff\xff\0")
        )
        words = (0, target, gateway, mask, RTF_UP, 0, 0, 0, 0, core.address(name), 0, 0, 0)
        fcntl.ioctl(any_socket, SIOCADDRT, struct.pack("@L16s16s16sHhLPhPLLH0L", *words))


def _table(pid: int, name: str) -> list[str]:
    """The lines of a table in /proc/PID/net, without its head."""
    with open(f"/proc/{pid}/net/{name}", encoding="ascii") as file:
        return file.readlines()[1:]
