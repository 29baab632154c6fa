# SPDX-License-Identifier: Apache-2.0
"""Netlink messages as bytes (netlink(7), rtnetlink(7)): those that every start of a container with
a network needs. Everything else is pyroute2's, whose import takes longer than a whole container; a
test compares what is laid out here with what pyroute2 makes of the same words.
"""

from __future__ import annotations

import struct
from _socket import inet_pton

# linux/netlink.h
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_EXCL, NLM_F_CREATE = 0x200, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLA_F_NESTED = 0x8000
# linux/rtnetlink.h
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_SETLINK, RTM_NEWADDR, RTM_NEWROUTE = 19, 20, 24
RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST = 254, 3, 0, 1
RTA_DST, RTA_GATEWAY = 1, 5
# linux/if_link.h
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 3, 4, 5, 10
IFLA_PROTINFO, IFLA_LINKINFO, IFLA_NET_NS_PID = 12, 18, 19
IFLA_AF_SPEC, IFLA_BRPORT_MODE = 26, 4
IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE = 8, 1
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
VETH_INFO_PEER = 1
IFLA_MACVLAN_MODE, MACVLAN_MODE_BRIDGE = 1, 4
IFLA_IPVLAN_MODE, IPVLAN_MODE_L2 = 1, 0
# linux/if_addr.h
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
IFA_F_NODAD = 0x2
# linux/if.h
IFF_UP = 0x1
AF_UNSPEC, AF_INET, AF_BRIDGE, AF_INET6 = 0, 2, 7, 10

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
IFINFO = struct.Struct("=BxHiII")  # struct ifinfomsg
IFADDR = struct.Struct("=BBBBI")  # struct ifaddrmsg
RTMSG = struct.Struct("=BBBBBBBBI")  # struct rtmsg
ERROR = struct.Struct("=i")
INDEX_AT = HEADER.size + 4


def attribute(kind: int, *payload: bytes) -> bytes:
    """One struct nlattr with its payload, or with the attributes nested in it, and its padding."""
    data = b"".join(payload)
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def number(kind: int, value: int) -> bytes:
    """An attribute of 32 bits."""
    return attribute(kind, struct.pack("=I", value))


def text(kind: int, value: bytes) -> bytes:
    """An attribute with a string that ends with NUL."""
    return attribute(kind, value + b"\0")


def message(kind: int, flags: int, *parts: bytes, sequence: int = 0) -> bytes:
    """A request that is to be acknowledged."""
    body = b"".join(parts)
    return HEADER.pack(16 + len(body), kind, flags | NLM_F_REQUEST, sequence, 0) + body


def around_index(message: bytes) -> tuple[bytes, bytes]:
    """A message about an interface, before and after the interface's index: that has the same place
    in struct ifinfomsg, ifaddrmsg and tcmsg."""
    return message[:INDEX_AT], message[INDEX_AT + 4 :]


def ifinfo(index: int = 0, flags: int = 0, family: int = AF_UNSPEC) -> bytes:
    """struct ifinfomsg; `flags` are those that are set."""
    return IFINFO.pack(family, 0, index, flags, flags)


def packed(address: str) -> tuple[int, bytes]:
    """The family of an address without prefix length, and its bytes. ValueError."""
    family = AF_INET6 if ":" in address else AF_INET
    try:
        return family, inet_pton(family, address)
    except (OSError, ValueError):
        raise ValueError(f"{address!r} is no address") from None


def error_of(reply: bytes) -> int:
    """The errno in an acknowledgement, 0 for none."""
    if HEADER.unpack_from(reply)[1] != NLMSG_ERROR:
        return 0
    return -int(ERROR.unpack_from(reply, HEADER.size)[0])
