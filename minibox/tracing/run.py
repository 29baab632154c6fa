# SPDX-License-Identifier: Apache-2.0
"""A process made to be traced, and the loop over what happens to it."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from minibox.errors import Unsupported
from minibox.tracing import stops
from minibox.tracing.calls import EXEC
from minibox.tracing.follow import Follower
from minibox.tracing.stops import Stop, Tracer
from minibox.tracing.tree import Event, Process

if TYPE_CHECKING:
    from typing_extensions import Self

# What a process sends to the tracer is the command's; what the terminal sends, it has got itself.
PASSED_ON = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2),
    signal.SIGTERM,
)
SI_KERNEL = 0x80
Mask = set[int | signal.Signals]
FORBIDDEN = (
    "ptrace is forbidden here (kernel.yama.ptrace_scope, a filter of system calls, "
    "or a tracer that is there already)"
)
FOREIGN = "/proc is that of another pid namespace: mount it anew"
REASONS = {
    errno.EPERM: FORBIDDEN,
    errno.EACCES: FORBIDDEN,
    errno.ENOSYS: FORBIDDEN,
    errno.EIO: "this kernel has no PTRACE_GET_SYSCALL_INFO (Linux 5.3)",
}


class NotExecuted(Exception):
    """execve has failed with `errno`."""

    def __init__(self, errno: int) -> None:
        super().__init__(os.strerror(errno))
        self.errno = errno


Begin = Callable[[], "int | None"]
Tell = Callable[[Event], None]


def follow(what: Sequence[str] | Begin, tell: Tell) -> Outcome:
    """Trace a command, or a function in a child of this process, and all that comes from it, to the
    last end.

    What a function returns is its process's exit code. tell: is given each event as it happens.
    Signals of this process are blocked meanwhile, and passed on to the child; once it has ended,
    the first of them ends the rest. Unsupported; NotExecuted; OSError.
    """
    if not callable(what):
        return follow(_executing(what), _from_exec(tell))
    if os.readlink("/proc/self") != str(os.getpid()):
        raise Unsupported(FOREIGN)
    tracer = Tracer(PASSED_ON)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, {*PASSED_ON, signal.SIGCHLD})
        with _Child(what, mask) as child:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would never be sent
            follower = Follower(tracer, tell)
            status = _watch(tracer, follower, child)
            child.raise_failure()
    except OSError as error:
        if error.filename != "ptrace":
            raise
        raise Unsupported(REASONS.get(error.errno or 0, f"ptrace: {error.strerror}")) from None
    finally:
        tracer.close()
        try:
            # An interrupt may have waited for this.
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        finally:
            signal.signal(signal.SIGCHLD, handler)
    return Outcome(status, follower.processes)


def _executing(argv: Sequence[str]) -> Begin:
    """What becomes the command, found as a shell finds it."""
    name = argv[0]
    path = name if "/" in name else shutil.which(name) or shutil.which(name, os.F_OK) or name

    def run() -> NoReturn:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python's own are no wish of the user's
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        try:
            os.execv(path, list(argv))
        except OSError as error:
            raise NotExecuted(error.errno or 0) from None

    return run


def _from_exec(tell: Tell) -> Tell:
    """What is before the command is none of its doing."""
    has_begun = False

    def filtered(event: Event) -> None:
        nonlocal has_begun
        has_begun = has_begun or (event.call in EXEC and event.result == 0)
        if has_begun:
            tell(event)

    return filtered


class Outcome(NamedTuple):
    """status: the wait status of the first process. processes: all that there were."""

    status: int
    processes: list[Process]

    @property
    def exit_code(self) -> int:
        """As a shell has it: 128+n for signal n."""
        code = os.waitstatus_to_exitcode(self.status)
        return code if code >= 0 else 128 - code


def _watch(tracer: Tracer, follower: Follower, child: _Child) -> int:
    """The wait status of the child, when all have ended."""
    try:
        tracer.seize(child.pid)
    except OSError:
        child.abandon()
        raise
    child.go()
    try:
        return _loop(tracer, follower, child.pid)
    finally:
        _end(tracer, follower)


def _loop(tracer: Tracer, follower: Follower, pid: int) -> int:
    status = 0
    while stop := tracer.next():
        if stop.kind == stops.SIGNAL:
            if not follower.is_alive(pid):
                break
            _pass_on(stop, pid)
            continue
        if stop.kind in (stops.EXITING, stops.ENDED) and stop.tid == pid:
            status = stop.result
        follower.take(stop)
    return status


def _pass_on(stop: Stop, pid: int) -> None:
    if stop.number != SI_KERNEL:
        try:
            os.kill(pid, stop.result)
        except (ProcessLookupError, PermissionError):
            pass  # it has just ended, or is another user's now


def _end(tracer: Tracer, follower: Follower) -> None:
    """Kill those that are left, if any: without the loop they would stand still for ever."""
    follower.kill()
    while stop := tracer.next():
        if stop.kind == stops.BORN:
            os.kill(stop.tid, signal.SIGKILL)
        elif stop.kind not in (stops.ENDED, stops.SIGNAL):
            tracer.go(stop.tid)


class _Child:
    """The process to be traced: it waits for `go`, and ends if that never comes."""

    def __init__(self, begin: Begin, mask: Mask) -> None:
        gate, self._gate = os.pipe()
        self._errno, failed = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._gate)
            os.close(self._errno)
            _live(begin, mask, gate, failed)
        os.close(gate)
        os.close(failed)

    def go(self) -> None:
        os.write(self._gate, b"g")

    def abandon(self) -> None:
        """It is not traced: let it end."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def raise_failure(self) -> None:
        """If it should have become a command and could not."""
        os.set_blocking(self._errno, False)  # whoever is left may have the other end
        try:
            number = os.read(self._errno, 16)
        except BlockingIOError:
            return
        if number:
            raise NotExecuted(int(number))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._gate)
        os.close(self._errno)


def _live(begin: Begin, mask: Mask, gate: int, failed: int) -> NoReturn:
    code = 1
    try:
        has_tracer = os.read(gate, 1)
        os.close(gate)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = (begin() or 0) if has_tracer else 1
        sys.stdout.flush()
        sys.stderr.flush()
    except NotExecuted as error:
        os.write(failed, str(error.errno).encode())
    except BaseException:  # noqa: BLE001 - it is this process's end, whatever it is
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)
