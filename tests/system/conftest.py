# SPDX-License-Identifier: Apache-2.0
"""What the system tests share: a shell inside, refusals, helpers with namespaces of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from minibox import life
from minibox.cli import containers, quick, shown
from minibox.cli.verbs import VERBS
from minibox.errors import NoSuchContainer, StateError
from minibox.resident import Resident, residents
from minibox.spec import DEFAULT_MASKED, DEFAULT_READONLY
from minibox.store import Store
from tests.conftest import PATIENCE

# Mount points inside that cover what is the kernel's: test_restrictions.py.
COVERED = {os.fsdecode(path) for path in (*DEFAULT_MASKED, *DEFAULT_READONLY)}
COMMAND = Path(sys.executable).with_name("minibox")


@pytest.fixture
def inside(cli, rootfs):
    """`inside("id -u", "--user", "5", root=tree)`: what a shell inside prints, as text.

    The script must succeed and say nothing on stderr.
    """

    def run(script, *options, root=rootfs, **how):
        done = cli("run", *options, root, "/bin/sh", "-c", script, **how)
        assert (done.returncode, done.stderr) == (0, b""), done
        return os.fsdecode(done.stdout).removesuffix("\n")

    return run


@pytest.fixture
def refused(cli):
    """`refused("--share", "mnt", rootfs, "/bin/true")`: minibox run fails; its one message."""

    def run(*words, code=125, **how):
        done = cli("run", *words, **how)
        lines = os.fsdecode(done.stderr).splitlines()
        assert (done.returncode, done.stdout) == (code, b""), done
        assert lines and lines[0].startswith("minibox: "), done
        assert all(line.startswith("  ") for line in lines[1:]), done
        return "\n".join(lines)

    return run


class Helper:
    """A process in namespaces of its own, made by unshare(1), that waits for its end."""

    def __init__(self, flags, script):
        words = ["unshare", *flags, "sh", "-ec", f"{script}\necho ready\nexec cat"]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"
        self.pid = self.process.pid

    @property
    def child(self):
        """The pid of its only child (unshare --fork)."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()[0])

    def mounts(self):
        """The lines of its mountinfo."""
        return Path(f"/proc/{self.pid}/mountinfo").read_text().splitlines()

    def run(self, *words, cwd="/", **how):
        """Run a command in its mount namespace."""
        how.setdefault("stdin", subprocess.DEVNULL)
        enter = ["nsenter", "-t", str(self.pid), "-m", "--", "env", "-C", str(cwd)]
        return subprocess.run([*enter, *words], capture_output=True, timeout=60, **how)

    def minibox(self, *words, **how):
        """`minibox run` there."""
        return self.run(str(COMMAND), "run", *map(str, words), **how)

    def start(self, *words):
        """Start `minibox run` there, with pipes; the first line it prints must be `ready`."""
        enter = ["nsenter", "-t", str(self.pid), "-m", "--", str(COMMAND), "run"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([*enter, *map(str, words)], **pipes)
        line = process.stdout.readline()
        if line != b"ready\n":
            _, errors = process.communicate()
            pytest.fail(f"the container did not start: {line!r} {os.fsdecode(errors)}")
        return process

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(10)


@pytest.fixture
def helper():
    """`helper("-m", script="mount …")`: a Helper; it ends with the test."""
    made = []

    def make(*flags, script=":"):
        made.append(Helper(flags, script))
        return made[-1]

    yield make
    for one in reversed(made):
        one.close()


@pytest.fixture
def until():
    """`until(lambda: …)` polls until the function gives something true, 10 s at most."""

    def poll(function):
        deadline = time.monotonic() + 10 * PATIENCE
        while not (value := function()):
            assert time.monotonic() < deadline, "it did not happen within 10 s"
            time.sleep(0.002)
        return value

    return poll


SLEEP = ("sleep", "1000")


class Box:
    """The containers below a --root of their own. `box("ps", "-a")` runs the command."""

    def __init__(self, root, rootfs):
        self.root = root
        self.rootfs = rootfs
        self._begun = []

    def words(self, *words):
        """The command line."""
        words = [word if isinstance(word, bytes) else str(word) for word in words]
        return [str(COMMAND), "--root", str(self.root), *words]

    def begin(self, *words, **how):
        """Start the command and go on. It is killed with the test, if it is still there then."""
        how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **how}
        how.setdefault("stderr", subprocess.PIPE)
        process = subprocess.Popen(self.words(*words), **how)
        self._begun.append(process)
        return process

    def finish(self, process, patience=60):
        """Its end, as a CompletedProcess; so many seconds at most."""
        deadline = time.monotonic() + patience * PATIENCE
        while True:
            try:
                stdout, stderr = process.communicate(timeout=0.05)
            except subprocess.TimeoutExpired:
                reap_guests()
                assert time.monotonic() < deadline, f"it does not end: {process.args}"
            else:
                return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def __call__(self, *words, input=None, **how):
        if input is not None:
            with tempfile.TemporaryFile() as file:
                file.write(input)
                file.seek(0)
                return self.finish(self.begin(*words, stdin=file, **how))
        return self.finish(self.begin(*words, **how))

    def do(self, *words, **how):
        """It must succeed and say nothing on stderr; what it prints, as text."""
        done = self(*words, **how)
        assert (done.returncode, done.stderr) == (0, b""), done
        return os.fsdecode(done.stdout).removesuffix("\n")

    def refused(self, *words, code=125, **how):
        """It must fail with one message and print nothing; the message."""
        done = self(*words, **how)
        lines = os.fsdecode(done.stderr).splitlines()
        assert (done.returncode, done.stdout) == (code, b""), done
        assert lines and lines[0].startswith("minibox: "), done
        assert all(line.startswith("  ") for line in lines[1:]), done
        assert "internal error" not in lines[0], done
        return "\n".join(lines)

    # These two are what `minibox run -d` and `minibox create` do, without the interpreter's start.

    def run(self, *options, **what):
        """A container that runs detached; its name."""
        name = self.create(*options, **what)
        life.start(self.resident(name))
        return name

    def create(self, *options, command=SLEEP, name="c", root=None):
        """A container that is not started; its name."""
        words = ("--name", name, *options, root or self.rootfs, *command)
        verb = next(verb for verb in VERBS if verb.name == "create")
        values = quick.parse(verb, [os.fsdecode(word) for word in map(_text, words)])
        assert values is not None, words
        options, wanted = containers.asked(values)
        root, *args = values["args"]
        life.create(Store(str(self.root)), args, root, options, wanted)
        return name

    def resident(self, name="c"):
        """The library's view of it, which costs no process."""
        return Resident.find(Store(str(self.root)), name)

    def inspect(self, name="c"):
        """What `minibox inspect` says of it."""
        resident = self.resident(name)
        return shown.whole(resident, resident.state())

    def state(self, name="c"):
        """inspect's State."""
        return self.inspect(name)["State"]

    def status(self, name="c"):
        return self.state(name)["Status"]

    def names(self):
        """Of all containers."""
        found = set()
        for resident in residents(Store(str(self.root))):
            with contextlib.suppress(NoSuchContainer):  # it goes while we look
                found.add(resident.name)
        return found

    def files(self, name="c"):
        """Its directory."""
        return Path(self.resident(name).directory.path)

    def log(self, name="c"):
        """What it has written, as its log has it."""
        return (self.files(name) / "log").read_bytes()

    def settle(self, *others):
        """Wait until we have no child but the monitors of what runs, and these others."""
        states = [resident.state() for resident in residents(Store(str(self.root)))]
        kept = {state.monitor for state in states if state.is_running} | set(others)
        deadline = time.monotonic() + 10 * PATIENCE
        while gone := set(children()) - kept:
            assert time.monotonic() < deadline, f"they do not end: {gone}"
            for pid in gone:
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    pass

    def close(self):
        for process in self._begun:
            if process.poll() is None:
                process.kill()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()
            process.wait()
        over = threading.Event()
        reaper = threading.Thread(target=_reap_until, args=(over,))
        reaper.start()
        try:
            for resident in residents(Store(str(self.root))):
                self._remove(resident)
            assert not Store(str(self.root)).ids()
        finally:
            over.set()
            reaper.join()
            self._end_by_hand()

    def _remove(self, resident):
        try:
            life.remove(resident, force=True)
        except StateError:
            if resident.directory.files():  # else it has removed itself
                raise

    def _end_by_hand(self):
        """A test that has failed, or found out how not to remove, must not be the next one's."""
        for pid in children():
            try:
                is_ours = os.readlink(f"/proc/{pid}/cwd").startswith(f"{self.root}/containers/")
            except FileNotFoundError:  # a zombie
                continue
            if is_ours:
                os.kill(pid, signal.SIGKILL)


def children():
    """The pids of our children, orphans that have come to us among them."""
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [int(word) for word in text.split()]


def reap_guests():
    """Wait for processes of containers that are orphans of ours: elsewhere init does it. Their
    container's PID 1 cannot end before (pid_namespaces(7))."""
    for pid in children():
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            numbers = next(line for line in status.splitlines() if line.startswith("NSpid:"))
            if len(numbers.split()) > 2:
                os.waitpid(pid, os.WNOHANG)
        except (FileNotFoundError, ProcessLookupError, ChildProcessError):
            pass


def _reap_until(over):
    while not over.wait(0.005):
        reap_guests()


def _text(word):
    return word if isinstance(word, bytes) else str(word)


@pytest.fixture
def box(tmp_path, rootfs):
    """The test's own containers; they are removed at its end."""
    box = Box(tmp_path / "state", rootfs)
    yield box
    box.close()


@pytest.fixture(scope="module")
def shared_box(request, tmp_path_factory, subreaper, rootfs):
    """The same for the tests of a file together, which `furnish(box)` of that file fills."""
    box = Box(tmp_path_factory.mktemp("shared") / "state", rootfs)
    request.module.furnish(box)
    box.settle()
    yield box
    box.close()
    box.settle()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """What tests share is there before the guard against leaks looks for the first time."""
    for item in items:
        if "shared_box" in item.fixturenames:
            item.fixturenames.remove("shared_box")
            item.fixturenames.insert(0, "shared_box")


@pytest.fixture
def site(tmp_path, rootfs, subreaper):
    """A host of the test's own, in which the command runs: no network of this machine changes."""
    from tests.system import hosts

    made = hosts.Site(tmp_path / "state", rootfs)
    yield made
    made.close()


@pytest.fixture
def outside(site, helper):
    """Another host on a wire to the first one: it knows no way to containers."""
    from tests.system import hosts

    other = helper(*hosts.NAMESPACES, script=hosts.HOST)
    site.sh(
        f"ip link add wire type veth peer name wire netns {other.pid};"
        "ip addr add 198.51.100.1/24 dev wire; ip link set wire up"
    )
    enter = ["nsenter", "-t", str(other.pid), "-n", "-m", "--", "sh", "-ec"]

    def run(script):
        done = subprocess.run([*enter, script], capture_output=True, timeout=30)
        assert done.returncode == 0, done
        return done.stdout.decode()

    run(
        f"ip addr add {hosts.OUTSIDE}/24 dev wire; ip link set wire up; ip addr add 2001:db8::2/64 dev wire nodad"
    )
    site.sh("ip addr add 2001:db8::1/64 dev wire nodad")
    run.begin = lambda script: subprocess.Popen(
        [*enter, script], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    return run
