# SPDX-License-Identifier: Apache-2.0
"""What minibox ends with: the command's own code, 128+n, or 125, 126 and 127."""

from __future__ import annotations

import errno
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

import minibox

ALL_CODES = range(256)
ENDING_SIGNALS = (1, 2, 4, 6, 8, 9, 10, 11, 12, 13, 14, 15, 34, 64)  # busybox sh ignores QUIT
LONGEST_ARGUMENT = 128 * 1024  # MAX_ARG_STRLEN of execve(2)
SCRIPT = b"#!/bin/sh\necho it ran\n"


def put(tree, path, content, mode=0o755):
    """A file in the tree; gives its path inside."""
    (tree / path.lstrip("/")).write_bytes(content)
    (tree / path.lstrip("/")).chmod(mode)
    return path


def build(tmp_path, source, *flags):
    """A program of the system's compiler, as bytes."""
    (tmp_path / "program.c").write_text(source)
    words = ["cc", *flags, "-o", str(tmp_path / "program"), str(tmp_path / "program.c")]
    subprocess.run(words, check=True)
    return (tmp_path / "program").read_bytes()


def assert_message(done, code, *parts):
    """One message of minibox's on stderr that has these parts, and nothing of the command's."""
    text = done.stderr.decode()
    assert done.returncode == code, text
    assert text.startswith("minibox: ")
    assert text.count("minibox: ") == 1
    assert "Traceback" not in text
    assert done.stdout == b""
    for part in parts:
        assert part in text


# The command's own.


def in_parallel(function, values):
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(function, values))


def test_every_exit_code_passes_through_the_command_line(cli, rootfs):
    def ends_with(code):
        done = cli("run", rootfs, "/bin/sh", "-c", f"exit {code}")
        return done.returncode, done.stderr

    assert in_parallel(ends_with, ALL_CODES) == [(code, b"") for code in ALL_CODES]


@pytest.mark.parametrize("init", [False, True])
def test_every_exit_code_passes_through_the_library(rootfs, init):
    for code in ALL_CODES:
        result = minibox.run(["/bin/sh", "-c", f"exit {code}"], rootfs=rootfs, init=init)
        assert (result.exit_code, result.signal) == (code, None)


def test_every_16th_exit_code_passes_through_init(cli, rootfs):
    def ends_with(code):
        return cli("run", "--init", rootfs, "/bin/sh", "-c", f"exit {code}").returncode

    codes = [*range(0, 256, 16), 1, 125, 126, 127, 129, 255]
    assert in_parallel(ends_with, codes) == codes


@pytest.mark.parametrize("option", ["--init", "--share=pid"])
def test_a_signal_that_ends_the_command_is_128_and_its_number(cli, rootfs, option):
    def dies_of(signal):
        script = f"ulimit -c 0; kill -{signal} $$; sleep 60"
        return cli("run", option, rootfs, "/bin/sh", "-c", script).returncode

    assert in_parallel(dies_of, ENDING_SIGNALS) == [128 + signal for signal in ENDING_SIGNALS]


@pytest.mark.parametrize(
    ("crash", "signal"),
    [("*(volatile int *)0 = 1;", 11), ("__builtin_trap();", 4), ("raise(9);", 0)],
)
def test_a_crash_of_pid_1_is_128_and_its_signal(cli, tree, tmp_path, crash, signal):
    source = f"#include <signal.h>\nint main(void) {{ {crash} return 77; }}\n"
    put(tree, "/crash", build(tmp_path, source, "-static", "-O0", "-w"))
    done = cli("run", tree, "/bin/sh", "-c", "ulimit -c 0; exec /crash")
    # The kernel lets PID 1 survive what it sends itself, but not what it cannot go on from.
    expected = 128 + signal if signal else 77
    if os.uname().machine == "aarch64" and "trap" in crash:
        expected = 128 + 5
    assert done.returncode == expected


def test_a_command_that_is_killed_from_outside_is_137(rootfs):
    with minibox.Container(["/bin/sleep", "100"], rootfs=rootfs) as container:
        os.kill(container.pid, 9)
        result = container.wait(10)
    assert (result.exit_code, result.signal) == (137, 9)


# 125: minibox failed.


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--no-such-option", "ROOT", "/bin/true"),
        ("run", "ROOT"),
        ("run",),
        ("no-such-verb",),
        ("run", "/no/such/rootfs", "/bin/true"),
        ("run", "ROOT/etc/passwd", "/bin/true"),
        ("run", "--volume", "/no/such/source:/mnt", "ROOT", "/bin/true"),
        ("run", "--user", "nobody-at-all", "ROOT", "/bin/true"),
        ("run", "--timeout", "soon", "ROOT", "/bin/true"),
        ("run", "--workdir", "/no/such/directory", "ROOT", "/bin/true"),
        ("run", "--hostname", "x" * 65, "ROOT", "/bin/true"),
        ("run", "--tty", "--no-tty", "ROOT", "/bin/true"),
        ("run", "--tty", "ROOT", "/bin/true"),
        ("run", "--share", "mnt", "ROOT", "/bin/true"),
        ("run", "--env", "=value", "ROOT", "/bin/true"),
    ],
    ids=" ".join,
)
def test_a_failure_of_miniboxs_own_is_125(cli, rootfs, words):
    done = cli(*[word.replace("ROOT", rootfs) for word in words])
    assert_message(done, 125)


# 127: not found. 126: found, and cannot be run. Under an init as well.


@pytest.fixture(params=["", "--init", "--userns=host"])
def run(request, cli, tree):
    """Run words in the test's tree, each way that the plan can end in an exec."""

    def run_in_tree(*words, path=None):
        options = [request.param] if request.param else []
        options += ["--env", f"PATH={path}"] if path else []
        return cli("run", *options, tree, *words)

    return run_in_tree


def test_a_missing_absolute_path_is_127(run):
    assert_message(run("/no/such/command"), 127, "/no/such/command", "No such file")


def test_a_missing_name_is_127(run):
    assert_message(run("no-such-command"), 127, "no-such-command", "not found")


def test_the_empty_name_is_127(run):
    assert_message(run(""), 127)


def test_a_directory_is_126(run):
    assert_message(run("/etc"), 126, "/etc", "Permission denied")


def test_a_path_through_a_file_is_126(run):
    assert_message(run("/etc/passwd/x"), 126, "Not a directory")


def test_a_file_that_is_not_executable_is_126(run, tree):
    put(tree, "/plain", SCRIPT, 0o644)
    assert_message(run("/plain"), 126, "/plain", "Permission denied")


def test_an_empty_file_is_126(run, tree):
    put(tree, "/empty", b"")
    assert_message(run("/empty"), 126, "Exec format error")


def test_text_without_an_interpreter_is_126_and_not_given_to_a_shell(run, tree):
    put(tree, "/bin/text", b"echo it ran > /ran\n")
    for name in ("/bin/text", "text"):
        assert_message(run(name), 126, "Exec format error")
    assert not (tree / "ran").exists()


def test_a_truncated_program_is_126(run, tree):
    busybox = (tree / "bin/busybox").read_bytes()
    for size in (4, 40, 70):
        put(tree, "/truncated", busybox[:size])
        assert_message(run("/truncated"), 126, "Exec format error")


def test_a_program_of_another_architecture_is_126(run, tree):
    busybox = bytearray((tree / "bin/busybox").read_bytes())
    busybox[18:20] = (2).to_bytes(2, "little")  # e_machine = EM_SPARC
    put(tree, "/sparc", bytes(busybox))
    assert_message(run("/sparc"), 126, "Exec format error")


def test_a_missing_interpreter_is_127_and_named(run, tree):
    put(tree, "/script", b"#!/opt/no/such/interpreter -x\necho it ran\n")
    assert_message(run("/script"), 127, "/script", "/opt/no/such/interpreter")


def test_a_missing_interpreter_of_a_script_in_path_is_127_and_named(run, tree):
    put(tree, "/bin/script", b"#!/opt/no/such/interpreter\n")
    assert_message(run("script"), 127, "script", "/opt/no/such/interpreter")


def test_a_missing_loader_is_127_and_named(run, tree, tmp_path):
    flag = "-Wl,--dynamic-linker=/lib/no-such-loader.so"
    put(tree, "/dynamic", build(tmp_path, "int main(void) { return 0; }", flag))
    assert_message(run("/dynamic"), 127, "/dynamic", "/lib/no-such-loader.so")


def test_a_loop_of_interpreters_is_126(run, tree):
    put(tree, "/one", b"#!/two\n")
    put(tree, "/two", b"#!/one\n")
    assert_message(run("/one"), 126, "/one")


def test_an_interpreter_line_that_is_too_long_is_126(run, tree):
    put(tree, "/long", b"#!/" + b"x" * 300 + b"\n")
    assert_message(run("/long"), 126, "/long")


def test_a_loop_of_links_is_126(run, tree):
    (tree / "loop").symlink_to("/loop")
    assert_message(run("/loop"), 126, "symbolic links")


def test_too_long_an_environment_is_126(run, cli, tree, tmp_path):
    file = tmp_path / "env"
    file.write_text("LONG=" + "x" * LONGEST_ARGUMENT)
    assert_message(cli("run", "--env-file", file, tree, "/bin/true"), 126, "Argument list too long")


def test_a_program_on_a_noexec_mount_is_126(cli, rootfs, tmp_path):
    (tmp_path / "script").write_bytes(SCRIPT)
    (tmp_path / "script").chmod(0o755)
    words = ("--volume", f"{tmp_path}:/mnt:noexec", rootfs, "/mnt/script")
    assert_message(cli("run", *words), 126, "Permission denied", "noexec")


# The search in PATH.


def test_a_file_of_path_that_may_not_be_executed_is_passed_over(run, tree):
    (tree / "denied").mkdir()
    put(tree, "/denied/tool", SCRIPT, 0o644)
    put(tree, "/opt/tool", SCRIPT)
    done = run("tool", path="/denied:/opt:/bin")
    assert (done.returncode, done.stdout) == (0, b"it ran\n")


def test_when_only_such_a_file_is_in_path_it_is_126(run, tree):
    (tree / "denied").mkdir()
    put(tree, "/denied/tool", SCRIPT, 0o644)
    assert_message(run("tool", path="/denied:/bin"), 126, "tool", "Permission denied")


def test_a_directory_of_path_that_may_not_be_searched_is_passed_over(cli, tree):
    (tree / "secret").mkdir(mode=0o700)
    put(tree, "/secret/tool", SCRIPT)
    put(tree, "/opt/tool", SCRIPT)
    words = ("--user", "1000", "--env", "PATH=/secret:/opt:/bin", tree, "tool")
    done = cli("run", *words)
    assert (done.returncode, done.stdout) == (0, b"it ran\n")
    (tree / "opt/tool").unlink()
    assert_message(cli("run", *words), 126, "Permission denied")


def test_path_is_searched_in_order_and_an_empty_part_is_the_working_directory(cli, tree):
    put(tree, "/opt/tool", b"#!/bin/sh\necho opt\n")
    put(tree, "/srv/tool", b"#!/bin/sh\necho srv\n")

    def found(path):
        return cli("run", "--workdir", "/srv", "--env", f"PATH={path}", tree, "tool").stdout

    assert found("/opt:/srv") == b"opt\n"
    assert found("/srv:/opt") == b"srv\n"
    assert found("/nowhere:/etc/passwd:") == b"srv\n"


# The same as exceptions, and what only the library can ask for.


@pytest.mark.parametrize(
    ("args", "kind", "number"),
    [
        (["/no/such"], minibox.CommandNotFound, errno.ENOENT),
        (["no-such"], minibox.CommandNotFound, errno.ENOENT),
        (["/etc"], minibox.CannotExecute, errno.EACCES),
        (["/etc/passwd/x"], minibox.CannotExecute, errno.ENOTDIR),
        (["/bin/echo", "x" * LONGEST_ARGUMENT], minibox.CannotExecute, errno.E2BIG),
        (["/bin/echo", *["x" * 100_000] * 100], minibox.CannotExecute, errno.E2BIG),
    ],
    ids=["absolute", "in PATH", "directory", "through a file", "one argument", "all arguments"],
)
def test_the_library_raises_what_the_command_line_ends_with(rootfs, args, kind, number):
    with pytest.raises(kind) as caught:
        minibox.run(args, rootfs=rootfs)
    assert caught.value.errno == number
    assert isinstance(caught.value, OSError)
    assert caught.value.exit_code == (127 if kind is minibox.CommandNotFound else 126)


def test_arguments_up_to_the_kernels_limit_are_passed(rootfs):
    args = ["x" * 100_000] * 15
    result = minibox.run(["/bin/sh", "-c", 'echo $# "$*" | wc -c', "sh", *args], rootfs=rootfs)
    assert int(result.stdout) == len("15 ") + 15 * 100_001


def test_a_nul_byte_is_refused_before_anything_is_made(rootfs):
    with pytest.raises(minibox.SpecError):
        minibox.run(["/bin/echo", "a\0b"], rootfs=rootfs)


def test_after_each_failure_the_next_run_succeeds(cli, tree):
    for command in ("/no/such", "/etc", "no-such"):
        assert cli("run", tree, command).returncode in (126, 127)
        assert cli("run", tree, "/bin/true").returncode == 0
