# SPDX-License-Identifier: Apache-2.0
"""The library: run a command in a container, or hold a container."""

from __future__ import annotations

import fcntl
import os
import threading
import time
import warnings

from minibox import core, request, supervisor
from minibox import host as hosts
from minibox.compile import compile, slots
from minibox.compile.identity import id_map
from minibox.errors import SpecError, StateError
from minibox.network import modes
from minibox.request import UNWIRED, Wired
from minibox.resources import idmap, ranges, streams
from minibox.spec import Record
from minibox.syscalls import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    from typing_extensions import Self, Unpack

    from minibox.host import Host
    from minibox.network.wiring import Wiring
    from minibox.plan import Image, Plan
    from minibox.request import Options, Text
    from minibox.resources.cgroup import Cgroup
    from minibox.spec import Spec

    T = TypeVar("T")
    Prepared = tuple[Spec, Plan, Image]

STREAMS = ("stdin", "stdout", "stderr")
OUTPUT_LIMIT = 16 << 20
MOST_PREPARED = 64

_host: tuple[int, Host] | None = None
_prepared: dict[object, Prepared] = {}


class Result(Record):
    """How a container ended.

    exit_code: 0 to 255, 128+n after signal n. signal: n, or None. timed_out: the timeout ended
    it. stdout, stderr: what it wrote, as far as the limit allows; truncated: it wrote more.
    duration: seconds from the launch to the end. oom_killed: the kernel did, for want of memory.
    """

    exit_code: int
    signal: int | None = None
    timed_out: bool = False
    stdout: bytes = b""
    stderr: bytes = b""
    truncated: bool = False
    duration: float = 0.0
    oom_killed: bool = False


def this_host() -> Host:
    """The facts about this host, looked up once a process (and again after a change of id)."""
    global _host
    if _host is None or _host[0] != os.geteuid():
        _host = (os.geteuid(), hosts.probe())
    return _host[1]


def prepared(
    args: tuple[Text, ...],
    rootfs: Text,
    options: Options,
    redirected: tuple[int, ...],
    wired: Wired = UNWIRED,
) -> Prepared:
    """The Spec of a request, its plan and the plan's encoding; the last few are kept.

    A request without options says all there is to it, but for whether ROOTFS is a directory; with
    options it may say something else each time (files that are read, variables, users).
    """
    host, path = this_host(), os.fsencode(rootfs)
    is_whole = not options and path.startswith(b"/")
    key: object = (host, os.getpid(), args, path, redirected) if is_whole else None
    found = _prepared.get(key)
    if found is not None and os.path.isdir(path):
        return found
    spec = request.build(args, path, options, host, redirected, wired)
    key = key or (host, spec)
    found = _prepared.get(key)
    if found is None:
        plan = compile(spec, host)
        found = (spec, plan, plan.encode())
        if len(_prepared) >= MOST_PREPARED:
            _prepared.clear()  # in one step, whatever other threads do
        _prepared[key] = found
    return found


_pool: tuple[int, Any] | None = None
_pool_lock = threading.Lock()


def from_lasting_thread(function: Callable[[], T]) -> T:
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

    # Of the class, so that `close` finds them even where `__init__` has not come to its end.
    _process: supervisor.Process | None = None
    _wiring: Wiring | None = None
    _range: ranges.Range | None = None
    _group: Cgroup | None = None
    _ends: list[int] = [-1, -1, -1]
    stdin: Any = None
    stdout: Any = None
    stderr: Any = None

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
        unknown = options.keys() - request.OPTIONS
        if unknown:
            raise TypeError(f"unknown option {', '.join(sorted(unknown))}")
        if isinstance(args, (str, bytes)):
            raise SpecError("args", "a list of words is needed, not one string")
        words = tuple(args)
        self._prepared = prepared(words, rootfs, modes.unwired(options), redirected)
        self._asked = (words, rootfs, options, redirected)
        self._given = given
        self._ends = [-1, -1, -1]
        self._began = 0.0
        self._is_wired = modes.is_wired(options)

    @property
    def spec(self) -> Spec:
        """What it is."""
        return self._prepared[0]

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
        self._check_new()
        try:
            self._launch().started()
        except BaseException:
            self.close()
            raise
        for name, end in zip(STREAMS, self._take_ends(), strict=True):
            if end >= 0:
                setattr(self, name, os.fdopen(end, "wb" if name == "stdin" else "rb", 0))
        return self

    def _check_new(self) -> None:
        if self._process is not None:
            raise StateError("the container has been started already")

    def _launch(self) -> supervisor.Process:
        """Set it going. An interrupt (^C) waits until it is known what there is to be ended."""
        with core.SignalsHeld():
            inputs: dict[str, int] = {}
            try:
                self._process = self._begin(inputs)
            finally:
                for fd in inputs.values():
                    os.close(fd)
        return self._process

    def _begin(self, inputs: dict[str, int]) -> supervisor.Process:
        """inputs: gets the fds that are the child's alone, also when this fails."""
        blanks = self._take_networks() if self._is_wired else core.NOTHING
        shared: dict[str, int] = {}
        if self.spec.is_leased:
            self._take_ids(shared)
        spec, plan, image = self._prepared
        wiring = self._wiring
        if spec.cgroup:
            from minibox.resources import making

            self._group = making.plain(spec.cgroup)
        group = self._group
        self._open_streams(inputs)
        self._began = time.monotonic()
        return from_lasting_thread(
            lambda: supervisor.start(
                spec,
                plan,
                this_host(),
                image,
                {**inputs, **shared},
                wiring.prepare if wiring else None,
                wiring.plug_in if wiring else None,
                blanks,
                group,
            )
        )

    def _take_ids(self, shared: dict[str, int]) -> None:
        """A range of ids that no other container has, and its user namespace."""
        self._range = taken = ranges.pool().take()
        spec, plan, image = self._prepared
        if spec.uid_mappings != taken.uids:
            plan = plan.mapped(id_map(taken.uids), id_map(taken.gids))
            spec = spec.replace(uid_mappings=taken.uids, gid_mappings=taken.gids)
            self._prepared = (spec, plan, image)
        if slots.USERNS in image.slots:
            shared[slots.USERNS] = taken.userns()

    def _take_networks(self) -> dict[str, bytes]:
        """Lease what its networks give. What is its own in a plan that is made for any address, so
        that it is made once."""
        from minibox.compile.network import blanks
        from minibox.network.wiring import Wiring
        from minibox.store import default_root

        args, rootfs, options, redirected = self._asked
        self._wiring = Wiring(default_root(), options, os.fsdecode(self.spec.hostname or b""))
        self._wiring.take(lambda text: warnings.warn(text, stacklevel=2))
        anybodys, own = self._wiring.wired(is_own=False), self._wiring.wired()
        self._prepared = prepared(args, rootfs, self._wiring.options, redirected, anybodys)
        return blanks(own.mounts, own.interfaces)

    def _open_streams(self, inputs: dict[str, int]) -> None:
        """The child's ends by name, all above 2 and to be closed; ours go to _ends."""
        for fd, given in enumerate(self._given):
            if given == "pipe":
                read, write = os.pipe2(os.O_CLOEXEC)
                inputs[STREAMS[fd]], self._ends[fd] = (read, write) if fd == 0 else (write, read)
                idmap.give(inputs[STREAMS[fd]], self.spec)
            elif given == "null":
                inputs[STREAMS[fd]] = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            elif isinstance(given, int):
                # A copy: the child moves one after the other to 0, 1, 2, which it may be itself.
                inputs[STREAMS[fd]] = fcntl.fcntl(given, fcntl.F_DUPFD_CLOEXEC, 3)
            elif given is not None:
                raise SpecError(STREAMS[fd], f"{given!r} is no stream")

    def _take_ends(self) -> list[int]:
        """Our ends of the pipes, -1 where there is none; the caller closes them."""
        ends, self._ends = self._ends, [-1, -1, -1]
        return ends

    def wait(self, timeout: float | None = None) -> Result | None:
        """How it ended; None when it still runs after `timeout` seconds."""
        status = self._running().wait(timeout)
        if status is None:
            return None
        took = time.monotonic() - self._began
        return self._said(Result(status.exit_code, status.signal, duration=took))

    def _said(self, result: Result) -> Result:
        """With what its cgroup knows of its end."""
        is_killed = result.signal == SIGKILL and not result.timed_out
        is_short = bool(is_killed and self._group and self._group.oom_kills())
        return result.replace(oom_killed=True) if is_short else result

    def kill(self, signal: int = SIGKILL) -> bool:
        """Send a signal to the first process: SIGKILL ends all of the container, where it has a
        pid namespace of its own. False when it has ended before."""
        return self._running().kill(signal)

    def close(self) -> None:
        """End the container if it runs, and close everything. An interrupt waits for that."""
        with core.SignalsHeld():
            for stream in (self.stdin, self.stdout, self.stderr):
                if stream is not None:
                    stream.close()
            for end in self._take_ends():
                if end >= 0:
                    os.close(end)
            if self._process is not None:
                self._process.close()
            if self._group is not None:
                self._group.remove()
            if self._wiring is not None:
                self._wiring.release()
            if self._range is not None:
                taken, self._range = self._range, None
                ranges.pool().give_back(taken)

    def __del__(self) -> None:
        held = (self._process, self._wiring, self._range, self._group)
        if any(one is not None for one in held) or max(self._ends) >= 0:
            self.close()  # forgotten, as a file may be

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
    try:
        process = container._launch()
        began = container._began
        return container._said(hold(process, container._ends, input, timeout, output_limit, began))
    finally:
        container.close()


def hold(
    process: supervisor.Process,
    ends: list[int],
    input: bytes,
    timeout: float | None,
    output_limit: int,
    began: float,
) -> Result:
    """Feed a process that has been launched, take what it says, wait for its end. SetupError."""
    process.started()
    talk = streams.Conversation(process.pidfd, ends, input, output_limit)
    timed_out = talk.hold(timeout, lambda: process.kill(SIGKILL))
    status = process.wait()
    assert status is not None
    taken = [capture.data for capture in talk.captures] or [b"", b""]
    return Result(
        status.exit_code,
        status.signal,
        timed_out,
        taken[0],
        taken[1],
        any(capture.truncated for capture in talk.captures),
        time.monotonic() - began,
    )
