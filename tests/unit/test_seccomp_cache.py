# SPDX-License-Identifier: Apache-2.0
"""The files of filters that were made before: what is trusted, and that none of it is needed."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import minibox
from minibox import seccomp
from minibox.errors import SetupError, Unsupported
from minibox.seccomp import cache, default, filters, library
from minibox.spec import DEFAULT_CAPABILITIES

PROGRAM = bytes(range(16))
OTHER = bytes(24)
NAME = "0f"


class Make:
    """Makes PROGRAM, and counts."""

    def __init__(self, program=PROGRAM):
        self.program = program
        self.count = 0

    def __call__(self):
        self.count += 1
        return self.program


@pytest.fixture
def make():
    return Make()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def kept(home):
    """The file of PROGRAM."""
    cache.kept(NAME, Make())
    return home / "minibox/seccomp" / NAME


def test_what_was_made_is_found(home, make):
    assert [cache.kept(NAME, make) for _ in range(3)] == [PROGRAM] * 3
    assert make.count == 1
    assert os.listdir(home / "minibox/seccomp") == [NAME]
    assert cache.kept("1e", Make(OTHER)) == OTHER
    modes = [path.stat().st_mode & 0o777 for path in (home / "minibox", *home.rglob(NAME))]
    assert modes == [0o700, 0o600]


def test_a_home_that_has_none_yet(tmp_path, monkeypatch, make):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert [cache.kept(NAME, make) for _ in range(2)] == [PROGRAM] * 2
    assert make.count == 1
    assert (tmp_path / ".cache").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("home", ["", "/", "relative", "/nonexistent", "/proc/self", "/dev/null"])
def test_no_home(monkeypatch, make, home):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", home)
    assert [cache.kept(NAME, make) for _ in range(2)] == [PROGRAM] * 2
    assert make.count == 2
    assert not os.path.exists("/.cache") and not os.path.exists("relative")


@pytest.mark.parametrize("where", ["", "minibox", "minibox/seccomp", f"minibox/seccomp/{NAME}"])
@pytest.mark.parametrize("bit", [0o020, 0o002])
def test_what_others_may_write_is_not_trusted(home, kept, make, where, bit):
    kept.write_bytes(OTHER)
    path = home / where
    path.chmod(path.stat().st_mode | bit)
    assert cache.kept(NAME, make) == PROGRAM
    # A file in a place of ours is made anew; another place is left alone.
    assert kept.read_bytes() == (PROGRAM if path == kept else OTHER)


@pytest.mark.parametrize("where", ["minibox", "minibox/seccomp", f"minibox/seccomp/{NAME}"])
def test_a_link_is_not_followed(home, kept, make, where):
    kept.write_bytes(OTHER)
    path = home / where
    path.rename(home / "elsewhere")
    path.symlink_to(home / "elsewhere")
    assert cache.kept(NAME, make) == PROGRAM
    assert OTHER in [one.read_bytes() for one in home.rglob("*") if one.is_file()]


def test_what_is_somebody_else_s_is_left_alone(kept, make, monkeypatch):
    kept.write_bytes(OTHER)
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    assert cache.kept(NAME, make) == PROGRAM
    assert kept.read_bytes() == OTHER


def test_somebody_else_s_file(kept, make):
    if os.geteuid():
        return
    kept.write_bytes(OTHER)
    os.chown(kept, 12345, 12345)
    assert cache.kept(NAME, make) == PROGRAM


@pytest.mark.parametrize("content", [b"", b"1234567", OTHER + b"\0", bytes(8 * 4097)])
def test_garbage_is_made_anew(kept, make, content):
    kept.write_bytes(content)
    assert [cache.kept(NAME, make) for _ in range(2)] == [PROGRAM] * 2
    assert make.count == 1


@pytest.mark.parametrize("kind", ["fifo", "directory"])
def test_no_file_by_that_name(kept, make, kind):
    kept.unlink()
    os.mkfifo(kept) if kind == "fifo" else kept.mkdir()
    assert cache.kept(NAME, make) == PROGRAM


def test_what_the_kernel_would_not_take_is_not_kept(home):
    for program in (b"", bytes(8 * 4097), bytes(9)):
        assert cache.kept(NAME, Make(program)) == program
    assert os.listdir(home / "minibox/seccomp") == []


@pytest.mark.parametrize("room", [0, 8])
def test_a_full_disk_leaves_nothing(home, make, room):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        assert cache.kept(NAME, make) == PROGRAM
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(home / "minibox/seccomp") == []


def test_it_does_not_grow_for_ever(home, make):
    for k in range(cache.MOST + 1):
        cache.kept(str(k), make)
    assert os.listdir(home / "minibox/seccomp") == [str(cache.MOST)]


def test_what_make_raises_goes_through(home):
    def fail():
        raise Unsupported("no")

    with pytest.raises(Unsupported):
        cache.kept(NAME, fail)


# The choice, with and without libseccomp.


@pytest.fixture
def made(monkeypatch):
    """How often libseccomp was asked for a program."""
    count = []
    program = library.program
    monkeypatch.setattr(library, "program", lambda chosen: count.append(1) or program(chosen))
    return count


def choose(monkeypatch, text="default", capabilities=("CHOWN",)):
    """As another process would."""
    monkeypatch.setattr(filters, "_known", {})
    return seccomp.choose(text, capabilities)


def test_a_filter_is_made_once(home, made, monkeypatch):
    first = choose(monkeypatch)
    assert choose(monkeypatch) == first and len(made) == 1
    assert choose(monkeypatch, capabilities=("SYS_ADMIN",)) != first and len(made) == 2
    flagged = '{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}'
    assert choose(monkeypatch, flagged) == choose(monkeypatch, flagged)
    assert (choose(monkeypatch, flagged).flags, len(made)) == (2, 3)
    monkeypatch.setattr(library, "version", lambda: (9, 9, 9))
    assert choose(monkeypatch) == first and len(made) == 4


@pytest.fixture
def missing(monkeypatch):
    monkeypatch.setattr(library, "NAME", "libseccomp.so.none")
    monkeypatch.setattr(library, "_library", None)


def test_no_file_in_memory(home, monkeypatch):
    def fail(*_):
        raise OSError(errno.EMFILE, "x")

    monkeypatch.setattr(os, "memfd_create", fail)
    with pytest.raises(SetupError, match="make a filter"):
        choose(monkeypatch)


def test_a_kernel_that_seals_no_memfd(monkeypatch):
    create, flags = os.memfd_create, []

    def old(name, given):
        flags.append(given)
        if given & library.MFD_NOEXEC_SEAL:
            raise OSError(errno.EINVAL, "x")
        return create(name, given)

    made = library.program(default.profile((), ("x86_64",)))
    monkeypatch.setattr(os, "memfd_create", old)
    assert library.program(default.profile((), ("x86_64",))) == made
    assert len(flags) == 2


def test_without_the_library(missing, monkeypatch):
    assert choose(monkeypatch, capabilities=DEFAULT_CAPABILITIES) is not None
    assert choose(monkeypatch, "unconfined") is None
    with pytest.raises(Unsupported, match=r"(?s)libseccomp.*is not there.*hint: ") as caught:
        choose(monkeypatch)
    assert caught.value.lack == "seccomp"


def test_a_package_built_without_the_library_carries_no_filter(
    missing, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(seccomp, "_default", None)
    monkeypatch.setattr(seccomp, "ready_path", lambda machine: str(tmp_path / machine))
    filters.write()
    assert "carries no filter" in capsys.readouterr().out
    assert os.listdir(tmp_path) == []


def test_the_default_asks_for_no_library():
    code = (
        "import sys; sys.path.append(sys.argv[1]); from minibox import seccomp\n"
        "from minibox.spec import DEFAULT_CAPABILITIES\n"
        "assert seccomp.choose(None, DEFAULT_CAPABILITIES).program\n"
        "assert 'libseccomp' not in open('/proc/self/maps').read()\n"
        "assert not {'minibox._seccomp', 'minibox.seccomp.library', 'hashlib'} & set(sys.modules)\n"
    )
    directory = str(Path(minibox.__file__).parent.parent)
    subprocess.run([sys.executable, "-IS", "-c", code, directory], check=True)
