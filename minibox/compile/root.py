# SPDX-License-Identifier: Apache-2.0
"""The root file system: taken, attached, made the root; the old one goes.

The new root is attached on top of "/" in the child's own mount namespace, so that no path of the
host is named after the first one, and nothing that is renamed meanwhile matters.
"""

from __future__ import annotations

from minibox import syscalls as sc
from minibox.compile.identity import is_mapped
from minibox.compile.slots import FS, LOWER, ROOT, UPPER, USERNS
from minibox.plan import Offset, Slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minibox.host import Host
    from minibox.plan import Op
    from minibox.spec import Root, Spec

CLONE_TREE = sc.OPEN_TREE_CLONE | sc.OPEN_TREE_CLOEXEC | sc.OPEN_TREE_AT_RECURSIVE


def has_overlay(root: Root) -> bool:
    # A read-only tree may lack mount points: they are made in the overlay's upper layer.
    return root.overlay or root.readonly


def tree(
    path: bytes, to: Slot, attributes: int, *, idmap: bool, recursive: bool = True, why: str = ""
) -> Iterator[Op]:
    """A detached copy of the mounts at `path`, with these attributes.

    Private: a copy stays in its source's peer group, and what is mounted in it would show there.
    """
    flags = CLONE_TREE if recursive else CLONE_TREE & ~sc.OPEN_TREE_AT_RECURSIVE
    yield sc.open_tree(sc.AT_FDCWD, path, flags, to=to, why=why)
    attr = sc.mount_attr(attributes | (sc.MOUNT_ATTR_IDMAP if idmap else 0), 0, sc.MS_PRIVATE)
    if idmap:
        yield sc.store(USERNS, Offset(attr, sc.USERNS_FD_AT, "&userns_fd"), why="whose id map")
    reason = "private, and its owners look as on the host" if idmap else "private"
    yield sc.mount_setattr(to, b"", sc.AT_EMPTY_PATH | sc.AT_RECURSIVE, attr, why=reason)


def _tree(root: Root, host: Host, idmap: bool) -> Iterator[Op]:
    slot = LOWER if has_overlay(root) else ROOT
    # Below the host's own root lie its proc, sys and dev. Without privilege the kernel insists.
    recursive = root.path != b"/" or not host.privileged
    attributes = sc.MOUNT_ATTR_NODEV
    why = "the root file system"
    for op in tree(root.path, slot, attributes, idmap=idmap, recursive=recursive, why=why):
        op.origin = f"root, mount {root.path.decode(errors='replace')}"
        yield op


def acquire(spec: Spec, host: Host) -> Iterator[Op]:
    """As root the parent takes the tree: only it may apply an id map to the mount."""
    if spec.root and host.privileged:
        yield from _tree(spec.root, host, spec.has_own_ids)


def attach(spec: Spec, host: Host) -> Iterator[Op]:
    if not spec.root:
        return
    if not host.privileged:
        yield from _tree(spec.root, host, False)
    if has_overlay(spec.root):
        yield from _overlay(spec)
    yield sc.move_mount(ROOT, sc.AT_FDCWD, b"/", why="on top of the old root")


def _overlay(spec: Spec) -> Iterator[Op]:
    """An overlay of the tree and a tmpfs; the paths it is given count from the tmpfs."""
    root = spec.root
    assert root is not None
    yield sc.fsopen(b"tmpfs", to=FS, why="for the overlay's upper layer")
    yield sc.fsconfig_string(FS, b"mode", b"0755", why="the upper layer")
    yield sc.fsconfig_string(FS, b"size", root.size, why="--size")
    yield sc.fsconfig_create(FS, why="the upper layer")
    yield sc.fsmount(FS, sc.MOUNT_ATTR_NODEV, to=UPPER, why="the upper layer")
    for directory in (b"lower", b"upper", b"work"):
        yield sc.mkdirat(UPPER, directory, 0o755, why="the overlay's layers")
    # The root directory of an overlay is its upper layer's.
    yield sc.fchmodat(UPPER, b"upper", root.mode, why="the mode of the tree's root")
    if root.owner != (0, 0) and is_mapped(spec, *root.owner):
        yield sc.fchownat(UPPER, b"upper", *root.owner, why="the owner of the tree's root")
    yield sc.move_mount(UPPER, sc.AT_FDCWD, b"/", why="layers must be attached")
    yield sc.move_mount(LOWER, UPPER, b"lower", why="the root file system")
    yield sc.fchdir(UPPER, why="the paths below are relative")
    yield sc.fsopen(b"overlay", to=FS, why="the root file system stays as it is")
    for key, value in ((b"lowerdir", b"lower"), (b"upperdir", b"upper"), (b"workdir", b"work")):
        yield sc.fsconfig_string(FS, key, value, why="the overlay")
    yield sc.fsconfig_flag(FS, b"userxattr", why="trusted.* is not for user namespaces")
    yield sc.fsconfig_create(FS, why="the overlay")
    yield sc.fsmount(FS, sc.MOUNT_ATTR_NODEV, to=ROOT, why="the overlay")
    if spec.shows_upper:
        from minibox.compile import console  # only a kept container needs it here

        yield from console.send_fd(UPPER, b"u", "for minibox diff")
    yield sc.umount2(b".", sc.MNT_DETACH, why="the overlay keeps the layers")


def finish(spec: Spec, host: Host) -> Iterator[Op]:
    """Read-only, now that every mount point is there."""
    if spec.root and spec.root.readonly:
        attr = sc.mount_attr(set_=sc.MOUNT_ATTR_RDONLY)
        yield sc.mount_setattr(ROOT, b"", sc.AT_EMPTY_PATH, attr, why="--read-only")


def pivot(spec: Spec, host: Host) -> Iterator[Op]:
    """pivot_root(".", ".") puts the old root on top of the new one, whence it is detached."""
    if spec.root:
        yield sc.fchdir(ROOT, why="the new root")
        yield sc.pivot_root(b".", b".", why="the new root is the root")
        yield sc.umount2(b".", sc.MNT_DETACH, why="the old root goes")
