# SPDX-License-Identifier: Apache-2.0
"""Where a run takes place: in a process and in namespaces that are thrown away after it.

    who calls ─ fork ─> keeper ─ unshare, fork ─> init ─ fork ─> subject
                                                (pid 1)        runs the function

The subject is a plain process that may share, change and lose whatever it has: its names, IPC
objects, mounts and processes are those of the bench. With the init all others end, whoever was
killed. Without root there is a user namespace around it.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, NoReturn

from minibox import core
from minibox import syscalls as sc
from minibox.errors import SetupError, Unsupported
from minibox.lab import cgroups, cost
from minibox.lab.experiment import Experiment
from minibox.lab.result import UNSUPPORTED, Result
from minibox.lab.run import Notes, Run
from minibox.numbers import NUMBERS

OWN = sc.CLONE_NEWNS | sc.CLONE_NEWUTS | sc.CLONE_NEWIPC | sc.CLONE_NEWPID
# An empty directory for the run lies over the first of these.
SCRATCH = ("/mnt", "/media", "/tmp")
NO_BENCH = 71
HINT = "the lab needs root, or a user namespace"


def perform(experiment: Experiment, taken_out: int = 0, left_out: Sequence[str] = ()) -> Result:
    """Make all runs of an experiment. taken_out: flags that no clone of it may have. left_out:
    fields that none may have. Forks, so the caller should have one thread. SetupError where no
    namespaces can be made."""
    notes = {
        name: make_run(experiment, Run(name, flags, taken_out, left_out))
        for name, flags in experiment.runs.items()
    }
    result = Result(experiment, notes)
    has_cost = experiment.kind in cost.KINDS and (experiment.flags or experiment.arguments)
    if has_cost and not taken_out and not left_out and result.verdict != UNSUPPORTED:
        return replace(result, cost=_cost(experiment))
    return result


def _cost(experiment: Experiment) -> dict[str, Any] | None:
    """In a run of its own; None where this kernel refuses."""

    def observe(run: Run) -> None:
        run.notes.cost = cost.measure(experiment, run)

    return make_run(replace(experiment, observe=observe), Run("cost", experiment.flags)).cost


def make_run(experiment: Experiment, run: Run) -> Notes:
    """One run, on a bench of its own. SetupError."""
    read, write = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        os.close(read)
        _keep(experiment, run, write)
    os.close(write)
    data, is_late = b"", False
    try:
        data, is_late = _read(read, experiment.timeout)
    finally:
        if not data:
            os.kill(keeper, signal.SIGKILL)
        code = _end_of(keeper)
        os.close(read)
        if not data:
            cgroups.sweep(run.owner)
    return _notes(data, code, experiment.timeout if is_late else 0)


def _end_of(keeper: int) -> int:
    try:
        return os.waitstatus_to_exitcode(os.waitpid(keeper, 0)[1])
    except ChildProcessError:
        return 0  # who calls ignores SIGCHLD: the kernel has reaped it


def _notes(data: bytes, code: int, seconds: float) -> Notes:
    notes = Notes.empty()
    if seconds:
        notes.failed = f"it was not over after {seconds:g} s"
    elif code == NO_BENCH:
        number = json.loads(data)
        raise SetupError(number, "unshare", hint=HINT)
    elif data:
        notes = Notes(**json.loads(data))
    else:
        notes.failed = f"its process ended with {code}, and wrote nothing down"
    return notes


def _read(fd: int, seconds: float) -> tuple[bytes, bool]:
    """What the run has written down, to its end; and whether the time was over."""
    import select

    poll = select.poll()
    poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + seconds
    data = b""
    while True:
        if not poll.poll(max(0, deadline - time.monotonic()) * 1000):
            return b"", True
        more = os.read(fd, 1 << 16)
        if not more:
            return data, False
        data += more


def _keep(experiment: Experiment, run: Run, write: int) -> NoReturn:
    """The keeper's life: it ends as the init ends, and is killed with who called."""
    code = NO_BENCH
    try:
        os.setsid()
        _die_with_parent()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _enter()
        init = os.fork()
        if init == 0:
            _init(experiment, run, write)
        os.close(write)
        code = os.waitstatus_to_exitcode(os.waitpid(init, 0)[1])
    except OSError as error:
        os.write(write, json.dumps(error.errno).encode())
    finally:
        os._exit(code & 0xFF)


def _enter() -> None:
    """Namespaces of its own, for its children as far as pids go. OSError."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        if uid != 0:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        core.syscall(NUMBERS["unshare"], OWN)
    except PermissionError:
        # Without root, or as root of a container that may not: root of a user namespace may.
        core.syscall(NUMBERS["unshare"], OWN | sc.CLONE_NEWUSER)
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"0 {uid} 1"),
            ("gid_map", f"0 {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)


def _init(experiment: Experiment, run: Run, write: int) -> NoReturn:
    """PID 1 of the bench: reaps what others leave behind, and ends as the subject does."""
    code = 1
    try:
        _die_with_parent()
        _mount(None, b"/", None, sc.MS_REC | sc.MS_PRIVATE)
        _mount(b"proc", b"/proc", b"proc", sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC)
        scratch = next(path for path in SCRATCH if os.path.isdir(path))
        _mount(b"tmpfs", os.fsencode(scratch), b"tmpfs", sc.MS_NOSUID | sc.MS_NODEV)
        os.chdir(scratch)
        subject = os.fork()
        if subject == 0:
            _be_subject(experiment, run, write)
        os.close(write)
        pid, status = os.wait()
        while pid != subject:
            pid, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
    except OSError as error:
        notes = Notes.empty()
        notes.unsupported = f"no bench can be made: {error.strerror} ({error.filename or 'mount'})"
        _write(write, notes)
        code = 0
    finally:
        os._exit(code if code >= 0 else 128 - code)


def _be_subject(experiment: Experiment, run: Run, write: int) -> NoReturn:
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        experiment.observe(run)
    except Unsupported as error:
        run.notes.unsupported = str(error)
    except PermissionError as error:
        run.notes.unsupported = f"{error.strerror} ({error.filename or 'no root here'})"
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the run's result
        run.notes.failed = f"{type(error).__name__}: {error}"
    finally:
        _write(write, run.notes)
        os._exit(0)


def _write(fd: int, notes: Notes) -> None:
    with open(fd, "wb", closefd=False) as file:
        file.write(json.dumps(asdict(notes)).encode())


def _die_with_parent() -> None:
    core.syscall(NUMBERS["prctl"], sc.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _mount(source: bytes | None, target: bytes, fstype: bytes | None, flags: int) -> None:
    names = [None if name is None else name + b"\0" for name in (source, target, fstype)]
    core.syscall(NUMBERS["mount"], *names, flags, None)
