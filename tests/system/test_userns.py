# SPDX-License-Identifier: Apache-2.0
"""Which ids of the host a container has: ranges of its own, those of /etc/subuid, the caller's."""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import minibox
from minibox.resources import ranges
from tests.conftest import COMMAND
from tests.ordinary import DROP, USER, uncover

IDS = "cat /proc/self/uid_map /proc/self/gid_map"


def read(text):
    """The lines of uid_map and gid_map as (inside, outside, size)."""
    return [tuple(int(field) for field in line.split()) for line in text.splitlines()]


# Ranges of their own


def test_a_range_of_its_own(inside):
    ((first, outside, size), gids) = read(inside(IDS))
    assert (first, size) == (0, 65536)
    assert gids == (first, outside, size)
    assert ranges.FIRST <= outside < ranges.FIRST + ranges.COUNT // 2 * ranges.SIZE


def test_containers_of_one_program_share_no_ids(rootfs):
    with (
        minibox.Container(["/bin/cat"], rootfs=rootfs, stdin="pipe") as one,
        minibox.Container(["/bin/cat"], rootfs=rootfs, stdin="pipe") as other,
    ):
        found = {(container.spec.uid_mappings, container.pid) for container in (one, other)}
        assert len({mappings for mappings, _ in found}) == 2
        for (mapping,), pid in found:
            uid_map = read(Path(f"/proc/{pid}/uid_map").read_text())
            assert uid_map == [(0, mapping.host_id, mapping.size)]
            assert os.stat(f"/proc/{pid}").st_uid == mapping.host_id


def test_the_range_is_used_again(rootfs):
    def outside():
        result = minibox.run(["/bin/cat", "/proc/self/uid_map"], rootfs=rootfs)
        return read(result.stdout.decode())[0][1]

    assert outside() == outside()


def test_sixteen_at_once_have_sixteen_ranges(rootfs):
    barrier = threading.Barrier(16)

    def work(_):
        with minibox.Container(["/bin/cat"], rootfs=rootfs, stdin="pipe") as container:
            barrier.wait(30)
            return container.spec.uid_mappings

    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(work, range(16)))) == 16


def test_commands_at_once_have_ranges_of_their_own(rootfs):
    words = [COMMAND, "run", rootfs, "/bin/sh", "-c", "cat /proc/self/uid_map; read x"]
    pipe = subprocess.PIPE
    started = [subprocess.Popen(words, stdin=pipe, stdout=pipe) for _ in range(8)]
    lines = {process.stdout.readline() for process in started}
    for process in started:
        process.communicate(b"\n")
    assert len(lines) == 8


def test_a_range_that_is_held_is_not_given(cli, rootfs):
    """The names are held by somebody in the same network namespace: all but one."""
    script = f"""
import os, socket, subprocess, sys
held = []
for number in range({ranges.COUNT // 2}):
    if number != 4321:
        one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        one.bind(b"\\0minibox-ids-%d" % number)
        held.append(one)
    if number == 4321 and "all" in sys.argv:
        one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        one.bind(b"\\0minibox-ids-%d" % number)
        held.append(one)
done = subprocess.run({[str(COMMAND), "run", rootfs, "/bin/cat", "/proc/self/uid_map"]!r})
sys.exit(done.returncode)
"""
    words = ["unshare", "-n", "prlimit", "--nofile=20000:20000", "python3", "-c", script]
    one = subprocess.run(words, capture_output=True, text=True)
    assert read(one.stdout)[0][1] == ranges.FIRST + 4321 * ranges.SIZE, one
    none = subprocess.run([*words, "all"], capture_output=True, text=True)
    assert none.returncode == 125
    assert none.stderr.startswith("minibox: all 8192 ranges of ids are in use\n")


# /etc/subuid


@pytest.fixture
def handed_out(tmp_path):
    """`handed_out(uids, gids, *words, user=False)`: a command where /etc/subuid and /etc/subgid say
    that; as an ordinary user, who is called tester, if asked for."""

    def run(uids, gids, *words, user=False):
        files = {"subuid": uids, "subgid": gids, "passwd": None}
        files["passwd"] = f"root:x:0:0::/root:/bin/sh\ntester:x:{USER}:{USER}::/:/bin/sh\n"
        commands = ["set -e"]
        for name, text in files.items():
            path = tmp_path / name
            path.write_text(text)
            commands += [f"[ -e /etc/{name} ] || touch /etc/{name}"] if name == "passwd" else []
            commands += [f"mount --bind {shlex.quote(str(path))} /etc/{name}"]
        commands += [uncover()] if user else []
        last = shlex.join([*(DROP if user else []), *map(str, words)])
        commands.append(f"cd /; exec {last}")
        script = "\n".join(commands)
        return subprocess.run(
            ["unshare", "--mount", "--propagation=private", "sh", "-c", script],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30,
        )  # fmt: skip

    return run


def test_root_takes_the_ranges_of_minibox(handed_out, rootfs):
    uids, gids = "other:1:65536\nminibox:200000:131072\n", "minibox:400000:200000\n"
    done = handed_out(uids, gids, COMMAND, "run", rootfs, "/bin/sh", "-c", IDS)
    assert read(done.stdout) == [(0, 200000, 65536), (0, 400000, 65536)], done


def test_kept_containers_take_the_upper_half(handed_out, rootfs, tmp_path):
    root = ["--root", tmp_path / "state"]
    script = f"""set -e
{COMMAND} --root {tmp_path}/state run -d --name a {rootfs} /bin/sh -c '{IDS}' >/dev/null
{COMMAND} --root {tmp_path}/state wait a >/dev/null
{COMMAND} --root {tmp_path}/state logs a
{COMMAND} --root {tmp_path}/state rm a >/dev/null"""
    rows = "minibox:200000:131072\n"
    done = handed_out(rows, rows, "sh", "-c", script)
    assert read(done.stdout) == [(0, 265536, 65536)] * 2, (done, root)


@pytest.mark.parametrize("rows", ["minibox:200000:65536\n", "minibox:200000:5\n"])
def test_rows_that_give_too_few(handed_out, rootfs, rows):
    done = handed_out(rows, rows, COMMAND, "run", rootfs, "/bin/true")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("minibox: /etc/subuid, /etc/subgid: minibox needs rows of 131072")


@pytest.mark.parametrize(
    "rows", ["", "minibox\n:::\nminibox:x:y\nminibox:-1:5\nminibox:1:99999999999\n"]
)
def test_rows_that_say_nothing(handed_out, rootfs, rows):
    done = handed_out(rows, rows, COMMAND, "run", rootfs, "/bin/sh", "-c", IDS)
    assert read(done.stdout)[0][1] >= ranges.FIRST, done


# Without root

ROWS = "tester:100000:65536\n"


def make_for_user(directory):
    """A directory of the user's, which he can reach."""
    directory.mkdir()
    os.chown(directory, USER, USER)
    for above in directory.parents:
        if not above.stat().st_mode & 1:
            above.chmod(above.stat().st_mode | 1)


def test_an_ordinary_user_has_his_id_and_those_handed_out(handed_out, rootfs):
    script = f"{IDS}; id -u"
    done = handed_out(ROWS, ROWS, COMMAND, "run", rootfs, "/bin/sh", "-c", script, user=True)
    assert (done.returncode, done.stderr) == (0, ""), done
    *maps, uid = done.stdout.splitlines()
    expected = [(0, USER, 1), (1, 100000, 65536)]
    assert read("\n".join(maps)) == expected * 2
    assert uid == "0"


def test_rows_by_number(handed_out, rootfs):
    rows = f"{USER}:100000:65536\n"
    done = handed_out(rows, rows, COMMAND, "run", rootfs, "/bin/sh", "-c", IDS, user=True)
    assert read(done.stdout) == [(0, USER, 1), (1, 100000, 65536)] * 2


def test_other_users_and_groups_are_there(handed_out, rootfs):
    script = "id -u; id -G; touch /tmp/x; stat -c %u /tmp/x"
    words = [
        "run",
        "--overlay",
        "--tmpfs",
        "/tmp",
        "--user",
        "user",
        rootfs,
        "/bin/sh",
        "-c",
        script,
    ]
    done = handed_out(ROWS, ROWS, COMMAND, *words, user=True)
    assert done.stdout.split("\n")[0] == "1000", done
    assert done.stdout.split("\n")[2] == "1000"


def test_without_rows_there_is_one_id(handed_out, rootfs):
    done = handed_out("", "", COMMAND, "run", rootfs, "/bin/sh", "-c", IDS, user=True)
    assert read(done.stdout) == [(0, USER, 1)] * 2


def test_without_newuidmap_there_is_one_id(handed_out, rootfs):
    script = f"""for f in newuidmap newgidmap; do mount --bind /dev/null /usr/bin/$f; done
{uncover()}
exec {shlex.join(DROP)} {COMMAND} run {rootfs} /bin/sh -c '{IDS}'"""
    done = handed_out(ROWS, ROWS, "sh", "-ec", script)
    assert read(done.stdout) == [(0, USER, 1)] * 2, done


def test_a_kept_container_of_an_ordinary_user(handed_out, rootfs, tmp_path):
    state = tmp_path / "of-user"
    make_for_user(state)
    script = f"""set -e; c="{COMMAND} --root {state}"
$c run -d --name a {rootfs} /bin/sh -c 'cat /proc/self/uid_map; exec sleep 1000' >/dev/null
$c exec a cat /proc/self/gid_map
$c rm -f a >/dev/null"""
    done = handed_out(ROWS, ROWS, "sh", "-c", script, user=True)
    assert read(done.stdout) == [(0, USER, 1), (1, 100000, 65536)], done


def test_keep_id(handed_out, rootfs):
    script = f"{IDS}; id -u; id -g"
    words = ["run", "--userns", "keep-id", rootfs, "/bin/sh", "-c", script]
    done = handed_out(ROWS, ROWS, COMMAND, *words, user=True)
    *maps, uid, gid = done.stdout.splitlines()
    one = [(0, 100000, USER), (USER, USER, 1), (USER + 1, 100000 + USER, 65536 - USER)]
    assert read("\n".join(maps)) == one * 2, done
    assert (uid, gid) == (str(USER), str(USER))


def test_keep_id_writes_as_the_caller(handed_out, rootfs, tmp_path):
    share = tmp_path / "share"
    make_for_user(share)
    words = ["run", "--userns", "keep-id", "-v", f"{share}:/mnt", rootfs, "/bin/touch", "/mnt/x"]
    done = handed_out(ROWS, ROWS, COMMAND, *words, user=True)
    assert done.returncode == 0, done
    assert (share / "x").stat().st_uid == USER


def test_keep_id_without_ids_for_the_rest(handed_out, rootfs):
    done = handed_out("", "", COMMAND, "run", "--userns", "keep-id", rootfs, "/bin/true", user=True)
    assert done.returncode == 125
    assert done.stderr.startswith("minibox: --userns keep-id: ")


def test_keep_id_of_root(refused, rootfs):
    assert "that is host" in refused("--userns", "keep-id", rootfs, "/bin/true")


# UID:GID:SIZE


def test_ids_by_number(inside, tree):
    assert read(inside(IDS, "--userns", "5000:6000:100", root=tree)) == [
        (0, 5000, 100),
        (0, 6000, 100),
    ]


def test_ids_by_number_are_taken_as_they_are(inside):
    """Also where they lie among those that minibox hands out itself."""
    text = f"{ranges.FIRST + 7}:{ranges.FIRST + 9}:3"
    assert read(inside(IDS, "--userns", text)) == [
        (0, ranges.FIRST + 7, 3),
        (0, ranges.FIRST + 9, 3),
    ]


def test_ids_that_are_not_the_callers(handed_out, rootfs):
    words = ["run", "--userns", "5000:5000:100", rootfs, "/bin/true"]
    done = handed_out(ROWS, ROWS, COMMAND, *words, user=True)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("minibox: map the ids 0 5000 100: "), done
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "text", ["", "x", "1:2", "1:2:0", "1:2:3:4", "-1:0:5", "0:0:4294967296", "4294967290:0:10"]
)
def test_no_userns(refused, rootfs, text):
    assert "--userns" in refused("--userns", text, rootfs, "/bin/true")
