# SPDX-License-Identifier: Apache-2.0
"""stdin, stdout, stderr, arguments and environment reach the command untouched."""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest

import minibox
from tests.conftest import PATIENCE

MINIBOX = Path(sys.executable).with_name("minibox")
EVERY_BYTE = bytes(range(256)) * 64
MEBIBYTE = 1 << 20
DEADLINE = 15.0 * PATIENCE
ODD_WORDS = [
    b"",
    b"\xff\xfe\x80",
    b"two\nlines",
    b" spaces  ",
    b"--env",
    b"-e",
    b"'\"\\$x`",
    b"\xc3\xa4",
]


@pytest.fixture
def start(rootfs):
    """Start minibox beside the test: start("--init", command=[…], stdin=…) -> Popen."""
    begun = []

    def start(*options, command, **how):
        words = [str(MINIBOX), "run", *options, rootfs, *command]
        process = subprocess.Popen(words, **how)
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


def eventually(check, timeout=10.0):
    """Poll until `check()` gives something true, and give it."""
    deadline = time.monotonic() + timeout
    while not (found := check()):
        assert time.monotonic() < deadline, "it has not happened in time"
        time.sleep(0.005)
    return found


def unread(fd):
    """How many bytes wait in a pipe."""
    return struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0]


def resident(pid):
    """Bytes of memory that belong to a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


# Bytes.


def test_every_byte_comes_back_unchanged(cli, rootfs):
    done = cli("run", rootfs, "/bin/cat", input=EVERY_BYTE)
    assert (done.returncode, done.stdout, done.stderr) == (0, EVERY_BYTE, b"")


def test_stdout_and_stderr_stay_apart(cli, rootfs):
    done = cli("run", rootfs, "/bin/sh", "-c", "echo out; echo err >&2; echo out")
    assert (done.stdout, done.stderr) == (b"out\nout\n", b"err\n")


@pytest.mark.parametrize("option", ["--net=none", "--init"])
def test_100_megabytes_pass_both_ways(start, option):
    process = start(option, command=["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    block = os.urandom(MEBIBYTE)
    sent, received, size = hashlib.sha256(), hashlib.sha256(), 0

    def feed():
        for k in range(100):
            data = block[k:] + block[:k]
            sent.update(data)
            process.stdin.write(data)
        process.stdin.close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    while data := process.stdout.read(MEBIBYTE):
        received.update(data)
        size += len(data)
    feeder.join()
    assert process.wait(10) == 0
    assert size == 100 * MEBIBYTE
    assert received.digest() == sent.digest()


def test_a_file_as_stdin_and_stdout_is_the_callers_file_itself(cli, rootfs, tmp_path):
    (tmp_path / "in").write_bytes(b"0123456789")
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
        source.seek(4)
        sink.write(b"before ")
        sink.flush()
        words = ("run", rootfs, "head", "-c", "3")
        cli(*words, stdin=source, stdout=sink, stderr=None, capture_output=False)
        inode = os.fstat(sink.fileno()).st_ino
        words = ("run", rootfs, "stat", "-L", "-c", "%i", "/proc/self/fd/0")
        assert int(cli(*words, stdin=sink).stdout) == inode
    assert (tmp_path / "out").read_bytes() == b"before 456"


def test_appending_stays_appending(cli, rootfs, tmp_path):
    log = tmp_path / "log"
    for word in ("one", "two"):
        with log.open("ab") as sink:
            cli("run", rootfs, "/bin/echo", word, stdout=sink, stderr=None, capture_output=False)
    assert log.read_bytes() == b"one\ntwo\n"


# Back-pressure and ends.


@pytest.mark.parametrize("option", ["--net=none", "--init"])
def test_a_slow_reader_holds_the_command_back_and_costs_no_memory(start, option):
    script = "head -c 67108864 /dev/zero; echo the end >&2"
    process = start(
        option, command=["/bin/sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert os.read(process.stdout.fileno(), 1) == b"\0"
    before = resident(process.pid)
    waiting = [0, -1]

    def is_full():
        waiting[:] = [unread(process.stdout), waiting[0]]
        return waiting[0] == waiting[1] > 0

    eventually(is_full)
    assert unread(process.stderr) == 0
    size = 1
    while data := os.read(process.stdout.fileno(), 1 << 16):
        size += len(data)
        if size % 3 == 0:
            assert resident(process.pid) <= before + MEBIBYTE
    assert size == 64 * MEBIBYTE
    assert process.stderr.read() == b"the end\n"
    assert process.wait(10) == 0


def test_the_end_of_stdin_arrives(start):
    process = start(
        command=["/bin/sh", "-c", "cat; echo at the end"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    process.stdin.write(b"a line\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"a line\n"
    process.stdin.close()
    assert process.stdout.read() == b"at the end\n"
    assert process.wait(10) == 0


def test_stdout_ends_for_the_reader_when_the_command_closes_it(start):
    command = ["/bin/sh", "-c", "echo last; exec >&-; cat"]
    process = start(command=command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.read() == b"last\n"
    assert process.poll() is None, "minibox held a copy of it open until it ended"
    process.stdin.close()
    assert process.wait(10) == 0


def test_the_writer_notices_that_the_command_has_closed_stdin(start):
    command = ["/bin/sh", "-c", "exec <&-; echo closed; sleep 60"]
    process = start(command=command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"closed\n"
    with pytest.raises(BrokenPipeError):  # a copy that minibox holds would take it
        os.write(process.stdin.fileno(), b"x")


def test_when_the_reader_leaves_the_command_dies_of_sigpipe(start):
    process = start("--init", command=["yes"], stdout=subprocess.PIPE)
    assert os.read(process.stdout.fileno(), 2) == b"y\n"
    process.stdout.close()
    assert process.wait(10) == 128 + 13


def test_when_the_reader_leaves_a_command_that_is_pid_1_ends_as_well(start):
    """The kernel spares PID 1 the signal; it sees the error EPIPE."""
    process = start(command=["yes"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert os.read(process.stdout.fileno(), 2) == b"y\n"
    process.stdout.close()
    assert process.wait(10) == 141 or b"Broken pipe" in process.stderr.read()


def test_in_a_shells_pipeline_it_is_the_same(rootfs):
    script = f"{{ {MINIBOX} run --init {rootfs} yes; echo $? >&2; }} | head -1"
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, timeout=30)
    assert (done.stdout, done.stderr) == (b"y\n", b"141\n")


def test_no_signal_is_ignored_or_blocked_in_the_command(cli, rootfs):
    done = cli("run", rootfs, "/bin/grep", "-E", "^Sig(Ign|Blk|Cgt)", "/proc/self/status")
    assert done.stdout.split()[1::2] == [b"0" * 16] * 3


def test_a_full_device_is_the_commands_own_error(cli, rootfs):
    with open("/dev/full", "wb") as full:
        words = ("run", rootfs, "/bin/sh", "-c", "echo x || exit 9")
        done = cli(*words, stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert done.returncode == 9
    assert b"No space left on device" in done.stderr
    assert b"minibox" not in done.stderr


# Closed streams and foreign fds.

CLOSED = {"<&-": (0,), ">&-": (1,), "2>&-": (2,), "<&- >&-": (0, 1), "<&- >&- 2>&-": (0, 1, 2)}


@pytest.mark.parametrize("redirections", CLOSED)
@pytest.mark.parametrize("option", ["--net=none", "--init", "--userns=host", "--overlay"])
def test_a_closed_stream_is_the_null_device(tree, tmp_path, redirections, option):
    (tmp_path / "out").mkdir()
    inside = "for i in 0 1 2; do stat -L -c '%t:%T' /proc/$$/fd/$i; done > /mnt/types; ls /proc/$$/fd > /mnt/fds; exit 7"
    outside = (
        f"exec {MINIBOX} run {option} --volume {tmp_path}/out:/mnt {tree} "
        f'/bin/sh -c "$SCRIPT" {redirections}'
    )
    environment = {**os.environ, "SCRIPT": inside}
    with subprocess.Popen(
        ["/bin/sh", "-c", outside],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as process:
        assert process.wait(30) == 7
    types = (tmp_path / "out/types").read_text().split()
    for fd in CLOSED[redirections]:
        if fd != 1:  # the loop's own redirection
            assert types[fd] == "1:3"
    assert set((tmp_path / "out/fds").read_text().split()) <= {"0", "1", "2", "10"}


@pytest.mark.parametrize("redirections", CLOSED)
def test_a_message_of_miniboxs_own_goes_into_no_foreign_file(rootfs, redirections):
    outside = f"{MINIBOX} run {rootfs} /no/such {redirections}; exit $?"
    done = subprocess.run(["/bin/sh", "-c", outside], capture_output=True, timeout=30)
    assert done.returncode == 127
    assert done.stdout == b""
    assert done.stderr.startswith(b"minibox: " if 2 not in CLOSED[redirections] else b"")


@pytest.mark.parametrize("option", ["--net=none", "--init", "--userns=host", "--overlay"])
def test_no_fd_but_the_three_reaches_the_command(cli, rootfs, option):
    read, write = os.pipe()
    extra = [os.dup(read) for _ in range(20)]
    high = fcntl.fcntl(write, fcntl.F_DUPFD, 900)
    try:
        words = ("run", option, rootfs, "/bin/sh", "-c", "ls /proc/$$/fd; :")
        done = cli(*words, pass_fds=[*extra, read, write, high])
    finally:
        for fd in (*extra, read, write, high):
            os.close(fd)
    assert done.stdout.split() == [b"0", b"1", b"2"]


def test_the_library_passes_no_fd_of_its_own_or_the_programs(rootfs):
    read, write = os.pipe()
    os.set_inheritable(read, True)
    try:
        words = ["/bin/sh", "-c", "ls /proc/$$/fd; :"]
        for init in (False, True):
            result = minibox.run(words, rootfs=rootfs, input=b"x", init=init)
            assert result.stdout.split() == [b"0", b"1", b"2"]
    finally:
        os.close(read)
        os.close(write)


# Arguments and environment.


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_arguments_pass_byte_for_byte(cli, rootfs, locale):
    words = [b"/bin/sh", b"-c", b"cat /proc/$$/cmdline; :", b"sh", *ODD_WORDS]
    environment = {"LC_ALL": locale, "PATH": os.environ["PATH"], "MINIBOX_NET": "none"}
    done = cli("run", rootfs, *words, env=environment)
    assert done.stdout == b"".join(word + b"\0" for word in words)


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_variables_pass_byte_for_byte(cli, rootfs, locale):
    items = [b"V%d=%s" % item for item in enumerate(ODD_WORDS)] + [b"\xff=x", b"A=b=c", b"a b=c"]
    options = [word for item in items for word in (b"--env", item)]
    environment = {"LC_ALL": locale, "PATH": os.environ["PATH"], "MINIBOX_NET": "none"}
    done = cli("run", *options, rootfs, "/bin/cat", "/proc/self/environ", env=environment)
    assert set(items) <= set(done.stdout.split(b"\0"))


def test_bytes_pass_through_the_library(rootfs):
    words = [b"/bin/sh", b"-c", b"cat /proc/$$/cmdline; :", b"sh", *ODD_WORDS]
    result = minibox.run(words, rootfs=rootfs)
    assert result.stdout == b"".join(word + b"\0" for word in words)
    result = minibox.run(["/bin/sh", "-c", 'echo "$1"', "sh", "\udcff\u00e4"], rootfs=rootfs)
    assert result.stdout == b"\xff\xc3\xa4\n"


def test_nothing_of_the_callers_environment_is_passed_by_itself(cli, rootfs):
    caller = {
        **os.environ,
        "SECRET": "1",
        "LD_PRELOAD": "",
        "PYTHONPATH": "/nowhere",
        "TAKEN": "by name",
    }
    done = cli("run", "--env", "TAKEN", "--env", "UNSET", rootfs, "env", env=caller)
    names = {line.partition(b"=")[0] for line in done.stdout.splitlines()}
    assert names == {b"PATH", b"HOME", b"HOSTNAME", b"container", b"TAKEN"}
    assert b"TAKEN=by name" in done.stdout.splitlines()


def test_ten_thousand_variables_pass(cli, rootfs, tmp_path):
    file = tmp_path / "env"
    file.write_text("".join(f"N{k}=value {k}\n" for k in range(10_000)))
    done = cli("run", "--env-file", file, rootfs, "env")
    found = done.stdout.splitlines()
    assert {b"N%d=value %d" % (k, k) for k in range(10_000)} <= set(found)


# The state that a caller may have left behind.


def test_the_callers_umask_directory_and_priority_do_not_matter(cli, tree, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()

    def spoil():
        os.umask(0o077)
        os.chdir(gone)
        os.rmdir(gone)

    script = "umask; pwd; : > /made; stat -c %a /made"
    done = cli("run", tree, "/bin/sh", "-c", script, preexec_fn=spoil)
    assert done.stdout == b"0022\n/\n644\n"
    assert done.stderr == b"", "the start-up script's shell complains"
