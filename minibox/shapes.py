# SPDX-License-Identifier: Apache-2.0
"""What the files of a kept container must hold before anything believes them. Pure.

A shape is a type (exactly it: True is no number), a function that says whether a value fits,
[shape] for a list of such, {key: shape} for an object that has these keys and maybe others, a tuple
of shapes of which one must fit, or None.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_TIME = 253_402_300_799 * 1_000_000_000  # ns; the end of the year 9999
MOST_PID = (1 << 31) - 1


def _text(value: object) -> bool:
    """That a system call can take: surrogates stand for bytes that are no UTF-8 (PEP 383)."""
    if type(value) is not str:
        return False
    try:
        value.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _texts(value: object) -> bool:
    return type(value) is list and all(map(_text, value))


def _command(value: object) -> bool:
    return _texts(value) and bool(value)


def _triple(value: object) -> bool:
    return _texts(value) and len(value) == 3  # type: ignore[arg-type]


def _words(value: object) -> bool:
    """An object whose values are texts."""
    return type(value) is dict and all(map(_text, (*value, *value.values())))


def _count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _pid(value: object) -> bool:
    return type(value) is int and 0 <= value <= MOST_PID


def _time(value: object) -> bool:
    return type(value) is int and 0 <= value <= MOST_TIME


def _seconds(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < 1e9  # type: ignore[operator]


def _byte(value: object) -> bool:
    return type(value) is int and 0 <= value <= 255


def _options(value: object) -> bool:
    """Those of request.Options: flags, numbers, texts and lists of texts."""
    if type(value) is not dict:
        return False
    is_plain = all(_text(key) and _option(value[key]) for key in value)
    lists = [value.get(key, []) for key in ("volumes", "env", "publish", "cap_add", "cap_drop")]
    net = value.get("net", "")
    is_whole = is_plain and all(map(_texts, lists)) and (_text(net) or _texts(net))
    return is_whole and all(":" in text for text in lists[0])


def _option(value: object) -> bool:
    return type(value) in (bool, int, float) or _text(value) or _texts(value)


def _address(value: object) -> bool:
    """`10.66.0.2/16`."""
    return _text(value) and str(value).partition("/")[2].isdecimal()


CONFIG = {
    "name": _text,
    "created": _time,
    "rootfs": _text,
    "args": _command,
    "options": _options,
    "ids": (_count, None),
    "labels": _words,
    "restart": {"policy": _text, "most": _count},
    "log": {"max-size": _count, "max-file": _count},
    "remove": bool,
    "tty": bool,
    "interactive": bool,
    "detach_keys": _text,
    "stop_signal": _byte,
    "stop_timeout": _count,
    "timeout": _seconds,
    "health": (
        {
            "test": _texts,
            "interval": _seconds,
            "timeout": _seconds,
            "start_period": _seconds,
            "retries": _count,
        },
        None,
    ),
}
NETWORK = {
    "name": _text,
    "interface": _text,
    "addresses": [_address],
    "gateways": _texts,
    "mac": _text,
}
PROCESS = {
    "env": _texts,
    "cwd": _text,
    "umask": _count,
    "user": list,
    "capabilities": _texts,
}


def _part(value: object) -> bool:
    """A directory of a cgroup (resources/cgroup.py): one that is removed with all that is in it."""
    if type(value) is not list or len(value) != 3:
        return False
    version, controllers, path = value
    if version not in (1, 2) or not _texts(controllers) or not _text(path):
        return False
    parts = path.split("/")
    return parts[0] == "" and ".." not in parts and "minibox" in "/".join(parts[-2:])


RUN = {
    "run": _count,
    "pid": _pid,
    "start_time": _count,
    "monitor": _pid,
    "monitor_start_time": (_count, None),
    "began": _time,
    "restarts": _count,
    "networks": ([NETWORK], None),
    "cgroup": ([_part], None),
    "process": (PROCESS, None),
}
END = {"exit_code": _byte, "signal": _byte, "finished": _time}
TOPOLOGY = {
    "is_up": bool,
    "given": dict,
    "subnets": (_words, None),
    "addresses": ([_triple], None),
}
HEALTH = {
    "run": _count,
    "status": lambda value: value in ("starting", "healthy", "unhealthy"),
    "failing": _count,
    "log": [dict],
}


def fits(value: object, shape: Any) -> bool:
    """Is it of that shape?"""
    if shape is None:
        return value is None
    if isinstance(shape, tuple):
        return any(fits(value, one) for one in shape)
    if isinstance(shape, list):
        return type(value) is list and all(fits(one, shape[0]) for one in value)
    if isinstance(shape, dict):
        return type(value) is dict and not misfit(value, shape)
    if isinstance(shape, type):
        return type(value) is shape
    return bool(shape(value))


def misfit(value: dict[str, Any], shape: dict[str, Any]) -> str:
    """The first key that is missing or holds something else; "" when there is none."""
    return next((key for key, one in shape.items() if not fits(value.get(key), one)), "")
