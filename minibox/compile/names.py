# SPDX-License-Identifier: Apache-2.0
"""The small namespaces: session and keyring, host name, loopback, clocks."""

from __future__ import annotations

import struct

from minibox import syscalls as sc
from minibox.errors import SpecError
from minibox.plan import Memory, Slot
from minibox.spec import TimeOffsets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minibox.host import Host
    from minibox.plan import Op
    from minibox.spec import Spec

# What is of a namespace, and of which (network_namespaces(7), ipc_namespaces(7)).
SYSCTLS = (
    (b"net/", "net"),
    (b"kernel/shm", "ipc"),
    (b"kernel/msg", "ipc"),
    (b"kernel/sem", "ipc"),
    (b"fs/mqueue/", "ipc"),
)


def session(spec: Spec, host: Host) -> Iterator[Op]:
    """Neither the caller's terminal nor its keys."""
    yield sc.setsid(why="not in the caller's terminal session")
    # ENOSYS: a kernel without keys. EDQUOT, EACCES and the rest are failures.
    yield sc.keyctl_join_session_keyring(ok=(38,), why="not the caller's keys")


def name(spec: Spec, host: Host) -> Iterator[Op]:
    for word, value in (("hostname", spec.hostname), ("domainname", spec.domainname)):
        if value is not None and not spec.makes("uts"):
            raise SpecError(word, "it would be the host's: the uts namespace is not a new one")
    if spec.hostname is not None:
        yield sc.sethostname(spec.hostname, why="--hostname")
    if spec.domainname is not None:
        yield sc.setdomainname(spec.domainname, why="--domainname")


INET = Slot("inet")


def loopback(spec: Spec, host: Host) -> Iterator[Op]:
    """A new network namespace has nothing but a `lo` that is down (netdevice(7))."""
    if spec.makes("net"):
        flags = sc.SOCK_DGRAM | sc.SOCK_CLOEXEC
        yield sc.socket(sc.AF_INET, flags, to=INET, why="for the ioctl")
        yield up(b"lo")


def up(name: bytes) -> Op:
    """Switch an interface on."""
    text = f'{{ifr_name="{name.decode()}", ifr_flags=IFF_UP}}'
    request = Memory(struct.pack("=16sH22x", name, sc.IFF_UP), text)
    return sc.ioctl(INET, sc.IOCTL_SIOCSIFFLAGS, request, why=f"{name.decode()} up")


def sysctls(spec: Spec, host: Host) -> Iterator[Op]:
    """In the /proc that is the container's own, while its root still has the right."""
    for path, value in spec.sysctls:
        kind = next((kind for start, kind in SYSCTLS if path.startswith(start)), None)
        called = path.decode(errors="replace")
        if kind is None or not spec.makes(kind):
            raise SpecError("sysctl", f"{called} is the host's, not of a namespace that is new")
        if spec.root is None:
            raise SpecError("sysctl", "a mnt namespace that is joined may have no /proc")
        file = Slot("sysctl")
        flags = sc.O_WRONLY | sc.O_CLOEXEC
        yield sc.openat(sc.AT_FDCWD, b"/proc/sys/" + path, flags, to=file, why="--sysctl")
        yield sc.write(file, value, why=f"{called} = {value.decode(errors='replace')}")


def cgroup(spec: Spec, host: Host) -> Iterator[Op]:
    """It begins at the cgroup into which minibox has put us at the gate (cgroup_namespaces(7));
    clone3 with CLONE_INTO_CGROUP would begin it at the parent's (kernel/fork.c, copy_process)."""
    if spec.cgroup and spec.makes("cgroup"):
        yield sc.unshare(sc.CLONE_NEWCGROUP, why="its own cgroup is / inside")


def clocks(spec: Spec, host: Host) -> Iterator[Op]:
    """A time namespace is entered by exec, or by an init's child; its offsets are fixed by then
    (time_namespaces(7)).
    Before any change of ids: that clears dumpable, and /proc/self would be the host root's."""
    if not spec.makes("time"):
        return
    if not host.exec_enters_time and not spec.has_init:
        raise SpecError("time", "this kernel lets only children into a new one: it takes an init")
    yield sc.unshare(sc.CLONE_NEWTIME, why="entered by exec")
    if spec.time_offsets != TimeOffsets():
        offsets = spec.time_offsets
        text = b"monotonic %d 0\nboottime %d 0\n" % (offsets.monotonic, offsets.boottime)
        file = Slot("timens_offsets")
        yield sc.openat(
            sc.AT_FDCWD,
            b"/proc/self/timens_offsets",
            sc.O_WRONLY | sc.O_CLOEXEC,
            to=file,
            why="the host's proc still",
        )
        yield sc.write(file, text, why="the clocks' offsets")
