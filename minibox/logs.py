# SPDX-License-Identifier: Apache-2.0
"""What a container has written, as its monitor keeps it: the files `log`, `log.1`, … of its
directory, one entry a line in the form of the CRI (its logging format, kubernetes/cri-api):

    2026-11-22T00:09:18.123456789Z stdout F the text

F: the entry ends a line. P: its line goes on with the next entry of the same stream. The text may
hold any byte but a newline. The times are those of a clock that may be set back: the order of the
entries is that of the file.
"""

from __future__ import annotations

import os
import select
import time

from minibox import lines as files
from minibox.errors import SpecError
from minibox.lines import Lines
from minibox.watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

NAME, ROTATED = "log", 9
HEAD = len(b"2026-11-22T00:09:18.123456789Z stdout F ")
STREAMS = {b" stdout ": "stdout", b" stderr ": "stderr"}
ENDS = {b"F ": True, b"P ": False}
WINDOW = 1 << 18  # bytes; where the last lines are looked for first
MARGIN = 1 << 17  # bytes; at its start, where lines may have begun that end later

SECOND = 1_000_000_000
UNITS = {"ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 1_000_000, "s": SECOND}
UNITS |= {"m": 60 * SECOND, "h": 3600 * SECOND}
MOST_TEXT = 64
MOST_SECONDS = 253_402_300_799  # the end of the year 9999
MOST_DURATION = (1 << 63) - 1  # ns; what a time.Duration of Go holds
EPOCH_DAY = 719_162  # days from the first of January 1 to that of 1970
MONTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class Entry:
    """time: ns since the epoch. stream: "stdout" or "stderr". text: without its newline. ends: the
    text ends a line."""

    __slots__ = ("ends", "stream", "text", "time")

    def __init__(self, time: int, stream: str, text: bytes, ends: bool) -> None:
        self.time = time
        self.stream = stream
        self.text = text
        self.ends = ends


_last_second = (b"", 0)


def parse(line: bytes) -> Entry | None:
    """One line of the file with its newline, or a torn one without: then the entry does not end
    its line. None for what is no entry."""
    global _last_second
    stream = STREAMS.get(line[30:38])
    ends = ENDS.get(line[38:HEAD])
    fraction = line[20:29]
    if stream is None or ends is None or line[29] != 0x5A or not fraction.isdigit():
        return None
    # Lines come in bursts: the second is most often that of the line before.
    known, seconds = _last_second
    if line[:20] != known:
        found = _seconds(line[:20])
        if found is None:
            return None
        seconds = found
        _last_second = (line[:20], seconds)
    whole = line.endswith(b"\n")
    text = line[HEAD:-1] if whole else line[HEAD:]
    return Entry(seconds * SECOND + int(fraction), stream, text, ends and whole)


def _seconds(stamp: bytes) -> int | None:
    """`2026-11-22T00:09:18.` in seconds since the epoch."""
    digits = stamp[:4] + stamp[5:7] + stamp[8:10] + stamp[11:13] + stamp[14:16] + stamp[17:19]
    rest = stamp[4:5] + stamp[7:8] + stamp[10:11] + stamp[13:14] + stamp[16:17] + stamp[19:]
    if rest != b"--T::." or not digits.isdigit():
        return None
    day = _day(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
    hour, minute, second = int(digits[8:10]), int(digits[10:12]), int(digits[12:])
    if day is None or hour > 23 or minute > 59 or second > 59:
        return None
    return day * 86400 + hour * 3600 + minute * 60 + second


def _day(year: int, month: int, day: int) -> int | None:
    """Days since the epoch. None: the Gregorian calendar has no such day."""
    leaps = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not (year >= 1 and 1 <= month <= 12):
        return None
    if not 1 <= day <= MONTHS[month - 1] + (leaps and month == 2):
        return None
    before = year - 1
    days = before * 365 + before // 4 - before // 100 + before // 400
    return days + sum(MONTHS[: month - 1]) + (leaps and month > 2) + day - 1 - EPOCH_DAY


def read(
    directory: str, *, tail: int | None = None, since: int | None = None, until: int | None = None
) -> Iterator[Entry]:
    """What the log holds now, the oldest first.

    tail: of all, the last so many lines, and what follows them unended; below 0, as None, all.
    since, until: of these, the entries from then to then, ns since the epoch, both included.
    A directory that does not exist has no entries. OSError, StateError.
    """
    with Lines(directory, NAME, ROTATED) as lines:
        for entry in _past(lines, tail):
            if _is_between(entry, since, until):
                yield entry
        yield from _torn(lines, since, until)


def follow(
    directory: str,
    ended: Callable[[], bool],
    *,
    tail: int | None = None,
    since: int | None = None,
    until: int | None = None,
) -> Iterator[Entry]:
    """The same, and then what comes, until `ended()` is true or the clock shows `until`, or the
    directory is removed, and all has been read. OSError, StateError.

    ended: the monitor will write no more. Asked often: it should be cheap.
    """
    try:
        watch = Watch(directory)
    except (FileNotFoundError, NotADirectoryError):
        return
    with watch, Lines(directory, NAME, ROTATED) as lines:
        for entry in _past(lines, tail):
            if _is_between(entry, since, until):
                yield entry
        for entry in _entries(files.follow(lines, watch, ended, until)):
            if _is_between(entry, since, until):
                yield entry
        yield from _torn(lines, since, until)


def _entries(lines: Iterable[bytes]) -> Iterator[Entry]:
    for line in lines:
        entry = parse(line)
        if entry is not None:
            yield entry


def _is_between(entry: Entry, since: int | None, until: int | None) -> bool:
    return (since is None or entry.time >= since) and (until is None or entry.time <= until)


def _torn(lines: Lines, since: int | None, until: int | None) -> Iterator[Entry]:
    """The last entry, if nobody wrote it to its end."""
    for entry in _entries([lines.torn()]):
        if _is_between(entry, since, until):
            yield entry


def _past(lines: Lines, tail: int | None) -> Iterable[Entry]:
    if tail is None or tail < 0:
        return _entries(lines.past())
    if tail == 0:
        lines.rewind(0)
        for _ in lines.past():
            pass
        return []
    # The last lines are looked for in ever larger pieces of the end.
    window, is_all, kept = WINDOW, False, _Last(tail)
    while not is_all and kept.left > 0:
        is_all = lines.rewind(window)
        kept = _Last(tail)
        for entry in _entries(lines.past()):
            kept.add(entry)
        window *= 8
    return kept.entries()


class _Last:
    """Keeps the entries of the last `most` lines of both streams, and of those not yet ended.

    left: how many it lacks until no entry before those it was given can be among them.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.left = most
        self.count = self.size = 0
        self.ended: list[list[tuple[int, Entry]]] = []
        self.open: dict[str, list[tuple[int, Entry]]] = {"stdout": [], "stderr": []}

    def add(self, entry: Entry) -> None:
        self.count += 1
        self.size += HEAD + len(entry.text)
        line = self.open[entry.stream]
        line.append((self.count, entry))
        if entry.ends:
            self.open[entry.stream] = []
            self.ended.append(line)
            self.left -= self.size > MARGIN
            if len(self.ended) > 2 * self.most:
                del self.ended[: -self.most]

    def entries(self) -> list[Entry]:
        """In the order of the file: the lines of two streams may be woven into each other."""
        lines = [*self.ended[-self.most :], *self.open.values()]
        numbered = {number: entry for line in lines for number, entry in line}
        return [numbered[number] for number in sorted(numbered)]


def write(entries: Iterable[Entry], out: int, err: int, timestamps: bool) -> None:
    """Write what came on stdout to the fd `out`, what came on stderr to `err`; with timestamps,
    each line after its time and a blank. OSError; BrokenPipeError when nobody reads."""
    fds = {"stdout": out, "stderr": err}
    begins = {"stdout": True, "stderr": True}
    for entry in entries:
        stamp = rfc3339(entry.time).encode() + b" " if timestamps and begins[entry.stream] else b""
        begins[entry.stream] = entry.ends
        _write(fds[entry.stream], stamp + entry.text + (b"\n" if entry.ends else b""))


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # somebody has made the open file so; it may be the shell's, too
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()


def rfc3339(ns: int) -> str:
    """Nanoseconds since the epoch, in the years 1 to 9999, as the log's times are written."""
    seconds, fraction = divmod(ns, SECOND)
    year, month, day, hour, minute, second = time.gmtime(seconds)[:6]
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z"


def moment(option: str, text: str, now_ns: int) -> int:
    """The words of docker's --since and --until, in ns since the epoch: a time of RFC 3339, from
    `2026-11-22` to `2026-11-22T00:09:18.5+01:00`, without a zone in that of the caller; seconds
    since the epoch, `1795305600.5`; or `1h30m`, a duration before `now_ns`. SpecError."""
    found = None
    if len(text) <= MOST_TEXT:
        if text[4:5] == "-":
            found = _calendar_time(text)
        elif _is_number(text.replace(".", "", 1)):
            found = _unix_time(text)
        else:
            duration = _duration(text)
            found = None if duration is None else now_ns - duration
    if found is None or abs(found) > MOST_SECONDS * SECOND:
        known = "2026-11-22T00:09:18Z, 2026-11-22, 1795305600.5 or 1h30m"
        raise SpecError(option, f"{text!r} is no time; write {known}")
    return found


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _unix_time(text: str) -> int | None:
    whole, point, fraction = text.partition(".")
    if not whole or (point and not fraction):
        return None
    return int(whole) * SECOND + _nanoseconds(fraction)


def _nanoseconds(fraction: str) -> int:
    """The digits after the point; those after the ninth are none of a nanosecond's."""
    return int(fraction[:9].ljust(9, "0"))


def _duration(text: str) -> int | None:
    """As Go writes durations (time.ParseDuration), in ns."""
    sign, rest = (-1 if text[:1] == "-" else 1), text[text[:1] in ("+", "-") :]
    total, given = 0, bool(rest)
    while rest:
        after = rest.lstrip("0123456789.")
        whole, _, fraction = rest[: len(rest) - len(after)].partition(".")
        rest = after.lstrip("hmnsuµμ")
        unit = UNITS.get(after[: len(after) - len(rest)])
        if unit is None or not _is_number(whole + fraction):
            return None
        total += int(whole or "0") * unit + int(fraction or "0") * unit // 10 ** len(fraction)
    return sign * total if given and total <= MOST_DURATION else None


def _calendar_time(text: str) -> int | None:
    """A date, with a time of day or without, with a zone or without."""
    clock, offset = text[10:], _offset(text[10:])
    if offset is not None:
        clock = clock[: -1 if clock[-1] in "zZ" else -6]
    clock, point, fraction = clock.partition(".")
    # What is left out is the least there is.
    whole = text[:10] + clock + "T00:00:00"[len(clock) :]
    if len(clock) not in (0, 3, 6, 9) or (point and (len(clock) != 9 or not _is_number(fraction))):
        return None
    seconds = _seconds((whole + ".").encode("ascii", "replace"))
    if seconds is None:
        return None
    if offset is not None:
        return (seconds - offset) * SECOND + _nanoseconds(fraction)
    local = _local(seconds)
    return None if local is None else local * SECOND + _nanoseconds(fraction)


def _offset(text: str) -> int | None:
    """Of the zone that the text ends with, in seconds; None where there is none."""
    if text[-1:] in ("z", "Z"):
        return 0
    zone = text[-6:]
    hours, minutes = zone[1:3], zone[4:6]
    if zone[:1] not in ("+", "-") or zone[3:4] != ":" or not _is_number(hours + minutes):
        return None
    if len(zone) < 6 or int(hours) > 23 or int(minutes) > 59:
        return None
    seconds = int(hours) * 3600 + int(minutes) * 60
    return -seconds if zone[0] == "-" else seconds


def _local(seconds: int) -> int | None:
    """When the clock on the wall showed what that of UTC shows at `seconds` since the epoch."""
    try:
        return int(time.mktime((*time.gmtime(seconds)[:8], -1)))
    except (OverflowError, ValueError):
        return None
