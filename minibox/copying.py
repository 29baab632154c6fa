# SPDX-License-Identifier: Apache-2.0
"""Copy between this host and a container, by docker cp's rules.

A child of minibox's becomes root of the container's user namespace, makes the container's root its
own (chroot(2)), and from then on speaks a tar stream over a pipe; minibox itself works on the
host's side only. So every link of the container's ends inside it, whatever moves meanwhile, and
files that the child makes belong to the container's ids. The child enters no pid namespace, where
a process of the container's might look at it, and imports nothing once it is inside: a module
would be the container's (CVE-2019-14271 was that).
"""

from __future__ import annotations

import codecs
import errno
import fcntl
import gc
import os
import select
import struct
import sys
import warnings

from minibox import core
from minibox import syscalls as sc
from minibox.errors import MiniboxError, SpecError, StateError, one_line
from minibox.numbers import NUMBERS
from minibox.resources import idmap
from minibox.resources.archive import CHUNK, PATH_MAX, Torn
from minibox.resources.packing import PLACE, Packing, write
from minibox.resources.unpacking import Unpacking
from minibox.spec import CAPABILITIES, Record
from minibox.syscalls import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from typing_extensions import Self

    from minibox.resources.packing import Warn

ROOT = (0, 0)
KEPT_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID")
CAPABILITY_VERSION_3 = 0x20080522
MOST_WARNINGS = 20
MOST_REPORT = 1 << 20
FIRST_FREE, LAST = 3, 0xFFFFFFFF
# What the child's report ends with.
DONE, FAILED = "done", "failed: "
PATIENCE = 1000  # ms
codecs.lookup("ascii")  # for tarfile: Python would import it when it is first used


class Place(Record):
    """Where a container's files are. root: its root directory, b"/proc/1234/root" or a tree on the
    host; userns: its user namespace, b"/proc/1234/ns/user", or None where it has the host's."""

    root: bytes
    userns: bytes | None


def copy_out(
    place: Place, path: bytes, destination: str | None,
    *, follow_link: bool, archive: bool, warn: Warn | None = None,
) -> None:  # fmt: skip
    """Copy `path` of the container to `destination`, or to stdout as a tar stream if that is None.

    follow_link: copy what `path` points to. archive: keep numeric owners and set-id bits; without,
    everything is the caller's. warn: gets a line for what was left out; otherwise stderr does.
    SpecError, StateError; BrokenPipeError when nobody reads stdout.
    """
    source = _absolute("SRC", path)
    target = _given("DEST", destination)
    if target is None and os.isatty(1):
        raise StateError("a tar stream is not for a terminal: redirect stdout")
    notes = _Warnings(warn)

    def pack(pipe: int, inside: Warn) -> None:
        Packing(pipe, inside, _made_by_the_kernel()).pack(source, follow_link=follow_link)

    with _Confined(place, pack, notes, speaks=True) as child:
        try:
            if target is None:
                _pass_on(child.pipe, 1)
            else:
                Unpacking(
                    child.pipe, target, notes.add, is_copy=True, owner=None, as_is=archive
                ).unpack()
        except Torn:
            child.finish()
            raise
        child.finish()


def copy_in(
    source: str | None, place: Place, path: bytes,
    *, follow_link: bool, archive: bool, warn: Warn | None = None,
) -> None:  # fmt: skip
    """Copy `source`, or the tar stream on stdin if that is None, to `path` of the container.

    archive: keep numeric owners and set-id bits; without, everything is the container's root's.
    The rest, and the errors, are those of copy_out.
    """
    target = _absolute("DEST", path)
    given = _given("SRC", source)
    if given is None and os.isatty(0):
        raise StateError("a tar stream does not come from a terminal: redirect stdin")
    if given is not None and not os.path.lexists(given):
        raise StateError(one_line(f"{source}: {os.strerror(errno.ENOENT)}"))
    notes = _Warnings(warn)

    def unpack(pipe: int, inside: Warn) -> None:
        is_copy = given is not None
        Unpacking(pipe, target, inside, is_copy=is_copy, owner=ROOT, as_is=archive).unpack()

    with _Confined(place, unpack, notes, speaks=False) as child:
        try:
            if given is None:
                _pass_on(0, child.pipe)
            else:
                Packing(child.pipe, notes.add).pack(given, follow_link=follow_link)
        except BrokenPipeError:
            child.finish()
            raise StateError("the container's side has ended too early") from None
        child.finish()


def _absolute(option: str, path: bytes) -> bytes:
    """A path inside; as docker has it, one without a slash counts from the root. SpecError."""
    if not path or b"\0" in path:
        raise SpecError(option, "a path inside the container is needed")
    if len(path) >= PATH_MAX:
        raise SpecError(option, f"the path inside is too long: {PATH_MAX - 1} bytes at most")
    return path if path.startswith(b"/") else b"/" + path


def _given(option: str, path: str | None) -> bytes | None:
    if path is not None and (not path or "\0" in path):
        raise SpecError(option, "a path is needed, or - for a tar stream")
    return None if path is None else os.fsencode(path)


def _pass_on(source: int, sink: int) -> None:
    """All bytes from one fd to another. StateError; BrokenPipeError."""
    try:
        while data := os.read(source, CHUNK):
            write(sink, data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StateError(f"the tar stream: {error.strerror}") from None


class _Warnings:
    """Warnings from both sides, of which a hostile tree may bring as many as it likes."""

    def __init__(self, warn: Warn | None) -> None:
        self._warn = warn or _say
        self._count = 0

    def add(self, text: str) -> None:
        self._count += 1
        if self._count <= MOST_WARNINGS:
            self._warn(text)
        elif self._count == MOST_WARNINGS + 1:
            self._warn("further warnings are not shown")


def _say(text: str) -> None:
    try:
        os.write(2, f"minibox: {text}\n".encode(errors="backslashreplace"))
    except OSError:
        pass


class _Confined:
    """A child that does `work(pipe, warn)` inside. pipe: our end of the pipe that carries the tar
    stream; the child `speaks` there, or listens."""

    def __init__(
        self, place: Place, work: Callable[[int, Warn], None], notes: _Warnings, *, speaks: bool
    ) -> None:
        self._notes = notes
        read, write = os.pipe2(os.O_CLOEXEC)
        self._report, report = os.pipe2(os.O_CLOEXEC)
        self.pipe, theirs = (read, write) if speaks else (write, read)
        self._pid, parent = 0, os.getpid()
        try:
            with core.SignalsHeld() as held:
                self._pid = _fork()
                if self._pid == 0:
                    _live(place, work, theirs, report, parent, held)
        except BaseException:
            self.__exit__()
            raise
        finally:
            os.close(theirs)
            os.close(report)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Without its pipes it ends by itself, and cleans up, unless a file system holds it."""
        self._close()
        if not self._pid:
            return
        try:
            pidfd = core.pidfd_open(self._pid)
        except ProcessLookupError:
            return  # SIGCHLD is ignored here: nobody has to wait
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(PATIENCE):
                core.pidfd_send_signal(pidfd, SIGKILL)
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        except (ChildProcessError, ProcessLookupError):
            pass
        finally:
            os.close(pidfd)

    def _close(self) -> None:
        for fd in (self.pipe, self._report):
            if fd >= 0:
                os.close(fd)
        self.pipe = self._report = -1

    def finish(self) -> None:
        """The stream is through: hear how it went on the other side. StateError."""
        os.close(self.pipe)
        self.pipe = -1
        data = b""
        while len(data) < MOST_REPORT and (piece := os.read(self._report, CHUNK)):
            data += piece
        *lines, last = data.decode(errors="replace").split("\n")
        for text in lines:
            self._notes.add(text)
        if last.startswith(FAILED):
            raise StateError(last.removeprefix(FAILED))
        if last != DONE:
            raise StateError("the process that copies in the container was killed")


def _fork() -> int:
    with warnings.catch_warnings():
        # Python warns of other threads' locks. The child waits for none: no thread of its own, no
        # import, no stream of Python's.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


# The child.


def _live(
    place: Place,
    work: Callable[[int, Warn], None],
    pipe: int,
    report: int,
    parent: int,
    held: core.SignalsHeld,
) -> NoReturn:
    """Everything the child does. It ends here: no exception leaves it, no stream is flushed."""
    lines: list[str] = []
    last = f"{FAILED}interrupted"
    where = "the container cannot be entered: "
    try:
        try:
            held.release()
            gc.freeze()  # objects of the parent's must not be finalised a second time
            pipe, report = _move(pipe), _move(report)
            _enter(place, {pipe, report}, parent)
            where = "in the container: "
            work(pipe, _Warnings(lines.append).add)
            last = DONE
        except MiniboxError as error:
            last = FAILED + one_line(f"{where}{error}")
        except OSError as error:
            last = FAILED + one_line(f"{where}{error.strerror}")
        except Exception as error:  # noqa: BLE001
            text = f"{where}internal error: {type(error).__name__}: {error}"
            last = FAILED + one_line(text)
        # First the pipe, whose other end the parent is at, then what it reads after that.
        os.close(pipe)
        write(report, "\n".join([*lines, last]).encode(errors="replace"))
    finally:
        os._exit(last != DONE)


def _move(fd: int) -> int:
    """The fd under a number that is not one of a standard stream."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)


def _enter(place: Place, fds: set[int], parent: int) -> None:
    """Become root of the container, with its root directory and nothing of ours. StateError."""
    try:
        root = _move(os.open(place.root, PLACE))
        userns = _open_userns(place)
    except OSError as error:
        raise StateError(f"{os.fsdecode(error.filename)}: {error.strerror}") from None
    _close_all_but((fds | {root, userns}) - {-1})
    if userns < 0 and os.geteuid():
        _make_userns()
    core.syscall(NUMBERS["prctl"], sc.PR_SET_DUMPABLE, 0, 0, 0, 0)
    if userns >= 0:
        core.syscall(NUMBERS["setns"], userns, sc.CLONE_NEWUSER)
        _become_root()
        os.close(userns)
    os.fchdir(root)
    os.chroot(".")
    os.close(root)
    os.umask(0o022)
    _shut_imports()
    _drop_capabilities()
    # Last: a change of ids undoes both.
    core.syscall(NUMBERS["prctl"], sc.PR_SET_DUMPABLE, 0, 0, 0, 0)
    core.die_with_parent()
    if os.getppid() != parent:
        raise StateError("minibox has ended")


def _open_userns(place: Place) -> int:
    """An fd of the user namespace to join, or -1: nobody can join the one that he is in."""
    if place.userns is None or os.path.samefile(place.userns, "/proc/self/ns/user"):
        return -1
    return _move(os.open(place.userns, os.O_RDONLY))


def _close_all_but(fds: set[int]) -> None:
    """These stay, and 0, 1 and 2 are /dev/null, for whatever might still be written there."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for fd in range(FIRST_FREE):
        os.dup2(null, fd)
    first = FIRST_FREE
    for fd in [*sorted(fds), LAST]:
        if fd > first:
            core.syscall(NUMBERS["close_range"], first, fd - 1, 0)
        first = fd + 1


def _make_userns() -> None:
    """Without privilege only root of a user namespace may chroot: one in which the caller is it."""
    uid, gid = os.geteuid(), os.getegid()
    core.syscall(NUMBERS["unshare"], sc.CLONE_NEWUSER)
    maps = b"0 %d 1\n" % uid, b"0 %d 1\n" % gid
    idmap.write(os.getpid(), *maps, deny_setgroups=True)


def _become_root() -> None:
    try:
        os.setgroups([])
    except PermissionError:
        pass  # a user namespace that was made without privilege denies it
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _shut_imports() -> None:
    sys.meta_path.clear()
    sys.path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()


def _drop_capabilities() -> None:
    """All that a file's owner does not need; a way out of a chroot needs CAP_SYS_CHROOT, say."""
    kept = sum(1 << CAPABILITIES.index(name) for name in KEPT_CAPABILITIES)
    head = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    core.syscall(NUMBERS["capset"], head, struct.pack("=6I", kept, kept, 0, 0, 0, 0))


def _made_by_the_kernel() -> set[int]:
    """The file systems of /proc and /sys, where these are some. OSError."""
    found = set()
    for path in ("/proc", "/sys"):
        try:
            found.add(os.lstat(path).st_dev)
        except OSError:
            continue
    return found - {os.lstat("/").st_dev}
