# SPDX-License-Identifier: Apache-2.0
"""Kept containers for tests of faults: a state directory of the test's own, the command on it, what
lives because of it, and many faults at once, each in a process that is a subreaper.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("minibox"))
HUNG = "it hangs"
STAY = ("/bin/sleep", "1000")
EVERY = max(1, int(os.environ.get("MINIBOX_EVERY", "0") or 0))
SAMPLED = "MINIBOX_EVERY" not in os.environ
JOBS = min(4, len(os.sched_getaffinity(0)))
MOST_SHOWN = 20  # problems
PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNS = 0x20000
# What may be in a state directory without any container.
FURNITURE = {"containers", "events", "events.1", "events.lock", "ids", "lock", "names"}


def every(usual: int) -> int:
    """Test each so many-th: MINIBOX_EVERY if it is set, else the usual."""
    return usual if SAMPLED else EVERY


def preload() -> None:
    """Import what the verbs need, so that a command is a fork away."""
    from minibox import life  # noqa: F401
    from minibox.cli import click_app, quick, verbs  # noqa: F401

    for verb in verbs.VERBS:
        # minibox.cli.gc would hide the collector from minibox.cli.main.
        if verb.name in ("ps", "inspect", "rm", "create", "start", "rename"):
            __import__(verb.module)


class Home:
    """A state directory and the command on it. `top`: a directory of the test's own."""

    def __init__(self, top: str | Path, rootfs: str, name: str = "state") -> None:
        self.top = Path(top)
        self.root = self.top / name
        self.rootfs = rootfs
        preload()

    def line(self, *words: object) -> list[str]:
        """The whole command line."""
        return [COMMAND, "--root", str(self.root), *map(str, words)]

    def run(
        self,
        *words: object,
        under: tuple[str, ...] = (),
        timeout: float = 20.0,
        limits: dict[int, int] | None = None,
    ) -> subprocess.CompletedProcess:
        """What the command line does, in a process forked off this one: 5 ms, not 45. under: the
        options of a strace of it, which begins where the interpreter has started, and which ends
        with the command. limits: soft ones of its resources."""
        argv = self.line(*words)
        # What is written into a pipe is not counted by RLIMIT_FSIZE.
        streams = [_Caught(is_pipe=bool(limits)) for _ in range(2)]
        gate, opener = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(opener)
            _be_the_command(argv[1:], gate, [stream.fd for stream in streams], limits or {})
        os.close(gate)
        tracer = attach_strace(pid, under) if under else None
        os.close(opener)
        code = _wait(pid, timeout)
        if tracer:
            if "-f" in under:
                tracer.terminate()  # the monitor lives on, without it
            tracer.communicate()
        out, err = (stream.take() for stream in streams)
        return subprocess.CompletedProcess(argv, code, out, err)

    def execute(self, *words: object, timeout: float = 20.0, **how) -> subprocess.CompletedProcess:
        """The installed command."""
        return execute(self.line(*words), timeout=timeout, **how)

    def good(self, *words: object) -> str:
        """The same as run; it must succeed and say nothing on stderr. Its output."""
        done = self.run(*words)
        assert (done.returncode, done.stderr) == (0, b""), done
        return done.stdout.decode()

    def make(self, name: str, *words: object, command: tuple[str, ...] = STAY) -> str:
        """minibox create; the id."""
        return self.good("create", "--name", name, *words, self.rootfs, *command).strip()

    def start(self, name: str, *words: object, command: tuple[str, ...] = STAY) -> str:
        """create and start; the id."""
        id_ = self.make(name, *words, command=command)
        self.good("start", name)
        return id_

    def states(self) -> dict[str, dict]:
        """By name, what ps says, which must be able to say it."""
        found = json.loads(self.good("ps", "-a", "--format", "json"))
        return {one["Names"][0]: one for one in found}

    def whole(self, name: str) -> dict:
        """What inspect says."""
        return json.loads(self.good("inspect", name))[0]

    def directory(self, id_: str) -> Path:
        return self.root / "containers" / id_

    def sweep(self) -> list[str]:
        """rm -af and gc; what is wrong with that, and what is left after it."""
        problems = []
        for words in (("rm", "-af"), ("gc",)):
            done = self.run(*words)
            if done.returncode or done.stderr:
                problems.append(f"{words[0]}: {done.returncode}, {done.stderr!r}")
        return problems + self.rest()

    def rest(self) -> list[str]:
        """What there is of containers in the state directory."""
        if not self.root.exists():
            return []
        found = [str(path) for path in self.root.iterdir() if path.name not in FURNITURE]
        for kind in ("containers", "names", "ids"):
            if (self.root / kind).is_dir():
                found += [str(path) for path in (self.root / kind).iterdir()]
        return [f"left: {path}" for path in found]

    def clear(self) -> None:
        """Whatever is there, by force."""
        self.run("rm", "-af")
        end(descendants())
        shutil.rmtree(self.root, ignore_errors=True)


def execute(argv: list[str], timeout: float = 20.0, **how) -> subprocess.CompletedProcess:
    """Run a program whose output nobody else can hold up; HUNG as the code if it takes too long."""
    streams = [_Caught(), _Caught()]
    before = descendants()
    out, err = (stream.fd for stream in streams)
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, **how)
    code = _wait(process.pid, timeout)
    process.returncode = -1  # waited for
    if code == HUNG:
        end(descendants() - before)
    return subprocess.CompletedProcess(argv, code, *(stream.take() for stream in streams))


def _be_the_command(
    words: list[str], gate: int, streams: list[int], limits: dict[int, int]
) -> None:
    """In a child: never returns."""
    from minibox import cli

    try:
        os.read(gate, 1)
        os.close(gate)
        null = os.open("/dev/null", os.O_RDONLY)
        for fd, source in enumerate([null, *streams]):
            os.dup2(source, fd)
        sys.stdout = open(1, "w", closefd=False)
        sys.stderr = open(2, "w", closefd=False)
        if limits:
            os.closerange(3, 1024)  # what pytest has open would count
        for resource_, soft in limits.items():
            resource.setrlimit(resource_, (soft, resource.getrlimit(resource_)[1]))
        cli.main(words)
    except BaseException:  # noqa: BLE001 - it is said
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(99)


def attach_strace(pid: int, options: tuple[str, ...]) -> subprocess.Popen:
    """strace has the process when this returns."""
    argv = ["strace", *options, "-p", str(pid)]
    tracer = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = tracer.stderr.readline()
    assert b"attached" in said, said
    return tracer


def _wait(pid: int, timeout: float) -> object:
    """The exit code. Orphans are reaped meanwhile: a pid namespace ends only when nobody who has
    joined it is left, dead or alive (pid_namespaces(7))."""
    pidfd = os.pidfd_open(pid)
    deadline = time.monotonic() + timeout
    try:
        while not select.select([pidfd], [], [], 0.02)[0]:
            reap(but=pid)
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return HUNG
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(pidfd)


class _Caught:
    """What a command writes on one of its streams, `fd`: into a file or, a little, into a pipe."""

    def __init__(self, *, is_pipe: bool = False) -> None:
        self._source = -1
        if is_pipe:
            self._source, self.fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        else:
            self.fd = os.memfd_create("stream")

    def take(self) -> bytes:
        """All of it; nothing can be caught any more."""
        if self._source < 0:
            with os.fdopen(self.fd, "rb") as file:
                file.seek(0)
                return file.read()
        os.close(self.fd)
        with os.fdopen(self._source, "rb", buffering=0) as file:
            return file.read(1 << 16) or b""


# Processes.


def _children(pid: int) -> set[int]:
    found: set[int] = set()
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            text = Path(f"/proc/{pid}/task/{task}/children").read_text()
            found |= {int(child) for child in text.split()}
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def descendants(pid: int | None = None) -> set[int]:
    """Everything below a process, this one by default; our own dead children are reaped first."""
    if pid is None:
        pid = os.getpid()
        reap()
    found = _children(pid)
    return found.union(*[descendants(child) for child in found])


def reap(but: int = 0) -> None:
    """Orphans that have ended and were handed to us."""
    for pid in _children(os.getpid()) - {but}:
        try:
            if Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z":
                os.waitpid(pid, os.WNOHANG)
        except (ChildProcessError, FileNotFoundError, ProcessLookupError):
            pass


def end(pids: set[int]) -> None:
    """SIGKILL, and wait until they are gone."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    until(lambda: not descendants() & pids)


def named(pids: set[int]) -> list[str]:
    """Processes as a person wants to read them."""
    found = []
    for pid in sorted(pids):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found.append(f"{pid} {line}")
    return found


def until(function, seconds: float = 5.0):
    """Poll until the function gives something true; what it gave last."""
    deadline = time.monotonic() + seconds
    while not (value := function()) and time.monotonic() < deadline:
        time.sleep(0.002)
    return value


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def strangers(home: Home) -> list[str]:
    """The processes below us that belong to no container which is shown as running. What `exec -d`
    has left in one belongs to it, once it is more than a beginning of minibox's."""
    states = home.run("ps", "-a", "--format", "json")
    known = {os.getpid()}
    ours = descendants()
    for one in json.loads(states.stdout or b"[]"):
        if one["State"] == "running":
            monitor = home.whole(one["Id"])["State"]["ConmonPid"]
            known |= {monitor, *descendants(monitor)}
            known |= {pid for pid in ours if _is_a_guest(pid, one["Pid"])}
    return named(ours - known)


def _is_a_guest(pid: int, first: int) -> bool:
    try:
        is_inside = os.readlink(f"/proc/{pid}/ns/pid") == os.readlink(f"/proc/{first}/ns/pid")
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return is_inside and not line.startswith(b"minibox")


# Faults, several at a time.


def in_parallel(work, cases: list, jobs: int = JOBS, *, own_mounts: bool = False) -> list[str]:
    """work(case) -> problems, in processes of their own, which adopt what is orphaned below them;
    the problems. own_mounts: what a process mounts is there for it alone."""
    pipes = []
    pids = []
    for k in range(jobs):
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(ours)
            _work(work, cases[k::jobs], theirs, own_mounts)
        os.close(theirs)
        pipes.append(ours)
        pids.append(pid)
    found = []
    for ours, pid in zip(pipes, pids, strict=True):
        with os.fdopen(ours, "rb") as file:
            data = file.read()
        os.waitpid(pid, 0)
        found += json.loads(data) if data else ["a worker has died"]
    return found


def few(problems: list[str]) -> list[str]:
    """The first of them, and how many there are."""
    rest = len(problems) - MOST_SHOWN
    return problems if rest <= 0 else [*problems[:MOST_SHOWN], f"and {rest} more"]


def _work(work, cases: list, pipe: int, own_mounts: bool) -> None:
    """In a child: never returns."""
    problems: list[str] = []
    try:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        if own_mounts:
            assert ctypes.CDLL(None).unshare(CLONE_NEWNS) == 0
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        before = mounts()
        for case in cases:
            problems += work(case)
            if left := descendants():
                problems.append(f"{case}: {named(left)} are left at its end")
                end(left)
        if mounts() != before:
            problems.append("mounts are left")
    except BaseException:  # noqa: BLE001 - it is said
        problems.append(traceback.format_exc())
        end(descendants())
    finally:
        with os.fdopen(pipe, "w") as file:
            json.dump(problems, file)
        os._exit(0)


# System calls.

# Whether one comes before or after a call that changes nothing makes no difference to anybody else.
HARMLESS = {
    "access", "brk", "clock_gettime", "clock_nanosleep", "close", "fstat", "getdents64", "getegid",
    "geteuid", "getgid", "getpid", "getrandom", "gettid", "getuid", "ioctl", "lseek", "lstat",
    "madvise", "mmap", "mprotect", "mremap", "munmap", "newfstatat", "poll", "pread64", "prlimit64",
    "read", "readlink", "rt_sigaction", "rt_sigreturn", "stat", "statx", "uname",
}  # fmt: skip
IMPORTED = re.compile(r'"[^"]*(/lib/python|\.so|\.pyc?\b)[^"]*"')


class Call:
    """One system call of a traced command. number: which of its name in that process. line: as
    strace shows it."""

    def __init__(self, name: str, number: int, line: str) -> None:
        self.name = name
        self.number = number
        self.line = line

    def __repr__(self) -> str:
        return f"{self.name}:when={self.number} ({self.line[:120]})"


def calls(path: Path, state: str, *, whole: bool = False) -> list[Call]:
    """The system calls of a trace from the first on that names the state directory, but those that
    import modules; of calls in a row that change nothing only the first, or `whole`."""
    counts: dict[str, int] = {}
    found: list[Call] = []
    imported: set[str] = set()
    began = was_harmless = False
    for line in path.read_text(errors="replace").splitlines():
        name = line.partition("(")[0]
        if not name.isidentifier():
            continue
        counts[name] = counts.get(name, 0) + 1
        began = began or (state in line and name != "execve")
        if not began or _imports(name, line, imported):
            continue
        is_harmless = (
            name in HARMLESS
            or (name == "openat" and "O_CREAT" not in line)
            or (name == "fcntl" and "F_OFD_GETLK" in line)
        )
        if whole or not (is_harmless and was_harmless):
            found.append(Call(name, counts[name], line))
        was_harmless = is_harmless
    return found


def _imports(name: str, line: str, imported: set[str]) -> bool:
    """Does this call only read a module? `imported`: the fds of files that do."""
    if IMPORTED.search(line):
        opened = re.search(r"= (\d+)$", line)
        if name == "openat" and opened:
            imported.add(opened[1])
        return True
    of = re.match(r"\w+\((\d+)[,)]", line)
    words = line.split(", ")
    fd = words[4] if name == "mmap" and len(words) > 5 else of[1] if of else ""
    if fd in imported:
        if name == "close":
            imported.discard(fd)
        return True
    return False


def traced(home: Home, *words: object, whole: bool = False) -> list[Call]:
    """The calls of a command that must succeed; see calls."""
    path = home.top / "trace"
    done = home.run(*words, under=("-o", str(path)))
    assert (done.returncode, done.stderr) == (0, b""), done
    return calls(path, str(home.root), whole=whole)


def injected(fault: str) -> tuple[str, ...]:
    """Options of strace for its `inject=FAULT`, in the command alone."""
    name = fault.partition(":")[0]
    return ("-o", "/dev/null", f"-etrace={name}", f"-einject={fault}")
