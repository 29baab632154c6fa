# SPDX-License-Identifier: Apache-2.0
"""The command line itself: plan, trace, help, usage errors."""

import json
import os
import select
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("minibox")


def test_a_plan_is_printed_and_nothing_is_run(cli, tree):
    done = cli("plan", "--volume", "/:/made/for/a/volume", tree, "/bin/touch", "/made-by-a-run")
    lines = done.stdout.decode().splitlines()
    assert (done.returncode, done.stderr) == (0, b"")
    assert any('execve("/bin/touch", ["/bin/touch", "/made-by-a-run"]' in line for line in lines)
    assert any("CLONE_NEWUSER" in line for line in lines)
    assert not (tree / "made").exists() and not (tree / "made-by-a-run").exists()
    steps = [int(line.split()[0]) for line in lines if line.split()[1] in ("parent", "child")]
    assert steps == list(range(1, len(steps) + 1))
    assert all(" # " in line for line in lines if line.split()[1] in ("parent", "child"))


def test_a_plan_as_data_says_the_same(cli, rootfs):
    data = json.loads(cli("plan", "--json", rootfs, "true").stdout)
    text = cli("plan", rootfs, "true").stdout.decode()
    for step in data["steps"]:
        assert f"{step['call']}({', '.join(step['args'])})" in text
    assert data["steps"][-1]["call"] == "execve"


def test_a_plan_needs_no_root():
    """Nobody's ids from before the verb on; the interpreter may lie where only root can look."""
    code = (
        "import os, sys, minibox.cli.plan, minibox.cli.options, minibox.cli.quick\n"
        "b'x'.decode('latin-1').encode('unicode_escape')\n"  # codecs are imported late
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "minibox.cli.main(['plan', '/usr', '/bin/true'])\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"pivot_root" in done.stdout and b'uid_map "0 65534 1' in done.stdout


def test_the_trace_has_the_plans_lines_with_results(cli, rootfs):
    done = cli("run", "--trace", rootfs, "/bin/echo", "hi")
    assert (done.returncode, done.stdout) == (0, b"hi\n")
    lines = done.stderr.decode().splitlines()
    planned = cli("plan", rootfs, "/bin/echo", "hi").stdout.decode().splitlines()
    names = [
        line.split("(")[0].split()[2] for line in planned if line.split()[1] in ("parent", "child")
    ]
    traced = [line for line in lines if line.split()[1] in ("parent", "child")]
    assert [line.split(" us ")[1].split("(")[0] for line in traced] == names
    assert any('pivot_root(".", ".") = 0' in line for line in traced)
    assert float(traced[20].split()[2]) >= 0


def test_the_trace_of_a_failure_ends_where_it_failed(cli, rootfs):
    done = cli("run", "--trace", "--workdir", "/nowhere", rootfs, "/bin/true")
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 125
    last = [line for line in lines if " us " in line][-1]
    assert 'openat2(AT_FDCWD, "/nowhere"' in last and "ENOENT" in last
    assert "minibox: openat2 /nowhere: No such file or directory" in lines


@pytest.mark.parametrize(
    "words", [("--help",), ("run", "--help"), ("plan", "--help"), ("rootfs", "build", "--help")]
)
def test_help(cli, words):
    done = cli(*words)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"Usage: minibox")


def test_every_option_is_in_the_help(cli):
    from minibox.cli.verbs import VERBS

    for verb in VERBS:
        text = cli(verb.name, "--help").stdout.decode()
        for option in verb.options:
            assert all(name in text for name in option.names)


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",), ("run",), ("run", "/tmp"), ("run", "--nonsense", "/tmp", "true"), ("run", "--env"),
        ("run", "--init=yes", "/tmp", "true"), ("run", "-x", "/tmp", "true"), ("rootfs",), ("rootfs", "build"),
        ("run", "--tty", "--no-tty", "/tmp", "true"), ("run", "--size", "1m", "/tmp", "true"),
        ("run", "--timeout", "soon", "/tmp", "true"), ("run", "--timeout", "", "/tmp", "true"),
        ("run", "--user", "", "/tmp", "true"), ("run", "--cap-add", "NONSENSE", "/tmp", "true"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_usage_error_is_one_message_and_125(cli, words):
    done = cli(*words)
    if words == ("rootfs",):  # click shows the group's help
        assert done.returncode in (0, 125)
        return
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout) == (125, b"")
    assert lines[0].startswith("minibox: ")
    assert all(line.startswith("  ") for line in lines[1:])


def test_options_end_where_the_arguments_begin(cli, rootfs):
    done = cli("run", "--", rootfs, "/bin/echo", "--help", "-e", "--", "--init")
    assert done.stdout == b"--help -e -- --init\n"


def test_the_traceback_is_there_when_asked_for(cli, rootfs):
    words = ("run", "--workdir", "nowhere", rootfs, "true")
    assert b"Traceback" not in cli(*words).stderr
    assert b"Traceback" in cli(*words, env={**os.environ, "MINIBOX_DEBUG": "1"}).stderr


def test_the_version(cli):
    import minibox

    assert cli("--version").stdout.decode().split() == ["minibox", minibox.__version__]


def test_capabilities_are_kept_and_dropped_by_name(cli, rootfs):
    def kept(*options):
        text = cli("run", *options, rootfs, "/bin/grep", "-E", "^Cap", "/proc/self/status").stdout
        return {line.split()[0]: int(line.split()[1], 16) for line in text.decode().splitlines()}

    default = kept()
    assert default["CapEff:"] == default["CapPrm:"] == default["CapBnd:"]
    assert default["CapInh:"] == default["CapAmb:"] == 0
    assert not default["CapBnd:"] >> 21 & 1, "CAP_SYS_ADMIN"
    assert kept("--cap-add", "sys_admin")["CapEff:"] == default["CapEff:"] | 1 << 21
    assert kept("--cap-drop", "ALL")["CapBnd:"] == 0
    assert kept("--cap-drop", "ALL", "--cap-add", "CAP_KILL")["CapEff:"] == 1 << 5
    assert kept("--user", "1000")["CapEff:"] == 0


def test_minibox_dies_with_its_parent_when_asked_to(rootfs):
    """A shell that is killed, between pytest and minibox; the pipe's end tells that all are gone."""
    words = [
        str(COMMAND),
        "run",
        "--die-with-parent",
        rootfs,
        "/bin/sh",
        "-c",
        "echo up; sleep 1000",
    ]
    script = f"{shlex.join(words)} & wait"
    with subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE) as shell:
        assert shell.stdout.readline() == b"up\n"
        shell.kill()
        assert select.select([shell.stdout], [], [], 5)[0]
        assert shell.stdout.read() == b""


def test_asked_to_end_twice_it_is_ended(rootfs):
    script = "trap 'echo asked' TERM; echo up; while :; do sleep 1000 & wait $!; done"
    words = [str(COMMAND), "run", rootfs, "/bin/sh", "-c", script]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as minibox:
        assert minibox.stdout.readline() == b"up\n"
        minibox.terminate()
        assert minibox.stdout.readline() == b"asked\n"
        minibox.terminate()
        assert minibox.wait(10) == 137


def test_a_directory_as_stdin_is_one_message(cli, rootfs, tmp_path):
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        done = cli("run", rootfs, "/bin/true", stdin=directory)
    finally:
        os.close(directory)
    assert (done.returncode, done.stderr) == (125, b"minibox: stdin is a directory\n")
