# SPDX-License-Identifier: Apache-2.0
"""The journal of events: many write it, it never fails a container, and readers lose nothing."""

import json
import os
import random
import subprocess
import sys
import time

import pytest

from minibox import events, lines
from minibox.errors import SpecError, StateError

SECOND = 10**9
ID = "0123456789abcdef" * 4


def actions(found):
    return [event.action for event in found]


def raw(action="start", id_=ID, name="web", time_=5 * SECOND, **attributes):
    event = {
        "Type": "container",
        "Action": action,
        "Actor": {"ID": id_, "Attributes": {"name": name, **attributes}},
        "time": time_ // SECOND,
        "timeNano": time_,
    }
    return json.dumps(event).encode() + b"\n"


def fds():
    return len(os.listdir("/proc/self/fd"))


# To record.


def test_the_shape_is_dockers(tmp_path):
    before = time.time_ns()
    assert events.record(str(tmp_path), "die", ID, "web", exitCode="137", image="busybox")
    text = (tmp_path / "events").read_text()
    assert text.endswith("\n") and text.count("\n") == 1
    found = json.loads(text)
    at = found.pop("timeNano")
    assert before <= at <= time.time_ns()
    assert found == {
        "Type": "container",
        "Action": "die",
        "Actor": {"ID": ID, "Attributes": {"exitCode": "137", "image": "busybox", "name": "web"}},
        "time": at // SECOND,
    }
    assert (tmp_path / "events").stat().st_mode & 0o7777 == 0o600
    (event,) = events.read(str(tmp_path))
    assert (event.time, event.type, event.action, event.id) == (at, "container", "die", ID)
    assert event.attributes == {"exitCode": "137", "image": "busybox", "name": "web"}
    assert event.line == text.strip()


@pytest.mark.parametrize(
    "text",
    ["", '"', "\\", "\n\r\t\0\x1b\x7f", "ü€", "\U0001f4a9", "\udcff\udc80", "\ud83d", "a\u2028b", "}],{"],
)  # fmt: skip
def test_any_text_survives(tmp_path, text):
    assert events.record(str(tmp_path), text, text, text, **{text: text, "label": text})
    (event,) = events.read(str(tmp_path))
    assert (event.action, event.id, event.attributes["name"]) == (text, text, text)
    assert event.attributes[text] == event.attributes["label"] == text
    assert (tmp_path / "events").read_bytes().isascii()


def test_labels_may_have_any_name(tmp_path):
    labels = {"directory": "1", "action": "2", "id_": "3", "name": "4", "self": "5"}
    assert events.record(str(tmp_path), "start", ID, "web", **labels)
    (event,) = events.read(str(tmp_path))
    assert event.attributes == {**labels, "name": "web"}


def test_more_than_a_reader_takes(tmp_path):
    assert events.record(str(tmp_path), "start", ID, "web", label="x" * 1_100_000)
    (event,) = events.read(str(tmp_path))
    assert (event.action, event.attributes) == ("start", {"name": "web"})


def broken(path, kind):
    if kind == "missing":
        path.rmdir()
    elif kind == "directory":
        (path / "events").mkdir()
    elif kind == "loop":
        (path / "events").symlink_to("events")
    elif kind == "full":
        (path / "events").symlink_to("/dev/full")
    elif kind == "file":
        path.rmdir()
        path.touch()


@pytest.mark.parametrize("kind", ["missing", "directory", "loop", "full", "file"])
def test_what_cannot_be_recorded_is_not(tmp_path, kind):
    directory = tmp_path / "state"
    directory.mkdir()
    broken(directory, kind)
    before = fds()
    assert events.record(str(directory), "start", ID, "web") is False
    assert fds() == before
    assert actions(events.read(str(directory))) == []


def test_a_directory_that_cannot_be_written(tmp_path):
    """/proc is such a one for root, too."""
    assert events.record("/proc/self", "start", ID, "web") is False


FULL = """
import resource, sys
from minibox import events
size = resource.RLIMIT_FSIZE
for limit in range(300, 900, 50):
    resource.setrlimit(size, (limit, resource.RLIM_INFINITY))
    print(int(events.record(sys.argv[1], "start", "id", "web")), end="")
resource.setrlimit(size, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(int(events.record(sys.argv[1], "end", "id", "web")))
"""


def test_a_full_disk(tmp_path):
    """A line may be torn; then that event is lost, and no other."""
    words = [sys.executable, "-Ic", FULL, str(tmp_path)]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    got = actions(events.read(str(tmp_path)))
    assert "0" in told[:-1] and "1" in told[:-1]
    assert got == ["start"] * told[:-1].count("1") + ["end"]


# Rotation.


def test_rotation(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "MOST", 1000)
    before = fds()
    for number in range(100):
        assert events.record(str(tmp_path), str(number), ID, "web")
    assert sorted(os.listdir(tmp_path)) == ["events", "events.1", "events.lock"]
    assert (tmp_path / "events").stat().st_size <= 1000
    assert 1000 < (tmp_path / "events.1").stat().st_size < 1500
    assert (tmp_path / "events.lock").stat().st_mode & 0o7777 == 0o600
    got = [int(action) for action in actions(events.read(str(tmp_path)))]
    assert got == list(range(got[0], 100))
    assert fds() == before


def test_who_holds_the_lock_delays_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "MOST", 1000)
    code = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    words = [sys.executable, "-c", code, str(tmp_path / "events.lock")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        for number in range(20):
            assert events.record(str(tmp_path), str(number), ID, "web")
        assert not (tmp_path / "events.1").exists()
        process.communicate(b"\n")
    assert events.record(str(tmp_path), "20", ID, "web")
    assert (tmp_path / "events.1").exists()
    assert actions(events.read(str(tmp_path))) == [str(number) for number in range(21)]


def test_the_lock_cannot_be_had(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "MOST", 100)
    (tmp_path / "events.lock").mkdir()
    for _ in range(3):
        assert events.record(str(tmp_path), "start", ID, "web")
    assert len(actions(events.read(str(tmp_path)))) == 3


RECORDER = """
import sys
from minibox import events
events.MOST = int(sys.argv[4])
for number in range(int(sys.argv[3])):
    assert events.record(sys.argv[1], f"{sys.argv[2]}:{number}", "id", "web")
"""


def recorder(directory, who, count, most):
    words = [sys.executable, "-Ic", RECORDER, directory, who, count, most]
    return subprocess.Popen([str(word) for word in words])


def test_recorders_race(tmp_path):
    """Three write and rotate; one follows and gets each event of each exactly once."""
    before = fds()
    # One rotation is due, so that nothing has to go.
    processes = [recorder(tmp_path, who, 200, 50_000) for who in "abc"]
    stop = lambda: all(process.poll() is not None for process in processes)  # noqa: E731
    got = actions(events.follow(str(tmp_path), since=0, stop=stop))
    wanted = sorted(f"{who}:{number}" for who in "abc" for number in range(200))
    assert sorted(got) == wanted
    assert sorted(actions(events.read(str(tmp_path)))) == wanted
    assert (tmp_path / "events.1").exists()
    assert fds() == before


def test_recorders_race_for_the_rotation(tmp_path):
    """Again and again: no line is broken, and what is kept has no holes."""
    processes = [recorder(tmp_path, who, 200, 3000) for who in "abc"]
    assert [process.wait() for process in processes] == [0, 0, 0]
    newest = tmp_path / "events"  # it is not there if the last line of all has rotated it
    journal = (tmp_path / "events.1").read_bytes()
    journal += newest.read_bytes() if newest.exists() else b""
    assert all(events.parse(line) for line in journal.splitlines() if line)
    got = actions(events.read(str(tmp_path)))
    for who in "abc":
        numbers = [int(action[2:]) for action in got if action[0] == who]
        assert numbers == list(range(200 - len(numbers), 200))


def test_rotated_away_on_its_way(tmp_path, monkeypatch):
    """The file that a recorder has opened is gone when it writes: it writes again."""
    (tmp_path / "events").touch()

    class Late:
        def __getattr__(self, name):
            return getattr(os, name)

        def write(self, fd, data):
            (tmp_path / "events").unlink()
            monkeypatch.setattr(events, "os", os)
            return os.write(fd, data)

    monkeypatch.setattr(events, "os", Late())
    assert events.record(str(tmp_path), "start", ID, "web")
    assert actions(events.read(str(tmp_path))) == ["start"]


# To read.


@pytest.mark.parametrize(
    "line",
    [
        b"\n", b"{}\n", b"[]\n", b"null\n", b"1\n", b"\xff\xfe{\0}\0\n", b"\0" * 50 + b"\n", b"[" * 100_000 + b"\n",
        b'{"a":' * 5000 + b"\n", b"1" * 10_000 + b"\n", b"{" + b"x" * 1000 + b"\n",
        raw()[:-2] + b"\n", raw().replace(b'"timeNano": 5000000000', b'"timeNano": "5"'),
        raw().replace(b'"timeNano": 5000000000', b'"timeNano": true'),
        raw().replace(b'"timeNano": 5000000000', b'"timeNano": 5e9'),
        raw().replace(b'"timeNano": 5000000000', b'"timeNano": -1'),
        raw().replace(b'"timeNano": 5000000000', b'"timeNano": ' + b"9" * 30),
        raw().replace(b'"timeNano": 5000000000', b'"timeNano": ' + b"9" * 5000),
        raw().replace(b'"start"', b"[]"), raw().replace(b'"start"', b"null"), raw().replace(b'"container"', b"1"),
        raw().replace(b'"web"', b"{}"), raw().replace(b'{"name": "web"}', b'["name"]'),
        raw().replace(b'{"name": "web"}', b"null"), raw().replace(b"Actor", b"actor"),
    ],
)  # fmt: skip
def test_what_is_no_event_is_left_out(tmp_path, line):
    (tmp_path / "events").write_bytes(raw("a") + line + raw("b"))
    assert actions(events.read(str(tmp_path))) == ["a", "b"]


def test_torn_at_every_byte(tmp_path):
    line = raw("torn")
    for cut in range(len(line)):
        (tmp_path / "events").write_bytes(raw("a") + line[:cut])
        assert actions(events.read(str(tmp_path))) == ["a"]
        assert events.record(str(tmp_path), "b", ID, "web")
        # All but the newline is all.
        torn = ["torn"] if cut == len(line) - 1 else []
        assert actions(events.read(str(tmp_path))) == ["a", *torn, "b"]


def test_read_takes_anything(tmp_path):
    chance = random.Random(1)
    whole = raw("start", label="ü")
    data = b""
    for _ in range(2000):
        line = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            line[chance.randrange(len(line))] = chance.randrange(256)
        data += line
    (tmp_path / "events").write_bytes(data)
    for event in events.read(str(tmp_path), filters=["label=label", "container=web"]):
        assert isinstance(event.action, str)


def test_since_and_until(tmp_path):
    (tmp_path / "events.1").write_bytes(b"".join(raw(str(t), time_=t) for t in (10, 20, 30)))
    (tmp_path / "events").write_bytes(b"".join(raw(str(t), time_=t) for t in (5, 15, 25)))
    directory = str(tmp_path)
    assert actions(events.read(directory)) == ["10", "20", "30", "5", "15", "25"]
    assert actions(events.read(directory, since=20)) == ["20", "30", "25"]
    assert actions(events.read(directory, since=10, until=20)) == ["10", "20", "15"]
    never = lambda: False  # noqa: E731
    assert actions(events.follow(directory, until=15, stop=never)) == ["10", "5", "15"]
    assert actions(events.follow(directory, since=25, until=40, stop=never)) == ["30", "25"]


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ([], "1 2 3 4"),
        (["container=web"], "1 2"),
        (["container=we"], ""),
        (["container=aaa"], "1 2"),
        (["container=" + "a" * 64], "1 2"),
        (["container=web", "container=db"], "1 2 3"),
        (["event=1"], "1"),
        (["event=1", "event=3"], "1 3"),
        (["event=1", "container=db"], ""),
        (["event=exec_create"], ""),
        (["type=container"], "1 2 3 4"),
        (["type=network"], ""),
        (["label=tier"], "1 3 4"),
        (["label=tier=front"], "1"),
        (["label=tier="], "4"),
        (["label=tier=front", "label=tier=back"], "1 3"),
        (["label=a=b=c"], "2"),
        (["label=tier", "container=web", "type=container"], "1"),
    ],
)
def test_filters(tmp_path, filters, wanted):
    web, db = "a" * 64, "b" * 64
    (tmp_path / "events").write_bytes(
        raw("1", web, "web", tier="front")
        + raw("2", web, "web", a="b=c")
        + raw("3", db, "db", tier="back")
        + raw("4", db, "cache", tier="")
    )
    assert actions(events.read(str(tmp_path), filters=filters)) == wanted.split()
    got = events.follow(str(tmp_path), since=0, filters=filters, stop=lambda: True)
    assert actions(got) == wanted.split()


def test_an_action_that_says_more(tmp_path):
    (tmp_path / "events").write_bytes(raw("exec_create: /bin/sh -c 'a:b'") + raw("exec_start: x"))
    got = events.read(str(tmp_path), filters=["event=exec_create"])
    assert actions(got) == ["exec_create: /bin/sh -c 'a:b'"]
    got = events.read(str(tmp_path), filters=["event=exec_start: x"])
    assert actions(got) == ["exec_start: x"]


@pytest.mark.parametrize(
    "text", ["", "=", "x", "x=y", "event", "event=", "=die", "Event=die", "label=", "event\0=a", " type=a"]
)  # fmt: skip
def test_bad_filter(tmp_path, text):
    """Told at once, before anything is read."""
    with pytest.raises(SpecError, match="--filter"):
        events.read(str(tmp_path), filters=["event=die", text])
    with pytest.raises(SpecError, match="--filter"):
        events.follow(str(tmp_path), filters=[text], stop=lambda: True)


def test_nothing_there(tmp_path):
    assert actions(events.read(str(tmp_path))) == []
    assert actions(events.read(str(tmp_path / "no"))) == []
    with pytest.raises(StateError, match="no such directory"):
        actions(events.follow(str(tmp_path / "no"), stop=lambda: True))


def test_follow_gives_what_comes(tmp_path):
    """And, asked for no time, nothing of what was before."""
    directory = str(tmp_path)
    for since, wanted in ((None, ["new"]), (0, ["old", "new"])):
        (tmp_path / "events").unlink(missing_ok=True)
        events.record(directory, "old", ID, "web")
        asked = []

        def stop(asked=asked):
            asked.append(events.record(directory, "new", ID, "web") if not asked else True)
            return len(asked) > 1

        assert actions(events.follow(directory, since=since, stop=stop)) == wanted


def test_follow_ends_in_the_future(tmp_path, monkeypatch):
    """By the clock, which is asked again: it may be set."""
    monkeypatch.setattr(lines, "IDLE", 0.05)
    until = time.time_ns() + 3600 * SECOND
    asked = []

    def time_ns(real=time.time_ns):
        asked.append(1)
        return real() + (3601 * SECOND if len(asked) > 10 else 0)

    monkeypatch.setattr(time, "time_ns", time_ns)
    (tmp_path / "events").write_bytes(raw("a") + raw("late", time_=until + 1))
    assert actions(events.follow(str(tmp_path), until=until, stop=lambda: False)) == ["a"]
    assert len(asked) > 10


def test_follow_is_woken_up(tmp_path):
    """By each recorder, whatever it waits for."""
    found = events.follow(str(tmp_path), since=0, stop=lambda: False)
    for number in range(3):
        with recorder(tmp_path, str(number), 1, 1 << 20):
            assert next(found).action == f"{number}:0"
    found.close()
