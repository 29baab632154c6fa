# SPDX-License-Identifier: Apache-2.0
"""What all tests share: the trees, the command, the guard against leaks, the rule about skips."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# This machine's bridges, rules and sysctls are not the tests': networks have hosts of their own.
os.environ["MINIBOX_NET"] = "none"
REPOSITORY = Path(__file__).parent.parent
COMMAND = Path(sys.executable).with_name("minibox")
KERNEL = tuple(int(word) for word in os.uname().release.split(".")[:2])
PR_SET_CHILD_SUBREAPER = 36
# How many times slower than a usual one this machine is: an emulated one says 8, for instance.
PATIENCE = float(os.environ.get("MINIBOX_PATIENCE", "1"))
# An overlay whose upper directory is a tmpfs marks there what replaces a directory of the tree.
replaces_directories = pytest.mark.skipif(
    KERNEL < (6, 6), reason="this kernel has no user.* attributes on a tmpfs"
)
# Made by tools/vm/provision: a machine to throw away, whose clock, sysctls and boots are the tests'.
IS_VM = os.path.exists("/etc/minibox-vm")

# A skip is a claim that this machine cannot. As root these are the only ones believed: the start of
# the reason given -> why it may be so.
REASONED_SKIPS = {
    "this kernel has no": "a kernel feature that was probed for",
    "CAP_SYS_RESOURCE is missing": "limits cannot be raised in this sandbox",
}


def pytest_runtest_makereport(item, call):
    """As root a skip without a believed reason is a failure."""
    if call.excinfo is None or not call.excinfo.errisinstance(pytest.skip.Exception):
        return
    reason = str(call.excinfo.value)
    if os.geteuid() == 0 and not reason.startswith(tuple(REASONED_SKIPS)):
        try:
            pytest.fail(f"skipped as root, and not on the list of reasons: {reason}", pytrace=False)
        except pytest.fail.Exception:
            call.excinfo = pytest.ExceptionInfo.from_current()


VM_ONLY = pytest.StashKey[dict]()


def pytest_configure(config):
    config.stash[VM_ONLY] = {}
    _have_all_signals()


def _have_all_signals():
    """Who began this run may have signals blocked or ignored (a CI, nohup, a shell's background),
    and all that a test starts would have them so."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:  # Python's own
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    """Everything outside unit/ runs containers as root. What only a virtual machine can have is no
    test of this one: it is counted and named, not skipped."""
    if not IS_VM:
        elsewhere = [item for item in items if "vm" in Path(item.fspath).parts]
        items[:] = [item for item in items if item not in elsewhere]
        config.hook.pytest_deselected(items=elsewhere)
        counts = config.stash[VM_ONLY]
        for item in elsewhere:
            counts[item.path.name] = counts.get(item.path.name, 0) + 1
    for item in items:
        names = item.fixturenames  # one list for all the cases of a test
        if "unit" not in Path(item.fspath).parts and "no_leaks" not in names:
            names.insert(0, "no_leaks")


def pytest_terminal_summary(terminalreporter, config):
    counts = config.stash[VM_ONLY]
    if counts:
        terminalreporter.section(
            f"{sum(counts.values())} tests for a virtual machine: make vm-test"
        )
        for name, count in sorted(counts.items()):
            terminalreporter.line(f"{count:3} tests/vm/{name}")


class Patient(subprocess.Popen):
    """Waits by the machine's pace. Less than a second is no limit, but a look."""

    def communicate(self, input=None, timeout=None):
        return super().communicate(input, _longer(timeout))

    def wait(self, timeout=None):
        return super().wait(_longer(timeout))


def _longer(timeout):
    return timeout if timeout is None or timeout < 1 else timeout * PATIENCE


if PATIENCE != 1:
    subprocess.Popen = Patient


@pytest.fixture(scope="session", autouse=True)
def cache_of_filters(tmp_path_factory):
    """Not the user's own."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def subreaper():
    """Whatever a test orphans becomes a child of pytest, where the guard finds it."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _descendants(pid: int) -> set[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        threads = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return set()
    children = {int(child) for child in text.split()}
    for thread in threads:
        try:
            children |= {
                int(c) for c in Path(f"/proc/{pid}/task/{thread}/children").read_text().split()
            }
        except (FileNotFoundError, ProcessLookupError):
            pass
    return children.union(*[_descendants(child) for child in children])


def empty_cgroups() -> set[str]:
    """Those of minibox's that nobody is in: what others run meanwhile has processes. The directory
    above them stays as long as there is a kept container."""
    return {
        path
        for path, below, _ in os.walk("/sys/fs/cgroup")
        if "/minibox/" in path
        if not below and not _members(path)
    }


def _members(path: str) -> str:
    try:
        return Path(path, "cgroup.procs").read_text()
    except OSError:
        return "it is gone"


def _temporary() -> set[str]:
    found = set()
    for directory in ("/tmp", "/run", "/dev/shm", "/var/tmp"):
        if os.path.isdir(directory):
            found |= {f"{directory}/{name}" for name in os.listdir(directory) if "minibox" in name}
    return found


def _host_state() -> dict[str, object]:
    return {
        "processes": _descendants(os.getpid()),
        "mounts": Path("/proc/self/mountinfo").read_text().splitlines(),
        "cgroups": empty_cgroups(),
        "interfaces": set(os.listdir("/sys/class/net")),
        "fds": set(os.listdir("/proc/self/fd")),
        "temporary files": _temporary(),
        "host name": os.uname().nodename,
        "blocked signals": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "forwarding": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
        "names in the shared tree": set(os.listdir(REPOSITORY / "rootfs")),
    }


def _reap() -> None:
    """Orphans that have ended and were handed to us."""
    for pid in _descendants(os.getpid()):
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass


@pytest.fixture
def no_leaks(subreaper, warm):
    """Compares the host before and after a test: a second is given to what ends by itself."""
    before = _host_state()
    yield

    def look() -> dict[str, object]:
        after = _host_state()
        after["cgroups"] |= before["cgroups"]  # that one of others is gone is no leak
        return after

    deadline = time.monotonic() + 2 * PATIENCE
    while (after := look()) != before and time.monotonic() < deadline:
        _reap()
    changed = {key: (before[key], after[key]) for key in before if before[key] != after[key]}
    assert not changed, f"the test left something behind: {changed}"


@pytest.fixture(scope="session")
def warm(rootfs, cache_of_filters):
    """What minibox makes once a process (a user namespace, a sealed memfd) is there already."""
    if os.geteuid() == 0:
        import minibox

        minibox.run(["/bin/true"], rootfs=rootfs, init=True)


@pytest.fixture(scope="session")
def rootfs() -> str:
    """The bundled root file system, built by make. Not to be changed: see `tree`."""
    path = REPOSITORY / "rootfs"
    assert (path / "bin/busybox").exists(), "run make setup first"
    return str(path)


@pytest.fixture
def tree(rootfs, tmp_path) -> Path:
    """A root file system of the test's own."""
    path = tmp_path / "rootfs"
    shutil.copytree(rootfs, path, symlinks=True)
    return path


def run_cli(*words: object, **options: object) -> subprocess.CompletedProcess:
    """Run the installed command; stdout and stderr are bytes; 60 s at most."""
    options.setdefault("capture_output", True)
    options.setdefault("timeout", 60)
    if "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(
        [str(COMMAND), *[str(word) if not isinstance(word, bytes) else word for word in words]],
        **options,
    )


@pytest.fixture
def cli():
    """`cli("run", tree, "/bin/true")` -> CompletedProcess."""
    return run_cli
