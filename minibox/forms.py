# SPDX-License-Identifier: Apache-2.0
"""The texts that people write for volumes, durations, namespaces: text -> value, or SpecError.

Pure: what a text says is decided here, whether the host has it is not.
"""

from __future__ import annotations

import os
import posixpath

from minibox import syscalls as sc
from minibox.errors import SpecError
from minibox.spec import (
    CAPABILITIES,
    DEFAULT_CAPABILITIES,
    KINDS,
    NO_CORE,
    RLIM_INFINITY,
    RLIMITS,
    Join,
    Record,
    Rlimit,
    Tmpfs,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MOUNT_WORDS = {
    "ro": (sc.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, sc.MOUNT_ATTR_RDONLY),
    "nosuid": (sc.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, sc.MOUNT_ATTR_NOSUID),
    "nodev": (sc.MOUNT_ATTR_NODEV, 0),
    "dev": (0, sc.MOUNT_ATTR_NODEV),
    "noexec": (sc.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, sc.MOUNT_ATTR_NOEXEC),
}
# What --security-opt may be about, and the values of each; none where any text may be one.
SECURITY_WORDS: dict[str, tuple[str, ...]] = {
    "seccomp": (),
    "apparmor": (),
    "label": (),
    "no-new-privileges": ("true", "false"),
    "systempaths": ("unconfined",),
    "mask": (),
    "unmask": (),
}
SAFE = sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV
PATH_MAX = 4096
# KTIME_MAX / 2: what the kernel takes as an offset at most (kernel/time/namespace.c).
MOST_SECONDS = 4_611_686_018
# signal(7); the same numbers on x86-64 and arm64.
SIGNALS = (
    *("HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2"),
    *("PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG"),
    *("XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS"),
)
LAST_SIGNAL = 64
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


MOST_IDS = 0xFFFFFFFF  # -1 is nobody's


class Userns(Record):
    """mode: "auto", "host", "keep-id", or "range": then `size` ids from uid and gid on outside."""

    mode: str
    uid: int = 0
    gid: int = 0
    size: int = 0


def userns(text: str) -> Userns:
    """`auto`, `host`, `keep-id`, or `UID:GID:SIZE`, the first ids outside and how many."""
    if text in ("auto", "host", "keep-id"):
        return Userns(text)
    parts = text.split(":")
    are_numbers = all(part.isascii() and part.isdigit() and len(part) <= 10 for part in parts)
    if len(parts) != 3 or not are_numbers:
        raise SpecError("--userns", f"{text!r} is none of auto, host, keep-id, UID:GID:SIZE")
    uid, gid, size = (int(part) for part in parts)
    if not size or max(uid, gid) + size > MOST_IDS:
        raise SpecError("--userns", f"{text!r}: ids are below {MOST_IDS}, and one at least")
    return Userns("range", uid, gid, size)


def _words(option: str, text: str) -> tuple[int, list[str]]:
    """Mount words as MOUNT_ATTR_*, over the safe ones; and the words that are none."""
    attributes, rest = SAFE, []
    for word in filter(None, text.split(",")):
        if word in MOUNT_WORDS:
            add, remove = MOUNT_WORDS[word]
            attributes = attributes & ~remove | add
        else:
            rest.append(word)
    return attributes, rest


def target(option: str, text: str) -> bytes:
    """An absolute path inside the container, normalised."""
    if not text.startswith("/"):
        raise SpecError(option, f"{text!r}: the path inside must be absolute")
    path = posixpath.normpath("/" + text.lstrip("/"))
    if path == "/":
        raise SpecError(option, "nothing can be mounted over the whole root")
    if len(os.fsencode(path)) >= PATH_MAX:
        raise SpecError(option, f"the path inside is too long: {PATH_MAX - 1} bytes at most")
    return os.fsencode(path)


def volume(text: str) -> tuple[str, bytes, int, bool]:
    """`SRC:DST[:WORD,…]` as (source, target, MOUNT_ATTR_*, idmap)."""
    option = "--volume"
    parts = text.split(":")
    if len(parts) not in (2, 3) or not parts[0]:
        raise SpecError(option, f"{text!r}: write SOURCE:TARGET[:ro,…]")
    attributes, rest = _words(option, parts[2] if len(parts) == 3 else "")
    idmap = "noidmap" not in rest
    unknown = [word for word in rest if word not in ("idmap", "noidmap")]
    if unknown:
        known = ", ".join([*MOUNT_WORDS, "idmap", "noidmap"])
        raise SpecError(option, f"{text!r}: {unknown[0]!r} is none of {known}")
    return parts[0], target(option, parts[1]), attributes, idmap


def tmpfs(text: str) -> Tmpfs:
    """`DST[:size=64m,mode=0755,ro,…]`."""
    option = "--tmpfs"
    path, _, words = text.partition(":")
    attributes, rest = _words(option, words)
    given = {"size": "", "mode": "1777"}
    for word in rest:
        key, equals, value = word.partition("=")
        if key not in given or not equals:
            known = ", ".join([*MOUNT_WORDS, "size=", "mode="])
            raise SpecError(option, f"{text!r}: {word!r} is none of {known}")
        given[key] = value
    if not _is_mode(given["mode"]):
        raise SpecError(option, f"{text!r}: mode is an octal number up to 7777")
    if given["size"]:
        size(option, given["size"])
    return Tmpfs(target(option, path), attributes, given["size"].encode(), given["mode"].encode())


def _is_mode(text: str) -> bool:
    is_octal = bool(text) and all(digit in "01234567" for digit in text)
    return is_octal and int(text, 8) <= 0o7777


def size(option: str, text: str) -> bytes:
    """A size as tmpfs(5) takes it: 65536, 64k, 512m, 2g, 50%."""
    number = text[:-1] if text[-1:].lower() in tuple("kmgt%") else text
    if not number.isascii() or not number.isdigit() or len(number) > 18 or int(number) == 0:
        raise SpecError(option, f"{text!r} is no size; write 512m, 2g or 50%")
    return text.encode()


def duration(option: str, text: str) -> float:
    """`1.5`, `500ms`, `30s`, `5m`, `2h` in seconds."""
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text[len(number) :] or "s"
    try:
        seconds = float(number) * UNITS[unit]
    except (ValueError, KeyError):
        seconds = -1.0
    if not 0 < seconds < 1e9:
        raise SpecError(option, f"{text!r} is no duration; write 1.5, 500ms, 30s, 5m or 2h")
    return seconds


def signal(option: str, text: str) -> int:
    """`TERM`, `SIGTERM`, `15`, `RTMIN+3`."""
    name = text.upper().removeprefix("SIG")
    if name in SIGNALS:
        return SIGNALS.index(name) + 1
    start, plus, rest = name.partition("+")
    if start == "RTMIN":
        is_number = rest.isascii() and rest.isdigit() and len(rest) < 3
        name = str(34 + int(rest)) if is_number else "" if plus else "34"
    if name.isascii() and name.isdigit() and 1 <= int(name[:9]) <= LAST_SIGNAL:
        return int(name)
    raise SpecError(option, f"{text!r} is no signal")


def capabilities(add: list[str], drop: list[str]) -> tuple[str, ...]:
    """The default set with some dropped, then some added; ALL means all, CAP_ may be left out."""
    dropped = _capabilities("--cap-drop", drop)
    added = _capabilities("--cap-add", add)
    kept = (set(DEFAULT_CAPABILITIES) - dropped) | added
    return tuple(name for name in CAPABILITIES if name in kept)


def _capabilities(option: str, texts: list[str]) -> set[str]:
    found: set[str] = set()
    for text in texts:
        for word in text.split(","):
            name = word.upper().removeprefix("CAP_")
            if name != "ALL" and name not in CAPABILITIES:
                raise SpecError(option, f"{word!r} is no capability")
            found |= set(CAPABILITIES) if name == "ALL" else {name}
    return found


def seconds(option: str, text: str) -> int:
    """A signed decimal number of seconds."""
    digits = text.lstrip("+-")
    if (
        not digits.isascii()
        or not digits.isdigit()
        or len(digits) > 18
        or len(text) > len(digits) + 1
    ):
        raise SpecError(option, f"{text!r} is no whole number")
    if abs(int(text)) > MOST_SECONDS:
        raise SpecError(option, f"{text} is more than the kernel takes, {MOST_SECONDS}")
    return int(text)


def kinds(option: str, text: str) -> list[str]:
    """`net,ipc`: kinds of namespaces."""
    found = [kind for kind in text.split(",") if kind]
    for kind in found:
        if kind not in KINDS:
            raise SpecError(option, f"{kind!r} is none of {', '.join(KINDS)}")
    return found


def namespace_of(pid: int | str, kind: str) -> str:
    """The file of a process's namespace (namespaces(7)). The time namespace is its children's:
    where exec does not enter one (before Linux 6.3) a container's init is itself outside."""
    return f"/proc/{pid}/ns/{'time_for_children' if kind == 'time' else kind}"


def join(text: str) -> Join:
    """`net=1234` or `net=/run/netns/blue`."""
    option = "--join"
    kind, equals, where = text.partition("=")
    if not equals or not where:
        raise SpecError(option, f"{text!r}: write KIND=PID or KIND=PATH")
    kinds(option, kind or "?")
    if where.isascii() and where.isdigit() and len(where) <= 10:
        return Join(kind, namespace_of(int(where), kind).encode())
    return Join(kind, os.fsencode(where))


def hostname(option: str, text: str) -> bytes:
    """A name of at most 64 bytes, the kernel's limit (sethostname(2))."""
    name = os.fsencode(text)
    if not name or len(name) > 64 or b"\0" in name:
        raise SpecError(option, f"{text!r} must have 1 to 64 bytes")
    return name


def route(text: str) -> tuple[bytes, bytes]:
    """`10.2.0.0/24=10.1.0.1`, or `default=10.1.0.1`: a subnet and its gateway."""
    from minibox.netlink import packed

    subnet, equals, gateway = text.partition("=")
    if subnet == "default":
        subnet = "::/0" if ":" in gateway else "0.0.0.0/0"
    where, slash, bits = subnet.partition("/")
    try:
        family, address = packed(where)
        is_right = family == packed(gateway)[0] and bool(slash and equals)
        is_right = is_right and bits.isascii() and bits.isdigit() and int(bits) <= 8 * len(address)
    except ValueError:
        is_right = False
    if not is_right:
        raise SpecError("--route", f"{text!r}: write SUBNET=GATEWAY or default=GATEWAY")
    return subnet.encode(), gateway.encode()


def security_opt(texts: Iterable[str]) -> dict[str, str]:
    """`WORD=VALUE`, or `WORD:VALUE` as docker once wrote it, by word; the last of a word wins."""
    option, found = "--security-opt", {}
    for text in texts:
        at = min([text.find(mark) for mark in "=:" if mark in text], default=len(text))
        word, value = text[:at], text[at + 1 :]
        values = SECURITY_WORDS.get(word)
        if text == "no-new-privileges":
            value = "true"
        if values is None:
            raise SpecError(option, f"{word[:80]!r} is none of {', '.join(SECURITY_WORDS)}")
        if "\0" in value or (value not in values if values else not value):
            wanted = "|".join(values) or "VALUE"
            raise SpecError(option, f"{text[:80]!r}: write {word}={wanted}")
        found[word] = value
    return found


def sysctl(text: str) -> tuple[bytes, bytes]:
    """`net.ipv4.ip_forward=1`: the name with dots, and what is written. A / in it is a / of the
    path, as in sysctl(8): then the dots are those of an interface's name."""
    name, equals, value = text.partition("=")
    parts = name.split("/" if "/" in name else ".")
    is_name = len(parts) > 1 and all(part.strip(".") and part.isprintable() for part in parts)
    if not equals or not is_name or "\0" in value:
        raise SpecError("--sysctl", f"{text!r}: write NAME=VALUE")
    return "/".join(parts).encode(), os.fsencode(value)


def ulimits(texts: list[str]) -> tuple[Rlimit, ...]:
    """`nofile=1024:2048`, `nproc=64`, `core=-1`: soft and hard limits by name; the last of a name
    wins. No core is dumped unless it is asked for."""
    found = {NO_CORE.name: NO_CORE}
    for text in texts:
        name, equals, values = text.partition("=")
        soft, colon, hard = values.partition(":")
        upper = name.upper().removeprefix("RLIMIT_")
        if upper not in RLIMITS or not equals:
            known = ", ".join(RLIMITS).lower()
            raise SpecError("--ulimit", f"{text!r}: write NAME=SOFT[:HARD] with a name of {known}")
        low = _rlimit(text, soft)
        found[upper] = Rlimit(upper, low, _rlimit(text, hard) if colon else low)
        if found[upper].hard < low:
            raise SpecError("--ulimit", f"{text!r}: the soft limit is above the hard one")
    return tuple(found.values())


def _rlimit(text: str, value: str) -> int:
    if value in ("-1", "unlimited"):
        return RLIM_INFINITY
    if not value.isascii() or not value.isdigit() or len(value) > 18:
        raise SpecError("--ulimit", f"{text!r}: {value!r} is no whole number")
    return int(value)


def oom_score_adj(text: str) -> int:
    """-1000 to 1000 (proc_pid_oom_score_adj(5))."""
    digits = text.removeprefix("-").removeprefix("+")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 4 or int(digits) > 1000:
        raise SpecError("--oom-score-adj", f"{text!r}: it is -1000 to 1000")
    return int(text)


def landlock(texts: list[str]) -> tuple[tuple[bytes, bool], ...]:
    """`ro:/usr,rw:/tmp`: absolute paths inside, and whether they can be written."""
    found: dict[bytes, bool] = {}
    for text in texts:
        for item in text.split(","):
            word, colon, path = item.partition(":")
            if word not in ("ro", "rw") or not colon or not path.startswith("/") or "\0" in path:
                raise SpecError("--landlock", f"{text!r}: write ro:/path,rw:/path")
            found[os.fsencode(posixpath.normpath(path))] = word == "rw"
    return tuple(found.items())


def variables(option: str, items: list[str]) -> dict[bytes, bytes | None]:
    """`NAME=VALUE`, or `NAME` alone (the caller's value, None here); the last of a name wins."""
    found: dict[bytes, bytes | None] = {}
    for item in items:
        name, equals, value = os.fsencode(item).partition(b"=")
        if not name:
            raise SpecError(option, f"{item!r}: a variable needs a name")
        found.pop(name, None)
        found[name] = value if equals else None
    return found
