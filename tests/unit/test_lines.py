# SPDX-License-Identifier: Apache-2.0
"""Lines of files that are rotated while they are read: the writer moves at each of the reader's
system calls, in many orders."""

import os
import random

import pytest

from minibox import lines
from minibox.errors import StateError
from minibox.lines import Lines

MOST = 9


class Writer:
    """Appends numbered lines and rotates, step by step: torn lines and half a rotation included."""

    def __init__(self, directory, count, per_file):
        self.directory = directory
        self.written = self.finished = 0
        self.steps = self._steps(count, per_file)

    def _steps(self, count, per_file):
        path = os.path.join(self.directory, "log")
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        yield
        for number in range(count):
            if number and number % per_file == 0:
                for old in range(MOST - 1, 0, -1):
                    if os.path.exists(f"{path}.{old}"):
                        os.rename(f"{path}.{old}", f"{path}.{old + 1}")
                        yield
                os.rename(path, f"{path}.1")
                yield
                os.close(fd)
                fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
                yield
            os.write(fd, b"line ")
            yield
            os.write(fd, b"%d\n" % number)
            self.written = number + 1
            yield
        os.close(fd)

    def step(self, steps=1):
        """False when there is nothing left to do."""
        for _ in range(steps):
            try:
                next(self.steps)
            except StopIteration:
                self.finished = True
        return not self.finished


class Racing:
    """The module os, for the reader, with something happening before each call."""

    def __init__(self, act):
        self.act = act

    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in ("open", "fstat", "lstat", "pread"):
            return real

        def call(*args, **options):
            self.act()
            return real(*args, **options)

        return call


@pytest.fixture
def race(monkeypatch, tmp_path):
    def start(seed, count=60, per_file=7, most=6):
        directory = tmp_path / str(seed)
        directory.mkdir()
        writer = Writer(str(directory), count, per_file)
        chance = random.Random(seed)
        writer.step(chance.randrange(2 * count))
        monkeypatch.setattr(
            lines, "os", Racing(lambda: writer.step(chance.randrange(most) * chance.randrange(2)))
        )
        return writer

    yield start


def numbers(found):
    return [int(line.removeprefix(b"line ")) for line in found]


def open_fds():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_past_while_it_is_written(race, first):
    before = open_fds()
    for seed in range(first, first + 20):
        writer = race(seed)
        written = writer.written
        with Lines(writer.directory, "log", MOST) as reader:
            got = numbers(reader.past())
        assert got == list(range(len(got)))
        assert len(got) >= written
        writer.step(1000)  # closes its file
    assert open_fds() == before


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_more_while_it_is_written(race, first):
    before = open_fds()
    for seed in range(first, first + 20):
        writer = race(seed)
        with Lines(writer.directory, "log", MOST) as reader:
            got = numbers(reader.past())
            while writer.step(seed % 5):
                got += numbers(reader.more())
            got += numbers(reader.more())
            assert reader.torn() == b""
        assert got == list(range(60))
    assert open_fds() == before


@pytest.mark.parametrize("seed", range(200, 203))
def test_files_go_faster_than_they_are_read(race, seed):
    """Then some lines are lost, but none comes twice or out of order."""
    writer = race(seed, count=100, per_file=1, most=30)
    with Lines(writer.directory, "log", MOST) as reader:
        got = numbers(reader.past())
        while writer.step(7):
            got += numbers(reader.more())
        got += numbers(reader.more())
    assert got == sorted(set(got))
    assert got[-1] == 99


def test_they_never_stand_still(monkeypatch, tmp_path):
    """Endless rotation ends in one clear error."""
    (tmp_path / "log").touch()
    other = tmp_path / "other"
    monkeypatch.setattr(lines, "ATTEMPTS", 20)

    def act():
        other.touch()
        other.replace(tmp_path / "log")

    monkeypatch.setattr(lines, "os", Racing(act))
    before = open_fds()
    with pytest.raises(StateError, match="rotated faster"):
        Lines(str(tmp_path), "log", MOST)
    assert open_fds() == before


def test_a_gap_in_the_numbers(tmp_path):
    for name, text in (("log.7", b"1\n"), ("log.2", b"2\n"), ("log", b"3\n"), ("log.10", b"no\n")):
        (tmp_path / name).write_bytes(text)
    with Lines(str(tmp_path), "log", MOST) as reader:
        assert list(reader.past()) == [b"1\n", b"2\n", b"3\n"]


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "log")
    (tmp_path / "log.1").mkdir()
    (tmp_path / "log.2").symlink_to("/etc/passwd")
    (tmp_path / "log.3").symlink_to("log.3")
    (tmp_path / "log.4").write_bytes(b"x\n")
    with Lines(str(tmp_path), "log", MOST) as reader:
        assert list(reader.past()) == [b"x\n"]
        assert list(reader.more()) == []
    with Lines(str(tmp_path / "log.4"), "log", MOST) as reader:
        assert list(reader.past()) == []


def test_an_old_file_that_is_torn(tmp_path):
    (tmp_path / "log.1").write_bytes(b"a\nb")
    (tmp_path / "log").write_bytes(b"c\nd")
    with Lines(str(tmp_path), "log", MOST) as reader:
        assert list(reader.past()) == [b"a\n", b"b\n", b"c\n"]
        assert reader.torn() == b"d"


def test_a_late_writer(tmp_path):
    """What goes to the old file after the rotation is not lost."""
    log = tmp_path / "log"
    with Lines(str(tmp_path), "log", MOST) as reader, log.open("ab", buffering=0) as old:
        old.write(b"1\n")
        assert list(reader.more()) == [b"1\n"]
        log.rename(tmp_path / "log.1")
        log.write_bytes(b"2\n")
        assert list(reader.more()) == [b"2\n"]
        old.write(b"3\n")
        assert list(reader.more()) == [b"3\n"]


def test_past_ends_where_it_was_begun(tmp_path):
    """But for the line that was being written."""
    log = tmp_path / "log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"1\n2")
        with Lines(str(tmp_path), "log", MOST) as reader:
            writer.write(b"2\n3\n4")
            assert list(reader.past()) == [b"1\n", b"22\n"]
            assert list(reader.more()) == [b"3\n"]
            assert reader.torn() == b"4"


def test_a_late_writer_after_a_rewind(tmp_path):
    with (tmp_path / "log.1").open("ab", buffering=0) as old:
        old.write(b"1\n")
        (tmp_path / "log").write_bytes(b"2\n")
        with Lines(str(tmp_path), "log", MOST) as reader:
            assert not reader.rewind(0)
            assert list(reader.past()) == []
            old.write(b"3\n")
            assert list(reader.more()) == [b"3\n"]


def test_a_file_that_is_emptied(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"1\n2\n")
    with Lines(str(tmp_path), "log", MOST) as reader:
        assert len(list(reader.past())) == 2
        os.truncate(log, 0)
        log.write_bytes(b"3\n")
        assert list(reader.more()) == [b"3\n"]


def test_a_file_that_is_removed(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"1\n")
    with Lines(str(tmp_path), "log", MOST) as reader, log.open("ab", buffering=0) as writer:
        log.unlink()
        writer.write(b"2\n")
        assert list(reader.past()) == [b"1\n"]
        assert list(reader.more()) == [b"2\n"]


def test_a_line_without_end(tmp_path, monkeypatch):
    """It is cut, and the memory with it; the next line is whole."""
    monkeypatch.setattr(lines, "LONGEST", 1000)
    monkeypatch.setattr(lines, "CHUNK", 100)
    (tmp_path / "log").write_bytes(b"a\n" + b"x" * 100_000 + b"\nb\n" + b"y" * 5000)
    with Lines(str(tmp_path), "log", MOST) as reader:
        a, cut, b, torn = reader.past()
        assert (a, b) == (b"a\n", b"b\n")
        for long in (cut, torn):
            assert 1000 < len(long) < 1200
        assert reader.torn() == b""


def test_any_size_of_read(tmp_path, monkeypatch):
    data = b"".join(b"%d\n" % (7**n) for n in range(40)) + b"\n\nrest"
    (tmp_path / "log").write_bytes(data)
    for chunk in range(1, 50):
        monkeypatch.setattr(lines, "CHUNK", chunk)
        with Lines(str(tmp_path), "log", MOST) as reader:
            assert b"".join(reader.past()) + reader.torn() == data


def test_rewind(tmp_path):
    """The lines that are whole in the last bytes, over all files."""
    text = [b"%d\n" % n for n in range(95, 105)]
    (tmp_path / "log.2").write_bytes(b"".join(text[:3]))
    (tmp_path / "log.1").write_bytes(b"".join(text[3:7]))
    (tmp_path / "log").write_bytes(b"".join(text[7:]))
    size = sum(map(len, text))
    with Lines(str(tmp_path), "log", MOST) as reader:
        for window in range(size + 5):
            assert reader.rewind(window) == (window >= size)
            got = list(reader.past())
            assert got == text[len(text) - len(got) :]
            assert sum(map(len, got)) <= window
            if len(got) < len(text):
                assert sum(map(len, got)) + len(text[-len(got) - 1]) > window
