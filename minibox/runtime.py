# SPDX-License-Identifier: Apache-2.0
"""The library: run a command in a container, hold a container, or use clone alone."""

from __future__ import annotations

import os
import threading
import time

from minibox import core, explain, host, request, supervisor
from minibox import syscalls as sc
from minibox.compile import compile
from minibox.errors import SpecError, StateError
from minibox.plan import Plan
from minibox.resources import streams
from minibox.spec import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, TypeVar

    from typing_extensions import Self, Unpack

    from minibox.host import Host
    from minibox.plan import Image, Op
    from minibox.request import Options, Text
    from minibox.spec import Spec

    T = TypeVar("T")

SIGKILL = 9
STREAMS = ("stdin", "stdout", "stderr")
WALL = 0x40000000
OUTPUT_LIMIT = 16 << 20
CACHED_PLANS = 64

_host: tuple[int, Host] | None = None
_plans: dict[Spec, tuple[Plan, Image]] = {}


class Result(Record):
    """How a container ended.

    exit_code: 0 to 255, 128+n after signal n. signal: n, or None. timed_out: the timeout ended
    it. stdout, stderr: what it wrote, as far as the limit allows; truncated: it wrote more.
    duration: seconds from the launch to the end.
    """

    exit_code: int
    signal: int | None = None
    timed_out: bool = False
    stdout: bytes = b""
    stderr: bytes = b""
    truncated: bool = False
    duration: float = 0.0


def this_host() -> Host:
    """The facts about this host, looked up once a process (and again after a change of id)."""
    global _host
    if _host is None or _host[0] != os.geteuid():
        _host = (os.geteuid(), host.probe())
    return _host[1]


def plan_of(spec: Spec) -> tuple[Plan, Image]:
    """The plan of a spec and its encoding; the last few are kept."""
    found = _plans.get(spec)
    if found is None:
        plan = compile(spec, this_host())
        found = (plan, plan.encode())
        while len(_plans) >= CACHED_PLANS:
            _plans.pop(next(iter(_plans)), None)
        _plans[spec] = found
    return found


_pool: tuple[int, Any] | None = None
_pool_lock = threading.Lock()


def _from_lasting_thread(function: Callable[[], T]) -> T:
    """Call `function` in a thread that lives as long as the process.

    The death signal of a container is tied to the thread that cloned it (prctl(2),
    PR_SET_PDEATHSIG): one cloned by a short-lived thread would die with that thread.
    """
    global _pool
    if core.gettid() == os.getpid():
        return function()
    with _pool_lock:
        if _pool is None or _pool[0] != os.getpid():
            from concurrent.futures import ThreadPoolExecutor

            _pool = (os.getpid(), ThreadPoolExecutor(4, "minibox-launch"))
        future = _pool[1].submit(function)
    result: T = future.result()
    return result


class Container:
    """A container of this program's: it dies with this process, and with the `with` block.

    stdin, stdout, stderr: None inherits, "null" is /dev/null, "pipe" gives a file object under
    the same name, a number is a file descriptor. `options` are those of minibox.request.Options.
    """

    def __init__(
        self,
        args: Iterable[Text],
        *,
        rootfs: Text,
        stdin: int | str | None = "null",
        stdout: int | str | None = None,
        stderr: int | str | None = None,
        **options: Unpack[Options],
    ) -> None:
        given = (stdin, stdout, stderr)
        redirected = tuple(fd for fd in range(3) if given[fd] is not None)
        if isinstance(args, (str, bytes)):
            raise SpecError("args", "a list of words is needed, not one string")
        spec = request.build(args, rootfs, options, this_host())
        self.spec = spec.replace(redirected=redirected)
        self._given = given
        self._ends: list[int | None] = [None, None, None]
        self._process: supervisor.Process | None = None
        self._began = 0.0
        self.stdin: Any = None
        self.stdout: Any = None
        self.stderr: Any = None

    @property
    def pid(self) -> int:
        """The pid of its first process, in this process's pid namespace. StateError."""
        return self._running().pid

    def _running(self) -> supervisor.Process:
        if self._process is None:
            raise StateError("the container has not been started")
        return self._process

    def start(self) -> Self:
        """Make the container and run the command; returns when it has been exec'd.

        SetupError (an OSError) when a step fails; CommandNotFound, CannotExecute.
        """
        if self._process is not None:
            raise StateError("the container has been started already")
        plan, image = plan_of(self.spec)
        child_ends = self._open_streams()
        try:
            inputs = {f"std{['in', 'out', 'err'][fd]}": end for fd, end in child_ends.items()}
            self._began = time.monotonic()
            self._process = _from_lasting_thread(
                lambda: supervisor.start(self.spec, plan, this_host(), image, inputs)
            )
            self._process.started()
        except BaseException:
            self.close()
            raise
        finally:
            for fd, end in child_ends.items():
                if self._given[fd] in ("pipe", "null"):
                    os.close(end)
        for name, ours in zip(STREAMS, self._ends, strict=True):
            if ours is not None:
                setattr(self, name, os.fdopen(ours, "wb" if name == "stdin" else "rb", 0))
        self._ends = [None, None, None]
        return self

    def _open_streams(self) -> dict[int, int]:
        """The child's ends by fd; ours go to _ends."""
        child_ends: dict[int, int] = {}
        for fd, given in enumerate(self._given):
            if given == "pipe":
                read, write = os.pipe2(os.O_CLOEXEC)
                child_ends[fd], self._ends[fd] = (read, write) if fd == 0 else (write, read)
            elif given == "null":
                child_ends[fd] = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            elif isinstance(given, int):
                child_ends[fd] = given
            elif given is not None:
                raise SpecError(f"std{['in', 'out', 'err'][fd]}", f"{given!r} is no stream")
        return child_ends

    def wait(self, timeout: float | None = None) -> Result | None:
        """How it ended; None when it still runs after `timeout` seconds."""
        status = self._running().wait(timeout)
        if status is None:
            return None
        return Result(status.exit_code, status.signal, duration=time.monotonic() - self._began)

    def kill(self, signal: int = SIGKILL) -> bool:
        """Send a signal to the first process: SIGKILL ends all of the container, where it has a
        pid namespace of its own. False when it has ended before."""
        return self._running().kill(signal)

    def close(self) -> None:
        """End the container if it runs, and close everything."""
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        for fd, end in enumerate(self._ends):
            if end is not None:
                os.close(end)
                self._ends[fd] = None
        if self._process is not None:
            self._process.close()

    def __enter__(self) -> Self:
        return self if self._process else self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


def run(
    args: Iterable[Text],
    *,
    rootfs: Text,
    input: bytes = b"",
    capture: bool = True,
    timeout: float | None = None,
    output_limit: int = OUTPUT_LIMIT,
    **options: Unpack[Options],
) -> Result:
    """Run a command in a new container and wait for its end.

    input: what its stdin gives. capture: keep stdout and stderr, at most `output_limit` bytes of
    each; without, they are this process's. timeout: seconds until the whole container is killed.
    Errors: SpecError, Unsupported, SetupError; that the command fails is no error.

    >>> minibox.run(["/bin/echo", "hi"], rootfs="./rootfs").stdout
    b'hi\\n'
    """
    out = "pipe" if capture else None
    container = Container(
        args, rootfs=rootfs, stdin="pipe" if input else "null", stdout=out, stderr=out, **options
    )
    with container.start():
        process = container._running()
        captures = [
            streams.Capture(os.dup(stream.fileno()), output_limit)
            for stream in (container.stdout, container.stderr)
            if stream
        ]
        feed = os.dup(container.stdin.fileno()) if container.stdin else -1
        for stream in (container.stdin, container.stdout, container.stderr):
            if stream:
                stream.close()
        talk = streams.Conversation(process.pidfd, captures, feed, input)
        timed_out = talk.hold(timeout, lambda: process.kill(SIGKILL))
        status = process.wait()
        assert status is not None
        taken = [capture.data for capture in captures] or [b"", b""]
        return Result(
            status.exit_code,
            status.signal,
            timed_out,
            taken[0],
            taken[1],
            any(capture.truncated for capture in captures),
            time.monotonic() - container._began,
        )


class Clone:
    """A child made by `clone`: a context manager that ends and reaps it."""

    def __init__(self, plan: Plan, child: core.Child) -> None:
        self._plan = plan
        self._child = child
        self.pid = child.pid
        self.pidfd = child.pidfd

    def go(self) -> None:
        """Open the gate that a program may wait at."""
        self._child.go()

    def left(self, timeout: float) -> bool:
        """Has it left the shared memory, by exec or death (CLONE_CHILD_CLEARTID)?"""
        return self._child.left(timeout)

    def report(self) -> core.Report:
        """What its calls returned so far."""
        return self._child.report()

    def wait(self) -> supervisor.Status:
        """Reap it. SetupError (an OSError) if a call of its program failed; OSError ECHILD for a
        child that is not this process's to wait for (CLONE_PARENT, CLONE_THREAD)."""
        info = os.waitid(os.P_PID, self.pid, os.WEXITED | WALL)
        assert info is not None
        report = self._child.report()
        if report.error:
            raise explain.failure(self._plan, None, report)
        code = info.si_status
        is_exit = info.si_code == os.CLD_EXITED
        return supervisor.Status(code if is_exit else 128 + code, None if is_exit else code)

    def close(self) -> None:
        """Give the memory back, once the child is out of it."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        self._child.close()


def clone(
    program: Sequence[Op],
    flags: int = 0,
    *,
    exit_signal: int = core.SIGCHLD,
    tls: int = 0,
    set_tid: Sequence[int] = (),
    cgroup: int = -1,
    call: int = 0,
    inputs: Mapping[str, int] | None = None,
) -> Clone:
    """Clone a child that runs a program of system calls: clone(2) and clone3(2), bare.

    flags reach the kernel as they are, with CLONE_CHILD_CLEARTID, and with CLONE_PIDFD where the
    call allows it. After the last op the child exits with 0. call: 2 or 3 insists on clone or
    clone3. inputs: fds by the name of the slot. OSError with the kernel's errno.
    """
    shares_handlers = bool(flags & sc.CLONE_SIGHAND)
    plan = Plan((), flags, tuple(program), reset_signals=not shares_handlers)
    extra = sc.CLONE_CHILD_CLEARTID
    if not flags & (sc.CLONE_THREAD | sc.CLONE_PARENT_SETTID | sc.CLONE_DETACHED):
        extra |= sc.CLONE_PIDFD
    child = core.launch(
        plan.encode(),
        flags | extra,
        dict(inputs or {}),
        exit_signal=exit_signal,
        tls=tls,
        set_tid=set_tid,
        cgroup=cgroup,
        call=call,
    )
    return Clone(plan, child)
