# SPDX-License-Identifier: Apache-2.0
"""What the tests of faults share: what a refusal looks like, what a sound container looks like,
and system calls that fail or kill on demand (strace's inject)."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.system.conftest import site  # noqa: F401 - a fixture

COMMAND = str(Path(sys.executable).with_name("minibox"))
HUNG = "it hangs"
KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")

# Says everything about its isolation in one write, at its end.
PROBE = r"""
umask=$(umask)
links=$(for kind in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$kind; done)
ids=$(grep -E '^(Uid|Gid|Groups|NoNewPrivs|Cap...|Sig(Blk|Ign|Cgt)):' /proc/1/status)
mounts=$(cut -d' ' -f4- /proc/1/mountinfo)
set -- /proc/1/fd/*  # by the shell itself: in $(…) its own pipe would come and go
fds="$*"
nodes=$(stat -c '%F %a %t:%T %N' /dev/*)
session=$(cut -d' ' -f5,6 /proc/1/stat)
net=$(cat /sys/class/net/*/flags)
echo "pid $$
umask $umask
$(hostname)
$links
$(cat /proc/self/uid_map)
$ids
$mounts
$fds
$nodes
$session
$net
sound"
"""


def normal(output: str) -> str:
    """The probe's output with what differs from run to run taken out: namespaces of its own are
    "own", the first id of its range is FIRST, and so on."""
    for kind in KINDS:
        output = output.replace(os.readlink(f"/proc/self/ns/{kind}"), f"{kind} of the host")
        output = re.sub(rf"{kind}:\[\d+\]", f"{kind} of its own", output)
    output = re.sub(r"(?m)^ +0 +1\d{9} +65536$", "0 FIRST 65536", output)
    return re.sub(r"\b([ug]id)=1\d{9}", r"\1=FIRST", output)


def snapshot(top: str | Path) -> dict[str, tuple[int, ...]]:
    """Everything that a container could change in a tree, by path."""
    found = {}
    for directory, names, files in os.walk(top):
        for name in [".", *names, *files]:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            found[path] = (st.st_mode, st.st_uid, st.st_gid, st.st_size, st.st_mtime_ns)
    return found


def children() -> set[int]:
    """The processes below this one, all threads' together."""
    found: set[int] = set()
    for task in os.listdir("/proc/self/task"):
        try:
            found |= {
                int(pid) for pid in Path(f"/proc/self/task/{task}/children").read_text().split()
            }
        except FileNotFoundError:
            pass
    return found


def wait_for_end(before: set[int], seconds: float = 1.0) -> set[int]:
    """Reap what has been orphaned to us; what of it still lives after so many seconds."""
    deadline = time.monotonic() + seconds
    while left := children() - before:
        for pid in left:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass
        if time.monotonic() > deadline:
            return left
        time.sleep(0.001)
    return set()


def complaint(stderr: bytes) -> str | None:
    """What is wrong with an error output that must be one message; None when it is right."""
    text = stderr.decode(errors="replace")
    if "Traceback" in text:
        return f"a traceback: {text}"
    if not text.startswith("minibox: ") or not text.endswith("\n"):
        return f"no message of minibox's: {text!r}"
    lines = text.removesuffix("\n").split("\n")
    if not all(line.startswith("  ") for line in lines[1:]):
        return f"more than one message: {text!r}"
    if "internal error" in text:
        return f"an error nobody has thought of: {text!r}"
    return None


class Command:
    """The installed command, as it is or under strace."""

    def run(self, *words: object, **options: object) -> subprocess.CompletedProcess:
        return self._execute([COMMAND, *map(str, words)], **options)

    def inject(
        self, fault: str, *words: object, follow: bool, **options: object
    ) -> subprocess.CompletedProcess:
        """With strace's `inject=FAULT`: in the supervisor alone, or with `follow` in everything
        it starts as well (`when` counts in each process for itself)."""
        name = fault.partition(":")[0]
        # Without -f a seccomp filter would be there with nobody to answer for it.
        how = ["-f", "--seccomp-bpf"] if follow else []
        strace = ["strace", *how, "-qq", "-o", "/dev/null", f"-etrace={name}", f"-einject={fault}"]
        return self._execute([*strace, COMMAND, *map(str, words)], **options)

    def _execute(self, argv: list[str], **options: object) -> subprocess.CompletedProcess:
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("timeout", 10)
        before = children()
        try:
            return subprocess.run(argv, capture_output=True, **options)
        except subprocess.TimeoutExpired as error:
            # strace is dead, and what it has let go of is ours to end.
            for pid in children() - before:
                os.kill(pid, signal.SIGKILL)
            return subprocess.CompletedProcess(argv, HUNG, error.stdout or b"", error.stderr or b"")

    def trace(self, path: Path, *words: object) -> list[str]:
        """The lines of a strace of the supervisor alone."""
        argv = ["strace", "-qq", "-o", str(path), COMMAND, *map(str, words)]
        done = self._execute(argv)
        assert done.returncode == 0, done.stderr
        calls = [line for line in path.read_text(errors="replace").splitlines() if "(" in line]
        return [line for line in calls if not line.startswith(("---", "+++"))]

    @staticmethod
    def numbered(lines: list[str], start: str) -> list[tuple[str, int]]:
        """(call, which occurrence in the process) of the lines from the first with `start` on."""
        counts: dict[str, int] = {}
        numbered = []
        began = False
        for line in lines:
            name = line.partition("(")[0]
            counts[name] = counts.get(name, 0) + 1
            began = began or start in line
            if began:
                numbered.append((name, counts[name]))
        return numbered


@pytest.fixture
def command() -> Command:
    return Command()


@pytest.fixture
def message():
    """`message(stderr)`: None when it is one well-formed message, else what is wrong with it."""
    return complaint


@pytest.fixture
def probe() -> str:
    """A script for the container's shell; see `normal_probe`."""
    return PROBE


@pytest.fixture
def normal_probe():
    """`normal_probe(stdout)`: what the probe has said, without what differs between two runs."""
    return lambda output: normal(output.decode())


@pytest.fixture
def no_process_left():
    """`no_process_left()`: does everything that this test has started end within a second?"""
    before = children()
    return lambda seconds=1.0: not wait_for_end(before, seconds)


@pytest.fixture
def leftovers():
    """A context manager's worth of looking: `leftovers()` lists what has changed on the host."""
    before = (set(os.listdir("/proc/self/fd")), _mounts())

    def look() -> list[str]:
        after = (set(os.listdir("/proc/self/fd")), _mounts())
        return [f"{b} became {a}" for b, a in zip(before, after, strict=True) if a != b]

    return look


def _mounts() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()


@pytest.fixture
def unchanged(rootfs):
    """The bundled root file system is after the test what it was before."""
    before = snapshot(rootfs)
    yield
    assert snapshot(rootfs) == before


@pytest.fixture
def killed():
    """The return code of a process that SIGKILL has ended."""
    return -signal.SIGKILL
