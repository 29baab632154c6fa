# SPDX-License-Identifier: Apache-2.0
"""A kernel of the 6.1 series. What it cannot do yet is done otherwise with the same isolation, or
refused with a word about it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import KERNEL
from tests.vm.conftest import sh

before = {
    (6, 3): pytest.mark.skipif(KERNEL >= (6, 3), reason="this kernel has no lack of 6.1's"),
    (6, 6): pytest.mark.skipif(KERNEL >= (6, 6), reason="this kernel has no lack of 6.1's"),
}


@pytest.fixture
def on_tmpfs(rootfs, tmp_path):
    """The tree in memory."""
    place = tmp_path / "memory"
    place.mkdir()
    sh(f"mount -t tmpfs none {place}; cp -a {rootfs} {place}/tree")
    yield place / "tree"
    sh(f"umount {place}")


@before[6, 3]
def test_a_tree_on_tmpfs_cannot_have_other_ids(refused, on_tmpfs):
    """tmpfs can be id-mapped since 6.3. It is not run with the host's ids instead."""
    said = refused(on_tmpfs, "/bin/true")
    assert "id-mapped" in said
    assert "hint: " in said
    assert "since Linux 6.3 also tmpfs" in said


@before[6, 3]
def test_a_volume_on_tmpfs_cannot_have_other_ids(refused, on_tmpfs, rootfs, inside):
    said = refused("-v", f"{on_tmpfs}:/mnt", rootfs, "/bin/true")
    assert "the word noidmap keeps the host's ids" in said
    assert inside("ls /mnt/bin/busybox", "-v", f"{on_tmpfs}:/mnt:noidmap") == "/mnt/bin/busybox"


def test_a_tree_on_tmpfs_with_the_hosts_ids(cli, on_tmpfs):
    assert cli("run", "--userns", "host", on_tmpfs, "/bin/true").returncode == 0


@before[6, 6]
@pytest.mark.parametrize("options", [("--volatile",), ("--overlay",)], ids=str)
def test_an_overlay_keeps_directories(cli, rootfs, options):
    """Overlay marks what is removed below with a user.* attribute, which tmpfs has since 6.6: files
    can be removed, a directory of the tree says EIO, and doctor says why."""
    done = cli(
        "run", *options, rootfs, "sh", "-c", "rm /etc/passwd; rm -r /etc; ls -d /etc/passwd /etc"
    )
    assert done.stdout == b"/etc\n"
    assert b"rm: can't remove '/etc': Input/output error" in done.stderr
    assert os.path.exists(f"{rootfs}/etc/passwd")
    assert "directories of the tree cannot be removed" in cli("doctor").stdout.decode()


@pytest.mark.parametrize("options", [(), ("--init",), ("--userns", "host")], ids=str)
def test_clocks_of_its_own(inside, options):
    """exec enters a time namespace since 6.3; before, a child of the caller does."""
    host = float(Path("/proc/uptime").read_text().split()[0])
    up = float(inside("cut -d ' ' -f 1 /proc/uptime", "--boottime", "86400", *options))
    assert up > host + 86000
    kinds = "readlink /proc/$$/ns/time; readlink /proc/$$/ns/time_for_children"
    assert len(set(inside(kinds, "--boottime", "5", *options).split())) == 1


@pytest.mark.parametrize("options", [(), ("--userns", "host")], ids=str)
def test_the_clocks_of_a_container_are_those_of_who_comes_later(box, inside, options):
    """Its first process is not in them itself where exec does not enter."""
    box.do("run", "-d", "--name", "c", "--boottime", "86400", *options, box.rootfs, "sleep", "1000")
    look = "cut -d ' ' -f 1 /proc/uptime"
    host = float(Path("/proc/uptime").read_text().split()[0])
    assert float(box.do("exec", "c", "sh", "-c", look)) > host + 86000
    pid = box.state("c")["Pid"]
    for joined in (f"time={pid}", f"time=/proc/{pid}/ns/time_for_children"):
        assert float(inside(look, "--userns", "host", "--join", joined)) > host + 86000


def test_all_namespaces_are_its_own(inside):
    script = "cd /proc/self/ns; for n in *; do echo $n $(readlink $n); done"
    theirs = dict(line.split() for line in inside(script).splitlines())
    shared = {kind for kind, text in theirs.items() if os.readlink(f"/proc/self/ns/{kind}") == text}
    assert shared <= {"time", "time_for_children"}


def test_landlock_of_an_older_version(cli, rootfs):
    """6.1 has version 2. What it cannot restrict is refused, not left out."""
    done = cli("run", "--landlock", "ro:/", rootfs, "sh", "-c", "ls / && ! touch /x 2>&1")
    assert done.returncode == 0, done
