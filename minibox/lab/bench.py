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
import inspect
import json
import mmap
import os
import signal
import struct
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from traceback import walk_tb
from typing import Any, NoReturn

from minibox import core, describe
from minibox import syscalls as sc
from minibox.errors import SetupError, Unsupported, one_line
from minibox.lab import cgroups, cost
from minibox.lab.experiment import Experiment
from minibox.lab.result import UNSUPPORTED, Result
from minibox.lab.run import Notes, Run
from minibox.lab.words import LACKS
from minibox.numbers import NUMBERS
from minibox.resident import has_ended
from minibox.resources import idmap

OWN = sc.CLONE_NEWNS | sc.CLONE_NEWUTS | sc.CLONE_NEWIPC | sc.CLONE_NEWPID
# An empty directory for the run lies over the first of these.
SCRATCH = ("/mnt", "/media", "/tmp")
PAPER = 16 << 20
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
    with mmap.mmap(-1, PAPER) as paper:
        try:
            keeper = os.fork()
        except OSError as error:
            raise SetupError(error.errno or 0, "fork") from None
        if keeper == 0:
            _keep(experiment, run, paper)
        try:
            _await(keeper)
        except BaseException:
            os.kill(keeper, signal.SIGKILL)
            _await(keeper)
            cgroups.sweep(run.owner)
            raise
        words = _read(paper)
    if "errno" in words:
        raise SetupError(**words)
    if words["failed"]:
        cgroups.sweep(run.owner)
    return Notes(**words)


def _await(keeper: int) -> None:
    try:
        os.waitpid(keeper, 0)
    except ChildProcessError:
        pass  # who calls ignores SIGCHLD: the kernel has reaped it


def _keep(experiment: Experiment, run: Run, paper: mmap.mmap) -> NoReturn:
    """The keeper's life: it ends as the init ends, and is killed with who called."""
    try:
        os.setsid()
        core.die_with_parent()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _enter()
        init = os.fork()
        if init == 0:
            _init(experiment, run, paper)
        if not _ends(init, experiment.timeout):
            _write_failed(paper, f"it was not over after {experiment.timeout:g} s")
    except OSError as error:
        what = error.filename or "fork"
        hint = "" if what in ("fork", "pidfd_open") else HINT
        _write(paper, {"errno": error.errno, "what": what, "hint": hint})
    finally:
        os._exit(0)


def _ends(init: int, seconds: float) -> bool:
    """Wait for the init, and with it for all that is on the bench: was it over in time? It is over
    now."""
    pidfd = core.pidfd_open(init)
    in_time = has_ended(pidfd, seconds)
    if not in_time:
        os.kill(init, signal.SIGKILL)
    os.waitpid(init, 0)
    return in_time


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
        maps = (f"0 {uid} 1".encode(), f"0 {gid} 1".encode())
        idmap.write("self", *maps, deny_setgroups=True)


def _init(experiment: Experiment, run: Run, paper: mmap.mmap) -> NoReturn:
    """PID 1 of the bench: reaps what others leave behind, and ends with the subject."""
    try:
        core.die_with_parent()
        _mount(None, b"/", None, sc.MS_REC | sc.MS_PRIVATE)
        _mount(b"proc", b"/proc", b"proc", sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC)
        scratch = next(path for path in SCRATCH if os.path.isdir(path))
        _mount(b"tmpfs", os.fsencode(scratch), b"tmpfs", sc.MS_NOSUID | sc.MS_NODEV)
        os.chdir(scratch)
        subject = os.fork()
        if subject == 0:
            _be_subject(experiment, run, paper)
        pid, status = os.wait()
        while pid != subject:
            pid, status = os.wait()
        if not _is_written(paper):
            _write_failed(paper, f"its process {_end(status)}, and wrote nothing down")
    except OSError as error:
        notes = Notes.empty()
        notes.unsupported = f"no bench can be made: {error.strerror} ({error.filename or 'mount'})"
        _write(paper, asdict(notes))
    finally:
        os._exit(0)


def _end(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"ended with {code}" if code >= 0 else f"was killed by {describe.signal_name(-code)}"


def _be_subject(experiment: Experiment, run: Run, paper: mmap.mmap) -> NoReturn:
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        experiment.observe(run)
    except Unsupported as error:
        run.notes.unsupported = str(error)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the run's result
        where = _where(experiment, error)
        if isinstance(error, OSError) and error.errno in LACKS:
            what = error.what if isinstance(error, SetupError) else error.filename
            run.notes.unsupported = f"{what or 'a call'}: {error.strerror}{where}"
        else:
            run.notes.failed = one_line(f"{type(error).__name__}: {error}{where}")
    try:
        _write(paper, asdict(run.notes))
        sys.stdout.flush()
    except Exception as error:  # noqa: BLE001 - the same
        _write_failed(paper, one_line(f"{type(error).__name__}: {error}"))
    finally:
        os._exit(0)


def _where(experiment: Experiment, error: BaseException) -> str:
    """The line of the experiment's file at which it happened."""
    file = inspect.unwrap(experiment.observe).__code__.co_filename
    lines = [
        line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == file
    ]
    return f" ({os.path.basename(file)}, line {lines[-1]})" if lines else ""


# The paper: memory that all of them share, so that a subject may lose every fd. 4 bytes with the
# length of the JSON after them, which is written last.


def _write(paper: mmap.mmap, words: dict[str, Any]) -> None:
    text = json.dumps(words).encode()
    if len(text) > PAPER - 4:
        raise ValueError(f"{len(text)} bytes were written down, and {PAPER - 4} is the most")
    paper[4 : 4 + len(text)] = text
    paper[:4] = struct.pack("=I", len(text))


def _write_failed(paper: mmap.mmap, reason: str) -> None:
    notes = Notes.empty()
    notes.failed = reason
    _write(paper, asdict(notes))


def _is_written(paper: mmap.mmap) -> bool:
    return paper[:4] != bytes(4)


def _read(paper: mmap.mmap) -> dict[str, Any]:
    (size,) = struct.unpack("=I", paper[:4])
    if not size:
        _write_failed(paper, "its bench was killed")
        return _read(paper)
    words: dict[str, Any] = json.loads(paper[4 : 4 + size])
    return words


def _mount(source: bytes | None, target: bytes, fstype: bytes | None, flags: int) -> None:
    names = [None if name is None else name + b"\0" for name in (source, target, fstype)]
    core.syscall(NUMBERS["mount"], *names, flags, None)
