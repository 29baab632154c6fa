# SPDX-License-Identifier: Apache-2.0
"""Links for experiments: --latency, --loss and --rate, as queueing disciplines of both ends
(tc-netem(8), tc-tbf(8)). pyroute2 lays the message out; the index is put in by who knows it.
"""

from __future__ import annotations

from pyroute2.netlink.rtnl import RTM_NEWQDISC, TC_H_ROOT
from pyroute2.netlink.rtnl.tcmsg import sched_netem, sched_tbf, tcmsg

from minibox import forms
from minibox import netlink as nl
from minibox.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HANDLE = 0x10000  # 1:
UNITS = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
MOST_RATE = 32 * 10**9  # a netem or tbf counts bytes a second in 32 bits
MOST_LATENCY = 60.0
MOST_DIGITS = 20
QUEUED = 1000  # packets that wait for their time
SHORT = 0.05  # s; how long a packet may wait where only the rate is limited
LEAST_BURST = 8192  # bytes; five packets


def asked(delay: str | None, lost: str | None, speed: str | None) -> tuple[str, bytes]:
    """The kind of the discipline and RTM_NEWQDISC for --latency, --loss and --rate, of which one is
    there; nothing for --loss 0%. SpecError."""
    latency = _latency(delay) if delay is not None else 0.0
    loss = _percent(lost) if lost is not None else 0.0
    rate = _rate(speed) if speed is not None else 0
    if latency or loss:
        words: dict[str, Any] = {"delay": round(latency * 1e6), "loss": loss, "limit": QUEUED}
        if rate:
            words["rate"] = rate // 8
        return "netem", _message("netem", sched_netem.get_parameters(words))
    if not rate:
        return "", b""
    # The bucket holds what comes in a tenth of a second, so that bursts are as even as packets are.
    burst = max(LEAST_BURST, rate // 8 // 10)
    words = {"rate": rate // 8, "burst": burst, "limit": burst + int(rate / 8 * SHORT)}
    return "tbf", _message("tbf", sched_tbf.get_parameters(words))


def _latency(text: str) -> float:
    seconds = forms.duration("--latency", text)
    if not 0 < seconds <= MOST_LATENCY:
        raise SpecError("--latency", f"{text!r}: at most a minute")
    return seconds


def _percent(text: str) -> float:
    number = text.removesuffix("%")
    try:
        found = float(number)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 100 or not number.replace(".", "", 1).isdigit():
        raise SpecError("--loss", f"{text!r}: write 1%, or 0.1%")
    return found


def _rate(text: str) -> int:
    unit = text.lstrip("0123456789.").lower()
    number = text[: len(text) - len(unit)]
    is_number = number.replace(".", "", 1).isdigit() and len(number) <= MOST_DIGITS
    if unit not in UNITS or not is_number:
        raise SpecError("--rate", f"{text!r}: write 10mbit, or 500kbit")
    found = int(float(number) * UNITS[unit])
    if not 1000 <= found <= MOST_RATE:
        raise SpecError("--rate", f"{text!r}: from 1kbit to 32gbit")
    return found


def _message(kind: str, parameters: dict[str, Any]) -> bytes:
    message = tcmsg()
    message["handle"] = HANDLE
    message["parent"] = TC_H_ROOT
    message["attrs"] = [("TCA_KIND", kind), ("TCA_OPTIONS", parameters)]
    message["header"]["type"] = RTM_NEWQDISC
    flags = nl.NLM_F_REQUEST | nl.NLM_F_ACK | nl.NLM_F_CREATE | nl.NLM_F_EXCL
    message["header"]["flags"] = flags
    message.encode()
    return bytes(message.data)
