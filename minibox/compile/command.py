# SPDX-License-Identifier: Apache-2.0
"""The end of the plan: streams, working directory, exec."""

from __future__ import annotations

from errno import EACCES, ENOENT, ENOTDIR

from minibox import syscalls as sc
from minibox.compile.slots import STDIO
from minibox.errors import SpecError
from minibox.plan import Memory, Slot, Strings
from minibox.syscalls import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minibox.host import Host
    from minibox.plan import Op
    from minibox.spec import Spec

# What execvp(3) searches when there is no PATH.
DEFAULT_PATH = b"/bin:/usr/bin"
SELF = Slot("self")
LAST_FD = 0xFFFFFFFF
ORPHANED = 63  # csrc/init.c


def redirect(spec: Spec, host: Host) -> Iterator[Op]:
    for fd in spec.redirected:
        yield sc.dup3(STDIO[fd], fd, why="standard stream")


def enter_directory(spec: Spec, host: Host) -> Iterator[Op]:
    """After the pivot, and through no magic link: /proc/self/fd/N could lead back out."""
    directory = Slot("cwd")
    how = sc.open_how(sc.O_PATH | sc.O_DIRECTORY | sc.O_CLOEXEC, sc.RESOLVE_NO_MAGICLINKS)
    if spec.cwd == b"/":
        yield sc.chdir(b"/", why="--workdir")
    else:
        if not spec.cwd.startswith(b"/"):
            raise SpecError("cwd", "the working directory must be absolute")
        yield sc.openat2(sc.AT_FDCWD, spec.cwd, how, to=directory, why="--workdir")
        yield sc.fchdir(directory, why="--workdir")


def close(spec: Spec, host: Host) -> Iterator[Op]:
    """At the exec. It is asked for before the filter, which may know nothing of close_range."""
    yield sc.close_range(3, LAST_FD, sc.CLOSE_RANGE_CLOEXEC, why="only 0, 1, 2 go on")


def start_init(spec: Spec, host: Host) -> Iterator[Op]:
    """The init is PID 1, or, in a pid namespace that others use too, the one that ends what the
    command leaves behind. There the parent's death must not kill it: a signal tells it."""
    if not spec.has_init:
        return
    if not spec.makes("pid"):
        yield sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1, why="orphans come to the init")
        if spec.supervised:
            yield sc.prctl(sc.PR_SET_PDEATHSIG, ORPHANED, why="the init ends them, then itself")
    yield sc.init(why="reaps, forwards signals, ends with the command")
    yield from _lead_group(spec)
    if not spec.makes("pid"):
        yield sc.prctl(sc.PR_SET_PDEATHSIG, SIGKILL, why="die with the init")


def _lead_group(spec: Spec) -> Iterator[Op]:
    """The command is a job as a shell would start it: a process group, in the foreground of its
    terminal, with the init outside."""
    yield sc.setpgid(0, 0, why="a process group of its own")
    if spec.terminal:
        group = Memory(bytes(4), "[@self]")
        yield sc.getpid(to=SELF, why="for the next call")
        yield sc.store(SELF, group, why="for the next call")
        yield sc.ioctl(0, sc.IOCTL_TIOCSPGRP, group, why="in the foreground")


def search(args: tuple[bytes, ...], env: tuple[bytes, ...]) -> list[bytes]:
    """The paths that execvp(3) would try for args[0], in order."""
    name = args[0]
    if b"/" in name or not name:
        return [name]
    path = next((item[5:] for item in env if item.startswith(b"PATH=")), DEFAULT_PATH)
    return [(directory or b".") + b"/" + name for directory in path.split(b":")]


def execute(spec: Spec, host: Host) -> Iterator[Op]:
    """A chain of execve is the PATH search. Never execvp's fall-back to a shell."""
    if not spec.args:
        raise SpecError("args", "there is no command")
    for item in (*spec.args, *spec.env):
        if b"\0" in item:
            raise SpecError("args", "an argument or variable contains a NUL byte")
    argv, envp = Strings(spec.args), Strings(spec.env)
    yield sc.rt_sigprocmask_unblock_all(why="blocked since clone; handlers are reset")
    paths = search(spec.args, spec.env)
    for path in paths[:-1]:
        yield sc.execve(path, argv, envp, ok=(ENOENT, ENOTDIR, EACCES), why="the command")
    yield sc.execve(paths[-1], argv, envp, why="the command")
