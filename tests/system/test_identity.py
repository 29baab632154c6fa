# SPDX-License-Identifier: Apache-2.0
"""Who the command is and what it inherits: ids, groups, capabilities, fds, environment, signals."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest

import minibox
from minibox import core
from minibox.numbers import NUMBERS

KEYCTL_JOIN_SESSION_KEYRING, KEY_SPEC_SESSION_KEYRING = 1, -3
IDS = "id -u; id -g; id -G; echo $HOME"
USERNS = ["auto", "host"]


def fields(text):
    """/proc/PID/status as a mapping."""
    return {
        key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())
    }


@pytest.fixture
def status(inside):
    """/proc/PID/status of the command, as it sees itself."""

    def read(*options, **how):
        return fields(inside("exec cat /proc/self/status", *options, **how))

    return read


# --user


@pytest.mark.parametrize(
    ("user", "said"),
    [
        (None, "0 0 0 /root"),
        ("root", "0 0 0 /root"),
        ("0", "0 0 0 /root"),
        ("user", "1000 1000 100,1000 /home/user"),
        ("1000", "1000 1000 100,1000 /home/user"),
        ("user:", None),
        ("user:www-data", "1000 33 33 /home/user"),
        ("user:33", "1000 33 33 /home/user"),
        ("1000:0", "1000 0 0 /home/user"),
        ("nobody", "65534 65534 65534 /"),
        ("12345", "12345 0 0 /"),
        ("12345:54321", "12345 54321 54321 /"),
        ("65535:65535", "65535 65535 65535 /"),
        ("0000", "0 0 0 /root"),
    ],
)
@pytest.mark.parametrize("userns", USERNS)
def test_a_user_has_the_ids_groups_and_home_of_the_tree(cli, rootfs, user, said, userns):
    words = [] if user is None else ["--user", user]
    done = cli("run", "--userns", userns, *words, rootfs, "/bin/sh", "-c", IDS)
    if said is None:
        assert done.returncode == 125
        return
    uid, gid, groups, home = said.split()
    found_uid, found_gid, found_groups, found_home = done.stdout.decode().splitlines()
    assert (found_uid, found_gid, found_home) == (uid, gid, home)
    assert sorted(map(int, found_groups.split())) == sorted(map(int, groups.split(",")))


def test_all_four_ids_are_changed_and_none_can_be_taken_back(status):
    found = status("--user", "1000:100")
    assert found["Uid"].split() == ["1000"] * 4
    assert found["Gid"].split() == ["100"] * 4


@pytest.mark.parametrize("userns", USERNS)
def test_a_user_has_no_capability(status, userns):
    found = status("--user", "1000", "--userns", userns)
    assert {found[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Amb")} == {"0" * 16}


@pytest.mark.parametrize("userns", USERNS)
def test_nothing_is_inheritable_or_ambient(status, userns):
    """CVE-2022-24769, CVE-2022-27650."""
    found = status("--userns", userns)
    assert (found["CapInh"], found["CapAmb"]) == ("0" * 16, "0" * 16)


def _raise_inheritable():
    """capset: inheritable = permitted; then one ambient capability."""
    header = (0x20080522).to_bytes(4, "little") + bytes(4)
    data = bytearray(24)
    core.syscall(NUMBERS.get("capget", 125), header, data)
    data[8:12], data[20:24] = data[4:8], data[16:20]
    core.syscall(NUMBERS.get("capset", 126), header, bytes(data))
    core.syscall(NUMBERS["prctl"], 47, 2, 1, 0, 0)  # PR_CAP_AMBIENT_RAISE CAP_DAC_OVERRIDE


@pytest.mark.parametrize("userns", USERNS)
@pytest.mark.parametrize("user", ["0", "1000"])
def test_the_callers_inheritable_and_ambient_capabilities_are_gone(status, userns, user):
    caller = subprocess.run(
        ["cat", "/proc/self/status"],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=_raise_inheritable,
    )
    assert int(fields(caller.stdout)["CapAmb"], 16) == 2
    found = status("--userns", userns, "--user", user, preexec_fn=_raise_inheritable)
    assert (found["CapInh"], found["CapAmb"]) == ("0" * 16, "0" * 16)
    if user == "1000":
        assert found["CapEff"] == found["CapPrm"] == "0" * 16


@pytest.mark.parametrize(
    "options", [(), ("--userns", "host"), ("--user", "1000"), ("--init",)], ids=" ".join
)
def test_no_new_privileges_can_be_gained(status, options):
    assert status(*options)["NoNewPrivs"] == "1"


@pytest.mark.parametrize("userns", USERNS)
def test_a_set_uid_program_gives_nothing(tree, inside, userns):
    os.chmod(tree / "bin/busybox", 0o6755)
    assert inside("id -u; id -g", "--user", "1000", "--userns", userns, root=tree).split() == [
        "1000",
        "1000",
    ]


@pytest.mark.parametrize("userns", USERNS)
@pytest.mark.parametrize("user", [None, "1000", "12345", "user:www-data"])
def test_no_group_of_the_caller_stays(status, userns, user):
    words = ("--user", user) if user else ()
    found = status("--userns", userns, *words, extra_groups=[4321, 1234])
    assert not {"4321", "1234"} & set(found["Groups"].split())
    assert set(found["Groups"].split()) <= {"100", "1000"}


def test_the_callers_primary_group_does_not_stay(status):
    for userns in USERNS:
        assert status("--userns", userns, group=4321)["Gid"].split() == ["0"] * 4


@pytest.mark.parametrize(
    "user",
    ["nosuchuser", "+5", "-1", "-0", " 5", "5 ", "0x5", "1e3", "1_0", "٣", "4294967295", "4294967296", "18446744073709551616",
     "9" * 40, "user:nosuchgroup", "user:+5", "user:-1", "user:4294967295", "user:0:0", ":", ":0", "user:", "root\nx",
     "root:x:0", "../root", "USER", "user\0x".replace("\0", "%00")],
)  # fmt: skip
def test_what_is_no_user_is_refused(refused, rootfs, user):
    assert "user" in refused(f"--user={user}", rootfs, "/bin/true")


@pytest.mark.parametrize("user", ["65536", "70000", "4294967294", "0:65536"])
def test_an_id_that_is_not_mapped_is_refused(refused, rootfs, user):
    assert "not mapped" in refused("--user", user, rootfs, "/bin/true")


def test_the_hosts_ids_are_all_mapped(inside):
    assert inside("id -u; id -g", "--userns", "host", "--user", "70000:80000").split() == [
        "70000",
        "80000",
    ]


# Hostile files of users

PASSWD = """\
root:x:0:0::/root:/bin/sh
1000:x:0:0:digits as a name:/evil:/bin/sh
good:x:1000:1000::/home/good:/bin/sh
plus:x:+5:0::/:/bin/sh
minus:x:-1:0::/:/bin/sh
wrapped:x:4294967296:0::/:/bin/sh
nobodys:x:4294967295:0::/:/bin/sh
space:x: 0:0::/:/bin/sh
empty:x:::::/bin/sh
hex:x:0x0:0::/:/bin/sh
nogroup:x:7::x:/:/bin/sh
badgroup:x:7:+0::/:/bin/sh
short:x:0:0
relative:x:8:8::home:/bin/sh
twice:x:9:9::/first:/bin/sh
twice:x:0:0::/second:/bin/sh
:x:0:0::/:/bin/sh
member:x:11:11::/:/bin/sh
"""
GROUP = """\
root:x:0:
1000:x:0:member
staff:x:50:other,member
evil:x:+0:member
wrapped:x:4294967296:member
prefix:x:60:members,xmember
twice:x:70:member,member
short:x
"""


@pytest.fixture
def hostile(tree):
    (tree / "etc/passwd").write_text(PASSWD)
    (tree / "etc/group").write_text(GROUP)
    return tree


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("good", "1000 1000 1000 /home/good"),
        ("1000", "1000 1000 1000 /home/good"),
        ("0", "0 0 0 /root"),
        ("relative", "8 8 8 /"),
        ("twice", "9 9 9 /first"),
        ("member", "11 11 0,11,50,70 /"),
        ("good:staff", "1000 50 50 /home/good"),
    ],
)
def test_the_right_line_is_found_in_a_hostile_file(hostile, inside, user, said):
    """CVE-2016-3697: a user named 1000 does not become root's."""
    status, home = inside("cat /proc/$$/status; echo $HOME", "--user", user, root=hostile).rsplit(
        "\n", 1
    )
    found = fields(status)
    uid, gid = found["Uid"].split()[0], found["Gid"].split()[0]
    groups = {int(gid), *map(int, found["Groups"].split())}
    assert f"{uid} {gid} {','.join(map(str, sorted(groups)))} {home}" == said


@pytest.mark.parametrize(
    "user",
    [
        "plus",
        "minus",
        "wrapped",
        "nobodys",
        "space",
        "empty",
        "hex",
        "nogroup",
        "badgroup",
        "short",
        ":",
        "good:evil",
        "good:wrapped",
        "good:short",
    ],
)
def test_a_bad_line_is_refused(hostile, refused, user):
    """CVE-2026-30892."""
    assert "user" in refused("--user", user, hostile, "/bin/true")


def _big(path):
    path.write_text("filler:x:5:5::/:/bin/sh\n" * 100_000 + "late:x:0:0::/root:/bin/sh\n")


def _sparse(path):
    path.touch()
    os.truncate(path, 1 << 40)


HOSTILE = (
    "a fifo",
    "a directory",
    "a link to the host",
    "a link up to the host",
    "a link to itself",
    "a link to a magic link",
    "missing",
    "no text",
    "one long line",
    "a terabyte",
    "a device",
    "large",
)


def _lay(kind, path, host):
    """Put something at `path`; `host` is a file of the host."""
    makers = {
        "a fifo": lambda: os.mkfifo(path),
        "a directory": lambda: path.mkdir(),
        "a link to the host": lambda: path.symlink_to(host),
        "a link up to the host": lambda: path.symlink_to("../" * 30 + str(host)[1:]),
        "a link to itself": lambda: path.symlink_to("passwd"),
        "a link to a magic link": lambda: path.symlink_to(f"/proc/self/root{host}"),
        "missing": lambda: None,
        "no text": lambda: path.write_bytes(bytes(range(256)) * 100),
        "one long line": lambda: path.write_text("a:" * 400_000),
        "a terabyte": lambda: _sparse(path),
        "a device": lambda: os.mknod(path, 0o020666, os.makedev(1, 5)),
        "large": lambda: _big(path),
    }
    makers[kind]()


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_passwd_gives_no_user_and_does_not_hang(tree, tmp_path, refused, status, kind):
    host = tmp_path / "passwd"
    host.write_text("late:x:0:0::/root:/bin/sh\n")
    (tree / "etc/passwd").unlink()
    _lay(kind, tree / "etc/passwd", host)
    limits = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))}
    assert "'late'" in refused("--user", "late", tree, "/bin/true", timeout=10, **limits)
    found = status("--user", "123", root=tree, timeout=10, **limits)
    assert (found["Uid"].split()[0], found["Gid"].split()[0], found["Groups"]) == ("123", "0", "")


def test_a_link_inside_the_tree_is_followed(tree, inside):
    (tree / "usr/passwd").write_text("linked:x:55:56::/:/bin/sh\n")
    for end in ("../usr/passwd", "/usr/passwd", "../../../usr/passwd"):
        (tree / "etc/passwd").unlink()
        (tree / "etc/passwd").symlink_to(end)
        assert inside("id -u; id -g", "--user", "linked", root=tree).split() == ["55", "56"]


# File descriptors

PIPED = {"stdin": subprocess.PIPE}


@pytest.fixture
def many_fds():
    """Inheritable fds of all kinds, some of them high."""
    made = [os.open(path, os.O_RDONLY) for path in ("/", "/etc/passwd", "/proc/self/ns/mnt")]
    made += [*os.pipe(), os.pidfd_open(os.getpid())]
    high = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1, 60_000)
    made.append(os.dup2(made[0], high))
    for fd in made:
        os.set_inheritable(fd, True)
    yield made
    for fd in made:
        os.close(fd)


@pytest.mark.parametrize(
    "options",
    [(), ("--init",), ("--userns", "host"), ("--overlay",), ("--volume", "/etc:/mnt")],
    ids=" ".join,
)
def test_no_fd_but_three_is_open(many_fds, cli, rootfs, options):
    """CVE-2024-21626, CVE-2016-9962. The list has one more: that of the directory itself."""
    for how in ({"close_fds": False}, {"pass_fds": many_fds}):
        done = cli("run", *options, rootfs, "/bin/ls", "/proc/self/fd", **how)
        assert done.stdout.split() == [b"0", b"1", b"2", b"3"], done


def test_no_fd_of_a_program_that_uses_the_library_is_open(many_fds, rootfs):
    for options in ({}, {"init": True}, {"userns": "host"}):
        assert minibox.run(
            ["/bin/ls", "/proc/self/fd"], rootfs=rootfs, **options
        ).stdout.split() == [b"0", b"1", b"2", b"3"]


def test_the_init_keeps_no_fd_either(many_fds, rootfs):
    """Seen from the host: nobody inside may look."""
    with minibox.Container(["/bin/sleep", "1000"], rootfs=rootfs, init=True) as box:
        assert os.listdir(f"/proc/{box.pid}/fd") == []


def test_the_streams_are_the_callers(cli, rootfs, tmp_path):
    with open(tmp_path / "in", "w+b") as given, open(tmp_path / "out", "w+b") as out:
        given.write(b"some data")
        given.seek(0)
        cli(
            "run",
            rootfs,
            "/bin/sh",
            "-c",
            "cat; echo error >&2",
            stdin=given,
            stdout=out,
            stderr=out,
            capture_output=False,
            check=True,
        )
    assert (tmp_path / "out").read_bytes() == b"some dataerror\n"


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_stream_that_the_caller_has_closed_is_null(cli, rootfs, tmp_path, closed):
    script = "for i in 0 1 2; do readlink /proc/self/fd/$i; done >/mnt/seen; ls /proc/$$/fd >>/mnt/seen; true"
    (tmp_path / "source").mkdir()

    def close():
        for fd in closed:
            os.close(fd)

    done = cli(
        "run", "-v", f"{tmp_path}/source:/mnt", rootfs, "/bin/sh", "-c", script, preexec_fn=close
    )
    assert done.returncode == 0
    lines = (tmp_path / "source/seen").read_text().split()
    for fd in closed:
        if fd != 1:
            assert lines[fd] == "/dev/null"
    assert set(lines[3:]) <= {"0", "1", "2", "10"}


# Environment

DEFAULT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "HOSTNAME": "minibox",
    "container": "minibox",
}


def environment(cli, rootfs, *options, **how):
    """The environment of the command as the kernel got it, last of all PID 1's own copy of it."""
    done = cli("run", *options, rootfs, "/bin/cat", "/proc/self/environ", **how)
    assert (done.returncode, done.stderr) == (0, b""), done
    items = done.stdout.removesuffix(b"\0").split(b"\0")
    assert len({item.partition(b"=")[0] for item in items}) == len(items)
    return {
        os.fsdecode(key): os.fsdecode(value)
        for key, _, value in (item.partition(b"=") for item in items)
    }


CALLER = {
    "SECRET": "s",
    "LD_PRELOAD": "",
    "LD_LIBRARY_PATH": "/x",
    "PYTHONPATH": "/x",
    "HOME": "/h",
    "PATH": os.environ["PATH"],
    "ENV": "/x",
    "MINIBOX_NET": "none",
}
FEW = {name: CALLER[name] for name in ("PATH", "MINIBOX_NET")}


@pytest.mark.parametrize("options", [(), ("--init",), ("--userns", "host")], ids=" ".join)
def test_nothing_of_the_callers_environment_goes_in(cli, rootfs, options):
    assert environment(cli, rootfs, *options, env=CALLER) == DEFAULT


def test_the_init_shows_its_environment_to_nobody(inside):
    script = "cat /proc/1/environ 2>/dev/null || echo denied"
    assert inside(script, "--init", env=CALLER) == "denied"


def test_a_variable_goes_in_when_it_is_named(cli, rootfs):
    found = environment(cli, rootfs, "--env", "SECRET", "-e", "MISSING", "-e", "EMPTY=", env=CALLER)
    assert found == {**DEFAULT, "SECRET": "s", "EMPTY": ""}


def test_the_last_of_a_name_wins_and_defaults_can_be_changed(cli, rootfs):
    words = ("-e", "A=1", "-e", "PATH=/bin", "-e", "A=2=3", "--env=HOME=/", "--hostname", "h")
    assert environment(cli, rootfs, *words) == {
        **DEFAULT,
        "A": "2=3",
        "PATH": "/bin",
        "HOME": "/",
        "HOSTNAME": "h",
    }


def test_values_are_bytes(cli, rootfs):
    value = bytes(range(1, 256))
    words = ("--env", b"BYTES=" + value, "-e", b"N\xff=1", "-e", "CALLERS")
    few = {name.encode(): text.encode() for name, text in FEW.items()}
    found = environment(cli, rootfs, *words, env={**few, b"CALLERS": value})
    assert os.fsencode(found["BYTES"]) == value
    assert os.fsencode(found["CALLERS"]) == value
    assert found[os.fsdecode(b"N\xff")] == "1"


@pytest.mark.parametrize("name", ["with.dot", "with-dash", "1", "größe"])
def test_a_variable_of_the_callers_may_have_any_name(cli, rootfs, name):
    """A shell between drops what it could not name itself."""
    found = environment(cli, rootfs, "--env", name, env={**FEW, name: "value"})
    assert found == {**DEFAULT, name: "value"}


def test_a_file_gives_variables(cli, rootfs, tmp_path):
    file = tmp_path / "variables"
    file.write_bytes(
        b"# comment\n\n  # another\nA=1\nB=with spaces \r\nSECRET\nMISSING\nC=\xff\xfe\nD='q'\nE=#no\n F=6\nlast=line"
    )
    found = environment(cli, rootfs, "--env-file", file, "-e", "A=2", env=CALLER)
    expected = {
        "A": "2",
        "B": "with spaces ",
        "SECRET": "s",
        "C": "\udcff\udcfe",
        "D": "'q'",
        "E": "#no",
        "last": "line",
    }
    assert expected.items() <= found.items()
    assert found.keys() <= {*DEFAULT, *expected, " F", "F"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file"), (b"=x\n", "needs a name"), (b"A=\0\n", "no text"), (b"A=" + b"x" * (1 << 20), "larger"), ("directory", "directory")],
    ids=["missing", "nameless", "NUL", "large", "directory"],
)  # fmt: skip
def test_a_bad_file_of_variables_is_refused(refused, rootfs, tmp_path, content, reason):
    file = tmp_path / "variables"
    if content == "directory":
        file.mkdir()
    elif content is not None:
        file.write_bytes(content)
    assert reason in refused("--env-file", file, rootfs, "/bin/true")


@pytest.mark.parametrize("text", ["=x", "", "="])
def test_a_variable_without_a_name_is_refused(refused, rootfs, text):
    assert "name" in refused("--env", text, rootfs, "/bin/true")


# Working directory


@pytest.mark.parametrize(
    ("where", "real"),
    [
        ("/", "/"),
        ("/etc", "/etc"),
        ("/link", "/usr/bin"),
        ("/up", "/tmp"),
        ("/etc/../tmp/", "/tmp"),
        ("/dev/shm", "/dev/shm"),
        ("/root", "/root"),
    ],
)
@pytest.mark.parametrize("userns", USERNS)
def test_the_working_directory_is_the_one_asked_for(tree, inside, where, real, userns):
    (tree / "link").symlink_to("usr/bin")
    (tree / "up").symlink_to("../../../tmp")
    assert inside(
        "pwd -P; cd ..; pwd -P", "--workdir", where, "--userns", userns, root=tree
    ).split() == [real, os.path.dirname(real)]


def test_the_working_directory_is_the_root_by_default(inside, tmp_path):
    assert inside("pwd -P; readlink /proc/1/cwd", cwd=tmp_path) == "/\n/"


@pytest.mark.parametrize(
    "options",
    [(), ("--init",), ("--userns", "host"), ("--overlay",), ("--volume", "/etc:/mnt")],
    ids=" ".join,
)
def test_no_working_directory_leads_out_through_an_fd(many_fds, cli, tree, options):
    """CVE-2024-21626. Through a link of the tree as well."""
    (tree / "fd").symlink_to("/proc/self/fd")
    failures = 0
    for fd in range(16):
        where = ("/proc/self/fd", "/fd", "/dev/fd", "/proc/thread-self/fd")[fd % 4]
        done = cli(
            "run",
            *options,
            "--workdir",
            f"{where}/{fd}",
            tree,
            "/bin/sh",
            "-c",
            "pwd -P; ls -a ../../..",
            close_fds=False,
        )
        failures += done.returncode == 125
        assert done.stdout == b"" or done.stdout.startswith(b"/\n"), done
        assert b"boot" not in done.stdout
    assert failures == 16


@pytest.mark.parametrize(
    "where", ["/proc/self/cwd", "/proc/1/root", "/proc/self/root/..", "/proc/self/ns"]
)
def test_a_magic_link_is_no_way_out_either(cli, rootfs, tmp_path, where):
    done = cli(
        "run",
        "--workdir",
        where,
        rootfs,
        "/bin/sh",
        "-c",
        f"ls -d .{tmp_path} ../..{tmp_path} 2>/dev/null",
        cwd=tmp_path,
    )
    assert done.stdout == b""


@pytest.mark.parametrize(
    ("where", "reason"),
    [("/nowhere", "No such file"), ("/etc/passwd", "ot a directory"), ("etc", "absolute"), ("/" + "x" * 300, "too long"),
     ("/" + "x/" * 3000, "too long"), ("/loop", "symbolic links")],
)  # fmt: skip
def test_a_bad_working_directory_is_refused(tree, refused, where, reason):
    (tree / "loop").symlink_to("loop")
    message = refused("--workdir", where, tree, "/bin/true")
    assert reason in message
    assert "--workdir" in message


def test_a_directory_that_the_user_may_not_enter_is_no_escape(cli, rootfs):
    """Whether it is refused or not, the user does not get what is in it."""
    done = cli("run", "--user", "4321", "--workdir", "/root", rootfs, "/bin/ls", ".")
    assert done.returncode != 0


# Session, signals, keys, umask


@pytest.mark.parametrize(
    ("options", "pid"), [((), "1"), (("--init",), "2"), (("--userns", "host"), "1")]
)
def test_the_command_leads_a_session_without_a_terminal(cli, rootfs, options, pid):
    done = cli("run", *options, rootfs, "/bin/cat", "/proc/self/stat")
    words = done.stdout.decode().split()
    session, terminal = words[5], words[6]
    assert (words[0], terminal) == (pid, "0")
    assert session in ("1", "2")
    assert cli("run", *options, rootfs, "/bin/sh", "-c", "echo x >/dev/tty").returncode != 0


def _disturb():
    for number in (
        signal.SIGPIPE,
        signal.SIGCHLD,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGUSR1,
        signal.SIGRTMIN,
    ):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) | {signal.SIGRTMIN + 5})


@pytest.mark.parametrize(
    "options", [(), ("--init",), ("--userns", "host"), ("--join",)], ids=" ".join
)
def test_the_signal_mask_and_the_dispositions_are_clean(cli, rootfs, options):
    if options == ("--join",):
        options = ("--join", f"uts={os.getpid()}")
    done = cli("run", *options, rootfs, "/bin/cat", "/proc/self/status", preexec_fn=_disturb)
    found = fields(done.stdout.decode())
    assert {found[f"Sig{name}"] for name in ("Blk", "Ign", "Cgt", "Pnd")} == {"0" * 16}
    assert found["ShdPnd"] == "0" * 16


def test_they_are_clean_from_the_library_too(rootfs):
    """Python itself ignores SIGPIPE."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    try:
        found = fields(
            minibox.run(["/bin/cat", "/proc/self/status"], rootfs=rootfs).stdout.decode()
        )
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before | {
            signal.SIGUSR1,
            signal.SIGTERM,
        }
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert (found["SigBlk"], found["SigIgn"]) == ("0" * 16, "0" * 16)


def test_a_broken_pipe_ends_the_command_as_everywhere(inside):
    assert inside(
        "(yes; echo $? >&2) 2>/tmp/code | head -n 1; cat /tmp/code", "--tmpfs", "/tmp"
    ).split() == ["y", "141"]


def _with_a_key():
    """A session keyring with a key in it, as a login has one."""
    core.syscall(NUMBERS["keyctl"], KEYCTL_JOIN_SESSION_KEYRING, None)
    core.syscall(ADD_KEY, b"user\0", b"tests-secret\0", b"payload", 7, KEY_SPEC_SESSION_KEYRING)


ADD_KEY = {"x86_64": 248, "aarch64": 217}[os.uname().machine]
SEARCH = r"""
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void)
{
	puts(syscall(SYS_keyctl, 10 /* SEARCH */, -3 /* session */, "user", "tests-secret", 0) < 0 ? "none" : "found");
	return 0;
}
"""


@pytest.mark.parametrize(
    "options", [(), ("--userns", "host"), ("--init",), ("--userns", "host", "--init")], ids=" ".join
)
def test_the_callers_session_keyring_does_not_come_along(cli, tree, tmp_path, options):
    (tmp_path / "search.c").write_text(SEARCH)
    subprocess.run(["gcc", "-static", "-o", tree / "search", tmp_path / "search.c"], check=True)
    caller = subprocess.run(
        [tree / "search"], capture_output=True, check=True, preexec_fn=_with_a_key
    )
    assert caller.stdout == b"found\n"
    done = cli("run", *options, tree, "/search", preexec_fn=_with_a_key)
    assert (done.returncode, done.stdout) == (0, b"none\n"), done


def test_root_inside_does_not_see_the_callers_keys(cli, rootfs):
    done = cli("run", rootfs, "/bin/cat", "/proc/keys", preexec_fn=_with_a_key)
    assert (done.returncode, b"tests-secret" in done.stdout) == (0, False)


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_the_umask_is_022(inside, tmp_path, umask):
    (tmp_path / "d").mkdir()
    assert inside("umask; touch /mnt/x", "--volume", f"{tmp_path}/d:/mnt", umask=umask) == "0022"
    assert os.stat(tmp_path / "d/x").st_mode & 0o777 == 0o644


def test_the_umask_of_a_program_that_uses_the_library_stays(rootfs):
    before = os.umask(0o037)
    try:
        assert minibox.run(["/bin/sh", "-c", "umask"], rootfs=rootfs).stdout == b"0022\n"
    finally:
        assert os.umask(before) == 0o037


def test_nothing_of_the_caller_is_changed_by_a_run(rootfs):
    """The child shares memory with this process: ids, directory, dumpable flag are per task or mm."""

    def myself():
        found = fields(Path("/proc/self/status").read_text())
        kept = {
            key: found[key]
            for key in found
            # SigQ counts for all processes of this user.
            if key.startswith(("Uid", "Gid", "Groups", "Sig", "Cap", "NoNew", "Umask"))
            and key != "SigQ"
        }
        return (
            kept,
            os.getcwd(),
            os.getsid(0),
            core.syscall(NUMBERS["prctl"], 3, 0, 0, 0, 0),
            Path("/proc/self/comm").read_text(),
        )

    before = myself()
    for options in ({}, {"user": "1000"}, {"userns": "host", "user": "5"}, {"init": True}):
        minibox.run(["/bin/true"], rootfs=rootfs, **options)
        assert myself() == before


def test_the_oom_score_and_the_priority_are_not_better_than_the_callers(inside):
    score, nice = inside("cat /proc/self/oom_score_adj; cut -d' ' -f19 /proc/self/stat").split()
    assert int(score) >= int(Path("/proc/self/oom_score_adj").read_text())
    assert int(nice) >= os.nice(0)
