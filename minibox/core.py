# SPDX-License-Identifier: Apache-2.0
"""The door to C: the only module that imports the extension. No policy here."""

from __future__ import annotations

import os
import struct
from _thread import RLock
from errno import EINVAL

from minibox._core import ffi, lib
from minibox.numbers import NUMBERS
from minibox.syscalls import (
    F_ADD_SEALS,
    MFD_ALLOW_SEALING,
    MFD_CLOEXEC,
    MFD_EXEC,
    PR_SET_PDEATHSIG,
    SIGKILL,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from minibox.plan import Image

SIGCHLD = 17
ALL_SEALS = 0xF
ALL_SIGNALS = (1 << 64) - 1


def syscall(number: int, *args: int | bytes | bytearray | None) -> int:
    """Any system call. A bytes-like argument is passed by address. OSError when it fails."""
    keep = [ffi.from_buffer(arg) if isinstance(arg, (bytes, bytearray)) else arg for arg in args]
    words = [
        0 if arg is None
        else arg & 0xFFFFFFFFFFFFFFFF if isinstance(arg, int)
        else int(ffi.cast("uintptr_t", arg))
        for arg in keep
    ]  # fmt: skip
    result = int(lib.mb_syscall(number, *words, *[0] * (6 - len(words))))
    if -4095 <= result < 0:
        name = next((name for name, known in NUMBERS.items() if known == number), str(number))
        raise OSError(-result, os.strerror(-result), name)
    return result


def address(data: bytearray) -> int:
    """Where the bytes are, for a struct that points at them: as long as nothing changes their size,
    and the caller keeps them."""
    return int(ffi.cast("uintptr_t", ffi.from_buffer(data)))


NOTHING: Mapping[str, bytes] = {}


class Report:
    """What is known of a plan that ran. step: the index of the last op begun. error: the errno
    of the op that failed, or 0. results: by op. micros: durations by op, empty without trace."""

    __slots__ = ("error", "micros", "results", "step")

    def __init__(self, step: int, error: int, results: list[int], micros: list[float]) -> None:
        self.step = step
        self.error = error
        self.results = results
        self.micros = micros


class Child:
    """A child in the making or at work; the arena is kept until it has left it."""

    __slots__ = ("_arena", "_image", "_left", "_staged", "pid", "pidfd")

    def __init__(self, image: Image, arena: Any, pid: int, pidfd: int, staged: bool) -> None:
        self._image = image
        self._arena = arena
        self._left = False
        self._staged = staged
        self.pid = pid
        self.pidfd = pidfd

    def go(self, gates: int = 1) -> None:
        """Open the first gate, or as many. OSError when the child cannot be woken."""
        error = lib.mb_go(self._arena, gates)
        if error:
            raise OSError(-error, os.strerror(-error), "gate")

    def left(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until the child has exec'd its command or is dead."""
        if not self._left:
            self._left = bool(lib.mb_left(self._arena, int(timeout * 1000)))
        return self._left

    def arrived(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until a child waits at the gate."""
        return bool(lib.mb_arrived(self._arena, int(timeout * 1000)))

    @property
    def monitor_pid(self) -> int:
        """The pid of the monitor that a monitor op left outside, or 0."""
        pid: int = self._arena.monitor_pid
        return max(0, pid)

    @property
    def second_pid(self) -> int:
        """The pid of the child that the last fork or monitor op made, in the caller's pid
        namespace, or 0."""
        pid: int = self._arena.second_pid
        return max(0, pid)

    @property
    def init_status(self) -> int | None:
        """The wait status of the command that minibox-init recorded, or None."""
        status: int = self._arena.status
        return status if 0 <= status <= 0xFFFF else None

    @property
    def error(self) -> int:
        """The errno of the op that has failed, or 0."""
        error: int = self._arena.error & 0xFFF
        return error

    def report(self) -> Report:
        return _report(self._image, self._arena)

    def close(self) -> None:
        """Give the arena back. The child must have left it, or be dead."""
        if self._arena is not None:
            arena, self._arena = self._arena, None
            if not self._left:
                lib.mb_forget(arena)
            size = self._image.size  # not the arena's word: a container may have had it
            if self._staged or len(_spare) >= MOST_SPARE:
                lib.mb_arena_free(arena, size)
            else:
                _spare.append((size, arena))


def _report(image: Image, arena: Any) -> Report:
    n = image.n_ops
    memory = ffi.buffer(ffi.cast("char *", arena), len(image.blob))
    results = list(struct.unpack_from(f"={n}q", memory, image.results))
    micros = []
    if image.times:
        ends = struct.unpack_from(f"={n}Q", memory, image.times)
        previous = 0
        for i, end in enumerate(ends):
            if i == image.n_before:
                previous = arena.began
            micros.append((end - previous) / 1000 if end and previous else -1.0)
            previous = end
    # The words of a staged plan are in memory that the container's init maps: trust no index.
    return Report(min(arena.step, max(0, n - 1)), arena.error & 0xFFF, results, micros)


class LaunchError(OSError):
    """The parent's side failed: an op of the plan (`report`), something else (`what`), or, with
    neither, the clone."""

    def __init__(self, error: int, report: Report | None = None, what: str = "") -> None:
        super().__init__(error, os.strerror(error))
        self.report = report
        self.what = what


def launch(
    image: Image,
    flags: int,
    inputs: Mapping[str, int],
    *,
    exit_signal: int = SIGCHLD,
    staged: bool = False,
    tls: int = 0,
    stack: tuple[int, int] = (0, 0),
    parent_tid: int = 0,
    child_tid: int = 0,
    set_tid: Sequence[int] = (),
    cgroup: int = -1,
    call: int = 0,
    blanks: Mapping[str, bytes] = NOTHING,
) -> Child:
    """Clone a child that runs the plan. inputs: slot name -> fd. blanks: what takes the place of
    the plan's own, of the same length. The rest is clone3(2)'s words;
    call 2 or 3 insists on clone or clone3. LaunchError when the parent's ops or the clone fail."""
    arena, memfd = _arena(image.size, staged)
    memory = ffi.buffer(ffi.cast("char *", arena), image.size)
    memory[: len(image.blob)] = image.blob
    for name, data in blanks.items():
        memory[image.blanks[name] : image.blanks[name] + len(data)] = data
    arena.size = image.size
    slots = ffi.cast("int32_t *", arena) + image.slots_at // 4
    for name, fd in inputs.items():
        if name in image.slots:
            slots[image.slots[name]] = fd
    if staged:
        arena.arena_fd = str(memfd).encode()
        slots[image.slots["arena"]] = memfd
    how = ffi.new("struct mb_clone *")
    how.flags, how.exit_signal, how.tls, how.call = flags, exit_signal, tls, call
    how.stack, how.stack_size = stack
    how.parent_tid, how.child_tid = parent_tid, child_tid
    how.cgroup = max(0, cgroup)
    if set_tid:
        pids = ffi.new("int[]", list(set_tid))
        how.set_tid, how.set_tid_size = pids, len(set_tid)
    result = lib.mb_launch(arena, how)
    # The fds that the parent's ops opened are the child's now.
    for fd in [slots[k] for k in image.parents] + ([memfd] if staged else []):
        if fd >= 0:
            _close(fd)
    if result < 0:
        report = _report(image, arena) if arena.error else None
        lib.mb_arena_free(arena, image.size)
        raise LaunchError(-result, report)
    return Child(image, arena, how.pid, how.pidfd, staged)


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        pass  # it is closed all the same, and the child must not be lost for it


# Arenas that no child uses any more, with their sizes. A process forked off would share them.
_spare: list[tuple[int, Any]] = []
MOST_SPARE = 4
os.register_at_fork(after_in_child=_spare.clear)


def _arena(size: int, staged: bool) -> tuple[Any, int]:
    """Memory for a plan, and the memfd that a stage maps or -1. LaunchError."""
    while _spare and not staged:
        try:
            spare_size, spare = _spare.pop()
        except IndexError:
            break  # another thread was faster
        if spare_size == size:
            return spare, -1
        lib.mb_arena_free(spare, spare_size)
    memfd = ffi.new("int *", -1)
    error = ffi.new("int *", 0)
    arena = lib.mb_arena(size, memfd if staged else ffi.NULL, error)
    if arena == ffi.NULL:
        raise LaunchError(error[0], what="memory for the plan")
    return arena, memfd[0]


# For the few things that are made once a process, whichever thread comes first. From _thread: the
# import of threading is a twentieth of a cold start.
_lock = RLock()
_once: dict[tuple[int, object], int] = {}


def once(name: object, make: Callable[[], int]) -> int:
    """The fd that `make` gave when it was first asked for in this process."""
    key = (os.getpid(), name)
    with _lock:
        if key not in _once:
            _once[key] = make()
        return _once[key]


def own_pidfd() -> int:
    """A pidfd of this process, for its children to ask whether it is alive."""
    return once("pidfd", lambda: pidfd_open(os.getpid()))


def stage_fd() -> int:
    """A memfd with a copy of the static init that nobody can write to.

    Not the file itself: a container could reach it through /proc/PID/exe (CVE-2019-5736).
    """
    return once("stage", _make_stage)


def _make_stage() -> int:
    with open(os.path.join(os.path.dirname(__file__), "minibox-init"), "rb") as file:
        binary = file.read()
    create, flags = NUMBERS["memfd_create"], MFD_CLOEXEC | MFD_ALLOW_SEALING
    try:
        fd = syscall(create, b"minibox-init\0", flags | MFD_EXEC)
    except OSError as error:
        if error.errno != EINVAL:
            raise
        # Before 6.3 the bit is unknown, and every memfd may be executed.
        fd = syscall(create, b"minibox-init\0", flags)
    os.write(fd, binary)
    # Not readable: the kernel then keeps the memory of whoever runs it from the container's root,
    # who could otherwise write to the arena (kernel/exec.c, would_dump).
    os.fchmod(fd, 0o111)
    syscall(NUMBERS["fcntl"], fd, F_ADD_SEALS, ALL_SEALS)
    return fd


class SignalsHeld:
    """`with SignalsHeld():` no signal comes to this thread: an interrupt (^C) waits. One that came
    just before may still be raised by Python when all are blocked, so what was blocked is asked
    first, and restored from there, too."""

    __slots__ = ("_before",)

    def __init__(self) -> None:
        self._before: int = lib.mb_signals_blocked()

    def __enter__(self) -> SignalsHeld:
        try:
            lib.mb_signal_mask(ALL_SIGNALS)
        except BaseException:
            self.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let them come again, as in a child that is forked off meanwhile."""
        lib.mb_signal_mask(self._before)


def pidfd_open(pid: int) -> int:
    """pidfd_open(2). OSError."""
    return syscall(NUMBERS["pidfd_open"], pid, 0)


def await_end(pidfd: int) -> None:
    """Wait for a child whose status nobody needs; where SIGCHLD is ignored the kernel reaps it."""
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except ChildProcessError:
        pass


def pidfd_send_signal(pidfd: int, signal: int) -> None:
    """pidfd_send_signal(2), without the import of signal, which costs 3 ms."""
    syscall(NUMBERS["pidfd_send_signal"], pidfd, signal, None, 0)


def die_with_parent() -> None:
    """Be killed when the thread that has made this process ends (prctl(2), PR_SET_PDEATHSIG). It
    may have ended before: os.getppid tells. OSError."""
    syscall(NUMBERS["prctl"], PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)


def gettid() -> int:
    """The kernel's id of the calling thread: getpid() in the main thread (gettid(2))."""
    tid: int = lib.mb_syscall(NUMBERS["gettid"], 0, 0, 0, 0, 0, 0)
    return tid
