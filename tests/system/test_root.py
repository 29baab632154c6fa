# SPDX-License-Identifier: Apache-2.0
"""The root file system: bound, in an overlay, read-only; hostile trees; the old root is gone."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import minibox
from tests.conftest import KERNEL, replaces_directories
from tests.system.conftest import COVERED

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
KEEPING = [("--overlay",), ("--volatile",), ("--read-only",), ("--overlay", "--read-only")]
KEEPING_IDS = [" ".join(words) for words in KEEPING]
USERNS = ["auto", "host"]


@pytest.fixture
def source(tmp_path):
    """An empty directory of the host."""
    path = tmp_path / "source"
    path.mkdir()
    return path


def snapshot(directory):
    """Everything there is to know about every file of a tree but the times of access."""
    found = {}
    for path, directories, files in os.walk(os.fsencode(directory)):
        for name in (b".", *directories, *files):
            full = os.path.join(path, name)
            info = os.lstat(full)
            content = b""
            if stat.S_ISREG(info.st_mode):
                content = hashlib.sha256(Path(os.fsdecode(full)).read_bytes()).digest()
            elif stat.S_ISLNK(info.st_mode):
                content = os.readlink(full)
            attributes = [
                (key, os.getxattr(full, key, follow_symlinks=False))
                for key in os.listxattr(full, follow_symlinks=False)
            ]
            found[full] = (
                info.st_mode, info.st_uid, info.st_gid, info.st_size, info.st_nlink, info.st_ino,
                info.st_rdev, info.st_mtime_ns, info.st_ctime_ns, content, attributes,
            )  # fmt: skip
    return found


# A bound root


@pytest.mark.parametrize("userns", USERNS)
def test_what_is_written_lands_in_the_tree_with_the_right_owner(tree, inside, userns):
    script = "echo x >/made; mkdir /dir; ln -s x /link; mkfifo /fifo; touch /home/u; chown 1000:33 /home/u"
    inside(script, "--userns", userns, root=tree)
    assert (tree / "made").read_text() == "x\n"
    for name, owner in (
        ("made", (0, 0)),
        ("dir", (0, 0)),
        ("link", (0, 0)),
        ("fifo", (0, 0)),
        ("home/u", (1000, 33)),
    ):
        info = os.lstat(tree / name)
        assert (info.st_uid, info.st_gid) == owner


def test_owners_in_the_tree_look_as_on_the_host(tree, inside):
    for name, uid, gid in (("a", 0, 0), ("b", 1000, 33), ("c", 70000, 0)):
        (tree / name).touch()
        os.chown(tree / name, uid, gid)
    assert inside("stat -c %u:%g /a /b /c", root=tree) == "0:0\n1000:33\n65534:0"


def test_a_user_writes_as_that_user(tree, inside):
    inside("echo x >/tmp/made", "--user", "user", root=tree)
    info = os.stat(tree / "tmp/made")
    assert (info.st_uid, info.st_gid) == (1000, 1000)


def test_the_tree_is_used_with_the_mounts_below_it(rootfs, tmp_path, helper):
    namespace = helper(
        "-m", script=f"mount -t tmpfs root '{tmp_path}'; cp -a '{rootfs}/.' '{tmp_path}';"
        f"mount -t tmpfs below '{tmp_path}/mnt'; touch '{tmp_path}/mnt/file'",
    )  # fmt: skip
    # A tmpfs has id maps since Linux 6.3.
    userns = "auto" if KERNEL >= (6, 3) else "host"
    done = namespace.minibox(
        "--userns", userns, tmp_path, "/bin/sh", "-c", "ls /mnt; grep ' /mnt ' /proc/self/mountinfo"
    )
    name, line = done.stdout.decode().splitlines()
    assert name == "file"
    assert "nodev" in line.split()[5].split(",")


# Trees that stay as they were


CHANGES = """
set -e
echo new >/made; mkdir -p /d/e/f; ln -s /made /link; ln /made /hard
echo more >>/etc/profile; echo other >/etc/hosts
rm /etc/shells; rm -r /srv; mkdir /srv; touch /srv/x
chmod 700 /etc; chmod 4755 /bin/busybox; chown 1000:1000 /home
mv /var /moved; test -d /moved/log; test ! -e /var
mv /etc/services /etc/renamed; test -s /etc/renamed; test ! -e /etc/services
touch -d '2001-01-01 00:00:00' /usr
test ! -e /etc/shells; test "$(ls /srv)" = x; test "$(stat -c %a:%u /home)" = 755:1000
test "$(tail -n 1 /etc/profile)" = more; test "$(stat -c %h /made)" = 2
cat /link
"""


@replaces_directories
@pytest.mark.parametrize("userns", USERNS)
@pytest.mark.parametrize("option", ["--overlay", "--volatile"])
def test_an_overlay_takes_every_change_and_the_tree_stays_as_it_was(tree, inside, option, userns):
    before = snapshot(tree)
    assert inside(CHANGES, option, "--userns", userns, root=tree) == "new"
    assert snapshot(tree) == before


@replaces_directories
@pytest.mark.parametrize("option", ["--overlay", "--volatile"])
def test_each_container_begins_with_the_tree(tree, inside, option):
    inside("rm -r /etc; touch /made", option, root=tree)
    assert inside("ls -d /etc /made 2>/dev/null || true", option, root=tree) == "/etc"


def test_the_owners_in_an_overlay_are_those_of_the_tree(tree, inside):
    (tree / "mine").touch()
    os.chown(tree / "mine", 1000, 33)
    assert (
        inside(
            "stat -c %u:%g /mine /etc; echo >>/mine; stat -c %u:%g /mine", "--overlay", root=tree
        )
        == "1000:33\n0:0\n1000:33"
    )


def test_a_user_may_do_in_an_overlay_what_the_tree_allows_and_no_more(tree, cli):
    (tree / "home/user/file").touch()
    os.chown(tree / "home/user/file", 1000, 1000)
    os.chown(tree / "home/user", 1000, 1000)
    script = "cd /home/user; echo x >file; touch new; mkdir d; rm file; touch /etc/no; echo x >>/etc/passwd"
    done = cli("run", "--overlay", "--user", "1000", tree, "/bin/sh", "-c", script)
    assert done.stderr.count(b"Permission denied") + done.stderr.count(b"ermission") >= 2
    assert done.stderr.count(b"\n") == 2, done.stderr


def test_the_root_directory_of_an_overlay_has_the_mode_and_owner_of_the_tree(tree, inside):
    os.chmod(tree, 0o711)
    os.chown(tree, 5, 6)
    assert (
        inside("stat -c %a:%u:%g /", "--overlay", root=tree)
        == inside("stat -c %a:%u:%g /", root=tree)
        == "711:5:6"
    )


@pytest.mark.parametrize("userns", USERNS)
def test_the_size_of_the_overlay_is_enforced(cli, rootfs, userns):
    words = ["/bin/dd", "if=/dev/zero", "of=/tmp/big", "bs=1M", "count=3"]
    done = cli("run", "--userns", userns, "--overlay", "--size", "2m", rootfs, *words)
    assert (done.returncode, b"No space left" in done.stderr) == (1, True)
    assert cli("run", "--overlay", "--size", "4m", rootfs, *words).returncode == 0
    assert not Path(rootfs, "tmp/big").exists()


def test_the_size_needs_an_overlay_and_must_be_one(refused, rootfs):
    assert "--overlay" in refused("--size", "1m", rootfs, "/bin/true")
    for size in ("0", "1x", "-1", "m", "1.5m"):
        assert "--size" in refused("--overlay", "--size", size, rootfs, "/bin/true")


# Read-only


WRITES = (
    "touch /x", "echo x >/etc/hosts", "rm /etc/hosts", "mkdir /etc/d", "mv /etc/hosts /etc/h", "ln -s x /l",
    "chmod 600 /etc/hosts", "chown 5 /etc/hosts", "touch /tmp/x", "ln /etc/hosts /etc/hard", "mkfifo /root/f",
)  # fmt: skip


@pytest.mark.parametrize("userns", USERNS)
def test_nothing_of_a_read_only_root_can_be_written(tree, cli, userns):
    before = snapshot(tree)
    script = "; ".join(f"({words}) && echo '{words}'" for words in WRITES) + "; true"
    done = cli("run", "--read-only", "--userns", userns, tree, "/bin/sh", "-c", script)
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.count(b"Read-only file system") == len(WRITES)
    assert snapshot(tree) == before


def test_the_other_mounts_of_a_read_only_root_can_be_written(tree, source, inside):
    before = snapshot(tree)
    said = inside(
        "for d in /dev/shm /tmp /new/deep /mnt; do touch $d/x && echo $d; done",
        "--read-only", "--tmpfs", "/tmp", "--tmpfs", "/new/deep", "-v", f"{source}:/mnt", root=tree,
    )  # fmt: skip
    assert said.split() == ["/dev/shm", "/tmp", "/new/deep", "/mnt"]
    assert (source / "x").exists()
    assert snapshot(tree) == before


@pytest.mark.parametrize("options", KEEPING[2:], ids=KEEPING_IDS[2:])
def test_root_inside_cannot_make_its_root_writable(tree, cli, options):
    script = "for how in rw rw,bind bind,rw,dev; do mount -o remount,$how / 2>/dev/null; touch /x && echo written; done"
    done = cli("run", *options, tree, "/bin/sh", "-c", script)
    assert done.stdout == b""


@pytest.mark.parametrize("userns", USERNS)
def test_root_inside_cannot_bring_a_device_node_of_the_tree_to_life(tree, cli, userns):
    os.mknod(tree / "node", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    script = "mount -o remount,bind,dev / 2>/dev/null; head -c 3 /node"
    done = cli("run", "--userns", userns, tree, "/bin/sh", "-c", script)
    assert (done.returncode, done.stdout) == (1, b"")


@pytest.mark.parametrize("options", KEEPING, ids=KEEPING_IDS)
def test_mount_points_missing_in_the_tree_do_not_stay_there(tree, source, inside, options):
    for name in ("proc", "sys", "dev"):
        os.rmdir(tree / name)
    before = snapshot(tree)
    words = ["--tmpfs", "/a/b", "-v", f"{source}:/c/d", "-v", "/etc/hostname:/e/f"]
    said = inside(
        "test -c /dev/null && test -d /sys/kernel && test -s /e/f && echo $$",
        *options,
        *words,
        root=tree,
    )
    assert said == "1"
    assert snapshot(tree) == before


def test_mount_points_missing_in_a_bound_tree_are_made(tree, inside):
    for name in ("proc", "sys", "dev"):
        os.rmdir(tree / name)
    inside("test -c /dev/null && test -d /sys/kernel && test -e /proc/self/exe", root=tree)
    for name in ("proc", "sys", "dev"):
        info = os.lstat(tree / name)
        assert (stat.filemode(info.st_mode), info.st_uid, os.listdir(tree / name)) == (
            "drwxr-xr-x",
            0,
            [],
        )


def test_a_tree_the_host_has_read_only_works_in_an_overlay(tree, helper):
    namespace = helper(
        "-m", script=f"mount --bind '{tree}' '{tree}'; mount -o remount,bind,ro '{tree}'"
    )
    for option in ("--overlay", "--read-only"):
        done = namespace.minibox(
            option, "--tmpfs", "/new", tree, "/bin/sh", "-c", "touch /new/x; echo ok"
        )
        assert (done.stdout, done.stderr) == (b"ok\n", b"")
    done = namespace.minibox("--tmpfs", "/new", tree, "/bin/true")
    assert (done.returncode, b"--overlay" in done.stderr) == (125, True)


# Hostile trees


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
@pytest.mark.parametrize("options", [(), ("--overlay",)], ids=["bound", "overlay"])
def test_a_proc_sys_or_dev_that_is_no_directory_is_refused(tree, refused, name, options):
    os.rmdir(tree / name)
    for end in ("/etc", "/", "etc", "../..", "/nowhere", "proc", "self/root", "file", "fifo"):
        if end == "file":
            (tree / name).touch()
        elif end == "fifo":
            os.mkfifo(tree / name)
        else:
            (tree / name).symlink_to(end)
        before, host = snapshot(tree), _lists(tree.parent)
        assert f"/{name}" in refused(*options, tree, "/bin/true"), end
        assert (snapshot(tree), _lists(tree.parent)) == (before, host), end
        os.unlink(tree / name)


def _lists(directory):
    """The names in the places of the host where an escape would leave something."""
    return [sorted(os.listdir(path)) for path in ("/", "/etc", "/dev", directory)]


def test_files_shipped_in_dev_are_not_used(tree, inside):
    """CVE-2025-31133: a null that is another file."""
    (tree / "dev/null").symlink_to("/etc/passwd")
    (tree / "dev/pts").symlink_to("/etc")
    (tree / "dev/shm").write_text("")
    before = snapshot(tree)
    assert (
        inside("echo x >/dev/null; stat -c %F /dev/null; ls /dev/pts", root=tree)
        == "character special file\nptmx"
    )
    assert snapshot(tree) == before


@pytest.mark.parametrize("link", ["absolute", "up", "far up"])
@pytest.mark.parametrize("options", [(), ("--userns", "host")], ids=["auto", "host"])
def test_a_directory_swapped_for_a_link_never_leads_to_the_host(
    tree, tmp_path, source, link, options
):
    """CVE-2021-30465, CVE-2024-45310."""
    host = tmp_path / "host"
    host.mkdir()
    (host / "below").mkdir()
    ends = {"absolute": host, "up": "../host", "far up": "../" * 30 + str(host)[1:]}
    (tree / "way" / "below").mkdir(parents=True)
    (tree / "link").symlink_to(ends[link])
    before = snapshot(host)
    volumes = [
        f"{source}:/way/below/made/deep",
        f"{source}:/way/new",
        "/etc/hostname:/way/below/file",
    ]
    given = {"userns": options[1]} if options else {}
    started, failed = 0, []
    words = [sys.executable, "-c", SWAP_LOOP, tree / "way", tree / "link"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as swapping:
        assert swapping.stdout.readline() == b"ready\n"
        try:
            for _ in range(200):
                try:
                    result = minibox.run(["/bin/true"], rootfs=tree, volumes=volumes, **given)
                    assert result.exit_code == 0
                    started += 1
                except minibox.SetupError as error:
                    failed.append(error.errno)
        finally:
            assert swapping.poll() is None
            swapping.kill()
    assert snapshot(host) == before
    assert set(failed) <= {errno.ENOENT, errno.EEXIST, errno.EAGAIN, errno.ENOTDIR}
    assert failed, "the race was never lost: it was no race"
    assert started + len(failed) == 200


# Ways to name the root


def test_the_root_may_be_relative(tree, inside):
    (tree / "mark").touch()
    assert inside("ls /mark", root="rootfs", cwd=tree.parent) == "/mark"
    assert inside("ls /mark", root=".", cwd=tree) == "/mark"
    assert inside("ls /mark", root="../rootfs/./", cwd=tree) == "/mark"


def test_the_root_may_be_a_link_or_end_with_a_slash(tree, tmp_path, inside):
    (tree / "mark").touch()
    (tmp_path / "link").symlink_to("rootfs")
    for root in (
        tmp_path / "link",
        f"{tmp_path}/link/",
        f"{tree}/",
        f"{tree}//",
        f"{tmp_path}//rootfs/.",
        f"{tree}/etc/..",
    ):
        for options in ((), ("--overlay",)):
            assert inside("ls /mark", *options, root=root) == "/mark"


def test_a_link_and_two_dots_mean_what_they_mean_to_the_kernel(tree, tmp_path, inside):
    """`link/..` is the parent of where the link leads, not of the link."""
    (tmp_path / "link").symlink_to("rootfs/etc")
    (tree / "mark").touch()
    assert inside("ls /mark", root=f"{tmp_path}/link/..") == "/mark"


def test_the_root_may_have_a_strange_name(tree, cli):
    for name in (
        b"with space",
        b"new\nline",
        b"\xff\xfe",
        b"a:b,c=d",
        b"back\\slash",
        b"-dash",
        "größe".encode(),
    ):
        path = os.fsencode(tree.parent) + b"/" + name
        os.rename(tree, path)
        for options in ((), ("--overlay",)):
            done = cli("run", *options, path, "/bin/sh", "-c", "echo $$")
            assert (done.returncode, done.stdout) == (0, b"1\n"), done
        os.rename(path, tree)


@pytest.mark.parametrize(
    ("root", "reason"),
    [
        ("/nowhere", "No such file"),
        ("", "empty"),
        ("/etc/passwd", "ot a directory"),
        ("/etc/passwd/x", "ot a directory"),
        ("x" * 5000, "too long"),
    ],
)
def test_a_bad_root_is_refused_with_one_message(refused, root, reason):
    assert reason in refused(root, "/bin/true")


def test_an_empty_tree_has_no_command(tmp_path, refused):
    (tmp_path / "empty").mkdir()
    refused("--overlay", tmp_path / "empty", "/bin/true", code=127)
    assert os.listdir(tmp_path / "empty") == []


@pytest.mark.parametrize(
    "options", [("--overlay",), ("--read-only",)], ids=["overlay", "read-only"]
)
@pytest.mark.parametrize("userns", USERNS)
def test_the_hosts_own_root_can_be_used(inside, tmp_path, options, userns):
    """With nothing of the host's own mounts: neither its proc, its sys, its dev nor its cgroups."""
    script = "touch /x 2>/dev/null; cut -d' ' -f5 /proc/self/mountinfo; echo $$"
    *points, pid = inside(script, *options, "--userns", userns, root="/").split("\n")
    assert pid == "1"
    nodes = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")}
    assert sorted(point for point in points if point not in COVERED) == sorted(
        {"/", "/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"} | nodes
    )
    assert not os.path.exists("/x")


def test_the_hosts_own_root_bound_shows_only_its_own_file_system(inside):
    points = inside("cut -d' ' -f5 /proc/self/mountinfo", root="/").split("\n")
    assert points.count("/proc") == points.count("/sys") == points.count("/dev") == 1
    assert not [one for one in points if one.startswith("/sys/") and one not in COVERED]


# The old root


EVERY_ROOT = [
    (),
    ("--overlay",),
    ("--read-only",),
    ("--userns", "host"),
    ("--overlay", "--userns", "host"),
    ("--init",),
]


@pytest.mark.parametrize("options", EVERY_ROOT, ids=" ".join)
def test_the_old_root_cannot_be_reached_by_any_path(tree, tmp_path, inside, options):
    (tmp_path / "secret").touch()
    # The init lets nobody look, not even at its root.
    first = "" if "--init" in options else "/proc/1/root/. /proc/1/cwd/."
    script = f"""
    cd /; i=0; while [ $i -lt 30 ]; do cd ..; i=$((i+1)); done
    stat -c %d:%i / . /.. {first} /proc/self/root/. /proc/self/cwd/..
    pwd -P
    ls -d {tmp_path} /../{tmp_path}/secret /proc/1/root/{tmp_path} 2>/dev/null | wc -l
    """
    *places, where, count = inside(script, *options, root=tree).split("\n")
    assert len(set(places)) == 1
    assert (where, count) == ("/", "0")


@pytest.mark.parametrize("options", EVERY_ROOT, ids=" ".join)
def test_no_mount_of_the_host_is_left(tree, inside, options):
    mounts = inside("cat /proc/1/mountinfo", *options, root=tree).split("\n")
    (root,) = [line.split() for line in mounts if line.split()[4] == "/"]
    assert {line.split()[1] for line in mounts if line.split()[4] in ("/proc", "/sys", "/dev")} == {
        root[0]
    }
    assert "lowerdir=lower," in root[-1] or root[3] == str(tree) or root[3].endswith("/rootfs")


@pytest.mark.parametrize("options", EVERY_ROOT, ids=" ".join)
def test_unmounting_everything_does_not_bring_the_old_root_back(tree, cli, tmp_path, options):
    (tmp_path / "secret").touch()
    script = f"for i in 1 2 3; do umount -l /proc /sys /dev /; cd /; ls /..; ls -d {tmp_path}; done 2>/dev/null; ls -a /"
    done = cli("run", *options, tree, "/bin/sh", "-c", script)
    names = set(done.stdout.decode().split())
    assert not names & {str(tmp_path), "boot", "lost+found", "secret"}
    assert names <= {".", "..", *os.listdir(tree)}


@pytest.mark.parametrize("options", EVERY_ROOT, ids=" ".join)
def test_a_chroot_inside_gives_no_way_out(tree, cli, tmp_path, options):
    """The classic: keep a directory open, chroot below it, walk up."""
    (tmp_path / "out.c").write_text(ESCAPE)
    subprocess.run(["gcc", "-static", "-o", tree / "out", tmp_path / "out.c"], check=True)
    (tree / "mark").touch()
    done = cli("run", *options, "--tmpfs", "/tmp", tree, "/out")
    assert done.stdout == b"at the container's root\n", done


ESCAPE = r"""
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
int main(void)
{
	int fd = open("/", O_RDONLY | O_DIRECTORY);
	mkdir("/tmp/jail", 0755);
	if (chroot("/tmp/jail") == 0 && fchdir(fd) < 0)
		return 1;
	for (int i = 0; i < 100; i++)
		if (chdir("..") < 0)
			return 2;
	chroot(".");
	puts(access("mark", F_OK) == 0 ? "at the container's root" : "out");
	return 0;
}
"""
