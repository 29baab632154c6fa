# SPDX-License-Identifier: Apache-2.0
"""What is mounted below the root: one lowering for each class of mount in spec.py.

A target in the tree is hostile: it is resolved with openat2 so that no link in it leads out, made
component by component where it is missing, and mounted upon by fd. A target in a tmpfs that we
have just made is ours, and a plain mount(2) does.
"""

from __future__ import annotations

from errno import EEXIST, ENOENT, EPERM

from minibox import spec as s
from minibox import syscalls as sc
from minibox.compile.identity import is_mapped
from minibox.compile.paths import empty
from minibox.compile.root import CLONE_TREE, tree
from minibox.compile.slots import DEV, FS, MOUNT, ROOT, TARGET
from minibox.errors import SpecError
from minibox.plan import Blank, Slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minibox.host import Host
    from minibox.plan import Op

    Lowering = Callable[[s.Spec, Host, s.Mount, Slot], Iterator[Op]]

SAFE = sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV | sc.MOUNT_ATTR_NOEXEC
INSIDE = sc.open_how(sc.O_PATH | sc.O_CLOEXEC, sc.RESOLVE_IN_ROOT | sc.RESOLVE_NO_MAGICLINKS)
INSIDE_DIRECTORY = sc.open_how(
    sc.O_PATH | sc.O_DIRECTORY | sc.O_CLOEXEC, sc.RESOLVE_IN_ROOT | sc.RESOLVE_NO_MAGICLINKS
)
NO_LINK = sc.open_how(
    sc.O_PATH | sc.O_DIRECTORY | sc.O_CLOEXEC, sc.RESOLVE_IN_ROOT | sc.RESOLVE_NO_SYMLINKS
)
# Where the kernel lets other file systems be mounted, callers of sysfs_create_mount_point().
UPON_SYSFS = (
    *(b"fs/bpf", b"fs/cgroup", b"fs/fuse/connections", b"fs/pstore", b"fs/resctrl", b"fs/selinux"),
    *(b"fs/smackfs", b"kernel/config", b"kernel/debug", b"kernel/security", b"kernel/tracing"),
)
TTY = 5  # the group, in every distribution's /etc/group
SCRATCH = b".text"
NODES = (b"null", b"zero", b"full", b"random", b"urandom", b"tty")
LINKS = (
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
    (b"ptmx", b"pts/ptmx"),
)


def _volume(index: int) -> Slot:
    return Slot(f"volume{index}")


def _where(index: int, mount: s.Mount) -> str:
    kind = type(mount).__name__.lower()
    return f"mounts[{index}], mount {kind} on {mount.target.decode(errors='replace')}"


def acquire(spec: s.Spec, host: Host) -> Iterator[Op]:
    """As root the parent takes the volumes, with the host's view and rights."""
    for i, mount in enumerate(spec.mounts):
        _check(i, mount)
    if host.privileged:
        yield from _volumes(spec, spec.has_own_ids)


def take(spec: s.Spec, host: Host) -> Iterator[Op]:
    """Otherwise the child does, before the new root lies on the old one: else it would lie on a
    volume of all of /, too."""
    if not host.privileged:
        yield from _volumes(spec, False)


def _volumes(spec: s.Spec, has_own_ids: bool) -> Iterator[Op]:
    for i, mount in enumerate(spec.mounts):
        if isinstance(mount, s.Bind):
            idmap = mount.idmap and has_own_ids
            why = "the volume's source"
            for op in tree(mount.source, _volume(i), mount.attributes, idmap=idmap, why=why):
                op.origin = _where(i, mount)
                yield op


def _check(index: int, mount: s.Mount) -> None:
    target = mount.target
    if not target.startswith(b"/") or b".." in target.split(b"/"):
        raise SpecError(_where(index, mount), "the target must be absolute, without ..")
    if not target.strip(b"/"):
        raise SpecError(_where(index, mount), "the target cannot be the root itself")
    in_proc = target.strip(b"/").split(b"/")[0] == b"proc"
    if in_proc and not isinstance(mount, s.Proc):
        raise SpecError(_where(index, mount), "nothing may be mounted on or below /proc")


def seclude(spec: s.Spec, host: Host) -> Iterator[Op]:
    """A copy of the host's mounts is where the child begins."""
    if spec.makes("mnt"):
        attr = sc.mount_attr(propagation=sc.MS_PRIVATE)
        yield sc.mount_setattr(
            sc.AT_FDCWD, b"/", sc.AT_RECURSIVE, attr, why="no mount of ours shows on the host"
        )


def mount(spec: s.Spec, host: Host) -> Iterator[Op]:
    # proc comes last: whatever a link in the tree has brought onto /proc, lies below it.
    last = [(i, mount) for i, mount in enumerate(spec.mounts) if isinstance(mount, s.Proc)]
    first = [(i, mount) for i, mount in enumerate(spec.mounts) if not isinstance(mount, s.Proc)]
    for i, mount in first + last:
        for op in LOWERINGS[type(mount)](spec, host, mount, _volume(i)):
            op.origin = _where(i, mount)
            yield op


def _target(path: bytes, *, directory: bool = True, links: bool = True) -> Iterator[Op]:
    """Find or make `path` inside the root; its fd is in TARGET.

    mkdirat does not follow a link in the last component, and each parent is an fd that openat2
    has resolved inside the root, so nothing is ever made outside.
    """
    parts = path.strip(b"/").split(b"/")
    parent = ROOT
    for depth, part in enumerate(parts, 1):
        is_last = depth == len(parts)
        if directory or not is_last:
            yield sc.mkdirat(parent, part, 0o755, ok=(EEXIST,), why="the mount point")
            how = INSIDE_DIRECTORY if links else NO_LINK
        else:
            yield sc.mknodat(parent, part, sc.S_IFREG | 0o644, ok=(EEXIST,), why="the mount point")
            how = INSIDE
        yield sc.openat2(ROOT, b"/".join(parts[:depth]), how, to=TARGET, why="inside the root")
        parent = TARGET


def _new(
    fstype: bytes, attributes: int, options: tuple[tuple[bytes, bytes], ...] = (), to: Slot = MOUNT
) -> Iterator[Op]:
    """A new file system, as a mount that is not attached yet (fsopen(2))."""
    yield sc.fsopen(fstype, to=FS, why=f"a new {fstype.decode()}")
    for key, value in options:
        yield sc.fsconfig_string(FS, key, value, why=f"a new {fstype.decode()}")
    yield sc.fsconfig_create(FS, why=f"a new {fstype.decode()}")
    yield sc.fsmount(FS, attributes, to=to, why=f"a new {fstype.decode()}")


def _hosts(path: bytes, attributes: int) -> Iterator[Op]:
    """The host's own mounts at `path`: for a namespace that the container shares with it."""
    attr = sc.mount_attr(set_=attributes, propagation=sc.MS_PRIVATE)
    yield sc.open_tree(sc.AT_FDCWD, path, CLONE_TREE, to=MOUNT, why="the host's, as it is shared")
    yield sc.mount_setattr(MOUNT, b"", sc.AT_EMPTY_PATH | sc.AT_RECURSIVE, attr, why="restricted")


def proc(spec: s.Spec, host: Host, mount: s.Mount, _: Slot) -> Iterator[Op]:
    yield from _target(mount.target, links=False)
    if spec.makes("user") and not spec.makes("pid") and not spec.joins("pid"):
        # A user namespace may mount procfs only for a pid namespace that it owns.
        yield from _hosts(b"/proc", SAFE)
    else:
        yield from _new(b"proc", SAFE)
    yield sc.move_mount(MOUNT, TARGET, why="attach it")


def sysfs(spec: s.Spec, host: Host, mount: s.Mount, _: Slot) -> Iterator[Op]:
    yield from _target(mount.target, links=False)
    is_hosts = spec.makes("user") and not spec.makes("net")
    if is_hosts:
        yield from _hosts(b"/sys", SAFE | sc.MOUNT_ATTR_RDONLY)
    else:
        yield from _new(b"sysfs", SAFE | sc.MOUNT_ATTR_RDONLY)
    yield sc.move_mount(MOUNT, TARGET, why="attach it")
    if is_hosts:
        # What the host has mounted there came with it, and cannot be left behind: it is locked
        # (mount_namespaces(7)).
        yield sc.fchdir(MOUNT, why="the names below are in it")
        for path in UPON_SYSFS:
            yield empty(path, (ENOENT,), "a file system of the host's, not to be seen")


def cgroup(spec: s.Spec, host: Host, mount: s.Mount, _: Slot) -> Iterator[Op]:
    if not spec.cgroup or not spec.makes("cgroup"):
        raise SpecError("mounts", "a cgroup2 would be the host's: there is no cgroup of its own")
    yield from _target(mount.target, links=False)
    yield from _new(b"cgroup2", SAFE | sc.MOUNT_ATTR_RDONLY)
    yield sc.move_mount(MOUNT, TARGET, why="attach it")


def dev(spec: s.Spec, host: Host, mount: s.Mount, _: Slot) -> Iterator[Op]:
    assert isinstance(mount, s.Dev)
    yield from _target(mount.target, links=False)
    options = ((b"mode", b"0755"), (b"size", b"64k"))
    # nodev: the nodes are mounts of the host's, and no other one shall work.
    yield from _new(b"tmpfs", SAFE, options, to=DEV)
    yield sc.move_mount(DEV, TARGET, why="attach it")
    yield sc.fchdir(DEV, why="the names below are in this tmpfs")
    for node in NODES:
        yield sc.mknodat(DEV, node, sc.S_IFREG | 0o666, why="to mount the host's node upon")
        yield sc.mount(b"/dev/" + node, node, None, sc.MS_BIND, why="the host's node")
    # A node is written to all the same; but its mode and owner are those of the host's, which a
    # container's root that is the host's could change. The tmpfs itself stays writable.
    fixed = sc.mount_attr(sc.MOUNT_ATTR_RDONLY)
    flags = sc.AT_EMPTY_PATH | sc.AT_RECURSIVE
    yield sc.mount_setattr(DEV, b"", flags, fixed, why="nobody changes the host's nodes")
    loose = sc.mount_attr(clear=sc.MOUNT_ATTR_RDONLY)
    yield sc.mount_setattr(DEV, b"", sc.AT_EMPTY_PATH, loose, why="what is ours can be written")
    for name, target in LINKS:
        yield sc.symlinkat(target, DEV, name, why="as everywhere")
    yield sc.mkdirat(DEV, b"pts", 0o755, why="terminals of its own")
    # Where the group tty is not mapped, or may not be, a terminal keeps its opener's group.
    has_tty = not spec.joins("user") and is_mapped(spec, 0, TTY)
    group = b",gid=%d" % TTY if has_tty else b""
    yield sc.mount(
        b"devpts",
        b"pts",
        b"devpts",
        sc.MS_NOSUID | sc.MS_NOEXEC,
        b"newinstance,ptmxmode=0666,mode=0620" + group,
        why="terminals of its own",
    )
    yield from _shared_memory(spec, mount)


def _shared_memory(spec: s.Spec, mount: s.Dev) -> Iterator[Op]:
    safe = sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC
    is_own = spec.makes("ipc") or spec.joins("ipc")
    yield sc.mkdirat(DEV, b"shm", 0o755, why="POSIX shared memory")
    if is_own:
        yield sc.mount(
            b"shm",
            b"shm",
            b"tmpfs",
            safe,
            b"mode=1777,size=" + mount.shm_size,
            why="POSIX shared memory",
        )
    else:
        yield from _hosts(b"/dev/shm", SAFE)
        yield sc.move_mount(MOUNT, DEV, b"shm", why="attach it")
    yield sc.mkdirat(DEV, b"mqueue", 0o755, why="POSIX message queues")
    if is_own or not spec.makes("user"):
        # Only the owner of an ipc namespace may mount its queues: one that is joined has another.
        tolerated = (EPERM,) if spec.joins("ipc") else ()
        yield sc.mount(
            b"mqueue", b"mqueue", b"mqueue", safe, ok=tolerated, why="POSIX message queues"
        )
    else:
        yield sc.mount(
            b"/dev/mqueue", b"mqueue", None, sc.MS_BIND, ok=(ENOENT,), why="ipc is shared"
        )


def tmpfs(spec: s.Spec, host: Host, mount: s.Mount, _: Slot) -> Iterator[Op]:
    assert isinstance(mount, s.Tmpfs)
    options = [(b"mode", mount.mode)]
    if mount.size:
        options.append((b"size", mount.size))
    yield from _target(mount.target)
    yield from _new(b"tmpfs", mount.attributes, tuple(options))
    yield sc.move_mount(MOUNT, TARGET, why="attach it")


def text(spec: s.Spec, host: Host, mount: s.Mount, _: Slot) -> Iterator[Op]:
    """A file of the /dev that is ours, mounted elsewhere and then without a name: before Linux 6.15
    nothing can be taken from a mount that is not attached (open_tree(2))."""
    assert isinstance(mount, s.Text)
    file = Slot("file")
    flags = sc.O_WRONLY | sc.O_CREAT | sc.O_EXCL | sc.O_CLOEXEC
    yield sc.openat(DEV, SCRATCH, flags, 0o644, to=file, why="the file")
    content = Blank(mount.target.decode(), mount.content, f"<{len(mount.content)} bytes>")
    yield sc.write(file, content, why="what it says")
    yield sc.open_tree(DEV, SCRATCH, CLONE_TREE, to=MOUNT, why="the file alone, as a mount")
    yield from _target(mount.target, directory=False)
    yield sc.move_mount(MOUNT, TARGET, why="attach it")
    yield sc.unlinkat(DEV, SCRATCH, why="it needs no name there")


def bind(spec: s.Spec, host: Host, mount: s.Mount, volume: Slot) -> Iterator[Op]:
    assert isinstance(mount, s.Bind)
    yield from _target(mount.target, directory=mount.directory)
    yield sc.move_mount(volume, TARGET, why="attach it")


LOWERINGS: dict[type[s.Mount], Lowering] = {
    s.Proc: proc,
    s.Sysfs: sysfs,
    s.CgroupTree: cgroup,
    s.Dev: dev,
    s.Tmpfs: tmpfs,
    s.Text: text,
    s.Bind: bind,
}
