# SPDX-License-Identifier: Apache-2.0
"""`minibox rootfs build`: the bundled tree, made anywhere."""

import os
import stat

import pytest


def test_a_tree_of_busybox(cli, tmp_path):
    tree = tmp_path / "made/here"
    done = cli("rootfs", "build", tree)
    assert (done.returncode, done.stdout) == (0, b"")
    script = "id -un && ls -d /proc /sys /dev /tmp /run /root /home && grep -c . /etc/services"
    inside = cli("run", tree, "/bin/sh", "-c", script)
    assert (inside.returncode, inside.stderr) == (0, b"")
    assert inside.stdout.split()[0] == b"root"
    for name in ("passwd", "group", "hosts", "profile", "services"):
        assert (tree / "etc" / name).stat().st_size > 0
    assert stat.S_IMODE((tree / "tmp").stat().st_mode) == 0o1777
    assert os.readlink(tree / "bin/sh") == "busybox"


def test_a_tree_of_the_hosts_own_programs(cli, tmp_path):
    tree = tmp_path / "tree"
    assert cli("rootfs", "build", "--from-host", tree).returncode == 0
    inside = cli("run", tree, "sh", "-c", "ls /; echo $((6 * 7)) | cat")
    assert (inside.returncode, inside.stdout.split()[-1]) == (0, b"42")
    assert not (tree / "bin/busybox").exists()


def test_what_is_there_already_stays(cli, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("mine\n")
    for _ in range(2):
        assert cli("rootfs", "build", tmp_path).returncode == 0
    assert (tmp_path / "etc/passwd").read_text() == "mine\n"


def test_a_link_in_the_way_is_not_written_through(cli, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("precious\n")
    (tmp_path / "tree/bin").mkdir(parents=True)
    (tmp_path / "tree/bin/busybox").symlink_to(outside)
    assert cli("rootfs", "build", tmp_path / "tree").returncode == 0
    assert outside.read_text() == "precious\n"


@pytest.mark.parametrize("place", ["a-file", "a-file/below"])
def test_a_file_in_the_way_is_one_message(cli, tmp_path, place):
    (tmp_path / "a-file").touch()
    done = cli("rootfs", "build", tmp_path / place)
    assert done.returncode == 125
    assert done.stderr.startswith(b"minibox: ") and b"irectory" in done.stderr
    assert b"Traceback" not in done.stderr
