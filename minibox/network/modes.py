# SPDX-License-Identifier: Apache-2.0
"""What --net asks for: a mode, or networks. Imported by every start."""

from __future__ import annotations

from minibox.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.request import Options

ALONE = ("none", "host", "user")
OF_ANOTHER = ("container:", "ns:")  # and whose


def nets(options: Options) -> tuple[str, ...]:
    """What --net asks for: one mode, or networks. SpecError."""
    given = options.get("net")
    found = ("none",) if given is None else (given,) if isinstance(given, str) else tuple(given)
    if not found or not all(found):
        raise SpecError("--net", "a mode or the name of a network is needed")
    for text in found:
        if _is_mode(text) and len(found) > 1:
            raise SpecError("--net", f"{text!r} does not go with others")
        if sum(text.partition(":")[0] == other.partition(":")[0] for other in found) > 1:
            raise SpecError("--net", f"{text!r} is given twice")
    return found


def networks(options: Options) -> tuple[str, ...]:
    """The words of --net that name networks; none where it is a mode without."""
    found = nets(options)
    return () if _is_mode(found[0]) else found


def _is_mode(text: str) -> bool:
    """Is it no network? SpecError."""
    if text.partition(":")[0] in ALONE and ":" in text:
        raise SpecError("--net", f"{text!r}: only a network takes words")
    return text in ALONE or text.startswith(OF_ANOTHER)


def names(options: Options) -> tuple[str, ...]:
    """The same without their words, or the mode."""
    found = nets(options)
    return found if _is_mode(found[0]) else tuple(text.partition(":")[0] for text in found)


def is_wired(options: Options) -> bool:
    """Does somebody else have to say what there is behind --net, or is called by which name?"""
    mode = nets(options)[0]
    is_simple = _is_mode(mode) and mode != "user" and not mode.startswith("container:")
    return not is_simple or bool(options.get("dns") or options.get("add_host"))


def unwired(options: Options) -> Options:
    """The same without another container's network, for who only wants to know the rest."""
    found: Options = {**options, "net": "none"}
    return found if nets(options)[0].startswith("container:") else options


def check(options: Options) -> None:
    """What is asked of a network is not dropped where there is none. SpecError."""
    if networks(options):
        return
    has_ports = nets(options) == ("user",)
    for word in ("publish", "route", "ip", "latency", "loss", "rate", "network_alias"):
        if options.get(word) and not (word == "publish" and has_ports):
            option = f"--{word.replace('_', '-')}"
            raise SpecError(option, "it needs a network: --net bridge, or the name of one")
