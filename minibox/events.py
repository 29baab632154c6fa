# SPDX-License-Identifier: Apache-2.0
"""The journal of what happened to containers: the file `events` of a directory, and before it
`events.1`, one JSON object a line in the shape of docker's events (its API, GET /events).

Many processes append to it, each with one write, so nobody needs a lock to record. Who makes it too
long renames it, and that under a lock. What cannot be recorded is not: no container fails for it.
"""

from __future__ import annotations

import os
import struct
import time

from minibox import lines as files
from minibox.errors import SpecError, StateError
from minibox.lines import LONGEST, Lines
from minibox.watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Filters = dict[str, list[str]]

NAME, ROTATED = "events", 1
LOCK = "events.lock"
MOST = 1 << 20  # bytes
ATTEMPTS = 5
FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
SECOND = 1_000_000_000
MOST_TIME = 1 << 63
KEYS = ("container", "event", "label", "type")


def record(directory: str, action: str, id_: str, name: str, /, **attributes: str) -> bool:
    """Append one event that happens now; False when it cannot be written, or not to its end.

    attributes: what docker's Attributes has beside the name: labels, exitCode, signal, …
    """
    now = time.time_ns()
    line = _line(now, action, id_, {**attributes, "name": name})
    if len(line) > LONGEST:
        line = _line(now, action, id_, {"name": name})  # no reader would take it
    for _ in range(ATTEMPTS):
        try:
            is_whole, is_kept = _append(directory, line)
        except OSError:
            return False
        if is_kept:
            return is_whole
    return False


def _append(directory: str, line: bytes) -> tuple[bool, bool]:
    """Whether it could be written to its end, and to a file that was not rotated away, twice, while
    this process was on its way to it. OSError."""
    fd = os.open(os.path.join(directory, NAME), FLAGS | os.O_APPEND, 0o600)
    try:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            line = b"\n" + line  # who came before ran out of disk
        is_whole = os.write(fd, line) == len(line)
        is_kept = os.fstat(fd).st_nlink > 0
    finally:
        os.close(fd)
    if size + len(line) > MOST:
        _rotate(directory)
    return is_whole, is_kept


def _line(now: int, action: str, id_: str, attributes: dict[str, str]) -> bytes:
    pairs = ",".join(f"{_quoted(key)}:{_quoted(attributes[key])}" for key in sorted(attributes))
    return (
        f'{{"Type":"container","Action":{_quoted(action)},"Actor":{{"ID":{_quoted(id_)},'
        f'"Attributes":{{{pairs}}}}},"time":{now // SECOND},"timeNano":{now}}}\n'
    ).encode()


def _quoted(text: str) -> str:
    """A JSON string, all ASCII. The import of json is more than a tenth of a cold start."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\' else _escaped(c) for c in text)
    return f'"{plain}"'


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _rotate(directory: str) -> None:
    """Make `events` `events.1`, unless somebody else does so right now."""
    import fcntl

    path = os.path.join(directory, NAME)
    try:
        lock = os.open(os.path.join(directory, LOCK), FLAGS, 0o600)
    except OSError:
        return
    try:
        # struct flock: the whole file. The lock goes with its open file, and a killed process.
        fcntl.fcntl(lock, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
        if os.lstat(path).st_size > MOST:
            os.rename(path, f"{path}.1")
    except OSError:
        pass
    finally:
        os.close(lock)


class Event:
    """time: ns since the epoch. type: "container". action: "start", "die", … id: the container's.
    attributes: "name" and more. line: all of it as JSON, as it was written."""

    __slots__ = ("action", "attributes", "id", "line", "time", "type")

    def __init__(
        self, time: int, type_: str, action: str, id_: str, attributes: dict[str, str], line: str
    ) -> None:
        self.time = time
        self.type = type_
        self.action = action
        self.id = id_
        self.attributes = attributes
        self.line = line


def parse(line: bytes) -> Event | None:
    """One line of the journal; None for what is no event."""
    import json

    try:
        text = line.decode().strip()
        found = json.loads(text)
        actor = found["Actor"]
        event = Event(
            found["timeNano"],
            found["Type"],
            found["Action"],
            actor["ID"],
            actor["Attributes"],
            text,
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    texts = [event.type, event.action, event.id]
    if type(event.time) is not int or not 0 <= event.time < MOST_TIME:
        return None
    if not isinstance(event.attributes, dict):
        return None
    texts += event.attributes.values()
    return event if all(isinstance(text, str) for text in texts) else None


def read(
    directory: str,
    *,
    since: int | None = None,
    until: int | None = None,
    filters: Sequence[str] = (),
) -> Iterator[Event]:
    """The events of the journal, the oldest first, from `since` to `until`, ns since the epoch and
    both included.

    filters: `container=NAME` or `=ID`, which may be cut short, `event=ACTION`, `type=container`,
    `label=KEY[=VALUE]`. Of several of one kind one must hold, and of each kind. SpecError for a bad
    one. A directory that does not exist has no events. OSError, StateError.
    """
    return _read(directory, since, until, _filters(filters))


def _read(
    directory: str, since: int | None, until: int | None, filters: Filters
) -> Iterator[Event]:
    with Lines(directory, NAME, ROTATED) as lines:
        yield from _wanted(lines.past(), since, until, filters)


def follow(
    directory: str,
    *,
    since: int | None = None,
    until: int | None = None,
    filters: Sequence[str] = (),
    stop: Callable[[], bool],
) -> Iterator[Event]:
    """The same, and then what comes, until `stop()` is true or the clock shows `until`.

    With neither `since` nor `until` only what comes, as docker has it. StateError when there is no
    such directory.
    """
    return _follow(directory, since, until, _filters(filters), stop)


def _follow(
    directory: str,
    since: int | None,
    until: int | None,
    filters: Filters,
    stop: Callable[[], bool],
) -> Iterator[Event]:
    try:
        watch = Watch(directory)
    except (FileNotFoundError, NotADirectoryError):
        raise StateError(f"{directory}: there is no such directory") from None
    with watch, Lines(directory, NAME, ROTATED) as lines:
        if since is None and until is None:
            lines.rewind(0)
        yield from _wanted(lines.past(), since, until, filters)
        yield from _wanted(files.follow(lines, watch, stop, until), since, until, filters)


def _wanted(
    lines: Iterable[bytes], since: int | None, until: int | None, filters: Filters
) -> Iterator[Event]:
    for line in lines:
        event = parse(line)
        if event is None or (since is not None and event.time < since):
            continue
        if (until is None or event.time <= until) and _passes(event, filters):
            yield event


def _filters(texts: Sequence[str]) -> Filters:
    """The values by key. SpecError."""
    found: Filters = {}
    for text in texts:
        key, _, value = text.partition("=")
        if key not in KEYS or not value:
            raise SpecError("--filter", f"{text!r}: write KEY=VALUE, KEY one of {', '.join(KEYS)}")
        found.setdefault(key, []).append(value)
    return found


def _passes(event: Event, filters: Filters) -> bool:
    return all(any(_fits(event, key, value) for value in filters[key]) for key in filters)


def _fits(event: Event, key: str, value: str) -> bool:
    if key == "container":
        return event.attributes.get("name") == value or event.id.startswith(value)
    if key == "event":
        # An action may say more: "exec_create: /bin/sh".
        return event.action.partition(":")[0] == value or event.action == value
    if key == "type":
        return event.type == value
    name, equals, wanted = value.partition("=")
    given = event.attributes.get(name)
    return given is not None and (not equals or given == wanted)
