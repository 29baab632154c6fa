# SPDX-License-Identifier: Apache-2.0
"""A directory that wakes who watches it."""

import errno
import os
import threading
import time

import pytest

from minibox import core, watch
from minibox.watch import Watch


def fds():
    return set(os.listdir("/proc/self/fd"))


def test_numbers():
    """Against the C library's own wrappers."""
    import ctypes

    with Watch("/") as watching:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.inotify_rm_watch(watching.fileno(), 1) == 0


@pytest.mark.parametrize(
    ("act", "mask"),
    [
        (lambda d: (d / "log").open("ab").close(), watch.IN_CLOSE_WRITE),
        (lambda d: (d / "log").write_bytes(b"x"), watch.IN_MODIFY | watch.IN_CLOSE_WRITE),
        (lambda d: (d / "new").touch(), watch.IN_CREATE | watch.IN_CLOSE_WRITE),
        (lambda d: (d / "log").rename(d / "log.1"), watch.IN_MOVED_FROM | watch.IN_MOVED_TO),
        (lambda d: (d / "log").unlink(), watch.IN_DELETE),
    ],
)
def test_what_happened(tmp_path, act, mask):
    (tmp_path / "log").touch()
    with Watch(str(tmp_path)) as watching:
        act(tmp_path)
        assert watching.wait(10) == mask
        assert watching.wait(0) == 0  # it is told once


def test_the_directory_goes(tmp_path):
    directory = tmp_path / "d"
    directory.mkdir()
    with Watch(str(directory)) as watching:
        directory.rmdir()
        assert watching.wait(10) & watch.IN_DELETE_SELF


def test_only_what_was_asked_for(tmp_path):
    with Watch(str(tmp_path), watch.IN_DELETE) as watching:
        (tmp_path / "a").touch()
        assert watching.wait(0) == 0
        (tmp_path / "a").unlink()
        assert watching.wait(0) == watch.IN_DELETE


def test_reading_wakes_nobody(tmp_path):
    (tmp_path / "log").write_bytes(b"x")
    with Watch(str(tmp_path)) as watching:
        (tmp_path / "log").read_bytes()
        assert watching.wait(0) == 0


def test_many_events_at_once(tmp_path):
    with Watch(str(tmp_path)) as watching:
        for number in range(300):
            (tmp_path / f"{number:0>200}").touch()
        found = 0
        while mask := watching.wait(0):
            found |= mask
        assert found == watch.IN_CREATE | watch.IN_CLOSE_WRITE


def test_it_wakes_from_a_wait(tmp_path):
    with Watch(str(tmp_path)) as watching:
        thread = threading.Thread(target=(tmp_path / "a").touch)
        thread.start()
        assert watching.wait(10)
        thread.join()


def test_negative_timeout(tmp_path):
    with Watch(str(tmp_path)) as watching:
        assert watching.wait(-1) == 0


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENOSPC, errno.ENOSYS])
@pytest.mark.parametrize("call", [watch.INIT, watch.ADD])
def test_without_inotify_it_just_waits(tmp_path, monkeypatch, call, error):
    def syscall(number, *args, real=core.syscall):
        if number == call:
            raise OSError(error, os.strerror(error))
        return real(number, *args)

    monkeypatch.setattr(core, "syscall", syscall)
    before = fds()
    with Watch(str(tmp_path)) as watching:
        assert watching.fileno() == -1
        assert fds() == before
        began = time.monotonic()
        assert watching.wait(60) == 0
        assert time.monotonic() - began < 10


@pytest.mark.parametrize(("name", "error"), [("no", FileNotFoundError), ("f", NotADirectoryError)])
def test_no_directory(tmp_path, name, error):
    (tmp_path / "f").touch()
    before = fds()
    with pytest.raises(error, match=name):
        Watch(str(tmp_path / name))
    assert fds() == before


def test_close(tmp_path):
    before = fds()
    watching = Watch(os.fsdecode(os.fsencode(tmp_path)))
    assert fds() != before
    assert not os.get_inheritable(watching.fileno())
    watching.close()
    watching.close()
    assert fds() == before
