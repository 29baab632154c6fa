# SPDX-License-Identifier: Apache-2.0
"""Which namespaces are made by clone and which are joined, and by what way."""

from __future__ import annotations

from minibox import syscalls as sc
from minibox.compile import lifeline
from minibox.compile.slots import (
    ARENA,
    CONSOLE,
    LOWER,
    MEMBER,
    PARENT,
    ROOT,
    STAGE,
    STDIO,
    monitor_fds,
    namespace,
)
from minibox.errors import SpecError, Unsupported
from minibox.plan import ArenaFd, Memory, Slot, Strings
from minibox.spec import CAPABILITIES, KINDS, Bind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minibox.host import Host
    from minibox.plan import Op
    from minibox.spec import Join, Spec

CAP_SYS_ADMIN = CAPABILITIES.index("SYS_ADMIN")


def new_flags(spec: Spec) -> int:
    """CLONE_NEW* of the kinds to make. A time namespace is made later, by unshare: clone cannot
    put a child into one while it shares memory. So is a cgroup namespace, which begins at the
    cgroup that the child has then (names.cgroup)."""
    later = ("time", "cgroup") if spec.cgroup else ("time",)
    flags = 0
    for kind in spec.namespaces:
        if kind not in later:
            flags |= KINDS[kind].flag
    return flags


def clone_flags(spec: Spec, host: Host) -> int:
    """The flags of the first clone: with something to join, the second one makes the rest."""
    shared = sc.CLONE_VM | sc.CLONE_PIDFD
    if is_staged(spec, host):
        # Its memory ends with the stage's exec; minibox-init tells the end of the plan itself.
        return shared | (0 if spec.joined or spec.monitor else new_flags(spec))
    return shared | sc.CLONE_CHILD_CLEARTID | new_flags(spec)


def is_staged(spec: Spec, host: Host) -> bool:
    """Does the plan run in minibox-init, whose memory and executable are not Python's?

    Where a namespace is joined, a peer may be there already and look into the child. Where the
    container's root could write to the interpreter's file (it is the host's root, the caller
    itself, or of ids that were asked for by number), an entrypoint /proc/self/exe must find
    something else. And an init or a monitor is a process, and an oom_score_adj that of all who
    share the memory.
    """
    unprivileged_ids = spec.makes("user") and spec.is_leased and host.privileged
    needs_memory = spec.has_init or spec.oom_score_adj is not None
    return bool(spec.joined or spec.monitor) or needs_memory or not unprivileged_ids


def acquire(spec: Spec, host: Host) -> Iterator[Op]:
    """Open the namespaces to join, while their files can be seen."""
    check(spec, host)
    for join in _by_file(spec, host):
        # O_NONBLOCK: the path may be a fifo's.
        flags = sc.O_RDONLY | sc.O_NONBLOCK | sc.O_NOCTTY | sc.O_CLOEXEC
        yield _about(join, sc.openat(sc.AT_FDCWD, join.path, flags, to=namespace(join.kind)))


def _by_file(spec: Spec, host: Host) -> tuple[Join, ...]:
    """A guest's come with one pidfd, all at once. Where exec does not enter a time namespace, that
    pidfd is an init's, and only the children of an init are in it."""
    if not spec.guest:
        return spec.joined
    return tuple(j for j in spec.joined if j.kind == "time" and not host.exec_enters_time)


def _about(join: Join, op: Op) -> Op:
    op.origin = f"namespaces, join {join.kind} {join.path.decode(errors='replace')}"
    op.why = "--join"
    return op


def check(spec: Spec, host: Host) -> None:
    if not spec.has_own_ids and not host.capabilities >> CAP_SYS_ADMIN & 1:
        text = "only root has namespaces without a user namespace: drop --userns host"
        raise Unsupported(text, "rights")
    kinds = [*spec.namespaces, *[join.kind for join in spec.joined]]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise SpecError(
                "namespaces", f"{kind} cannot be both new and joined, or be joined twice"
            )
    if spec.joins("mnt") != (spec.root is None):
        raise SpecError("namespaces", "a joined mnt namespace brings its own root file system")
    if not spec.joins("mnt") and not spec.makes("mnt"):
        raise SpecError("namespaces", "mnt cannot be shared: the root would be the host's")
    if spec.joins("mnt") and (spec.mounts or (spec.terminal and not spec.guest)):
        raise SpecError("namespaces", "nothing is mounted in a mnt namespace that is joined")


def leave_python(spec: Spec, host: Host) -> Iterator[Op]:
    """Only now, as root of the user namespace: an exec by an unmapped id loses all capabilities.
    A monitor's child has done so before; its files in /proc are not needed any more."""
    if spec.monitor and not host.privileged:
        yield sc.prctl(sc.PR_SET_DUMPABLE, 0, why="nobody may look into the stage")
    if is_staged(spec, host) and not spec.joined and not spec.monitor:
        yield from stage(spec, host)


def stage(spec: Spec, host: Host) -> Iterator[Op]:
    """Leave Python's memory: exec the sealed minibox-init, which goes on with the next op."""
    for slot in _inherited(spec, host):
        yield sc.fcntl(slot, sc.F_SETFD, 0, why="the stage inherits it")
    argv = Memory(bytes(24), '["minibox-init", <arena>]', ((0, b"minibox-init"), (8, ArenaFd())))
    yield sc.execveat(STAGE, argv, Strings(()), why="memory and an executable of its own")


def _inherited(spec: Spec, host: Host) -> Iterator[Slot]:
    yield ARENA
    if spec.monitor:
        yield from monitor_fds(spec)
    elif spec.starts_supervised:
        yield PARENT
    if spec.root and host.privileged:
        yield LOWER if spec.root.overlay or spec.root.readonly else ROOT
        for i, mount in enumerate(spec.mounts):
            if isinstance(mount, Bind):
                yield Slot(f"volume{i}")
    if spec.guest:
        yield MEMBER
    for join in _by_file(spec, host):
        yield namespace(join.kind)
    for fd in spec.redirected:
        yield STDIO[fd]
    if spec.sends_fds:
        yield CONSOLE


def join(spec: Spec, host: Host) -> Iterator[Op]:
    """Enter what is to be joined, then make what is to be new in a second child: a pid or time
    namespace takes in children only. With root's rights the user namespace comes last, because
    they end there; without, first, because they begin there."""
    if not spec.joined:
        return
    if not spec.monitor:
        yield from stage(spec, host)
    yield sc.prctl(sc.PR_SET_DUMPABLE, 0, why="no peer inside may look into this process")
    if host.privileged and spec.joins("user"):
        yield sc.setgroups((), why="a joined user namespace may deny it")
    by_file = _by_file(spec, host)
    if spec.guest:
        flags = sum(KINDS[joined.kind].flag for joined in spec.joined if joined not in by_file)
        yield sc.setns(MEMBER, flags, why="all of the container's, at one moment")
    for joined in sorted(by_file, key=lambda j: (j.kind == "user") == host.privileged):
        yield _about(joined, sc.setns(namespace(joined.kind), KINDS[joined.kind].flag))
    yield sc.fork(new_flags(spec) | sc.CLONE_PARENT, why="the rest runs in a child inside")
    if spec.starts_supervised:
        yield from lifeline.bind()
