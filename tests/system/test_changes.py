# SPDX-License-Identifier: Apache-2.0
"""What a container has changed: on layers made by hand, on the kernel's own, and on hostile ones."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import minibox
from minibox.changes import changes
from minibox.errors import StateError
from minibox.spec import IDMapping
from tests.conftest import replaces_directories

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


class Layers:
    """Two directories that look like an overlay's layers."""

    def __init__(self, top):
        self.upper, self.lower = top / "upper", top / "lower"
        self.upper.mkdir()
        self.lower.mkdir()

    def both(self, *paths):
        """Directories that were copied up, time and all."""
        for path in paths:
            for layer in (self.lower, self.upper):
                (layer / path).mkdir(parents=True, exist_ok=True)

    def same_times(self):
        for top, _, _ in os.walk(self.upper):
            lower = self.lower / Path(top).relative_to(self.upper)
            if lower.is_dir():
                found = os.stat(lower)
                os.utime(top, ns=(found.st_atime_ns, found.st_mtime_ns))

    def whiteout(self, path):
        os.mknod(self.upper / path, stat.S_IFCHR | 0o600, os.makedev(0, 0))

    def diff(self, *skip, maps=((), ())):
        """As lines `C /etc`."""
        skip = {os.fsencode(path) for path in skip}
        found = changes(os.fsencode(self.upper), os.fsencode(self.lower), skip, maps)
        assert found == sorted(found, key=lambda change: change[1])
        return [f"{kind} {os.fsdecode(path)}" for kind, path in found]


@pytest.fixture
def layers(tmp_path):
    return Layers(tmp_path)


def opaque(path):
    os.setxattr(path, "user.overlay.opaque", b"y")


# Layers made by hand.


def test_nothing_has_changed(layers):
    assert layers.diff() == []
    layers.both("a/b/c")
    layers.same_times()
    assert layers.diff() == []


def test_added_changed_deleted(layers):
    layers.both("etc/d", "quiet")
    for name in ("changed", "deleted", "kept"):
        (layers.lower / "etc/d" / name).touch()
    (layers.upper / "etc/d/changed").touch()
    (layers.upper / "etc/d/added").touch()
    (layers.upper / "new/dir").mkdir(parents=True)
    (layers.upper / "new/file").touch()
    layers.whiteout("etc/d/deleted")
    layers.same_times()
    assert layers.diff() == [
        "C /etc", "C /etc/d", "A /etc/d/added", "C /etc/d/changed", "D /etc/d/deleted",
        "A /new", "A /new/dir", "A /new/file",
    ]  # fmt: skip


def test_a_deleted_directory_is_one_line(layers):
    (layers.lower / "d/e/f").mkdir(parents=True)
    layers.whiteout("d")
    assert layers.diff() == ["D /d"]


def test_a_whiteout_of_nothing_is_nothing(layers):
    layers.whiteout("was never there")
    assert layers.diff() == []


def test_another_device_is_no_whiteout(layers):
    (layers.lower / "d").mkdir()
    os.mknod(layers.upper / "d", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(layers.upper / "e", stat.S_IFBLK | 0o600, os.makedev(0, 0))
    assert layers.diff() == ["C /d", "A /e"]


def test_what_an_opaque_directory_hides_is_deleted(layers):
    layers.both("d/kept/below")
    for name in ("d/gone", "d/kept/gone", "d/kept/below/gone", "d/kept/below/new"):
        (layers.lower / name).touch()
    (layers.lower / "d/tree/f").mkdir(parents=True)
    (layers.upper / "d/kept/below/new").touch()
    opaque(layers.upper / "d")
    layers.same_times()
    assert layers.diff() == [
        "C /d", "D /d/gone", "C /d/kept", "C /d/kept/below", "D /d/kept/below/gone",
        "C /d/kept/below/new", "D /d/kept/gone", "D /d/tree",
    ]  # fmt: skip


def test_only_y_means_opaque(layers):
    layers.both("d")
    (layers.lower / "d/f").touch()
    os.setxattr(layers.upper / "d", "user.overlay.opaque", b"n")
    layers.same_times()
    assert layers.diff() == []


def test_kinds_that_change(layers):
    (layers.lower / "a/x").mkdir(parents=True)
    (layers.lower / "b").touch()
    (layers.lower / "c").symlink_to("a")
    (layers.upper / "a").touch()
    (layers.upper / "b/x").mkdir(parents=True)
    (layers.upper / "c/x").mkdir(parents=True)
    assert layers.diff() == ["C /a", "C /b", "A /b/x", "C /c", "A /c/x"]


@pytest.mark.parametrize(
    "change",
    [
        lambda path: os.chmod(path, 0o700),
        lambda path: os.chown(path, 5, -1),
        lambda path: os.chown(path, -1, 5),
        lambda path: os.utime(path, (7, 7)),
    ],
)
def test_a_directory_that_is_changed_itself(layers, change):
    layers.both("d/e")
    layers.same_times()
    change(layers.upper / "d/e")
    assert layers.diff() == ["C /d", "C /d/e"]
    change(layers.lower / "d/e")
    layers.same_times()
    assert layers.diff() == []


def test_owners_are_compared_as_the_container_sees_them(layers):
    layers.both("d", "e")
    for name, owner in (("d", 1000), ("e", 1001)):
        os.chown(layers.lower / name, 1000, 1000)
        os.chown(layers.upper / name, 100_000 + owner, 300_000 + 1000)
    layers.same_times()
    maps = (IDMapping(0, 100_000, 65536),), (IDMapping(0, 300_000, 65536),)
    assert layers.diff(maps=maps) == ["C /e"]


def test_mount_points_of_miniboxs_are_not_the_containers_doing(layers):
    layers.both("etc")
    (layers.upper / "mnt/volume").mkdir(parents=True)
    (layers.upper / "etc/hosts").touch()
    (layers.upper / "other").mkdir()
    ours = ("/mnt", "/mnt/volume", "/etc/hosts", "/dev")
    assert layers.diff(*ours) == ["A /other"]
    assert layers.diff() == ["C /etc", "A /etc/hosts", "A /mnt", "A /mnt/volume", "A /other"]
    (layers.upper / "mnt/volume/x").touch()
    assert layers.diff(*ours) == ["A /mnt", "A /mnt/volume", "A /mnt/volume/x", "A /other"]
    layers.both("dev")
    (layers.upper / "dev/x").touch()
    assert "C /dev" in layers.diff(*ours)
    (layers.lower / "etc/hosts").touch()
    (layers.upper / "etc/hosts").unlink()
    layers.whiteout("etc/hosts")
    assert "D /etc/hosts" in layers.diff(*ours)


def test_strange_names(layers):
    for name in ("new\nline", " ", "é", os.fsdecode(b"\xff"), "-", "x" * 255):
        (layers.upper / name).touch()
    assert len(layers.diff()) == 6
    found = changes(os.fsencode(layers.upper), os.fsencode(layers.lower), ())
    assert ("A", b"/\xff") in found


def test_layers_that_are_not_there(tmp_path, layers):
    (tmp_path / "file").touch()
    for upper, lower in (("no", "lower"), ("upper", "no"), ("file", "lower"), ("upper", "file")):
        with pytest.raises(StateError, match="cannot be read"):
            changes(os.fsencode(tmp_path / upper), os.fsencode(tmp_path / lower), ())


# Layers that mean harm.


@pytest.fixture
def outside(tmp_path):
    """A directory of the host's that must not show."""
    top = tmp_path / "outside"
    (top / "deeper").mkdir(parents=True)
    (top / "secret").touch()
    (top / "deeper/secret").touch()
    return top


def test_links_are_not_followed(layers, outside):
    for layer in (layers.upper, layers.lower):
        (layer / "both").symlink_to(outside)
    (layers.upper / "a").symlink_to(outside)
    (layers.upper / "b").mkdir()
    (layers.upper / "b/x").touch()
    (layers.lower / "b").symlink_to(outside)
    (layers.upper / "up").symlink_to("..")
    (layers.upper / "root").symlink_to("/")
    os.mkfifo(layers.upper / "fifo")
    assert layers.diff() == [
        "A /a", "C /b", "A /b/x", "C /both", "A /fifo", "A /root", "A /up",
    ]  # fmt: skip


@pytest.mark.parametrize("layer", ["upper", "lower"])
def test_a_race(layers, outside, layer):
    """For a second a directory of a layer is by turns a link to the host's."""
    layers.both("x/d/deeper", "x/d/deeper")
    (layers.upper / "x/d/f").touch()
    (layers.upper / "x/d/deeper/f").touch()
    # Were it seen, the secret would be added, or hidden by an opaque directory: deleted.
    opaque(layers.upper / "x/d")
    (getattr(layers, layer) / "x/link").symlink_to(outside)
    names = [getattr(layers, layer) / "x" / name for name in ("d", "link")]
    words = [sys.executable, "-c", SWAP_LOOP, *names]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        deadline = time.monotonic() + 1
        try:
            while time.monotonic() < deadline:
                assert not [line for line in layers.diff() if "secret" in line]
        finally:
            assert process.poll() is None
            process.kill()


def test_a_tree_deeper_than_a_path_can_say(layers):
    fd = os.open(layers.upper, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 250, dir_fd=fd)
        deeper = os.open("d" * 250, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    assert len(layers.diff()) == 17


def test_more_than_can_be_listed(layers, monkeypatch):
    monkeypatch.setattr(sys.modules["minibox.changes"], "MOST_BYTES", 10_000)
    for number in range(100):
        (layers.upper / str(number)).touch()
    with pytest.raises(StateError, match="more changes than can be listed"):
        layers.diff()


# The kernel's own.


@pytest.fixture(params=[{}, {"userns": "host"}], ids=["auto", "host"])
def overlay(request, tree):
    """`overlay(script, *skip)`: an overlay inside a container, of /lower and a tmpfs, changed by the
    script at its top; the lines of the difference, read from outside."""
    lower = tree / "lower"
    (lower / "etc/d").mkdir(parents=True)
    (lower / "usr/lib/deep/deeper").mkdir(parents=True)
    for path in ("f", "etc/hosts", "etc/passwd", "etc/d/x", "usr/lib/deep/deeper/f"):
        (lower / path).write_text(path)
    (lower / "link").symlink_to("etc")
    made = (
        "mount -t tmpfs -o mode=755 none /mnt && cd /mnt && mkdir u w m && "
        "mount -t overlay -o lowerdir=/lower,upperdir=u,workdir=w,userxattr none m && cd m"
    )
    container = minibox.Container(
        ["/bin/sh", "-ec", f"{made}; read script; eval \"$script\"; echo ready; read end"],
        rootfs=tree, stdin="pipe", stdout="pipe", cap_add=["SYS_ADMIN"], **request.param,
    )  # fmt: skip

    def run(script, *skip):
        container.stdin.write(script.encode() + b"\n")
        assert container.stdout.read(6) == b"ready\n"
        upper = b"/proc/%d/root/mnt/u" % container.pid
        maps = (container.spec.uid_mappings, container.spec.gid_mappings)
        found = changes(upper, os.fsencode(lower), {os.fsencode(path) for path in skip}, maps)
        return [f"{kind} {os.fsdecode(path)}" for kind, path in found]

    with container:
        yield run


@pytest.mark.parametrize(
    ("script", "lines"),
    [
        (":", []),
        ("cat etc/hosts; ls -R .; : <f", []),
        ("echo >new", ["A /new"]),
        ("echo >>etc/hosts", ["C /etc", "C /etc/hosts"]),
        ("echo >>usr/lib/deep/deeper/f", [
            "C /usr", "C /usr/lib", "C /usr/lib/deep", "C /usr/lib/deep/deeper",
            "C /usr/lib/deep/deeper/f",
        ]),
        ("rm f", ["D /f"]),
        ("mkdir -p a/b; echo >a/b/c", ["A /a", "A /a/b", "A /a/b/c"]),
        ("mv f g", ["D /f", "A /g"]),
        ("mv etc/hosts etc/d/", ["C /etc", "C /etc/d", "A /etc/d/hosts", "D /etc/hosts"]),
        ("chmod 700 etc/d", ["C /etc", "C /etc/d"]),
        ("chown 7:8 etc/d", ["C /etc", "C /etc/d"]),
        ("chmod 600 f", ["C /f"]),
        ("echo >new; rm new", []),
        ("rm f; echo >f", ["C /f"]),
        ("mkfifo p; ln f h", ["C /f", "A /h", "A /p"]),
    ],
)  # fmt: skip
def test_what_the_kernel_makes_of_it(overlay, script, lines):
    assert overlay(f"({script}) >/dev/null") == lines


@replaces_directories
@pytest.mark.parametrize(
    ("script", "lines"),
    [
        ("rm -r usr", ["D /usr"]),
        ("rm -r etc/d", ["C /etc", "D /etc/d"]),
        ("rm -r etc; mkdir etc; echo >etc/new", [
            "C /etc", "D /etc/d", "D /etc/hosts", "A /etc/new", "D /etc/passwd",
        ]),
        ("rm -r etc; mkdir -p etc/d; echo >etc/d/x", [
            "C /etc", "C /etc/d", "C /etc/d/x", "D /etc/hosts", "D /etc/passwd",
        ]),
        ("rm link; mkdir link; echo >link/x", ["C /link", "A /link/x"]),
        ("rm -r etc; ln -s /bin etc", ["C /etc"]),
    ],
)  # fmt: skip
def test_what_it_makes_of_a_directory_that_is_gone(overlay, script, lines):
    """It marks an upper directory as opaque by an attribute."""
    assert overlay(f"({script}) >/dev/null") == lines


def test_a_mount_point_is_made_and_used(overlay):
    assert overlay("mkdir -p etc/v usr/new/v", "/etc/v", "/usr/new", "/usr/new/v") == []


def test_what_lies_below_a_mount_point_shows(overlay):
    assert overlay("mkdir -p etc/v; echo >etc/v/x", "/etc/v") == [
        "C /etc",
        "A /etc/v",
        "A /etc/v/x",
    ]
