# SPDX-License-Identifier: Apache-2.0
"""Tar streams and trees, without a container: docker cp's rules, and streams that mean harm."""

from __future__ import annotations

import io
import os
import random
import stat
import subprocess
import sys
import tarfile
import threading
import time

import pytest

from minibox.errors import StateError
from minibox.resources import archive, below
from minibox.resources.packing import Packing, split
from minibox.resources.unpacking import Unpacking

SWAP_LOOP = """
import ctypes, sys
AT_FDCWD, RENAME_EXCHANGE = -100, 2
rename = ctypes.CDLL(None, use_errno=True).renameat2
a, b = (word.encode() for word in sys.argv[1:])
print("ready", flush=True)
while rename(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0:
    pass
sys.exit(1)
"""
LONG = "long/" + "x" * 200
BLOCK = 512


def member(name, data=b"", kind=tarfile.REGTYPE, link="", form=tarfile.PAX_FORMAT, **fields):
    """A member as tarfile writes it; fields: mode, uid, mtime, size, pax_headers, …"""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    head = info.tobuf(form, "utf-8", "surrogateescape")
    return head + data + bytes(-len(data) % BLOCK)


def pax(**records):
    """A member `f` behind a pax header with exactly these records."""
    lines = b""
    for key, value in records.items():
        tail = b" %s=%s\n" % (key.encode(), value)
        size = next(n for n in range(len(tail), 99999) if n == len(b"%d" % n) + len(tail))
        lines += b"%d" % size + tail
    return member("p", lines, tarfile.XHDTYPE) + member("f", b"data")


@pytest.fixture
def stream(tmp_path):
    """`stream(data)`: an fd that gives it."""
    fds = []

    def make(data):
        path = tmp_path / "stream.tar"
        path.write_bytes(data)
        fds.append(os.open(path, os.O_RDONLY))
        return fds[-1]

    yield make
    for fd in fds:
        os.close(fd)


@pytest.fixture
def here(tmp_path):
    """The destination; what is beside it must not change."""
    (tmp_path / "here").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    yield tmp_path / "here"
    assert os.listdir(tmp_path / "outside") == ["secret"]
    assert (tmp_path / "outside/secret").read_text() == "secret"
    assert os.stat(tmp_path / "outside/secret").st_nlink == 1


@pytest.fixture
def unpack(stream, here):
    """`unpack(data)` into `here` as a stream of anything, or with is_copy=True by the rules; gives
    the warnings."""

    def run(data, destination=here, *, whole=True, is_copy=False, as_is=False):
        warnings = []
        fd = stream(data + archive.END if whole else data)
        Unpacking(
            fd, os.fsencode(destination), warnings.append,
            is_copy=is_copy, owner=None, as_is=as_is,
        ).unpack()  # fmt: skip
        return warnings

    return run


@pytest.fixture
def pack(tmp_path):
    """`pack(path)`: the stream's bytes and the warnings."""

    def run(path, *, follow_link=False):
        warnings = []
        file = tmp_path / "packed.tar"
        with open(file, "wb", 0) as out:
            Packing(out.fileno(), warnings.append).pack(os.fsencode(path), follow_link=follow_link)
        return file.read_bytes(), warnings

    return run


def names(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


def everything(top):
    return sorted(str(path.relative_to(top)) for path in top.rglob("*"))


# Streams that mean harm.


@pytest.mark.parametrize(
    "name", ["/absolute", "..", "../x", "a/../../x", "./..", "//x", "x" * 4096, "a/" * 2048 + "b"]
)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_name_that_leads_out_is_refused(unpack, here, name, kind, form):
    with pytest.raises(StateError, match="outside the destination"):
        unpack(member(name, kind=kind, link="x", form=form))
    assert everything(here) == []


def test_a_name_with_a_null_byte_is_refused(unpack, here):
    with pytest.raises(StateError):
        unpack(pax(path=b"a\0b"))
    assert everything(here) == []


@pytest.mark.parametrize("link", ["../outside", "{outside}"])
def test_nothing_is_written_through_a_link_of_the_streams(unpack, here, link):
    link = link.format(outside=here.parent / "outside")
    for data in (
        member("d/x", b"no"),
        member("d", kind=tarfile.DIRTYPE),
        member("d/x", kind=tarfile.LNKTYPE, link="d/secret"),
        member("d/secret", b"no"),
    ):
        with pytest.raises(StateError):
            unpack(member("d", kind=tarfile.SYMTYPE, link=link) + data)


def test_nothing_is_written_through_a_link_that_is_there(unpack, here):
    (here / "d").symlink_to("../outside")
    for name in ("d/secret", "d/new/x"):
        with pytest.raises(StateError, match="a symbolic link is in the way"):
            unpack(member(name, b"no"))
    with pytest.raises(StateError):
        unpack(member("d", kind=tarfile.DIRTYPE))


def test_a_link_that_is_there_is_replaced_not_followed(unpack, here):
    (here / "f").symlink_to("../outside/secret")
    unpack(member("f", b"new"))
    assert not (here / "f").is_symlink()
    assert (here / "f").read_bytes() == b"new"


def test_another_name_of_a_file_is_replaced_not_written_to(unpack, here, tmp_path):
    (here / "mine").write_text("old")
    os.link(here / "mine", here / "f")
    unpack(member("f", b"new"))
    assert (here / "mine").read_text() == "old"


@pytest.mark.parametrize("link", ["../outside/secret", "{outside}/secret", "d/secret", "", "."])
def test_a_hard_link_leads_to_nothing_outside(unpack, here, link):
    (here / "d").symlink_to("../outside")
    with pytest.raises(StateError):
        unpack(member("f", kind=tarfile.LNKTYPE, link=link.format(outside=here.parent / "outside")))
    assert everything(here) == ["d"]


def test_a_symbolic_link_is_made_as_it_is(unpack, here):
    unpack(member("l", kind=tarfile.SYMTYPE, link="/etc/../../x", mtime=5))
    assert os.readlink(here / "l") == "/etc/../../x"
    assert os.lstat(here / "l").st_mtime == 5


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, b"Z"])
def test_devices_and_what_is_unknown_are_left_out(unpack, here, kind):
    data = b"data" if kind == b"Z" else b""
    warnings = unpack(member("d", data, kind) + member("f", b"x"))
    assert everything(here) == ["f"]
    assert len(warnings) == 1 and "here/d: left out" in warnings[0]


def test_set_id_bits_are_kept_only_when_asked_for(unpack, here):
    data = member("f", b"x", mode=0o6755, uid=os.geteuid(), gid=os.getegid())
    data += member("d", kind=tarfile.DIRTYPE, mode=0o7755, uid=os.geteuid(), gid=os.getegid())
    unpack(data)
    assert [stat.S_IMODE(os.stat(here / n).st_mode) for n in "fd"] == [0o755, 0o1755]
    os.rmdir(here / "d")
    unpack(data, as_is=True)
    assert [stat.S_IMODE(os.stat(here / n).st_mode) for n in "fd"] == [0o6755, 0o7755]


def test_a_directory_that_is_there_keeps_its_mode_and_time(unpack, here):
    (here / "d").mkdir(0o700)
    os.utime(here / "d", ns=(5, 5))
    data = member(".", kind=tarfile.DIRTYPE, mode=0o777, mtime=9)
    os.chmod(here, 0o700)
    unpack(data + member("d", kind=tarfile.DIRTYPE, mode=0o777, mtime=9), as_is=True)
    assert stat.S_IMODE(os.stat(here).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(here / "d").st_mode) == 0o700
    assert os.stat(here / "d").st_mtime_ns == 5


def test_a_directory_gets_mode_and_time_after_its_files(unpack, here):
    data = member("d", kind=tarfile.DIRTYPE, mode=0o500, mtime=7)
    unpack(data + member("d/f", b"x") + member("g", b"x"))
    found = os.stat(here / "d")
    assert (stat.S_IMODE(found.st_mode), found.st_mtime) == (0o500, 7)


def test_the_kinds_must_agree(unpack, here):
    (here / "d").mkdir()
    (here / "f").touch()
    with pytest.raises(StateError, match="here/d: Is a directory"):
        unpack(member("d", b"x"))
    with pytest.raises(StateError, match="here/f: a directory cannot replace"):
        unpack(member("f", kind=tarfile.DIRTYPE))
    with pytest.raises(StateError, match="here: a directory cannot be replaced"):
        unpack(member(".", b"x"))
    assert everything(here) == ["d", "f"]


def test_a_copy_brings_only_what_is_copied(unpack, here):
    """Names in the stream must be below the first one."""
    for other in (
        member("b", b"x"),
        member("a2/x", b"x"),
        member("a/l", kind=tarfile.LNKTYPE, link="b"),
    ):
        with pytest.raises(StateError):
            unpack(member("a", kind=tarfile.DIRTYPE) + other, is_copy=True)
    assert everything(here) == ["a"]


# Streams that are damaged.


def test_a_torn_stream_is_noticed_wherever_it_is_torn(unpack, here):
    data = member("f", b"x" * 700) + member("d", kind=tarfile.DIRTYPE) + member(LONG, b"y")
    for at in range(0, len(data) + 1, 256):
        with pytest.raises(StateError, match="ended too early"):
            unpack(data[:at], whole=False)
    assert unpack(data + bytes(BLOCK), whole=False) == []


def test_half_a_file_is_not_left_behind(unpack, here):
    (here / "f").write_text("old")
    with pytest.raises(StateError):
        unpack(member("f", b"x" * 5000)[:3000], whole=False)
    assert (here / "f").read_text() == "old"
    assert everything(here) == ["f"]


@pytest.mark.parametrize(
    "data",
    [
        b"hello", b"x" * BLOCK, os.urandom(BLOCK * 4), b"\x1f\x8b\x08" + bytes(1000),
        member("f", b"x", tarfile.GNUTYPE_SPARSE),
        pax(**{"GNU.sparse.major": b"1"}),
        pax(size=b"-1"), pax(size=b"1e3"), pax(size=b"9" * 40), pax(uid=b"4294967295"),
        pax(gid=b"x"), member("f", uid=-2, form=tarfile.GNU_FORMAT),
        member("p", b"5 x", tarfile.XHDTYPE), member("p", b"99 a=b\n", tarfile.XHDTYPE),
        member("p", b"0 a=b\n", tarfile.XHDTYPE), member("p", b"9" * 5000, tarfile.XHDTYPE),
        member("p", b"7 a b c\n", tarfile.XHDTYPE), member("p", b"-6 a=b\n", tarfile.XHDTYPE),
        # A name that promises to have no end, and very many names before one member.
        member("p", b"", tarfile.GNUTYPE_LONGNAME, size=1 << 40, form=tarfile.GNU_FORMAT),
        member("p", b"", tarfile.XHDTYPE, size=1 << 62, form=tarfile.GNU_FORMAT),
        member("p", b"x\0", tarfile.GNUTYPE_LONGNAME) * 3000,
    ],
)  # fmt: skip
def test_nonsense_is_refused(unpack, here, data):
    with pytest.raises(StateError):
        unpack(data + bytes(BLOCK))
    assert everything(here) == []


@pytest.mark.parametrize("mtime", [b"nan", b"1e5", b"", b".5", b"99999999999999", b"-", b"1.x"])
def test_a_time_that_is_none_is_the_epoch(unpack, here, mtime):
    unpack(pax(mtime=mtime))
    assert os.stat(here / "f").st_mtime_ns == 0


def test_random_damage_is_refused_or_harmless(unpack, here):
    rng = random.Random("minibox tar")
    whole = bytearray(
        member("a", b"1" * 600)
        + member("d", kind=tarfile.DIRTYPE)
        + member("d/l", kind=tarfile.SYMTYPE, link="../../outside")
        + member("d/h", kind=tarfile.LNKTYPE, link="a")
        + member(LONG, b"2", mtime=1.5)
        + member("g" * 150, b"3", form=tarfile.GNU_FORMAT)
    )
    for _ in range(600):
        data = bytearray(whole)
        head = rng.randrange(len(data) // BLOCK) * BLOCK
        for _ in range(rng.randrange(1, 4)):
            data[head + rng.randrange(BLOCK)] = rng.choice(
                b"\0\xff\x80/.0179 \nlx" + bytes([rng.randrange(256)])
            )
        if rng.random() < 0.8:  # the damage shall get past the check sum
            block = data[head : head + BLOCK]
            block[148:156] = b" " * 8
            data[head + 148 : head + 156] = b"%06o\0 " % sum(block)
        try:
            unpack(bytes(data))
        except StateError as error:
            assert "\n" not in str(error)


# What a stream may hold.


def test_long_and_strange_names(unpack, here):
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        for name in (LONG, "é", "\udcff\udc80", "new\nline", " ", "-rf"):
            unpack(member(name, b"x", form=form))
            assert (here / name).read_bytes() == b"x"
            (here / name).unlink()


def test_times_are_exact(pack, unpack, here, tmp_path):
    (tmp_path / "a").mkdir()
    times = {"n": -1_500_000_001, "p": 1_700_000_000_123_456_789, "z": 0}
    for name, when in times.items():
        (tmp_path / "a" / name).touch()
        os.utime(tmp_path / "a" / name, ns=(when, when))
    unpack(pack(tmp_path / "a")[0])
    assert {name: os.stat(here / "a" / name).st_mtime_ns for name in times} == times


def test_directories_that_the_stream_takes_for_granted_are_made(unpack, here):
    unpack(member("a/b/c/f", b"x"))
    assert (here / "a/b/c/f").read_bytes() == b"x"


def test_holes_stay_holes(pack, unpack, here, tmp_path):
    size = 64 << 20
    with open(tmp_path / "s", "wb") as file:
        file.write(b"head")
        file.truncate(size)
    data, _ = pack(tmp_path / "s")
    assert len(data) == BLOCK * (len(data) // BLOCK) and len(data) > size
    unpack(data)
    found = os.stat(here / "s")
    assert found.st_size == size
    assert found.st_blocks * BLOCK < 1 << 20
    with open(here / "s", "rb") as file:
        assert file.read(5) == b"head\0"


# Trees.


def test_a_tree_comes_back_as_it_was(pack, unpack, here, tmp_path):
    top = tmp_path / "t"
    (top / "d/e").mkdir(parents=True)
    (top / "d/f").write_bytes(b"x" * 100_000)
    os.link(top / "d/f", top / "h")
    (top / "l").symlink_to("/etc/passwd")
    (top / "dangling").symlink_to("nowhere")
    os.mkfifo(top / "p", 0o640)
    os.chmod(top / "p", 0o640)
    (top / "d/e/x").write_text("")
    os.chmod(top / "d/e/x", 0o4711)
    data, warnings = pack(top)
    assert warnings == [] and unpack(data, is_copy=True) == []
    assert everything(here / "t") == everything(top)
    assert os.stat(here / "t/h").st_ino == os.stat(here / "t/d/f").st_ino
    assert os.readlink(here / "t/l") == "/etc/passwd"
    assert stat.S_ISFIFO(os.lstat(here / "t/p").st_mode)
    for name in ("d", "d/f", "p", "d/e"):
        old, new = os.lstat(top / name), os.lstat(here / "t" / name)
        assert (old.st_mode, old.st_mtime_ns) == (new.st_mode, new.st_mtime_ns)
    assert stat.S_IMODE(os.stat(here / "t/d/e/x").st_mode) == 0o711


def test_other_tools_read_the_stream(pack, tmp_path):
    (tmp_path / LONG).mkdir(parents=True)
    (tmp_path / LONG / "\udcff").write_text("x")
    data, _ = pack(tmp_path / "long")
    assert names(data) == ["long", LONG, f"{LONG}/\udcff"]


def test_a_socket_is_left_out(pack, tmp_path, monkeypatch):
    import socket

    (tmp_path / "t").mkdir()
    monkeypatch.chdir(tmp_path / "t")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("s")
    data, warnings = pack(tmp_path / "t")
    assert names(data) == ["t"]
    assert warnings == ["t/s: left out: an archive cannot hold a socket"]


def test_a_tree_deeper_than_a_path_can_say(pack, tmp_path):
    (tmp_path / "t").mkdir()
    fd = os.open(tmp_path / "t", os.O_RDONLY)
    name = "d" * 250
    for _ in range(20):
        os.mkdir(name, dir_fd=fd)
        deeper = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    data, warnings = pack(tmp_path / "t")
    assert len(names(data)) == 17
    assert len(warnings) == 1 and warnings[0].endswith("left out: its path is too long")


def test_many_levels_need_few_fds(pack, unpack, here, tmp_path):
    os.makedirs(tmp_path / "t" / "/".join("d" * 700))
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    data = b""
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        data, _ = pack(tmp_path / "t")
        unpack(data, is_copy=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (here / "t" / "/".join("d" * 700)).is_dir()


@pytest.mark.parametrize(("change", "tail"), [(100_000, bytes), (3_000_000, b"x".__mul__)])
def test_a_file_that_changes_keeps_the_size_that_was_said(tmp_path, change, tail):
    """The packer is held up by a full pipe while the file is made shorter or longer."""
    size = 1_000_000
    (tmp_path / "f").write_bytes(b"x" * size)
    read, write = os.pipe()
    warnings = []

    def run():
        Packing(write, warnings.append).pack(os.fsencode(tmp_path / "f"), follow_link=False)
        os.close(write)

    thread = threading.Thread(target=run)
    thread.start()
    with open(read, "rb") as pipe:
        data = pipe.read(BLOCK)
        if change < size:
            os.truncate(tmp_path / "f", change)
        else:
            with open(tmp_path / "f", "ab") as file:
                file.write(b"x" * (change - size))
        data += pipe.read()
    thread.join()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        content = tar.extractfile("f").read()
    assert len(content) == size
    assert content[-1000:] == tail(1000)
    assert len(warnings) == (change < size)


def test_a_file_that_becomes_a_link_is_not_followed(pack, tmp_path):
    """For a second, while another process exchanges the two."""
    (tmp_path / "t").mkdir()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "t/f").write_text("good")
    (tmp_path / "t/l").symlink_to("../secret")
    words = [sys.executable, "-c", SWAP_LOOP, tmp_path / "t/f", tmp_path / "t/l"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        deadline = time.monotonic() + 1
        try:
            while time.monotonic() < deadline:
                data, _ = pack(tmp_path / "t")
                assert b"secret\0" not in data.replace(b"../secret", b"")
        finally:
            assert process.poll() is None
            process.kill()


# docker cp's rules.


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        (b"/", (b"/", b".", True)), (b"/a", (b"/", b"a", False)), (b"a", (b".", b"a", False)),
        (b"/a/b/", (b"/a/", b"b", True)), (b"a/.", (b"a/.", b".", True)),
        (b"a/..", (b"a/..", b".", True)), (b".", (b".", b".", True)), (b"//a//", (b"//", b"a", True)),
    ],
)  # fmt: skip
def test_paths_are_split(path, parts):
    assert split(path) == parts


@pytest.mark.parametrize(
    ("source", "destination", "made"),
    [
        ("f", "new", "new"), ("f", "file", "file"), ("f", "dir", "dir/f"), ("f", "dir/", "dir/f"),
        ("f", "dir/new", "dir/new"), ("f", "dir/.", "dir/f"),
        ("d", "new", "new/x"), ("d", "new/", "new/x"), ("d/", "new", "new/x"), ("d/.", "new", "new/x"),
        ("d", "dir", "dir/d/x"), ("d/", "dir", "dir/d/x"), ("d/.", "dir", "dir/x"), ("d", ".", "d/x"),
        ("f", "link to dir", "dir/f"), ("f", "link to file", "file"), ("f", "dangling", "target"),
        ("link", "new", "new"), ("link/", "dir", "dir/link/x"), ("link/.", "dir", "dir/x"),
    ],
)  # fmt: skip
def test_what_is_made_where(pack, unpack, here, tmp_path, monkeypatch, source, destination, made):
    (tmp_path / "from/d").mkdir(parents=True)
    (tmp_path / "from/f").write_text("new")
    (tmp_path / "from/d/x").write_text("new")
    (tmp_path / "from/link").symlink_to("d")
    (here / "dir").mkdir()
    (here / "file").write_text("old")
    (here / "link to dir").symlink_to("dir")
    (here / "link to file").symlink_to("file")
    (here / "dangling").symlink_to("target")
    monkeypatch.chdir(here)
    data, _ = pack(f"{tmp_path}/from/{source}")
    assert unpack(data, destination, is_copy=True) == []
    if source == "link":
        assert os.readlink(here / made) == "d"
    else:
        assert (here / made).read_text() == "new"
        assert not (here / made).is_symlink()


@pytest.mark.parametrize(
    ("source", "destination", "said"),
    [
        ("f/", "new", "Not a directory"), ("f/.", "new", "Not a directory"),
        ("nope", "new", "No such file or directory"), ("nope/f", "new", "No such file or directory"),
        ("loop", "new", None), ("loop/", "new", "a symbolic link is in the way"),
        ("f", "new/", "no such directory"), ("f", "new/.", "no such directory"),
        ("f", "no/new", "No such file or directory"), ("d", "no/new", "No such file or directory"),
        ("f", "file/", "Not a directory"), ("f", "file/new", "Not a directory"),
        ("d", "file", "a directory cannot be copied to a file"),
        ("d/.", "file", "a directory cannot be copied to a file"),
        ("f", "fifo", "neither a file nor a directory"), ("f", "/dev/null", "neither a file nor a directory"),
        ("f", "dir2", "Is a directory"), ("d", "dir3", "a directory cannot replace what is none"),
        ("f", "loop", "a symbolic link is in the way"),
    ],
)  # fmt: skip
def test_what_cannot_be_copied(
    pack, unpack, here, tmp_path, monkeypatch, source, destination, said
):
    (tmp_path / "from/d").mkdir(parents=True)
    (tmp_path / "from/f").touch()
    (tmp_path / "from/loop").symlink_to("loop")
    for name in ("dir", "dir2/f", "dir3"):
        (here / name).mkdir(parents=True)
    (here / "dir3/d").touch()
    (here / "file").write_text("old")
    (here / "loop").symlink_to("loop")
    os.mkfifo(here / "fifo")
    before = everything(here)
    monkeypatch.chdir(here)
    if said is None:
        unpack(pack(f"{tmp_path}/from/{source}")[0], destination, is_copy=True)
        return
    with pytest.raises(StateError, match=said):
        unpack(pack(f"{tmp_path}/from/{source}")[0], destination, is_copy=True)
    assert everything(here) == before
    assert (here / "file").read_text() == "old"


def test_a_link_is_followed_when_asked_and_keeps_its_name(pack, unpack, here, tmp_path):
    (tmp_path / "f").write_text("new")
    (tmp_path / "l").symlink_to("f")
    unpack(pack(tmp_path / "l", follow_link=True)[0], is_copy=True)
    assert (here / "l").read_text() == "new" and not (here / "l").is_symlink()


def test_a_stream_of_anything_needs_a_directory(unpack, here):
    (here / "f").touch()
    for name in ("f", "new"):
        with pytest.raises(StateError, match="must be a directory"):
            unpack(member("x", b"x"), here / name)


# Going down by fds.


def test_no_directory_is_opened_through_a_link(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "l").symlink_to("a")
    (tmp_path / "a/up").symlink_to("..")
    top = os.open(tmp_path, os.O_PATH)
    try:
        os.close(below.open_directory(top, b"a/b"))
        os.close(below.open_directory(top, b""))
        for path in (b"l", b"l/b", b"a/up", b"nope"):
            with pytest.raises(OSError):
                below.open_directory(top, path)
    finally:
        os.close(top)
