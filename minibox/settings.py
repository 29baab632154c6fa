# SPDX-License-Identifier: Apache-2.0
"""What a detached container is asked for beside what it is: names, policies, logs, health.

Pure, as forms.py: text -> value, or SpecError. The values are plain data that config.json holds.
"""

from __future__ import annotations

from minibox import forms
from minibox.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypedDict

    class Settings(TypedDict, total=False):
        """Texts, as the command line's options of the same names; durations as forms.duration
        takes them. remove: at its end (--rm). labels: NAME=VALUE. log_opt: max-size=, max-file=.
        timeout: until it is killed.
        """

        name: str
        labels: Sequence[str]
        label_file: Sequence[str]
        remove: bool
        restart: str
        tty: bool
        interactive: bool
        detach_keys: str
        stop_signal: str
        stop_timeout: str
        timeout: str
        log_opt: Sequence[str]
        health_cmd: str
        health_interval: str
        health_timeout: str
        health_start_period: str
        health_retries: str


FIELDS = frozenset(
    (
        *("name", "labels", "label_file", "remove", "restart", "tty", "interactive"),
        *("detach_keys", "stop_signal", "stop_timeout", "timeout", "log_opt", "health_cmd"),
        *("health_interval", "health_timeout", "health_start_period", "health_retries"),
    )
)
DETACH_KEYS = "ctrl-p,ctrl-q"
STOP_SIGNAL, STOP_TIMEOUT = "TERM", "10"
MOST_LOG_FILES = 9
LEAST_LOG, MOST_LOG = 4096, 1 << 31
LABEL_LIMIT = 1 << 20


def parse(settings: Settings) -> dict[str, Any]:
    """What config.json keeps of them. SpecError."""
    given: dict[str, Any] = dict(settings)
    restart = _restart(given.get("restart"))
    if given.get("remove") and restart["policy"] != "no":
        raise SpecError("--restart", "a container that is removed at its end cannot be restarted")
    keys = _or(given.get("detach_keys"), DETACH_KEYS)
    detach_keys(keys)
    return {
        "labels": _labels(given.get("labels") or (), given.get("label_file") or ()),
        "remove": bool(given.get("remove")),
        "restart": restart,
        "tty": bool(given.get("tty")),
        "interactive": bool(given.get("interactive")),
        "detach_keys": keys,
        "stop_signal": forms.signal("--stop-signal", _or(given.get("stop_signal"), STOP_SIGNAL)),
        "stop_timeout": whole("--stop-timeout", _or(given.get("stop_timeout"), STOP_TIMEOUT)),
        "timeout": _seconds("--timeout", given.get("timeout")),
        "log": _log(given.get("log_opt") or ()),
        "health": _health(given),
    }


def _or(text: str | None, default: str) -> str:
    """Only what is not given at all has a default: "" may be a mistake."""
    return default if text is None else text


def _restart(text: str | None) -> dict[str, Any]:
    policy, colon, most = _or(text, "no").partition(":")
    if policy not in ("no", "always", "on-failure", "unless-stopped"):
        known = "no, on-failure[:N], always, unless-stopped"
        raise SpecError("--restart", f"{text!r} is none of {known}")
    if colon and policy != "on-failure":
        raise SpecError("--restart", f"{text!r}: only on-failure takes a number")
    return {"policy": policy, "most": whole("--restart", most) if colon else 0}


def _seconds(option: str, text: str | None) -> float:
    """A duration, 0 where there is none."""
    return 0.0 if text is None else forms.duration(option, text)


def whole(option: str, text: str) -> int:
    """A number of seconds or times, not negative."""
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise SpecError(option, f"{text!r} is no whole number")
    return int(text)


def _labels(items: Sequence[str], files: Sequence[str]) -> dict[str, str]:
    found = {}
    for item in [*_lines(files), *items]:
        name, _, value = item.partition("=")
        if not name.strip():
            raise SpecError("--label", f"{item!r}: a label needs a name")
        found[name] = value
    return found


def _lines(files: Sequence[str]) -> list[str]:
    lines: list[str] = []
    for path in files:
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                text = file.read(LABEL_LIMIT)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise SpecError("--label-file", f"{path}: {reason}") from None
        lines += [line for line in text.splitlines() if line.strip() and line[0] != "#"]
    return lines


def _log(items: Sequence[str]) -> dict[str, int]:
    found = {"max-size": 8 << 20, "max-file": 2}
    for item in items:
        name, equals, value = item.partition("=")
        if name == "max-size" and equals:
            found[name] = _bytes(value)
        elif name == "max-file" and equals:
            found[name] = whole("--log-opt", value)
        else:
            raise SpecError("--log-opt", f"{item!r}: write max-size=8m or max-file=2")
    if not 1 <= found["max-file"] <= MOST_LOG_FILES + 1:
        raise SpecError("--log-opt", f"max-file is 1 to {MOST_LOG_FILES + 1}")
    return found


def _bytes(text: str) -> int:
    size = forms.size("--log-opt", text.removesuffix("b").removesuffix("B")).decode().lower()
    if size[-1] in "%t":
        raise SpecError("--log-opt", f"{text!r}: write max-size=8m")
    factor = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}.get(size[-1], 1)
    number = int(size if factor == 1 else size[:-1]) * factor
    if not LEAST_LOG <= number <= MOST_LOG:
        raise SpecError("--log-opt", f"max-size={text}: it is 4k to 2g")
    return number


def _health(given: dict[str, Any]) -> dict[str, Any] | None:
    text = given.get("health_cmd")
    if text is None or text == "none":
        for word in ("interval", "timeout", "start_period", "retries"):
            if given.get(f"health_{word}") is not None and text is None:
                option = f"--health-{word.replace('_', '-')}"
                raise SpecError(option, "there is no --health-cmd")
        return None

    def seconds(word: str, default: str) -> float:
        value = given.get(f"health_{word}")
        value = default if value is None else value
        option = f"--health-{word.replace('_', '-')}"
        return 0.0 if value in ("0", "0s") else forms.duration(option, value)

    interval = seconds("interval", "30s")
    if interval and interval < 0.1:
        raise SpecError("--health-interval", "100ms is the least")
    return {
        "test": _test(text),
        "interval": interval,
        "timeout": seconds("timeout", "30s") or 30.0,
        "start_period": seconds("start_period", "0s"),
        "retries": whole("--health-retries", _or(given.get("health_retries"), "3")) or 3,
    }


def _test(text: str) -> list[str]:
    """A line for a shell, or a JSON array of words, as docker takes them."""
    if text.startswith("["):
        import json

        try:
            words = json.loads(text)
        except (ValueError, RecursionError):
            words = None
        if not isinstance(words, list) or not words or not all(isinstance(w, str) for w in words):
            raise SpecError("--health-cmd", f"{text!r}: a JSON array of words, or a shell's line")
        if words[0] == "CMD":
            return words[1:]
        return ["/bin/sh", "-c", *words[1:]] if words[0] == "CMD-SHELL" else words
    if not text:
        raise SpecError("--health-cmd", "the command is empty")
    return ["/bin/sh", "-c", text]


def detach_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q`, `a`, `ctrl-@` as the bytes that a terminal sends."""
    keys = b""
    for word in text.split(",") if text else []:
        name = word.removeprefix("ctrl-")
        if len(name) != 1 or not name.isascii():
            raise SpecError("--detach-keys", f"{word!r}: write a letter, or ctrl-a to ctrl-_")
        if name == word:
            keys += name.encode()
        elif "a" <= name <= "z" or name in "@[\\]^_":
            keys += bytes([ord(name.upper()) & 0x1F])
        else:
            raise SpecError("--detach-keys", f"{word!r}: ctrl- takes a to z and @ [ \\ ] ^ _")
    return keys
