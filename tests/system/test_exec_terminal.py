# SPDX-License-Identifier: Apache-2.0
"""exec at a terminal: one more pty of the container's own devpts."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

from tests.conftest import PATIENCE

DEADLINE = 10.0 * PATIENCE
SIZE = (31, 97)
WAYS = {
    "plain": (),
    "host-ids": ("--userns=host",),
    "init": ("--init",),
    "overlay": ("--overlay",),
    "read-only": ("--read-only",),
    "user": ("--user=1000",),
    "tty": ("--tty",),
}


def furnish(box):
    for name, options in WAYS.items():
        box.run(*options, name=name)


class Terminal:
    """A terminal that someone sits at, and `minibox exec` in it."""

    def __init__(self, box):
        self.box = box
        self.master, self.slave = os.openpty()
        self.resize(*SIZE)
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        self.client = None

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def exec(self, *words, streams=(0, 1, 2)):
        """Run `minibox exec` in a session that the terminal controls; streams that are not the
        terminal are /dev/null and pipes."""

        def take_terminal():
            os.setsid()
            fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)

        others = [subprocess.DEVNULL, subprocess.PIPE, subprocess.PIPE]
        ends = [self.slave if fd in streams else others[fd] for fd in range(3)]
        self.client = subprocess.Popen(
            self.box.words("exec", *words),
            stdin=ends[0],
            stdout=ends[1],
            stderr=ends[2],
            pass_fds=[self.slave],
            preexec_fn=take_terminal,  # noqa: PLW1509
        )
        return self

    def type(self, data):
        os.write(self.master, data)

    def read(self, timeout):
        if select.select([self.master], [], [], timeout)[0]:
            self.seen += os.read(self.master, 1 << 16)
            return True
        return False

    def expect(self, text):
        """Read until the text is on the screen; what came before it is returned."""
        deadline = time.monotonic() + DEADLINE
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.seen!r}"
            self.read(0.05)
        head, _, self.seen = self.seen.partition(text)
        return head

    def wait(self):
        """The exit code; the screen is read all the while."""
        deadline = time.monotonic() + DEADLINE
        while self.client.poll() is None:
            assert time.monotonic() < deadline, f"it does not end; on the screen: {self.seen!r}"
            self.read(0.01)
        while self.read(0):
            pass
        return self.client.returncode

    def close(self):
        if self.client:
            if self.client.poll() is None:
                self.client.kill()
            for stream in (self.client.stdout, self.client.stderr):
                if stream:
                    stream.close()
        for fd in (self.slave, self.master):
            os.close(fd)
        if self.client:
            self.client.wait()


@pytest.fixture
def terminal(shared_box):
    terminal = Terminal(shared_box)
    yield terminal
    terminal.close()


@pytest.fixture
def restored(terminal):
    """At the end the terminal is as it was."""
    yield terminal
    assert termios.tcgetattr(terminal.slave) == terminal.before


# What the command finds.


@pytest.mark.parametrize("name", WAYS)
def test_it_is_a_terminal_of_the_containers_own(restored, shared_box, name):
    script = (
        "tty; test -t 0 && test -t 1 && test -t 2 && echo all three; echo to-tty > /dev/tty;"
        "stat -L -c %d:%i /proc/self/fd/0; stat -c %d:%i $(tty); exit 3"
    )
    restored.exec(name, "/bin/sh", "-c", script)
    assert restored.wait() == 3
    where, three, text, ours, theirs = restored.seen.decode().splitlines()
    assert re.fullmatch(r"/dev/pts/\d+", where)
    assert (three, text) == ("all three", "to-tty")
    assert ours == theirs
    device = os.stat(f"/proc/{shared_box.state(name)['Pid']}/root/dev/pts/ptmx").st_dev
    assert ours.split(":")[0] == str(device)
    outer = os.fstat(restored.slave)
    assert ours != f"{outer.st_dev}:{outer.st_ino}"


def test_it_is_another_one_than_the_containers(terminal):
    terminal.exec("tty", "sh", "-c", "tty; readlink /proc/1/fd/0")
    assert terminal.wait() == 0
    assert terminal.seen.split() == [b"/dev/pts/1", b"/dev/pts/0"]


def test_the_size_is_right_from_the_first_moment(terminal):
    terminal.exec("plain", "stty", "size")
    assert terminal.wait() == 0
    assert terminal.seen.split() == [b"31", b"97"]


def test_it_follows_the_callers_size(terminal):
    script = "trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.02; done"
    terminal.exec("plain", "sh", "-c", script)
    terminal.expect(b"ready")
    terminal.resize(44, 111)
    assert terminal.wait() == 5
    assert terminal.seen.split() == [b"44", b"111"]


def test_the_callers_term_is_passed(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "vt52")
    terminal.exec("plain", "sh", "-c", "echo $TERM")
    assert terminal.wait() == 0
    assert terminal.seen == b"vt52\r\n"


@pytest.mark.parametrize("user", ["user", "4321"])
def test_it_belongs_to_the_user(terminal, user):
    terminal.exec(
        "-u", user, "plain", "sh", "-c", "stat -c %u $(tty); id -u; : < $(tty) && echo open"
    )
    assert terminal.wait() == 0
    owner, uid, opened = terminal.seen.split()
    assert owner == uid
    assert opened == b"open"


def test_it_leads_its_session_in_the_foreground(terminal):
    terminal.exec("plain", "sh", "-c", "cut -d' ' -f1,5,6,8 /proc/$$/stat")
    assert terminal.wait() == 0
    assert len(set(terminal.seen.split())) == 1


def test_no_fd_above_the_streams(terminal, shared_box):
    terminal.exec("plain", "sh", "-c", "echo ready; read line")
    terminal.expect(b"ready")
    pid = terminal.client.pid
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert set(os.listdir(f"/proc/{child}/fd")) <= {"0", "1", "2", "10"}  # 10: the shell's own
    links = {os.readlink(f"/proc/{child}/fd/{fd}") for fd in os.listdir(f"/proc/{child}/fd")}
    assert len(links) == 1
    assert links.pop().startswith("/dev/pts/")
    terminal.type(b"\r")
    assert terminal.wait() == 0


# Keys go to the command.


@pytest.mark.parametrize("name", ["plain", "host-ids", "init"])
def test_control_c_ends_the_command(restored, shared_box, name):
    # No shell before it: that one catches SIGINT until it execs, and then forgets it.
    restored.exec(name, "tail", "-f", "/etc/passwd")
    restored.expect(b"root:")
    restored.type(b"\x03")
    assert restored.wait() == 130
    assert shared_box.status(name) == "running"


def test_control_c_runs_a_handler(terminal):
    script = "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.02; done"
    terminal.exec("plain", "sh", "-c", script)
    terminal.expect(b"ready")
    terminal.type(b"\x03")
    assert terminal.wait() == 7
    assert b"caught" in terminal.seen


def test_control_d_is_the_end_of_input(terminal):
    terminal.exec("plain", "sh", "-c", "cat; echo over; exit 6")
    terminal.type(b"a line\r")
    terminal.expect(b"a line\r\na line\r\n")
    terminal.type(b"\x04")
    terminal.expect(b"over")
    assert terminal.wait() == 6


def in_foreground(client, name):
    """Does a process of that name run below the client, in its terminal's foreground?"""
    for pid in below(client.pid):
        try:
            command, fields = Path(f"/proc/{pid}/stat").read_text().split("(")[1].split(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, _, group, _, _, foreground = fields.split()[:6]
        if command == name and state in "RS" and group == foreground:
            return True
    return False


def below(pid):
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [pid for child in children for pid in (int(child), *below(child))]


def test_job_control_works(terminal, until):
    terminal.exec("-e", "PS1=prompt:", "plain", "sh", "-i")
    assert b"job control" not in terminal.expect(b"prompt:")
    terminal.type(b"sleep 1000\r")
    until(lambda: in_foreground(terminal.client, "sleep"))
    terminal.type(b"\x1a")
    terminal.expect(b"Stopped")
    terminal.expect(b"prompt:")
    terminal.type(b"fg\r")
    until(lambda: in_foreground(terminal.client, "sleep"))
    terminal.type(b"\x03")
    terminal.expect(b"prompt:")
    terminal.type(b"exit 9\r")
    assert terminal.wait() == 9


def test_much_output_arrives_whole(terminal):
    terminal.exec("plain", "seq", "20000")
    assert terminal.wait() == 0
    assert terminal.seen.split() == [b"%d" % k for k in range(1, 20_001)]


# The caller's terminal is put back whatever happens.


@pytest.mark.parametrize(("command", "code"), [("/no/such", 127), ("/etc", 126)])
def test_it_is_put_back_after_a_failure(restored, command, code):
    restored.exec("plain", command)
    assert restored.wait() == code
    assert restored.seen.startswith(b"minibox: ")
    assert b"\n" not in restored.seen.replace(b"\r\n", b"")


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT"])
def test_it_is_put_back_after_a_signal(restored, name):
    restored.exec("plain", "tail", "-f", "/etc/passwd")  # a shell catches SIGINT until it execs
    restored.expect(b"root:")
    number = signal.Signals[f"SIG{name}"]
    restored.client.send_signal(number)
    assert restored.wait() == 128 + number


def test_it_is_put_back_when_the_container_ends(box, until):
    box.run()
    terminal = Terminal(box)
    try:
        terminal.exec("c", "sh", "-c", "echo ready; read line")
        terminal.expect(b"ready")
        box.do("kill", "c")
        assert terminal.wait() == 137
        assert termios.tcgetattr(terminal.slave) == terminal.before
    finally:
        terminal.close()


def test_a_hang_up_ends_the_command(terminal, until):
    terminal.exec("plain", "sh", "-c", "echo ready; exec sleep 1000")
    terminal.expect(b"ready")
    pid = terminal.client.pid
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    terminal.client.kill()
    terminal.client.wait()

    def is_gone():
        try:
            os.waitpid(int(child), os.WNOHANG)
        except ChildProcessError:
            pass
        return not Path(f"/proc/{child}").exists()

    until(is_gone)


# Only some of the streams, or none.


@pytest.mark.parametrize("streams", [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_with_half_a_terminal_the_command_gets_none(restored, streams):
    script = "for i in 0 1 2; do test -t $i && echo $i is a tty; done; (: < /dev/tty) && echo has; exit 4"
    restored.exec("plain", "sh", "-c", script, streams=streams)
    assert restored.wait() == 4
    output = restored.seen
    for stream in (restored.client.stdout, restored.client.stderr):
        output += stream.read() if stream else b""
    assert b"is a tty" not in output
    assert b"has" not in output


def test_a_terminal_that_is_not_wanted_is_not_given(terminal):
    terminal.exec("--no-tty", "plain", "sh", "-c", "tty; (: < /dev/tty) 2>&1; echo $?")
    assert terminal.wait() == 0
    assert b"not a tty" in terminal.seen
    assert terminal.seen.endswith(b"1\r\n")


def test_a_terminal_that_is_insisted_on_and_not_there(shared_box):
    assert "not a terminal" in shared_box.refused("exec", "-t", "plain", "true")
    assert "contradicts" in shared_box.refused("exec", "-t", "-T", "plain", "true")


# The container may have put anything in the place of its devpts.


@pytest.mark.parametrize(
    "script",
    [
        "umount /dev/pts; rm -rf /dev/pts; mkdir /dev/pts; ln -s /dev/null /dev/pts/ptmx",
        "umount /dev/pts; rm -rf /dev/pts; mkdir /dev/pts; : > /dev/pts/ptmx",
        "umount /dev/pts; rm -rf /dev/pts; mkdir /dev/pts; mkfifo /dev/pts/ptmx",
        "umount /dev/pts; rm -rf /dev/pts; ln -s /tmp /dev/pts; : > /tmp/ptmx",
    ],
    ids=["link", "file", "fifo", "directory"],
)
def test_what_is_no_devpts_is_refused(box, script):
    box.run("--overlay", "--cap-add=SYS_ADMIN")
    box.do("exec", "c", "sh", "-c", script)
    terminal = Terminal(box)
    try:
        terminal.exec("c", "sh", "-c", "echo in")
        assert terminal.wait() == 125
        assert terminal.seen.startswith(b"minibox: ")
        assert termios.tcgetattr(terminal.slave) == terminal.before
    finally:
        terminal.close()
    assert box.do("exec", "c", "echo", "here") == "here"
