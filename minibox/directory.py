# SPDX-License-Identifier: Apache-2.0
"""One container's directory: files that are whole or not there, and locks.

A file is written beside its place and renamed. A lock is one of the open file (fcntl(2),
F_OFD_SETLK): whoever holds it is alive, since the kernel lets go of it with the last process that
has the file open.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import time

from minibox.errors import NoSuchContainer, StateError, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

    Data = dict[str, Any]

VERSION = 1
SHORT = 12  # of an id, as people see it
PATIENCE = 10  # seconds
LARGEST = 8 << 20
FIRST_READ = 16384
READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
# There is nothing of ours by that name, or something that no monitor has open. Any other error is
# the machine's, and says nothing of what is there.
NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
# The file itself is not what it should be.
BROKEN = (errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EIO)
# Errors of connect(2) and of the way there that say that no monitor listens.
NOBODY = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ECONNREFUSED, errno.EPROTOTYPE)
TIMEVAL = struct.Struct("@ll")
FLOCK = struct.Struct("hhqqi4x")  # struct flock of a 64-bit machine


class Damaged(StateError):
    """A file of a container's that cannot be understood."""


def said(error: OSError, path: str) -> StateError:
    return StateError(one_line(f"{path}: {error.strerror}"))


# Locks.


def try_lock(fd: int) -> bool:
    """Take the lock of an open file; False when someone else has it."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_WRLCK, 0, 0, 0, 0))
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    return True


def is_locked(path: str) -> bool:
    """Does somebody hold the lock of this file? Asking does not take it, and needs no right to
    write (fs/locks.c, fcntl_getlk). StateError when that cannot be known."""
    try:
        fd = os.open(path, READ)
    except OSError as error:
        if error.errno in NO_FILE:
            return False
        raise said(error, path) from None
    try:
        asked = FLOCK.pack(fcntl.F_WRLCK, 0, 0, 0, 0)
        found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked)
    finally:
        os.close(fd)
    return bool(FLOCK.unpack(found)[0] != fcntl.F_UNLCK)


class Lock:
    """The lock of a file, waited for at most PATIENCE seconds. StateError after that."""

    def __init__(self, path: str, whose: str, gone: StateError | None = None) -> None:
        self._path = path
        self._gone = gone  # what it means that there is no such directory
        self._whose = whose
        self._fd = -1

    def __enter__(self) -> None:
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if self._gone and not is_there(os.path.dirname(self._path)):
                raise self._gone from None
            raise Damaged(str(said(error, self._path))) from None
        deadline, pause = time.monotonic() + PATIENCE, 0.001
        while not try_lock(self._fd):
            if time.monotonic() > deadline:
                self.__exit__()
                raise StateError(f"{self._whose} is busy: another minibox command is at work on it")
            time.sleep(pause)
            pause = min(pause * 2, 0.05)

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def lock_in(path: str) -> Lock:
    """The lock of a directory that is made where it is not there. StateError."""
    try:
        os.makedirs(path, 0o700, exist_ok=True)
    except OSError as error:
        raise said(error, path) from None
    return Lock(f"{path}/lock", path)


# One container's directory.


class Directory:
    """The files of one container."""

    def __init__(self, path: str, id_: str) -> None:
        self.path = path
        self.id = id_

    def file(self, name: str) -> str:
        return f"{self.path}/{name}"

    def read(self, name: str) -> Data | None:
        """A file's object; None where there is none. Damaged."""
        import json  # 10 ms, which a start with a network and no record of it does not pay

        path = self.file(name)
        try:
            text = slurp(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno not in BROKEN:
                raise said(error, path) from None
            raise self.damaged(name, error.strerror or str(error)) from None
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            raise self.damaged(name, "it is no JSON") from None
        if not isinstance(data, dict):
            raise self.damaged(name, "it is no JSON object")
        if data.get("version", VERSION) != VERSION:
            raise self.damaged(name, "another version of minibox has written it")
        return data

    def damaged(self, name: str, why: str) -> Damaged:
        short = self.id[:SHORT]
        hint = f"\n  hint: minibox rm -f {short} removes it"
        return Damaged(f"container {short}: {name} cannot be used: {why}{hint}")

    def write(self, name: str, data: Data) -> None:
        """Put a file in its place, whole. StateError."""
        import json

        put(self.file(name), json.dumps({"version": VERSION, **data}, indent=1).encode() + b"\n")

    def remove(self, name: str) -> None:
        discard(self.file(name))

    def mark(self, name: str) -> None:
        """Make an empty file, which takes no room. StateError."""
        try:
            os.close(os.open(self.file(name), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise said(error, self.file(name)) from None

    def exists(self, name: str) -> bool:
        return is_there(self.file(name))

    def lock(self, name: str) -> Lock:
        """For commands that change the container. `name`: what it is called in a message."""
        return Lock(self.file("lock"), f"container {name}", NoSuchContainer(name))

    def is_alive(self) -> bool:
        """Does its monitor live?"""
        return is_locked(self.file("alive"))

    def connect(self, name: str) -> socket.socket | None:
        """A connection to its monitor (docs/life.md, attach); None when nobody listens. `name`: of
        the container, in a message. StateError when that cannot be known, or it does not answer."""
        import socket

        place = -1
        connection = None
        try:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            place = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            # It ends also a wait for a place in the queue of a monitor that stands still.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, TIMEVAL.pack(PATIENCE, 0))
            # By this way the path is short enough for struct sockaddr_un.
            connection.connect(f"/proc/self/fd/{place}/attach")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, TIMEVAL.pack(0, 0))
        except OSError as error:
            if connection:
                connection.close()
            if error.errno in NOBODY:
                return None
            late = error.errno == errno.EAGAIN
            why = "its monitor does not answer" if late else error.strerror
            raise StateError(f"container {name}: {why}") from None
        finally:
            if place >= 0:
                os.close(place)
        return connection

    def is_at_rest(self) -> bool:
        """Does no monitor live, and does nobody start another? Between two starts by a restart
        policy somebody holds the lock, from before the one monitor ends until the next lives."""
        return not self.is_alive() and not is_locked(self.file("lock")) and not self.is_alive()

    def files(self) -> list[str]:
        """Its files' names; none when it is gone. StateError."""
        return listed(self.path)


def is_there(path: str) -> bool:
    """Is there something by that name? StateError when that cannot be known."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise said(error, path) from None
    return True


def discard(path: str) -> None:
    """Remove a file; that there is none is well. StateError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise said(error, path) from None


def listed(path: str) -> list[str]:
    """The names in a directory, sorted; none where there is none. StateError."""
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise said(error, path) from None


def slurp(path: str) -> bytes:
    """A small file, at most LARGEST of it. OSError; a fifo or the like is none of ours."""
    fd = os.open(path, READ)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        pieces = [os.read(fd, FIRST_READ)]
        while len(pieces[-1]) and sum(map(len, pieces)) < LARGEST:
            pieces.append(os.read(fd, LARGEST if len(pieces) > 1 else FIRST_READ))
    finally:
        os.close(fd)
    return b"".join(pieces)


def put(path: str, data: bytes) -> None:
    """Write a file beside its place, and rename it. StateError; nothing is left then."""
    beside = f"{os.path.dirname(path)}/.{os.path.basename(path)}.{os.getpid()}"
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            while data:
                data = data[os.write(fd, data) :]
        finally:
            os.close(fd)
        os.rename(beside, path)
    except OSError as error:
        try:
            os.unlink(beside)
        except OSError:
            pass
        raise said(error, path) from None
