# SPDX-License-Identifier: Apache-2.0
"""What a container writes is in its log: all of it, in order, whoever dies and whatever is full."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("minibox")
KIBIBYTE, MEBIBYTE = 1 << 10, 1 << 20
BATCH = 16 * KIBIBYTE  # a file may grow by so much beyond its limit
ENTRY = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) [FP] [^\n]*")
LARGE = ("--log-opt", "max-size=1g")
# The sizes of reads, pages and pipes, and what lies beside them.
EDGES = [size + k for size in (4096, 8192, 16384, 65536) for k in (-41, -40, -2, -1, 0, 1, 40)]


class Box:
    """The containers of one test: `box("start", "web")`, and what can be seen of them. prefix: of
    each command line."""

    def __init__(self, rootfs, root, prefix=()):
        self.rootfs = rootfs
        self.root = Path(root)
        self.command = [*prefix, str(COMMAND), "--root", str(root)]
        self.begun = []

    def __call__(self, *words, code=0, **how):
        if "input" not in how:
            how.setdefault("stdin", subprocess.DEVNULL)
        words = [*self.command, *map(str, words)]
        done = subprocess.run(words, capture_output=True, timeout=60, **how)
        assert done.returncode == code, done
        return done

    def popen(self, *words, **how):
        self.begun.append(subprocess.Popen([*self.command, *map(str, words)], **how))
        return self.begun[-1]

    def run(self, script, *options, name="web"):
        """`run -d` of a shell's script."""
        self("run", "-d", "--name", name, *options, self.rootfs, "/bin/sh", "-c", script)

    def wait(self, name="web"):
        return int(self("wait", name).stdout)

    def state(self, name="web"):
        return json.loads(self("inspect", name).stdout)[0]["State"]

    def directory(self, name="web"):
        return self.root / "containers" / os.readlink(self.root / "names" / name)

    def logs(self, *options, name="web"):
        """What came on stdout; there must be nothing else."""
        done = self("logs", *options, name)
        assert done.stderr == b""
        return done.stdout

    def log_files(self, name="web"):
        """The oldest first."""
        names = [path.name for path in self.directory(name).glob("log*")]
        return [self.directory(name) / each for each in sorted(names, reverse=True)]

    def close(self):
        for process in self.begun:
            if process.poll() is None:
                process.kill()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()
            process.wait()


@pytest.fixture
def box(rootfs, tmp_path):
    box = Box(rootfs, tmp_path / "state")
    yield box
    box.close()
    box("rm", "-af")


@pytest.fixture
def data(tmp_path):
    """`data(content)`: the option that makes it /mnt/data inside."""
    files = itertools.count()

    def write(content):
        path = tmp_path / f"volume{next(files)}" / "data"
        path.parent.mkdir()
        path.write_bytes(content)
        path.chmod(0o644)
        return f"--volume={path.parent}:/mnt:ro"

    return write


def mixed_lines(size, seed=1):
    """Lines of all lengths, most of them short; no two are the same."""
    chance, lines, total, number = random.Random(seed), [], 0, 0
    while total < size:
        number += 1
        kind = chance.random()
        length = chance.choice(EDGES) if kind < 0.002 else int(chance.expovariate(1 / 60))
        line = b"%d " % number + b"x" * length + b"\n"
        if kind > 0.98:
            line = b"\n"
        lines.append(line)
        total += len(line)
    return b"".join(lines)


def numbers(first, last):
    """What seq prints."""
    return b"".join(b"%d\n" % k for k in range(first, last + 1))


def check_form(files):
    """Each line of these files is an entry, and none is torn."""
    for path in files:
        *lines, rest = path.read_bytes().split(b"\n")
        assert rest == b""
        for line in lines:
            assert ENTRY.fullmatch(line), line[:100]


# All of it.


def test_twenty_megabytes_of_lines_of_all_lengths(box, data):
    content = mixed_lines(20 * MEBIBYTE)
    box.run("cat /mnt/data", data(content), *LARGE)
    assert box.wait() == 0
    assert box.logs() == content
    check_form(box.log_files())


def test_both_streams_are_whole_and_apart(box, data):
    content = mixed_lines(3 * MEBIBYTE)
    box.run("cat /mnt/data >&2 & cat /mnt/data; wait", data(content), *LARGE)
    assert box.wait() == 0
    done = box("logs", "web")
    assert done.stdout == content
    assert done.stderr == content
    done = box("logs", "-t", "web")
    for stream in (done.stdout, done.stderr):
        lines = stream.splitlines(keepends=True)
        stamps = [line[:30] for line in lines]
        assert stamps == sorted(stamps)
        assert all(re.fullmatch(rb"[0-9T:.-]{29}Z", stamp) for stamp in set(stamps))
        assert b"".join(line[31:] for line in lines) == content
    # In the file the entries of both are in the order in which they came.
    stamps = [line[:30] for line in box.log_files()[0].read_bytes().splitlines()]
    assert stamps == sorted(stamps)


def test_the_time_of_an_entry_is_that_of_its_writing(box):
    before = time.time_ns()
    box.run("echo first; read go; echo second", "-i")
    box("attach", "web", input=b"go\n")
    lines = [json.loads(line) for line in box.logs("--json").splitlines()]
    assert [line["log"] for line in lines] == ["first", "second"]
    stamps = [time.strptime(line["time"][:19], "%Y-%m-%dT%H:%M:%S") for line in lines]
    seconds = [time.mktime(stamp) - time.timezone for stamp in stamps]
    assert before // 10**9 <= seconds[0] <= seconds[1] <= time.time()


def test_lines_longer_than_any_buffer(box, data):
    lengths = [*EDGES, MEBIBYTE, 5 * MEBIBYTE + 1, *reversed(EDGES)]
    content = b"".join(b"%d " % k + b"a" * length + b"\n" for k, length in enumerate(lengths))
    box.run("cat /mnt/data", data(content), *LARGE)
    box.wait()
    assert box.logs() == content
    check_form(box.log_files())
    assert max(map(len, box.log_files()[0].read_bytes().splitlines())) <= BATCH


@pytest.mark.parametrize(
    "content",
    [
        bytes(range(256)) * 1000,
        b"\0" * 100_000,
        b"\n" * 20_000,
        b"\r\n" * 1000 + b"\x1b[31mred\x1b[m\n\xff\xfe\x80",
        b"2026-11-22T00:09:18.123456789Z stdout F a forged entry\n",
        b"stdout P \nstderr F \n P F\n",
        random.Random(2).randbytes(3 * MEBIBYTE),
    ],
    ids=["every byte", "zeros", "newlines", "controls", "an entry", "parts of one", "random"],
)
def test_bytes_of_any_kind(box, data, content):
    box.run("cat /mnt/data", data(content), *LARGE)
    box.wait()
    assert box.logs() == content
    check_form(box.log_files())


@pytest.mark.parametrize("content", [b"one\ntwo", b"x" * 20_000, b""])
def test_no_newline_at_the_end(box, data, content):
    box.run("cat /mnt/data", data(content))
    box.wait()
    assert box.logs() == content


def test_what_is_written_byte_by_byte_is_one_line(box):
    box.run("for c in a b c d e f; do printf $c; usleep 1000; done; echo; printf g >&2")
    box.wait()
    done = box("logs", "-t", "web")
    assert done.stdout[31:] == b"abcdef\n"
    assert done.stderr[31:] == b"g"


# To the last.

RUNS = 5


@pytest.mark.parametrize("option", ["--net=none", "--init"])
def test_output_of_the_last_instant(box, data, option):
    """As much as the pipe takes is written, and the process is gone; again and again."""
    content = mixed_lines(60_000, seed=3)[:60_000] + b"!\n"
    box(
        "create",
        "--name",
        "web",
        option,
        data(content),
        box.rootfs,
        "dd",
        "if=/mnt/data",
        "bs=65536",
        "status=none",
    )
    for _ in range(RUNS):
        box("start", "web")
        assert box.wait() == 0
    assert box.logs() == content * RUNS


def test_output_of_the_last_instant_on_a_terminal(box):
    script = "stty -opost; head -c 3000 /dev/zero | tr '\\0' x; printf end"
    box("create", "--name", "web", "-t", box.rootfs, "/bin/sh", "-c", script)
    for _ in range(RUNS):
        box("start", "web")
        assert box.wait() == 0
    assert box.logs() == (b"x" * 3000 + b"end") * RUNS


def test_output_of_a_child_that_dies_with_the_first_process(box, data):
    """It has just written, and would go on."""
    content = mixed_lines(50_000, seed=4)
    script = (
        "mkfifo /tmp/f; { cat /mnt/data >&2; echo > /tmp/f; exec yes; } & read go < /tmp/f; exit 3"
    )
    box.run(script, "--tmpfs=/tmp", data(content), *LARGE)
    assert box.wait() == 3
    done = box("logs", "web")
    assert done.stderr == content
    assert set(done.stdout) <= set(b"y\n")
    assert done.stdout.count(b"y") - done.stdout.count(b"\n") in (0, 1)


def test_a_flood_that_is_killed_is_a_beginning_of_what_would_have_come(box, until):
    box.run("exec seq 1 100000000", *LARGE)
    pid, (log,) = box.state()["Pid"], box.log_files()
    until(lambda: log.stat().st_size > MEBIBYTE // 4)
    os.kill(pid, signal.SIGKILL)
    assert box.wait() == 137
    check_form(box.log_files())
    found = box.logs()
    count = found.count(b"\n")
    whole = numbers(1, count)
    assert found.startswith(whole)
    assert len(found) - len(whole) < len(b"100000000\n")


def test_what_a_terminal_shows_is_kept(box, data):
    content = mixed_lines(MEBIBYTE, seed=5)
    box.run("stty -opost; cat /mnt/data", "-t", data(content), *LARGE)
    assert box.wait() == 0
    assert box.logs() == content


def test_a_terminal_ends_its_lines_as_terminals_do(box):
    box.run("echo out; echo error >&2", "-t")
    box.wait()
    assert box.logs() == b"out\r\nerror\r\n"


# Rotation.


def check_rotated(box, most_files, limit):
    files = box.log_files()
    assert len(files) <= most_files
    assert all(path.stat().st_size < limit + BATCH for path in files)
    check_form(files)


@pytest.mark.parametrize("streams", ["cat /mnt/data", "cat /mnt/data >&2"])
def test_rotation_keeps_the_newest(box, data, streams):
    content = mixed_lines(2 * MEBIBYTE, seed=6)
    box.run(streams, data(content), "--log-opt=max-size=64k", "--log-opt=max-file=3")
    box.wait()
    check_rotated(box, 3, 64 * KIBIBYTE)
    assert [path.name for path in box.log_files()] == ["log.2", "log.1", "log"]
    done = box("logs", "web")
    kept = done.stdout + done.stderr
    assert content.endswith(kept)
    # Two of three files are full; an entry's head is 40 bytes.
    assert len(kept) > 32 * KIBIBYTE


def test_rotation_in_the_middle_of_a_line_loses_nothing_of_it(box, data):
    content = b"a" * 200_000 + b"\nlast\n"
    box.run("cat /mnt/data", data(content), "--log-opt=max-size=64k", "--log-opt=max-file=10")
    box.wait()
    check_rotated(box, 10, 64 * KIBIBYTE)
    assert len(box.log_files()) > 2
    assert box.logs() == content


def test_one_file_is_enough_where_only_one_is_wanted(box, data):
    """There are two at the moment of rotation."""
    content = mixed_lines(MEBIBYTE, seed=7)
    box.run("cat /mnt/data", data(content), "--log-opt=max-size=64k", "--log-opt=max-file=1")
    box.wait()
    check_rotated(box, 2, 64 * KIBIBYTE)
    assert content.endswith(box.logs())


def test_a_start_goes_on_with_the_files_of_the_last_one(box, data):
    content = mixed_lines(100_000, seed=8)
    options = (data(content), "--log-opt=max-size=64k", "--log-opt=max-file=9")
    box("create", "--name", "web", *options, box.rootfs, "cat", "/mnt/data")
    for _ in range(3):
        box("start", "-a", "web")
    check_rotated(box, 9, 64 * KIBIBYTE)
    assert box.logs() == content * 3


# The monitor is killed.


def test_a_flood_whose_monitor_is_killed_can_be_read_and_gone_on_with(box, tmp_path, until):
    shared = tmp_path / "shared"
    shared.mkdir()
    script = "test -e /mnt/again && exec echo 'the second start'; exec seq 1 100000000"
    box.run(script, f"--volume={shared}:/mnt:ro", *LARGE)
    monitor, (log,) = box.state()["ConmonPid"], box.log_files()
    until(lambda: log.stat().st_size > MEBIBYTE // 4)
    os.kill(monitor, signal.SIGKILL)
    assert box.wait() == 137
    found = box.logs()
    count = found.count(b"\n")
    assert count > MEBIBYTE // 4 // 50
    whole = numbers(1, count)
    assert found.startswith(whole)
    assert len(found) - len(whole) < len(b"100000000\n")
    (shared / "again").touch()
    box("start", "-a", "web")
    again = box.logs()
    assert again.startswith(found)
    assert again[len(found) :].lstrip(b"\n") == b"the second start\n"


TEARS = [1, 8, 9, 39, 45, 50, 60]


def test_a_log_that_is_torn_anywhere_is_read_up_to_there(box):
    box.run("echo one; echo two; echo three; printf 'the end'")
    box.wait()
    path = box.log_files()[0]
    whole, text = path.read_bytes(), box.logs()
    assert text == b"one\ntwo\nthree\nthe end"
    for tear in TEARS:
        path.write_bytes(whole[:-tear])
        found = box.logs()
        assert text.startswith(found)
        assert found.count(b"\n") >= whole[:-tear].count(b" F ") - 1
        assert text.startswith(box.logs("-f"))


@pytest.mark.parametrize("tear", [3, 9, 45, 70])
def test_after_a_torn_end_the_next_start_is_whole(box, tear):
    box("create", "--name", "web", box.rootfs, "/bin/sh", "-c", "echo one; echo two")
    box("start", "-a", "web")
    path = box.log_files()[0]
    path.write_bytes(path.read_bytes()[:-tear])
    box("start", "-a", "web")
    assert box.logs().endswith(b"one\ntwo\n")
    assert path.read_bytes().count(b"\n") in (3, 4)


@pytest.mark.parametrize(
    "junk",
    [b"\0" * 5000, b"garbage\n" * 3, b"2026-11-22T00:09:18.1", b"\xff\xfe\n\n\n", b"x" * 3_000_000],
    ids=["zeros", "lines", "a beginning", "no text", "a long line"],
)
def test_junk_in_the_file_is_passed_over(box, junk):
    """As a crash of the machine may leave it."""
    box("create", "--name", "web", box.rootfs, "/bin/sh", "-c", "echo one; echo two")
    box("start", "-a", "web")
    with box.log_files()[0].open("ab") as file:
        file.write(junk)
    assert box.logs() == b"one\ntwo\n"
    box("start", "-a", "web")
    assert box.logs() == b"one\ntwo\none\ntwo\n"
    assert box.logs("--tail", "1") == b"two\n"


# As it comes.


def test_following_shows_all_from_the_beginning_to_the_end(box):
    box.run("echo first; read go; seq 1 100000; exit 3", "-i", *LARGE)
    following = box.popen("logs", "-f", "web", stdout=-1)
    assert following.stdout.readline() == b"first\n"
    box("attach", "web", input=b"go\n", code=3)
    out, _ = following.communicate(timeout=10)
    assert (following.returncode, out) == (0, numbers(1, 100_000))


def test_following_goes_across_rotations(box):
    """The writer waits for the reader, so that nothing is rotated away unread."""
    options = ("--log-opt=max-size=64k", "--log-opt=max-file=3")
    box.run("while read first last; do seq $first $last; done", "-i", *options)
    following = box.popen("logs", "-f", "web", stdout=-1)
    typing = box.popen("attach", "web", stdin=-1, stdout=-3)
    for k in range(12):
        first, last = 1000 * k + 1, 1000 * k + 1000
        typing.stdin.write(b"%d %d\n" % (first, last))
        typing.stdin.flush()
        wanted = numbers(first, last)
        assert following.stdout.read(len(wanted)) == wanted
    assert len(box.log_files()) == 3
    assert not box.logs().startswith(b"1\n"), "the first file has gone"
    box("stop", "-t", "0", "web")
    assert following.communicate(timeout=10)[0] == b""
    assert following.returncode == 0


def test_following_a_flood_that_is_rotated_all_the_time(box, data):
    """There are as many files as it takes, so it is all there to be read."""
    content = mixed_lines(6 * MEBIBYTE, seed=9)
    options = (data(content), "--log-opt=max-size=1m", "--log-opt=max-file=10")
    box.run("read go; cat /mnt/data", "-i", *options)
    following = box.popen("logs", "-f", "web", stdout=-1)
    typing = box.popen("attach", "web", stdin=-1, stdout=-3)
    typing.stdin.write(b"go\n")
    typing.stdin.flush()
    out, _ = following.communicate(timeout=20)
    assert (following.returncode, out) == (0, content)


def test_who_follows_a_container_that_has_ended_is_done_at_once(box):
    box.run("echo over")
    box.wait()
    assert box.logs("-f") == b"over\n"


def test_who_follows_a_container_that_is_killed_with_its_monitor_is_done(box):
    box.run("echo begun; exec sleep 1000")
    following = box.popen("logs", "-f", "web", stdout=-1)
    assert following.stdout.readline() == b"begun\n"
    os.kill(box.state()["ConmonPid"], signal.SIGKILL)
    assert following.communicate(timeout=10)[0] == b""
    assert following.returncode == 0


def test_who_follows_sees_a_line_that_is_not_ended(box):
    """Someone waits for a prompt."""
    box.run("printf 'password: '; read word; exit", "-i")
    following = box.popen("logs", "-f", "web", stdout=-1)
    assert following.stdout.read(10) == b"password: "
    box("attach", "web", input=b"x\n")
    assert following.wait(10) == 0


def test_when_the_reader_leaves_following_ends(box):
    box.run("exec yes", "--log-opt=max-size=64k")
    following = box.popen("logs", "-f", "web", stdout=-1, stderr=-1)
    assert following.stdout.read(2) == b"y\n"
    following.stdout.close()
    assert following.stderr.read() == b""
    assert following.wait(10) in (0, 141, -13)
    assert box.state()["Running"]


# A part of it.


@pytest.fixture(scope="module")
def told(tmp_path_factory, rootfs):
    """A container that has written a, b, c, d on stdout and A, B on stderr, and has ended. Nothing
    changes it: one for many tests."""
    root = tmp_path_factory.mktemp("told") / "state"
    box = Box(rootfs, root)
    words = ["echo a", "echo A >&2", "echo b", "echo c", "echo B >&2", "printf d"]
    box.run("".join(f"read go; {word}; " for word in words), "-i")
    client = box.popen("attach", "web", stdin=-1, stdout=-1, stderr=-1)
    for word in words:
        client.stdin.write(b"\n")
        client.stdin.flush()
        (client.stderr if ">&2" in word else client.stdout).read(1 if "printf" in word else 2)
    box.wait()
    box.close()
    yield box
    shutil.rmtree(root)


def both(box, *options):
    """stdout and stderr, without newlines."""
    done = box("logs", *options, "web")
    return done.stdout.replace(b"\n", b"").decode() + done.stderr.replace(b"\n", b"").decode()


def stamps(box):
    """The time of each entry."""
    entries = [json.loads(line) for line in box("logs", "--json", "web").stdout.splitlines()]
    return {entry["log"]: entry["time"] for entry in entries}


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ("all", "abcdAB"),
        ("0", ""),
        ("1", "dB"),
        ("2", "cdB"),
        ("3", "bcdB"),
        ("5", "abcdAB"),
        ("999999999", "abcdAB"),
    ],
)
def test_the_last_lines(told, tail, expected):
    assert both(told, "--tail", tail) == expected
    assert both(told, "-n", tail, "-f") == expected


@pytest.mark.parametrize("tail", ["x", "-2", "9" * 30])
def test_no_number_of_lines(told, tail):
    done = told("logs", f"--tail={tail}", "web", code=125)
    assert done.stderr.startswith(b"minibox: --tail: ")
    assert done.stdout == b""


def test_from_a_time_to_a_time(told):
    at = stamps(told)
    assert sorted(at.values()) == [at[word] for word in "aAbcBd"]
    assert both(told, "--since", at["b"]) == "bcdB"
    assert both(told, "--until", at["b"]) == "abA"
    assert both(told, "--since", at["b"], "--until", at["c"]) == "bc"
    assert both(told, "--since", at["c"], "--until", at["b"]) == ""
    assert both(told, "--since", at["A"], "--tail", "2") == "cdB"
    assert both(told, "--since", "1h") == "abcdAB"
    assert both(told, "--until", "1h") == ""
    assert both(told, "--since", "2000-01-01", "--until", "2100-01-01T00:00:00+01:00") == "abcdAB"
    assert both(told, "-f", "--since", at["b"], "--until", at["c"]) == "bc"


@pytest.mark.parametrize("option", ["--since", "--until"])
@pytest.mark.parametrize("moment", ["yesterday", "2026-13-01"])
def test_no_time(told, option, moment):
    done = told("logs", f"{option}={moment}", "web", code=125)
    assert done.stderr.startswith(f"minibox: {option}: ".encode())


def test_times_before_the_lines(told):
    at = stamps(told)
    done = told("logs", "-t", "web")
    expected = [f"{at[word]} {word}" for word in "abcd"]
    assert done.stdout.decode() == "\n".join(expected)
    assert done.stderr.decode() == f"{at['A']} A\n{at['B']} B\n"


def test_data_for_programs(told):
    entries = [json.loads(line) for line in told("logs", "--json", "web").stdout.splitlines()]
    assert [entry["log"] for entry in entries] == list("aAbcBd")
    assert [entry["stream"] for entry in entries] == [
        "stdout",
        "stderr",
        "stdout",
        "stdout",
        "stderr",
        "stdout",
    ]
    assert [entry["ends"] for entry in entries] == [True] * 5 + [False]
    assert all(set(entry) == {"time", "stream", "log", "ends"} for entry in entries)
    (last,) = told("logs", "--json", "--tail", "0", "--since", "1h", "web").stdout.splitlines() or [
        b""
    ]
    assert last == b"" or json.loads(last)["log"] == "d"


def test_data_of_any_bytes_is_json(box, data):
    box.run("cat /mnt/data", data(bytes(range(256)) + b"\n\xc3\xa4\n"))
    box.wait()
    entries = [json.loads(line) for line in box.logs("--json").splitlines()]
    assert entries[-1]["log"] == "\u00e4"
    assert "\\xff" in entries[1]["log"]


def test_a_long_line_counts_as_one(box, data):
    content = b"a" * 100_000 + b"\nb\n" + b"c" * 100_000 + b"\n"
    box.run("cat /mnt/data", data(content), *LARGE)
    box.wait()
    assert box.logs("--tail", "1") == b"c" * 100_000 + b"\n"
    assert box.logs("--tail", "2") == b"b\n" + b"c" * 100_000 + b"\n"


def test_the_last_lines_across_rotated_files(box, data):
    content = mixed_lines(500_000, seed=10)
    lines = content.splitlines(keepends=True)
    box.run("cat /mnt/data", data(content), "--log-opt=max-size=64k", "--log-opt=max-file=10")
    box.wait()
    for count in (1, 100, 1000, 3000):
        assert box.logs("--tail", count) == b"".join(lines[-count:])


def test_a_container_that_never_ran_has_written_nothing(box):
    box("create", "--name", "web", box.rootfs, "true")
    assert box.logs() == b""
    assert box.logs("-t", "--tail", "5") == b""
    assert box("logs", "nobody", code=125).stderr == b"minibox: nobody: no such container\n"


# A full disk.


class Disk:
    """A small file system in a mount namespace of its own, with a state directory on it."""

    def __init__(self, helper, rootfs, path, options):
        path.mkdir()
        self.path = path
        self.there = helper("-m", script=f"mount -t tmpfs -o {options} none {path}")
        prefix = ("nsenter", "-t", str(self.there.pid), "-m", "--")
        self.box = Box(rootfs, path / "state", prefix)
        # The same place, seen from outside.
        self.outside = Path(f"/proc/{self.there.pid}/root{path}")

    def resize(self, options):
        done = self.there.run("mount", "-o", f"remount,{options}", str(self.path))
        assert done.returncode == 0, done

    def is_full(self):
        return os.statvfs(self.outside).f_bavail == 0

    def fill(self):
        """Nothing more has room."""
        with (self.outside / "filler").open("wb", 0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 4096):
                pass

    def use_up_inodes(self):
        with contextlib.suppress(OSError):
            for number in itertools.count():
                (self.outside / f"inode{number}").touch()

    def log_sizes(self):
        return [path.stat().st_size for path in self.outside.glob("state/containers/*/log*")]


@pytest.fixture
def disk(helper, rootfs, tmp_path):
    """`disk("size=256k")`: a Disk; its containers go with the test."""
    made = []

    def make(options):
        made.append(Disk(helper, rootfs, tmp_path / f"disk{len(made)}", options))
        return made[-1]

    yield make
    for each in made:
        each.box.close()
        each.resize("size=64m,nr_inodes=10000")
        each.box("rm", "-af")


CONTENT = mixed_lines(MEBIBYTE, seed=11)


def test_on_a_full_disk_the_container_is_held_back_and_nothing_is_lost(disk, data, until, box):
    small = disk("size=256k")
    small.box.run("echo I am quiet; exec cat", "-i", name="other")
    small.box.run("cat /mnt/data; exit 5", data(CONTENT), *LARGE)
    until(small.is_full)
    # It waits; what there was room for can be read.
    state = small.box.state()
    until(lambda: Path(f"/proc/{state['Pid']}/wchan").read_text() != "0")
    found = small.box.logs()
    assert found
    assert CONTENT.startswith(found)
    assert small.box.state() == state
    # Nobody else is harmed: not on this disk, and not on another.
    assert small.box.logs(name="other") == b"I am quiet\n"
    assert small.box("exec", "other", "/bin/echo", "still here").stdout == b"still here\n"
    box.run("echo elsewhere")
    assert box.wait() == 0
    assert box.logs() == b"elsewhere\n"
    # There is room again.
    small.resize("size=8m")
    assert small.box.wait() == 5
    assert small.box.logs() == CONTENT
    assert small.box.logs(name="other") == b"I am quiet\n"


def test_on_a_full_disk_the_end_is_written_down(disk, data, until):
    small = disk("size=256k")
    small.box.run("cat /mnt/data; exit 5", data(CONTENT), *LARGE)
    until(small.is_full)
    os.kill(small.box.state()["Pid"], signal.SIGKILL)
    began = time.monotonic()
    assert small.box.wait() == 137
    assert time.monotonic() - began < 5
    state = small.box.state()
    assert (state["Status"], state["ExitCode"], state["Signal"]) == ("exited", 137, 9)
    assert state["Error"] == ""
    found = small.box.logs()
    assert CONTENT.startswith(found)
    # The next start appends to what there is.
    small.resize("size=8m")
    small.box("start", "-a", "web", code=5)
    again = small.box.logs()
    assert again.endswith(CONTENT)
    assert again[: -len(CONTENT)].startswith(found)


def test_on_a_full_disk_an_exit_code_is_written_down(disk, data):
    """The last output does not fit; the container has ended by itself."""
    small = disk("size=128k")
    script = "read go; dd if=/mnt/data bs=60000 count=1 status=none; exit 7"
    small.box.run(script, "-i", data(CONTENT), *LARGE)
    small.fill()
    # Who is attached gets it all the same.
    done = small.box("attach", "web", input=b"go\n", code=7)
    assert done.stdout == CONTENT[:60000]
    state = small.box.state()
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("exited", 7, "")


@pytest.mark.parametrize("words", [("stop", "-t", "0"), ("kill",)])
def test_on_a_full_disk_a_container_can_be_ended(disk, words):
    small = disk("size=128k")
    small.box.run("exec sleep 1000")
    small.fill()
    small.box(*words, "web")
    assert small.box.state()["ExitCode"] == 137


def test_on_a_full_disk_a_container_can_be_removed(disk, data, until):
    small = disk("size=256k")
    small.box.run("cat /mnt/data", data(CONTENT), *LARGE)
    until(small.is_full)
    pid = small.box.state()["Pid"]
    small.box("rm", "-f", "web")
    assert not os.path.exists(f"/proc/{pid}")
    assert not small.is_full()


def test_on_a_full_disk_the_oldest_files_make_room(disk, data, until):
    """A log that is rotated holds nobody back as long as it has something to let go."""
    small = disk("size=200k")
    small.box.run(
        "cat /mnt/data; exit 5", data(CONTENT), "--log-opt=max-size=64k", "--log-opt=max-file=5"
    )
    assert small.box.wait() == 5
    found = small.box.logs()
    assert len(found) > 32 * KIBIBYTE
    assert CONTENT.endswith(found)


def test_on_a_full_disk_a_start_is_refused(disk):
    small = disk("size=256k")
    small.box("create", "--name", "old", small.box.rootfs, "true")
    small.fill()
    for words in (["run", "-d", "--name", "web", small.box.rootfs, "true"], ["start", "old"]):
        done = small.box(*words, code=125)
        assert done.stdout == b""
        assert done.stderr.startswith(b"minibox: ")
        assert done.stderr.endswith(b"No space left on device\n")
    names = small.box("ps", "-a", "--format", "{{.Names}} {{.State}}").stdout
    assert names == b"old created\n"
    (small.outside / "filler").unlink()
    small.box("start", "-a", "old")


def test_where_no_file_can_be_made_rotation_waits(disk, until):
    """The disk has no inode left for a while; after that the limits hold again."""
    small = disk("size=16m,nr_inodes=40")
    box = small.box
    options = ("--log-opt=max-size=64k", "--log-opt=max-file=3")
    box.run("while read first last; do seq $first $last; done", "-i", *options)
    typing = box.popen("attach", "web", stdin=-1, stdout=-3)

    def step(first, last):
        typing.stdin.write(b"%d %d\n" % (first, last))
        typing.stdin.flush()
        until(lambda: box.logs("--tail", "1") == b"%d\n" % last)

    small.use_up_inodes()
    step(1, 10000)
    assert numbers(1, 10000).endswith(box.logs())
    small.resize("nr_inodes=1000")
    step(10001, 20000)
    step(20001, 30000)
    assert numbers(1, 30000).endswith(box.logs())
    assert len(small.log_sizes()) == 3
    assert max(small.log_sizes()) < 64 * KIBIBYTE + BATCH
