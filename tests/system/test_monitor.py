# SPDX-License-Identifier: Apache-2.0
"""The monitor of a container: small, unrelated to its caller, hard to end, and missed if it does."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minibox import core

COMMAND = Path(sys.executable).with_name("minibox")
KIBIBYTE = 1 << 10
MEMORY = 1536 * KIBIBYTE
SOON = 1.0  # s; "within 100 ms", on a machine with other work to do
# Nothing can be blocked or ignored by a process that is sent these.
UNSTOPPABLE = {signal.SIGKILL, signal.SIGSTOP}
MODES = ["--net=none", "--init", "--userns=host", "--overlay"]
LONG_LINE = "y" * 199


class Box:
    """The containers of one test: `box("start", "web")`, and what can be seen of them."""

    def __init__(self, cli, rootfs, root):
        self.cli = cli
        self.rootfs = rootfs
        self.root = root
        self.begun = []

    def try_to(self, *words, **how):
        return self.cli("--root", self.root, *words, **how)

    def __call__(self, *words, code=0, **how):
        done = self.try_to(*words, **how)
        assert done.returncode == code, done
        return done

    def run(self, script, *options, name="web", **how):
        """`run -d` of a shell's script."""
        words = ("run", "-d", "--name", name, *options, self.rootfs, "/bin/sh", "-c", script)
        return self(*words, **how).stdout.decode().strip()

    def inspect(self, name="web"):
        return json.loads(self("inspect", name).stdout)[0]

    def state(self, name="web"):
        return self.inspect(name)["State"]

    def directory(self, name="web"):
        return self.root / "containers" / os.readlink(self.root / "names" / name)

    def monitor(self, name="web"):
        return self.state(name)["ConmonPid"]

    def logs(self, name="web"):
        return self("logs", name).stdout

    def ps(self):
        """The column STATUS by name."""
        lines = self("ps", "-a", "--format", "{{.Names}} {{.Status}}").stdout.decode().splitlines()
        return dict(line.split(" ", 1) for line in lines)

    def popen(self, *words, **how):
        words = [str(COMMAND), "--root", str(self.root), *map(str, words)]
        self.begun.append(subprocess.Popen(words, **how))
        return self.begun[-1]

    def strays(self):
        """Monitors of this test that are there; each is ours since its starter has ended."""
        found = []
        for pid in with_descendants(os.getpid()):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/cwd").startswith(f"{self.root}/"):
                    found.append(pid)
        return found

    def close(self):
        for process in self.begun:
            if process.poll() is None:
                process.kill()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()
            process.wait()


@pytest.fixture
def box(cli, rootfs, tmp_path):
    box = Box(cli, rootfs, tmp_path / "state")
    yield box
    box.close()
    done = box.try_to("rm", "-af")
    end = time.monotonic() + 2  # one that has become a command may be about to end
    while (strays := box.strays()) and time.monotonic() < end:
        time.sleep(0.01)
    for pid in strays:
        os.kill(pid, signal.SIGKILL)
    assert (done.returncode, done.stderr, strays) == (0, b"", []), done


@pytest.fixture
def join(box):
    """`join("web")`: a connection to the socket that its monitor listens on."""
    with contextlib.ExitStack() as opened:

        def connect(name="web"):
            place = os.open(box.directory(name), os.O_PATH)
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            opened.enter_context(connection)
            connection.connect(f"/proc/self/fd/{place}/attach")
            connection.settimeout(10)
            os.close(place)
            return connection

        yield connect


def status(pid):
    """/proc/PID/status by key."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def stat(pid):
    """The fields of /proc/PID/stat from the third on (proc_pid_stat(5))."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def fds(pid):
    """What the fds of a process are: number -> link."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    return found


def memory(pid):
    """Its proportional set size, in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * KIBIBYTE
    raise AssertionError("no Pss in smaps_rollup")


def are_gone(pids):
    """None is there, not even a zombie: what is our orphan now is reaped, as init would do it."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def with_descendants(pid):
    found = [pid]
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += with_descendants(int(child))
    return found


# What it is.


def test_it_stays_small_whatever_it_has_passed_on(box, join):
    script = f"read go; yes {LONG_LINE} | head -n 250000; echo the end; exec sleep 1000"
    box.run(script, "-i", "--log-opt", "max-size=2m")
    monitor = box.monitor()
    assert memory(monitor) <= MEMORY
    clients = [join() for _ in range(6)]
    clients[0].send(b"igo\n")
    seen, most, turns = dict.fromkeys(clients, 0), 0, 0
    last = b""
    while not last.endswith(b"the end\n"):
        for client in clients:
            data = client.recv(1 << 16)[1:]
            seen[client] += len(data)
        last = (last + data)[-100:]
        turns += 1
        if turns % 500 == 0:
            most = max(most, memory(monitor))
    assert set(seen.values()) == {250_000 * 200 + len("the end\n")}
    assert max(most, memory(monitor)) <= MEMORY
    for client in clients:
        client.close()
    assert memory(monitor) <= MEMORY


def test_it_is_nobodys_child_and_in_nobodys_session(box):
    starter = box.popen("run", "-d", "--name", "web", box.rootfs, "sleep", "1000", stdout=-1)
    starter.communicate(timeout=10)
    monitor = box.monitor()
    parent, group, session, terminal = map(int, stat(monitor)[1:5])
    assert parent == os.getpid(), "the subreaper has adopted it"
    assert session != os.getsid(0)
    assert session == group
    assert session not in (monitor, starter.pid), "who leads no session gets no terminal"
    assert terminal == 0
    assert status(monitor)["Name"] == "minibox-monitor"


def test_its_parent_is_init_where_there_is_no_subreaper(box):
    """In a pid namespace of the test's own, whose PID 1 is a shell."""
    script = f"{COMMAND} --root {box.root} run -d --name web {box.rootfs} sleep 1000 > /dev/null\n"
    script += f"{COMMAND} --root {box.root} inspect -f '{{{{.State.ConmonPid}}}}' web > pid\n"
    script += f"grep PPid: /proc/$(cat pid)/status; {COMMAND} --root {box.root} rm -f web; exit 0"
    words = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", script]
    where = Path(box.root).parent
    done = subprocess.run(words, capture_output=True, timeout=30, cwd=where)
    assert done.stdout.splitlines() == [b"PPid:\t1", b"web"], done


def test_it_stands_in_the_containers_directory_with_a_mask_for_its_files(box):
    box.run("exec sleep 1000")
    monitor = box.monitor()
    assert os.readlink(f"/proc/{monitor}/cwd") == str(box.directory())
    assert status(monitor)["Umask"] == "0077"
    assert box.directory().stat().st_mode & 0o777 == 0o700
    assert (box.directory() / "log").stat().st_mode & 0o777 == 0o600


def kinds_of_fds(box):
    """What the monitor holds above 2, in no order; files by their names."""
    found = fds(box.monitor())
    assert [found.pop(fd) for fd in (0, 1, 2)] == ["/dev/null"] * 3
    place = f"{box.directory()}/"
    kinds = [link.removeprefix(place).split(":[")[0] for link in found.values()]
    return sorted("ptmx" if kind.endswith("/ptmx") else kind for kind in kinds)


NEEDED = ["alive", "anon_inode", "exit-1.json", "log", "socket"]
# The number of the upper layer is kept for it.
NO_LAYER = "/dev/null"


@pytest.mark.parametrize(
    ("option", "more"),
    [
        ("--net=none", [NO_LAYER, "pipe", "pipe"]),
        ("--init", [NO_LAYER, "pipe", "pipe"]),
        ("--userns=host", [NO_LAYER, "pipe", "pipe"]),
        ("-i", [NO_LAYER, "pipe", "pipe", "pipe"]),
        ("-t", [NO_LAYER, "ptmx"]),
        ("-it", [NO_LAYER, "ptmx"]),
        ("--overlay", ["/", "pipe", "pipe"]),  # the upper layer, for `diff`
    ],
)
def test_it_holds_the_fds_it_needs_and_no_other(box, until, option, more):
    box.run("exec sleep 1000", option)
    # Who has sent the terminal or the layer closes its end of that socket a moment later.
    until(lambda: kinds_of_fds(box) == sorted([*NEEDED, *more]))


def crowd():
    """For preexec_fn: fds 3 to 200, and some above, are open and will be inherited."""
    _, write = os.pipe()
    for fd in [*range(3, 201), *range(250, 400, 7), 500]:
        if fd != write:
            os.dup2(write, fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))


@pytest.mark.parametrize("option", ["--net=none", "--init", "-t"])
def test_it_holds_none_of_a_crowd_of_inherited_fds(box, option, until):
    script = "ls /proc/$$/fd; exec sleep 1000"
    words = ("run", "-d", "--name", "web", option, box.rootfs, "/bin/sh", "-c", script)
    box(*words, preexec_fn=crowd, close_fds=False)
    more = [NO_LAYER, "ptmx"] if option == "-t" else [NO_LAYER, "pipe", "pipe"]
    until(lambda: kinds_of_fds(box) == sorted([*NEEDED, *more]))
    until(lambda: box.logs().split() == [b"0", b"1", b"2"])


def test_a_pipe_of_the_caller_comes_to_its_end(box):
    """Neither the monitor nor the container keeps the caller's stdout, stderr or other pipes."""
    read, write = os.pipe()
    words = ("run", "-d", "--name", "web", box.rootfs, "sleep", "1000")
    starter = box.popen(*words, stdin=-1, stdout=-1, stderr=-1, pass_fds=[write])
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        out, errors = starter.communicate(timeout=10)
        assert (len(out), errors) == (65, b"")
        assert pipe.read() == b""
    assert box.state()["Running"]


@pytest.mark.parametrize("limit", [24, 40, 64, 65, 68, 72, 128])
def test_with_few_fds_it_works_or_nothing_has_begun(box, limit):
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    words = ("run", "-d", "--name", "web", box.rootfs, "/bin/sh", "-c", "echo begun; exec cat")
    done = box.try_to(*words, preexec_fn=few)
    try:
        if done.returncode == 0:
            assert box("wait", "web", timeout=10).stdout == b"0\n"
            assert box.logs() == b"begun\n"
        else:
            assert (done.returncode, done.stdout) == (125, b"")
            assert done.stderr.startswith(b"minibox: ")
            assert box.ps() == {}
            assert box.strays() == []
    finally:
        for pid in box.strays():
            os.kill(pid, signal.SIGKILL)  # no command could


@pytest.mark.parametrize("inodes", [12, 13, 14, 15, 16, 17])
def test_a_start_that_cannot_be_written_down_is_undone(cli, rootfs, tmp_path, helper, inodes):
    """The disk has room for the files of a start, but for the last ones."""
    disk = tmp_path / "disk"
    disk.mkdir()
    there = helper("-m", script=f"mount -t tmpfs -o size=4m,nr_inodes={inodes} none {disk}")

    def minibox(*words):
        return there.run(str(COMMAND), "--root", str(disk / "state"), *words)

    box = Box(cli, rootfs, disk / "state")
    done = minibox("run", "-d", "--name", "web", rootfs, "sleep", "1000")
    names = minibox("ps", "-a", "--format", "{{.Names}} {{.State}}").stdout
    assert there.run("mount", "-o", "remount,nr_inodes=1000", disk).returncode == 0
    removed, strays = minibox("rm", "-af"), box.strays()
    for pid in strays:
        os.kill(pid, signal.SIGKILL)
    assert (removed.returncode, strays) == (0, []), "a container that nobody knows of"
    if done.returncode == 0:
        assert names == b"web running\n"
        return
    assert (done.returncode, done.stdout, names) == (125, b"", b"")
    assert done.stderr.startswith(b"minibox: ")


def test_the_callers_mask_and_directory_do_not_matter_to_it(box, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()

    def spoil():
        os.umask(0)
        os.chdir(gone)
        os.rmdir(gone)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD, signal.SIGTERM])

    box.run("echo hello; exit 3", preexec_fn=spoil)
    assert box("wait", "web").stdout == b"3\n"
    assert box.logs() == b"hello\n"
    assert box.directory().stat().st_mode & 0o777 == 0o700


def test_a_caller_that_ignores_the_end_of_its_children_can_start_one(box):
    """As daemons do; the kernel then reaps unseen."""

    def ignore():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    box.run("exit 3", preexec_fn=ignore)
    assert box("wait", "web").stdout == b"3\n"


def ticks(pid):
    """What it has used of the processor, in clock ticks of 10 ms."""
    return sum(map(int, stat(pid)[11:13]))


def type_until_full(client):
    client.settimeout(0.3)
    with contextlib.suppress(TimeoutError):
        while client.send(b"i" + b"x" * 4095):
            pass


def idle(box, join):
    pass


def before_a_full_pipe(box, join):
    type_until_full(join())


def half_closed(box, join):
    for how in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
        join().shutdown(how)


def half_closed_before_a_full_pipe(box, join):
    type_until_full(join())
    half_closed(box, join)
    for _ in range(4):
        join().close()
    gone = join()
    gone.send(b"ibye")
    gone.close()


def limit_fds(pid, most):
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, hard))


def without_fds(box, join):
    """It has five fds left for clients; the others wait to be let in."""
    monitor = box.monitor()
    used = set(fds(monitor))
    limit = next(n for n in range(100) if len(set(range(n)) - used) == 5)
    limit_fds(monitor, limit)
    for _ in range(10):
        join()


def with_more_clients_than_it_takes(box, join):
    for _ in range(20):
        join()


@pytest.mark.parametrize(
    ("situation", "option"),
    [
        (idle, "-i"),
        (before_a_full_pipe, "-i"),
        (half_closed, "-i"),
        (half_closed_before_a_full_pipe, "-i"),
        (without_fds, "-i"),
        (with_more_clients_than_it_takes, "-i"),
        (half_closed, "-it"),
    ],
    ids=["idle", "input", "half closed", "half closed, input", "no fds", "crowded", "terminal"],
)
def test_while_it_waits_it_uses_no_time(box, join, situation, option):
    box.run("exec sleep 1000", option)
    monitor = box.monitor()
    situation(box, join)
    before = ticks(monitor)
    time.sleep(0.4)  # as long as is measured
    assert ticks(monitor) - before <= 4


def test_while_a_terminal_is_open_nowhere_it_uses_no_time(box, until):
    """Somebody may open it again."""
    script = "echo a; exec 0<&- 1>&- 2>&-; usleep 300000; echo b > /dev/console; exec sleep 1000"
    box.run(script, "-t")
    monitor = box.monitor()
    until(lambda: box.logs() == b"a\r\nb\r\n")
    before = ticks(monitor)
    time.sleep(0.4)
    assert ticks(monitor) - before <= 4


def test_while_the_container_writes_nothing_and_has_closed_all_it_uses_no_time(box, until):
    box.run("exec 0<&- 1>&- 2>&-; exec sleep 1000", "-i")
    monitor = box.monitor()
    until(lambda: kinds_of_fds(box).count("pipe") <= 1)
    before = ticks(monitor)
    time.sleep(0.4)
    assert ticks(monitor) - before <= 4


def test_when_there_are_fds_again_it_lets_in_who_waits(box, join, until):
    box.run("cat", "-i")
    without_fds(box, join)
    late = join()
    limit_fds(box.monitor(), 256)
    late.send(b"ihello\n")
    assert late.recv(1 << 16) == b"\x01hello\n"


# Signals.


def test_no_signal_ends_or_stops_it(box):
    box.run("read line; echo $line; exit 9", "-i")
    monitor, pid = box.monitor(), box.state()["Pid"]
    for number in sorted({*range(1, signal.SIGRTMAX + 1)} - UNSTOPPABLE):
        with contextlib.suppress(OSError):  # 32 and 33 are the C library's, no name for them
            os.kill(monitor, number)
    assert status(monitor)["Name"] == "minibox-monitor"
    assert status(monitor)["State"][0] in "SR"
    assert box.state()["Pid"] == pid
    # And it does its work.
    box("attach", "web", code=9, input=b"hello\n")
    assert box.logs() == b"hello\n"


def test_a_signal_for_the_session_of_the_caller_does_not_reach_it(box):
    """The process group of a terminal's job: monitor and container are in another."""
    words = ("run", "-d", "--name", "web", box.rootfs, "sleep", "1000")
    starter = box.popen(*words, stdout=subprocess.DEVNULL, start_new_session=True)
    assert starter.wait(10) == 0
    with pytest.raises(ProcessLookupError):
        os.killpg(starter.pid, signal.SIGHUP)
    assert box.state()["Running"]


def test_it_goes_on_after_a_stop_of_its_own(box, until):
    """SIGSTOP cannot be refused: the container is held back, and nothing is lost."""
    box.run("read line; seq 20000; exit 4", "-i")
    monitor = box.monitor()
    waiting = box.popen("attach", "web", stdin=-1, stdout=-1)
    waiting.stdin.write(b"go\n")
    waiting.stdin.flush()
    os.kill(monitor, signal.SIGSTOP)
    until(lambda: status(monitor)["State"].startswith("T"))
    os.kill(monitor, signal.SIGCONT)
    out, _ = waiting.communicate(timeout=10)
    numbers = b"".join(b"%d\n" % k for k in range(1, 20001))
    assert (waiting.returncode, out) == (4, numbers)
    assert box.logs() == numbers


# Its death.


@pytest.mark.parametrize("option", [*MODES, "-t", "--share=pid"])
def test_the_container_dies_with_it_and_all_commands_say_so(box, option):
    box.run("sleep 1000 & sleep 1000 & echo ready; wait", option)
    state = box.state()
    processes = with_descendants(state["Pid"])
    waiting = box.popen("wait", "web", stdout=-1)
    attached = box.popen("attach", "web", stdin=-3, stdout=-3, stderr=-1)
    os.kill(state["ConmonPid"], signal.SIGKILL)
    deadline = time.monotonic() + SOON
    while not are_gone(processes):
        assert time.monotonic() < deadline, "the container has outlived its monitor"
        time.sleep(0.001)
    assert waiting.communicate(timeout=10)[0] == b"137\n"
    message = attached.communicate(timeout=10)[1]
    assert attached.returncode in (125, 137)
    assert message.startswith(b"minibox: "), message
    assert box.ps()["web"].startswith("Exited (137) ")
    state = box.state()
    assert (state["Status"], state["Running"], state["Pid"], state["ConmonPid"]) == (
        "exited",
        False,
        0,
        0,
    )
    assert (state["ExitCode"], state["Error"]) == (137, "its monitor was killed")
    assert box("wait", "web").stdout == b"137\n"


def test_with_it_dies_what_was_executed_in_the_container(box, until):
    box.run("exec sleep 1000")
    inside = box.popen("exec", "web", "/bin/sh", "-c", "echo ready; sleep 1000", stdout=-1)
    assert inside.stdout.readline() == b"ready\n"
    os.kill(box.monitor(), signal.SIGKILL)
    assert inside.wait(10) == 137


@pytest.mark.parametrize("option", ["--net=none", "--init", "-t"])
def test_after_its_death_the_container_starts_again(box, option, until):
    box.run("echo begun; exec sleep 1000", option)
    until(lambda: box.logs() == b"begun\r\n" if option == "-t" else b"begun\n")
    os.kill(box.monitor(), signal.SIGKILL)
    box("wait", "web")
    assert box("start", "web").stdout == b"web\n"
    state = box.state()
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("running", 0, "")
    until(lambda: box.logs().split() == [b"begun", b"begun"])
    box("stop", "-t", "0", "web")
    assert box.state()["Error"] == ""


def test_after_its_death_the_policy_to_remove_is_for_gc(box, until):
    """Nobody is there to do it at once; the next `gc` does."""
    box.run("exec sleep 1000", "--rm")
    pid = box.state()["Pid"]
    os.kill(box.monitor(), signal.SIGKILL)
    until(lambda: are_gone([pid]))
    assert list(box.ps()) == ["web"]
    assert b"web" in box("gc").stdout
    assert box.ps() == {}


def test_killed_again_and_again_it_leaves_a_container_that_starts(box):
    box("create", "--name", "web", box.rootfs, "sleep", "1000")
    for _ in range(5):
        box("start", "web")
        os.kill(box.monitor(), signal.SIGKILL)
        assert box("wait", "web").stdout == b"137\n"
    box("start", "web")
    assert box.state()["Running"]


# What it leaves.


def record(box, name="web"):
    (path,) = box.directory(name).glob("exit-*.json")
    return json.loads(path.read_bytes())


CODES = {"--net=none": [0, 1, 125, 127, 137, 255], "--init": [0, 255]}


@pytest.mark.parametrize("option", CODES)
def test_every_exit_code_is_kept(box, option):
    """One container started anew for each: it is told the code on stdin."""
    script = "read code; exit $code"
    box("create", "--name", "web", "-i", option, box.rootfs, "/bin/sh", "-c", script)
    for code in CODES[option]:
        before = time.time_ns()
        box("start", "-a", "-i", "web", input=b"%d\n" % code, code=code)
        kept, state = record(box), box.state()
        assert (kept["exit_code"], kept["signal"]) == (code, 0)
        assert before < kept["finished"] < time.time_ns()
        assert (state["Status"], state["ExitCode"], state["Signal"]) == ("exited", code, 0)
        assert state["Error"] == ""
        assert box("wait", "web").stdout == b"%d\n" % code
    assert box.ps()["web"].startswith(f"Exited ({code}) ")


@pytest.mark.parametrize("name", ["HUP", "KILL", "SEGV", "RTMIN"])
def test_the_signal_that_ends_a_command_under_an_init_is_kept(box, name):
    number = int(getattr(signal, f"SIG{name}"))
    box.run(f"read go; kill -{number} $$", "--init", "-i")
    waiting = box.popen("wait", "web", stdout=-1)
    box("attach", "web", input=b"go\n", code=128 + number)
    assert waiting.communicate(timeout=10)[0] == b"%d\n" % (128 + number)
    assert (record(box)["exit_code"], record(box)["signal"]) == (128 + number, number)
    assert (box.state()["ExitCode"], box.state()["Signal"]) == (128 + number, number)


@pytest.mark.parametrize("option", [*MODES, "-t", "--share=pid"])
def test_a_kill_from_outside_is_kept_as_one(box, option):
    box.run("sleep 1000; exit 1", option)
    processes = with_descendants(box.state()["Pid"])
    box("kill", "web")
    assert (record(box)["exit_code"], record(box)["signal"]) == (137, 9)
    state = box.state()
    assert (state["Status"], state["ExitCode"], state["Signal"]) == ("exited", 137, 9)
    assert state["Error"] == ""
    assert are_gone(processes)


def test_all_who_wait_are_told(box):
    box.run("read go; exit 77", "-i")
    waiting = [box.popen("wait", "web", stdout=-1) for _ in range(4)]
    box("attach", "web", input=b"go\n", code=77)
    assert [process.communicate(timeout=10)[0] for process in waiting] == [b"77\n"] * 4


def test_the_record_is_of_one_size_and_no_other_is_left(box):
    box("create", "--name", "web", box.rootfs, "true")
    for number in range(1, 4):
        box("start", "-a", "web")
        names = {path.name for path in box.directory().iterdir()}
        assert {name for name in names if name.startswith("exit")} == {f"exit-{number}.json"}
        assert (box.directory() / f"exit-{number}.json").stat().st_size == 128
        assert not {name for name in names if name.startswith(".")}


# A time limit.


@pytest.mark.parametrize("option", ["--init", "-t"])
def test_a_time_limit_holds_without_the_command_that_set_it(box, option):
    began = time.monotonic()
    box.run("sleep 1000; exit 1", "--timeout=400ms", option)
    assert box("wait", "web", timeout=2).stdout == b"137\n"
    assert 0.4 <= time.monotonic() - began < 5
    assert box.state()["Signal"] == signal.SIGKILL


def test_a_time_limit_that_is_not_reached_does_nothing(box):
    box.run("exit 3", "--timeout=1h")
    assert box("wait", "web").stdout == b"3\n"


def test_the_time_limit_is_each_starts_own(box):
    box.run("exec sleep 1000", "--timeout=300ms")
    assert box("wait", "web", timeout=2).stdout == b"137\n"
    began = time.monotonic()
    box("start", "web")
    assert box("wait", "web", timeout=2).stdout == b"137\n"
    assert time.monotonic() - began >= 0.3


# What it becomes.


@contextlib.contextmanager
def held(box):
    """The lock of the container is ours, so that a command about it waits."""
    with (box.directory() / "lock").open("r+b") as file:
        flock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)  # struct flock
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, flock)
        yield


@pytest.mark.parametrize("options", [("--rm",), ("--restart=on-failure:1",)])
def test_at_the_end_it_becomes_a_command_with_an_environment_of_its_own(
    box, until, options, tmp_path
):
    """The same process, so that nobody else has to be alive; nothing of the caller's is with it."""
    (tmp_path / "minibox.py").write_text("raise SystemExit('not this one')")
    caller = {**os.environ, "PYTHONPATH": str(tmp_path), "SECRET": "x", "LD_DEBUG": "", "HOME": "/"}
    box.run("read go", "-i", *options, env=caller, cwd=tmp_path)
    monitor, directory = box.monitor(), box.directory()
    with held(box):
        box("attach", "web", input=b"go\n")
        words = until(lambda: [w for w in [command_line(monitor)] if b"after" in w])[0]
        assert words[-2:] == [directory.name.encode(), b"1"]
        assert str(box.root).encode() in words
        assert environment(monitor) == {
            b"PATH": b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        }
        until(lambda: str(directory / "lock") in fds(monitor).values())
        found = fds(monitor)
        assert {found[fd] for fd in (0, 1, 2)} == {"/dev/null"}
        # `alive` until it knows what is to be done: so long it is about to start anew.
        known = {"/dev/null", str(directory / "lock"), str(directory / "alive")}
        assert set(found.values()) <= known
        assert int(status(monitor)["SigBlk"], 16) == 0
    until(lambda: are_gone([monitor]))


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def environment(pid):
    items = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")[:-1]
    return dict(item.split(b"=", 1) for item in items)


def test_that_command_finds_this_installation(box, until):
    box.run("read go", "-i", "--rm")
    monitor = box.monitor()
    with held(box):
        box("attach", "web", input=b"go\n")
        words = until(lambda: [w for w in [command_line(monitor)] if b"after" in w])[0]
    (place,) = re.findall(rb"sys.path.insert\(0, '(.*?)'\)", words[3])
    assert Path(os.fsdecode(place), "minibox/__init__.py").exists()


def test_without_a_policy_it_becomes_nothing(box, until):
    box.run("exit 5")
    box("wait", "web")
    assert box.state()["Status"] == "exited"
    with pytest.raises(ProcessLookupError):
        os.kill(box.state()["ConmonPid"] or 1 << 30, 0)


# Health checks.


def test_it_checks_the_health_again_and_again(box, until):
    options = ("--health-interval=100ms", "--health-retries=2", "--tmpfs=/tmp")
    box.run("exec sleep 1000", "--health-cmd=cat /tmp/well", *options)

    def health():
        return box.state()["Health"]

    until(lambda: health()["Status"] == "unhealthy")
    assert health()["FailingStreak"] >= 2
    assert health()["Log"][-1]["ExitCode"] == 1
    box("exec", "web", "/bin/sh", "-c", "echo fine > /tmp/well")
    until(lambda: health()["Status"] == "healthy")
    assert health()["FailingStreak"] == 0
    assert health()["Log"][-1]["Output"] == "fine\n"
    assert "(healthy)" in box.ps()["web"]


HEALTH = ("--health-interval=100ms", "--health-start-period=1s", "--tmpfs=/tmp")


def test_a_check_that_takes_long_is_not_begun_twice_and_ends_with_the_container(box, until):
    box.run("exec sleep 1000", "--health-cmd=echo $$ >> /tmp/begun; sleep 1000", *HEALTH)
    monitor = box.monitor()
    # Two children: the container and the check. Ten times the interval pass.
    until(lambda: len(children(monitor)) == 2)
    script = "timeout 1 sh -c 'until test $(wc -l < /tmp/begun) -gt 1; do sleep 0.05; done'"
    box("exec", "web", "/bin/sh", "-c", script, code=143)
    assert len(children(monitor)) == 2
    processes = with_descendants(monitor)
    box("stop", "-t", "0", "web")
    assert are_gone(processes)


def children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_a_check_dies_with_the_monitor(box, until):
    box.run("exec sleep 1000", "--health-cmd=exec sleep 2000", *HEALTH)
    monitor = box.monitor()
    until(lambda: [b"sleep", b"2000"] in [command_line(pid) for pid in with_descendants(monitor)])
    processes = with_descendants(monitor)
    os.kill(monitor, signal.SIGKILL)
    until(lambda: are_gone(processes))


def test_the_monitor_of_a_checked_container_stays_small(box, until):
    """It forks for each check; what the check needs is not its own."""
    box.run("exec sleep 1000", "--health-cmd=true", *HEALTH)
    until(lambda: len(box.state()["Health"]["Log"]) == 5)
    assert memory(box.monitor()) <= MEMORY


def test_pidfds_know_it(box):
    """What inspect calls its monitor is a process that ends when the container is stopped."""
    box.run("exec sleep 1000")
    pidfd = core.pidfd_open(box.monitor())
    box("stop", "-t", "0", "web")
    assert os.waitid(os.P_PIDFD, pidfd, os.WEXITED).si_status == 0
    os.close(pidfd)
