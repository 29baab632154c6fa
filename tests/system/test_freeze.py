# SPDX-License-Identifier: Apache-2.0
"""What a container is, is settled when it is created: paths, variables, and words of any bytes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("minibox")
BYTES = bytes(range(1, 256))


def shell(script, *words):
    return ("/bin/sh", "-c", script, "sh", *words)


@pytest.fixture
def said(box, tmp_path):
    """`said()`: start the container, and what it has put into /srv/said."""
    place = tmp_path / "out"
    place.mkdir()

    def start(name="c"):
        box.do("start", name)
        assert box.do("wait", name) == "0"
        return (place / "said").read_bytes()

    start.options = ("-v", f"{place}:/srv")
    return start


# Paths count from where it was created.


def test_relative_paths(box, said, tmp_path, rootfs):
    (tmp_path / "here" / "data").mkdir(parents=True)
    (tmp_path / "here" / "data" / "file").write_text("text")
    os.symlink(rootfs, tmp_path / "here" / "root")
    for volume in ("data:/mnt", "./data:/mnt:ro", "../here/data:/mnt"):
        words = ("-v", volume, *said.options, "root", *shell("cat /mnt/file > /srv/said"))
        box.do("create", "--name", "c", *words, cwd=tmp_path / "here")
        assert said() == b"text"
        box.do("rm", "c")
    box.do("create", "--name", "c", *said.options, ".", "sh", "-c", "pwd > /srv/said", cwd=rootfs)
    assert said() == b"/\n"


def test_a_relative_path_against_a_directory_that_is_gone(box, tmp_path):
    (tmp_path / "gone").mkdir()
    command = f'cd {tmp_path}/gone && rmdir ../gone && exec "$@"'
    words = ("sh", "-c", command, "sh", COMMAND, "--root", box.root, "create", "rootfs", "true")
    done = subprocess.run(words, capture_output=True)
    assert done.returncode == 125
    assert done.stderr == (
        b"minibox: rootfs: the working directory, against which it counts, is gone\n"
    )


def test_a_relative_place_to_join(box, said, helper, tmp_path):
    peer = helper("--net")
    options = ("--join=net=ns/net", *said.options)
    script = "readlink /proc/self/ns/net > /srv/said"
    words = ("--name", "c", *options, box.rootfs, *shell(script))
    box.do("create", *words, cwd=f"/proc/{peer.pid}")
    assert said().decode().strip() == os.readlink(f"/proc/{peer.pid}/ns/net")


@pytest.mark.parametrize("path", ["tmp", "./tmp"])
def test_the_working_directory_is_one_inside(box, rootfs, path):
    assert "must be absolute" in box.refused("create", "--workdir", path, rootfs, "true")


@pytest.mark.parametrize(
    "option",
    ["workdir", "user", "hostname", "domainname", "net", "userns", "shm-size", "monotonic"],
)
def test_a_word_that_is_empty_is_no_default(box, rootfs, refused, option):
    """--user "$NAME" must not mean root where NAME is not set; run says so, too."""
    message = refused(f"--{option}=", rootfs, "true")
    assert box.refused("create", f"--{option}=", rootfs, "true") == message


def test_a_root_that_is_gone(box, tree):
    box.create(root=tree, command=("true",))
    shutil.move(tree, tree.parent / "elsewhere")
    assert str(tree) in box.refused("start", "c")
    assert box.status() == "created"
    shutil.move(tree.parent / "elsewhere", tree)
    box.do("start", "c")
    assert box.do("wait", "c") == "0"


# Variables have the values of then.


def test_variables_by_name(box, said):
    env = {**os.environ, "GIVEN": "then", "EMPTY": ""}
    env.pop("UNKNOWN", None)
    options = ("-e", "GIVEN", "-e", "UNKNOWN", "-e", "EMPTY", "-e", "SET=value", *said.options)
    script = 'echo "$GIVEN ${UNKNOWN-unset} ${EMPTY-unset} $SET" > /srv/said'
    box.do("create", "--name", "c", *options, box.rootfs, *shell(script), env=env)
    for value in ("now", "later"):
        os.environ["GIVEN"] = os.environ["UNKNOWN"] = value
        try:
            assert said() == b"then unset  value\n"
        finally:
            del os.environ["GIVEN"], os.environ["UNKNOWN"]


def test_variables_from_a_file(box, said, tmp_path):
    (tmp_path / "env").write_text("A=1\n# B=2\n\nC\nD=x=y\n")
    options = ("--env-file", tmp_path / "env", "-e", "D=z", *said.options)
    script = 'echo "$A ${B-unset} $C $D" > /srv/said'
    words = (*options, box.rootfs, *shell(script))
    box.do("create", "--name", "c", *words, env={**os.environ, "C": "then"})
    (tmp_path / "env").unlink()
    assert said() == b"1 unset then z\n"
    assert "env_file" not in box.inspect()["Options"]


def test_nothing_of_the_callers_environment_comes_by_itself(box, said):
    env = {**os.environ, "SECRET": "secret", "HOME": "/no/such", "TERM": "vt52"}
    words = (*said.options, box.rootfs, *shell("env > /srv/said"))
    box.do("create", "--name", "c", *words, env=env)
    os.environ["SECRET"] = "secret"
    try:
        found = dict(line.split(b"=", 1) for line in said().splitlines())
    finally:
        del os.environ["SECRET"]
    assert b"SECRET" not in found
    assert b"TERM" not in found
    assert found[b"HOME"] == b"/root"
    assert found[b"HOSTNAME"] == box.inspect()["Id"][:12].encode()


def test_the_host_name_is_the_id_unless_one_is_given(box, said):
    box.create(*said.options, command=shell("hostname > /srv/said"))
    assert said().decode().strip() == box.inspect()["Id"][:12]
    box.create("-h", "given", *said.options, name="d", command=shell("hostname > /srv/said"))
    assert said("d") == b"given\n"


# Words are bytes.


def test_arguments_of_any_bytes(box, said):
    words = [BYTES, b"", b"-n", b" two words ", b"\n", "日本".encode(), b"\xed\xa0\x80", b'"\\']
    box.create(*said.options, command=shell('printf "%s\\n" "$@" > /srv/said', *words))
    assert said() == b"".join(word + b"\n" for word in words)


def test_variables_of_any_bytes(box, said):
    variables = [b"A=" + BYTES, b"B\xff=\xfe", b"C=\n"]
    options = [word for item in variables for word in (b"-e", item)]
    box.create(*options, *said.options, command=("cp", "/proc/self/environ", "/srv/said"))
    assert set(variables) <= set(said().split(b"\0"))


def test_names_of_volumes_of_any_bytes(box, said, tmp_path):
    name = b"v \xff\n\xfe"
    source = os.fsencode(tmp_path) + b"/" + name
    os.mkdir(source)
    with open(source + b"/file", "wb") as file:
        file.write(b"text")
    options = (b"-v", source + b":/mnt/" + name, *said.options, "--overlay")
    box.create(*options, command=shell('cat "/mnt/$1/file" > /srv/said', name))
    assert said() == b"text"
    shown = json.loads(box.do("inspect", "c"))[0]
    assert os.fsencode(shown["HostConfig"]["Binds"][0]) == source + b":/mnt/" + name


def test_a_root_of_any_bytes(box, said, tmp_path, rootfs):
    root = os.fsencode(tmp_path) + b"/\xffroot\n"
    os.symlink(rootfs, root)
    box.create(*said.options, root=root, command=shell("pwd > /srv/said"))
    assert said() == b"/\n"
    assert os.fsencode(box.inspect()["Rootfs"]) == root


@pytest.mark.parametrize("name", [b"\xff\xfe", b"two words", b"'quoted\"", b"a\nb", b"x" * 200])
def test_a_state_directory_of_any_name(box, tmp_path, rootfs, name, until):
    """Its path goes through the monitor to the command that cleans up, and to a socket's address."""
    box.root = tmp_path / os.fsdecode(name)
    os.mkdir(box.root)
    done = box("run", "--name", "c", "--rm", rootfs, *shell("cat; exit 3"), input=b"typed")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"typed", b"")
    until(lambda: box.names() == set())
    box.run("--rm", name="d", command=shell("exit 3"))
    until(lambda: box.names() == set())


def test_labels_of_any_bytes(box):
    box.create("--label", b"a\xff=\xfe\n")
    assert box.inspect()["Config"]["Labels"] == {"a\udcff": "\udcfe\n"}
    assert box.do("ps", "-aq", "--filter", b"label=a\xff=\xfe\n") != ""
    box.do("start", "c")
    box.do("stop", "c")


def test_a_long_command_line(box, said):
    words = ["x" * 100_000] * 8
    box.create(*said.options, command=shell("echo $# ${#8} > /srv/said", *words))
    assert said() == b"8 100000\n"


def test_what_is_kept_is_json_for_everybody(box):
    box.create("-e", b"A=\xff", command=shell(b"\xff"))
    text = (box.files() / "config.json").read_bytes()
    assert text.isascii()
    assert json.loads(text)["args"][2] == "\udcff"


# Who changes the request afterwards, changes nothing.


def test_each_start_is_the_same(box, said, tmp_path):
    options = ("--init", "-w", "/tmp", "-u", "1000:33", "-h", "host", "--tmpfs", "/mnt:size=4k")
    script = "id; pwd; hostname; df -k /mnt | tail -1; cat /proc/self/uid_map; env"
    os.chmod(tmp_path / "out", 0o777)
    box.create(*options, *said.options, command=shell(f"({script}) > /srv/said"))
    first = said()
    assert b"uid=1000" in first
    assert b"/tmp\nhost\n" in first
    assert said() == first
