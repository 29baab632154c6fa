# SPDX-License-Identifier: Apache-2.0
"""The interfaces inside a new network namespace, as the container's root sets them up there.

minibox plugs them in while the child makes its mounts. What is told to the kernel are rtnetlink
messages (rtnetlink(7)); an interface is known by its name until the kernel has said its
index, which the address's message takes from where it was written to.
"""

from __future__ import annotations

import struct
from errno import EAFNOSUPPORT

from minibox import netlink as nl
from minibox import syscalls as sc
from minibox.compile import lifeline
from minibox.compile.names import INET, up
from minibox.errors import SpecError
from minibox.plan import Blank, Memory, Offset, Slot
from minibox.spec import Text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from minibox.host import Host
    from minibox.plan import Op
    from minibox.spec import Interface, Mount, Spec

ROUTES = Slot("rtnetlink")
IFREQ = 16  # bytes of the name in struct ifreq, before everything else
ACKNOWLEDGED = nl.NLM_F_CREATE | nl.NLM_F_EXCL | nl.NLM_F_ACK

# RTM_SETLINK: an IPv6 address of the interface's own would be announced to all on the bridge.
WITHOUT_IPV6 = nl.message(
    nl.RTM_SETLINK,
    nl.NLM_F_ACK,
    nl.ifinfo(),
    nl.attribute(
        nl.IFLA_AF_SPEC | nl.NLA_F_NESTED,
        nl.attribute(
            nl.AF_INET6 | nl.NLA_F_NESTED,
            nl.attribute(nl.IFLA_INET6_ADDR_GEN_MODE, bytes([nl.IN6_ADDR_GEN_MODE_NONE])),
        ),
    ),
)


def interfaces(spec: Spec, host: Host) -> Iterator[Op]:
    """Addresses and routes. SpecError."""
    if not spec.interfaces:
        raise SpecError("route", "there is no interface that it could go by")
    if not spec.makes("net"):
        raise SpecError("net", "interfaces are for a network namespace of the container's own")
    if spec.starts_supervised:
        # The change of ids has cleared the death signal (prctl(2)), and nobody opens the gate for
        # an orphan.
        yield from lifeline.bind()
    yield sc.gate(2, why="until minibox has plugged in the network")
    flags = sc.SOCK_DGRAM | sc.SOCK_CLOEXEC
    yield sc.socket(sc.AF_NETLINK, flags, to=ROUTES, why="for what comes now")
    for interface in spec.interfaces:
        for op in _interface(interface):
            op.origin = f"network, {interface.name.decode()}"
            yield op
    for subnet, gateway in spec.routes:
        text = f"{{RTM_NEWROUTE {subnet.decode()} via {gateway.decode()}}}"
        yield sc.netlink(ROUTES, _message(text, Memory(_route(gateway, subnet))), why="--route")


def _interface(interface: Interface) -> Iterator[Op]:
    name = interface.name.decode()
    asked = Memory(struct.pack("=16s24x", interface.name), f'{{ifr_name="{name}"}}')
    yield sc.ioctl(INET, sc.IOCTL_SIOCGIFINDEX, asked, why="which one it is")
    index = Offset(asked, IFREQ, "ifr_ifindex")
    if all(b":" not in address for address in interface.addresses):
        text = f"{{RTM_SETLINK {name} addrgenmode none}}"
        head, tail = map(Memory, nl.around_index(WITHOUT_IPV6))
        message = _message(text, head, index, tail)
        yield sc.netlink(ROUTES, message, ok=(EAFNOSUPPORT,), why="no IPv6 where nobody asked")
    for address in interface.addresses:
        text = f"{{RTM_NEWADDR {address.decode()} dev {name}}}"
        before, after = nl.around_index(_address(address))
        own = Blank(_called(interface, address), after)
        yield sc.netlink(ROUTES, _message(text, Memory(before), index, own), why="its address")
    if interface.queue:
        head, tail = map(Memory, nl.around_index(interface.queue))
        text = f"{{RTM_NEWQDISC {interface.discipline} dev {name}}}"
        yield sc.netlink(ROUTES, _message(text, head, index, tail), why="--latency, --loss, --rate")
    yield up(interface.name)
    for gateway in interface.gateways:
        text = f"{{RTM_NEWROUTE default via {gateway.decode()}}}"
        yield sc.netlink(ROUTES, _message(text, Memory(_route(gateway))), why="to everywhere else")


def _packed(address: bytes) -> tuple[int, bytes]:
    """SpecError."""
    try:
        return nl.packed(address.decode(errors="replace"))
    except ValueError as error:
        raise SpecError("net", str(error)) from None


def _address(text: bytes) -> bytes:
    """RTM_NEWADDR."""
    plain, _, length = text.partition(b"/")
    family, address = _packed(plain)
    bits = int(length)
    attributes = nl.attribute(nl.IFA_LOCAL, address) + nl.attribute(nl.IFA_ADDRESS, address)
    flags = 0
    if family == nl.AF_INET:
        all_ones = int.from_bytes(address, "big") | (1 << 32 - bits) - 1
        attributes += nl.attribute(nl.IFA_BROADCAST, all_ones.to_bytes(4, "big"))
    else:
        flags = nl.IFA_F_NODAD  # it is ours alone, and shall be there at once
    head = nl.IFADDR.pack(family, bits, flags, nl.RT_SCOPE_UNIVERSE, 0)
    return nl.message(nl.RTM_NEWADDR, ACKNOWLEDGED, head, attributes)


def _route(gateway: bytes, subnet: bytes = b"") -> bytes:
    """RTM_NEWROUTE; without a subnet it is everywhere else."""
    family, address = _packed(gateway)
    where, _, bits = subnet.partition(b"/")
    length = int(bits or 0)
    head = nl.RTMSG.pack(
        family,
        length,
        0,
        0,
        nl.RT_TABLE_MAIN,
        nl.RTPROT_BOOT,
        nl.RT_SCOPE_UNIVERSE,
        nl.RTN_UNICAST,
        0,
    )
    to = nl.attribute(nl.RTA_DST, _packed(where)[1]) if length else b""
    return nl.message(
        nl.RTM_NEWROUTE, ACKNOWLEDGED, head, to, nl.attribute(nl.RTA_GATEWAY, address)
    )


def _called(interface: Interface, address: bytes) -> str:
    return f"{interface.name.decode()} {_packed(address.partition(b'/')[0])[0]}"


def blanks(mounts: Iterable[Mount], interfaces: Iterable[Interface]) -> dict[str, bytes]:
    """What is a container's own in the plan of all that differ in addresses alone."""
    found = {mount.target.decode(): mount.content for mount in mounts if isinstance(mount, Text)}
    for interface in interfaces:
        for address in interface.addresses:
            found[_called(interface, address)] = nl.around_index(_address(address))[1]
    return found


def _message(text: str, *pieces: Memory) -> Memory:
    """A struct msghdr of these pieces; one that is an Offset is the interface's index."""
    sizes = [4 if isinstance(piece, Offset) else len(piece.data) for piece in pieces]
    vector = Memory(
        b"".join(struct.pack("=QQ", 0, size) for size in sizes),
        "",
        tuple((16 * k, piece) for k, piece in enumerate(pieces)),
    )
    header = struct.pack("=QIIQQQQII", 0, 0, 0, 0, len(pieces), 0, 0, 0, 0)
    return Memory(header, text, ((16, vector),))
