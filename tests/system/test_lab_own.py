# SPDX-License-Identifier: Apache-2.0
"""Experiments of the user's own: where they are found, and whatever they do, what is wrong is said."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import sysconfig
import textwrap
import time
from pathlib import Path

import pytest

from minibox import lab
from minibox.lab.result import DIFFERS, HOLDS
from tests.ordinary import DROP, REPOSITORY, uncover
from tests.processes import marked

COMMAND = Path(sys.executable).with_name("minibox")
EXAMPLE = REPOSITORY / "docs/examples/own_experiment.py"
HEAD = """\
import os, signal, sys
import cffi
from minibox import lab
from minibox import syscalls as sc

@lab.experiment(sc.CLONE_VM, source="here", timeout={timeout},
                expected={{"with": {{"it": 1}}, "without": {{"it": 1}}}})
def {name}(run):
    \"\"\"It is 1.\"\"\"
"""


def written(directory, body, name="mine", timeout=20.0):
    """A file with one experiment: the path as people type it, relative to its directory."""
    text = HEAD.format(name=name, timeout=timeout) + textwrap.indent(textwrap.dedent(body), "    ")
    (directory / f"{name}.py").write_text(text)
    return f"./{name}.py"


@pytest.fixture
def run(tmp_path):
    """`run("run", "./mine.py")`: minibox lab, started where the files are."""

    def start(*words, command=(COMMAND, "lab"), **how):
        how = {"cwd": tmp_path, "timeout": 120, **how}
        return subprocess.run([*command, *words], capture_output=True, text=True, **how)

    return start


@pytest.fixture
def result(tmp_path, run):
    """`result(body)`: the experiment of that body as data, with the exit code as `code`."""

    def perform(body, **how):
        done = run("run", "--json", written(tmp_path, body, **how))
        assert done.stderr == ""
        (one,) = json.loads(done.stdout)
        return one | {"code": done.returncode}

    return perform


# Where they are found.


def test_the_example_holds_and_shows_the_users_function(run):
    done = run("show", EXAMPLE)
    assert done.returncode == 0, done.stderr
    assert "call(twice, &word) = 42" in done.stdout
    assert "verdict: holds" in done.stdout


def test_the_example_notices_when_its_flag_is_not_there():
    (one,) = lab.find([str(EXAMPLE)])
    assert lab.perform(one).verdict == HOLDS
    assert lab.perform(one, taken_out=one.flags).verdict == DIFFERS


def test_the_example_for_an_ordinary_user():
    words = shlex.join([*DROP, str(COMMAND), "lab", "run", str(EXAMPLE)])
    script = f"{uncover()}\ncd /; exec {words}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["holds", "own-experiment"], done.stderr


def test_a_function_of_a_library_is_a_pointer_as_it_is(result):
    """getppid(2) of the C library, which neither fails nor sets errno."""
    one = result("""
        ffi = cffi.FFI()
        ffi.cdef("long getppid(void *unused);")
        getppid = lab.pointer(ffi.dlopen(None).getppid, "getppid")
        with run.clone([sc.call(getppid)]) as child:
            child.wait()
            run.saw("it", int(child.report().results[0] == os.getpid()))
    """)
    assert one["verdict"] == HOLDS, one["why"]


def test_a_callback_is_refused(result):
    one = result("""
        ffi = cffi.FFI()
        with run.clone([sc.call(lab.pointer(ffi.callback("long(void *)", lambda _: 1)))]) as child:
            child.wait()
    """)
    assert (one["verdict"], one["code"]) == (DIFFERS, 1)
    assert "it must be a C function" in one["why"]


def package(directory, entry):
    """Install a package that offers experiments: a folder with its facts, which Python looks for in
    each directory of its path. The command with that directory in the path."""
    facts = directory / "their_lab-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: their-lab\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[minibox.experiments]\n{entry}\n")
    code = "import sys; sys.path.append(sys.argv.pop(1)); from minibox.cli import main; main(sys.argv[1:])"
    return [sys.executable, "-I", "-c", code, str(directory), "lab"]


@pytest.mark.parametrize("entry", ["theirs = theirs", "one = theirs:theirs"])
def test_an_installed_package_offers_some(run, tmp_path, entry):
    """Its module, or an experiment of it."""
    written(tmp_path, 'run.saw("it", 1)', name="theirs")
    command = package(tmp_path, entry)
    assert run("run", "theirs", command=command, cwd="/").stdout.split() == ["holds", "theirs"]
    listed = run("list", command=command, cwd="/").stdout
    assert "  theirs " in listed.partition("Your own\n")[2]


def test_the_command_looks_where_python_looks(run, tmp_path):
    """In the folders that .pth files add, as for a package that is installed to be edited."""
    written(tmp_path, 'run.saw("it", 1)', name="theirs")
    package(tmp_path, "theirs = theirs")
    link = Path(sysconfig.get_path("purelib")) / f"minibox-test-{os.getpid()}.pth"
    link.write_text(f"{tmp_path}\n")
    try:
        assert run("run", "theirs", cwd="/").stdout.split() == ["holds", "theirs"]
    finally:
        link.unlink()


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("broken = nowhere", "entry point broken: ModuleNotFoundError: No module named 'nowhere'"),
        ("broken = vm:nothing", "entry point broken: AttributeError: module 'vm' has no attribute"),
        ("again = vm", "entry point again: vm: there is an experiment of that name already"),
    ],
)
def test_a_package_that_is_broken_is_named(run, tmp_path, entry, said):
    written(tmp_path, 'run.saw("it", 1)', name="vm")
    done = run("list", command=package(tmp_path, entry), cwd="/")
    assert done.returncode == 125
    assert done.stderr.startswith(f"minibox: {said}")
    assert done.stderr.count("\n") == 1


# What is no experiment.


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such Python file"),
        ("def f(:\n", "SyntaxError: invalid syntax (mine.py, line 1)"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit('two\\nlines')\n", r"SystemExit: two\nlines"),
        ("x = 1\n", "there is no experiment in it"),
        (HEAD.format(name="mine", timeout=1).replace("It is 1.", ""),
         "TypeError: mine: the docstring, which is the hypothesis, is missing"),
    ],
)  # fmt: skip
def test_what_is_no_experiment_is_said(run, tmp_path, text, said):
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    done = run("run", "./mine.py")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == f"minibox: NAME: ./mine.py: {said}\n"


def test_a_name_that_is_taken_is_refused(run, tmp_path):
    path = written(tmp_path, 'run.saw("it", 1)', name="vm")
    done = run("run", path)
    assert done.returncode == 125
    assert done.stderr == "minibox: ./vm.py: vm: there is an experiment of that name already\n"


def test_a_file_may_be_called_as_a_module_of_pythons(run, tmp_path):
    path = written(tmp_path, 'run.saw("it", 1)', name="json")
    text = (tmp_path / "json.py").read_text()
    lines = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    (tmp_path / "json.py").write_text(f"{lines}@dataclass\nclass Some:\n    n: int\n{text}")
    done = run("run", path)
    assert done.stdout.split() == ["holds", "json"], done.stderr


# What goes wrong in one: exit code 1, the verdict is `differs`, and the reason is there.

KILL_PARENT = """
child = os.fork()
if child == 0:
    os.kill(os.getppid(), signal.SIGKILL)
    os._exit(0)
os.waitpid(child, 0)
signal.pause()
"""
KILLED = "with: its process was killed by SIGKILL, and wrote nothing down"
BAD = {
    "an exception": ("\n1 / 0", "with: ZeroDivisionError: division by zero (mine.py, line 11)"),
    "of two lines": ("raise ValueError('two\\nlines')", r"with: ValueError: two\nlines"),
    "an exit": ("sys.exit(3)", "with: SystemExit: 3"),
    "an exit at once": ("os._exit(3)", "with: its process ended with 3, and wrote nothing down"),
    "another program": (
        "os.execv('/bin/true', ['true'])",
        "with: its process ended with 0, and wrote nothing down",
    ),
    "killed by its child": (KILL_PARENT, KILLED),
    "all killed": (
        "os.fork() or signal.pause()\nos.kill(-1, signal.SIGKILL)\nos.kill(os.getpid(), signal.SIGKILL)",
        KILLED,
    ),
    "what is not text": ("run.saw('it', b'1')", "with: TypeError: Object of type bytes"),
    "no end": ("while True: signal.pause()", "with: it was not over after 0.7 s"),
    "nothing": ("pass", "with: it: expected 1, and it was not seen"),
    "too much": ("run.saw('it', 'x' * (17 << 20))", "bytes were written down, and"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_goes_wrong_is_said(result, name):
    body, why = BAD[name]
    one = result(body, timeout=0.7 if name == "no end" else 20.0)
    assert one["verdict"] == DIFFERS
    assert why in one["why"]
    # That something was not seen is a finding about the kernel.
    assert one["code"] == (0 if name == "nothing" else 1)


def test_one_that_hangs_leaves_no_process(run, tmp_path):
    """It and all its children are gone when the command ends."""
    body = """
        for _ in range(3):
            os.fork()
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
        while True:
            signal.pause()
    """
    mark = f"MINIBOX_TEST_MARK=own.{os.getpid()}"
    name, _, value = mark.partition("=")
    path = written(tmp_path, body, timeout=0.5)
    done = run("run", path, env={**os.environ, name: value})
    assert done.returncode == 1
    assert marked(mark.encode()) == []


SEGV = """
ffi = cffi.FFI()
nowhere = lab.pointer(ffi.cast("long (*)(void *)", 8), "nowhere")
with run.clone([sc.call(nowhere)]) as child:
    run.saw("it", int(child.wait().signal == signal.SIGSEGV))
"""


def test_a_child_that_segfaults_is_the_experiments_to_see(result):
    """In shared memory as well."""
    one = result(SEGV)
    assert (one["verdict"], one["code"]) == (HOLDS, 0), one["why"]


def test_a_thread_that_segfaults_takes_its_process_along(result):
    one = result(SEGV.replace("sc.call(nowhere)]", "sc.call(nowhere)], THREAD").replace(
        "ffi =", "THREAD = sc.CLONE_VM | sc.CLONE_SIGHAND | sc.CLONE_THREAD\nffi ="
    ))  # fmt: skip
    assert (one["verdict"], one["code"]) == (DIFFERS, 1)
    assert "with: its process was killed by SIGSEGV, and wrote nothing down" in one["why"]


@pytest.mark.parametrize("who", ["it", "its child"])
def test_one_that_closes_all_files_still_has_its_say(result, who):
    """And so that the number of a file means another: what it writes down goes to no file."""
    close = {
        "it": "os.closerange(0, 4096)",
        "its child": """
with run.clone([lab.op("close_range", 0, 4096, 0)], sc.CLONE_FILES, exact=True) as child:
    os.waitpid(child.pid, 0)
""",
    }[who]
    one = result(f"{close}\nrun.saw('it', 1)")
    assert (one["verdict"], one["code"]) == (HOLDS, 0), one["why"]


def test_a_mebibyte_of_observations_arrives(result):
    one = result("""
        run.saw("it", 1)
        run.saw("much", "x" * (1 << 20))
        for k in range(1000):
            run.saw(f"number {k}", k)
    """)
    assert (one["verdict"], one["code"]) == (HOLDS, 0), one["why"]
    assert len(one["observed"]["with"]["much"]) == 1 << 20
    assert one["observed"]["without"]["number 999"] == 999


def test_what_it_prints_is_printed(run, tmp_path):
    done = run("run", written(tmp_path, "print('seen by', run.name)\nrun.saw('it', 1)"))
    assert done.stdout.splitlines()[:2] == ["seen by with", "seen by without"]


def test_many_in_a_row_leave_no_file_open(tmp_path):
    """In one process, as a program of the user's may perform them."""
    (one,) = lab.find([str(tmp_path / written(tmp_path, "run.saw('it', 1)"))])
    before = os.listdir("/proc/self/fd")
    began = time.monotonic()
    for _ in range(20):
        assert lab.perform(one).verdict == HOLDS
    assert os.listdir("/proc/self/fd") == before
    assert time.monotonic() - began < 60
