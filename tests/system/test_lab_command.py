# SPDX-License-Identifier: Apache-2.0
"""minibox lab, as people type it."""

from __future__ import annotations

import errno
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minibox import lab
from tests.ordinary import DROP, uncover
from tests.processes import marked

COMMAND = Path(sys.executable).with_name("minibox")
QUICK = ("vm", "newuts")
# More than the whole lab takes on a busy machine.
LONG = 600


def run(*words, code=0, **how):
    how.setdefault("timeout", LONG)
    done = subprocess.run([COMMAND, "lab", *words], capture_output=True, text=True, **how)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_the_list_has_all():
    text = run()
    assert text == run("list")
    for one in lab.catalogue():
        assert f"  {one.name} " in text
        assert one.hypothesis in text


def test_the_list_as_data():
    names = [one["name"] for one in json.loads(run("list", "--json"))]
    assert names == [one.name for one in lab.catalogue()]
    assert [one["name"] for one in json.loads(run("list", "--json", "vm"))] == ["vm"]


def test_a_run_is_a_line_each():
    lines = run("run", *QUICK).splitlines()
    assert [line.split() for line in lines] == [["holds", name] for name in QUICK]


def test_a_run_as_data():
    data = json.loads(run("run", "--json", *QUICK))
    assert [one["name"] for one in data] == list(QUICK)
    assert {one["verdict"] for one in data} == {"holds"}
    assert {one["kernel"] for one in data} == {os.uname().release}
    steps = [step for call in data[1]["plans"]["with"] for step in call["steps"]]
    assert {"call": 'sethostname("inside", 6)', "returned": "0"} in steps


def test_show_tells_the_whole_story():
    text = run("show", "newuts")
    for word in (
        "with\n",
        "without\n",
        "clone3({flags=",
        "CLONE_NEWUTS",
        "verdict: holds",
        "source:",
    ):
        assert word in text


def test_a_report_is_a_page(tmp_path):
    path = tmp_path / "out.html"
    run("run", "--report", path, *QUICK)
    text = path.read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert all(f'id="{name}"' in text for name in QUICK)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run",), "minibox: NAME: name experiments, or say --all\n"),
        (("run", "--all", "vm"), "minibox: NAME: name experiments, or say --all\n"),
        (("run", "nonsense"), "minibox: NAME: nonsense: no such experiment (minibox lab lists them)\n"),
        (("run", "./no/such.py"), "minibox: NAME: ./no/such.py: no such Python file\n"),
        (("show",), "minibox: NAME: no experiment is named\n"),
        (("dance",), "minibox: ACTION: 'dance' is none of list, run, show\n"),
        (("show", "vm", "--report", "x"), "minibox: --report: it goes with run\n"),
        (("run", "vm", "--report", "/no/such/out.html"),
         "minibox: --report: /no/such/out.html: No such file or directory\n"),
        (("run", "vm", "--report", ""), "minibox: --report: empty: No such file or directory\n"),
        (("run", "vm", "--report", "/dev/full"),
         "minibox: --report: /dev/full: No space left on device\n"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_said(words, said):
    assert run(*words, code=125) == said


def test_an_output_that_is_closed_is_an_error():
    command = f"{shlex.quote(str(COMMAND))} lab list >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=LONG)
    assert (done.returncode, done.stderr) == (125, b"minibox: Bad file descriptor\n")


# Runs a command to which a seccomp filter answers some calls with an errno.
FILTERED = """
import ctypes, os, struct, sys
from minibox import core
from minibox.numbers import NUMBERS
error, names, *command = sys.argv[1:]
code = [(0x20, 0, 0, 0)]  # the number of the call
for name in names.split():
    code += [(0x15, 0, 1, NUMBERS[name]), (6, 0, 0, 0x50000 | int(error))]
code.append((6, 0, 0, 0x7FFF0000))
data = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in code))
core.syscall(NUMBERS["prctl"], 38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
core.syscall(NUMBERS["prctl"], 22, 2, struct.pack("@HP", len(code), ctypes.addressof(data)), 0, 0)
os.execv(command[0], command)
"""


def filtered(error, calls, *words):
    command = [sys.executable, "-I", "-c", FILTERED, str(error), calls, COMMAND, "lab", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=LONG)


@pytest.mark.parametrize(
    ("error", "call", "names"),
    [
        (errno.ENOSYS, "clone3", ("flags", "rules")),
        (errno.EPERM, "clone3", ("rules",)),
        (errno.EPERM, "kcmp", ("vm", "surprising", "vfork-by-flags")),
        (errno.EPERM, "ptrace", ("ptrace", "untraced", "fork-and-thread")),
    ],
)
def test_a_filter_around_the_lab_is_no_finding_about_the_kernel(error, call, names):
    """As in containers: what it keeps from being shown is unsupported, and differs from nothing."""
    done = filtered(error, call, "run", "--json", *names)
    assert done.returncode == 0, done.stderr + done.stdout
    verdicts = {one["name"]: one["verdict"] for one in json.loads(done.stdout)}
    verdicts.pop("manual-differs", None)
    assert "unsupported" in verdicts.values()
    assert "differs" not in verdicts.values(), verdicts


@pytest.mark.parametrize(
    ("error", "calls", "said"),
    [
        (errno.EPERM, "clone clone3", "minibox: fork: Operation not permitted\n"),
        (errno.ENOSYS, "pidfd_open", "minibox: pidfd_open: Function not implemented\n"),
        (errno.EPERM, "unshare",
         "minibox: unshare: Operation not permitted\n"
         "  hint: the lab needs root, or a user namespace\n"),
    ],
)  # fmt: skip
def test_what_no_bench_can_be_made_for_is_named(error, calls, said):
    done = filtered(error, calls, "run", "vm")
    assert (done.returncode, done.stderr) == (125, said)


def test_a_limit_of_namespaces_is_no_finding_about_the_kernel():
    command = f"{shlex.quote(str(COMMAND))} lab run --json newuser rejections-rights surprising"
    script = f"echo 0 > /proc/sys/user/max_user_namespaces; {command}"
    words = ["unshare", "--user", "--map-root-user", "sh", "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stderr + done.stdout
    user, rights, surprising = json.loads(done.stdout)
    assert user["verdict"] == surprising["verdict"] == "unsupported"
    assert "No space left on device" in user["why"]
    assert rights["verdict"] == "holds", rights["why"]
    assert rights["skipped"]["clone3"]


def test_a_reader_that_goes_away_is_no_error():
    words = f"{shlex.quote(str(COMMAND))} lab run vm newuts vm newuts | true"
    done = subprocess.run(["sh", "-c", words], capture_output=True, timeout=LONG)
    assert done.stderr == b""


def test_an_ordinary_user_gets_what_is_possible():
    """In a user namespace that the bench makes: nothing goes wrong, and hardly anything is missing."""
    words = [*DROP, str(COMMAND), "lab", "run", "--all", "--json"]
    script = f"{uncover()}\ncd /; exec {shlex.join(words)}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=LONG
    )
    assert done.returncode == 0, done.stderr + done.stdout
    data = {one["name"]: one for one in json.loads(done.stdout)}
    assert data["vm"]["verdict"] == data["newuts"]["verdict"] == "holds"
    missing = [name for name, one in data.items() if one["verdict"] == "unsupported"]
    assert len(missing) <= len(data) / 4, missing


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_lab_that_is_killed_leaves_nothing(number):
    """At moments of its runs: all that it has made ends with it."""
    mark = f"MINIBOX_TEST_MARK={os.getpid()}.{number}".encode()
    name, _, value = mark.decode().partition("=")
    for _ in range(12):
        words = [COMMAND, "lab", "run", *QUICK * 20]
        process = subprocess.Popen(words, env={**os.environ, name: value}, stdout=subprocess.PIPE)
        with process:
            for _ in range(random.randrange(1, 20)):
                process.stdout.readline()
            process.send_signal(number)
            process.wait(LONG)
        deadline = time.monotonic() + 10
        while left := marked(mark):
            assert time.monotonic() < deadline, left


def test_a_program_that_ignores_its_children_gets_the_verdict():
    code = """
import signal
from minibox import lab
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print(lab.perform(lab.find(["vm"])[0]).verdict)
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.stdout == "holds\n", done.stderr
