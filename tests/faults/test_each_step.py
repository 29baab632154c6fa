# SPDX-License-Identifier: Apache-2.0
"""Each step of several plans is made to fail: the error names it, and nothing is left."""

from __future__ import annotations

import errno
import os
import select
import socket

import pytest

import minibox
from minibox import core, request, runtime, supervisor
from minibox.compile import compile
from minibox.errors import CannotExecute, SetupError
from minibox.plan import Plan
from minibox.spec import Terminal

NO_SUCH_CALL = 9999
COMMAND = ["/bin/echo", "started"]
LOADED = {
    "overlay": True,
    "read_only": True,
    "tmpfs": ["/tmp:size=1m", "/made/by/minibox"],
    "volumes": ["/etc/passwd:/made/file", "/usr:/made/directory:ro"],
}
CHOSEN = {
    "user": "1000:1000",
    "workdir": "/var/log",
    "hostname": "chosen",
    "domainname": "example",
    "boottime": "1000",
}
PLANS = {
    "default": {},
    "overlay, read-only, volumes, tmpfs": LOADED,
    "the host's ids": {"userns": "host"},
    "init": {"init": True},
    "init with the host's ids": {"init": True, "userns": "host"},
    "user, directory, names, clocks": CHOSEN,
    "everything at once": {**LOADED, **CHOSEN, "init": True},
    "shared namespaces": {"share": ["pid,net,ipc,uts,cgroup"]},
}


@pytest.fixture(autouse=True)
def no_spare_arenas(monkeypatch):
    """A memory map that is kept for the next launch would look like one that is left behind."""
    monkeypatch.setattr(core, "MOST_SPARE", 0)
    core._spare.clear()


class Attempt:
    """One launch of a plan whose command writes to a pipe. A context manager."""

    def __init__(self, spec, plan, console=None):
        self.error = None
        self.status = None
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        streams = {"stdin": null, "stdout": theirs, "stderr": null}
        if console is not None:
            streams["console"] = console
        try:
            self._start(spec, plan, streams)
        finally:
            os.close(null)
            os.close(theirs)
            self.output = _read_to_the_end(ours)

    def _start(self, spec, plan, streams):
        host = runtime.this_host()
        try:
            process = supervisor.start(spec, plan, host, plan.encode(), streams)
        except SetupError as error:
            self.error = error
            return
        try:
            process.started()
            self.status = process.wait(10)
            process.raise_failure()
        except SetupError as error:
            self.error = error
        finally:
            process.close()


def _read_to_the_end(fd):
    """What was written to a pipe of which nobody may hold the other end any more."""
    data = b""
    try:
        while select.select([fd], [], [], 5)[0]:
            piece = os.read(fd, 4096)
            if not piece:
                return data
            data += piece
        return data + b"<still open>"
    finally:
        os.close(fd)


def spec_of(rootfs, options, args=COMMAND):
    spec = request.build(args, rootfs, options, runtime.this_host())
    return spec.replace(redirected=(0, 1, 2))


def problems_of(plan, k, attempt):
    """What is not as it must be after step k of the plan was made to fail."""
    op, error = plan.steps[k], attempt.error
    if error is None:
        return [f"it was no error: {attempt.status and attempt.status.exit_code}"]
    found = []
    if op.call == "execve":
        if not isinstance(error, CannotExecute):
            found.append(f"not the error of a command: {error!r}")
    elif (error.step, error.steps) != (k + 1, len(plan.steps)):
        found.append(f"step {error.step} of {error.steps} is named")
    elif not error.what or not error.origin.startswith(op.origin.partition(",")[0]):
        found.append(f"{error.what!r}, from {error.origin!r} is named")
    elif f"{op.call}: {op.why}" not in error.origin:
        found.append(f"the call or its reason is missing from {error.origin!r}")
    if error.errno != errno.ENOSYS:
        found.append(f"errno {error.errno}")
    lines = str(error).split("\n")
    if not all(line.startswith("  ") for line in lines[1:]):
        found.append(f"not one message: {lines}")
    if attempt.output:
        found.append(f"the command has started, and written {attempt.output!r}")
    return found


def all_problems(spec, plan, before, console=lambda: None):
    """Make each step fail in turn."""
    found = []
    for k, op in enumerate(plan.steps):
        attempt = Attempt(spec, plan.failing_at(k, NO_SUCH_CALL), console())
        problems = problems_of(plan, k, attempt)
        if (now := _held()) != before:
            problems.append(f"left behind: {[b - a for a, b in zip(before, now, strict=True)]}")
            before = now
        found += [f"step {k + 1}, {op.call} ({op.why}): {problem}" for problem in problems]
    return found


def _held():
    """What a process can leak: fds, children, mappings of memfds, mounts."""
    with open("/proc/self/maps", encoding="utf-8") as file:
        maps = {line.split()[0] for line in file if "memfd:minibox" in line or "/dev/zero" in line}
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        pids = set(file.read().split())
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = set(file)
    return set(os.listdir("/proc/self/fd")), pids, maps, mounts


@pytest.mark.parametrize("options", PLANS.values(), ids=PLANS.keys())
def test_every_step_that_fails_is_named_and_leaves_nothing(rootfs, unchanged, options):
    spec = spec_of(rootfs, options)
    plan = compile(spec, runtime.this_host())
    good = Attempt(spec, plan)
    assert (good.error, good.output) == (None, b"started\n")
    assert all_problems(spec, plan, _held()) == []
    again = Attempt(spec, plan)
    assert (again.error, again.output, again.status.exit_code) == (None, b"started\n", 0)


@pytest.mark.parametrize(
    ("kinds", "userns"), [("net,pid", "host"), ("net,pid,user", "auto"), ("net,uts,ipc", "auto")]
)
def test_every_step_of_a_join_that_fails_is_named_and_leaves_nothing(
    rootfs, unchanged, kinds, userns
):
    peer = minibox.Container(["/bin/sleep", "1000"], rootfs=rootfs, userns=userns)
    with peer:
        options = {
            "join": [f"{kind}={peer.pid}" for kind in kinds.split(",")],
            "userns": userns,
        }
        spec = spec_of(rootfs, options)
        plan = compile(spec, runtime.this_host())
        good = Attempt(spec, plan)
        assert (good.error, good.output) == (None, b"started\n")
        assert all_problems(spec, plan, _held()) == []
        assert Attempt(spec, plan).output == b"started\n"
        assert peer.wait(0) is None, "the peer was not to be touched"


def test_a_pid_namespace_that_cannot_have_a_proc_of_ours_says_what_to_join_as_well(rootfs):
    """procfs belongs to the pid namespace's user namespace, where a new one has no rights."""
    with (
        minibox.Container(["/bin/sleep", "1000"], rootfs=rootfs) as peer,
        pytest.raises(SetupError) as caught,
    ):
        minibox.run(["/bin/true"], rootfs=rootfs, join=[f"pid={peer.pid}"])
    assert "--join user" in caught.value.hint or "--userns host" in caught.value.hint


@pytest.mark.parametrize("options", [{}, {"userns": "host"}, {"init": True}], ids=str)
def test_every_step_of_a_terminal_that_fails_is_named_and_leaves_nothing(
    rootfs, unchanged, options
):
    """The terminal is stdin and stderr here, so that the pipe can tell what has started."""
    spec = spec_of(rootfs, options).replace(
        terminal=Terminal(30, 90, (0, 2)), redirected=(1,), user=minibox.spec.User(1000, 1000)
    )
    plan = compile(spec, runtime.this_host())
    assert any(op.call == "sendmsg" for op in plan.steps)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        before = _held()
        problems = all_problems(spec, plan, before, theirs.fileno)
        assert problems == []


def test_a_clone_that_fails_says_so(rootfs, unchanged):
    spec = spec_of(rootfs, {})
    plan = compile(spec, runtime.this_host())
    before = _held()
    # CLONE_FS with a new mount namespace: EINVAL from the kernel.
    attempt = Attempt(spec, with_changes(plan, flags=plan.flags | 0x200))
    assert attempt.error.errno == errno.EINVAL
    assert "clone" in str(attempt.error)
    assert (attempt.output, _held()) == (b"", before)


@pytest.mark.parametrize("which", ["uid_map", "gid_map"])
def test_an_id_map_the_kernel_refuses_is_named(rootfs, unchanged, which):
    spec = spec_of(rootfs, {})
    plan = compile(spec, runtime.this_host())
    before = _held()
    attempt = Attempt(spec, with_changes(plan, **{which: b"0 5 0\n"}))
    assert attempt.error is not None and attempt.error.errno == errno.EINVAL
    assert which in str(attempt.error)
    assert (attempt.output, _held()) == (b"", before)


def with_changes(plan, **changes):
    fields = {name: getattr(plan, name) for name in Plan.__slots__}
    return Plan(**{**fields, **changes})


def test_a_step_that_fails_for_the_library_is_an_os_error(rootfs, monkeypatch):
    monkeypatch.setattr(runtime, "_prepared", {})
    original = runtime.compile
    monkeypatch.setattr(
        runtime,
        "compile",
        lambda spec, host: original(spec, host).failing_at(40, NO_SUCH_CALL),
    )
    with pytest.raises(OSError, match="step 41 of") as caught:
        minibox.run(["/bin/true"], rootfs=rootfs)
    assert isinstance(caught.value, minibox.SetupError)
    assert (caught.value.errno, caught.value.exit_code) == (errno.ENOSYS, 125)
    monkeypatch.undo()
    assert minibox.run(["/bin/true"], rootfs=rootfs).exit_code == 0
