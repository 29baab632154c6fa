# SPDX-License-Identifier: Apache-2.0
"""SIGKILL of the supervisor, at any moment: a second later there is no trace of the container."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import minibox

COMMAND = str(Path(sys.executable).with_name("minibox"))
LAUNCH = "rt_sigaction(SIGCHLD, {sa_handler=SIG_DFL, sa_mask=[], sa_flags=0}, NULL"
PLANS = {
    "default": (),
    "init": ("--init",),
    "the host's ids": ("--userns", "host"),
    "overlay": ("--overlay", "--tmpfs", "/tmp"),
}
STAY = ("/bin/sleep", "1000")


@pytest.fixture
def works(rootfs, command):
    """`works(options)`: the same command, at once."""

    def works(options):
        done = command.run("run", *options, rootfs, "/bin/echo", "again")
        return (done.returncode, done.stdout, done.stderr) == (0, b"again\n", b"")

    return works


@pytest.mark.parametrize("options", PLANS.values(), ids=PLANS.keys())
def test_killed_before_any_of_its_system_calls(
    command, rootfs, unchanged, tmp_path, no_process_left, works, options, killed
):
    """strace traces the supervisor alone, so nothing of the container's is held by it."""
    lines = command.trace(tmp_path / "trace", "run", *options, rootfs, "/bin/true")
    calls = command.numbered(lines, LAUNCH)
    assert len(calls) > 30
    problems = []
    for i, (name, k) in enumerate(calls):
        if name == "rt_sigreturn":
            continue
        fault = f"{name}:signal=KILL:when={k}"
        done = command.inject(fault, "run", *options, rootfs, "/bin/true", follow=False)
        # SIGCHLD and the pidfd may be ready at once or in turn: one poll and read more or less.
        is_missed = name in ("poll", "read") and done.returncode == 0
        if done.returncode != killed and name != "exit_group" and not is_missed:
            problems.append(f"{fault}: not killed, but {done.returncode}: {done.stderr!r}")
        if done.stderr:
            problems.append(f"{fault}: {done.stderr!r}")
        if not no_process_left():
            problems.append(f"{fault}: a process is left")
        if i % 8 == 0 and not works(options):
            problems.append(f"{fault}: the command does not work again")
    assert problems == []


@pytest.mark.parametrize("options", PLANS.values(), ids=PLANS.keys())
def test_killed_at_random_moments_of_the_start(rootfs, unchanged, no_process_left, works, options):
    """Without strace: 75 times each, from the interpreter's start to a while after the exec."""
    rng = random.Random(f"minibox {options}")
    whole = _seconds_of_a_start(options, rootfs)
    problems = []
    for _ in range(75):
        # The second half is where the container is made.
        after = whole * rng.uniform(0.4, 1.3)
        supervisor = _start(options, rootfs)
        deadline = time.monotonic() + after
        while time.monotonic() < deadline:
            pass  # a sleep is not exact enough
        supervisor.kill()
        supervisor.wait()
        if not no_process_left():
            problems.append(f"killed after {after * 1000:.2f} ms: a process is left")
    assert problems == []
    assert works(options)


def _start(options, rootfs):
    return subprocess.Popen(
        [COMMAND, "run", *options, rootfs, *STAY],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _seconds_of_a_start(options, rootfs):
    """Until the command says that it runs."""
    began = time.monotonic()
    argv = [COMMAND, "run", *options, rootfs, "/bin/true"]
    subprocess.run(argv, stdin=subprocess.DEVNULL, check=True)
    return time.monotonic() - began


@pytest.mark.parametrize("options", PLANS.values(), ids=PLANS.keys())
def test_killed_while_the_command_runs(rootfs, unchanged, no_process_left, works, options):
    """With children, one of which has left the session and ignores every signal."""
    script = "trap '' TERM HUP INT; setsid sleep 1000 & sleep 1000 & echo up; wait"
    supervisor = subprocess.Popen(
        [COMMAND, "run", *options, rootfs, "/bin/sh", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    with supervisor:
        assert supervisor.stdout.readline() == b"up\n"
        supervisor.kill()
        # Only when every process of the container has gone does the pipe end.
        assert supervisor.stdout.read() == b""
    assert supervisor.returncode == -signal.SIGKILL
    assert no_process_left()
    assert works(options)


@pytest.fixture
def peer(rootfs):
    """Made before the test looks at what runs."""
    with minibox.Container(["/bin/sleep", "1000"], rootfs=rootfs) as peer:
        yield peer


def test_killed_while_it_shares_another_containers_namespaces(
    rootfs, unchanged, peer, no_process_left
):
    """The one that has joined dies with its own supervisor, the other stays."""
    joins = [f"--join={kind}={peer.pid}" for kind in ("user", "pid", "net", "ipc")]
    supervisor = subprocess.Popen(
        [COMMAND, "run", *joins, rootfs, "/bin/sh", "-c", "echo up; sleep 1000"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    with supervisor:
        assert supervisor.stdout.readline() == b"up\n"
        supervisor.kill()
        supervisor.wait()
    assert no_process_left()
    assert peer.wait(0) is None


JOINED = """
import sys, minibox
first = minibox.Container(["/bin/sleep", "1000"], rootfs=sys.argv[1]).start()
joins = [f"user={first.pid}", f"pid={first.pid}"]
second = minibox.Container(["/bin/sleep", "1000"], rootfs=sys.argv[1], join=joins).start()
first.kill()
print(first.wait().signal, second.wait().signal)
"""


def test_a_container_ends_although_one_that_joined_it_has_not_been_waited_for(
    rootfs, no_process_left
):
    """The first process of a pid namespace ends when all others are reaped, and one that joined
    from outside is its maker's to reap (pid_namespaces(7))."""
    program = subprocess.Popen([sys.executable, "-I", "-c", JOINED, rootfs], stdout=subprocess.PIPE)
    try:
        out, _ = program.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        out = b"it hangs"
        program.kill()
        program.communicate()
    assert out == b"9 9\n"
    assert no_process_left()


LIBRARY = """
import resource, sys, minibox
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
containers = [minibox.Container(["/bin/sleep", "1000"], rootfs=sys.argv[1], init=k % 2 == 1)
              for k in range(6)]
for container in containers:
    container.start()
print(*[container.pid for container in containers], flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_the_containers_of_a_program_die_with_it(rootfs, unchanged, no_process_left, end):
    program = subprocess.Popen(
        [sys.executable, "-I", "-c", LIBRARY, rootfs],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with program:
        pids = program.stdout.readline().split()
        assert len(pids) == 6
        program.send_signal(end)
    assert program.returncode == -end
    assert no_process_left()
    assert not any(os.path.exists(f"/proc/{int(pid)}") for pid in pids)


def test_a_container_dies_with_a_program_that_leaves_without_cleaning_up(
    rootfs, unchanged, no_process_left
):
    program = LIBRARY.replace("sys.stdin.read()", "import os; os._exit(7)")
    done = subprocess.run([sys.executable, "-I", "-c", program, rootfs], stdin=subprocess.DEVNULL)
    assert done.returncode == 7
    assert no_process_left()


def test_a_killed_parent_of_the_supervisor_leaves_the_container_alone(rootfs, no_process_left):
    """As docker's command does: the container is the supervisor's, not its shell's."""
    inner = "/bin/sh -c 'echo up; read x; echo $x'"
    script = f"exec 3<&0; {COMMAND} run {rootfs} {inner} <&3 & echo shell; wait"
    with subprocess.Popen(
        ["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as shell:
        assert {shell.stdout.readline(), shell.stdout.readline()} == {b"up\n", b"shell\n"}
        shell.kill()
        shell.wait()
        shell.stdin.write(b"still here\n")
        shell.stdin.flush()
        assert shell.stdout.read() == b"still here\n"
    assert no_process_left()
