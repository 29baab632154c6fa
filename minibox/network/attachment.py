# SPDX-License-Identifier: Apache-2.0
"""`--net NAME[:ip=ADDRESS,mac=ADDRESS,latency=20ms,loss=1%,rate=10mbit]`: one interface."""

from __future__ import annotations

from minibox.errors import SpecError
from minibox.spec import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.request import Options

LINK = ("latency", "loss", "rate")
WORDS = ("ip", "mac", *LINK)
MULTICAST = 1  # a bit of the first byte of a MAC


class Attachment(Record):
    """network: its name. ip: the address it shall have. mac: six bytes. discipline, queue: what
    holds its packets back (queues.py)."""

    network: str
    ip: str | None = None
    mac: bytes = b""
    discipline: str = ""
    queue: bytes = b""


def parse(text: str, options: Options) -> Attachment:
    """One word of --net. What it does not say, --ip, --latency, --loss and --rate do. SpecError."""
    name, _, rest = text.partition(":")
    words: dict[str, str] = {}
    for pair in rest.split(",") if rest else ():
        word, equals, value = pair.partition("=")
        if word not in WORDS or not equals or not value or word in words:
            raise SpecError("--net", f"{text!r}: write NAME:WORD=VALUE,… with {', '.join(WORDS)}")
        words[word] = value
    given: dict[str, str] = {**options, **words}  # type: ignore[dict-item]
    discipline, queue = "", b""
    if any(given.get(word) for word in LINK):
        from minibox.network import queues

        discipline, queue = queues.asked(*(given.get(word) for word in LINK))
    mac = _mac(words["mac"]) if "mac" in words else b""
    return Attachment(name, given.get("ip"), mac, discipline, queue)


def _mac(text: str) -> bytes:
    try:
        found = bytes(int(part, 16) for part in text.split(":"))
    except ValueError:
        found = b""
    if len(found) != 6 or found[0] & MULTICAST or len(text) != 17:
        raise SpecError("--net", f"{text!r} is no address of one interface")
    return found
