# SPDX-License-Identifier: Apache-2.0
"""Signals to minibox, time limits, and the death of minibox itself."""

from __future__ import annotations

import fcntl
import itertools
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest

from minibox.resources import leftovers
from tests.conftest import PATIENCE

MINIBOX = Path(sys.executable).with_name("minibox")
DEADLINE = 10.0 * PATIENCE
DEATH = 0.1  # seconds within which a container has to follow a minibox that was killed
ENDING = ["INT", "TERM", "HUP", "QUIT", "USR1", "USR2"]
WAYS = ["--net=none", "--init", "--userns=host", "--overlay", "--share=pid"]
numbers = itertools.count(os.getpid() * 10_000)


def number_of(name):
    return signal.Signals[f"SIG{name}"]


def eventually(check, timeout=DEADLINE):
    """Poll until `check()` gives something true, and give it."""
    deadline = time.monotonic() + timeout
    while not (found := check()):
        assert time.monotonic() < deadline, "it has not happened in time"
        time.sleep(0.002)
    return found


def marker():
    """A number of seconds that no other process sleeps."""
    return str(next(numbers))


def alive(mark):
    """The processes that have this word on their command line; zombies have none."""
    found = []
    for directory in list(Path("/proc").glob("[0-9]*")):
        try:
            if mark.encode() in (directory / "cmdline").read_bytes():
                found.append(int(directory.name))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def children(pid):
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def state(pid):
    """The letter of proc(5): R, S, T, Z …"""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def start(rootfs):
    """Start minibox beside the test: start("--init", command=[…]) -> Popen with stdout piped."""
    begun = []

    def start(*options, command, **how):
        how.setdefault("stdout", subprocess.PIPE)
        how.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen([str(MINIBOX), "run", *options, rootfs, *command], **how)
        watchdog = threading.Timer(DEADLINE, process.kill)  # so that a read that hangs ends
        watchdog.start()
        begun.append((process, watchdog))
        return process

    yield start
    for process, watchdog in begun:
        watchdog.cancel()
        watchdog.join()
        if process.poll() is None:
            process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()
        process.wait()


def shell(script):
    return ["/bin/sh", "-c", script]


# Forwarding.


@pytest.mark.parametrize("option", WAYS)
@pytest.mark.parametrize("name", [*ENDING, "WINCH", "CONT"])
def test_a_command_that_catches_a_signal_sees_it(start, name, option):
    script = f"trap 'echo caught {name}; exit 42' {name}; echo ready; sleep 100 & wait; exit 3"
    process = start(option, command=shell(script))
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number_of(name))
    assert process.wait(DEADLINE) == 42
    assert process.stdout.read() == f"caught {name}\n".encode()


@pytest.mark.parametrize("option", WAYS)
@pytest.mark.parametrize("name", ENDING)
def test_a_command_without_a_handler_ends_with_128_and_the_signal(start, name, option):
    """The kernel would spare it, as PID 1: minibox does what the user meant."""
    mark = marker()
    process = start(option, command=["/bin/sleep", mark])
    eventually(lambda: "sleep" in command_names(process.pid))
    process.send_signal(number_of(name))
    assert process.wait(DEADLINE) == 128 + number_of(name)


def command_names(pid):
    """What the descendants of a process are called."""
    names = []
    for child in children(pid):
        try:
            names.append(Path(f"/proc/{child}/comm").read_text().strip())
        except (FileNotFoundError, ProcessLookupError):
            continue
        names += command_names(child)
    return names


@pytest.mark.parametrize("option", WAYS)
def test_a_shell_with_a_child_ends_with_it(start, option):
    mark = marker()
    process = start(option, command=shell(f"echo ready; sleep {mark}; exit 3"))
    assert process.stdout.readline() == b"ready\n"
    eventually(lambda: "sleep" in command_names(process.pid))
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE) == 143
    assert not alive(mark)


@pytest.mark.parametrize("option", WAYS)
@pytest.mark.parametrize("name", ["WINCH", "CONT", "URG", "CHLD"])
def test_a_signal_that_ends_nobody_ends_nobody(start, name, option):
    process = start(option, command=shell("echo ready; read line; exit 5"), stdin=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    for _ in range(10):
        process.send_signal(number_of(name))
    process.stdin.write(b"\n")
    process.stdin.close()
    assert process.wait(DEADLINE) == 5


@pytest.mark.parametrize("option", WAYS)
def test_a_signal_that_the_command_ignores_does_not_end_it(start, option):
    script = "trap '' TERM; echo ready; read line; exit 5"
    process = start(option, command=shell(script), stdin=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    process.stdin.write(b"\n")
    process.stdin.close()
    assert process.wait(DEADLINE) == 5


@pytest.mark.parametrize("delay", range(0, 40, 4))
def test_a_signal_during_set_up_ends_it(start, delay):
    mark = marker()
    process = start(command=["/bin/sleep", mark], stderr=subprocess.PIPE)
    time.sleep(delay / 1000)  # not to synchronise: any moment will do
    process.send_signal(signal.SIGTERM)
    # Before minibox listens, it dies of the signal itself.
    assert process.wait(DEADLINE) in (143, -signal.SIGTERM)
    eventually(lambda: not alive(mark))


def test_a_flood_of_signals_has_no_effect(start):
    script = "trap '' USR1; echo ready; seq 200000 | md5sum; exit 6"
    process = start(command=shell(script), stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    sent = 0
    while process.poll() is None:
        process.send_signal(signal.SIGWINCH)
        process.send_signal(signal.SIGUSR1)
        sent += 2
        time.sleep(0.001)
    text = "".join(f"{k}\n" for k in range(1, 200_001))
    expected = subprocess.run(["md5sum"], input=text.encode(), capture_output=True).stdout
    assert (process.returncode, process.stdout.read()) == (6, expected)
    assert process.stderr.read() == b""
    assert sent > 10


def test_a_flood_of_window_changes_during_set_up_has_no_effect(start):
    for _ in range(10):
        process = start(command=shell("exit 6"), stderr=subprocess.PIPE)
        while process.poll() is None:
            process.send_signal(signal.SIGWINCH)
            time.sleep(0.001)
        assert (process.returncode, process.stderr.read()) == (6, b"")


# Stop and continue.


@pytest.mark.parametrize("option", WAYS)
def test_tstp_stops_both_and_cont_continues_both(start, option):
    process = start(option, command=["/bin/sleep", marker()])
    eventually(lambda: "sleep" in command_names(process.pid))
    inside = process.pid
    while children(inside):
        inside = children(inside)[0]
    process.send_signal(signal.SIGTSTP)
    eventually(lambda: state(process.pid) == "T")
    eventually(lambda: state(inside) == "T", 2)
    process.send_signal(signal.SIGCONT)
    eventually(lambda: state(process.pid) != "T")
    eventually(lambda: state(inside) != "T", 2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE) == 143


def test_a_command_that_catches_tstp_and_cont_sees_them(start):
    script = "trap 'echo stop' TSTP; trap 'echo continue; exit 9' CONT; echo ready; while :; do sleep 100 & wait; done"
    process = start(command=shell(script))
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTSTP)
    assert process.stdout.readline() == b"stop\n"
    eventually(lambda: state(process.pid) == "T")
    process.send_signal(signal.SIGCONT)
    assert process.wait(DEADLINE) == 9
    assert process.stdout.read() == b"continue\n"


def test_the_supervisor_may_be_stopped_and_goes_on(start):
    process = start(command=shell("echo ready; read line; exit 4"), stdin=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGSTOP)
    eventually(lambda: state(process.pid) == "T")
    process.stdin.write(b"\n")
    process.stdin.close()
    process.send_signal(signal.SIGCONT)
    assert process.wait(DEADLINE) == 4


# ^C of a real terminal.


def in_terminal(words, stdin_too):
    """Run words in a session whose terminal is a new pty; stdin (perhaps) and stdout are pipes.

    Gives (Popen, the pty's master)."""
    master, slave = pty.openpty()

    def take_terminal():
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    stdin = slave if stdin_too else subprocess.DEVNULL
    process = subprocess.Popen(
        words,
        stdin=stdin,
        stdout=subprocess.PIPE,
        preexec_fn=take_terminal,  # noqa: PLW1509
        pass_fds=[slave],
    )
    os.close(slave)
    return process, master


@pytest.mark.parametrize("stdin_too", [False, True])
@pytest.mark.parametrize("option", WAYS)
def test_control_c_reaches_the_whole_foreground_group(rootfs, option, stdin_too):
    child = "trap 'echo child; exit' INT; echo ready; sleep 100 & wait"
    script = f"trap 'echo parent; exit 33' INT; sh -c \"{child}\"; exit 3"
    words = [str(MINIBOX), "run", option, rootfs, *shell(script)]
    process, master = in_terminal(words, stdin_too)
    watchdog = threading.Timer(DEADLINE, process.kill)
    watchdog.start()
    try:
        assert process.stdout.readline() == b"ready\n"
        os.write(master, b"\x03")
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert sorted(lines) == [b"child\n", b"parent\n"]
        assert process.wait(DEADLINE) == 33
    finally:
        watchdog.cancel()
        watchdog.join()
        process.kill()
        process.wait()
        process.stdout.close()
        os.close(master)


# What the caller may have done to its signals.


def test_a_caller_that_ignores_sigchld_gets_the_status(cli, rootfs):
    def ignore():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    for option in WAYS:
        assert cli("run", option, rootfs, *shell("exit 7"), preexec_fn=ignore).returncode == 7


def test_a_caller_that_blocks_every_signal_does_not_block_the_commands(start, cli, rootfs):
    def block():
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    words = ("run", rootfs, "grep", "SigBlk", "/proc/self/status")
    assert cli(*words, preexec_fn=block).stdout.split()[1] == b"0" * 16
    process = start(command=shell("echo ready; sleep 100"), preexec_fn=block)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE) == 143


def test_a_caller_that_ignores_every_signal_does_not_ignore_the_commands(cli, rootfs):
    def ignore():
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)

    words = ("run", rootfs, "grep", "SigIgn", "/proc/self/status")
    assert cli(*words, preexec_fn=ignore).stdout.split()[1] == b"0" * 16


# The time limit.

TREE = "(setsid sleep {0} &); (sleep {0} &) ; sh -c 'trap \"\" TERM HUP INT; sleep {0}' & setsid sh -c 'sleep {0} & sleep {0}' & sleep {0}"


@pytest.mark.parametrize("option", WAYS)
def test_the_time_limit_ends_the_whole_tree(cli, rootfs, option):
    mark = marker()
    began = time.monotonic()
    done = cli("run", "--timeout", "400ms", option, rootfs, *shell(TREE.format(mark)))
    assert done.returncode == 137
    assert 0.4 <= time.monotonic() - began < 5
    assert done.stderr.startswith(b"minibox: the container was killed after 400ms")
    assert not alive(mark)


@pytest.mark.parametrize("option", WAYS)
def test_what_the_command_leaves_behind_ends_with_it(cli, rootfs, option):
    mark = marker()
    script = f"(setsid sleep {mark} > /dev/null 2>&1 &); (sleep {mark} > /dev/null 2>&1 &); exit 8"
    assert cli("run", option, rootfs, *shell(script)).returncode == 8
    assert not alive(mark)


def test_a_command_that_is_in_time_is_not_disturbed(cli, rootfs):
    done = cli("run", "--timeout", "30", rootfs, *shell("exit 4"))
    assert (done.returncode, done.stderr) == (4, b"")


@pytest.mark.parametrize("option", WAYS)
def test_a_command_that_stops_itself_is_ended_by_the_time_limit(cli, rootfs, option):
    mark = marker()
    script = f"sleep {mark} & kill -STOP $!; kill -STOP $$; wait"
    done = cli("run", "--timeout", "400ms", option, rootfs, *shell(script))
    assert done.returncode == 137
    assert not alive(mark)


# SIGKILL of minibox.


def seconds_until_dead(process, mark):
    process.kill()
    began = time.monotonic()
    try:
        eventually(lambda: not alive(mark), 5)
        return time.monotonic() - began
    finally:
        for pid in alive(mark):
            kill(pid)


@pytest.fixture
def swept():
    """The empty cgroup of a command that was killed goes with the next start that makes one."""
    yield
    list(leftovers.sweep())


@pytest.mark.parametrize("option", WAYS)
def test_the_container_dies_with_minibox(swept, start, option):
    """Three tries, as the machine may be busy; the guard looks for what is left."""
    times = []
    for _ in range(3):
        mark = marker()
        script = (
            f"trap '' TERM HUP INT; setsid sleep {mark} & sleep {mark} & echo ready; sleep {mark}"
        )
        process = start(option, command=shell(script))
        assert process.stdout.readline() == b"ready\n"
        eventually(lambda m=mark: len(alive(m)) >= 4)
        times.append(seconds_until_dead(process, mark))
    assert min(times) < DEATH


def test_the_container_dies_with_minibox_in_a_terminal(rootfs):
    mark = marker()
    master, slave = pty.openpty()
    words = [str(MINIBOX), "run", "--tty", rootfs, *shell(f"trap '' HUP; echo ready; sleep {mark}")]
    process = subprocess.Popen(
        words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    try:
        output = b""
        while b"ready" not in output:
            assert select.select([master], [], [], DEADLINE)[0]
            output += os.read(master, 1000)
        assert seconds_until_dead(process, mark) < 1
    finally:
        process.kill()
        process.wait()
        os.close(slave)
        os.close(master)


@pytest.mark.parametrize("option", WAYS)
def test_nothing_is_left_when_minibox_is_killed_while_it_sets_up(swept, start, option):
    mounts = Path("/proc/self/mountinfo").read_text()
    for delay in range(10, 40):
        mark = marker()
        process = start(option, command=["/bin/sleep", mark])
        time.sleep(delay / 1000)  # not to synchronise: each is another moment of the set-up
        process.kill()
        process.wait()
        eventually(lambda m=mark: not alive(m), 2)
    assert Path("/proc/self/mountinfo").read_text() == mounts


@pytest.mark.parametrize("option", ["--net=none", "--init"])
@pytest.mark.parametrize("call", ["waitid", "poll", "pidfd_send_signal", "write"])
def test_nothing_is_left_when_minibox_is_killed_at_a_call(rootfs, tmp_path, option, call):
    """The k-th of these calls of the supervisor's is its last."""
    for k in range(1, 4):
        mark = marker()
        words = ["strace", "-o", str(tmp_path / "log"), "-e", f"trace={call}"]
        words += ["-e", f"inject={call}:signal=KILL:when={k}"]
        words += [str(MINIBOX), "run", option, rootfs, "/bin/sleep", mark]
        with subprocess.Popen(words) as process:
            try:
                eventually(lambda p=process: has_ended_or_runs(p))
            finally:  # where it has made fewer of these calls, any time is as good
                for pid in children(process.pid):
                    kill(pid)
        eventually(lambda m=mark: not alive(m), 2)


def has_ended_or_runs(process):
    return process.poll() is not None or "sleep" in command_names(process.pid)


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def test_minibox_outlives_its_own_parent(rootfs):
    read, write = os.pipe()
    inside = "echo ready; read line; echo heard; sleep 100"
    outside = f"{MINIBOX} run {rootfs} /bin/sh -c '{inside}' <&3 & echo $!; kill -9 $$"
    parent = subprocess.Popen(
        ["/bin/sh", "-c", f"exec 3<&0; {outside}"], stdin=read, stdout=subprocess.PIPE
    )
    os.close(read)
    try:
        pid = int(parent.stdout.readline())
        assert parent.wait(DEADLINE) == -signal.SIGKILL
        assert parent.stdout.readline() == b"ready\n"
        os.write(write, b"\n")
        assert parent.stdout.readline() == b"heard\n"
        os.kill(pid, signal.SIGTERM)  # the session's subreaper, this process, has inherited it
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 143
    finally:
        os.close(write)
        parent.stdout.close()
