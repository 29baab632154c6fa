# SPDX-License-Identifier: Apache-2.0
"""exec: one more command in a container that runs, with all that makes the container."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.conftest import replaces_directories

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
BYTES = bytes(range(256)) * 4096

# What a container was made with -> what `exec` has to find again. Each one runs all the time.
WAYS = {
    "plain": (),
    "host ids": ("--userns=host",),
    "shared net": ("--share=net", "--share=ipc,uts"),
    "shared pid": ("--share=pid",),
    "clocks": ("--boottime=1000000", "--monotonic=2000000"),
    "init": ("--init",),
    "overlay": ("--overlay", "--tmpfs=/mnt"),
    "read-only": ("--read-only",),
    "user": ("--user=1000:33", "--workdir=/tmp", "--env=SAID=before"),
    "more": ("--cap-add=SYS_TIME,NET_ADMIN",),
    "none": ("--cap-drop=ALL",),
}


def furnish(box):
    for name, options in WAYS.items():
        box.run(*options, name=name.replace(" ", "-"))


@pytest.fixture
def inside(shared_box):
    """`inside("plain", "id -u", options…)`: what a shell says that is exec'd in that container."""

    def run(name, script, *options, **how):
        words = (*options, name.replace(" ", "-"), "/bin/sh", "-c", script)
        return shared_box.do("exec", *words, **how)

    return run


@pytest.fixture
def failing(shared_box):
    """`failing(code, words…)`: exec fails; its one message."""

    def run(code, *words, **how):
        return shared_box.refused("exec", *words, code=code, **how)

    return run


def table(text):
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


# It is in the container.


@pytest.mark.parametrize("name", WAYS)
def test_it_has_what_pid_1_has(inside, shared_box, name):
    """All namespaces, the same capabilities and no more, the same root and mounts."""
    links = "; ".join(f"readlink /proc/self/ns/{kind}" for kind in KINDS)
    script = f"{links}; stat -c %d:%i /; wc -l < /proc/self/mountinfo; cat /proc/self/status"
    lines = inside(name, script).splitlines()
    pid = shared_box.state(name.replace(" ", "-"))["Pid"]
    # Before Linux 6.3 who execs stays in the clocks that it had, and what it starts gets the new.
    files = [f"{kind}_for_children" if kind == "time" else kind for kind in KINDS]
    theirs = [os.readlink(f"/proc/{pid}/ns/{file}") for file in files]
    assert lines[: len(KINDS)] == theirs
    root = os.stat(f"/proc/{pid}/root/")
    mounts = Path(f"/proc/{pid}/mountinfo").read_text().count("\n")
    assert lines[len(KINDS) : len(KINDS) + 2] == [f"{root.st_dev}:{root.st_ino}", str(mounts)]
    ours, ones = table("\n".join(lines)), table(Path(f"/proc/{pid}/status").read_text())
    assert {field: ours[field] for field in SETS} == {field: ones[field] for field in SETS}
    assert ours["NoNewPrivs"] == "1"
    assert (ours["CapInh"], ours["CapAmb"]) == ("0" * 16, "0" * 16)


def test_it_has_them_by_the_containers_own_account(inside):
    script = "for k in /proc/self/ns/*; do readlink $k; readlink /proc/1/ns/${k##*/}; done"
    lines = inside("host ids", script).splitlines()
    assert len(lines) >= 2 * len(KINDS)
    assert lines[::2] == lines[1::2]


def test_capabilities_differ_where_they_were_asked_for(inside):
    """The control of the test above."""
    script = "grep CapBnd /proc/self/status"
    assert len({inside(name, script) for name in ("plain", "more", "none")}) == 3


def test_what_is_mounted_read_only_stays_so(inside):
    script = (
        "(echo > /file) 2>/dev/null && echo written; mount -o remount,rw / 2>/dev/null; echo $?"
    )
    assert inside("read only".replace(" ", "-"), script) != "0"
    assert "written" not in inside("read-only", script)


def test_it_sees_what_the_container_has_written(inside):
    inside("overlay", "echo text > /etc/written; echo more > /mnt/written")
    assert inside("overlay", "cat /etc/written /mnt/written") == "text\nmore"


def test_it_has_the_clocks(inside, shared_box):
    up = float(inside("clocks", "cat /proc/uptime").split()[0])
    assert 999_990 <= up - float(Path("/proc/uptime").read_text().split()[0]) < 1_000_100


def test_it_sees_and_signals_the_other_processes(inside, shared_box):
    assert inside("plain", "tr '\\0' ' ' < /proc/1/cmdline; kill -0 1 && echo yes").endswith("yes")


def test_it_leads_a_session_of_its_own(inside):
    text = inside("plain", "cut -d' ' -f1,5,6 /proc/$$/stat; echo $$")
    line, pid = text.splitlines()
    assert line.split() == [pid, pid, pid]


def test_the_host_name_and_the_variables_of_minibox(inside, shared_box):
    short = shared_box.inspect("plain")["Id"][:12]
    text = inside("plain", "hostname; echo $HOSTNAME $HOME $container")
    assert text.splitlines() == [short, f"{short} /root minibox"]


# Who, where, with what.


def test_it_is_who_the_container_is(inside):
    script = "id -u; id -g; id -G; pwd; echo $HOME $SAID; umask"
    lines = inside("user", script).splitlines()
    assert lines == ["1000", "33", "33", "/tmp", "/home/user before", "0022"]


@pytest.mark.parametrize(
    ("user", "text"),
    [
        ("user", "1000 1000 /home/user"),
        ("1000", "1000 1000 /home/user"),
        ("www-data", "33 33 /var/www"),
        ("user:www-data", "1000 33 /home/user"),
        ("4321", "4321 0 /"),
        ("4321:8765", "4321 8765 /"),
        ("0", "0 0 /root"),
        ("root", "0 0 /root"),
    ],
)
def test_it_is_who_is_asked_for(inside, user, text):
    assert inside("plain", "echo $(id -u) $(id -g) $HOME", "--user", user) == text


@pytest.mark.parametrize("user", ["root", "0"])
def test_root_asked_for_is_root_also_where_the_container_is_not(inside, user):
    script = "id -u; grep CapEff /proc/self/status; grep CapEff /proc/1/status"
    uid, ours, ones = inside("user", script, "-u", user).splitlines()
    assert uid == "0"
    assert ours != ones  # PID 1 has given its own up; within the bounding set root has them
    assert ours == inside("plain", "grep CapEff /proc/self/status")


def test_who_is_not_root_has_no_capability(inside):
    script = "grep -E 'Cap(Prm|Eff|Inh|Amb)' /proc/self/status | cut -f2 | sort -u"
    assert inside("more", script, "-u", "user") == "0" * 16


@pytest.mark.parametrize(
    "user", ["nobody-knows", "", ":", "user:nobody", "-1", "70000", "4294967295", "1000:", "a\nb"]
)
def test_who_is_nobody(failing, user):
    failing(125, f"--user={user}", "plain", "true")


def test_users_are_the_containers_own(box):
    """Who was added since it was started; through links that end inside."""
    box.run("--overlay")
    line = "new:x:77:78:new:/new:/bin/sh"
    script = f"cd /etc && echo '{line}' > /tmp/users && rm passwd && ln -s /tmp/users passwd"
    box.do("exec", "c", "sh", "-c", script)
    assert box.do("exec", "-u", "new", "c", "sh", "-c", "echo $(id -u) $HOME") == "77 /new"
    assert "no user 'user'" in box.refused("exec", "-u", "user", "c", "true")


@pytest.mark.parametrize(
    "script",
    [
        "mkfifo passwd",
        pytest.param("mkdir passwd", marks=replaces_directories),
        "ln -s passwd passwd",
        "ln -s /dev/zero passwd",
    ],
)
def test_a_user_file_that_is_a_trap(box, script):
    box.run("--overlay")
    box.do("exec", "c", "sh", "-c", f"cd /etc && rm passwd && {script}")
    done = box.finish(box.begin("exec", "-u", "user", "c", "true"), patience=5)
    assert done.returncode == 125
    assert "Uid:\t5\t5" in box.do("exec", "-u", "5", "c", "cat", "/proc/self/status")


def test_variables(inside, tmp_path):
    (tmp_path / "env").write_text("FILE=1\nGIVEN=file\n")
    env = {**os.environ, "CALLER": "now", "SECRET": "secret"}
    env.pop("UNKNOWN", None)
    options = ("--env-file", tmp_path / "env", "-e", "GIVEN=x=y", "-e", "CALLER", "-e", "UNKNOWN")
    script = "echo $FILE $GIVEN $CALLER ${UNKNOWN-unset} ${SECRET-unset} $SAID ${TERM-unset}"
    assert inside("user", script, *options, env=env) == "1 x=y now unset unset before unset"


def test_variables_and_arguments_of_any_bytes(shared_box):
    words = [b"\xff\xfe", b"", bytes(range(1, 256))]
    script = 'printf "%s\\n" "$@" "A=$A"'
    words = (b"-e", b"A=\xff", "plain", "sh", "-c", script, "sh", *words)
    done = shared_box("exec", *words)
    assert done.stdout == b"\xff\xfe\n\n" + bytes(range(1, 256)) + b"\nA=\xff\n"


@pytest.mark.parametrize("option", [("-e", "=x"), ("-e", ""), ("--env-file", "/no/such")])
def test_what_is_no_variable(failing, option):
    failing(125, *option, "plain", "true")


def test_the_working_directory(inside, failing):
    assert inside("plain", "pwd") == "/"
    assert inside("plain", "pwd", "-w", "/home/user") == "/home/user"
    assert inside("user", "pwd", "--workdir", "/") == "/"
    for path in ("/no/such", "relative", "", "/etc/passwd"):
        failing(125, f"--workdir={path}", "plain", "true")


def test_no_working_directory_leads_out(box):
    box.run("--overlay")
    box.do("exec", "c", "ln", "-s", "/proc/self/fd/10", "/link")
    for path in ("/link", "/proc/self/fd/10", "/proc/1/cwd/../../..", "/proc/self/root/.."):
        done = box("exec", "-w", path, "c", "sh", "-c", "pwd; stat -c %d:%i .")
        if done.returncode == 0:
            assert (
                done.stdout.split()[1:] == box.do("exec", "c", "stat", "-c", "%d:%i", "/").split()
            )


# Its end.


@pytest.mark.parametrize("code", [0, 1, 42, 125, 126, 127, 255])
def test_its_exit_code_is_execs(shared_box, code):
    done = shared_box("exec", "plain", "sh", "-c", f"exit {code}")
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


@pytest.mark.parametrize("name", ["plain", "init"])
@pytest.mark.parametrize(
    ("command", "code"), [("/no/such", 127), ("no-such", 127), ("/etc", 126), ("/etc/passwd", 126)]
)
def test_a_command_that_cannot_be_run(failing, name, command, code):
    assert command in failing(code, name, command)


def test_the_signal_that_ended_it(shared_box):
    for number in (1, 9, 15, 34):
        done = shared_box("exec", "plain", "sh", "-c", f"kill -{number} $$")
        assert done.returncode == 128 + number


@pytest.mark.parametrize("name", ["none-such", "", ".."])
def test_a_container_that_is_not_there(shared_box, name):
    assert "no such container" in shared_box.refused("exec", name, "true")


def test_a_container_that_does_not_run(box):
    box.create()
    assert box.refused("exec", "c", "true") == "minibox: container c is not running"
    box.do("start", "c")
    box.do("stop", "c")
    for options in ((), ("-d",)):
        assert box.refused("exec", *options, "c", "true") == "minibox: container c is not running"


@pytest.mark.parametrize("words", [(), ("plain",), ("--nothing", "plain", "true")])
def test_words_that_are_missing(shared_box, words):
    done = shared_box("exec", *words)
    assert done.returncode not in (0, 1)
    assert b"Traceback" not in done.stderr


def test_an_empty_command(failing):
    failing(125, "plain", "")


# Its streams.


def test_streams_pass_through(shared_box):
    """Pipes on both sides, with more than a pipe holds."""
    words = ("exec", "-i", "plain", "sh", "-c", "cat; echo error >&2")
    done = subprocess.run(shared_box.words(*words), input=BYTES, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"error\n")
    assert done.stdout == BYTES


def test_the_end_of_its_input_is_seen(shared_box):
    assert shared_box.do("exec", "plain", "sh", "-c", "cat; echo over", input=b"") == "over"


def test_streams_are_the_callers_own(shared_box, tmp_path):
    with open(tmp_path / "file", "wb") as file:
        done = shared_box("exec", "plain", "sh", "-c", "echo text >&1", stdout=file)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "file").read_bytes() == b"text\n"


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_streams_that_are_closed(shared_box, closed):
    closing = " ".join(f"{fd}>&-" for fd in closed)
    words = ["sh", "-c", f'exec "$@" {closing}', "sh", *shared_box.words("exec", "plain", "true")]
    assert subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


def test_a_reader_that_goes_away_ends_a_writer(shared_box):
    with subprocess.Popen(shared_box.words("exec", "plain", "yes"), stdout=subprocess.PIPE) as yes:
        yes.stdout.read(10)
        yes.stdout.close()
        assert yes.wait(10) == 141


@pytest.mark.parametrize("options", [(), ("-d",)], ids=str)
@pytest.mark.parametrize("name", ["plain", "host-ids", "init", "shared-pid"])
def test_no_fd_but_the_streams_comes_along(shared_box, until, name, options):
    extra = os.open("/etc", os.O_RDONLY)
    os.set_inheritable(extra, True)
    mark = str(70_000 + extra)
    words = ("exec", *options, name, "sleep", mark)
    try:
        process = shared_box.begin(*words, close_fds=False)
    finally:
        os.close(extra)
    (pid,) = until(lambda: sleepers(mark))
    assert set(os.listdir(f"/proc/{pid}/fd")) == {"0", "1", "2"}
    if options:
        streams = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)}
        assert streams == {"/dev/null"}
    shared_box.do("exec", name, "kill", inner_pid(pid, name))
    if options:
        until(lambda: reap(pid))
    shared_box.finish(process)


def sleepers(mark):
    """The processes that sleep so many seconds."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if (directory / "cmdline").read_bytes() == f"sleep\0{mark}\0".encode():
                found.append(int(directory.name))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def inner_pid(pid, name):
    """Its number inside."""
    status = table(Path(f"/proc/{pid}/status").read_text())
    return status["NSpid"].split()[0 if name == "shared-pid" else -1]


def reap(pid):
    """An orphan comes to us; True when it has ended and is gone."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return not Path(f"/proc/{pid}").exists()


# The container's request is not asked for again.


def test_a_volume_whose_source_is_gone_is_in_nobodys_way(box, tmp_path):
    (tmp_path / "volume").mkdir()
    box.run("-v", f"{tmp_path}/volume:/mnt")
    (tmp_path / "volume").rmdir()
    assert box.do("exec", "c", "echo", "here") == "here"


def test_a_root_that_was_moved_is_in_nobodys_way(box, tree):
    box.run(root=tree)
    tree.rename(tree.parent / "elsewhere")
    assert box.do("exec", "c", "echo", "here") == "here"


def test_exec_changes_nothing_on_the_host(shared_box):
    files = {path.name for path in Path(shared_box.files("plain")).iterdir()}
    shared_box.do("exec", "plain", "true")
    assert {path.name for path in Path(shared_box.files("plain")).iterdir()} == files
    assert not stat.S_ISDIR(os.lstat(shared_box.files("plain") / "lock").st_mode)
