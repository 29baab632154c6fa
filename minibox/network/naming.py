# SPDX-License-Identifier: Apache-2.0
"""Names: what /etc/hosts, /etc/resolv.conf and /etc/hostname of a container say."""

from __future__ import annotations

from minibox.directory import slurp
from minibox.errors import SpecError
from minibox.network.subnet import address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LOCALHOST = (("127.0.0.1", ("localhost",)), ("::1", ("localhost", "ip6-localhost")))
RESOLV_CONF = "/etc/resolv.conf"
# systemd-resolved listens on 127.0.0.53 and writes here whom it asks itself.
BEHIND_RESOLVED = "/run/systemd/resolve/resolv.conf"
LARGEST = 1 << 16


def hosts(lines: Iterable[tuple[str, Sequence[str]]]) -> bytes:
    """/etc/hosts with these addresses and their names."""
    return "".join(line(where, names) for where, names in (*LOCALHOST, *lines)).encode()


def line(where: str, names: Sequence[str]) -> str:
    """As long for one address as for any other of its family."""
    return f"{padded(where)} {' '.join(names)}\n"


def padded(where: str) -> str:
    return where.ljust(39 if ":" in where else 15)


def added(texts: Iterable[str]) -> list[tuple[str, list[str]]]:
    """--add-host NAME:ADDRESS. SpecError."""
    found = []
    for text in texts:
        name, _, where = text.partition(":")
        if not name or not name.isprintable() or " " in name or not where:
            raise SpecError("--add-host", f"{text!r}: write NAME:ADDRESS")
        address("--add-host", where)
        found.append((where, [name]))
    return found


def resolv_conf(servers: Sequence[str], *, reaches_loopback: bool) -> bytes:
    """The host's, with these servers instead of its own if there are any. reaches_loopback: the
    host's 127.0.0.1 is the container's, too; otherwise servers there are left out."""
    for server in servers:
        address("--dns", server)
    text = read(RESOLV_CONF)
    if not reaches_loopback and _has_only_loopback(text):
        text = read(BEHIND_RESOLVED) or text
    kept = []
    for row in text.splitlines():
        words = row.split()
        if not words or words[0].startswith(("#", ";")):
            continue
        is_server = words[0] == "nameserver" and len(words) > 1
        is_left = servers or (not reaches_loopback and _is_loopback(words[-1]))
        if not (is_server and is_left):
            kept.append(row)
    return ("\n".join([*(f"nameserver {server}" for server in servers), *kept]) + "\n").encode()


def _has_only_loopback(text: str) -> bool:
    rows = [row.split() for row in text.splitlines()]
    servers = [words[1] for words in rows if len(words) > 1 and words[0] == "nameserver"]
    return all(_is_loopback(server) for server in servers)


def _is_loopback(server: str) -> bool:
    return server.startswith("127.") or server == "::1"


def read(path: str) -> str:
    """The beginning of a file of the host's; nothing where there is none."""
    try:
        return slurp(path)[:LARGEST].decode(errors="replace")
    except OSError:
        return ""
