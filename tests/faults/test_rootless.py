# SPDX-License-Identifier: Apache-2.0
"""Without root: the caller's own id is the container's root, and nothing needs a privilege."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.ordinary import DROP, USER, uncover

COMMAND = str(Path(sys.executable).with_name("minibox"))


@pytest.fixture
def as_user():
    """`as_user(words…)`: a command without any privilege."""
    script = f'{uncover()}\nexec {shlex.join(DROP)} -- "$@"'
    argv = ["unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh"]

    def run(*words, **options):
        options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(
            [*argv, *map(str, words)], capture_output=True, timeout=20, cwd="/", **options
        )

    return run


@pytest.fixture
def rootless(as_user, rootfs):
    """`rootless(options…, command…)` in the bundled root file system, which root owns."""
    return lambda *words, **options: as_user(COMMAND, "run", *_split(words, rootfs), **options)


def _split(words, rootfs):
    """The root file system goes before the first word with a leading slash."""
    at = next(k for k, word in enumerate(words) if word.startswith("/"))
    return [*words[:at], rootfs, *words[at:]]


@pytest.fixture
def own_tree(rootfs):
    """A root file system that belongs to the user."""
    directory = tempfile.mkdtemp(prefix="rootless-")
    os.chmod(directory, 0o755)
    tree = Path(directory) / "tree"
    shutil.copytree(rootfs, tree, symlinks=True)
    for top, names, files in os.walk(tree):
        for name in [".", *names, *files]:
            os.lchown(os.path.join(top, name), USER, USER)
    yield tree
    shutil.rmtree(directory)


def test_a_command_runs(rootless, unchanged):
    done = rootless("/bin/sh", "-c", "echo hello; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"hello\n", b"")


def test_its_root_is_the_caller(rootless):
    done = rootless("/bin/cat", "/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/setgroups")
    assert done.stdout.split() == [b"0", b"1234", b"1", b"0", b"1234", b"1", b"deny"]


def test_all_namespaces_are_its_own(rootless):
    kinds = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]
    done = rootless(
        "/bin/sh", "-c", f"for k in {' '.join(kinds)}; do readlink /proc/self/ns/$k; done"
    )
    inside = done.stdout.decode().split()
    assert len(inside) == len(kinds)
    assert not set(inside) & {os.readlink(f"/proc/self/ns/{kind}") for kind in kinds}


def test_it_is_the_first_process_and_sees_no_other(rootless):
    done = rootless("/bin/sh", "-c", "echo $$ /proc/[0-9]*")
    assert done.stdout == b"1 /proc/1\n"


def test_no_new_privileges_and_no_descriptors_of_minibox(rootless):
    done = rootless("/bin/sh", "-c", "grep NoNewPrivs /proc/self/status; ls /proc/1/fd; true")
    assert done.stdout == b"NoNewPrivs:\t1\n0\n1\n2\n"


@pytest.mark.parametrize("code", [0, 1, 42, 125, 126, 127, 255])
def test_the_exit_code_is_the_commands(rootless, code):
    assert rootless("/bin/sh", "-c", f"exit {code}").returncode == code


def test_a_signal_is_128_and_its_number(rootless):
    assert rootless("--init", "/bin/sh", "-c", "kill -9 $$").returncode == 137


@pytest.mark.parametrize(("command", "code"), [("/bin/nope", 127), ("/etc/passwd", 126)])
def test_a_command_that_cannot_run(rootless, message, command, code):
    done = rootless(command)
    assert done.returncode == code
    assert message(done.stderr) is None


def test_an_overlay_takes_what_root_may_write(rootless, own_tree, as_user):
    script = "echo new >/etc/new && rm /etc/passwd && cat /etc/new; ls /etc/passwd"
    done = as_user(COMMAND, "run", "--overlay", own_tree, "/bin/sh", "-c", script)
    assert (done.returncode, done.stdout) == (1, b"new\n")
    assert (own_tree / "etc/passwd").exists() and not (own_tree / "etc/new").exists()


def test_a_tree_of_its_own_is_written_as_the_caller(own_tree, as_user):
    done = as_user(COMMAND, "run", own_tree, "/bin/sh", "-c", "id -u; echo x >/etc/new")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"0\n", b"")
    assert (own_tree / "etc/new").stat().st_uid == USER


def test_a_tree_of_roots_cannot_be_written(rootless, unchanged):
    done = rootless("/bin/sh", "-c", "echo x >/etc/new")
    assert done.returncode == 1
    assert b"Permission denied" in done.stderr


def test_read_only_is_read_only(own_tree, as_user):
    done = as_user(COMMAND, "run", "--read-only", own_tree, "/bin/sh", "-c", "echo x >/etc/new")
    assert done.returncode == 1
    assert b"Read-only file system" in done.stderr


def test_volumes_and_tmpfs(own_tree, as_user, tmp_path_factory):
    words = ["--volume", f"{own_tree}/etc:/mnt:ro", "--tmpfs", "/tmp:size=1m", "--volume",
             f"{own_tree}/etc/group:/made/file"]  # fmt: skip
    script = "ls /mnt/passwd /made/file; echo x >/tmp/x && cat /tmp/x; echo x >/mnt/passwd"
    done = as_user(COMMAND, "run", "--overlay", *words, own_tree, "/bin/sh", "-c", script)
    assert done.stdout == b"/made/file\n/mnt/passwd\nx\n"
    assert (done.returncode, b"Read-only" in done.stderr) == (1, True)
    assert not (own_tree / "made").exists()


def test_a_volume_of_all_there_is(own_tree, as_user):
    """The host's root, not the container's, which lies on it when the volume is attached."""
    words = ["--volume", "/:/mnt:ro", own_tree, "/bin/ls", f"/mnt{own_tree}"]
    done = as_user(COMMAND, "run", *words)
    assert (done.returncode, b"etc\n" in done.stdout) == (0, True), done


def test_an_init_reaps_and_passes_the_status_on(rootless):
    done = rootless("--init", "/bin/sh", "-c", "echo $$; (sleep 0.01 &); exit 7")
    assert (done.returncode, done.stdout) == (7, b"2\n")


def test_a_terminal_of_its_own(as_user, rootfs):
    inner = shlex.join([COMMAND, "run", rootfs, "/bin/sh", "-c", "tty; exit 5"])
    done = as_user("script", "-qec", inner, "/dev/null")
    assert (done.returncode, b"/dev/pts/0\r\n" in done.stdout) == (5, True)


def test_a_host_name_of_its_own(rootless):
    done = rootless("--hostname", "alone", "/bin/hostname")
    assert (done.stdout, os.uname().nodename != "alone") == (b"alone\n", True)


def test_clocks_of_its_own(rootless):
    done = rootless("--boottime", "1000000", "/bin/cat", "/proc/uptime")
    assert (done.returncode, float(done.stdout.split()[0]) > 1000000) == (0, True)


@pytest.mark.parametrize("share", ["net", "pid", "ipc", "uts", "cgroup", "pid,net,ipc,uts,cgroup"])
def test_namespaces_can_be_shared(rootless, share):
    done = rootless("--share", share, "/bin/echo", "shared")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"shared\n", b"")


def test_a_plan_needs_no_root(as_user, rootfs):
    done = as_user(COMMAND, "plan", "--json", rootfs, "/bin/true")
    assert json.loads(done.stdout)["uid_map"] == "0 1234 1\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--userns", "host"), b"--userns host"),
        (("--user", "bob"), b"bob"),
        (("--user", "nobody"), b"mapped"),
        (("--user", "1:1"), b"mapped"),
        (("--user", "0:7"), b"mapped"),
        (("--join", "net=1"), b"/proc/1/ns/net"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_needs_root_says_so(rootless, message, words, hint):
    done = rootless(*words, "/bin/echo", "started")
    assert (done.returncode, done.stdout) == (125, b"")
    assert message(done.stderr) is None
    assert hint in done.stderr


def test_a_tree_that_the_caller_may_not_enter(as_user, own_tree, message):
    own_tree.parent.chmod(0o700)
    done = as_user(COMMAND, "run", own_tree, "/bin/true")
    assert (done.returncode, message(done.stderr)) == (125, None)
    assert b"Permission denied" in done.stderr


def test_a_killed_supervisor_leaves_nothing(as_user, rootfs, no_process_left):
    script = f'{uncover()}\nexec {shlex.join(DROP)} -- "$@"'
    argv = ["unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh"]
    inner = "echo up; sleep 1000"
    with subprocess.Popen(
        [*argv, COMMAND, "run", rootfs, "/bin/sh", "-c", inner], stdout=subprocess.PIPE
    ) as supervisor:
        assert supervisor.stdout.readline() == b"up\n"
        supervisor.kill()
        assert supervisor.stdout.read() == b""
    assert no_process_left()


def test_a_bridge_is_refused_with_a_way_out(rootless):
    done = rootless("--net", "bridge", "/bin/true")
    assert done.returncode == 125
    said, hint, doctor = done.stderr.decode().splitlines()
    assert said == "minibox: only root can make a bridge"
    assert hint == "  hint: --net none or --net host"
    assert doctor.startswith(f"  doctor: rights: partly: user {USER}; ")
