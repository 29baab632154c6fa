# SPDX-License-Identifier: Apache-2.0
"""A real terminal outside, a terminal of the container's own inside."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import PATIENCE

MINIBOX = Path(sys.executable).with_name("minibox")
DEADLINE = 10.0 * PATIENCE
SIZE = (31, 97)
WITHOUT_PTY = [(0,), (1,), (2,), (0, 2), (1, 2)]
LOCAL = 3  # the index of c_lflag in what tcgetattr gives

# Push a byte into every terminal that can be named, and say what came of it.
PUSH = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
int main(void) {
    const char *names[] = {"/dev/tty", "/dev/console", "/dev/pts/0"};
    char byte = 'Z';
    for (int fd = 0; fd < 3; fd++) {
        printf("%d %s\n", fd, ioctl(fd, TIOCSTI, &byte) ? strerror(errno) : "pushed");
    }
    for (int k = 0; k < 3; k++) {
        int fd = open(names[k], O_RDWR | O_NOCTTY);
        if (fd >= 0) {
            printf("%s %s\n", names[k], ioctl(fd, TIOCSTI, &byte) ? strerror(errno) : "pushed");
        }
    }
    return 0;
}
"""


class Terminal:
    """A terminal that someone sits at, and the command run in it."""

    def __init__(self):
        self.master, self.slave = os.openpty()
        self.seen = b""
        self.process = None
        self.resize(*SIZE)
        self.before = self.attributes()

    def attributes(self):
        return termios.tcgetattr(self.slave)

    def is_raw(self):
        return not self.attributes()[LOCAL] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def run(self, *words, streams=(0, 1, 2)):
        """Run minibox with the terminal as these streams, in a session that the terminal controls;
        the other streams are /dev/null and pipes."""

        def take_terminal():
            os.setsid()
            fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)

        others = [subprocess.DEVNULL, subprocess.PIPE, subprocess.PIPE]
        stdin, stdout, stderr = [self.slave if fd in streams else others[fd] for fd in range(3)]
        self.process = subprocess.Popen(
            [str(MINIBOX), "run", *[str(word) for word in words]],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=[self.slave],
            preexec_fn=take_terminal,  # noqa: PLW1509
        )
        return self

    def type(self, data):
        os.write(self.master, data)

    def type_all(self, data):
        """As fast as the terminal takes it."""
        while data:
            data = data[os.write(self.master, data[:1024]) :]

    def read(self, timeout):
        """Something new on the screen; b"" when there is nothing for so long."""
        if not select.select([self.master], [], [], timeout)[0]:
            return b""
        try:
            data = os.read(self.master, 1 << 16)
        except OSError:  # EIO: hung up
            return b""
        self.seen += data
        return data

    def expect(self, text):
        """Read until the text is on the screen; what was read before and after it is returned."""
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
        if self.process:
            if self.process.poll() is None:
                self.process.kill()
            for stream in (self.process.stdout, self.process.stderr):
                if stream:
                    stream.close()
        self.hang_up()
        if self.process:
            self.process.wait()


@pytest.fixture
def terminal():
    terminal = Terminal()
    yield terminal
    terminal.close()


def inside_pid(terminal):
    """The container's first process."""
    pid = terminal.process.pid
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


# What the command finds.


def test_it_is_pts_0_and_the_console_and_the_controlling_terminal(terminal, rootfs):
    script = (
        "tty; test -t 0 && test -t 1 && test -t 2 && echo all three;"
        "a=$(stat -c %t:%T /dev/pts/0); b=$(stat -c %t:%T /dev/console);"
        "test $a = $b && echo console; echo from-tty > /dev/tty; echo from-console > /dev/console"
    )
    terminal.run(rootfs, "/bin/sh", "-c", script)
    assert terminal.wait() == 0
    lines = terminal.seen.split()
    assert lines == [b"/dev/pts/0", b"all", b"three", b"console", b"from-tty", b"from-console"]


@pytest.mark.parametrize(
    "option", ["--init", "--userns=host", "--overlay", "--read-only", "--user=1000"]
)
def test_it_has_its_terminal_in_every_mode(terminal, rootfs, option):
    terminal.run(option, rootfs, "/bin/sh", "-c", "tty; echo hello > /dev/tty; echo > /dev/pts/0")
    assert terminal.wait() == 0
    assert terminal.seen.split() == [b"/dev/pts/0", b"hello"]


@pytest.mark.parametrize("option", ["--net=none", "--init", "--userns=host"])
def test_the_size_is_right_from_the_first_moment(terminal, rootfs, option):
    terminal.run(option, rootfs, "stty", "size")
    assert terminal.wait() == 0
    assert terminal.seen.split() == [b"31", b"97"]


def test_a_terminal_that_knows_no_size_is_24_by_80(terminal, rootfs):
    terminal.resize(0, 0)
    terminal.run(rootfs, "stty", "size")
    assert terminal.wait() == 0
    assert terminal.seen.split() == [b"24", b"80"]


def test_the_callers_term_is_passed(terminal, rootfs, monkeypatch):
    monkeypatch.setenv("TERM", "vt52")
    terminal.run(rootfs, "/bin/sh", "-c", "echo $TERM")
    assert terminal.wait() == 0
    assert terminal.seen == b"vt52\r\n"


def test_it_is_not_the_callers_terminal(terminal, rootfs):
    terminal.run("--userns=host", rootfs, "stat", "-L", "-c", "%d:%i", "/proc/self/fd/0")
    assert terminal.wait() == 0
    ours = os.fstat(terminal.slave)
    assert terminal.seen.strip() != f"{ours.st_dev}:{ours.st_ino}".encode()


def test_streams_that_are_no_terminal_stay_what_they_are(terminal, rootfs):
    terminal.run(rootfs, "/bin/sh", "-c", "tty; echo error >&2", streams=(0, 1))
    assert terminal.process.stderr.read() == b"error\n"
    assert terminal.wait() == 0
    assert terminal.seen == b"/dev/pts/0\r\n"


def test_a_terminal_that_is_not_wanted_is_not_given(terminal, rootfs):
    terminal.run("--no-tty", rootfs, "/bin/sh", "-c", "tty; (: < /dev/tty); test -t 1; echo $?")
    assert terminal.wait() == 0
    assert b"not a tty" in terminal.seen
    assert terminal.seen.endswith(b"1\r\n")


# Resizing.


def test_after_a_thousand_changes_the_last_size_arrives(terminal, rootfs):
    script = "echo ready; until test \"$(stty size)\" = '44 111'; do sleep 0.02; done; echo arrived"
    terminal.run(rootfs, "/bin/sh", "-c", script)
    terminal.expect(b"ready")
    for k in range(1000):
        terminal.resize(20 + k % 13, 50 + k % 61)
    terminal.resize(44, 111)
    terminal.expect(b"arrived")
    assert terminal.wait() == 0


@pytest.mark.parametrize("option", ["--net=none", "--init"])
def test_the_command_is_told_of_a_change(terminal, rootfs, option):
    script = "trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 100 & wait; done"
    terminal.run(option, rootfs, "/bin/sh", "-c", script)
    terminal.expect(b"ready")
    terminal.resize(50, 120)
    assert terminal.wait() == 5
    assert terminal.seen.split() == [b"50", b"120"]


# The outer terminal is raw while it runs, and put back whatever happens.


@pytest.fixture
def restored(terminal):
    """At the end the terminal's attributes are what they were."""
    yield terminal
    assert terminal.attributes() == terminal.before


def test_it_is_raw_while_the_command_runs(restored, rootfs):
    restored.run(rootfs, "/bin/sh", "-c", "echo ready; read line; exit 3")
    restored.expect(b"ready")
    deadline = time.monotonic() + DEADLINE
    while not restored.is_raw():
        assert time.monotonic() < deadline
    restored.type(b"\r")
    assert restored.wait() == 3


def test_it_is_put_back_after_a_kill_of_the_command(restored, rootfs):
    restored.run(rootfs, "/bin/sh", "-c", "stty -echo raw; echo ready; sleep 100")
    restored.expect(b"ready")
    os.kill(inside_pid(restored), signal.SIGKILL)
    assert restored.wait() == 137


@pytest.mark.parametrize("option", ["--net=none", "--init"])
def test_it_is_put_back_after_the_time_limit(restored, rootfs, option):
    restored.run("--timeout", "300ms", option, rootfs, "/bin/sleep", "100")
    assert restored.wait() == 137
    assert b"was killed after 300ms" in restored.seen


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT"])
def test_it_is_put_back_after_a_signal_to_minibox(restored, rootfs, name):
    restored.run(rootfs, "/bin/sh", "-c", "echo ready; sleep 100")
    restored.expect(b"ready")
    number = signal.Signals[f"SIG{name}"]
    restored.process.send_signal(number)
    assert restored.wait() == 128 + number


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("ROOT", "/no/such"), 127),
        (("ROOT", "/etc"), 126),
        (("--workdir", "/no/such", "ROOT", "/bin/true"), 125),
        (("--tmpfs", "/etc/passwd", "ROOT", "/bin/true"), 125),
        (("--volume", "/etc/passwd:/dev/console", "ROOT", "/bin/true"), None),
    ],
)
def test_it_is_put_back_after_a_failure(restored, rootfs, words, code):
    restored.run(*[word.replace("ROOT", rootfs) for word in words])
    ended = restored.wait()
    if code is not None:
        assert ended == code
        assert restored.seen.startswith(b"minibox: ")
        # The message is written to a terminal that has been put back: its lines end properly.
        assert b"\n" not in restored.seen.replace(b"\r\n", b"")


def test_it_is_put_back_when_minibox_is_stopped(terminal, rootfs):
    """The shell that stopped it wants a terminal that echoes; continued, it is raw again."""
    terminal.run(rootfs, "/bin/sh", "-c", "echo ready; read line; exit 3")
    terminal.expect(b"ready")
    terminal.process.send_signal(signal.SIGTSTP)
    stat = Path(f"/proc/{terminal.process.pid}/stat")
    deadline = time.monotonic() + DEADLINE
    while stat.read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline
    assert terminal.attributes() == terminal.before
    terminal.process.send_signal(signal.SIGCONT)
    while not terminal.is_raw():
        assert time.monotonic() < deadline
    terminal.type(b"\r")
    assert terminal.wait() == 3


# Keys go to the container.


def test_control_c_goes_to_the_container(terminal, rootfs):
    script = "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.05; done"
    terminal.run(rootfs, "/bin/sh", "-c", script)
    terminal.expect(b"ready")
    terminal.type(b"\x03")
    assert terminal.wait() == 7
    assert b"caught" in terminal.seen


@pytest.mark.parametrize("option", ["--net=none", "--init"])
def test_control_c_ends_a_command_without_a_handler(terminal, rootfs, option):
    # No shell before it: that one catches SIGINT until it execs, and then forgets it.
    terminal.run(option, rootfs, "tail", "-f", "/etc/passwd")
    terminal.expect(b"root:")
    terminal.type(b"\x03")
    assert terminal.wait() == 130


def test_control_d_is_the_end_of_input(terminal, rootfs):
    terminal.run(rootfs, "/bin/sh", "-c", "cat; echo over; exit 6")
    terminal.type(b"a line\r")
    terminal.expect(b"a line\r\na line\r\n")
    terminal.type(b"\x04")
    terminal.expect(b"over")
    assert terminal.wait() == 6


@pytest.mark.parametrize("option", ["--net=none", "--init"])
def test_job_control_works_in_an_interactive_shell(terminal, rootfs, option):
    terminal.run(option, "--env", "PS1=prompt:", rootfs, "/bin/sh", "-i")
    assert b"job control" not in terminal.expect(b"prompt:")
    terminal.type(b"sleep 100\r")
    terminal.expect(b"sleep 100\r\n")
    eventually_runs(terminal, "sleep")
    terminal.type(b"\x1a")
    terminal.expect(b"Stopped")
    terminal.expect(b"prompt:")
    terminal.type(b"jobs; echo in-$((40+2))\r")
    terminal.expect(b"Stopped")
    terminal.expect(b"in-42")
    terminal.type(b"fg\r")
    terminal.expect(b"sleep 100\r\n")
    terminal.type(b"\x03")
    terminal.expect(b"prompt:")
    terminal.type(b"exit 9\r")
    assert terminal.wait() == 9


def eventually_runs(terminal, name):
    deadline = time.monotonic() + DEADLINE
    while name not in names_below(terminal.process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def names_below(pid):
    names = []
    try:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            names.append(Path(f"/proc/{child}/comm").read_text().strip())
            names += names_below(child)
    except (FileNotFoundError, ProcessLookupError):
        pass
    return names


# Only some of the streams are a terminal.


@pytest.mark.parametrize("streams", WITHOUT_PTY)
@pytest.mark.parametrize("option", ["--net=none", "--init", "--userns=host"])
def test_with_half_a_terminal_the_container_gets_none(terminal, rootfs, streams, option):
    script = "for i in 0 1 2; do test -t $i && echo $i is a tty; stat -L -c '%F %d:%i' /proc/self/fd/$i; done; (: < /dev/tty) && echo has /dev/tty; exit 4"
    terminal.run(option, rootfs, "/bin/sh", "-c", script, streams=streams)
    assert terminal.wait() == 4
    output = terminal.seen
    for stream in (terminal.process.stdout, terminal.process.stderr):
        output += stream.read() if stream else b""
    assert b"is a tty" not in output
    assert b"has /dev/tty" not in output
    ours = os.fstat(terminal.slave)
    assert f"{ours.st_dev}:{ours.st_ino}".encode() not in output
    assert terminal.attributes() == terminal.before


def test_output_to_half_a_terminal_arrives_whole(terminal, rootfs):
    terminal.run(rootfs, "seq", "20000", streams=(1,))
    assert terminal.wait() == 0
    assert terminal.seen.split() == [b"%d" % k for k in range(1, 20_001)]


def test_input_from_half_a_terminal_arrives_with_its_end(terminal, rootfs):
    terminal.run(rootfs, "cat", streams=(0,))
    terminal.type(b"one\ntwo\n\x04")
    assert terminal.process.stdout.read() == b"one\ntwo\n"
    assert terminal.wait() == 0


def test_a_command_that_does_not_read_half_a_terminal_ends_all_the_same(terminal, rootfs):
    terminal.run(rootfs, "/bin/sh", "-c", "exit 3", streams=(0,))
    assert terminal.wait() == 3


# The end of the outer terminal, and much output.


@pytest.mark.parametrize("option", ["--net=none", "--init", "--userns=host"])
def test_a_hang_up_of_the_outer_terminal_ends_it_with_129(terminal, rootfs, option):
    terminal.run(option, rootfs, "/bin/sh", "-c", "echo ready; sleep 100")
    terminal.expect(b"ready")
    terminal.hang_up()
    assert terminal.process.wait(DEADLINE) == 129


def test_a_hang_up_tells_a_command_that_catches_it(terminal, tree):
    script = "trap 'echo told > /told; exit 3' HUP; echo ready; while :; do sleep 0.05; done"
    terminal.run(tree, "/bin/sh", "-c", script)
    terminal.expect(b"ready")
    terminal.hang_up()
    assert terminal.process.wait(DEADLINE) == 3
    assert (tree / "told").read_text() == "told\n"


def test_ten_megabytes_through_the_terminal_lose_nothing(terminal, rootfs):
    terminal.run(rootfs, "seq", "1400000")
    pieces = []
    while True:
        piece = terminal.read(0.05)
        terminal.seen = b""
        pieces.append(piece)
        if not piece and terminal.process.poll() is not None:
            break
    expected = b"".join(b"%d\r\n" % k for k in range(1, 1_400_001))
    assert len(expected) > 10_000_000
    assert b"".join(pieces) == expected
    assert terminal.process.returncode == 0


def test_a_large_paste_arrives_whole(terminal, rootfs):
    lines = b"".join(b"line number %d\r" % k for k in range(5000))
    script = "stty -echo; echo ready; head -n 5000 | md5sum"
    terminal.run(rootfs, "/bin/sh", "-c", script)
    terminal.expect(b"ready")
    paste = threading.Thread(target=terminal.type_all, args=(lines,))
    paste.start()
    expected = subprocess.run(
        ["md5sum"], input=lines.replace(b"\r", b"\n"), capture_output=True, check=True
    ).stdout
    assert terminal.wait() == 0
    paste.join()
    assert expected.split()[0] in terminal.seen


@pytest.mark.parametrize("streams", [(0, 1, 2), (1,)])
def test_the_time_limit_holds_when_nobody_reads_the_screen(terminal, rootfs, streams):
    terminal.run("--timeout", "500ms", rootfs, "yes", streams=streams)
    pid = terminal.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children")
    deadline = time.monotonic() + DEADLINE
    while "yes" not in names_below(pid):
        assert time.monotonic() < deadline
    while "yes" in names_below(pid):
        assert time.monotonic() < deadline, f"it still runs: {children.read_text()}"
        time.sleep(0.01)


# What the container cannot do to it.


@pytest.mark.parametrize("options", [(), ("--userns=host",), ("--no-tty",), ("--init",)])
@pytest.mark.parametrize("streams", [(0, 1, 2), (0,), (0, 2)])
def test_no_input_can_be_pushed_into_the_outer_terminal(terminal, tree, tmp_path, options, streams):
    if "--no-tty" in options and streams != (0, 1, 2):
        return
    (tmp_path / "push.c").write_text(PUSH)
    words = ["cc", "-static", "-o", str(tree / "push"), str(tmp_path / "push.c")]
    subprocess.run(words, check=True)
    terminal.run(*options, tree, "/push", streams=streams)
    assert terminal.wait() == 0
    waiting = fcntl.ioctl(terminal.slave, termios.FIONREAD, bytes(4))
    assert struct.unpack("i", waiting)[0] == 0
    if streams != (0, 1, 2) or options == ("--no-tty",):
        output = terminal.process.stdout.read() if terminal.process.stdout else terminal.seen
        assert b"pushed" not in output
        assert output.count(b"Inappropriate ioctl") == 3


def test_a_terminal_is_insisted_on_only_where_there_is_one(cli, terminal, rootfs):
    assert cli("run", "--tty", rootfs, "/bin/true").returncode == 125
    terminal.run("--tty", rootfs, "tty")
    assert terminal.wait() == 0
    assert terminal.seen == b"/dev/pts/0\r\n"
