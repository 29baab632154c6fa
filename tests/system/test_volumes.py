# SPDX-License-Identifier: Apache-2.0
"""--volume and --tmpfs: what is mounted where, with what flags and owners; no link leads out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import minibox

RENAME_LOOP = """
import os, sys
a, b = sys.argv[1:]
print("ready", flush=True)
while True:
    os.rename(a, b)
    os.rename(b, a)
"""


@pytest.fixture
def source(tmp_path):
    """A directory of the host with a file `greeting` in it."""
    path = tmp_path / "source"
    path.mkdir()
    (path / "greeting").write_text("hello\n")
    return path


@pytest.fixture
def options_of(inside):
    """The options of the mount at `point`."""

    def find(point, *options, **how):
        for line in inside("cat /proc/self/mountinfo", *options, **how).splitlines():
            words = line.split()
            if words[4] == point:
                return set(words[5].split(","))
        pytest.fail(f"nothing is mounted at {point}")

    return find


def listing(directory):
    """All paths below a directory, and where the links among them point."""
    return sorted(
        (str(path.relative_to(directory)), os.readlink(path) if path.is_symlink() else "")
        for path in Path(directory).rglob("*")
    )


def test_a_directory_is_mounted_for_reading_and_writing(source, inside):
    assert inside("cat /mnt/greeting; echo more >/mnt/new", "--volume", f"{source}:/mnt") == "hello"
    assert (source / "new").read_text() == "more\n"


def test_a_file_is_mounted_for_reading_and_writing(source, tree, inside):
    said = inside(
        "cat /etc/motd; echo changed >/etc/motd", "-v", f"{source}/greeting:/etc/motd", root=tree
    )
    assert said == "hello"
    assert (source / "greeting").read_text() == "changed\n"
    assert (tree / "etc/motd").read_text() == ""


def test_a_file_over_a_file_hides_it_and_leaves_it(source, tree, inside):
    before = (tree / "etc/passwd").read_text()
    said = inside(
        "cat /etc/passwd; echo x >/etc/passwd", "-v", f"{source}/greeting:/etc/passwd", root=tree
    )
    assert said == "hello"
    assert (tree / "etc/passwd").read_text() == before


def test_only_the_source_is_seen_not_what_lies_beside_it(source, tmp_path, inside):
    (tmp_path / "secret").touch()
    assert inside("ls -A /mnt /mnt/..", "-v", f"{source}:/mnt").count("secret") == 0


def test_a_read_only_directory_cannot_be_written(source, cli, rootfs):
    before = listing(source)
    writes = (
        "echo x >/mnt/greeting",
        "touch /mnt/new",
        "rm /mnt/greeting",
        "chmod 777 /mnt",
        "mkdir /mnt/d",
    )
    script = "; ".join(f"({words}) && echo '{words}'" for words in writes) + "; true"
    done = cli("run", "-v", f"{source}:/mnt:ro", rootfs, "/bin/sh", "-c", script)
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.count(b"Read-only file system") == len(writes)
    assert listing(source) == before
    assert (source / "greeting").read_text() == "hello\n"


def test_a_read_only_file_cannot_be_written(source, cli, tree):
    done = cli("run", "-v", f"{source}/greeting:/f:ro", tree, "/bin/sh", "-c", "echo x >/f")
    assert done.returncode != 0
    assert (source / "greeting").read_text() == "hello\n"


@pytest.mark.parametrize(
    "script", ["mount -o remount,rw,bind /mnt", "mount -o remount,rw /mnt", "umount /mnt"]
)
def test_root_inside_cannot_lift_read_only(source, cli, rootfs, script):
    cli(
        "run",
        "--overlay",
        "-v",
        f"{source}:/mnt:ro",
        rootfs,
        "/bin/sh",
        "-c",
        f"{script}; echo x >/mnt/greeting",
    )
    assert (source / "greeting").read_text() == "hello\n"


@pytest.fixture
def below(source, tmp_path, helper):
    """`below(options)`: a host that has mounted another directory in the volume's. No tmpfs, which
    has no id maps before Linux 6.3."""
    (source / "below").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()

    def make(options="rw"):
        mount = f"mount --bind '{tmp_path}/other' below; mount -o remount,bind,{options} below"
        return helper("-m", script=f"cd '{source}'; {mount}")

    return make


def test_read_only_holds_for_the_mounts_below(source, rootfs, below):
    namespace = below()
    script = (
        "ls /mnt/below; touch /mnt/below/new || mount -o remount,rw,bind /mnt/below || echo safe"
    )
    done = namespace.minibox("-v", f"{source}:/mnt:ro", rootfs, "/bin/sh", "-c", script)
    assert done.stdout == b"file\nsafe\n", done
    assert namespace.run("ls", f"{source}/below").stdout == b"file\n"


def test_a_writable_volume_brings_the_mounts_below(source, rootfs, below):
    namespace = below()
    done = namespace.minibox("-v", f"{source}:/mnt", rootfs, "/bin/touch", "/mnt/below/new")
    assert (done.returncode, done.stderr) == (0, b"")
    assert namespace.run("ls", f"{source}/below").stdout == b"file\nnew\n"
    assert listing(source) == [("below", ""), ("greeting", "")]


def test_a_mount_below_keeps_its_own_flags(source, rootfs, below):
    done = below("ro,noexec").minibox(
        "-v", f"{source}:/mnt:rw,exec", rootfs, "/bin/grep", " /mnt/below ", "/proc/self/mountinfo"
    )
    assert {"ro", "noexec", "nosuid", "nodev"} <= set(done.stdout.decode().split()[5].split(","))


@pytest.mark.parametrize(
    ("words", "present", "absent"),
    [
        ("", {"rw", "nosuid", "nodev"}, {"noexec"}),
        ("ro", {"ro", "nosuid", "nodev"}, {"rw"}),
        ("rw", {"rw", "nosuid", "nodev"}, {"ro"}),
        ("ro,rw", {"rw"}, {"ro"}),
        ("noexec", {"noexec", "nosuid", "nodev"}, set()),
        ("noexec,exec", {"nosuid", "nodev"}, {"noexec"}),
        ("suid", {"nodev"}, {"nosuid"}),
        ("dev", {"nosuid"}, {"nodev"}),
        ("ro,noexec,nosuid,nodev", {"ro", "noexec", "nosuid", "nodev"}, {"rw"}),
    ],
)
@pytest.mark.parametrize("door", ["volume", "tmpfs"])
def test_the_words_are_the_flags_of_the_mount(source, options_of, door, words, present, absent):
    given = f"{source}:/mnt:{words}" if door == "volume" else f"/mnt:{words}"
    found = options_of("/mnt", f"--{door}", given)
    assert present <= found
    assert not absent & found


def test_noexec_forbids_to_run_what_is_there(source, cli, rootfs):
    shutil.copy(f"{rootfs}/bin/busybox", source / "true")
    for words, code in (("", 0), (":noexec", 126)):
        assert cli("run", "-v", f"{source}:/mnt{words}", rootfs, "/mnt/true").returncode == code


def test_a_set_uid_file_of_a_volume_gives_nothing(source, inside, rootfs):
    shutil.copy(f"{rootfs}/bin/busybox", source / "id")
    os.chmod(source / "id", 0o4755)
    assert inside("/mnt/id -u", "-v", f"{source}:/mnt", "--user", "1000") == "1000"


def test_a_device_node_of_a_volume_opens_nothing(source, cli, rootfs):
    os.mknod(source / "null", 0o020666, os.makedev(1, 3))
    done = cli("run", "-v", f"{source}:/mnt", rootfs, "/bin/cat", "/mnt/null")
    assert (done.returncode, b"Permission denied" in done.stderr) == (1, True)


# Targets


@pytest.mark.parametrize(
    "where", ["/new", "/new/deep/down", "/etc/new/x", "//new//./x/", "/mnt/../new"]
)
def test_a_missing_target_is_made(source, tree, inside, where):
    path = os.path.normpath("/" + where.lstrip("/"))
    assert inside(f"cat {path}/greeting", "-v", f"{source}:{where}", root=tree) == "hello"
    assert inside(f"cat {path}-file", "-v", f"{source}/greeting:{path}-file", root=tree) == "hello"
    assert list((tree / path[1:]).iterdir()) == []
    assert (tree / f"{path[1:]}-file").read_bytes() == b""


def test_a_missing_target_does_not_stay_in_a_volatile_tree(source, tree, inside):
    before = listing(tree)
    for option in ("--volatile", "--read-only"):
        said = inside(
            "cat /a/b/greeting /c/f",
            option,
            "-v",
            f"{source}:/a/b",
            "-v",
            f"{source}/greeting:/c/f",
            root=tree,
        )
        assert said == "hello\nhello"
    assert listing(tree) == before


@pytest.mark.parametrize(
    ("links", "target", "found"),
    [
        ({"link": "../../.."}, "/link/in", "/in"),
        ({"link": "../../../mnt"}, "/link", "/mnt"),
        ({"link": "/etc"}, "/link/in", "/etc/in"),
        ({"link": "/etc"}, "/link", "/etc"),
        ({"a": "mnt"}, "/a/b", "/mnt/b"),
        ({"a": "b", "b": "mnt"}, "/a/x/y", "/mnt/x/y"),
        ({"mnt/a": "../../../../tmp"}, "/mnt/a/b", "/tmp/b"),
        ({"link": "/tmp/../mnt"}, "/link", "/mnt"),
    ],
)
@pytest.mark.parametrize("kind", ["directory", "file"])
def test_a_link_on_the_way_is_followed_inside_the_root(
    source, tree, cli, links, target, found, kind
):
    """With the host's /etc, /tmp and /mnt at the other end if it were not."""
    for name, end in links.items():
        (tree / name).symlink_to(end)
    host = {path: sorted(os.listdir(path)) for path in ("/", "/etc", "/mnt", tree.parent)}
    if kind == "file":
        given, found = f"{source}/greeting:{target}/leaf", f"{found}/leaf"
    else:
        given = f"{source}:{target}"
    done = cli(
        "run", "-v", given, tree, "/bin/cat", f"{found}/greeting" if kind == "directory" else found
    )
    assert (done.returncode, done.stdout) == (0, b"hello\n"), done
    assert {path: sorted(os.listdir(path)) for path in host} == host


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_a_link_to_nowhere_is_refused_and_makes_nothing(source, tree, tmp_path, refused, kind):
    for end in ("/nowhere", "../nowhere", "nowhere/deeper", "self"):
        (tree / "self").symlink_to(end)
        before = listing(tree), sorted(os.listdir("/")), sorted(os.listdir(tmp_path))
        for target in ("/self", "/self/below"):
            given = f"{source}:{target}" if kind == "directory" else f"{source}/greeting:{target}"
            assert "self" in refused("-v", given, tree, "/bin/true")
            assert (listing(tree), sorted(os.listdir("/")), sorted(os.listdir(tmp_path))) == before
        (tree / "self").unlink()


def test_a_link_up_works_while_the_host_renames_and_mounts(source, tree, tmp_path, helper):
    """openat2 gives EAGAIN for `..` when anything anywhere is renamed or mounted meanwhile."""
    (tree / "up").symlink_to("../../../mnt")
    (tmp_path / "a").touch()
    words = [sys.executable, "-c", RENAME_LOOP, tmp_path / "a", tmp_path / "b"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as renaming:
        assert renaming.stdout.readline() == b"ready\n"
        try:
            failures = []
            for _ in range(150):
                try:
                    minibox.run(["/bin/true"], rootfs=tree, volumes=[f"{source}:/up/in"])
                except minibox.SetupError as error:
                    failures.append(str(error))
        finally:
            renaming.kill()
    assert failures == []


STRANGE = (
    b"with space", b"new\nline", b"tab\tand \\ back", b"\xff\xfe bytes", "größe".encode(), b"-dash", b"a=b", b"'\"$(id)",
)  # fmt: skip


def test_strange_names_work_at_both_ends(tmp_path, tree, cli):
    for name in STRANGE:
        source = os.fsencode(tmp_path) + b"/" + name
        os.mkdir(source)
        Path(os.fsdecode(source), "greeting").write_text("hello\n")
        done = cli("run", "-v", source + b":/" + name, tree, "/bin/cat", b"/" + name + b"/greeting")
        assert (done.returncode, done.stdout) == (0, b"hello\n"), done


def test_a_relative_source_counts_from_the_callers_directory(source, inside):
    assert inside("cat /mnt/greeting", "-v", "./source:/mnt", cwd=source.parent) == "hello"
    assert inside("cat /mnt/greeting", "-v", "../source:/mnt", cwd=source) == "hello"


def test_a_source_may_be_a_link_of_the_host(source, tmp_path, inside):
    (tmp_path / "link").symlink_to("source")
    assert inside("cat /mnt/greeting", "-v", f"{tmp_path}/link:/mnt") == "hello"


def test_a_link_and_two_dots_mean_what_they_mean_to_the_kernel(source, tmp_path, inside):
    """`link/..` is the parent of where the link leads, not of the link."""
    (source / "in").mkdir()
    (tmp_path / "link").symlink_to("source/in")
    assert inside("cat /mnt/greeting", "-v", f"{tmp_path}/link/..:/mnt") == "hello"


def test_links_in_a_volume_are_followed_inside_only(source, tmp_path, cli, rootfs):
    (tmp_path / "secret").write_text("secret")
    for name, end in (("abs", tmp_path / "secret"), ("rel", "../secret")):
        (source / name).symlink_to(end)
        done = cli("run", "-v", f"{source}:/mnt", rootfs, "/bin/cat", f"/mnt/{name}")
        assert (done.returncode, done.stdout) == (1, b"")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
def test_nested_volumes_work_in_any_order(tmp_path, inside, order):
    given = []
    for name, target in (("outer", "/mnt"), ("middle", "/mnt/in"), ("inner", "/mnt/in/deep")):
        (tmp_path / name / "in" / "deep").mkdir(parents=True)
        (tmp_path / name / "deep").mkdir()
        (tmp_path / name / name).touch()
        given.append(("-v", f"{tmp_path / name}:{target}"))
    words = [word for i in order for word in given[i]]
    said = inside("ls /mnt; ls /mnt/in; ls /mnt/in/deep", *words).split()
    assert said == ["deep", "in", "outer", "deep", "in", "middle", "deep", "in", "inner"]


def test_a_volume_in_a_tmpfs_and_a_tmpfs_in_a_volume(source, inside):
    said = inside(
        "cat /mnt/v/greeting; touch /mnt/v/t/x; ls /mnt/v/t",
        "-v", f"{source}:/mnt/v", "--tmpfs", "/mnt/v/t", "--tmpfs", "/mnt",
    )  # fmt: skip
    assert said == "hello\nx"
    assert listing(source) == [("greeting", ""), ("t", "")]


def test_a_mount_point_missing_in_a_read_only_volume_is_an_error_that_names_it(
    source, refused, rootfs
):
    message = refused("-v", f"{source}:/mnt:ro", "--tmpfs", "/mnt/new", rootfs, "/bin/true")
    assert "/mnt/new" in message
    assert "Read-only file system" in message
    assert "--volatile" not in message, "--volatile is no way out here"


def test_the_same_source_can_be_mounted_twice(source, inside):
    (source / "in").mkdir()
    said = inside(
        "echo x >/mnt/in/new; cat /tmp/v/in/new; touch /tmp/v/no 2>/dev/null || echo ro",
        "-v", f"{source}:/mnt", "-v", f"{source}:/tmp/v:ro", "--tmpfs", "/tmp",
    )  # fmt: skip
    assert said == "x\nro"


# What is refused


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("/nowhere/at/all:/mnt", "No such file or directory"),
        ("{source}:/mnt:rx", "'rx'"),
        ("{source}:/mnt:ro,idmap,nonsense", "'nonsense'"),
        ("{source}:/mnt:RO", "'RO'"),
        ("{source}:/mnt:ro:x", "SOURCE:TARGET"),
        ("{source}", "SOURCE:TARGET"),
        (":/mnt", "SOURCE:TARGET"),
        ("{source}:", "absolute"),
        ("{source}:mnt", "absolute"),
        ("{source}:../mnt", "absolute"),
        ("{source}:/", "root"),
        ("{source}://", "root"),
        ("{source}:/mnt/..", "root"),
        ("{source}:/proc", "/proc"),
        ("{source}:/proc/", "/proc"),
        ("{source}:/proc/sys", "/proc"),
        ("{source}://proc//self", "/proc"),
        ("{source}:/mnt/../proc/self", "/proc"),
        ("{source}/greeting/x:/mnt", "Not a directory"),
        ("{source}:/etc/passwd", "Not a directory"),
        ("{source}/greeting:/mnt", "directory"),
        ("{source}:/etc/passwd/below", "Not a directory"),
    ],
)
def test_a_bad_volume_is_refused_with_one_message(source, tree, refused, text, reason):
    before = listing(tree), listing(source)
    message = refused("--volume", text.format(source=source), tree, "/bin/true")
    assert reason in message
    assert (listing(tree), listing(source)) == before


def test_a_name_too_long_is_refused(source, tree, refused):
    assert "too long" in refused("-v", f"{source}:/{'x' * 300}", tree, "/bin/true")
    assert "too long" in refused("--overlay", "-v", f"{source}:{'/x' * 2500}", tree, "/bin/true")


@pytest.mark.parametrize("door", ["directory", "file", "tmpfs"])
def test_nothing_stays_on_proc_through_a_link_of_the_tree(source, tree, cli, door):
    """CVE-2019-19921, CVE-2023-27561: a proc that is not the kernel's. It is mounted last."""
    (tree / "mnt/p").symlink_to("../proc")
    given = {
        "directory": ("-v", f"{source}:/data"),
        "file": ("-v", f"{source}/greeting:/data/version"),
        "tmpfs": ("--tmpfs", "/data"),
    }
    for end in ("proc", "/proc", "../proc", "mnt/p", "proc/sys", "/proc/self"):
        (tree / "data").symlink_to(end)
        script = "stat -f -c %T /proc; grep -c ' /proc' /proc/self/mounts; cat /proc/version"
        done = cli("run", *given[door], tree, "/bin/sh", "-c", script)
        if done.returncode == 0:
            kind, _, version = done.stdout.decode().split("\n", 2)
            assert (kind, version.startswith("Linux version")) == ("proc", True), end
        else:
            assert done.returncode == 125, end
        (tree / "data").unlink()


def test_a_source_that_is_a_fifo_or_socket_is_passed_as_it_is(tmp_path, inside):
    os.mkfifo(tmp_path / "fifo")
    assert (
        inside("stat -c %F /mnt/fifo", "-v", f"{tmp_path}/fifo:/mnt/fifo", "--tmpfs", "/mnt")
        == "fifo"
    )


# Owners


def test_what_root_inside_writes_is_roots_on_the_host(source, inside):
    inside("echo x >/mnt/new; mkdir /mnt/dir; ln -s x /mnt/link", "-v", f"{source}:/mnt")
    for name in ("new", "dir", "link"):
        found = os.lstat(source / name)
        assert (found.st_uid, found.st_gid) == (0, 0)


def test_a_user_looks_the_same_on_both_sides(source, inside):
    for name, uid, gid in (
        ("user", 1000, 1000),
        ("mixed", 0, 33),
        ("last", 65535, 65535),
        ("beyond", 65536, 70000),
    ):
        (source / name).touch()
        os.chown(source / name, uid, gid)
    said = inside("cd /mnt; stat -c '%n %u %g' user mixed last beyond", "-v", f"{source}:/mnt")
    assert said.splitlines() == [
        "user 1000 1000",
        "mixed 0 33",
        "last 65535 65535",
        "beyond 65534 65534",
    ]


def test_what_a_user_writes_is_that_users_on_the_host(source, inside):
    os.chown(source, 1000, 1000)
    inside("echo x >/mnt/new", "-v", f"{source}:/mnt", "--user", "1000:100")
    found = os.stat(source / "new")
    assert (found.st_uid, found.st_gid) == (1000, 100)


def test_a_user_cannot_write_what_is_another_users(source, cli, rootfs):
    os.chown(source, 1001, 1001)
    done = cli("run", "-v", f"{source}:/mnt", "--user", "1000", rootfs, "/bin/touch", "/mnt/new")
    assert (done.returncode, b"Permission denied" in done.stderr) == (1, True)


def test_root_inside_has_no_power_over_ids_that_are_not_mapped(source, cli, rootfs):
    (source / "beyond").write_text("secret")
    os.chown(source / "beyond", 70000, 70000)
    os.chmod(source / "beyond", 0o600)
    done = cli("run", "-v", f"{source}:/mnt", rootfs, "/bin/cat", "/mnt/beyond")
    assert (done.returncode, done.stdout) == (1, b"")


@pytest.mark.parametrize("words", ["noidmap", "ro,noidmap"])
def test_noidmap_shows_the_hosts_ids_as_they_are_nobody_inside(source, cli, rootfs, words):
    os.chmod(source, 0o755)
    os.chmod(source / "greeting", 0o600)
    done = cli(
        "run",
        "-v",
        f"{source}:/mnt:{words}",
        rootfs,
        "/bin/sh",
        "-c",
        "stat -c %u:%g /mnt; cat /mnt/greeting",
    )
    assert (done.returncode, done.stdout) == (1, b"65534:65534\n")


def test_with_the_hosts_ids_nothing_is_mapped(source, inside):
    os.chown(source / "greeting", 70000, 70000)
    said = inside(
        "stat -c %u:%g /mnt/greeting; grep -c idmapped /proc/self/mountinfo || true",
        "--userns",
        "host",
        "-v",
        f"{source}:/mnt",
    )
    assert said == "70000:70000\n0"


# --tmpfs


def test_a_tmpfs_is_empty_and_for_everybody(inside, rootfs):
    (before,) = [sorted(os.listdir(f"{rootfs}/home"))]
    said = inside(
        "ls -A /home; touch /home/x; stat -c %a:%u:%g /home; ls /home",
        "--tmpfs",
        "/home",
        "--user",
        "1000",
    )
    assert said == "1777:0:0\nx"
    assert sorted(os.listdir(f"{rootfs}/home")) == before


def test_a_tmpfs_has_the_size_asked_for(cli, rootfs):
    done = cli(
        "run",
        "--tmpfs",
        "/mnt:size=1m",
        rootfs,
        "/bin/dd",
        "if=/dev/zero",
        "of=/mnt/x",
        "bs=1M",
        "count=2",
    )
    assert (done.returncode, b"No space left" in done.stderr) == (1, True)


@pytest.mark.parametrize("mode", ["700", "0755", "1777", "0"])
def test_a_tmpfs_has_the_mode_asked_for(inside, mode):
    assert inside("stat -c %a /mnt", "--tmpfs", f"/mnt:mode={mode}") == f"{int(mode, 8):o}"


def test_a_read_only_tmpfs_cannot_be_written(cli, rootfs):
    assert cli("run", "--tmpfs", "/mnt:ro", rootfs, "/bin/touch", "/mnt/x").returncode == 1


@pytest.mark.parametrize(
    "text",
    ["mnt", "", "/", "/proc", "/proc/sys", "/mnt:size=0", "/mnt:size=1q", "/mnt:size=-1", "/mnt:size=٣", "/mnt:mode=888",
     "/mnt:mode=17777", "/mnt:mode=", "/mnt:uid=0", "/mnt:nonsense", "/mnt:size"],
)  # fmt: skip
def test_a_bad_tmpfs_is_refused_with_one_message(refused, rootfs, text):
    assert "--tmpfs" in refused("--tmpfs", text, rootfs, "/bin/true") or "/proc" in text


def test_a_tmpfs_on_a_link_stays_inside(tree, inside):
    (tree / "link").symlink_to("../../../tmp")
    host = sorted(os.listdir("/tmp"))
    assert inside("touch /link/x; ls /tmp", "--tmpfs", "/link", root=tree) == "x"
    assert sorted(os.listdir("/tmp")) == host


def test_many_volumes_work(source, inside):
    words = [word for i in range(100) for word in ("-v", f"{source}:/mnt/{i:02}")]
    assert inside("cat /mnt/*/greeting | wc -l", "--tmpfs", "/mnt", *words) == "100"
