# SPDX-License-Identifier: Apache-2.0
"""One more process in a running container: minibox exec.

It has the container's namespaces, capabilities, environment and user, and is somebody else's child.
The container may be hostile: nothing of it is run or read before the process is inside, but
/etc/passwd, which is parsed by hand.
"""

from __future__ import annotations

import os

from minibox import forms, request, restrictions, shapes
from minibox.errors import SpecError, StateError
from minibox.resident import PAUSED, has_ended
from minibox.resources import accounts, cgroup
from minibox.spec import NAMESPACES, Join, Spec, Terminal, User

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from minibox.directory import Data
    from minibox.resident import Resident, State


def joined(pid: int) -> tuple[Join, ...]:
    """The namespaces that process `pid` has and we have not. OSError: none is left out because it
    could not be looked at, but a kind that this kernel has not."""
    found = []
    for namespace in NAMESPACES:
        path = forms.namespace_of(pid, namespace.kind)
        try:
            ours = os.readlink(forms.namespace_of("self", namespace.kind))
        except FileNotFoundError:
            continue
        if os.readlink(path) != ours:
            found.append(Join(namespace.kind, path.encode()))
    return tuple(found)


def build(
    container: Resident,
    state: State,
    args: Sequence[str],
    *,
    env: Sequence[str] = (),
    env_file: Sequence[str] = (),
    workdir: str | None = None,
    user: str | None = None,
    terminal: Terminal | None = None,
    redirected: tuple[int, ...] = (),
    supervised: bool = True,
) -> Spec:
    """The Spec of a command in a container that runs. SpecError, StateError."""
    if state.status == PAUSED:
        hint = f"minibox resume {container.name}"
        raise StateError(f"container {container.name} is paused\n  hint: {hint}")
    if not args or not args[0]:
        raise SpecError("COMMAND", "there is no command")
    theirs = _process(container)
    uid, gid, groups = theirs["user"]
    who, home = User(uid, gid, tuple(groups)), None
    if user is not None:
        who, home = accounts.look_up(f"/proc/{state.pid}/root".encode(), os.fsencode(user))
    variables = dict(os.fsencode(item).split(b"=", 1) for item in theirs["env"])
    if home is not None and not _sets(container, "HOME"):
        variables[b"HOME"] = home
    if terminal:
        variables.setdefault(b"TERM", os.environb.get(b"TERM", b"xterm"))
    given = forms.variables("--env", [*_lines(env_file), *env])
    for name, value in given.items():
        value = os.environb.get(name) if value is None else value
        if value is not None:
            variables[name] = value
    if workdir is not None and not workdir.startswith("/"):
        raise SpecError("--workdir", f"{workdir!r}: the working directory must be absolute")
    capabilities = tuple(theirs["capabilities"])
    kept_from = restrictions.build(container.config["options"], capabilities)
    if os.geteuid() != 0:
        # Its file in /proc is the host root's, as nobody inside may look into this process.
        kept_from["oom_score_adj"] = None
    return Spec(
        args=tuple(os.fsencode(arg) for arg in args),
        root=None,
        env=tuple(name + b"=" + value for name, value in variables.items()),
        cwd=os.fsencode(theirs["cwd"] if workdir is None else workdir),
        user=who,
        umask=theirs["umask"],
        capabilities=capabilities,
        hostname=None,
        namespaces=(),
        joined=joined(state.pid),
        mounts=(),
        terminal=terminal,
        redirected=redirected,
        supervised=supervised,
        guest=True,
        **kept_from,
    )


def admit(container: Resident, state: State, pidfd: int, pid: int) -> None:
    """A new process, into the cgroups of the container, which must still be the same one after
    that. pidfd: of its first process. StateError, OSError."""
    try:
        cgroup.join(pid, state.pid)
    except PermissionError:
        # An ordinary user cannot leave the session that he is in (cgroup-v2.rst, Delegation
        # Containment). Where the container has no cgroup of its own, nothing is lost.
        parts = container.cgroup().parts
        if any(not part.is_scope for part in parts):
            raise
        for part in parts:
            from minibox.resources import scope

            scope.attach(part.path, pid)
    if has_ended(pidfd, 0):
        raise StateError(f"container {container.name} is not running")


def _process(container: Resident) -> Data:
    """What its first process was given. Damaged."""
    run = container.directory.read("run.json") or {}
    process = run.get("process")
    if not isinstance(process, dict) or process.keys() != shapes.PROCESS.keys():
        raise container.directory.damaged("run.json", "process is missing or wrong")
    return process


def _sets(container: Resident, name: str) -> bool:
    given = container.config["options"].get("env") or ()
    return any(str(item).startswith(f"{name}=") for item in given)


def _lines(files: Sequence[str]) -> list[str]:
    return [line for path in files for line in request.env_file(path)]
