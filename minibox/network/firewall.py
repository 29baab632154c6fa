# SPDX-License-Identifier: Apache-2.0
"""A network's nftables table: masquerading, published ports, what must not be reached.

Each network has a table of its own, `inet` and called as its bridge, so that it comes and goes in
one transaction and nobody else's rules are touched. The words below are nft's; pyroute2 lays the
messages out (linux/netfilter/nf_tables.h), and they go to the kernel as one batch. Imported only
by who changes rules: it costs a tenth of a second.
"""

from __future__ import annotations

import struct
from _socket import AF_NETLINK, SOCK_CLOEXEC, SOCK_RAW, inet_pton, socket
from errno import ENOENT, EOPNOTSUPP, EPROTONOSUPPORT

from pyroute2.netlink.nfnetlink import nfgen_msg
from pyroute2.netlink.nfnetlink import nftsocket as nft

from minibox import netlink as nl
from minibox.errors import SetupError
from minibox.network.subnet import Subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from minibox.network.config import Network

    Expression = dict[str, Any]
    Elements = list[tuple[str, bytes, bytes]]  # map, key, value

NETLINK_NETFILTER = 12
SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
BATCH_BEGIN, BATCH_END = 0x10, 0x11
NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, NEWRULE = 0, 1, 2, 3, 6
NEWSET, NEWSETELEM, DELSETELEM = 9, 12, 14
INET = 1  # NFPROTO_INET
PREROUTING, FORWARD, OUTPUT, POSTROUTING = 0, 2, 3, 4
ANY, AT = "ports", "ports-at"  # the maps: by port alone, and by address and port
# Registers of 32 bits; a key of several fields lies in a row of them.
FIRST, SECOND = 8, 9
EQ, NEQ = 0, 1
L4PROTO, NFPROTO, IIFNAME, OIFNAME, OIFGROUP = 16, 15, 6, 7, 22
NETWORK_HEADER, TRANSPORT_HEADER = 1, 2
SADDR = {nl.AF_INET: (12, 4), nl.AF_INET6: (8, 16)}  # offset, length
DADDR = {nl.AF_INET: (16, 4), nl.AF_INET6: (24, 16)}
FIB_DADDR, RTN_LOCAL = 2, 2
# NFT_FIB_RESULT_ADDRTYPE is 3, a number of which pyroute2 thinks that it were a set of bits.
FIB_ADDRTYPE = ("NFT_FIB_RESULT_UNSPEC", "NFT_FIB_RESULT_OIF")
CT_STATUS, IPS_DST_NAT = 2, 0x20
JUMP, DROP, ACCEPT = -3, 0, 1
GROUP = 0x6D62  # of all bridges of minibox's (ip-link(8), group)
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
# Only for nft(8), to show the maps: the types of the fields, six bits each.
T_IPV4, T_IPV6, T_PROTOCOL, T_PORT = 7, 8, 12, 13
LARGEST_REPLY = 1 << 16
WITHOUT = "--net none and --net host need nothing of the kind"


# Expressions.


def _expression(name: str, **attributes: object) -> Expression:
    prefix = f"NFTA_{name.upper()}_"
    pairs = [(prefix + key.upper(), value) for key, value in attributes.items()]
    return {"attrs": [("NFTA_EXPR_NAME", name), ("NFTA_EXPR_DATA", {"attrs": pairs})]}


def _data(value: bytes) -> object:
    return {"attrs": [("NFTA_DATA_VALUE", value)]}


def _meta(key: int, register: int = FIRST) -> Expression:
    return _expression("meta", key=key, dreg=register)


def _compare(value: bytes, operator: int = EQ) -> Expression:
    return _expression("cmp", sreg=FIRST, op=operator, data=_data(value))


def _payload(base: int, offset: int, length: int, register: int = FIRST) -> Expression:
    return _expression("payload", dreg=register, base=base, offset=offset, len=length)


def _masked(mask: bytes) -> Expression:
    zero = _data(bytes(len(mask)))
    return _expression("bitwise", sreg=FIRST, dreg=FIRST, len=len(mask), mask=_data(mask), xor=zero)


def _verdict(code: int, chain: str = "") -> Expression:
    words: list[tuple[str, object]] = [("NFTA_VERDICT_CODE", code)]
    if chain:
        words.append(("NFTA_VERDICT_CHAIN", chain))
    return _expression(
        "immediate", dreg=0, data={"attrs": [("NFTA_DATA_VERDICT", {"attrs": words})]}
    )


def _family(family: int) -> list[Expression]:
    return [_meta(NFPROTO), _compare(bytes([family]))]


def _interface(key: int, name: str, operator: int = EQ) -> list[Expression]:
    return [_meta(key), _compare(name.encode().ljust(16, b"\0"), operator)]


def _within(where: dict[int, tuple[int, int]], subnet: Subnet) -> list[Expression]:
    """Is the source or destination address in this subnet?"""
    offset, length = where[subnet.family]
    mask = ((1 << 8 * length) - subnet.size).to_bytes(length, "big")
    return [
        *_family(subnet.family),
        _payload(NETWORK_HEADER, offset, length),
        _masked(mask),
        _compare(subnet.base.to_bytes(length, "big")),
    ]


def _was_published() -> list[Expression]:
    """Did the connection come by a published port?"""
    bit = struct.pack("=I", IPS_DST_NAT)
    return [
        _expression("ct", key=CT_STATUS, dreg=FIRST),
        _masked(bit),
        _compare(bit),
    ]


# Rules.


def _rules(network: Network) -> Iterator[tuple[str, list[Expression]]]:
    """The chain, and what is in it."""
    bridge, ranges = network.interface, network.subnets
    local = [
        _expression("fib", dreg=FIRST, result=FIB_ADDRTYPE, flags=FIB_DADDR),
        _compare(struct.pack("=I", RTN_LOCAL)),
        _verdict(JUMP, "publish"),
    ]
    yield "prerouting", local
    yield "output", local
    for subnet in ranges:
        yield from _translated(subnet.family)
        inside = _within(SADDR, subnet)
        if not network.internal:
            yield "postrouting", [*inside, *_interface(OIFNAME, bridge, NEQ), _masquerade()]
        # Who reaches itself, or a neighbour, by a published port: the answer must come back here.
        hairpin = [*_interface(OIFNAME, bridge), *_was_published()]
        yield "postrouting", [*inside, *hairpin, _masquerade()]
    if any(subnet.family == nl.AF_INET for subnet in ranges):
        loopback = Subnet.parse("", "127.0.0.0/8")
        # From the host's own 127.0.0.1; and nobody else reaches that (CVE-2020-8558).
        leaves = _interface(OIFNAME, bridge)
        yield "postrouting", [*_within(SADDR, loopback), *leaves, _masquerade()]
        arrives = _interface(IIFNAME, bridge)
        yield "first", [*_within(DADDR, loopback), *arrives, _verdict(DROP)]
    yield from _separated(network)


def _masquerade() -> Expression:
    return _expression("masq")


def _translated(family: int) -> Iterator[tuple[str, list[Expression]]]:
    """Published ports: first those of one address of the host's, then those of all."""
    offset, length = DADDR[family]
    after = FIRST + length // 4  # the register behind an address
    yield (
        "publish",
        [
            *_family(family),
            _payload(NETWORK_HEADER, offset, length),
            _meta(L4PROTO, after),
            _payload(TRANSPORT_HEADER, 2, 2, after + 1),
            *_mapped(_map(AT, family), family, after),
        ],
    )
    yield (
        "publish",
        [
            *_family(family),
            _meta(L4PROTO),
            _payload(TRANSPORT_HEADER, 2, 2, SECOND),
            *_mapped(_map(ANY, family), family, after),
        ],
    )


def _mapped(name: str, family: int, port: int) -> list[Expression]:
    return [
        _expression("lookup", set=name, sreg=FIRST, dreg=FIRST),
        _expression("nat", type=1, family=family, reg_addr_min=FIRST, reg_proto_min=port),
    ]


def _separated(network: Network) -> Iterator[tuple[str, list[Expression]]]:
    bridge = network.interface
    yield "forward", [*_was_published(), _verdict(ACCEPT)]
    if network.internal:
        for here, there in ((IIFNAME, OIFNAME), (OIFNAME, IIFNAME)):
            ends = [*_interface(here, bridge), *_interface(there, bridge, NEQ)]
            yield "forward", [*ends, _verdict(DROP)]
    # Other networks of minibox's are not to be reached, as docker's are not from each other.
    others = [_meta(OIFGROUP), _compare(struct.pack("=I", GROUP))]
    crossing = [*_interface(IIFNAME, bridge), *_interface(OIFNAME, bridge, NEQ)]
    yield "forward", [*crossing, *others, _verdict(DROP)]


def _map(kind: str, family: int) -> str:
    return kind if family == nl.AF_INET else f"{kind}6"


# Messages.


def _message(cls: type[Any], kind: int, flags: int, attributes: list[tuple[str, object]]) -> bytes:
    message = cls()
    message["nfgen_family"] = INET
    message["attrs"] = attributes
    message["header"]["type"] = SUBSYSTEM | kind
    message["header"]["flags"] = flags | nl.NLM_F_REQUEST | nl.NLM_F_ACK
    message.encode()
    return bytes(message.data)


def _table(kind: int, name: str, flags: int = 0) -> bytes:
    return _message(nft.nft_table_msg, kind, flags, [("NFTA_TABLE_NAME", name)])


def _chain(table: str, name: str, kind: str, hook: int, priority: int) -> bytes:
    words: list[tuple[str, object]] = [("NFTA_CHAIN_TABLE", table), ("NFTA_CHAIN_NAME", name)]
    if kind:
        where = [("NFTA_HOOK_HOOKNUM", hook), ("NFTA_HOOK_PRIORITY", priority)]
        words += [("NFTA_CHAIN_HOOK", {"attrs": where}), ("NFTA_CHAIN_TYPE", kind)]
    return _message(nft.nft_chain_msg, NEWCHAIN, nl.NLM_F_CREATE, words)


def _set(table: str, name: str, number: int, fields: Iterable[int], family: int) -> bytes:
    sizes = {T_IPV4: 4, T_IPV6: 16}
    address = T_IPV4 if family == nl.AF_INET else T_IPV6

    def described(types: Iterable[int]) -> tuple[int, int]:
        whole = size = 0
        for type_ in types:
            whole, size = whole << 6 | type_, size + sizes.get(type_, 4)
        return whole, size

    key, key_size = described(fields)
    value, value_size = described((address, T_PORT))
    return _message(
        nft.nft_set_msg,
        NEWSET,
        nl.NLM_F_CREATE,
        [
            ("NFTA_SET_TABLE", table),
            ("NFTA_SET_NAME", name),
            ("NFTA_SET_FLAGS", ("NFT_SET_MAP",)),
            ("NFTA_SET_KEY_TYPE", key),
            ("NFTA_SET_KEY_LEN", key_size),
            ("NFTA_SET_DATA_TYPE", value),
            ("NFTA_SET_DATA_LEN", value_size),
            ("NFTA_SET_ID", number),
        ],
    )


def _rule(table: str, chain: str, expressions: list[Expression]) -> bytes:
    words: list[tuple[str, object]] = [
        ("NFTA_RULE_TABLE", table),
        ("NFTA_RULE_CHAIN", chain),
        ("NFTA_RULE_EXPRESSIONS", expressions),
    ]
    flags = nl.NLM_F_CREATE | 0x800  # NLM_F_APPEND
    return _message(nft.nft_rule_msg, NEWRULE, flags, words)


def _whole(network: Network) -> Iterator[bytes]:
    table = network.interface
    yield _table(NEWTABLE, table, nl.NLM_F_CREATE)
    for number, family in enumerate(sorted({one.family for one in network.subnets})):
        address = T_IPV4 if family == nl.AF_INET else T_IPV6
        at = (address, T_PROTOCOL, T_PORT)
        yield _set(table, _map(ANY, family), 2 * number + 1, at[1:], family)
        yield _set(table, _map(AT, family), 2 * number + 2, at, family)
    yield _chain(table, "publish", "", 0, 0)
    yield _chain(table, "first", "filter", PREROUTING, -300)
    yield _chain(table, "prerouting", "nat", PREROUTING, -100)
    yield _chain(table, "output", "nat", OUTPUT, -100)
    yield _chain(table, "postrouting", "nat", POSTROUTING, 100)
    yield _chain(table, "forward", "filter", FORWARD, 0)
    for chain, expressions in _rules(network):
        yield _rule(table, chain, expressions)


# The kernel's side.


class Rules:
    """A socket of NETLINK_NETFILTER in this process's network namespace; a context manager.
    SetupError."""

    def __init__(self) -> None:
        try:
            self._socket = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER)
        except OSError as error:
            raise _failed(error.errno or 0) from None

    def __enter__(self) -> Rules:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def is_there(self, table: str) -> bool:
        self._socket.send(_table(GETTABLE, table))
        reply = self._socket.recv(LARGEST_REPLY)
        error = nl.error_of(reply)
        if error not in (0, ENOENT):
            raise _failed(error)
        if not error and nl.HEADER.unpack_from(reply)[1] != nl.NLMSG_ERROR:
            self._socket.recv(LARGEST_REPLY)  # the acknowledgement
        return not error

    def make(self, network: Network) -> None:
        """All of a network's, unless it is there."""
        if not self.is_there(network.interface):
            self._commit(list(_whole(network)))

    def remove(self, network: Network) -> None:
        if self.is_there(network.interface):
            self._commit([_table(DELTABLE, network.interface)])

    def publish(self, network: Network, elements: Elements) -> None:
        """EEXIST: somebody has one of the ports."""
        self._commit(_elements(network.interface, NEWSETELEM, elements))

    def withdraw(self, network: Network, elements: Elements) -> None:
        """Those that are there."""
        for element in elements:
            try:
                self._commit(_elements(network.interface, DELSETELEM, [element]))
            except SetupError as error:
                if error.errno != ENOENT:
                    raise

    def _commit(self, messages: list[bytes]) -> None:
        """All of it or nothing."""
        batch = [_bracket(BATCH_BEGIN), *messages, _bracket(BATCH_END)]
        self._socket.send(b"".join(batch))
        answered, error = 0, 0
        while answered < len(messages):
            reply = self._socket.recv(LARGEST_REPLY)
            while len(reply) >= nl.HEADER.size:
                size = nl.HEADER.unpack_from(reply)[0]
                error = error or nl.error_of(reply)
                answered += 1
                reply = reply[size + 3 & ~3 :]
            if error:
                break
        if error:
            raise _failed(error)


def _bracket(kind: int) -> bytes:
    message = nfgen_msg()
    message["res_id"] = 10
    message["header"]["type"] = kind
    message["header"]["flags"] = nl.NLM_F_REQUEST
    message.encode()
    return bytes(message.data)


def _elements(table: str, kind: int, elements: Elements) -> list[bytes]:
    return [
        _message(
            nft.nft_set_elem_list_msg,
            kind,
            nl.NLM_F_CREATE | nl.NLM_F_EXCL if kind == NEWSETELEM else 0,
            [
                ("NFTA_SET_ELEM_LIST_TABLE", table),
                ("NFTA_SET_ELEM_LIST_SET", name),
                (
                    "NFTA_SET_ELEM_LIST_ELEMENTS",
                    [
                        {
                            "attrs": [
                                ("NFTA_SET_ELEM_KEY", _data(key)),
                                ("NFTA_SET_ELEM_DATA", _data(value)),
                            ]
                        }
                    ],
                ),
            ],
        )
        for name, key, value in elements
    ]


def element(
    host: str | None, host_port: int, address: str, port: int, protocol: str
) -> tuple[str, bytes, bytes]:
    """A published port: the map that it is in, its key and its value."""
    family = nl.AF_INET6 if ":" in address else nl.AF_INET
    number = bytes([PROTOCOLS[protocol], 0, 0, 0])
    key = number + struct.pack("!Hxx", host_port)
    if host:
        key = inet_pton(family, host) + key
    value = inet_pton(family, address) + struct.pack("!Hxx", port)
    return _map(AT if host else ANY, family), key, value


def _failed(error: int) -> SetupError:
    is_missing = error in (EOPNOTSUPP, EPROTONOSUPPORT)
    reason = "this kernel has no nftables, which this network needs" if is_missing else ""
    lack = "networks" if is_missing else ""
    return SetupError(error, "change the firewall", reason=reason, hint=WITHOUT, lack=lack)
