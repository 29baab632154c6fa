# SPDX-License-Identifier: Apache-2.0
"""The messages that are laid out by hand are those that pyroute2 makes."""

from pyroute2.netlink.rtnl import RTM_NEWADDR, RTM_NEWLINK, RTM_NEWROUTE
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from minibox import netlink as nl
from minibox.compile import network
from minibox.resources.links import Links
from minibox.spec import Interface

PEER = Interface(b"eth0", (b"10.66.0.2/16",), (b"10.66.0.1",), b"\x02\x42\x0a\x42\x00\x02", 1400)
FLAGS = nl.NLM_F_REQUEST | network.ACKNOWLEDGED


def made(cls, kind, header_flags, **fields):
    message = cls()
    attributes = fields.pop("attrs")
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attributes
    message["header"]["type"] = kind
    message["header"]["flags"] = header_flags
    message.encode()
    return bytes(message.data)


class Sent(Links):
    """Keeps what would be sent."""

    def __init__(self):
        self.sent = b""

    def _ask(self, message):
        self.sent = message
        return message


def test_a_veth_pair():
    links = Sent()
    links.plug(7, b"mbv0", PEER, 4321)

    inside = [
        ("IFLA_IFNAME", "eth0"),
        ("IFLA_ADDRESS", "02:42:0a:42:00:02"),
        ("IFLA_MTU", 1400),
        ("IFLA_NET_NS_PID", 4321),
    ]

    info = [
        ("IFLA_INFO_KIND", "veth"),
        ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", {"attrs": inside})]}),
    ]
    theirs = made(
        ifinfmsg, RTM_NEWLINK, FLAGS, flags=1, change=1,
        attrs=[
            ("IFLA_IFNAME", "mbv0"),
            ("IFLA_MTU", 1400),
            ("IFLA_MASTER", 7),
            ("IFLA_LINKINFO", {"attrs": info}),
        ],
    )  # fmt: skip
    assert links.sent == theirs


def test_an_address():
    head, tail = nl.around_index(network._address(b"10.66.0.2/16"))
    theirs = made(
        ifaddrmsg, RTM_NEWADDR, FLAGS, family=2, prefixlen=16, index=5,
        attrs=[
            ("IFA_LOCAL", "10.66.0.2"),
            ("IFA_ADDRESS", "10.66.0.2"),
            ("IFA_BROADCAST", "10.66.255.255"),
        ],
    )  # fmt: skip
    assert head + b"\x05\0\0\0" + tail == theirs


def test_an_address_of_ipv6():
    head, tail = nl.around_index(network._address(b"fd00::2/64"))
    theirs = made(
        ifaddrmsg, RTM_NEWADDR, FLAGS, family=10, prefixlen=64, index=5, flags=2,
        attrs=[("IFA_LOCAL", "fd00::2"), ("IFA_ADDRESS", "fd00::2")],
    )  # fmt: skip
    assert head + b"\x05\0\0\0" + tail == theirs


def test_a_default_route():
    ours = network._route(b"10.66.0.1")
    theirs = made(
        rtmsg, RTM_NEWROUTE, FLAGS, family=2, table=254, proto=3, type=1,
        attrs=[("RTA_GATEWAY", "10.66.0.1")],
    )  # fmt: skip
    assert ours == theirs
