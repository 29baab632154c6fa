# SPDX-License-Identifier: Apache-2.0
"""The library in the programs that use it: results, errors, threads, and nothing left behind."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import gc
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import minibox
from tests.conftest import PATIENCE

DEADLINE = 10.0 * PATIENCE
PR_GET_DUMPABLE = 3
MEBIBYTE = 1 << 20


def shell(script):
    return ["/bin/sh", "-c", script]


def fds():
    return set(os.listdir("/proc/self/fd"))


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def eventually(check, timeout=DEADLINE):
    deadline = time.monotonic() + timeout
    while not (found := check()):
        assert time.monotonic() < deadline, "it has not happened in time"
        time.sleep(0.002)
    return found


def children():
    """Of every thread of this process."""
    found = set()
    for task in os.listdir("/proc/self/task"):
        try:
            found |= set(Path(f"/proc/self/task/{task}/children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def in_python(source, *prefix):
    """Run a program in another Python: its stdout as text."""
    head = "import os, signal, subprocess, sys, threading, time\nimport minibox\n"
    words = [*prefix, sys.executable, "-I", "-c", head + source]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


# run.


def test_a_result_says_everything(rootfs):
    began = time.monotonic()
    result = minibox.run(shell("echo out; echo err >&2; sleep 0.1; exit 3"), rootfs=rootfs)
    took = time.monotonic() - began
    assert (result.exit_code, result.signal, result.timed_out) == (3, None, False)
    assert (result.stdout, result.stderr, result.truncated) == (b"out\n", b"err\n", False)
    assert 0.1 <= result.duration <= took
    assert isinstance(result, minibox.Result)
    with pytest.raises(AttributeError):
        result.exit_code = 0


def test_input_is_what_stdin_gives(rootfs):
    for data in (b"", b"x", bytes(range(256)) * 40_000):
        assert minibox.run(["cat"], rootfs=rootfs, input=data).stdout == data


def test_input_that_nobody_reads_is_no_error(rootfs):
    result = minibox.run(shell("exit 4"), rootfs=rootfs, input=b"x" * 10 * MEBIBYTE)
    assert result.exit_code == 4


def test_input_stops_when_the_command_closes_its_stdin(rootfs):
    script = "head -c 3; exec <&-; sleep 0.1; echo; exit 4"
    result = minibox.run(shell(script), rootfs=rootfs, input=b"abc" * MEBIBYTE)
    assert (result.exit_code, result.stdout) == (4, b"abc\n")


def test_both_streams_can_be_flooded_at_once(rootfs):
    script = "head -c 3000000 /dev/zero & head -c 3000000 /dev/zero >&2; wait"
    result = minibox.run(shell(script), rootfs=rootfs)
    assert (len(result.stdout), len(result.stderr), result.truncated) == (
        3_000_000,
        3_000_000,
        False,
    )


def test_without_capture_the_streams_are_the_programs(rootfs, capfd):
    result = minibox.run(shell("echo out; echo err >&2"), rootfs=rootfs, capture=False)
    assert (result.stdout, result.stderr) == (b"", b"")
    assert capfd.readouterr() == ("out\n", "err\n")


def test_a_flood_is_kept_up_to_the_limit_and_does_not_block(rootfs):
    before = resident()
    result = minibox.run(
        shell("head -c 200000000 /dev/zero; echo end >&2; exit 5"), rootfs=rootfs, output_limit=1000
    )
    assert (result.exit_code, result.stdout, result.stderr) == (5, bytes(1000), b"end\n")
    assert result.truncated
    assert resident() - before < 4 * MEBIBYTE


@pytest.mark.parametrize(("size", "truncated"), [(999, False), (1000, False), (1001, True)])
def test_the_limit_is_exact(rootfs, size, truncated):
    script = f"head -c {size} /dev/zero"
    result = minibox.run(shell(script), rootfs=rootfs, output_limit=1000)
    assert (len(result.stdout), result.truncated) == (min(size, 1000), truncated)


@pytest.mark.parametrize(
    "options", [{}, {"init": True}, {"userns": "host"}, {"share": ["pid"]}], ids=str
)
def test_after_the_time_limit_the_whole_container_is_gone(rootfs, options):
    before = children()
    script = "echo begun; (setsid sleep 100 &); sleep 100 & sleep 100"
    result = minibox.run(shell(script), rootfs=rootfs, timeout=0.3, **options)
    assert (result.exit_code, result.signal, result.timed_out) == (137, 9, True)
    assert result.stdout == b"begun\n"
    assert 0.3 <= result.duration < 5
    try:
        eventually(lambda: children() <= before, 1)
    finally:
        end(children() - before)


def end(pids):
    """Kill what a failure has left."""
    for pid in pids:
        os.kill(int(pid), signal.SIGKILL)
        os.waitpid(int(pid), 0)


def test_a_background_process_that_keeps_stdout_does_not_keep_run(rootfs):
    result = minibox.run(shell("sleep 100 & echo over"), rootfs=rootfs)
    assert result.stdout == b"over\n"
    assert result.duration < 5


def test_a_time_limit_that_is_long_enough_changes_nothing(rootfs):
    result = minibox.run(shell("exit 6"), rootfs=rootfs, timeout=60)
    assert (result.exit_code, result.timed_out) == (6, False)


# Errors.


@pytest.mark.parametrize(
    ("args", "options", "kind", "number"),
    [
        (["/no/such"], {}, minibox.CommandNotFound, errno.ENOENT),
        (["/etc"], {}, minibox.CannotExecute, errno.EACCES),
        (["/bin/true"], {"workdir": "/no/such"}, minibox.SetupError, errno.ENOENT),
        (["/bin/true"], {"workdir": "/etc/passwd"}, minibox.SetupError, errno.ENOTDIR),
        (["/bin/true"], {"volumes": ["/no/such:/mnt"]}, minibox.SpecError, None),
        (["/bin/true"], {"userns": "some"}, minibox.SpecError, None),
        (["/bin/true"], {"share": ["mnt"]}, minibox.SpecError, None),
        ("/bin/true", {}, minibox.SpecError, None),
        ([], {}, minibox.SpecError, None),
    ],
)
def test_an_error_has_its_class_and_errno(rootfs, args, options, kind, number):
    before = fds()
    with pytest.raises(kind) as caught:
        minibox.run(args, rootfs=rootfs, **options)
    assert isinstance(caught.value, minibox.MiniboxError)
    if number:
        assert isinstance(caught.value, OSError)
        assert caught.value.errno == number
    assert fds() == before


def test_a_set_up_error_says_which_step_it_was(rootfs):
    with pytest.raises(minibox.SetupError) as caught:
        minibox.run(["/bin/true"], rootfs=rootfs, workdir="/no/such")
    error = caught.value
    assert 0 < error.step <= error.steps
    assert "/no/such" in str(error)
    assert f"step {error.step} of {error.steps}" in str(error)


def test_a_missing_root_is_an_error(tmp_path):
    for path in (tmp_path / "none", __file__, ""):
        with pytest.raises(minibox.SpecError):
            minibox.run(["/bin/true"], rootfs=path)


def test_an_unknown_option_is_no_option(rootfs):
    with pytest.raises((TypeError, minibox.SpecError)):
        minibox.run(["/bin/true"], rootfs=rootfs, no_such_option=True)


# Container.


def test_a_container_is_started_waited_for_and_closed(rootfs):
    before = fds()
    container = minibox.Container(shell("read x; exit 5"), rootfs=rootfs, stdin="pipe")
    with pytest.raises(minibox.StateError):
        container.wait()
    with pytest.raises(minibox.StateError):
        container.kill()
    assert container.start() is container
    assert Path(f"/proc/{container.pid}/root/bin/busybox").exists()
    with pytest.raises(minibox.StateError):
        container.start()
    assert container.wait(0.05) is None, "the second start() has ended it"
    container.stdin.write(b"\n")
    assert container.wait().exit_code == 5
    assert container.wait(0).exit_code == 5
    assert not container.kill()
    container.close()
    container.close()
    assert fds() == before


def test_three_pipes_are_a_conversation(rootfs):
    script = "while read line; do echo $line back; echo $line too >&2; done"
    pipes = {"stdin": "pipe", "stdout": "pipe", "stderr": "pipe"}
    with minibox.Container(shell(script), rootfs=rootfs, **pipes) as container:
        for word in (b"one", b"two"):
            container.stdin.write(word + b"\n")
            assert container.stdout.readline() == word + b" back\n"
            assert container.stderr.readline() == word + b" too\n"
        container.stdin.close()
        assert container.wait(DEADLINE).exit_code == 0


def test_streams_can_be_files(rootfs, tmp_path):
    (tmp_path / "in").write_bytes(b"content")
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
        streams = {"stdin": source.fileno(), "stdout": sink.fileno()}
        with minibox.Container(["cat"], rootfs=rootfs, **streams) as container:
            assert container.wait(DEADLINE).exit_code == 0
        assert os.fstat(source.fileno())
    assert (tmp_path / "out").read_bytes() == b"content"


@pytest.mark.parametrize(
    "streams",
    [{"stdin": 1, "stdout": 0}, {"stdout": 2, "stderr": 1}, {"stdin": 2, "stdout": 0, "stderr": 1}],
)
def test_streams_can_be_exchanged(rootfs, tmp_path, streams):
    """The program's fd 0 to 2 are three files, given to the container in another order."""
    source = f"""
for fd, name in enumerate("abc"):
    file = os.open({str(tmp_path)!r} + "/" + name, os.O_RDWR | os.O_CREAT)
    os.dup2(file, fd)
names = [os.fstat(fd).st_ino for fd in range(3)]
streams = {streams!r}
script = "found=$(stat -L -c %i /proc/1/fd/0 /proc/1/fd/1 /proc/1/fd/2); echo $found > /mnt/result"
with minibox.Container(["/bin/sh", "-c", script], rootfs={rootfs!r}, volumes=[{str(tmp_path)!r} + ":/mnt"],
                       **{{"stdin": None, **streams}}) as container:
    container.wait()
open({str(tmp_path)!r} + "/expected", "w").write(
    " ".join(str(names[streams.get(word, k)]) for k, word in enumerate(("stdin", "stdout", "stderr"))))
"""
    in_python(source)
    found = (tmp_path / "result").read_text().split()
    expected = (tmp_path / "expected").read_text().split()
    assert found == expected


def test_a_stream_that_is_none_is_refused(rootfs):
    before = fds()
    with pytest.raises(minibox.SpecError):
        minibox.Container(["/bin/true"], rootfs=rootfs, stdin="pipe", stdout="file").start()
    leaked = fds() - before
    for fd in leaked:
        try:
            os.close(int(fd))
        except OSError:
            pass  # the directory that was listed
    with pytest.raises(OSError):
        minibox.Container(["/bin/true"], rootfs=rootfs, stdin="pipe", stdout=9999).start()
    assert fds() == before
    assert not leaked


def test_the_end_of_the_block_is_the_end_of_the_container(rootfs):
    with minibox.Container(["sleep", "100"], rootfs=rootfs) as container:
        pid = container.pid
    assert not os.path.exists(f"/proc/{pid}")


def test_an_exception_in_the_block_ends_it_too(rootfs):
    container = minibox.Container(["sleep", "100"], rootfs=rootfs)
    with pytest.raises(ZeroDivisionError), container:
        pid = container.pid
        raise ZeroDivisionError
    assert not os.path.exists(f"/proc/{pid}")


def test_kill_sends_any_signal(rootfs):
    script = "trap 'echo caught; exit 8' USR1; echo ready; while :; do sleep 100 & wait; done"
    with minibox.Container(shell(script), rootfs=rootfs, stdout="pipe") as container:
        assert container.stdout.readline() == b"ready\n"
        assert container.kill(signal.SIGUSR1)
        assert container.wait(DEADLINE).exit_code == 8


def test_it_dies_with_its_program(rootfs):
    source = f"""
container = minibox.Container(["sleep", "100"], rootfs={rootfs!r}).start()
print(container.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    words = [sys.executable, "-I", "-c", "import os, signal, minibox\n" + source]
    done = subprocess.run(words, capture_output=True, timeout=30)
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout)
    eventually(lambda: not os.path.exists(f"/proc/{pid}") or "Z" in state(pid), 2)


def state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


# Threads.


def test_sixteen_threads_run_twenty_each(rootfs):
    def work(number):
        seen = []
        for k in range(20):
            result = minibox.run(
                shell(f"cat; exit {k}"),
                rootfs=rootfs,
                input=b"%d %d" % (number, k),
                init=k % 4 == 0,
            )
            seen.append((result.exit_code, result.stdout))
        return seen

    before = fds()
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(work, range(16)))
    assert found == [[(k, b"%d %d" % (n, k)) for k in range(20)] for n in range(16)]
    assert fds() == before


def test_threads_make_fail_and_kill_at_the_same_time(rootfs):
    def fails(_):
        with pytest.raises(minibox.CommandNotFound):
            minibox.run(["/no/such"], rootfs=rootfs)

    def is_killed(_):
        with minibox.Container(["sleep", "100"], rootfs=rootfs) as container:
            container.kill()
            assert container.wait(DEADLINE).signal == signal.SIGKILL

    def runs(k):
        assert minibox.run(shell(f"exit {k}"), rootfs=rootfs).exit_code == k

    with ThreadPoolExecutor(12) as pool:
        for future in [pool.submit((fails, is_killed, runs)[k % 3], k) for k in range(90)]:
            future.result()


def test_a_container_outlives_the_thread_that_started_it(rootfs):
    container = minibox.Container(["cat"], rootfs=rootfs, stdin="pipe", stdout="pipe")
    thread = threading.Thread(target=container.start)
    thread.start()
    thread.join()
    eventually(lambda: str(thread.native_id) not in os.listdir("/proc/self/task"))
    with container:
        container.stdin.write(b"still here\n")
        assert container.stdout.readline() == b"still here\n"
        assert container.wait(0.1) is None


def test_many_threads_may_wait_for_one_container(rootfs):
    container = minibox.Container(shell("read x; exit 9"), rootfs=rootfs, stdin="pipe")
    with container, ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(container.wait) for _ in range(8)]
        container.stdin.write(b"\n")
        assert [future.result(DEADLINE).exit_code for future in futures] == [9] * 8


def test_asyncio_uses_it_in_threads(rootfs):
    async def main():
        calls = [
            asyncio.to_thread(minibox.run, shell(f"sleep 0.1; exit {k}"), rootfs=rootfs)
            for k in range(10)
        ]
        began = time.monotonic()
        results = await asyncio.gather(*calls)
        return [result.exit_code for result in results], time.monotonic() - began

    codes, took = asyncio.run(main())
    assert codes == list(range(10))
    assert took < 0.9  # one after the other they would take longer


# A program that has other children, handlers and habits.


def test_a_programs_other_children_are_left_alone(rootfs):
    other = subprocess.Popen(["/bin/sh", "-c", "exit 44"])
    pid = os.fork()
    if pid == 0:
        os._exit(45)
    assert minibox.run(shell("(sleep 0 &); exit 3"), rootfs=rootfs).exit_code == 3
    assert other.wait() == 44
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 45


def test_a_sigchld_handler_sees_it_and_the_status_is_right(rootfs):
    calls = []
    before = signal.signal(signal.SIGCHLD, lambda *_: calls.append(1))
    try:
        codes = [
            minibox.run(shell(f"sleep 0.01; exit {k}"), rootfs=rootfs).exit_code for k in range(20)
        ]
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert codes == list(range(20))
    assert calls


def test_a_program_that_ignores_sigchld_is_told_that_the_status_is_lost(rootfs):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(minibox.StateError, match="status is lost"):
            minibox.run(shell("exit 3"), rootfs=rootfs)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert minibox.run(shell("exit 3"), rootfs=rootfs).exit_code == 3


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_it_works_in_the_processes_of_multiprocessing(rootfs, method):
    source = f"""
import multiprocessing
minibox.run(["/bin/true"], rootfs={rootfs!r}, init=True)
options = dict(rootfs={rootfs!r}, init=True)
with multiprocessing.get_context({method!r}).Pool(2) as pool:
    words = [["sh", "-c", f"exit {{k}}"] for k in range(8)]
    calls = [pool.apply_async(minibox.run, (word,), options) for word in words]
    print([call.get(20).exit_code for call in calls])
    pool.close()
    pool.join()
"""
    assert in_python(source).strip() == str(list(range(8)))


def test_it_works_in_a_forked_child(rootfs):
    minibox.run(["/bin/true"], rootfs=rootfs, init=True)
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = minibox.run(shell("exit 21"), rootfs=rootfs, init=True).exit_code
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 21


def test_the_programs_signal_mask_and_handlers_stay(rootfs):
    def state():
        text = Path("/proc/self/status").read_text()
        return re.findall(r"^Sig(?:Blk|Ign|Cgt):.*$", text, re.MULTILINE)

    before = state()
    for options in ({}, {"init": True}, {"userns": "host"}):
        minibox.run(["/bin/true"], rootfs=rootfs, **options)
        assert state() == before


def test_the_programs_directory_umask_and_ids_stay(rootfs):
    before = os.getcwd(), os.umask(0o027), os.getresuid(), os.getgroups()
    os.umask(0o027)
    for options in ({}, {"user": "1000"}):
        minibox.run(["/bin/true"], rootfs=rootfs, **options)
    assert os.umask(before[1]) == 0o027
    assert (os.getcwd(), os.getresuid(), os.getgroups()) == (before[0], *before[2:])


def test_the_interpreter_is_never_forked(tmp_path, rootfs):
    """Every clone of the program's shares its memory."""
    source = f"""
for how in ({{}}, {{"init": True}}, {{"userns": "host"}}, {{"share": ["pid"]}}, {{"overlay": True}}):
    minibox.run(["/bin/true"], rootfs={rootfs!r}, **how)
thread = threading.Thread(target=minibox.run, args=(["/bin/true"],), kwargs={{"rootfs": {rootfs!r}}})
thread.start(); thread.join()
"""
    log = tmp_path / "log"
    calls = "trace=fork,vfork,clone,clone3"
    in_python(source, "strace", "-o", str(log), "-e", calls)
    lines = [
        line
        for line in log.read_text().splitlines()
        if "(" in line and not line.startswith(("-", "+"))
    ]
    clones = [line for line in lines if "CLONE_NEWNS" in line]
    assert len(clones) >= 5
    # What makes the user namespace for id-mapped mounts is a process of a few pages as well.
    assert all("CLONE_VM" in line for line in lines if not line.startswith("strace")), lines


# Nothing grows.


@pytest.mark.parametrize(
    "options", [{"net": "host"}, {"net": "host", "init": True}], ids=["plain", "init"]
)
def test_over_two_thousand_runs_nothing_grows(rootfs, options):
    def times(count):
        for _ in range(count):
            assert minibox.run(["/bin/true"], rootfs=rootfs, **options).exit_code == 0

    times(200)
    gc.collect()
    before, open_before = resident(), fds()
    maps = len(Path("/proc/self/maps").read_text().splitlines())
    times(1000)
    gc.collect()
    assert fds() == open_before
    assert resident() - before < MEBIBYTE
    assert len(Path("/proc/self/maps").read_text().splitlines()) <= maps + 4


def test_over_many_failures_nothing_grows(rootfs):
    def times(count):
        for _ in range(count):
            for words, kind in (
                (["/no/such"], minibox.CommandNotFound),
                (["/etc"], minibox.CannotExecute),
            ):
                with pytest.raises(kind):
                    minibox.run(words, rootfs=rootfs, net="host")
            with pytest.raises(minibox.SetupError):
                minibox.run(["/bin/true"], rootfs=rootfs, workdir="/no/such", net="host")

    times(30)
    gc.collect()
    before, open_before = resident(), fds()
    times(150)
    gc.collect()
    assert fds() == open_before
    assert resident() - before < MEBIBYTE


@pytest.mark.parametrize(
    "options", [{}, {"user": "1000"}, {"init": True}, {"userns": "host"}], ids=str
)
def test_the_dumpable_attribute_stays(rootfs, options):
    get = ctypes.CDLL(None).prctl
    assert get(PR_GET_DUMPABLE) == 1
    for _ in range(10):
        minibox.run(["/bin/true"], rootfs=rootfs, **options)
        assert get(PR_GET_DUMPABLE) == 1
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: minibox.run(["/bin/true"], rootfs=rootfs, **options), range(80)))
    assert get(PR_GET_DUMPABLE) == 1
    with pytest.raises(minibox.CommandNotFound):
        minibox.run(["/no/such"], rootfs=rootfs, **options)
    assert get(PR_GET_DUMPABLE) == 1


def test_a_program_that_is_not_dumpable_stays_so(rootfs):
    source = f"""
import ctypes
prctl = ctypes.CDLL(None).prctl
prctl(4, 0)
minibox.run(["/bin/true"], rootfs={rootfs!r})
print(prctl(3))
"""
    assert in_python(source).strip() == "0"


# ^C.


class Interrupted(KeyboardInterrupt):
    pass


def interrupted_after(seconds, function):
    """Call the function; a signal handler raises in this thread, so much later."""

    def handler(*_):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            function()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Interrupted:
        return True
    finally:
        signal.signal(signal.SIGALRM, before)
    return False


@pytest.mark.parametrize("options", [{}, {"init": True}], ids=["plain", "init"])
def test_an_interrupt_while_it_waits_leaves_nothing(rootfs, options):
    before, open_before = children(), fds()
    for _ in range(5):
        assert interrupted_after(
            0.1, lambda: minibox.run(["sleep", "100"], rootfs=rootfs, input=b"x", **options)
        )
        gc.collect()
        assert children() == before
        assert fds() == open_before


def test_an_interrupt_at_any_moment_leaves_no_process(rootfs):
    """Also while it is being set up: a container without an owner would run on."""
    before = children()
    try:
        for k in range(200):
            interrupted_after(
                k * 0.00003 + 0.00001,
                lambda: minibox.run(["sleep", "100"], rootfs=rootfs, net="host", timeout=0.05),
            )
        gc.collect()
        eventually(lambda: children() <= before, 1)
    finally:
        end(children() - before)
