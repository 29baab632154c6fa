# SPDX-License-Identifier: Apache-2.0
"""Paths of proc and sysfs that are the kernel's, not the container's: covered, or read-only.

The /proc and /sys are the container's own mounts by now, and nothing of its runs yet, so that a
path is what it says. One that this kernel has not, is left out: ENOENT, and nothing else, is right.
"""

from __future__ import annotations

from errno import ENOENT, ENOTDIR

from minibox import syscalls as sc
from minibox.errors import SpecError
from minibox.spec import DEFAULT_MASKED, MASKED_DIRECTORIES, MASKED_FILES, Dev

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minibox.host import Host
    from minibox.plan import Op
    from minibox.spec import Spec

# A mount in a user namespace keeps these (mount_namespaces(7), "locked").
SAFE = sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC
NULL = b"/dev/null"


def cover(spec: Spec, host: Host) -> Iterator[Op]:
    if spec.root is None:
        return
    if spec.masked_paths and not any(isinstance(mount, Dev) for mount in spec.mounts):
        raise SpecError("masked_paths", "they are covered by /dev/null, and there is no /dev")
    for path in spec.masked_paths:
        _check("masked_paths", path)
        yield from _mask(path)
    for path in spec.readonly_paths:
        _check("readonly_paths", path)
        yield sc.mount(path, path, None, sc.MS_BIND | sc.MS_REC, ok=(ENOENT,), why="to restrict it")
        flags = sc.MS_BIND | sc.MS_REMOUNT | sc.MS_RDONLY | SAFE
        yield sc.mount(None, path, None, flags, ok=(ENOENT,), why="read-only")


def _check(field: str, path: bytes) -> None:
    if not path.startswith(b"/") or b".." in path.split(b"/") or b"\0" in path:
        raise SpecError(field, f"{path.decode(errors='replace')!r}: absolute, without ..")


def _mask(path: bytes) -> Iterator[Op]:
    """Under /dev/null where it is a file, under an empty file system where it is a directory. Of a
    path that is not known the kernel refuses the one that does not fit, with ENOTDIR."""
    is_known = path in DEFAULT_MASKED
    ok = (ENOENT,) if is_known else (ENOENT, ENOTDIR)
    why = "the host's, not to be seen"
    if path not in MASKED_DIRECTORIES:
        yield sc.mount(NULL, path, None, sc.MS_BIND, ok=ok, why=why)
    if path not in MASKED_FILES:
        yield empty(path, ok, why)


def empty(path: bytes, ok: tuple[int, ...], why: str) -> Op:
    """Nothing is to be seen in this directory."""
    options = b"size=4k,mode=0555"
    return sc.mount(b"tmpfs", path, b"tmpfs", sc.MS_RDONLY | SAFE, options, ok=ok, why=why)
