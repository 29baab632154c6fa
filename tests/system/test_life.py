# SPDX-License-Identifier: Apache-2.0
"""A container's life: created, started, waited for, named, found, renamed, removed."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import stat
import subprocess
import termios
from pathlib import Path

import pytest

from minibox.names import HOW, WHAT


def shell(script):
    return ("/bin/sh", "-c", script)


def whole_tree(top):
    """Every path below a directory, and the directory."""
    for directory, _, files in os.walk(top):
        yield Path(directory)
        yield from (Path(directory) / name for name in files)


def kept(box):
    """What the state directory holds of containers: names, leases, directories."""
    return [
        f"{kind}/{name}"
        for kind in ("containers", "names", "ids")
        for name in os.listdir(box.root / kind)
    ]


def open_files(process):
    """What the fds of a process are, as a text."""
    names = []
    try:
        for fd in os.listdir(f"/proc/{process.pid}/fd"):
            names.append(os.readlink(f"/proc/{process.pid}/fd/{fd}"))
    except FileNotFoundError:
        pass
    return "\n".join(names)


def unread(pipe):
    """How many bytes nobody has taken out of a pipe yet."""
    size = bytearray(4)
    fcntl.ioctl(pipe, termios.FIONREAD, size)
    return int.from_bytes(size, "little")


def letter(pid):
    """The state of a process, as proc_pid_stat(5) has it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


# create, start


def test_create_prints_an_id_and_starts_nothing(box, rootfs, tmp_path):
    options = ("-v", f"{tmp_path}:/mnt")
    id_ = box.do("create", *options, rootfs, *shell("echo > /mnt/started"))
    assert re.fullmatch("[0-9a-f]{64}", id_)
    state = box.state(id_)
    assert (state["Status"], state["Running"], state["Pid"]) == ("created", False, 0)
    assert state["StartedAt"] == "0001-01-01T00:00:00Z"
    assert not (tmp_path / "started").exists()


def test_start_prints_what_it_was_given_and_returns_when_the_command_runs(box):
    box.create()
    assert box.do("start", "c") == "c"
    state = box.state()
    assert (state["Status"], state["Running"]) == ("running", True)
    assert Path(f"/proc/{state['Pid']}/cmdline").read_bytes() == b"sleep\x001000\x00"


def test_start_of_one_that_runs_is_an_error(box):
    box.run()
    before = box.state()
    assert "container c is already running" in box.refused("start", "c")
    assert box.state() == before


def test_start_does_what_it_can(box):
    box.create(name="one")
    box.create(name="two")
    done = box("start", "one", "none", "two")
    assert (done.returncode, done.stdout) == (125, b"one\ntwo\n")
    assert done.stderr == b"minibox: none: no such container\n"
    assert (box.status("one"), box.status("two")) == ("running", "running")


def test_it_can_be_started_again_and_again(box, tmp_path):
    box.create("-v", f"{tmp_path}:/mnt", command=shell("echo once >> /mnt/count; exit 4"))
    for times in (1, 2, 3):
        box.do("start", "c")
        assert box.do("wait", "c") == "4"
        assert (tmp_path / "count").read_text() == "once\n" * times
    assert box.inspect()["RestartCount"] == 0


def test_start_with_its_streams_ends_as_it_ends(box):
    box.create(command=shell("echo out; echo error >&2; exit 9"))
    for _ in range(2):
        done = box("start", "--attach", "c")
        assert (done.returncode, done.stdout, done.stderr) == (9, b"out\n", b"error\n")


def test_start_with_streams_takes_one_container_only(box):
    assert "--attach" in box.refused("start", "-a", "one", "two")


@pytest.mark.parametrize(("command", "code"), [("/no/such", 127), ("/etc", 126)])
def test_a_start_that_fails_leaves_it_as_it_was(box, command, code):
    box.create(command=(command,))
    files = sorted(os.listdir(box.files()))
    assert command in box.refused("start", "c", code=code)
    assert box.status() == "created"
    left = set(os.listdir(box.files())) - {"lock", "alive", "log", "attach"}
    assert left <= set(files)


def test_a_start_that_fails_forgets_nothing_of_the_one_before(box, tmp_path):
    tree = tmp_path / "volume"
    tree.mkdir()
    box.create("-v", f"{tree}:/mnt", command=shell("exit 6"))
    box.do("start", "c")
    box.do("wait", "c")
    before = box.state()
    tree.rmdir()
    assert str(tree) in box.refused("start", "c")
    assert box.state() == before
    tree.mkdir()
    box.do("start", "c")
    assert box.do("wait", "c") == "6"


# run


def test_run_detached_prints_the_id_alone(box, rootfs):
    done = box("run", "-d", rootfs, "sleep", "1000")
    assert done.stderr == b""
    id_ = done.stdout.decode().removesuffix("\n")
    assert re.fullmatch("[0-9a-f]{64}", id_)
    assert box.status(id_) == "running"


def test_no_signal_of_a_terminal_reaches_what_runs_detached(box):
    """Neither the container nor its monitor is in the session of who started it."""
    box.run()
    state = box.state()
    sessions = {os.getsid(state["Pid"]), os.getsid(state["ConmonPid"])}
    assert os.getsid(0) not in sessions
    assert len(sessions) == 2


def test_a_named_run_in_the_foreground_is_kept(box, rootfs):
    script = "cat; echo error >&2; exit 5"
    done = box("run", "--name", "c", rootfs, *shell(script), input=b"typed")
    assert (done.returncode, done.stdout, done.stderr) == (5, b"typed", b"error\n")
    state = box.state()
    assert (state["Status"], state["ExitCode"]) == ("exited", 5)


def test_the_last_output_arrives_although_the_input_does_not(box, rootfs, until):
    """The monitor ends with what was typed unread, which must not cost what it has sent."""
    script = "trap 'echo out; exit 3' USR1; echo ready; while :; do sleep 1000 & wait; done"
    running = box.begin("run", "--name", "c", rootfs, *shell(script), stdin=subprocess.PIPE)
    assert running.stdout.readline() == b"ready\n"
    state = box.state()
    os.kill(state["ConmonPid"], signal.SIGSTOP)
    try:
        for _ in range(3):
            running.stdin.write(b"typed")
            running.stdin.flush()
            until(lambda: unread(running.stdin) == 0)
        os.kill(state["Pid"], signal.SIGUSR1)
        until(lambda: letter(state["Pid"]) == "Z")
    finally:
        os.kill(state["ConmonPid"], signal.SIGCONT)
    done = box.finish(running)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"")


@pytest.mark.parametrize("way", [("-d",), ()])
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("ROOT", "/no/such"), 127),
        (("ROOT", "/etc"), 126),
        (("/no/such", "/bin/true"), 125),
        (("--workdir", "/no/such", "ROOT", "/bin/true"), 125),
        (("--volume", "/no/such:/mnt", "ROOT", "/bin/true"), 125),
    ],
)
def test_a_run_that_fails_leaves_no_container(box, rootfs, way, words, code):
    words = [word.replace("ROOT", rootfs) for word in words]
    box.refused("run", *way, "--name", "c", *words, code=code)
    box.refused("run", *way, "--name", "c", *words, code=code)  # the name is free
    assert box.names() == set()
    if box.root.exists():
        assert kept(box) == []


@pytest.mark.parametrize(
    "words",
    [
        ("--name", ""),
        ("--name", "-a"),
        ("--name", "a b"),
        ("--name", ".."),
        ("--name", "ä"),
        ("--name", "a\nb"),
        ("--name", "a" * 129),
        ("--label", "=value"),
        ("--label-file", "/no/such"),
        ("--restart", "sometimes"),
        ("--restart", "always:3"),
        ("--restart", "on-failure:-1"),
        ("--restart=always", "--rm"),
        ("--stop-signal", "KILLER"),
        ("--stop-timeout", "-1"),
        ("--log-opt", "max-size"),
        ("--detach-keys", "ctrl-1"),
        ("--health-interval", "1s"),
        ("--cidfile", "/no/such/file"),
        ("--cidfile", "/"),
        ("--tty", "--no-tty"),
    ],
    ids=lambda words: " ".join(words)[:30],
)
def test_what_makes_no_sense_is_refused_and_makes_nothing(box, rootfs, words):
    box.refused("create", *words, rootfs, "/bin/true")
    assert box.names() == set()
    if box.root.exists():
        assert kept(box) == []


# Names and ids.


@pytest.mark.parametrize("name", ["a", "7", "A_b.c-d", "a" * 128, "0123456789ab", "x--help"])
def test_names_that_are_allowed(box, name):
    box.create(name=name)
    assert box.names() == {name}
    assert box.inspect(name)["Name"] == name


def test_a_name_is_made_up_where_there_is_none(box, rootfs):
    for _ in range(4):
        box.do("create", rootfs, "/bin/true")
    names = box.names()
    assert len(names) == 4
    for name in names:
        how, what, number = name.split("_")
        assert how in HOW.split()
        assert what in WHAT.split()
        assert re.fullmatch("[0-9a-f]{2}", number)


def test_a_name_that_is_taken_stays_its_holders(box, rootfs):
    box.run()
    before = box.inspect()
    for verb in (("create",), ("run", "-d"), ("run",)):
        message = box.refused(*verb, "--name", "c", rootfs, "/bin/true")
        assert f"the name c is taken by container {before['Id'][:12]}" in message
    assert box.names() == {"c"}
    assert box.inspect() == before


def test_the_name_of_one_that_has_ended_is_taken_until_it_is_removed(box):
    box.create()
    box.refused("create", "--name", "c", box.rootfs, "/bin/true")
    box.do("rm", "c")
    box.create()


def test_the_beginning_of_an_id_is_enough(box):
    box.create()
    id_ = box.inspect()["Id"]
    for size in (1, 2, 12, 63, 64):
        assert box.inspect(id_[:size])["Name"] == "c"
    for wrong in (id_ + "0", id_[:12].upper() + "G", id_[1:], "*", id_[:4] + "*", f"./{id_}"):
        assert "no such container" in box.refused("stop", wrong)


@pytest.mark.parametrize(
    "name", ["none", "", "..", ".", "/", "../containers", "a\nb", "-", "\udcff", "x" * 5000]
)
def test_what_no_container_is_called(box, name):
    box.create()
    message = box.refused("start", "--", os.fsencode(name))
    assert "no such container" in message
    assert len(message.splitlines()) == 1


def test_two_whose_ids_begin_alike(box, rootfs):
    ids = []
    while len(ids) == len({id_[0] for id_ in ids}):
        ids.append(box.do("create", rootfs, "/bin/true"))
    letter = ids[-1][0]
    pair = [id_ for id_ in ids if id_[0] == letter]
    assert "more than one container" in box.refused("rm", letter)
    assert len(box.names()) == len(ids)
    for id_ in pair:
        at = next(k for k in range(64) if pair[0][k] != pair[1][k])
        assert box.inspect(id_[: at + 1])["Id"] == id_


def test_a_name_goes_before_an_id_that_begins_so(box, rootfs):
    first = box.do("create", "--name", "first", rootfs, "/bin/true")
    box.create(name=first[:6])
    assert box.inspect(first[:6])["Id"] != first
    assert box.inspect(first[:7])["Id"] == first


def test_rename(box):
    """The names begin no id."""
    box.run(name="one")
    id_ = box.inspect("one")["Id"]
    assert box.do("rename", id_[:9], "two") == ""
    assert box.names() == {"two"}
    assert box.inspect("two")["Id"] == id_
    assert "no such container" in box.refused("stop", "one")
    box.create(name="one")
    assert box.do("exec", "two", "echo", "here") == "here"


def test_rename_to_a_name_that_is_taken(box):
    box.create(name="one")
    box.create(name="two")
    ids = [box.inspect(name)["Id"] for name in ("one", "two")]
    assert "the name two is taken" in box.refused("rename", "one", "two")
    assert [box.inspect(name)["Id"] for name in ("one", "two")] == ids


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "ä", "a" * 129])
def test_rename_to_what_is_no_name(box, name):
    box.create()
    box.refused("rename", "--", "c", name)
    assert box.names() == {"c"}


def test_rename_to_the_name_it_has_loses_nothing(box, rootfs):
    box.create()
    box("rename", "c", "c")
    assert box.inspect("c")["Name"] == "c"
    box.refused("create", "--name", "c", rootfs, "/bin/true")


def test_rename_there_and_back(box):
    box.create()
    box.do("rename", "c", "d")
    box.do("rename", "d", "c")
    assert box.inspect("c")["Name"] == "c"
    assert len(os.listdir(box.root / "names")) == 1


# wait


@pytest.mark.parametrize("code", [0, 255])
def test_wait_prints_the_exit_code(box, code):
    box.run(command=shell(f"exit {code}"))
    assert box.do("wait", "c") == str(code)
    assert box.do("wait", "c") == str(code)
    state = box.state()
    assert (state["Status"], state["ExitCode"], state["Signal"]) == ("exited", code, 0)


@pytest.mark.parametrize(("name", "code"), [("TERM", 143), ("KILL", 137), ("RTMIN", 162)])
def test_wait_prints_128_and_the_signal(box, name, code):
    box.run("--init")
    box.do("kill", "--signal", name, "c")
    assert box.do("wait", "c") == str(code)


def test_wait_waits(box, until):
    box.run(name="one", command=shell("exit 3"))
    box.do("wait", "one")
    box.run(name="two")
    waiting = box.begin("wait", "one", "two")
    until(lambda: "exit-1.json" in open_files(waiting))
    assert waiting.poll() is None
    box.do("kill", "two")
    done = box.finish(waiting)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"3\n137\n", b"")


def test_wait_prints_each_code_when_it_is_known(box):
    box.run(name="one", command=shell("exit 3"))
    box.run(name="two")
    waiting = box.begin("wait", "one", "two")
    assert select.select([waiting.stdout], [], [], 2)[0], "it keeps the first code to itself"
    assert waiting.stdout.readline() == b"3\n"
    assert waiting.poll() is None


def test_wait_for_one_that_is_not_there(box):
    box.create(command=shell("exit 2"))
    done = box("wait", "none", "c")
    assert (done.returncode, done.stdout) == (125, b"0\n")
    assert done.stderr == b"minibox: none: no such container\n"


def test_everything_inside_ends_with_the_first_process(box, until):
    box.run(command=shell("setsid sleep 1000 & exec sleep 1000"))
    pid = box.state()["Pid"]
    other = until(Path(f"/proc/{pid}/task/{pid}/children").read_text).split()[0]
    box.do("kill", "c")
    assert not Path(f"/proc/{other}").exists()
    assert not Path(f"/proc/{pid}").exists()


# rm


def test_rm_leaves_nothing(box):
    box.create(name="created")
    box.run(name="ended", command=("true",))
    box.do("wait", "ended")
    box.run(name="stopped")
    box.do("stop", "stopped")
    assert len(kept(box)) >= 6
    assert box.do("rm", "created", "ended", "stopped") == "created\nended\nstopped"
    assert kept(box) == []


def test_rm_of_one_that_runs_wants_force(box):
    box.run()
    pid = box.state()["Pid"]
    message = box.refused("rm", "c")
    assert "container c is running" in message
    assert "rm -f" in message
    assert box.state()["Pid"] == pid
    assert box.do("rm", "-f", "c") == "c"
    assert not Path(f"/proc/{pid}").exists()
    assert kept(box) == []


@pytest.mark.parametrize("options", [(), ("-f",)])
def test_a_second_rm_finds_none(box, options):
    box.create()
    box.do("rm", "c")
    assert box.refused("rm", *options, "c") == "minibox: c: no such container"


def test_rm_does_what_it_can(box):
    box.create(name="one")
    box.run(name="two")
    box.create(name="three")
    done = box("rm", "one", "two", "none", "three")
    assert (done.returncode, done.stdout) == (125, b"one\nthree\n")
    assert done.stderr.startswith(b"minibox: container two is running\n")
    assert done.stderr.endswith(b"minibox: none: no such container\n")
    assert box.names() == {"two"}


def test_rm_of_all_that_do_not_run(box):
    box.create(name="created")
    box.run(name="running")
    box.run(name="ended", command=("true",))
    box.do("wait", "ended")
    box.do("rm", "--all")
    assert box.names() == {"running"}
    box.do("rm", "-af")
    assert kept(box) == []


@pytest.mark.parametrize("words", [("rm",), ("rm", "-a", "c"), ("stop", "-a", "c"), ("kill",)])
def test_which_containers_must_be_clear(box, words):
    box.run()
    box.refused(*words)
    assert box.status() == "running"


# --rm


def test_with_rm_it_goes_at_its_end(box, until):
    box.run("--rm", command=shell("exit 3"))
    until(lambda: box.names() == set())
    until(lambda: kept(box) == [])


def test_with_rm_in_the_foreground_the_exit_code_comes_all_the_same(box, rootfs, until):
    done = box("run", "--rm", "--name", "c", rootfs, *shell("cat; echo out; exit 3"))
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"")
    until(lambda: kept(box) == [])


@pytest.mark.parametrize("verb", ["stop", "kill"])
def test_with_rm_it_goes_when_it_is_stopped(box, until, verb):
    box.run("--rm")
    box.do(verb, "c")
    until(lambda: kept(box) == [])


def test_with_rm_one_that_is_created_stays_until_it_has_run(box, until):
    box.create("--rm", command=("true",))
    assert box.names() == {"c"}
    box.do("start", "c")
    until(lambda: kept(box) == [])


def test_with_rm_who_waits_gets_the_exit_code(box, until):
    box.run("--rm")
    waiting, attached = box.begin("wait", "c"), box.begin("attach", "c")
    until(lambda: "exit-1.json" in open_files(waiting))
    until(lambda: "[signalfd]" in open_files(attached))
    box.do("kill", "c")
    assert box.finish(waiting).stdout == b"137\n"
    assert box.finish(attached).returncode == 137


# --cidfile


def test_cidfile_has_the_id(box, rootfs, tmp_path):
    id_ = box.do("create", "--cidfile", tmp_path / "cid", rootfs, "/bin/true")
    assert (tmp_path / "cid").read_text() == id_


@pytest.mark.parametrize("verb", [("create",), ("run", "-d"), ("run",)])
def test_a_cidfile_is_never_overwritten(box, rootfs, tmp_path, verb):
    (tmp_path / "cid").symlink_to("nowhere")
    message = box.refused(*verb, "--cidfile", tmp_path / "cid", rootfs, "/bin/true")
    assert str(tmp_path / "cid") in message
    assert box.names() == set()
    assert os.readlink(tmp_path / "cid") == "nowhere"


def test_a_run_that_fails_leaves_no_cidfile(box, rootfs, tmp_path):
    """Its container is gone, so the next try must not find the file in its way."""
    for _ in range(2):
        message = box.refused(
            "run", "-d", "--cidfile", tmp_path / "cid", rootfs, "/no/such", code=127
        )
        assert "/no/such" in message
    assert not (tmp_path / "cid").exists()


# The state directory.


@pytest.mark.parametrize("umask", [0, 0o077])
def test_nobody_else_can_look_into_the_state(box, umask, until):
    for command in (shell("echo text; exec sleep 1000"), ("/bin/true",)):
        name = command[0].rpartition("/")[2]
        words = ("run", "-d", "--name", name, box.rootfs, *command)
        box.do(*words, umask=umask)
    until(lambda: b"text" in box.log("sh"))
    box.do("wait", "true", umask=umask)
    box.do("rename", "true", "other", umask=umask)
    modes = {path: path.lstat().st_mode for path in whole_tree(box.root)}
    names = {path.name for path in modes}
    assert {"config.json", "run.json", "log", "attach", "alive", "lock", "events"} <= names
    for path, mode in modes.items():
        if stat.S_ISDIR(mode):
            assert stat.S_IMODE(mode) == 0o700, path
        elif not stat.S_ISLNK(mode):
            assert stat.S_IMODE(mode) & ~0o700 == 0, path
            assert stat.S_IMODE(mode) & 0o600 == 0o600, path


def test_a_state_directory_that_is_none(box, rootfs, tmp_path):
    (tmp_path / "file").write_text("")
    box.root = tmp_path / "file"
    message = box.refused("create", rootfs, "/bin/true")
    assert "Not a directory" in message or "File exists" in message
    box.root = tmp_path / "state"


def test_a_container_of_one_state_directory_is_not_there_in_another(box, tmp_path):
    box.run()
    box.root = tmp_path / "other"
    assert box.names() == set()
    assert "no such container" in box.refused("stop", "c")
    assert not box.root.exists()
    box.root = tmp_path / "state"
    assert box.status() == "running"


def test_root_may_be_relative(box, tmp_path):
    box.create()
    box.root = "state"
    assert box.do("ps", "-aq", cwd=tmp_path) != ""
    box.do("start", "c", cwd=tmp_path)
    box.root = tmp_path / "state"
    assert box.status() == "running"
