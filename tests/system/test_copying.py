# SPDX-License-Identifier: Apache-2.0
"""Copying in and out of containers that run: ids, hostile trees, races, ends in the middle."""

from __future__ import annotations

import ctypes
import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

import minibox
from minibox import copying
from minibox.errors import SpecError, StateError
from minibox.resources import archive

SWAP_LOOP = """
import ctypes, sys
AT_FDCWD, RENAME_EXCHANGE = -100, 2
rename = ctypes.CDLL(None, use_errno=True).renameat2
a, b, c, d = (word.encode() for word in sys.argv[1:])
print("ready", flush=True)
while rename(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0:
    rename(AT_FDCWD, c, AT_FDCWD, d, RENAME_EXCHANGE)
sys.exit(1)
"""
IN_PYTHON = """
import sys
from minibox import copying
from minibox.cli import report
root, userns, verb, path = sys.argv[1:5]
place = copying.Place(root.encode(), userns.encode())
options = {"follow_link": False, "archive": False}
try:
    if verb == "out":
        copying.copy_out(place, path.encode(), None, **options)
    else:
        copying.copy_in(None, place, path.encode(), **options)
except Exception as error:
    sys.exit(report(error))
"""
KINDS = [{}, {"overlay": True}, {"userns": "host"}, {"overlay": True, "userns": "host"}]
KIND_IDS = ["auto", "overlay", "host", "overlay host"]
MEBIBYTE = 1 << 20
PR_SET_DUMPABLE = 4


class Box:
    """A running container with a shell that does what it is told."""

    def __init__(self, tree, **options):
        self.container = minibox.Container(
            ["/bin/sh"], rootfs=str(tree), stdin="pipe", stdout="pipe", **options
        ).start()
        pid = self.container.pid
        self.place = copying.Place(b"/proc/%d/root" % pid, b"/proc/%d/ns/user" % pid)
        self.root = Path(f"/proc/{pid}/root")
        self.copiers = []

    def sh(self, script):
        """What the script prints."""
        self.container.stdin.write(f"({script}) 2>&1; echo '--end--'\n".encode())
        said = b""
        while not said.endswith(b"--end--\n"):
            piece = self.container.stdout.read(65536)
            assert piece, f"the container has ended: {said!r}"
            said += piece
        return os.fsdecode(said.removesuffix(b"--end--\n").removesuffix(b"\n"))

    def out(self, path, destination, *, follow_link=False, archive=False):
        """copy_out; the warnings."""
        warnings = []
        copying.copy_out(
            self.place, os.fsencode(path), os.fspath(destination),
            follow_link=follow_link, archive=archive, warn=warnings.append,
        )  # fmt: skip
        return warnings

    def into(self, source, path, *, follow_link=False, archive=False):
        """copy_in; the warnings."""
        warnings = []
        copying.copy_in(
            os.fspath(source), self.place, os.fsencode(path),
            follow_link=follow_link, archive=archive, warn=warnings.append,
        )  # fmt: skip
        return warnings

    def python(self, verb, path, **how):
        """Another process that copies a tar stream."""
        place = [os.fsdecode(self.place.root), os.fsdecode(self.place.userns)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        words = [sys.executable, "-I", "-c", IN_PYTHON, *place, verb, path]
        self.copiers.append(subprocess.Popen(words, bufsize=0, **{**pipes, **how}))
        return self.copiers[-1]

    def close(self):
        for process in self.copiers:
            process.kill()
            process.wait()
            for file in (process.stdin, process.stdout, process.stderr):
                if file is not None:
                    file.close()
        self.container.close()


@pytest.fixture
def start(tree):
    """`start(overlay=True)`: a Box on a tree of the test's own."""
    boxes = []

    def run(**options):
        boxes.append(Box(options.pop("root", tree), **options))
        return boxes[-1]

    yield run
    for box in boxes:
        box.close()


@pytest.fixture
def box(start):
    return start()


@pytest.fixture
def outside(tmp_path):
    """A directory of the host's that must stay as it is."""
    top = tmp_path / "outside"
    top.mkdir()
    (top / "secret").write_text("secret")
    yield top
    assert os.listdir(top) == ["secret"]
    assert (top / "secret").read_text() == "secret"


def copier(process, until):
    """The pid of the child that works in the container, once it is there."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return until(lambda: [int(pid) for pid in path.read_text().split()])[0]


def finish(process, **how):
    """Exit code, stdout, stderr; it must come to an end by itself, and say one line at most."""
    out, errors = process.communicate(timeout=20, **how)
    assert b"Traceback" not in errors and errors.count(b"\n") <= 1, errors
    return process.returncode, out, os.fsdecode(errors)


def tar(*members):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as file:
        for name, content, fields in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in fields.items():
                setattr(info, key, value)
            file.addfile(info, io.BytesIO(content))
    return data.getvalue()


# Ids, modes, times.


@pytest.mark.parametrize("options", KINDS, ids=KIND_IDS)
def test_what_comes_in_is_the_containers_roots(start, tmp_path, options):
    box = start(**options)
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d/f").write_text("hello")
    (source / "l").symlink_to("d/f")
    os.mkfifo(source / "p")
    for name in ("", "d", "d/f", "l", "p"):
        os.lchown(source / name, 1234, 5678)
    os.chmod(source / "d/f", 0o4751)
    os.utime(source / "d/f", (7, 7))
    assert box.into(source, "/mnt") == []
    stats = "stat -c '%u:%g %a %Y' /mnt/source/d/f; stat -c '%u:%g %F' /mnt/source /mnt/source/*"
    assert box.sh(stats).splitlines() == [
        "0:0 751 7", "0:0 directory", "0:0 directory", "0:0 symbolic link", "0:0 fifo",
    ]  # fmt: skip
    assert box.sh("cat /mnt/source/l") == "hello"
    assert box.sh("echo more >>/mnt/source/d/f && cat /mnt/source/d/f") == "hellomore"


@pytest.mark.parametrize("options", KINDS, ids=KIND_IDS)
def test_archive_keeps_numbers_both_ways(start, tmp_path, options):
    box = start(**options)
    box.sh("mkdir -p /a/d; echo x >/a/d/f; ln -s d /a/l; chown -Rh 33:44 /a; chmod 6755 /a/d/f")
    box.out("/a", tmp_path / "kept", archive=True)
    box.out("/a", tmp_path / "mine")
    for name in ("", "d", "d/f", "l"):
        kept, mine = os.lstat(tmp_path / "kept" / name), os.lstat(tmp_path / "mine" / name)
        assert (kept.st_uid, kept.st_gid) == (33, 44)
        assert (mine.st_uid, mine.st_gid) == (os.geteuid(), os.getegid())
    assert stat.S_IMODE(os.stat(tmp_path / "kept/d/f").st_mode) == 0o6755
    assert stat.S_IMODE(os.stat(tmp_path / "mine/d/f").st_mode) == 0o755
    box.into(tmp_path / "kept", "/b", archive=True)
    assert box.sh("stat -c '%u:%g %a' /b /b/d/f /b/l").split("\n") == [
        "33:44 755", "33:44 6755", "33:44 777",
    ]  # fmt: skip


def test_a_set_group_id_directory_does_not_decide(box, tmp_path):
    box.sh("mkdir /g; chown 0:5 /g; chmod 2777 /g")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").touch()
    box.into(tmp_path / "d", "/g")
    assert box.sh("stat -c %u:%g:%a /g/d /g/d/f").split() == ["0:0:755", "0:0:644"]


def test_an_owner_that_the_container_has_not_is_named(box, tmp_path):
    (tmp_path / "f").touch()
    os.chown(tmp_path / "f", 100_000, 0)
    with pytest.raises(StateError, match="in the container: /f: the owner 100000:0 does not exist"):
        box.into(tmp_path / "f", "/f", archive=True)
    assert "No such file" in box.sh("ls /f")
    assert box.sh("ls -a / | grep minibox") == ""


@pytest.mark.parametrize("options", KINDS, ids=KIND_IDS)
def test_volumes_and_tmpfs_are_where_the_container_sees_them(start, tmp_path, options):
    (tmp_path / "volume").mkdir()
    box = start(volumes=[f"{tmp_path}/volume:/v"], tmpfs=["/t"], **options)
    (tmp_path / "f").write_text("hello")
    box.into(tmp_path / "f", "/v/")
    box.into(tmp_path / "f", "/t/g")
    assert box.sh("cat /v/f /t/g; stat -c %u:%g /v/f /t/g") == "hellohello0:0\n0:0"
    assert (tmp_path / "volume/f").read_text() == "hello"
    assert os.stat(tmp_path / "volume/f").st_uid == 0
    box.out("/t", tmp_path / "out")
    assert (tmp_path / "out/g").read_text() == "hello"


def test_a_stopped_container(tree, tmp_path):
    """Its tree, with the owners that it will see."""
    (tree / "tmp/l").symlink_to("/etc")
    place = copying.Place(os.fsencode(tree), None)
    (tmp_path / "f").write_text("hello")
    how = {"follow_link": False, "archive": False}
    copying.copy_in(str(tmp_path / "f"), place, b"/tmp/l/f", **how)
    assert (tree / "etc/f").read_text() == "hello"
    copying.copy_out(place, b"tmp/l/f", str(tmp_path / "g"), **how)
    assert (tmp_path / "g").read_text() == "hello"


def test_a_stopped_container_without_root(tree, tmp_path):
    """The caller, who has no privilege, is root there."""
    for top, _, files in os.walk(tmp_path):
        for name in (".", *files):
            os.lchown(os.path.join(top, name), 1234, 1234)
    (tmp_path / "f").write_text("hello")
    top = os.open(tmp_path, os.O_PATH)  # the directories above may be closed to others
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.fchdir(top)
            os.setgroups([])
            os.setresgid(1234, 1234, 1234)
            os.setresuid(1234, 1234, 1234)
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # as after an exec
            place = copying.Place(b"rootfs", None)
            how = {"follow_link": False, "archive": False}
            copying.copy_in("f", place, b"/tmp/x", **how)
            copying.copy_out(place, b"/tmp/x", "g", **how)
            code = 0
        finally:
            os._exit(code)
    os.close(top)
    assert os.waitpid(pid, 0)[1] == 0
    assert (tree / "tmp/x").read_text() == "hello"
    for path in (tree / "tmp/x", tmp_path / "g"):
        assert (os.stat(path).st_uid, os.stat(path).st_gid) == (1234, 1234)


# Messages.


@pytest.mark.parametrize(
    ("path", "destination", "said"),
    [
        ("/nope", "new", "in the container: /nope: No such file or directory"),
        ("/etc/passwd/", "new", "in the container: /etc/passwd/: Not a directory"),
        ("/etc", "file", "file: a directory cannot be copied to a file"),
        ("/etc/passwd", "new/", "new/: no such directory"),
        ("/etc/passwd", "no/new", "no/new: No such file or directory"),
        ("/proc/version", "new", "in the container: /proc/version: what the kernel makes up"),
        ("/new\nline", "new", r"in the container: /new\\nline: No such"),
    ],
)
def test_why_it_cannot_come_out(box, tmp_path, path, destination, said):
    (tmp_path / "file").write_text("old")
    with pytest.raises(StateError, match=said) as caught:
        box.out(path, f"{tmp_path}/{destination}")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "old"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("source", "path", "said"),
    [
        ("nope", "/new", "nope: No such file or directory"),
        ("file/", "/new", "file/: (Not a directory|No such file)"),
        ("dir", "/etc/passwd", "in the container: /etc/passwd: a directory cannot be copied to"),
        ("file", "/new/", "in the container: /new/: no such directory"),
        ("file", "/no/new", "in the container: /no/new: No such file or directory"),
        ("file", "/dev/null", "in the container: /dev/null: neither a file nor a directory"),
        ("file", "/ro/x", "in the container: /ro/x: Read-only file system"),
    ],
)
def test_why_it_cannot_go_in(start, tmp_path, source, path, said):
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_text("new")
    box = start(volumes=[f"{tmp_path}/dir:/ro:ro"])
    before = box.sh("cat /etc/passwd")
    with pytest.raises(StateError, match=said):
        box.into(f"{tmp_path}/{source}", path)
    assert box.sh("cat /etc/passwd") == before
    assert "No such file" in box.sh("ls /new")


@pytest.mark.parametrize("path", [b"", b"a\0b", b"/" + b"x" * 5000])
def test_a_path_that_is_none(box, tmp_path, path):
    with pytest.raises(SpecError):
        copying.copy_out(box.place, path, str(tmp_path), follow_link=False, archive=False)
    with pytest.raises(SpecError):
        copying.copy_in(str(tmp_path), box.place, path, follow_link=False, archive=False)
    for name in ("", "a\0b"):
        with pytest.raises(SpecError):
            copying.copy_in(name, box.place, b"/", follow_link=False, archive=False)


def test_a_container_that_is_gone(start, tmp_path):
    box = start()
    box.container.close()
    with pytest.raises(StateError, match=r"the container cannot be entered: /proc/.*: No such"):
        box.out("/etc/passwd", tmp_path / "f")
    (tmp_path / "f").touch()
    with pytest.raises(StateError, match=r"the container cannot be entered: /proc/.*: No such"):
        box.into(tmp_path / "f", "/f")


def test_what_the_kernel_makes_up_stays_there(box, tmp_path):
    """The whole root: devices are left out, /proc and /sys come as empty directories."""
    warnings = box.out("/", tmp_path / "all")
    assert (tmp_path / "all/etc/passwd").exists()
    assert os.listdir(tmp_path / "all/proc") == os.listdir(tmp_path / "all/sys") == []
    assert not (tmp_path / "all/dev/null").exists()
    assert any("dev/null: left out: it is a device" in text for text in warnings)


def test_warnings_do_not_flood(start, tmp_path):
    """Fifos and links can be copied, so a flood needs sockets: bound from outside, here."""
    import socket

    box = start(userns="host")
    box.sh("mkdir -p /s")
    cwd = os.open(".", os.O_PATH)
    try:
        os.chdir(box.root / "s")
        for number in range(100):
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(f"s{number}")
    finally:
        os.fchdir(cwd)
        os.close(cwd)
    warnings = box.out("/s", tmp_path / "s")
    assert len(warnings) == copying.MOST_WARNINGS + 1
    assert os.listdir(tmp_path / "s") == []


# Trees that mean harm.


def test_links_out_of_the_root_end_inside(box, tmp_path, outside):
    """The same absolute path leads to the container's own file, or nowhere."""
    box.sh(f"mkdir -p {outside}; echo mine >{outside}/mine; mkdir /x; cd /x; ln -s {outside} abs")
    box.sh(f"cd /x; ln -s ../../../../../../../..{outside} rel; ln -s {outside}/secret file")
    box.sh(f"cd /x; ln -s {outside}/new new; ln -s /proc/1/root{outside} proc")
    for path in ("abs/", "rel/", "abs/."):
        box.out(f"/x/{path}", tmp_path / "got")
        assert [file.read_text() for file in (tmp_path / "got").rglob("mine")][:1] == ["mine\n"]
        assert not list((tmp_path / "got").rglob("secret"))
    with pytest.raises(StateError, match="No such file"):
        box.out("/x/file", tmp_path / "f", follow_link=True)
    (tmp_path / "f").write_text("harm")
    for path in ("abs/secret", "abs", "rel/secret", "rel", "file", "new"):
        box.into(tmp_path / "f", f"/x/{path}")
    assert box.sh(f"cat {outside}/secret {outside}/new {outside}/f") == "harm" * 3


def test_links_come_out_as_links(box, tmp_path, outside):
    box.sh(f"mkdir /x; ln -s {outside} /x/d; ln -s {outside}/secret /x/f")
    box.out("/x", tmp_path / "x")
    assert os.readlink(tmp_path / "x/d") == str(outside)
    assert os.readlink(tmp_path / "x/f") == f"{outside}/secret"
    # And once more over what is there: the links are replaced.
    box.sh("rm /x/f; echo harm >/x/f")
    box.out("/x/.", tmp_path / "x")
    assert (tmp_path / "x/f").read_text() == "harm\n"
    box.sh("rm /x/d; mkdir /x/d; echo harm >/x/d/secret")
    with pytest.raises(StateError, match="a directory cannot replace what is none"):
        box.out("/x/.", tmp_path / "x")


@pytest.fixture
def race(tree, outside):
    """In the tree /x/d is by turns a directory and a link to a directory of the host's and, for
    those who are inside, one of the container's; so is the file /x/f."""
    inside = tree / str(outside).lstrip("/")
    inside.mkdir(parents=True)
    (inside / "secret").write_text("the container's")
    (tree / "x/d/e").mkdir(parents=True)
    for number in range(20):
        (tree / f"x/d/e/{number}").write_text("good")
    (tree / "x/link").symlink_to(outside)
    (inside / "e").mkdir()
    (inside / "e/0").write_text("bad")
    (tree / "x/f").write_text("good")
    (tree / "x/file link").symlink_to(outside / "secret")
    names = [tree / "x" / name for name in ("d", "link", "f", "file link")]
    process = subprocess.Popen([sys.executable, "-c", SWAP_LOOP, *names], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    yield tree
    assert process.poll() is None
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_race_on_the_way_out(race, start, tmp_path):
    box = start()
    deadline = time.monotonic() + 1.5
    seen = set()
    while time.monotonic() < deadline:
        box.out("/x/.", tmp_path / "out")
        for top, _, files in os.walk(tmp_path / "out"):
            for name in files:
                path = os.path.join(top, name)
                if not os.path.islink(path):
                    seen.add(Path(path).read_text())
        subprocess.run(["rm", "-rf", tmp_path / "out"], check=True)
    assert seen == {"good"}


def test_a_race_on_the_way_in(race, start, tmp_path):
    box = start()
    (tmp_path / "f").write_text("harm")
    (tmp_path / "t/e").mkdir(parents=True)
    (tmp_path / "t/e/g").write_text("harm")
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        for source, path in (("f", "/x/d/secret"), ("t/.", "/x/d"), ("t", "/x/link")):
            try:
                box.into(tmp_path / source, path)
            except StateError:
                pass


def test_a_member_of_the_stream_does_not_pass_through_a_link(box, outside):
    """A stream of the user's own, into a directory that the container has made links in."""
    box.sh(f"mkdir -p /x {outside}; ln -s {outside} /x/d")
    for name in ("d/new", "../x/new", "/x/new"):
        process = box.python("in", "/x")
        code, _, errors = finish(process, input=tar((name, b"harm", {})))
        assert code == 125 and errors.startswith("minibox: in the container: ")
    assert box.sh(f"ls -A {outside}; ls -A /x") == "d"


def test_fifos_do_not_hold_anybody_up(box, tmp_path):
    box.sh("mkdir /x; mkfifo /x/p")
    assert box.out("/x", tmp_path / "x") == []
    assert stat.S_ISFIFO(os.stat(tmp_path / "x/p").st_mode)
    assert box.out("/x/p", tmp_path / "p") == []
    assert stat.S_ISFIFO(os.stat(tmp_path / "p").st_mode)
    assert box.into(tmp_path / "p", "/y") == []
    with pytest.raises(StateError, match="neither a file nor a directory"):
        box.into(tmp_path / "p", "/x/p")


def test_nothing_is_imported_in_the_container(tree):
    """Once the child is inside, no module is looked for, neither there nor anywhere."""
    code = (
        "import sys\nfrom minibox import copying\n"
        "class Packing:\n"
        "    def __init__(self, *_): pass\n"
        "    def pack(self, *_, **__): import wave\n"
        "copying.Packing = Packing\n"
        "place = copying.Place(sys.argv[1].encode(), None)\n"
        "try:\n    copying.copy_out(place, b'/', None, follow_link=False, archive=False)\n"
        "except copying.StateError as error:\n    print(error)\n"
    )
    for path in sys.path:  # also where this interpreter would look
        if path and not Path(str(tree) + path).exists():
            os.makedirs(str(tree) + path)
            Path(str(tree) + path, "wave.py").touch()
    words = [sys.executable, "-I", "-c", code, str(tree)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert "internal error" in done.stdout and "wave" in done.stdout, done


def test_the_child_has_few_files_and_rights(box, until, tmp_path):
    """What it holds while it works: no fd of the caller's, no capability but a file's owner's."""
    box.sh("head -c 4000000 /dev/zero >/big")
    process = box.python("out", "/big")
    try:
        assert process.stdout.read(512)
        pid = copier(process, until)
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0b11011
        assert os.stat(f"/proc/{pid}/status").st_uid == 0  # not dumpable: nobody else may look
        assert set(status["Uid"].split()) == {str(os.stat(box.root).st_uid)}
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        assert sorted(link.split(":")[0] for link in links) == [
            "/", "/big", *["/dev/null"] * 3, *["pipe"] * 2,
        ]  # fmt: skip
        assert os.readlink(f"/proc/{pid}/ns/pid") == os.readlink("/proc/self/ns/pid")
        assert os.stat(f"/proc/{pid}/root/.").st_ino == os.stat(f"{box.root}/.").st_ino
    finally:
        finish(process)


# Tar streams.


def test_a_tar_stream_comes_out(box):
    box.sh("mkdir -p /x/d; echo hello >/x/d/f; chown 5:6 /x/d/f")
    for path, names in (
        ("/x", ["x", "x/d", "x/d/f"]), ("/x/.", [".", "./d", "./d/f"]), ("x/d/f", ["f"]),
    ):  # fmt: skip
        code, data, errors = finish(box.python("out", path, stdin=subprocess.DEVNULL))
        assert (code, errors) == (0, "")
        with tarfile.open(fileobj=io.BytesIO(data)) as file:
            assert file.getnames() == names
            last = file.getmembers()[-1]
            assert (last.uid, last.gid, last.uname, last.gname) == (5, 6, "", "")
            assert file.extractfile(last).read() == b"hello\n"
    code, _, errors = finish(box.python("out", "/nope", stdin=subprocess.DEVNULL))
    assert (code, errors) == (125, "minibox: in the container: /nope: No such file or directory\n")


def test_a_tar_stream_goes_in(box):
    data = tar(
        ("d", b"", {"type": tarfile.DIRTYPE, "mode": 0o750}),
        ("d/f", b"hello", {"uid": 5, "uname": "nobody", "mode": 0o640}),
        ("d/null", b"", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}),
    )
    code, _, errors = finish(box.python("in", "/mnt"), input=data)
    assert (code, errors) == (0, "minibox: /mnt/d/null: left out: it is a device\n")
    assert box.sh("stat -c '%n %u:%g %a' /mnt/d /mnt/d/*; cat /mnt/d/f").splitlines() == [
        "/mnt/d 0:0 750", "/mnt/d/f 0:0 640", "hello",
    ]  # fmt: skip


def test_what_makes_the_stream_is_heard_to_its_end(box):
    """Blocks of zeros after the archive, as tar(1) writes them, and more."""
    code, _, errors = finish(box.python("in", "/mnt"), input=tar(("f", b"x", {})) + bytes(MEBIBYTE))
    assert (code, errors) == (0, "")


@pytest.mark.parametrize(
    "data", [b"", b"hello", os.urandom(70_000), tar(("f", b"x" * 9000, {}))[:5000]]
)
def test_a_stream_that_is_none(box, data):
    code, _, errors = finish(box.python("in", "/mnt"), input=data)
    assert code == 125 and "tar stream" in errors
    assert box.sh("ls -A /mnt") == ""


def test_a_stdin_that_cannot_be_read(box):
    unreadable = os.open("/dev/null", os.O_WRONLY)
    try:
        code, _, errors = finish(box.python("in", "/mnt", stdin=unreadable))
    finally:
        os.close(unreadable)
    assert (code, errors) == (125, "minibox: the tar stream: Bad file descriptor\n")


def test_a_stream_needs_a_directory(box):
    for path in ("/etc/passwd", "/nope"):
        code, _, errors = finish(box.python("in", path), input=tar(("f", b"x", {})))
        assert code == 125 and f"{path}: it must be a directory" in errors


# Ends in the middle.


def stalled(box, until):
    """A process that copies a big file out and is held up by a full pipe; and its child's pid."""
    box.sh("head -c 4000000 /dev/zero >/big")
    process = box.python("out", "/big", stdin=subprocess.DEVNULL)
    assert process.stdout.read(512)
    return process, copier(process, until)


def test_the_container_dies(box, until):
    process, _ = stalled(box, until)
    box.container.kill()
    box.container.wait()
    code, data, errors = finish(process)
    assert (code, errors) == (0, "")  # what is open stays readable
    assert len(data) > 4_000_000


def test_the_container_dies_while_files_go_in(start, until, tmp_path):
    box = start(tmpfs=["/t"])
    process = box.python("in", "/t")
    half = tar(("f", b"x" * MEBIBYTE, {}))[: MEBIBYTE // 2]
    process.stdin.write(half)
    process.stdin.flush()
    until(lambda: os.listdir(box.root / "t"))
    box.container.kill()
    box.container.wait()
    code, _, errors = finish(process)
    assert code == 125 and errors.startswith("minibox: in the container: ")


def test_the_child_is_killed(box, until):
    process, child = stalled(box, until)
    os.kill(child, signal.SIGKILL)
    code, _, errors = finish(process)
    assert (code, errors) == (125, "minibox: the process that copies in the container was killed\n")


def test_the_caller_is_killed(box, until):
    process, child = stalled(box, until)
    process.kill()
    process.wait()
    until(lambda: not Path(f"/proc/{child}/fd/0").exists())


def test_nobody_reads_what_comes_out(box, until):
    process, child = stalled(box, until)
    process.stdout.close()
    assert process.wait(10) == 128 + signal.SIGPIPE
    assert process.stderr.read() == b""
    assert not Path(f"/proc/{child}").exists()


def test_an_interrupt_leaves_no_half_file(box, until):
    process = box.python("in", "/mnt")
    child = copier(process, until)
    process.stdin.write(tar(("f", b"x" * MEBIBYTE, {}))[: MEBIBYTE // 2])
    process.stdin.flush()
    until(lambda: os.listdir(box.root / "mnt"))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert not Path(f"/proc/{child}").exists()
    assert box.sh("ls -A /mnt") == ""


def test_no_room_in_the_container(start, tmp_path):
    box = start(tmpfs=["/t:size=64k"])
    (tmp_path / "f").write_bytes(os.urandom(MEBIBYTE))
    with pytest.raises(StateError, match="in the container: /t/f: No space left on device"):
        box.into(tmp_path / "f", "/t")
    assert box.sh("ls -A /t") == ""


def test_no_room_here(box, helper):
    """In a mount namespace with a small tmpfs."""
    box.sh("head -c 1000000 /dev/urandom >/big")
    there = helper("-m", script="mount -t tmpfs -o size=64k small /mnt")
    code = (
        "import os, sys\nfrom minibox import copying\n"
        "place = copying.Place(*(word.encode() for word in sys.argv[1:]))\n"
        "try:\n    copying.copy_out(place, b'/big', '/mnt', follow_link=False, archive=False)\n"
        "except copying.StateError as error:\n    print(error, os.listdir('/mnt'))\n"
    )
    done = there.run(sys.executable, "-I", "-c", code, *map(os.fsdecode, box.place.astuple()))
    assert done.stdout == b"/mnt/big: No space left on device []\n", done


def test_an_error_here_is_not_taken_for_an_end_there(box, tmp_path):
    """What the caller may not read: the container gets nothing that looks complete."""
    (tmp_path / "t").mkdir()
    (tmp_path / "t/a").write_text("x")
    deep = tmp_path / "t/b"
    deep.symlink_to("b")
    with pytest.raises(StateError, match="a symbolic link is in the way"):
        box.into(deep, "/mnt", follow_link=True)
    assert box.sh("ls -A /mnt") == ""


def test_a_big_tree_both_ways(box, tmp_path):
    box.sh(
        "for i in $(seq 300); do mkdir -p /x/$i; echo $i >/x/$i/f; done; head -c 9000000 /dev/urandom >/x/big"
    )
    box.out("/x", tmp_path / "x")
    box.into(tmp_path / "x", "/y")
    sums = "find . -type f | sort | xargs md5sum | md5sum"
    assert box.sh(f"cd /x; {sums}") == box.sh(f"cd /y; {sums}")
    assert archive.CHUNK < 9_000_000
