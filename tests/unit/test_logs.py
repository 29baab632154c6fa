# SPDX-License-Identifier: Apache-2.0
"""The log of a container: what is read of it, whatever happened to it."""

import calendar
import os
import random
import re
import subprocess
import sys
import threading
import time
from datetime import datetime, timezone

import pytest

from minibox import lines, logs
from minibox.errors import SpecError
from minibox.logs import Entry, moment, parse, rfc3339
from minibox.watch import Watch

SECOND = 10**9
STAMP = b"2026-11-22T00:09:18.123456789Z"
NS = 1_795_306_158_123_456_789


def row(entry):
    return (entry.time, entry.stream, entry.text, entry.ends)


def rows(entries):
    return [row(entry) for entry in entries]


def texts(entries):
    return [entry.text for entry in entries]


def line(text, stream="stdout", tag="F", time=NS):
    return f"{rfc3339(time)} {stream} {tag} ".encode() + text + b"\n"


def fds():
    return len(os.listdir("/proc/self/fd"))


# One line.


def test_entry():
    assert row(parse(STAMP + b" stdout F the text\n")) == (NS, "stdout", b"the text", True)
    assert row(parse(STAMP + b" stderr P \n")) == (NS, "stderr", b"", False)
    assert row(parse(STAMP + b" stdout F \r \0\xff\n")) == (NS, "stdout", b"\r \0\xff", True)


def test_a_torn_line_gives_what_there_is():
    whole = STAMP + b" stderr F the text\n"
    head = len(whole) - len(b"the text\n")
    for size in range(len(whole)):
        entry = parse(whole[:size])
        if size < head:
            assert entry is None
        else:
            assert row(entry) == (NS, "stderr", whole[head:size], False)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"\n", b"\0" * 100, b"x" * 100 + b"\n",
        STAMP + b" stdout X text\n", STAMP + b" stdin F text\n", STAMP + b" stdout  F text\n",
        STAMP + b"  stdout F text\n", STAMP + b" stdout F\n", STAMP + b" stdout\n",
        STAMP[:-1] + b"z stdout F text\n", STAMP[:-1] + b"+01:00 stdout F text\n",
        STAMP.replace(b"T", b" ") + b" stdout F text\n",
        STAMP.replace(b"11", b"13") + b" stdout F text\n",
        STAMP.replace(b"11", b"00") + b" stdout F text\n",
        STAMP.replace(b"2026", b"0000") + b" stdout F text\n",
        STAMP.replace(b"2026", b"+026") + b" stdout F text\n",
        STAMP.replace(b"2026", b"2_26") + b" stdout F text\n",
        STAMP.replace(b"-22", b"-31") + b" stdout F text\n",
        STAMP.replace(b"T00", b"T24") + b" stdout F text\n",
        STAMP.replace(b":09", b":60") + b" stdout F text\n",
        STAMP.replace(b":18", b":60") + b" stdout F text\n",
        STAMP.replace(b":18", b": 8") + b" stdout F text\n",
        STAMP.replace(b".1234", b".-234") + b" stdout F text\n",
        STAMP.replace(b".1234", b".\xb2234") + b" stdout F text\n",
    ],
)  # fmt: skip
def test_no_entry(text):
    assert parse(text) is None


def test_days_are_those_of_the_calendar():
    chance = random.Random(1)
    for _ in range(2000):
        seconds = chance.randrange(-62135596800, 253402300800)
        stamp = rfc3339(seconds * SECOND + 5)
        entry = parse(stamp.encode() + b" stdout F \n")
        assert entry.time == seconds * SECOND + 5
        assert seconds == calendar.timegm(time.strptime(stamp[:19].zfill(19), "%Y-%m-%dT%H:%M:%S"))
    for year in (1900, 2000, 2023, 2024):
        assert (parse(b"%d-02-29T00:00:00.000000000Z stdout F \n" % year) is None) == (
            not calendar.isleap(year)
        )


def test_parse_takes_anything():
    chance = random.Random(2)
    whole = line(b"text")
    for _ in range(5000):
        data = bytearray(whole[: chance.randrange(len(whole) + 1)])
        for _ in range(chance.randrange(4)):
            if data:
                data[chance.randrange(len(data))] = chance.choice(b"0123456789-:TZ. \n\0\xffPF")
        entry = parse(bytes(data))
        assert entry is None or (entry.stream in ("stdout", "stderr") and entry.text in data)


# All of it.


def test_read_begins_with_the_oldest(tmp_path):
    for age, name in enumerate(["log", "log.1", "log.2", "log.9"]):
        (tmp_path / name).write_bytes(line(b"%d" % -age))
    (tmp_path / "log.10").write_bytes(line(b"no"))
    before = fds()
    assert texts(logs.read(str(tmp_path))) == [b"-3", b"-2", b"-1", b"0"]
    assert fds() == before


def test_nothing_there(tmp_path):
    assert rows(logs.read(str(tmp_path))) == []
    assert rows(logs.read(str(tmp_path / "no"))) == []
    assert rows(logs.follow(str(tmp_path / "no"), lambda: False)) == []
    assert rows(logs.follow(str(tmp_path), lambda: True)) == []


@pytest.mark.parametrize("mended", [b"", b"\n"])
def test_torn_at_every_byte(tmp_path, mended):
    """A killed writer's last line, and with the next one's newline what that one adds."""
    first, second, third = line(b"one"), line(b"two", "stderr"), line(b"three")
    for cut in range(len(second) + 1):
        after = mended + third if mended else b""
        (tmp_path / "log").write_bytes(first + second[:cut] + after)
        got = rows(logs.read(str(tmp_path)))
        assert got[0] == (NS, "stdout", b"one", True)
        text = second[logs.HEAD : cut].rstrip(b"\n")
        torn = [(NS, "stderr", text, bool(mended) or cut == len(second))]
        end = [(NS, "stdout", b"three", True)] if mended else []
        assert got[1:] == (torn if cut >= logs.HEAD else []) + end
        if cut % 8 == 0:
            assert rows(logs.follow(str(tmp_path), lambda: True)) == got


def test_foreign_lines_are_left_out(tmp_path):
    chance = random.Random(3)
    good = [b"%d" % n for n in range(200)]
    parts = []
    for text in good:
        parts += [line(text), chance.randbytes(chance.randrange(200)).replace(b"\n", b"") + b"\n"]
    (tmp_path / "log").write_bytes(b"".join(parts))
    assert texts(logs.read(str(tmp_path))) == good


def test_since_and_until(tmp_path):
    """By each entry's own time: the clock may have been set back."""
    times = [10, 20, 30, 5, 15, 25]
    (tmp_path / "log").write_bytes(b"".join(line(b"%d" % t, time=t) for t in times))
    directory = str(tmp_path)
    assert texts(logs.read(directory, since=20)) == [b"20", b"30", b"25"]
    assert texts(logs.read(directory, until=15)) == [b"10", b"5", b"15"]
    assert texts(logs.read(directory, since=10, until=20)) == [b"10", b"20", b"15"]
    assert texts(logs.read(directory, tail=3, since=10)) == [b"15", b"25"]
    assert texts(logs.follow(directory, lambda: True, tail=4, until=20)) == [b"5", b"15"]


def naive_tail(entries, tail):
    """By the definition: the lines that end last, with all their entries, and what has no end."""
    ended, streams = [], {"stdout": [], "stderr": []}
    for number, entry in enumerate(entries):
        streams[entry[1]].append(number)
        if entry[3]:
            ended.append(streams[entry[1]])
            streams[entry[1]] = []
    kept = ended[max(0, len(ended) - tail) :] + list(streams.values())
    return [entries[number] for number in sorted(n for line in kept for n in line)] if tail else []


@pytest.mark.parametrize("window", [1, 1000])
def test_tail(tmp_path, monkeypatch, window):
    """Lines of two streams, woven into each other, over three files."""
    monkeypatch.setattr(logs, "WINDOW", window)
    monkeypatch.setattr(logs, "MARGIN", 1000)
    chance = random.Random(4)
    for trial in range(4):
        entries = [
            (NS + n, chance.choice(["stdout", "stderr"]), b"%d" % n, chance.random() < 0.6)
            for n in range(chance.randrange(80))
        ]
        data = [line(text, stream, "PF"[ends], t) for t, stream, text, ends in entries]
        cuts = sorted(chance.randrange(len(data) + 1) for _ in range(2))
        for name, part in (
            ("log.2", data[: cuts[0]]),
            ("log.1", data[cuts[0] : cuts[1]]),
            ("log", data[cuts[1] :]),
        ):
            (tmp_path / name).write_bytes(b"".join(part) + b"garbage\n" * (trial % 2))
        for tail in (0, 1, 7, 10**18):
            assert rows(logs.read(str(tmp_path), tail=tail)) == naive_tail(entries, tail)
            got = rows(logs.follow(str(tmp_path), lambda: True, tail=tail))
            assert got == naive_tail(entries, tail)
        assert rows(logs.read(str(tmp_path), tail=-1)) == entries


def test_a_line_that_began_long_before_the_tail(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "WINDOW", 100)
    monkeypatch.setattr(logs, "MARGIN", 8000)
    between = line(b"between") * 100
    data = (
        line(b"before") * 1000 + line(b"begin ", "stderr", "P") + between + line(b"end", "stderr")
    )
    (tmp_path / "log").write_bytes(data)
    assert texts(logs.read(str(tmp_path), tail=2)) == [b"begin ", b"between", b"end"]


def test_tail_reads_the_end_only(tmp_path):
    with (tmp_path / "log").open("wb") as file:
        file.truncate(1 << 40)  # a hole
        file.seek(0, os.SEEK_END)
        for number in range(10_000):
            file.write(line(b"%d" % number))
    assert texts(logs.read(str(tmp_path), tail=2)) == [b"9998", b"9999"]


def test_a_torn_end_after_the_tail(tmp_path):
    (tmp_path / "log").write_bytes(line(b"1") + line(b"2") + line(b"3")[:-1])
    assert rows(logs.read(str(tmp_path), tail=1)) == [
        (NS, "stdout", b"2", True),
        (NS, "stdout", b"3", False),
    ]
    assert rows(logs.read(str(tmp_path), tail=0)) == []


def test_a_reader_that_stops_leaves_nothing_open(tmp_path):
    (tmp_path / "log").write_bytes(line(b"1") + line(b"2"))
    before = fds()
    for entries in (logs.read(str(tmp_path)), logs.follow(str(tmp_path), lambda: False)):
        assert next(entries).text == b"1"
        entries.close()
        assert fds() == before


def test_memory_is_bounded(tmp_path):
    import tracemalloc

    with (tmp_path / "log").open("wb") as file:
        for _ in range(500):
            file.write(line(b"x" * 16384))
        file.write(b"x" * 20_000_000)
    tracemalloc.start()
    count = sum(1 for _ in logs.read(str(tmp_path)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 500
    assert peak < 6_000_000


# What is still to come.

WRITER = """
import os, sys
directory, files, per_file, rounds = sys.argv[1], *map(int, sys.argv[2:])
path = directory + "/log"
n = 0
flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
fd = os.open(path, flags)
for file in range(files):
    if file:
        for old in range(8, 0, -1):
            try:
                os.rename(f"{path}.{old}", f"{path}.{old + 1}")
            except FileNotFoundError:
                pass
        os.rename(path, path + ".1")
        os.close(fd)
        fd = os.open(path, flags)
    for _ in range(per_file):
        batch = b""
        for _ in range(rounds):
            stream = (b"stdout", b"stderr")[n % 2]
            batch += b"2026-11-22T00:09:18.123456789Z %s F %d\\n" % (stream, n)
            n += 1
        os.write(fd, batch)
"""


def writer(directory, files, per_file, batch):
    words = [sys.executable, "-ISc", WRITER, directory, files, per_file, batch]
    return subprocess.Popen([str(word) for word in words])


@pytest.mark.parametrize("inotify", [True, False])
def test_a_process_writes_and_rotates_meanwhile(tmp_path, monkeypatch, inotify):
    """Nothing is lost, nothing comes twice, and a reader beside sees a beginning of it."""
    if not inotify:
        monkeypatch.setattr("minibox.watch.INIT", 1 << 20)  # ENOSYS
        monkeypatch.setattr("minibox.watch.PAUSE", 0.01)
    before = fds()
    for turn in range(2):
        directory = tmp_path / str(turn)
        directory.mkdir()
        with writer(str(directory), 10, 80 * turn + 1, 5) as process:
            ended = lambda process=process: process.poll() is not None  # noqa: E731
            got = []
            for entry in logs.follow(str(directory), ended):
                got.append(int(entry.text))
                if len(got) % 700 == 1:
                    seen = [int(text) for text in texts(logs.read(str(directory)))]
                    assert seen == list(range(len(seen)))
                    assert len(seen) >= len(got)
                    seen = [int(text) for text in texts(logs.read(str(directory), tail=20))]
                    assert seen == list(range(seen[0], seen[0] + len(seen)))
        assert process.returncode == 0
        assert got == list(range(10 * (80 * turn + 1) * 5))
    assert fds() == before


def test_rotated_away_under_the_reader(tmp_path):
    """What the reader was too slow for is gone, and nothing else."""
    with writer(str(tmp_path), 200, 3, 1) as process:
        entries = logs.follow(str(tmp_path), lambda: process.poll() is not None)
        got = [int(entry.text) for entry in entries]
    assert got == sorted(set(got))
    assert got[-1] == 599


def test_a_line_that_comes_in_pieces(tmp_path):
    """Not before it is whole."""
    text = line(b"piece by piece")
    with (tmp_path / "log").open("ab", buffering=0) as file:
        pieces = iter([text[n : n + 1] for n in range(len(text))])

        def ended():
            piece = next(pieces, b"")
            file.write(piece)
            return not piece

        assert rows(logs.follow(str(tmp_path), ended)) == [(NS, "stdout", b"piece by piece", True)]


@pytest.mark.parametrize("cut", [10, 45])
def test_a_torn_line_is_mended_while_followed(tmp_path, cut):
    with (tmp_path / "log").open("ab", buffering=0) as file:
        steps = iter([line(b"12345678")[:cut], b"\n" + line(b"next")])

        def ended():
            step = next(steps, b"")
            file.write(step)
            return not step

        got = rows(logs.follow(str(tmp_path), ended))
    assert got[-1] == (NS, "stdout", b"next", True)
    assert got[:-1] == ([(NS, "stdout", b"12345", True)] if cut > logs.HEAD else [])


def test_follow_tail_zero_gives_what_comes(tmp_path):
    with (tmp_path / "log").open("ab", buffering=0) as file:
        file.write(line(b"old") + line(b"torn")[:-2])
        steps = iter([b"n\n" + line(b"new"), b""])

        def ended():
            step = next(steps)
            file.write(step)
            return not step

        assert texts(logs.follow(str(tmp_path), ended, tail=0)) == [b"new"]


class Spied(Watch):
    """Says how long follow is ready to wait."""

    waits = []
    waiting = threading.Event()

    def wait(self, timeout):
        self.waits.append(timeout)
        if timeout > 1:
            self.waiting.set()
        return super().wait(timeout)


@pytest.fixture
def spied(monkeypatch):
    monkeypatch.setattr(logs, "Watch", Spied)
    monkeypatch.setattr(lines, "IDLE", 30.0)
    monkeypatch.setattr(lines, "LIKELY", 0.1)
    monkeypatch.setattr(Spied, "waits", [])
    monkeypatch.setattr(Spied, "waiting", threading.Event())
    return Spied


def test_the_end_is_seen_soon(tmp_path, spied):
    """The monitor closes the file, and only a little later it counts as ended."""
    asked, over = [], []

    def monitor():
        with (tmp_path / "log").open("ab") as file:
            spied.waiting.wait(20)
            file.write(line(b"last"))
        count = len(asked)
        while len(asked) < count + 3:
            time.sleep(0.001)
        over.append(True)

    (tmp_path / "log").touch()
    thread = threading.Thread(target=monitor)
    thread.start()
    began = time.monotonic()
    assert texts(logs.follow(str(tmp_path), lambda: asked.append(1) or bool(over))) == [b"last"]
    assert time.monotonic() - began < 10
    thread.join()


def test_an_idle_log_is_waited_for(tmp_path, spied):
    """Not looked at again and again; and what comes is seen at once."""
    entries = logs.follow(str(tmp_path), lambda: False)

    def monitor():
        spied.waiting.wait(20)
        (tmp_path / "log").write_bytes(line(b"text"))

    thread = threading.Thread(target=monitor)
    thread.start()
    began = time.monotonic()
    assert next(entries).text == b"text"
    assert time.monotonic() - began < 10
    assert len(spied.waits) < 30
    thread.join()
    entries.close()


def test_follow_until(tmp_path, spied):
    """It ends when the time has come, however busy or idle the container is."""
    (tmp_path / "log").write_bytes(line(b"1", time=1))
    began = time.monotonic()
    until = time.time_ns() + SECOND // 5
    assert texts(logs.follow(str(tmp_path), lambda: False, until=until)) == [b"1"]
    assert time.monotonic() - began < 5

    def ended():
        with (tmp_path / "log").open("ab") as file:
            file.write(line(b"2", time=until + SECOND))
        return False

    assert texts(logs.follow(str(tmp_path), ended, until=until)) == [b"1"]


def test_the_container_is_removed(tmp_path, spied):
    directory = tmp_path / "container"
    directory.mkdir()
    (directory / "log").write_bytes(line(b"text"))
    entries = logs.follow(str(directory), lambda: False)
    assert next(entries).text == b"text"
    (directory / "log").unlink()
    directory.rmdir()
    assert rows(entries) == []


# What is written.


def written(entries, timestamps=False):
    pipes = os.pipe(), os.pipe()
    logs.write(entries, pipes[0][1], pipes[1][1], timestamps)
    for _, end in pipes:
        os.close(end)
    found = []
    for end, _ in pipes:
        with open(end, "rb") as file:
            found.append(file.read())
    return found


def test_write():
    entries = [
        Entry(NS, "stdout", b"a\0\xff", False),
        Entry(NS + 1, "stderr", b"oops", True),
        Entry(NS + 2, "stdout", b"b", True),
        Entry(NS + 3, "stdout", b"", True),
        Entry(NS + 4, "stdout", b"end", False),
    ]
    assert written(entries) == [b"a\0\xffb\n\nend", b"oops\n"]
    stamps = [rfc3339(entry.time).encode() for entry in entries]
    assert written(entries, timestamps=True) == [
        b"%s a\0\xffb\n%s \n%s end" % (stamps[0], stamps[3], stamps[4]),
        b"%s oops\n" % stamps[1],
    ]


def test_write_more_than_a_pipe_holds():
    """Short writes, and a pipe that somebody made non-blocking."""
    source, sink = os.pipe()
    os.set_blocking(sink, False)
    text = random.Random(5).randbytes(1_000_000)
    taken = []

    def take():
        with open(source, "rb", buffering=0) as file:
            while data := file.read(50_000):
                taken.append(data)

    thread = threading.Thread(target=take)
    thread.start()
    logs.write([Entry(NS, "stdout", text, True)], sink, -1, False)
    os.close(sink)
    thread.join()
    assert b"".join(taken) == text + b"\n"


def test_nobody_reads():
    source, sink = os.pipe()
    os.close(source)
    with pytest.raises(BrokenPipeError):
        logs.write([Entry(NS, "stderr", b"x", True)], -1, sink, False)
    os.close(sink)


def test_a_full_disk():
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match="No space"):
        logs.write([Entry(NS, "stdout", b"x", True)], full, -1, False)
    os.close(full)


# Times.


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (NS, STAMP.decode()),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (951_782_400 * SECOND, "2000-02-29T00:00:00.000000000Z"),
        (253_402_300_799 * SECOND, "9999-12-31T23:59:59.000000000Z"),
        (-62_135_596_800 * SECOND, "0001-01-01T00:00:00.000000000Z"),
    ],
)
def test_rfc3339(ns, text):
    assert rfc3339(ns) == text
    assert moment("--since", text, 0) == ns


@pytest.fixture
def berlin(monkeypatch):
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-11-22", "2026-11-21T23:00:00"),
        ("2026-07-22", "2026-07-21T22:00:00"),
        ("2026-07-22T09", "2026-07-22T07:00:00"),
        ("2026-07-22T09:08", "2026-07-22T07:08:00"),
        ("2026-07-22T09:08:07", "2026-07-22T07:08:07"),
        ("2026-07-22Z", "2026-07-22T00:00:00"),
        ("2026-07-22z", "2026-07-22T00:00:00"),
        ("2026-07-22+02:00", "2026-07-21T22:00:00"),
        ("2026-07-22-07:30", "2026-07-22T07:30:00"),
        ("2026-07-22T09Z", "2026-07-22T09:00:00"),
        ("2026-07-22T09-01:00", "2026-07-22T10:00:00"),
        ("2026-07-22T09:08Z", "2026-07-22T09:08:00"),
        ("2026-07-22T09:08+23:59", "2026-07-21T09:09:00"),
        ("2026-07-22T09:08:07Z", "2026-07-22T09:08:07"),
    ],
)
def test_moment_of_the_calendar(berlin, text, utc):
    wanted = datetime.fromisoformat(utc).replace(tzinfo=timezone.utc).timestamp()
    assert moment("--since", text, 0) == int(wanted) * SECOND


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0),
        ("2026", 2026 * SECOND),
        ("1136073600", 1_136_073_600 * SECOND),
        ("1136073600.000000001", 1_136_073_600 * SECOND + 1),
        ("1136073600.5", 1_136_073_600 * SECOND + SECOND // 2),
        ("1136073600.0000000019", 1_136_073_600 * SECOND + 1),
        ("007.000000010", 7 * SECOND + 10),
        ("2026-11-22T00:09:18.1Z", 1_795_306_158_100_000_000),
        ("2026-11-22T00:09:18.123456789Z", NS),
        ("2026-11-22T00:09:18.1234567899Z", NS),
        ("2026-11-22T01:09:18.123456789+01:00", NS),
        ("10m", NS - 600 * SECOND),
        ("1h30m", NS - 5400 * SECOND),
        ("2.5s", NS - 2_500_000_000),
        (".5s", NS - 500_000_000),
        ("1.s", NS - SECOND),
        ("1.000000001s", NS - SECOND - 1),
        ("1m2.000000003s4ms5us6µs7μs8ns", NS - 62_004_018_011),
        ("+10m", NS - 600 * SECOND),
        ("-10m", NS + 600 * SECOND),
        ("0s", NS),
        ("0.3333333333333333333h", NS - 1_199_999_999_999),
    ],
)
def test_moment(text, ns):
    assert moment("--since", text, NS) == ns


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "x", "-", "+", ".", "1.", ".5", "1..5", "1.5.5", "-5", "1e9", "nan", "inf", "²", "٣",
        "10x", "m", "1h30", "h1", "1.2.3s", ".s", "1 h", "1h ", "10M", "-1-1s", "1d", "1_0s",
        "2026-", "2026-11", "2026-11-2", "2026-1-22", "2026-11-222", "2026-13-01", "2026-02-29",
        "0000-01-01", "2026-11-22T", "2026-11-22T1", "2026-11-22T24", "2026-11-22T10:", "2026-11-22T10:6",
        "2026-11-22T10:60", "2026-11-22T10:10:", "2026-11-22T10:10:60", "2026-11-22T10:10:10.",
        "2026-11-22T10:10:10.Z", "2026-11-22T10:10.5", "2026-11-22.5", "2026-11-22T10:10:10.x",
        "2026-11-22T10:10:10.-1", "2026-11-22T10:10:10ZZ", "2026-11-22T10:10:10+1:00", "2026-11-22+01:0",
        "2026-11-22+24:00", "2026-11-22+01:60", "2026-11-22+0100", "2026-11-22 10:10:10", "2026-11-22T10-10",
        "2026-11-22T10:10:10\0", "2026-11-22T10:10:1\udcff", "²026-11-22", "20²6-11-22", "+026-11-22",
        "2026-11-22T 1:10", "2026-11-22T10:10:10.²", "-2026-11-22", "10000-01-01", "2026-11-22T10:10:10.5.5",
    ],
)  # fmt: skip
def test_no_moment(berlin, text):
    with pytest.raises(SpecError, match="--until"):
        moment("--until", text, NS)


@pytest.mark.parametrize("text", ["9" * 12, "9" * 5000, "9" * 20 + "h", "1" * 5000 + "s", "9" * 62])
def test_too_large(text):
    with pytest.raises(SpecError):
        moment("--since", text, NS)


def test_moment_takes_anything():
    chance = random.Random(6)
    forms = ["2026-11-22T00:09:18.123Z", "1136073600.000000001", "1h30m2.5s", "2026-11-22-07:00"]
    for _ in range(5000):
        text = list(chance.choice(forms))
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(text))
            text[at : at + chance.randrange(2)] = chance.choice("0123456789-+:.TZzhmsnuµ ²\0\udc80")
        text = "".join(text)
        try:
            found = moment("--since", text, NS)
        except SpecError:
            continue
        assert isinstance(found, int)
        assert re.fullmatch(r"[-+0-9:.TZzhmsnuµ]+", text)
