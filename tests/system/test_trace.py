# SPDX-License-Identifier: Apache-2.0
"""minibox trace: what programs do with processes, namespaces and mounts, as a tracer sees it."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
from collections import Counter
from pathlib import Path

import pytest

import minibox
from minibox import core, tracing
from minibox import syscalls as sc
from minibox.errors import Unsupported
from minibox.numbers import NUMBERS
from minibox.tracing import tree
from tests.ordinary import DROP, uncover

COMMAND = Path(sys.executable).with_name("minibox")
FAMILY = ("clone", "clone3", "fork", "vfork")


def made(seen):
    return [event for event in seen.events if event.makes_a_task]


def ends(seen):
    return {event.tid: event.text for event in seen.events if event.ended}


@pytest.fixture
def traced(cli, tmp_path):
    """`traced("sh", "-c", "true")`: the finished command, and the lines of its trace."""

    def run(*words, **how):
        done = cli("trace", "--output", tmp_path / "trace", "--", *words, **how)
        return done, (tmp_path / "trace").read_text().splitlines()

    return run


# What strace sees.

THREAD_IN_CHILD = """
import os, threading
if os.fork() == 0:
    thread = threading.Thread(target=int); thread.start(); thread.join()
    os._exit(0)
os.wait()
"""
PROGRAMS = {
    "fork and thread": [sys.executable, "-ISc", THREAD_IN_CHILD],
    "posix_spawn": [sys.executable, "-ISc", "import subprocess; subprocess.run(['/bin/true'])"],
    "pipeline": ["sh", "-c", "echo a | cat | cat; /bin/true"],
    "namespaces": ["unshare", "-pfmu", "sh", "-c", "/bin/true; exit 0"],
}


def straced(words, directory):
    """(call, flags, exit signal) of each clone-family call that strace shows, with how often."""
    log = directory / "log"
    options = ["-ff", "-qq", "-o", log, "-e", f"trace={','.join(FAMILY)}"]
    subprocess.run(["strace", *options, *words], check=True, capture_output=True, timeout=60)
    found = Counter()
    for file in directory.glob("log.*"):
        for line in file.read_text().splitlines():
            call = line.partition("(")[0]
            if call in FAMILY:
                text = re.search(r"flags=([A-Z_|0-9a-z]+)", line)
                names = set(text[1].split("|")) - {"0"} if text else set()
                end = re.search(r"exit_signal=(\w+)", line)
                end = {end[1]} if end else {name for name in names if name.startswith("SIG")}
                flags = frozenset(name for name in names if name.startswith("CLONE_"))
                found[call, flags, next(iter(end - {"0"}), 0)] += 1
    return found


@pytest.mark.parametrize("words", PROGRAMS.values(), ids=PROGRAMS)
def test_it_sees_what_strace_sees(words, tmp_path):
    seen = tracing.trace(words)
    # Of vfork strace shows no arguments: what it means is in the manual.
    ours = Counter(
        (event.call, event.flags, event.args["exit_signal"])
        if event.call not in ("fork", "vfork")
        else (event.call, frozenset(), 0)
        for event in seen.events
        if event.call in FAMILY
    )
    assert ours
    assert ours == straced(words, tmp_path)


def test_a_thread_is_shown_with_all_its_words():
    seen = tracing.trace([sys.executable, "-ISc", THREAD_IN_CHILD])
    fork, thread = made(seen)
    assert fork.args["child_tid_holds"] == fork.child == fork.result
    assert thread.args["parent_tid_holds"] == thread.child
    assert thread.args["parent_tid"] == thread.args["child_tid"]
    assert thread.args["stack"] and thread.args["tls"] and thread.args["exit_signal"] == 0
    assert thread.pid == fork.child
    assert f"parent_tid={thread.args['parent_tid']:#x} [{thread.child}]" in thread.text
    first, child = seen.processes
    assert (child.parent, child.threads, first.threads) == (first.pid, [thread.child], [])


def test_a_parents_line_is_before_its_childs():
    seen = tracing.trace(["sh", "-c", "/bin/true; true & wait; /bin/true"])
    known = {seen.processes[0].pid}
    for event in seen.events:
        assert event.tid in known, event.text
        known.add(event.child)


def test_pids_are_those_of_the_caller():
    seen = tracing.trace(["unshare", "-pf", "sh", "-c", "/bin/true; exit 0"])
    init, inner = made(seen)
    assert init.args["child_tid_holds"] == 1
    assert init.result == init.child
    assert inner.result == 2 != inner.child
    assert inner.text.endswith(f"= 2 /* {inner.child} outside */")


# Namespaces and mounts.


def test_namespaces_are_numbered(traced):
    script = "unshare -u /bin/true; unshare -u sh -c 'unshare -u /bin/true; exit 0'"
    seen = tracing.trace(["sh", "-c", script])
    changed = [event.namespaces for event in seen.events if event.call == "unshare"]
    assert changed == [{"uts": 1}, {"uts": 2}, {"uts": 3}]
    assert [one.namespaces["uts"] for one in seen.processes] == [0, 1, 2, 3]
    lines = list(tree.lines(seen.processes))
    assert lines[-1].endswith("/bin/true [uts:3] - exited with 0")
    assert lines[-1].startswith("   └─ ")


def test_a_namespace_that_is_joined_keeps_its_number():
    def join():
        own = os.open("/proc/self/ns/uts", os.O_RDONLY)
        core.syscall(NUMBERS["unshare"], sc.CLONE_NEWUTS)
        core.syscall(NUMBERS["setns"], own, sc.CLONE_NEWUTS)

    seen = tracing.trace(join)
    unshare, setns = [event for event in seen.events if event.call]
    assert (unshare.namespaces, setns.namespaces) == ({"uts": 1}, {"uts": 0})
    assert re.fullmatch(r"setns\(\d+<uts:\[\d+\]>, CLONE_NEWUTS\) = 0", setns.text)


def test_a_container_of_minibox_is_seen(rootfs):
    words = [str(COMMAND), "run", "--net", "none", rootfs, "/bin/sh", "-c", "exit 3"]
    seen = tracing.trace(words)
    assert seen.exit_code == 3
    container = [event for event in made(seen) if "CLONE_NEWPID" in event.flags][-1]
    assert container.call == "clone3"
    assert {"pid", "mnt", "uts", "ipc", "net"} <= set(container.namespaces)
    inside = [event for event in seen.events if event.tid == container.child]
    calls = [event.call for event in inside if event.result == 0 and event.call]
    assert calls.index("pivot_root") < calls.index("execve")
    assert {"mount", "move_mount", "mount_setattr", "umount2"} <= set(calls)
    shell = next(event for event in inside if event.call == "execve")
    assert shell.args["argv"] == ["/bin/sh", "-c", "exit 3"]
    assert ends(seen)[container.child] == "exited with 3"


def test_arguments_have_names():
    def calls():
        mount(b"none", b"/nowhere", b"tmpfs", sc.MS_NOSUID | 1 << 21, b"mode=755")
        mount(None, b"/nowhere", None, 0xC0ED0000 | sc.MS_BIND, None)
        call("open_tree", sc.AT_FDCWD, b"/nowhere\0", sc.OPEN_TREE_CLONE)
        call("fsconfig", 99, sc.FSCONFIG_SET_STRING, b"size\0", b"64k\0", 0)
        call("umount2", b"/nowhere\0", sc.MNT_DETACH)
        os.chroot("/")

    assert [event.text for event in tracing.trace(calls).events[:-1]] == [
        'mount("none", "/nowhere", "tmpfs", MS_NOSUID|MS_RELATIME, "mode=755")'
        " = -1 ENOENT (No such file or directory)",
        'mount(NULL, "/nowhere", NULL, MS_MGC_VAL|MS_BIND, NULL)'
        " = -1 ENOENT (No such file or directory)",
        'open_tree(AT_FDCWD, "/nowhere", OPEN_TREE_CLONE) = -1 ENOENT (No such file or directory)',
        'fsconfig(99, FSCONFIG_SET_STRING, "size", "64k", 0) = -1 EBADF (Bad file descriptor)',
        'umount2("/nowhere", MNT_DETACH) = -1 ENOENT (No such file or directory)',
        'chroot("/") = 0',
    ]


def call(name, *args):
    try:
        return core.syscall(NUMBERS[name], *args)
    except OSError as error:
        return -error.errno


def mount(source, target, fstype, flags, data):
    texts = [None if text is None else text + b"\0" for text in (source, target, fstype, data)]
    call("mount", *texts[:3], flags, texts[3])


# What programs pass that makes no sense.

GARBAGE = {
    "no pointer": (1, 88, "clone3(0x1, 88) = -1 EFAULT (Bad address)"),
    "NULL": (0, 88, "clone3(NULL, 88) = -1 EFAULT (Bad address)"),
    "the kernel's": (1 << 63, 88, "clone3(0x8000000000000000, 88) = -1 EFAULT (Bad address)"),
    "too short": (b"\1" + bytes(87), 16, "16) = -1 EINVAL (Invalid argument)"),
    "too long": (bytes(8192), 8000, "8000) = -1 E2BIG (Argument list too long)"),
    "unknown bits": (struct.pack("=Q", 1 << 60) + bytes(80), 88, "flags=0x1000000000000000"),
    "bad words": (struct.pack("=8Q", sc.CLONE_PIDFD, 1, 2, 3, 17, 0, 0, 5) + bytes(24), 88, "EFAULT"),
    "bad set_tid": (bytes(64) + struct.pack("=QQQ", 1, 1 << 40, 0), 88, "set_tid_size=1099511627776"),
}  # fmt: skip


@pytest.mark.parametrize(("args", "size", "text"), GARBAGE.values(), ids=GARBAGE)
def test_any_clone3_can_be_shown(args, size, text):
    (event,) = [e for e in tracing.trace(lambda: call("clone3", args, size) * 0).events if e.call]
    assert text in event.text
    assert event.error


def test_any_exec_can_be_shown():
    def execs():
        call("execve", 1, 2, 3)
        call("execve", b"/nowhere\0", struct.pack("=QQQ", 1, 1 << 63, 0), None)
        call("execveat", -1, b"x\0", None, None, 0)

    texts = [event.text for event in tracing.trace(execs).events if event.call]
    assert texts[0] == "execve(0x1, 0x2, 0x3 /* 0 vars */) = -1 EFAULT (Bad address)"
    assert texts[1].startswith('execve("/nowhere", ["", ""], NULL /* 0 vars */) = -1 E')
    assert texts[2].endswith("= -1 EBADF (Bad file descriptor)")


# Ends.


@pytest.mark.parametrize("name", ["KILL", "SEGV", "TERM", "ABRT"])
def test_the_command_is_killed(traced, name):
    done, lines = traced("sh", "-c", f"ulimit -c 0; kill -{name} $$")
    number = getattr(signal, f"SIG{name}")
    assert done.returncode == 128 + number
    assert lines[-2].endswith(f" killed by SIG{name}")


def test_children_that_are_killed_at_any_moment_are_seen():
    """Before their first stop, in it, and after it; and parents in the midst of making them."""

    def storm():
        for k in range(60):
            parent = os.fork()
            if parent == 0:
                while True:
                    child = os.fork()
                    if child == 0:
                        os._exit(0)
                    if k % 2:
                        os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
            for _ in range(k * 20):
                pass
            os.kill(parent, signal.SIGKILL)
            os.waitpid(parent, 0)

    seen = tracing.trace(storm)
    assert seen.exit_code == 0
    children = [event for event in made(seen) if event.tid == seen.processes[0].pid]
    assert len(children) == 60
    assert all(ends(seen)[event.child] == "killed by SIGKILL" for event in children)
    assert all(process.ended for process in seen.processes)


def test_families_that_are_killed_at_once_are_seen():
    """A child may be dead before its parent has told of it, and the parent as well."""

    def breed(depth):
        while True:
            if os.fork() == 0:
                if depth:
                    breed(depth - 1)
                os._exit(0)
            try:
                os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                pass

    def families():
        for k in range(12):
            first = os.fork()
            if first == 0:
                os.setpgid(0, 0)
                os.write(write, b"x")
                breed(1)
            os.read(read, 1)
            for _ in range(k * 5000):
                pass
            os.killpg(first, signal.SIGKILL)
            os.waitpid(first, 0)

    read, write = os.pipe()
    seen = tracing.trace(families)
    os.close(read)
    os.close(write)
    assert seen.exit_code == 0
    assert len(seen.processes) > 12
    assert all(process.ended for process in seen.processes)
    assert {event.child for event in made(seen)} <= set(ends(seen))


def test_a_daemon_is_waited_for(traced):
    done, lines = traced("sh", "-c", "(setsid sh -c 'read x; exit 6' &) <&0; exit 4", input=b"x\n")
    assert done.returncode == 4
    assert any(line.endswith(" exited with 6") for line in lines)


def test_a_thread_that_executes_takes_the_process_over():
    source = "import os, threading\nthreading.Thread(target=os.execv, args=('/bin/sh', ['sh', '-c', 'exit 9'])).start()\nthreading.Event().wait()"
    seen = tracing.trace([sys.executable, "-ISc", source])
    assert seen.exit_code == 9
    thread = made(seen)[0].child
    event = [event for event in seen.events if event.call == "execve"][-1]
    assert (event.tid, event.pid, event.result) == (thread, seen.processes[0].pid, 0)
    assert event.text.endswith(f"= 0 /* {event.pid} now */")
    (process,) = seen.processes
    assert (process.command, process.threads) == (["sh", "-c", "exit 9"], [])


def test_many_threads():
    source = "import threading\nthreads = [threading.Thread(target=int) for _ in range(300)]\nfor one in threads: one.start()\nfor one in threads: one.join()"
    seen = tracing.trace([sys.executable, "-ISc", source])
    threads = {event.child for event in made(seen)}
    assert len(threads) == 300
    assert threads <= set(ends(seen))
    assert seen.exit_code == 0


HIDING = [
    sc.CLONE_UNTRACED,
    sc.CLONE_UNTRACED | sc.CLONE_VFORK | sc.CLONE_VM,
    sc.CLONE_UNTRACED | sc.CLONE_PTRACE,
    sc.CLONE_UNTRACED | sc.CLONE_PTRACE | sc.CLONE_VFORK | sc.CLONE_VM,
]


@pytest.mark.parametrize("flags", HIDING, ids=lambda flags: hex(flags))
def test_a_child_that_is_hidden_from_the_tracer(flags):
    """CLONE_UNTRACED: the tracer is told of no child; with CLONE_PTRACE it has it all the same."""
    seen = tracing.trace(lambda: clone(flags))
    (event,) = made(seen)
    assert event.child == 0
    assert seen.exit_code == 0
    assert len(seen.processes) == (2 if flags & sc.CLONE_PTRACE else 1)


def clone(flags, **how):
    with minibox.clone([sc.exit_(3)], flags, **how) as child:
        assert child.wait().exit_code == 3


def test_chosen_pids_are_shown():
    seen = tracing.trace(lambda: clone(sc.CLONE_NEWPID, set_tid=[1]))
    (event,) = made(seen)
    assert event.args["set_tid"] == [1]
    assert ", set_tid=[1], set_tid_size=1}, 88) = " in event.text
    assert event.namespaces == {"pid": 1}


@pytest.mark.parametrize("way", ["clone", "unshare"])
def test_time_namespaces_are_entered_by_children(way):
    def enter():
        if way == "unshare":
            core.syscall(NUMBERS["unshare"], sc.CLONE_NEWTIME)
        clone(sc.CLONE_NEWTIME if way == "clone" else 0)

    (event,) = made(tracing.trace(enter))
    assert event.namespaces == {"time": 1}


# Signals.


def test_a_stop_is_a_stop():
    """The parent is told of it, and of the going on, as without a tracer."""

    def stops():
        read, write = os.pipe()
        child = os.fork()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest's own deadline has a handler
        signal.alarm(20)
        if child == 0:
            os.setpgid(0, 0)  # SIGTSTP stops nobody of an orphaned process group
            signal.signal(signal.SIGUSR1, lambda *_: os._exit(5))
            os.kill(os.getpid(), signal.SIGSTOP)
            os.write(write, b"it runs")
            while True:
                signal.pause()
        os.waitid(os.P_PID, child, os.WSTOPPED | os.WNOWAIT)
        assert select.select([read], [], [], 0.1)[0] == []
        for _ in range(3):
            assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
            os.kill(child, signal.SIGCONT)
            assert os.WIFCONTINUED(os.waitpid(child, os.WCONTINUED)[1])
            os.kill(child, signal.SIGTSTP)
        assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
        os.kill(child, signal.SIGUSR1)
        os.kill(child, signal.SIGCONT)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert tracing.trace(stops).exit_code == 5


def test_signals_keep_what_they_carry():
    source = """
import signal
signal.alarm(20)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
found = []
signal.signal(signal.SIGUSR1, lambda *_: found.append(1))
import os
for _ in range(100): os.kill(os.getpid(), signal.SIGUSR1)
os.kill(os.getpid(), signal.SIGTERM)
info = signal.sigwaitinfo({signal.SIGTERM})
raise SystemExit(7 if len(found) == 100 and info.si_pid == os.getpid() else 1)
"""
    assert tracing.trace([sys.executable, "-ISc", source]).exit_code == 7


def test_what_is_sent_to_the_tracer_is_the_commands(tmp_path):
    script = "trap 'exit 7' TERM; echo ready; while :; do read x; done"
    process = begin("sh", "-c", script, output=tmp_path / "trace", stdin=subprocess.PIPE)
    process.send_signal(signal.SIGTERM)
    process.stdin.close()
    assert process.wait(20) == 7
    process.stdout.close()


def begin(*words, output, **how):
    """A traced command that has printed `ready`."""
    argv = [str(COMMAND), "trace", "-o", str(output), "--", *words]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, **how)
    assert process.stdout.readline() == b"ready\n"
    return process


def test_with_the_command_gone_a_signal_ends_what_is_left(tmp_path, until):
    script = "setsid sh -c 'echo ready; exec sleep 1000' & exit 6"
    process = begin("sh", "-c", script, output=tmp_path / "trace", stdin=subprocess.DEVNULL)
    trace = tmp_path / "trace"
    pid = trace.read_text().split()[0]
    until(lambda: f"{pid} exited with 6" in trace.read_text())
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 6
    assert process.stdout.read() == b""  # all who had it are gone
    process.stdout.close()


def test_a_tracer_that_is_killed_leaves_nobody(tmp_path, until):
    script = "sh -c 'kill -STOP $$' & echo ready; wait"
    process = begin("sh", "-c", script, output=tmp_path / "trace", stdin=subprocess.DEVNULL)
    process.kill()
    assert process.communicate(timeout=20) == (b"", None)  # all who had it are gone


def test_control_c_is_the_commands(tmp_path):
    master, slave = os.openpty()

    def take_terminal():
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    # No shell before it: that one catches SIGINT until it execs, and then forgets it.
    words = ["trace", "-o", tmp_path / "trace", "--", "tail", "-f", tmp_path / "text"]
    (tmp_path / "text").write_text("ready")
    streams = {"stdin": slave, "stdout": slave, "stderr": slave}
    process = subprocess.Popen([COMMAND, *words], preexec_fn=take_terminal, **streams)  # noqa: PLW1509
    os.close(slave)
    data = b""
    while b"ready" not in data:
        assert select.select([master], [], [], 20)[0], data
        data += os.read(master, 100)
    os.write(master, b"\3")
    try:
        assert process.wait(20) == 128 + signal.SIGINT
    finally:
        process.kill()
        process.wait()
        os.close(master)
    *_, end, line = (tmp_path / "trace").read_text().splitlines()
    assert end.endswith(" killed by SIGINT")
    assert line.endswith(" - killed by SIGINT")


@pytest.mark.parametrize("field", ["SigBlk", "SigIgn", "SigCgt"])
@pytest.mark.parametrize("ignores", [False, True])
def test_the_command_inherits_what_it_would_inherit(traced, field, ignores):
    def prepare():
        if ignores:
            for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)

    words = ["grep", field, "/proc/self/status"]
    alone = subprocess.run(words, capture_output=True, check=True, preexec_fn=prepare)
    done, _ = traced(*words, preexec_fn=prepare)
    assert (done.returncode, done.stdout) == (0, alone.stdout)


# The command line.


def test_the_streams_are_the_commands(cli):
    done = cli("trace", "--", "sh", "-c", "cat; echo error >&2; exit 5", input=b"text")
    assert (done.returncode, done.stdout) == (5, b"text")
    lines = done.stderr.decode().splitlines()
    assert "error" in lines
    assert lines[0].endswith(" = 0") and "execve(" in lines[0]
    assert lines[-1].endswith("exit 5 - exited with 5") or "- exited with 5" in lines[-2]


def test_quiet_is_the_tree_alone(cli):
    done = cli("trace", "-q", "sh", "-c", "/bin/true; exit 0")
    first, second = done.stderr.decode().splitlines()
    assert re.fullmatch(r"\d+ sh -c /bin/true; exit 0 - exited with 0", first)
    assert re.fullmatch(r"└─ \d+ /bin/true - exited with 0", second)


def test_json_has_the_events_and_the_tree(cli):
    done = cli("trace", "--json", "--", "sh", "-c", "/bin/true; exit 3")
    data = json.loads(done.stderr)
    assert (done.returncode, data["exit_code"], data["command"][0]) == (3, 3, "sh")
    clone = next(event for event in data["events"] if event.get("child"))
    parent, child = data["processes"]
    assert (clone["tid"], clone["child"]) == (parent["pid"], child["pid"])
    assert (child["parent"], child["command"]) == (parent["pid"], ["/bin/true"])
    assert child["ended"] == "exited with 0"


NONE = {
    "not in PATH": (["no-such-command"], 127, "no-such-command: command not found"),
    "no such file": (["/no/such"], 127, "/no/such: No such file or directory"),
    "a directory": (["/tmp"], 126, "/tmp: Permission denied"),
    "no program": (["/etc/passwd"], 126, "/etc/passwd: Permission denied"),
    "empty": ([""], 125, "COMMAND: it is empty"),
}


@pytest.mark.parametrize(("words", "code", "message"), NONE.values(), ids=NONE)
def test_no_command(cli, words, code, message):
    done = cli("trace", *words)
    assert (done.returncode, done.stdout) == (code, b"")
    assert done.stderr.decode() == f"minibox: {message}\n"


def test_an_output_that_cannot_be_written(cli):
    done = cli("trace", "-o", "/no/such/file", "true")
    assert done.returncode == 125
    assert done.stderr == b"minibox: --output: /no/such/file: No such file or directory\n"
    done = cli("trace", "-o", "", "--", "true")
    assert done.returncode == 125
    assert done.stderr == b"minibox: --output: empty: No such file or directory\n"


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_do_not_matter_to_an_output(tmp_path, closed):
    """Without one the trace is lost, and the command runs."""
    path = tmp_path / "trace"
    for output in (f"-o {shlex.quote(str(path))}", ""):
        words = f"{shlex.quote(str(COMMAND))} trace {output} sh -c 'exit 7' {closed}"
        assert subprocess.run(["sh", "-c", words], capture_output=True).returncode == 7
    assert "exited with 7" in path.read_text()


def test_children_from_before_are_not_waited_for():
    script = 'sleep 1000 & echo $!; exec "$@"'
    words = ["sh", "-c", script, "sh", str(COMMAND), "trace", "-q", "--", "true"]
    done = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    pid = int(done.stdout.readline())
    try:
        assert done.wait(20) == 0
    finally:
        os.kill(pid, signal.SIGKILL)
        done.stdout.close()
        done.stderr.close()


def test_other_children_of_the_library_s_user_are_his():
    other = subprocess.Popen(["sh", "-c", "exit 3"])
    tracing.trace(["true"])
    assert other.wait() == 3


def test_no_command_for_the_library():
    with pytest.raises(FileNotFoundError):
        tracing.trace(["/no/such"])


# Where it may not.

DENY = struct.pack(
    "=HBBIHBBIHBBIHBBI",
    *(0x20, 0, 0, 0),  # the call's number
    *(0x15, 0, 1, {"x86_64": 101, "aarch64": 117}[os.uname().machine]),  # ptrace
    *(0x06, 0, 0, 0x00050001),  # EPERM
    *(0x06, 0, 0, 0x7FFF0000),  # allowed
)


def deny_ptrace():
    program = ctypes.create_string_buffer(DENY, len(DENY))
    fprog = struct.pack("=HxxxxxxQ", len(DENY) // 8, ctypes.addressof(program))
    ctypes.CDLL(None).prctl(22, 2, fprog, 0, 0)


def test_where_ptrace_is_forbidden_it_says_so(cli):
    done = cli("trace", "true", preexec_fn=deny_ptrace)
    assert done.returncode == 125
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("minibox: ptrace is forbidden here")


def test_where_ptrace_is_forbidden_the_library_says_so():
    def inner():
        deny_ptrace()
        try:
            tracing.trace(["true"])
        except Unsupported as error:
            return 0 if "forbidden" in str(error) else 1
        return 2

    pid = os.fork()
    if pid == 0:
        os._exit(inner())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_an_ordinary_user_may_trace_his_own():
    words = [COMMAND, "trace", "-q", "--", "unshare", "-Upf", "sh", "-c", "/bin/true; exit 4"]
    script = uncover() + "\nexec " + " ".join([*DROP, *map(str, words[:-1]), "'/bin/true; exit 4'"])
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, timeout=60)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 4, lines
    assert "[pid:1 user:1] - exited with 4" in lines[1], lines
    assert lines[2].startswith("   └─ ")


def test_an_ordinary_user_s_container_is_seen(rootfs):
    inner = ["run", "--net", "none", rootfs, "/bin/sh", "-c", "'exit 3'"]
    words = [*DROP, COMMAND, "trace", "--", COMMAND, *inner]
    script = uncover() + "\nexec " + " ".join(map(str, words))
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, timeout=60)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 3, lines
    assert any('pivot_root(".", ".") = 0' in line for line in lines)
    assert re.search(r"/bin/sh -c exit 3 \[.*mnt:1.*pid:1.*\] - exited with 3", lines[-1])


def test_a_tracer_is_alone():
    seen = tracing.trace([str(COMMAND), "trace", "true"])
    assert seen.exit_code == 125


def test_a_proc_of_another_namespace_is_refused():
    words = ["unshare", "-pf", COMMAND, "trace", "true"]
    done = subprocess.run(words, capture_output=True, timeout=60)
    assert done.returncode == 125
    assert done.stderr == b"minibox: /proc is that of another pid namespace: mount it anew\n"


# 32 bits.

I386 = r"""
static long call(long n, long a, long b, long c, long d, long e) {
    long r;
    __asm__ volatile("int $0x80" : "=a"(r) : "a"(n), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
    return r;
}
static char *argv[] = {"/bin/sh", "-c", "exit 5", 0};
void _start(void) {
    if (call(2, 0, 0, 0, 0, 0) == 0) call(1, 3, 0, 0, 0, 0);
    call(114, -1, 0, 0, 0, 0);
    if (call(120, 0x4000011, 0, 0, 0, 0) == 0) call(1, 4, 0, 0, 0, 0);
    call(114, -1, 0, 0, 0, 0);
    call(21, (long)"none", (long)"/nowhere", (long)"tmpfs", 2, 0);
    call(11, (long)"/bin/sh", (long)argv, 0, 0, 0);
}
"""


def test_a_program_of_32_bits(tmp_path):
    if os.uname().machine != "x86_64":
        pytest.skip("this kernel has no i386")
    (tmp_path / "i386.c").write_text(I386)
    options = ["-m32", "-O1", "-nostdlib", "-static", "-ffreestanding", "-fno-pic", "-no-pie"]
    subprocess.run(["gcc", *options, "-o", tmp_path / "i386", tmp_path / "i386.c"], check=True)
    try:
        seen = tracing.trace([str(tmp_path / "i386")])
    except OSError:
        pytest.skip("this kernel has no i386")
    assert seen.exit_code == 5
    _, fork, _, clone, _, mounted, execed, _ = [event.text for event in seen.events]
    assert fork == f"/* i386 */ fork() = {seen.processes[1].pid}"
    assert clone.startswith("/* i386 */ clone(flags=CLONE_NEWUTS, exit_signal=SIGCHLD, stack=NULL)")
    assert mounted.startswith('/* i386 */ mount("none", "/nowhere", "tmpfs", MS_NOSUID, NULL) = -1')
    assert (
        execed == '/* i386 */ execve("/bin/sh", ["/bin/sh", "-c", "exit 5"], NULL /* 0 vars */) = 0'
    )
    assert [one.namespaces["uts"] for one in seen.processes] == [0, 0, 1]
