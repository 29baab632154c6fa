# SPDX-License-Identifier: Apache-2.0
"""The mounts of a container: which there are, with what options, and that the host sees none."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

import minibox
from tests.system.conftest import COVERED

ATIME = {"relatime", "noatime", "nodiratime", "strictatime", "lazytime"}
NODES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
}
LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
SAFE = {"nosuid", "nodev", "noexec"}
EXPECTED = {
    "/proc": ("proc", {"rw", *SAFE}),
    "/sys": ("sysfs", {"ro", *SAFE}),
    "/dev": ("tmpfs", {"rw", "nosuid", "nodev", "noexec"}),
    "/dev/pts": ("devpts", {"rw", "nosuid", "noexec"}),
    "/dev/shm": ("tmpfs", {"rw", *SAFE}),
    "/dev/mqueue": ("mqueue", {"rw", *SAFE}),
}
# The way to the root -> the options of its mount.
ROOTS = {
    (): {"rw", "nodev", "idmapped"},
    ("--userns", "host"): {"rw", "nodev"},
    ("--overlay",): {"rw", "nodev"},
    ("--read-only",): {"ro", "nodev"},
    ("--overlay", "--read-only"): {"ro", "nodev"},
}


class Mount:
    """One line of mountinfo (proc_pid_mountinfo(5))."""

    def __init__(self, line):
        fields, _, rest = line.partition(" - ")
        words = fields.split()
        self.root, self.point = words[3:5]
        self.options = set(words[5].split(",")) - ATIME
        self.propagation = words[6:]
        self.type, self.source, options = rest.split(" ", 2)
        self.super_options = options.split(",")


def mounts_of(text):
    return [Mount(line) for line in text.splitlines()]


@pytest.fixture
def mounts(inside):
    """The mounts of a container with these options."""
    return lambda *options, **how: mounts_of(inside("cat /proc/self/mountinfo", *options, **how))


@pytest.mark.parametrize("options", ROOTS)
def test_the_mounts_of_a_container_are_these_and_no_others(mounts, options):
    found = [mount for mount in mounts(*options) if mount.point not in COVERED]
    others = [mount for mount in found if mount.point != "/" and mount.type != "devtmpfs"]
    assert {mount.point: (mount.type, mount.options) for mount in others} == EXPECTED
    assert len(others) == len(EXPECTED)
    nodes = [mount for mount in found if mount.type == "devtmpfs"]
    assert sorted((mount.root, mount.point) for mount in nodes) == sorted(
        (f"/{node}", f"/dev/{node}") for node in NODES
    )
    (root,) = [mount for mount in found if mount.point == "/"]
    assert root.options == ROOTS[options]


def test_a_root_on_a_safer_mount_keeps_its_flags(tree, helper):
    namespace = helper(
        "-m", script=f"mount --bind '{tree}' '{tree}'; mount -o remount,bind,nosuid '{tree}'"
    )
    done = namespace.minibox(tree, "/bin/cat", "/proc/self/mountinfo")
    (root,) = [mount for mount in mounts_of(done.stdout.decode()) if mount.point == "/"]
    assert {"nosuid", "nodev"} <= root.options


def test_no_mount_has_peers_or_masters(mounts):
    assert [mount.propagation for mount in mounts() if mount.propagation] == []


@pytest.mark.parametrize("options", ROOTS)
def test_the_host_sees_none_of_them(rootfs, options):
    before = Path("/proc/self/mountinfo").read_text()
    given = {
        "userns": "host" if "host" in options else "auto",
        "overlay": "--overlay" in options,
        "read_only": "--read-only" in options,
    }
    with minibox.Container(
        ["/bin/cat"], rootfs=rootfs, stdin="pipe", tmpfs=["/mnt"], **given
    ) as container:
        assert len(Path(f"/proc/{container.pid}/mountinfo").read_text().splitlines()) > 10
        assert Path("/proc/self/mountinfo").read_text() == before


# No tmpfs, which has no id maps before Linux 6.3.
SHARED = "mount --bind '{0}' '{0}'; mount --make-shared '{0}'; mkdir '{0}/below' '{0}/made'"


@pytest.mark.parametrize("userns", ["auto", "host"])
def test_nothing_mounted_in_a_shared_volume_is_seen_on_the_host(rootfs, tmp_path, helper, userns):
    namespace = helper("-m", script=SHARED.format(tmp_path))
    before = namespace.mounts()
    process = namespace.start(
        "--userns", userns, "--volume", f"{tmp_path}:/mnt", "--tmpfs", "/mnt/below", rootfs,
        "/bin/sh", "-c", "mount -t tmpfs evil /mnt/made; echo ready; cat",
    )  # fmt: skip
    try:
        seen = namespace.mounts()
    finally:
        process.communicate()
    assert seen == before


@pytest.mark.parametrize("userns", ["auto", "host"])
@pytest.mark.parametrize(
    "options", [[], ["--overlay"], ["--read-only"]], ids=["bound", "overlay", "read-only"]
)
def test_a_root_on_a_shared_mount_works_and_shows_nothing(
    rootfs, tmp_path, helper, options, userns
):
    """As on every host that systemd has booted."""
    script = SHARED.format(tmp_path) + f"; cp -a '{rootfs}/.' '{tmp_path}'"
    namespace = helper("-m", script=script)
    before = namespace.mounts()
    process = namespace.start(
        "--userns", userns, *options, tmp_path, "/bin/sh", "-c", "echo ready; cat"
    )
    try:
        seen = namespace.mounts()
    finally:
        process.communicate()
    assert seen == before


@pytest.mark.parametrize("options", [(), ("--overlay",), ("--share", "pid,net,ipc")], ids=" ".join)
@pytest.mark.parametrize("userns", ["auto", "host"])
def test_a_host_whose_every_mount_is_shared_sees_nothing(rootfs, helper, options, userns):
    """As systemd leaves them: the copy of the host's mounts, in which set-up begins, as well."""
    namespace = helper("-m", script="mount --make-rshared /")
    before = namespace.mounts()
    assert any(" shared:" in line for line in before)
    script = "grep -E ' (shared|master):' /proc/self/mountinfo; echo ready; cat"
    words = ("--tmpfs", "/mnt", rootfs, "/bin/sh", "-c", script)
    process = namespace.start("--userns", userns, *options, *words)
    try:
        seen = namespace.mounts()
    finally:
        process.communicate()
    assert seen == before


def test_a_mount_the_host_makes_later_does_not_come_in(rootfs, tmp_path, helper):
    """Private, not slave: the volume is a shared mount, and the host mounts something in it."""
    namespace = helper("-m", script=SHARED.format(tmp_path))
    process = namespace.start(
        "--volume", f"{tmp_path}:/mnt", rootfs, "/bin/sh", "-c", "echo ready; read x; cat /proc/self/mountinfo"
    )  # fmt: skip
    namespace.run("mount", "-t", "tmpfs", "later", f"{tmp_path}/below", check=True)
    output, _ = process.communicate(b"go\n")
    points = [mount.point for mount in mounts_of(output.decode())]
    assert "/mnt" in points
    assert "/mnt/below" not in points


@pytest.mark.parametrize("kind", ["pid", "net", "ipc"])
def test_what_comes_from_the_host_with_a_shared_namespace_is_private_and_safe(mounts, kind):
    points = {"pid": "/proc", "net": "/sys", "ipc": "/dev/shm"}
    found = [mount for mount in mounts("--share", kind) if mount.point.startswith(points[kind])]
    found = [mount for mount in found if mount.point not in COVERED]
    assert found
    for mount in found:
        assert mount.propagation == []
        assert {"nosuid", "nodev"} <= mount.options, mount.point


def test_what_the_host_has_mounted_upon_its_sys_is_not_seen(helper, rootfs):
    host = helper(
        "-m", script="for place in debug security; do"
        " mount -t tmpfs t /sys/kernel/$place; touch /sys/kernel/$place/secret; done"
    )  # fmt: skip
    done = host.minibox(
        "--share", "net", rootfs, "sh", "-c",
        "cd /sys; ls kernel/debug kernel/security fs/cgroup; test -d class/net && echo and sysfs",
    )  # fmt: skip
    seen = b"fs/cgroup:\n\nkernel/debug:\n\nkernel/security:\nand sysfs\n"
    assert (done.stdout, done.stderr) == (seen, b"")


# /proc and /sys


def test_proc_is_of_the_own_pid_namespace(inside):
    assert inside("cd /proc; echo [0-9]*; readlink self", "--init").split() == ["1", "2", "2"]


def test_only_the_command_is_in_proc(cli, rootfs):
    done = cli("run", rootfs, "/bin/ls", "/proc")
    assert [int(name) for name in done.stdout.split() if name.isdigit()] == [1]


def test_sys_is_read_only_even_for_root(inside):
    said = inside(
        "echo x 2>&1 >/sys/kernel/notes; mkdir /sys/x 2>&1; touch /sys/class/x 2>&1; true"
    )
    assert said.count("Read-only file system") == 3


def test_sys_shows_only_the_own_interfaces(inside):
    assert inside("ls /sys/class/net") == "lo"


@pytest.mark.parametrize(
    "path", ["/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger"]
)
def test_root_inside_cannot_write_the_hosts_settings(cli, rootfs, path):
    done = cli("run", rootfs, "/bin/sh", "-c", f"echo >>{path}")
    assert done.returncode != 0
    assert b"can't create" in done.stderr


# /dev


@pytest.mark.parametrize(("name", "number"), NODES.items())
def test_a_device_node_is_the_right_one_and_works(inside, name, number):
    kind, major, minor, mode = inside(f"stat -c '%F,%t,%T,%a' /dev/{name}").split(",")
    assert kind == "character special file"
    assert (int(major, 16), int(minor, 16)) == number
    assert mode == "666"


def test_dev_holds_nothing_else(inside):
    assert set(inside("ls -A /dev").split()) == {*NODES, *LINKS, "pts", "shm", "mqueue"}


@pytest.mark.parametrize(("name", "target"), LINKS.items())
def test_the_links_of_dev_are_there(inside, name, target):
    assert inside(f"readlink /dev/{name}") == target


def test_the_nodes_do_their_work(inside):
    script = (
        "echo lost >/dev/null; head -c 3 /dev/zero | od -An -tx1; head -c 8 /dev/urandom | wc -c;"
        "head -c 8 /dev/random | wc -c; echo x 2>&1 >/dev/full; true"
    )
    zeros, urandom, random, full = inside(script).splitlines()
    assert (zeros.split(), urandom, random) == (["00"] * 3, "8", "8")
    assert "No space left" in full


@pytest.mark.parametrize("userns", ["auto", "host"])
def test_no_device_node_can_be_made_that_works(cli, rootfs, userns):
    """A node made in the tree, in /dev or in a tmpfs opens no device."""
    script = "for d in / /dev /dev/shm /mnt; do mknod $d/node c 1 3 && echo x >$d/node && echo opened $d; done; true"
    done = cli(
        "run", "--userns", userns, "--overlay", "--tmpfs", "/mnt", rootfs, "/bin/sh", "-c", script
    )
    assert (done.returncode, done.stdout) == (0, b"")


def test_a_device_node_in_the_tree_opens_nothing(cli, tree):
    os.mknod(tree / "node", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    done = cli("run", tree, "/bin/cat", "/node")
    assert (done.returncode, done.stderr) == (1, b"cat: can't open '/node': Permission denied\n")


def test_devpts_is_an_instance_of_its_own(rootfs, inside):
    here = os.stat("/dev/pts").st_dev
    with minibox.Container(["/bin/cat"], rootfs=rootfs, stdin="pipe") as other:
        there = os.stat(f"/proc/{other.pid}/root/dev/pts").st_dev
        mine = int(inside("stat -c %d /dev/pts"))
    assert len({here, there, mine}) == 3
    assert inside("ls /dev/pts; stat -c %a /dev/pts/ptmx") == "ptmx\n666"


def test_devpts_gives_terminals_to_the_group_tty(mounts):
    (pts,) = [mount for mount in mounts("--userns", "host") if mount.point == "/dev/pts"]
    assert {"gid=5", "mode=620", "ptmxmode=666"} <= set(pts.super_options)


def test_shared_memory_is_for_everybody_and_limited(inside):
    assert (
        inside("stat -c %a /dev/shm; touch /dev/shm/x && echo made", "--user", "1000")
        == "1777\nmade"
    )
    assert inside("df -k /dev/shm | awk 'NR==2 {print $2}'") == str(64 * 1024)


def test_the_size_of_shared_memory_can_be_chosen_and_is_enforced(cli, rootfs):
    done = cli(
        "run",
        "--shm-size",
        "1m",
        rootfs,
        "/bin/dd",
        "if=/dev/zero",
        "of=/dev/shm/x",
        "bs=1M",
        "count=2",
    )
    assert done.returncode == 1
    assert b"No space left" in done.stderr


def test_shared_memory_of_two_containers_is_not_the_same(rootfs, inside):
    words = ["/bin/sh", "-c", "touch /dev/shm/secret; echo ready; cat"]
    with minibox.Container(words, rootfs=rootfs, stdin="pipe", stdout="pipe") as other:
        assert other.stdout.readline() == b"ready\n"
        assert inside("ls /dev/shm") == ""


def test_message_queues_are_of_the_own_ipc_namespace(rootfs, inside):
    here = inside(
        "touch /dev/mqueue/mine; ls /dev/mqueue; stat -c %d /dev/mqueue; stat -c %a /dev/mqueue"
    )
    name, device, mode = here.splitlines()
    assert (name, mode) == ("mine", "1777")
    with minibox.Container(["/bin/cat"], rootfs=rootfs, stdin="pipe") as other:
        assert os.listdir(f"/proc/{other.pid}/root/dev/mqueue") == []
        assert inside("stat -c %d /dev/mqueue") != str(
            os.stat(f"/proc/{other.pid}/root/dev/mqueue").st_dev
        )
    assert device


def test_nothing_of_dev_goes_to_the_tree(tree, cli):
    cli("run", tree, "/bin/touch", "/dev/x", "/dev/shm/y", check=True)
    assert os.listdir(tree / "dev") == []
    assert os.listdir(tree / "proc") == []
    assert os.listdir(tree / "sys") == []


# The caller's umask


@pytest.mark.parametrize(
    "options", [[], ["--overlay"], ["--userns", "host"], ["--init"]], ids=" ".join
)
def test_the_callers_umask_has_no_effect(tree, tmp_path, inside, options):
    for name in ("proc", "sys", "dev"):
        os.rmdir(tree / name)
    (tmp_path / "file").touch(0o644)
    script = (
        "umask; stat -c '%a %n' / /dev /dev/pts /dev/shm /dev/mqueue /dev/null /made /made/deep /tmp/file;"
        "touch /tmp/new; stat -c %a /tmp/new"
    )
    words = [*options, "--tmpfs", "/made/deep", "--volume", f"{tmp_path}/file:/tmp/file"]
    modes = {umask: inside(script, *words, root=tree, umask=umask) for umask in (0o000, 0o077)}
    assert modes[0o077] == modes[0o000]
    lines = modes[0o077].splitlines()
    assert (lines[0], lines[-1]) == ("0022", "644")
    assert "755 /made" in lines
    assert "755 /dev" in lines


def test_the_mount_points_made_in_the_tree_are_world_readable(tree, cli):
    for name in ("proc", "sys", "dev"):
        os.rmdir(tree / name)
    cli("run", "--volume", "/etc/hostname:/a/b/file", tree, "/bin/true", umask=0o077, check=True)
    made = ("proc", "sys", "dev", "a", "a/b", "a/b/file")
    assert {f"{stat.S_IMODE(os.stat(tree / name).st_mode):o}" for name in made[:-1]} == {"755"}
    assert stat.S_IMODE(os.stat(tree / made[-1]).st_mode) == 0o644
    assert {os.stat(tree / name).st_uid for name in made} == {0}


def test_a_container_that_is_killed_leaves_no_mount(rootfs):
    before = Path("/proc/self/mountinfo").read_text()
    container = minibox.Container(["/bin/cat"], rootfs=rootfs, stdin="pipe", overlay=True).start()
    container.kill()
    assert container.wait(10).signal == 9
    container.close()
    assert Path("/proc/self/mountinfo").read_text() == before
    assert b"minibox" not in subprocess.run(["mount"], capture_output=True, check=True).stdout
