# SPDX-License-Identifier: Apache-2.0
"""The host's end of a container's interfaces, over one netlink socket."""

from __future__ import annotations

import os
import sys
from _socket import AF_NETLINK, SOCK_CLOEXEC, SOCK_RAW, socket
from errno import ENODEV, ENOENT, EPROTO

from minibox import netlink as nl
from minibox.errors import SetupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import Self

    from minibox.spec import Interface

LARGEST_REPLY = 1 << 16
NEW = nl.NLM_F_ACK | nl.NLM_F_CREATE | nl.NLM_F_EXCL


class Link:
    """An interface of the host's. flags: IFF_*."""

    __slots__ = ("flags", "index")

    def __init__(self, index: int, flags: int) -> None:
        self.index = index
        self.flags = flags

    @property
    def is_up(self) -> bool:
        return bool(self.flags & nl.IFF_UP)


class Links:
    """A socket of NETLINK_ROUTE in this process's network namespace; a context manager. OSError."""

    def __init__(self) -> None:
        self._socket = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _ask(self, message: bytes) -> bytes:
        self._socket.send(message)
        reply = self._socket.recv(LARGEST_REPLY)
        error = nl.error_of(reply)
        if error:
            raise OSError(error, os.strerror(error))
        return reply

    def find(self, name: bytes) -> Link | None:
        """The interface of that name."""
        wanted = nl.message(nl.RTM_GETLINK, 0, nl.ifinfo(), nl.text(nl.IFLA_IFNAME, name))
        try:
            reply = self._ask(wanted)
        except OSError as error:
            if error.errno != ENODEV:
                raise
            return None
        if nl.HEADER.unpack_from(reply)[1] != nl.RTM_NEWLINK:
            raise OSError(EPROTO, os.strerror(EPROTO))
        _, _, index, flags, _ = nl.IFINFO.unpack_from(reply, nl.HEADER.size)
        return Link(index, flags)

    def plug(self, bridge: int, name: bytes, peer: Interface, pid: int) -> None:
        """A veth pair: one end, up, is `name` on the bridge with this index; the other, down, is
        made in the network namespace of the process (veth(4))."""
        inside = nl.attribute(
            nl.VETH_INFO_PEER,
            nl.ifinfo(),
            nl.text(nl.IFLA_IFNAME, peer.name),
            nl.attribute(nl.IFLA_ADDRESS, peer.mac),
            nl.number(nl.IFLA_MTU, peer.mtu),
            nl.number(nl.IFLA_NET_NS_PID, pid),
        )
        kind = nl.text(nl.IFLA_INFO_KIND, b"veth")
        self._ask(
            nl.message(
                nl.RTM_NEWLINK,
                NEW,
                nl.ifinfo(0, nl.IFF_UP),
                nl.text(nl.IFLA_IFNAME, name),
                nl.number(nl.IFLA_MTU, peer.mtu),
                nl.number(nl.IFLA_MASTER, bridge),
                nl.attribute(
                    nl.IFLA_LINKINFO,
                    kind,
                    nl.attribute(nl.IFLA_INFO_DATA, inside),
                ),
            )
        )

    def turn_back(self, name: bytes) -> None:
        """What comes in by this port of a bridge may leave by it (bridge(8), hairpin): so a
        container reaches itself by its published port where bridged packets are translated, too
        (net.bridge.bridge-nf-call-iptables)."""
        port = self.find(name)
        if port:
            mode = nl.attribute(nl.IFLA_BRPORT_MODE, b"\x01")
            wanted = nl.attribute(nl.IFLA_PROTINFO | nl.NLA_F_NESTED, mode)
            head = nl.ifinfo(port.index, 0, nl.AF_BRIDGE)
            self._ask(nl.message(nl.RTM_SETLINK, nl.NLM_F_ACK, head, wanted))

    def hold_back(self, name: bytes, queue: bytes, discipline: str) -> None:
        """RTM_NEWQDISC, made elsewhere, for what leaves by this interface. SetupError where the
        kernel has no such discipline."""
        port = self.find(name)
        if port is None:
            raise OSError(ENODEV, os.strerror(ENODEV))
        head, tail = nl.around_index(queue)
        try:
            self._ask(head + port.index.to_bytes(4, sys.byteorder) + tail)
        except OSError as error:
            reason = f"this kernel has no {discipline}" if error.errno == ENOENT else ""
            what = "set --latency, --loss or --rate"
            raise SetupError(error.errno or 0, what, reason=reason) from None

    def divide(self, driver: str, parent: int, peer: Interface, pid: int) -> None:
        """An interface that shares the one with the index `parent`, made in the network namespace
        of the process: "macvlan" in bridge mode or "ipvlan" in L2 mode (ip-link(8))."""
        mode = {
            "macvlan": nl.number(nl.IFLA_MACVLAN_MODE, nl.MACVLAN_MODE_BRIDGE),
            "ipvlan": nl.attribute(nl.IFLA_IPVLAN_MODE, nl.IPVLAN_MODE_L2.to_bytes(2, "little")),
        }[driver]
        # An ipvlan has its parent's MAC.
        mac = nl.attribute(nl.IFLA_ADDRESS, peer.mac) if driver == "macvlan" else b""
        self._ask(
            nl.message(
                nl.RTM_NEWLINK,
                NEW,
                nl.ifinfo(),
                nl.text(nl.IFLA_IFNAME, peer.name),
                mac,
                nl.number(nl.IFLA_MTU, peer.mtu),
                nl.number(nl.IFLA_LINK, parent),
                nl.number(nl.IFLA_NET_NS_PID, pid),
                nl.attribute(
                    nl.IFLA_LINKINFO,
                    nl.text(nl.IFLA_INFO_KIND, driver.encode()),
                    nl.attribute(nl.IFLA_INFO_DATA, mode),
                ),
            )
        )

    def remove(self, name: bytes) -> bool:
        """Delete an interface; False when there is none."""
        try:
            self._ask(
                nl.message(nl.RTM_DELLINK, nl.NLM_F_ACK, nl.ifinfo(), nl.text(nl.IFLA_IFNAME, name))
            )
        except OSError as error:
            if error.errno != ENODEV:
                raise
            return False
        return True
