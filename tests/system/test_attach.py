# SPDX-License-Identifier: Apache-2.0
"""Who is attached to a container: what passes between them, how they part, and who is let in."""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import random
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import PATIENCE

COMMAND = Path(sys.executable).with_name("minibox")
KIBIBYTE, MEBIBYTE = 1 << 10, 1 << 20
DEADLINE = 10.0 * PATIENCE
SIZE = (31, 97)
LOCAL = 3  # the index of c_lflag in what tcgetattr gives
MOST_CLIENTS = 16
PATIENCE = 10.0
LARGE = ("--log-opt", "max-size=1g")
SO_SNDBUFFORCE = 32
# A terminal that gives back what it gets, byte for byte; it says when it is so far.
ECHO = "stty raw -echo -opost; echo ready; exec cat"
# An interrupt, or what is asked for by name, ends it with a code.
TRAP = "trap 'echo caught; exit 33' {0}; echo ready; while :; do sleep 1000 & wait $!; done"


class Box:
    """The containers of one test: `box("start", "web")`, and what can be seen of them."""

    def __init__(self, rootfs, root):
        self.rootfs = rootfs
        self.root = Path(root)
        self.begun = []

    def line(self, *words):
        return [str(COMMAND), "--root", str(self.root), *map(str, words)]

    def __call__(self, *words, code=0, **how):
        if "input" not in how:
            how.setdefault("stdin", subprocess.DEVNULL)
        how.setdefault("stdout", subprocess.PIPE)
        how.setdefault("stderr", subprocess.PIPE)
        done = subprocess.run(self.line(*words), timeout=60, **how)
        assert done.returncode == code, done
        return done

    def popen(self, *words, **how):
        """With pipes."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.begun.append(subprocess.Popen(self.line(*words), **{**pipes, **how}))
        return self.begun[-1]

    def shell(self, script, *options, name="web"):
        """The words that run a shell's script in a container with a name."""
        return ["run", "--name", name, *options, self.rootfs, "/bin/sh", "-c", script]

    def run(self, script, *options, name="web"):
        self(*self.shell(script, "-d", *options, name=name))

    def state(self, name="web"):
        return json.loads(self("inspect", name).stdout)[0]["State"]

    def is_running(self):
        return self.state()["Running"]

    def names(self):
        return self("ps", "-a", "--format", "{{.Names}}").stdout.decode().split()

    def logs(self, name="web"):
        return self("logs", name).stdout

    def directory(self, name="web"):
        return self.root / "containers" / os.readlink(self.root / "names" / name)

    def sockets(self):
        """How many the monitor has: the one it listens on, and its clients."""
        count, directory = 0, f"/proc/{self.state()['ConmonPid']}/fd"
        for fd in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError):
                count += os.readlink(f"{directory}/{fd}").startswith("socket:")
        return count

    def close(self):
        for process in self.begun:
            if process.poll() is None:
                process.kill()
            for stream in (process.stdin, process.stdout, process.stderr):
                with contextlib.suppress(BrokenPipeError):
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

    def write(content):
        path = tmp_path / "volume" / "data"
        path.parent.mkdir()
        path.write_bytes(content)
        path.chmod(0o644)
        return f"--volume={path.parent}:/mnt:ro"

    return write


@pytest.fixture
def join(box):
    """`join()`: a connection to the socket that the monitor listens on, without minibox."""
    with contextlib.ExitStack() as opened:

        def connect():
            place = os.open(box.directory(), os.O_PATH)
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            opened.enter_context(connection)
            connection.connect(f"/proc/self/fd/{place}/attach")
            connection.settimeout(DEADLINE)
            os.close(place)
            return connection

        yield connect


def unread(fd):
    """How many bytes wait in a pipe or a terminal."""
    return struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0]


class Terminal:
    """A terminal that someone sits at, and the command run in it."""

    def __init__(self):
        self.master, self.slave = os.openpty()
        self.seen = b""
        self.process = None
        self.resize(*SIZE)
        self.before = termios.tcgetattr(self.slave)

    def is_raw(self):
        local = termios.tcgetattr(self.slave)[LOCAL]
        return not local & (termios.ICANON | termios.ECHO | termios.ISIG)

    def is_as_before(self):
        return termios.tcgetattr(self.slave) == self.before

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def run(self, words):
        """In a session that the terminal controls."""

        def take_terminal():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        slave = self.slave
        self.process = subprocess.Popen(
            words,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=take_terminal,  # noqa: PLW1509
        )
        return self

    def type(self, *parts):
        """Each part when what was typed before it has been read."""
        for part in parts:
            os.write(self.master, part)
            deadline = time.monotonic() + DEADLINE
            while unread(self.slave):
                assert time.monotonic() < deadline, "nobody reads what is typed"

    def read(self, timeout):
        """Something new on the screen; b"" when there is nothing for so long."""
        if not select.select([self.master], [], [], timeout)[0]:
            return b""
        data = os.read(self.master, 1 << 16)
        self.seen += data
        return data

    def expect(self, text):
        """Read until the text is on the screen; what was read before it is returned."""
        deadline = time.monotonic() + DEADLINE
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.seen!r}"
            self.read(0.05)
        head, _, self.seen = self.seen.partition(text)
        return head

    def wait(self):
        """The exit code; the screen is read all the while."""
        deadline = time.monotonic() + DEADLINE
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end; on the screen: {self.seen!r}"
            self.read(0.01)
        while self.read(0):
            pass
        return self.process.returncode

    def hang_up(self):
        for name in ("slave", "master"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
        self.hang_up()
        if self.process:
            self.process.wait()


@pytest.fixture
def terminal():
    """`terminal(words)`: a Terminal in which this runs."""
    made = []

    def run(words):
        made.append(Terminal())
        return made[-1].run(words)

    yield run
    for each in made:
        each.close()


# In the foreground.


def test_a_container_with_a_name_in_the_foreground_is_like_any_command(box):
    done = box(*box.shell("echo out; echo error >&2; cat; exit 7"), input=b"in\n", code=7)
    assert (done.stdout, done.stderr) == (b"out\nin\n", b"error\n")
    state = box.state()
    assert (state["Status"], state["ExitCode"]) == ("exited", 7)
    assert box.logs() == b"out\nin\n"


@pytest.mark.parametrize("option", ["--net=none", "--init", "--userns=host"])
def test_ten_megabytes_pass_byte_for_byte(box, option):
    content = random.Random(1).randbytes(10 * MEBIBYTE)
    done = box("run", "--name", "web", "-i", option, box.rootfs, "cat", input=content)
    assert done.stdout == content
    assert done.stderr == b""


def test_all_output_comes_in_order(box):
    done = box(*box.shell("seq 300000; seq 100000 >&2"))
    assert done.stdout == b"".join(b"%d\n" % k for k in range(1, 300_001))
    assert done.stderr == b"".join(b"%d\n" % k for k in range(1, 100_001))


def test_the_first_output_is_not_missed(box):
    """A client is there before the command is."""
    box("create", "--name", "web", box.rootfs, "echo", "first")
    for _ in range(8):
        assert box("start", "-a", "web").stdout == b"first\n"


def test_the_end_of_stdin_is_passed_on(box):
    assert box(*box.shell("wc -c; echo end"), input=b"12345").stdout == b"5\nend\n"
    assert box(*box.shell("cat; exit 3", name="two"), code=3).stdout == b""


def test_who_closes_stdin_ends_nothing(box):
    """More comes than the command reads."""
    done = box(*box.shell("head -c 5; exec <&-; echo; echo more"), input=b"x" * MEBIBYTE)
    assert done.stdout == b"xxxxx\nmore\n"


def test_a_command_that_cannot_be_executed_leaves_no_container(box, tree):
    (tree / "plain").write_text("text")
    for path, code in (("/no/such", 127), ("/plain", 126)):
        done = box("run", "--name", "web", tree, path, code=code)
        assert done.stderr.startswith(b"minibox: ")
        assert box.names() == []


@pytest.mark.parametrize("code", [0, 125])
def test_with_rm_its_code_is_told_and_it_goes(box, until, code):
    done = box(*box.shell(f"echo out; exit {code}", "--rm"), code=code)
    assert (done.stdout, done.stderr) == (b"out\n", b"")
    until(lambda: box.names() == [])


def test_with_rm_the_name_is_free_when_the_command_has_ended(box):
    for _ in range(5):
        box(*box.shell("true", "--rm"))
    assert box.names() == []


@pytest.mark.parametrize("redirection", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_with_closed_streams(box, redirection):
    words = " ".join(box.line("run", "--name", "web", box.rootfs))
    script = f"exec {words} /bin/sh -c 'cat; echo out; echo error >&2; exit 9' {redirection}"
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, timeout=30, stdin=-3)
    assert done.returncode == 9
    assert done.stdout == (b"" if ">&-" in redirection.split() else b"out\n")
    assert done.stderr == (b"" if "2>&-" in redirection else b"error\n")
    assert box.logs() == b"out\n"


def test_a_pipe_that_does_not_block_gets_everything(box, until):
    """Somebody has made the open file so; it may be a shell's terminal."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    process = box.popen(*box.shell("seq 100000"), stdout=write)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        # Nobody reads until the pipe is full; the client waits then.
        until(lambda: unread(pipe) == 1 << 16 or process.poll() is not None)
        out = pipe.read()
    assert (process.wait(10), process.stderr.read()) == (0, b"")
    assert out == b"".join(b"%d\n" % k for k in range(1, 100_001))


def test_a_reader_that_is_slow_to_begin_misses_nothing(box):
    """More than a pipe takes, but not so much that the container would be held back all the time."""
    sizes = range(120_000, 300_000, 30_000)
    readers = []
    for size in sizes:
        words = " ".join(box.line("run", "--name", f"web{size}", box.rootfs))
        script = f"{words} sh -c 'yes 1234567 | head -c {size}' | (sleep 2.5; wc -c)"
        readers.append(subprocess.Popen(["/bin/sh", "-c", script], stdout=-1, stderr=-1, stdin=-3))
    for size, reader in zip(sizes, readers, strict=True):
        assert reader.communicate(timeout=20) == (b"%d\n" % size, b"")


def test_output_is_not_lost_though_the_container_did_not_read_its_input(box, tmp_path, until):
    """Linux tells a peer of unread data (ECONNRESET) before it gives it what was sent."""
    shared = tmp_path / "shared"
    shared.mkdir()
    script = "until test -e /mnt/go; do usleep 5000; done; echo out; echo err >&2; exit 3"
    with open("/dev/zero", "rb") as zeros:
        words = box.shell(script, f"--volume={shared}:/mnt:ro")
        process = box.popen(*words, stdin=zeros)
    until(lambda: "web" in box.names() and box.is_running())
    until(lambda: sleeps(process.pid))
    process.send_signal(signal.SIGSTOP)
    (shared / "go").touch()
    assert box("wait", "web").stdout == b"3\n"
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=10) == (b"out\n", b"err\n")
    assert process.returncode == 3


def sleeps(pid):
    """Does it wait for something, now and ten looks long?"""
    return all(
        Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
        for _ in range(10)
    )


def test_when_the_reader_leaves_the_client_ends_and_the_container_goes_on(box):
    process = box.popen(*box.shell("while echo y; do :; done"))
    assert process.stdout.read(2) == b"y\n"
    process.stdout.close()
    assert process.wait(10) != 0
    assert b"Traceback" not in process.stderr.read()
    assert box.is_running()


# start -a, attach.


def test_start_attached(box):
    box("create", "--name", "web", "-i", box.rootfs, "/bin/sh", "-c", "cat; exit 5")
    for text in (b"one\n", b"two\n"):
        assert box("start", "-a", "-i", "web", input=text, code=5).stdout == text
        assert box("start", "-i", "web", input=text, code=5).stdout == text
    assert box.logs() == b"one\none\ntwo\ntwo\n"


def test_start_attached_without_stdin_passes_nothing_on(box):
    script = 'read -t 0.3 line; echo "got $line"'
    box("create", "--name", "web", "-i", box.rootfs, "/bin/sh", "-c", script)
    assert box("start", "-a", "web", input=b"text\n").stdout == b"got \n"


def test_start_attached_takes_one_that_does_not_run(box):
    box.run("exec sleep 1000")
    message = b"minibox: container web is already running\n"
    assert box("start", "-a", "web", code=125).stderr == message
    assert box("start", "-ai", "web", "web", code=125).stderr.startswith(b"minibox: --attach: ")
    assert box.is_running()


def test_attach_to_what_does_not_run(box):
    box("create", "--name", "web", box.rootfs, "true")
    message = b"minibox: container web is not running\n"
    assert box("attach", "web", code=125).stderr == message
    box("start", "-a", "web")
    assert box("attach", "web", code=125).stderr == message
    assert box("attach", "nobody", code=125).stderr == b"minibox: nobody: no such container\n"


def test_attach_shows_what_comes_and_ends_as_it_ends(box):
    box.run("echo before; read line; echo got $line; exit 44", "-i")
    done = box("attach", "web", input=b"text\n", code=44)
    assert (done.stdout, done.stderr) == (b"got text\n", b"")
    assert box.logs() == b"before\ngot text\n"


def test_the_end_of_an_attached_stdin_is_not_the_containers(box, until):
    """Others may have more to say."""
    box.run("cat", "-i")
    first = box.popen("attach", "web")
    first.stdin.write(b"one\n")
    first.stdin.close()
    assert first.stdout.readline() == b"one\n"
    second = box.popen("attach", "web")
    second.stdin.write(b"two\n")
    second.stdin.flush()
    assert second.stdout.readline() == b"two\n"
    assert first.stdout.readline() == b"two\n"
    assert box.is_running()


@pytest.mark.parametrize("options", [["-d", "-i"], ["-d"]])
def test_attach_passes_stdin_on_where_both_want_it(box, options):
    box(*box.shell('read -t 0.3 line; echo "got $line"', *options))
    words = ["attach", "--no-stdin", "web"] if "-i" in options else ["attach", "web"]
    process = box.popen(*words)
    process.communicate(b"text\n", timeout=10)
    assert b"text" not in box.logs()


@pytest.mark.parametrize(
    "words", [("--sig-proxy=x",), ("--detach-keys=ctrl-",), ("--detach-keys=ab",)]
)
def test_bad_options(box, words):
    box.run("exec sleep 1000")
    done = box("attach", *words, "web", code=125)
    option = words[0].partition("=")[0]
    assert done.stderr.startswith(f"minibox: {option}: ".encode())
    assert box.is_running()


# Many clients.


def test_all_clients_see_the_same(box, until):
    box.run("read go; seq 60000; seq 5 >&2; exit 6", "-i")
    clients = [box.popen("attach", "web") for _ in range(5)]
    until(lambda: box.sockets() == 6)
    outputs = [b""] * 5

    def read(k):
        outputs[k] = clients[k].communicate(timeout=20)

    clients[0].stdin.write(b"go\n")
    clients[0].stdin.flush()
    readers = [threading.Thread(target=read, args=(k,)) for k in range(5)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    expected = b"".join(b"%d\n" % k for k in range(1, 60_001))
    assert outputs == [(expected, b"1\n2\n3\n4\n5\n")] * 5
    assert {client.returncode for client in clients} == {6}
    assert box.logs() == expected


def test_a_client_that_is_killed_takes_nobody_with_it(box, until):
    box.run("cat", "-i")
    first, second = box.popen("attach", "web"), box.popen("attach", "web")
    until(lambda: box.sockets() == 3)
    first.kill()
    until(lambda: box.sockets() == 2)
    second.stdin.write(b"text\n")
    second.stdin.flush()
    assert second.stdout.readline() == b"text\n"
    assert box.is_running()


def test_a_foreground_command_that_is_killed_leaves_its_container(box):
    process = box.popen(*box.shell("echo ready; read line; echo got $line; exit 8"))
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.wait()
    assert box.is_running()
    assert box("attach", "web", input=b"more\n", code=8).stdout == b"got more\n"


def test_a_client_that_reads_nothing_is_let_go_after_a_while(box, until):
    """Until then everybody waits for it; nothing is lost."""
    box.run("read go; seq 300000; exit 6", "-i", *LARGE)
    expected = b"".join(b"%d\n" % k for k in range(1, 300_001))
    asleep, awake = box.popen("attach", "web"), box.popen("attach", "web")
    until(lambda: box.sockets() == 3)
    asleep.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    out, _ = awake.communicate(b"go\n", timeout=15)
    assert 0.9 * PATIENCE < time.monotonic() - began < PATIENCE + 4
    assert (awake.returncode, out) == (6, expected)
    assert box.logs() == expected
    assert box.state()["ExitCode"] == 6


def is_open(connection):
    """Has nobody closed the other end?"""
    connection.setblocking(False)
    try:
        return connection.recv(1 << 16) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


def test_sixteen_are_let_in_and_the_next_is_refused_without_harm(box, join, until):
    box.run("cat", "-i")
    clients = [join() for _ in range(MOST_CLIENTS)]
    for _ in range(3):
        assert join().recv(1 << 16) == b""
    clients[3].send(b"ihello\n")
    assert [client.recv(1 << 16) for client in clients] == [b"\x01hello\n"] * MOST_CLIENTS
    clients.pop().close()
    until(lambda: box.sockets() == MOST_CLIENTS)
    late = join()
    clients[3].send(b"ibye\n")
    assert late.recv(1 << 16) == b"\x01bye\n"


def test_who_is_refused_is_told(box, join):
    box.run("exec sleep 1000")
    clients = [join() for _ in range(MOST_CLIENTS)]
    done = box.popen("attach", "web", stdin=-3)
    try:
        out, message = done.communicate(timeout=3)
    finally:
        for client in clients:
            client.close()
    assert (done.returncode, out) == (125, b"")
    assert re.fullmatch(rb"minibox: [^\n]*\n", message)
    assert b"stuck" not in message


def fill(client):
    """Type until the pipe is full, and so is the socket; and leave."""
    client.settimeout(0.3)
    with contextlib.suppress(TimeoutError):
        while client.send(b"i" + b"x" * 4095):
            pass
    client.close()


def test_who_has_left_words_behind_locks_nobody_out(box, join, until):
    box.run("trap 'echo hi' USR1; echo trapped; while :; do sleep 1000 & wait; done", "-i")
    until(lambda: b"trapped" in box.logs())
    fill(join())
    for _ in range(MOST_CLIENTS):
        client = join()
        client.send(b"ix")
        client.close()
    last = join()
    box("kill", "-s", "USR1", "web")
    assert last.recv(1 << 16) == b"\x01hi\n"


def test_clients_that_have_gone_make_room_though_the_container_does_not_read(box, join, until):
    """What was typed waits in front of it for ever; whoever comes and goes is counted right."""
    box.run("exec sleep 1000", "-i")
    fill(join())
    for _ in range(MOST_CLIENTS // 2):
        join().close()
    # The one with words in front of the container is there until it takes them.
    until(lambda: box.sockets() <= 2)
    for _ in range(MOST_CLIENTS - 1):
        last = join()
    until(lambda: box.sockets() == 1 + MOST_CLIENTS)
    assert is_open(last)


# Keys.


def running(box, terminal, *options, script=ECHO):
    """`run --name web -it` in a terminal, as far as its first word."""
    user = terminal(box.line(*box.shell(script, "-it", *options)))
    user.expect(b"ready")
    return user


@pytest.fixture
def attach(box, terminal, until):
    """`attach()`: `minibox attach web` in a terminal of its own, which is raw by now."""

    def run(*options):
        user = terminal(box.line("attach", *options, "web"))
        until(user.is_raw)
        return user

    return run


def test_the_keys_leave_it_running(box, terminal, attach):
    user = running(box, terminal)
    assert user.is_raw()
    user.type(b"hello")
    user.expect(b"hello")
    user.type(b"\x10\x11")
    assert user.wait() == 0
    assert user.is_as_before()
    assert box.is_running()
    # And back again, as often as one likes.
    for _ in range(2):
        again = attach()
        again.type(b"again")
        again.expect(b"again")
        again.type(b"\x10", b"\x11")
        assert again.wait() == 0
        assert again.is_as_before()
    assert box.is_running()


def test_a_beginning_of_the_keys_is_passed_on_when_it_goes_on_otherwise(box, terminal, until):
    user = running(box, terminal)
    for typed, shown in (
        ([b"\x10x"], b"\x10x"),
        ([b"\x10", b"y"], b"\x10y"),
        ([b"\x11"], b"\x11"),
        ([b"a\x10\x10b"], b"a\x10\x10b"),
        ([b"\x11\x10z"], b"\x11\x10z"),
    ):
        user.type(*typed)
        assert user.expect(shown) in (b"", b"\n")
    user.type(b"last\x10\x10\x11not this")
    assert user.wait() == 0
    until(lambda: box.logs().endswith(b"last\x10"))
    assert box.logs() == b"ready\n\x10x\x10y\x11a\x10\x10b\x11\x10zlast\x10"


@pytest.mark.parametrize(
    ("keys", "typed"), [("ctrl-a,d", b"\x01d"), ("q", b"q"), ("ctrl-],ctrl-],x", b"\x1d\x1dx")]
)
def test_keys_of_ones_own(box, terminal, attach, keys, typed):
    user = running(box, terminal, f"--detach-keys={keys}")
    user.type(b"\x10\x11")
    user.expect(b"\x10\x11")
    user.type(typed)
    assert user.wait() == 0
    # It is a property of the container; whoever attaches may wish otherwise.
    again = attach()
    again.type(b"hello")
    again.expect(b"hello")
    again.type(typed)
    assert again.wait() == 0
    third = attach("--detach-keys=z")
    third.type(b"\x02" + typed)
    third.expect(b"\x02" + typed)
    third.type(b"z")
    assert third.wait() == 0
    assert box.is_running()


def test_no_keys_for_who_wants_none(box, attach):
    box.run(ECHO, "-it")
    user = attach("--detach-keys=")
    user.type(b"\x10\x11")
    user.expect(b"\x10\x11")
    box("kill", "web")
    assert user.wait() == 137
    assert user.is_as_before()


def test_no_keys_for_a_container_that_wants_none(box, attach):
    box.run(ECHO, "-it", "--detach-keys=")
    user = attach()
    user.type(b"\x10\x11")
    user.expect(b"\x10\x11")


def test_without_a_terminal_no_key_has_a_meaning(box):
    box.run("cat", "-i", "--detach-keys=q")
    process = box.popen("attach", "web")
    process.stdin.write(b"q\x10\x11q\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"q\x10\x11q\n"


# A terminal.


def test_a_terminal_in_the_foreground(box, terminal):
    script = "tty; test -t 0 && test -t 1 && test -t 2 && echo all; stty size; exit 12"
    user = terminal(box.line(*box.shell(script)))
    assert user.wait() == 12
    assert user.seen.split() == [b"/dev/pts/0", b"all", b"31", b"97"]
    assert user.is_as_before()


def test_all_that_a_terminal_shows_arrives(box, terminal):
    user = terminal(box.line(*box.shell("seq 20000")))
    assert user.wait() == 0
    expected = b"".join(b"%d\r\n" % k for k in range(1, 20_001))
    assert user.seen == expected
    assert box.logs() == expected


def test_no_terminal_where_none_is_wanted(box, terminal):
    user = terminal(box.line(*box.shell("tty; exit 4", "--no-tty")))
    assert user.wait() == 4
    assert b"not a tty" in user.seen


def test_the_size_follows(box, terminal, attach):
    script = "trap 'stty size' WINCH; echo ready; while :; do sleep 1000 & wait $!; done"
    user = running(box, terminal, script=script)
    user.resize(50, 120)
    user.expect(b"50 120")
    for k in range(100):
        user.resize(20 + k % 13, 50 + k % 61)
    user.resize(44, 111)
    user.expect(b"44 111")
    user.type(b"\x10\x11")
    assert user.wait() == 0
    # Who attaches brings a size along.
    again = attach()
    again.expect(b"31 97")
    again.resize(60, 70)
    again.expect(b"60 70")


@pytest.mark.parametrize(("key", "name"), [(b"\x03", "INT"), (b"\x1c", "QUIT")])
def test_keys_that_mean_signals_reach_the_container(box, terminal, key, name):
    user = running(box, terminal, script=TRAP.format(name))
    user.type(key)
    user.expect(b"caught")
    assert user.wait() == 33


def test_they_reach_it_from_who_attaches(box, attach):
    box.run(TRAP.format("INT"), "-it")
    user = attach()
    user.type(b"\x03")
    user.expect(b"caught")
    assert user.wait() == 33


def test_the_end_of_input_of_a_terminal(box, terminal):
    user = running(box, terminal, script="echo ready; cat; echo end; exit 2")
    user.type(b"line\n")
    user.expect(b"line\r\nline\r\n")
    user.type(b"\x04")
    user.expect(b"end")
    assert user.wait() == 2


def test_a_terminal_that_hangs_up_leaves_the_container(box, terminal, attach):
    user = running(box, terminal, script="echo ready; read line; echo got $line; sleep 1000")
    user.hang_up()
    assert user.process.wait(10) in (0, 129)
    assert box.is_running()
    again = attach()
    again.type(b"more\n")
    again.expect(b"got more")


def test_after_a_kill_of_the_container_the_terminal_is_as_before(box, terminal):
    user = running(box, terminal)
    box("kill", "web")
    assert user.wait() == 137
    assert user.is_as_before()


def test_after_the_end_of_the_monitor_the_terminal_is_as_before(box, terminal):
    user = running(box, terminal)
    os.kill(box.state()["ConmonPid"], signal.SIGKILL)
    assert user.wait() == 137
    assert user.is_as_before()
    assert b"its monitor was killed" in user.seen


def test_two_terminals_at_once(box, terminal, attach):
    first = running(box, terminal)
    second = attach()
    second.type(b"from the second")
    first.expect(b"from the second")
    second.expect(b"from the second")
    first.type(b"from the first")
    second.expect(b"from the first")
    first.type(b"\x10\x11")
    assert first.wait() == 0
    second.type(b"still here")
    second.expect(b"still here")


# Signals.


@pytest.mark.parametrize("name", ["TERM", "INT", "USR1"])
def test_a_signal_for_the_foreground_command_is_the_containers(box, name):
    number = getattr(signal, f"SIG{name}")

    def hear():  # a shell's job in the background would be deaf to two of them
        signal.signal(number, signal.SIG_DFL)

    process = box.popen(*box.shell(TRAP.format(name)), preexec_fn=hear)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    out, errors = process.communicate(timeout=10)
    assert (process.returncode, out, errors) == (33, b"caught\n", b"")
    assert box.state()["ExitCode"] == 33


def test_with_an_init_a_signal_ends_a_command_that_does_not_care(box):
    process = box.popen(*box.shell("echo ready; sleep 1000; exit 1", "--init"))
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    assert process.wait(10) == 143


def test_a_signal_for_who_attaches_is_the_containers_if_wished(box, until):
    box.run(TRAP.format("TERM"))
    stays = box.popen("attach", "--sig-proxy=false", "web")
    until(lambda: box.sockets() == 2)
    stays.terminate()
    assert stays.wait(10) == 0
    assert box.is_running()
    passes = box.popen("attach", "web")
    until(lambda: box.sockets() == 2)
    passes.terminate()
    assert passes.communicate(timeout=10)[0] == b"caught\n"
    assert passes.returncode == 33


def test_a_hang_up_lets_go_of_the_container(box, until):
    process = box.popen(*box.shell(TRAP.format("HUP")))
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGHUP)
    assert process.wait(10) == 0
    assert box.is_running()
    assert box.logs() == b"ready\n"


def test_a_client_that_is_stopped_and_continued_goes_on(box, until):
    box.run("cat", "-i")
    process = box.popen("attach", "web")
    process.stdin.write(b"one\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"one\n"
    process.send_signal(signal.SIGTSTP)
    assert os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT).si_status == signal.SIGSTOP
    process.send_signal(signal.SIGCONT)
    process.stdin.write(b"two\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"two\n"


# Garbage.

LETTERS = bytes({*range(256)} - set(b"k"))  # that is how `rm -f` kills what is damaged
SIZES = [0, 1, 2, 3, 4, 5, 6, 100, 4095, 4096, 4097, 4098, 65536, MEBIBYTE]


def fuzz(join, letters, seed, turns=150):
    """Strangers who say anything, in any size, and leave at any moment."""
    chance = random.Random(seed)
    client = join()
    passed = os.open("/dev/null", os.O_RDONLY)
    for _ in range(turns):
        size = chance.choice(SIZES)
        packet = (bytes([chance.choice(letters)]) + chance.randbytes(size))[:size]
        try:
            client.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 4 * MEBIBYTE)
            client.setblocking(False)
            if chance.random() < 0.2:
                fds = array.array("i", [passed] * chance.randrange(1, 5))
                control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)]
                client.sendmsg([packet], control)
            else:
                client.send(packet)
            with contextlib.suppress(BlockingIOError):
                while client.recv(1 << 16):
                    pass
        except BlockingIOError:
            pass
        except OSError:
            client.close()
            client = join()
        if chance.random() < 0.1:
            client.shutdown(chance.choice([socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR]))
        if chance.random() < 0.1:
            client.close()
            client = join()
    client.close()
    os.close(passed)


def fd_count(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.parametrize("seed", range(3))
def test_garbage_does_no_harm(box, join, until, seed):
    box.run("cat > /dev/null", "-i")
    monitor = box.state()["ConmonPid"]
    count = fd_count(monitor)
    fuzz(join, bytes(set(LETTERS) - set(b"e")), seed)
    until(lambda: fd_count(monitor) == count)
    assert box.state()["ConmonPid"] == monitor
    # It hears the next one, and the end of input is one.
    client = join()
    client.send(b"e")
    assert client.recv(1 << 16) == b""
    assert box("wait", "web").stdout == b"0\n"


@pytest.mark.parametrize("seed", range(2))
def test_garbage_does_no_harm_to_a_terminal(box, join, until, seed):
    box.run(
        'stty raw -echo; echo ready; while read -r line; do test "$line" = the-end && exit 3; done',
        "-it",
    )
    until(lambda: box.logs() == b"ready\n")
    monitor = box.state()["ConmonPid"]
    count = fd_count(monitor)
    fuzz(join, LETTERS, seed)
    until(lambda: fd_count(monitor) == count)
    client = join()
    client.send(b"i\nthe-end\n")
    while client.recv(1 << 16):
        pass
    assert box("wait", "web").stdout == b"3\n"


def test_a_packet_that_is_too_long_is_cut(box, join):
    box.run("cat", "-i")
    client = join()
    client.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 4 * MEBIBYTE)
    client.send(b"i" + b"x" * MEBIBYTE)
    client.send(b"i\nend\n")
    seen = b""
    while not seen.endswith(b"\nend\n"):
        seen += client.recv(1 << 16)[1:]
    assert seen.rstrip(b"end\n") == b"x" * 4096


@pytest.mark.parametrize("packet", [b"w", b"w\0\0\0\0", b"w\xff\xff\xff\xff", b"w12345"])
def test_a_size_that_is_none(box, join, packet):
    box.run(ECHO, "-it")
    client = join()
    client.send(packet)
    client.send(b"ihello")
    seen = b""
    while not seen.endswith(b"hello"):
        seen += client.recv(1 << 16)[1:]
    assert box.is_running()


def test_a_stranger_that_floods_holds_nobody_up_for_long(box, join):
    """What it says has no meaning; the container and the others go on."""
    box.run("read line; echo got $line; exit 4", "-i")
    stranger = join()
    stop = threading.Event()

    def flood():
        with contextlib.suppress(OSError):
            while not stop.is_set():
                stranger.send(b"?" * 4000)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        assert box("attach", "web", input=b"me\n", code=4).stdout == b"got me\n"
    finally:
        stop.set()
        stranger.close()
        thread.join()


def test_the_packet_that_kills(box, join):
    """`rm -f` needs it where no file tells who the container is."""
    box.run("exec sleep 1000")
    join().send(b"k")
    assert box("wait", "web").stdout == b"137\n"


def test_only_the_owner_can_attach(box):
    box.run("exec sleep 1000")
    assert box.directory().stat().st_mode & 0o777 == 0o700
    assert box.root.stat().st_mode & 0o777 == 0o700
    assert (box.directory() / "attach").stat().st_mode & 0o777 == 0o700
