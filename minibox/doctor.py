# SPDX-License-Identifier: Apache-2.0
"""What this host offers for containers, what follows from it, and what mends it.

Each check asks the running kernel or reads what it says; none changes anything. One that cannot be
made says so.
"""

from __future__ import annotations

import os
from errno import ENOSYS, EOPNOTSUPP

from minibox import core, host, restrictions
from minibox import syscalls as sc
from minibox.errors import MiniboxError, SetupError, Unsupported
from minibox.numbers import NUMBERS
from minibox.primitive import clone
from minibox.resources import cgroup, idmap, subids
from minibox.spec import NAMESPACES, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

YES, PARTLY, NO = "yes", "partly", "no"
CAPABILITIES = {"SYS_ADMIN": 21, "NET_ADMIN": 12, "SYS_RESOURCE": 24}
BINFMT = "/proc/sys/fs/binfmt_misc"
ONE_ID = b"0 4294967294 1\n"  # nobody's


class Finding(Record):
    """name: what was looked at. state: "yes", "partly" or "no". found: what there is. follows: what
    that means for minibox. mend: a command, or empty."""

    name: str
    state: str
    found: str
    follows: str = ""
    mend: str = ""


def examine() -> Iterator[Finding]:
    """All checks, one after the other."""
    for name in CHECKS:
        yield look(name)


def look(name: str) -> Finding:
    """One of them."""
    try:
        return CHECKS[name]()
    except (MiniboxError, OSError, ValueError) as error:
        return Finding(name, PARTLY, f"it cannot be told: {error}".splitlines()[0])


def _kernel() -> Finding:
    found = f"Linux {os.uname().release}, {os.uname().machine}"
    if _version() >= [5, 19]:
        return Finding("kernel", YES, found)
    follows = "idmapped mounts need 5.12, below an overlay 5.19"
    return Finding("kernel", PARTLY, found, follows, "install a kernel of 5.19 or newer")


def _rights() -> Finding:
    here = host.probe()
    lacks = [name for name, bit in CAPABILITIES.items() if not here.capabilities >> bit & 1]
    if here.privileged and not lacks:
        return Finding("rights", YES, "root in the initial user namespace")
    if here.privileged:
        follows = {
            "SYS_RESOURCE": "limits cannot be raised",
            "NET_ADMIN": "no bridge: --net user or none",
        }
        text = "; ".join(follows[name] for name in lacks)
        return Finding("rights", PARTLY, f"root without CAP_{', CAP_'.join(lacks)}", text)
    who = f"user {here.uid}" if here.uid else "root of a user namespace"
    follows_ = "--net is user or none, and limits need delegation"
    return Finding("rights", PARTLY, who, follows_, "sudo minibox …")


def _namespaces() -> Finding:
    there = [one.kind for one in NAMESPACES if os.path.exists(f"/proc/self/ns/{one.kind}")]
    lacks = [one.kind for one in NAMESPACES if one.kind not in there]
    if not lacks:
        return Finding("namespaces", YES, ", ".join(there))
    follows = f"a container shares these with the host: --share {','.join(lacks)}"
    return Finding("namespaces", PARTLY, f"without {', '.join(lacks)}", follows)


def _user_namespaces() -> Finding:
    name = "user namespaces"
    try:
        child = clone([sc.exit_(0)], flags=sc.CLONE_NEWUSER)
        child.wait()
        child.close()
    except OSError as error:
        knobs = {
            "kernel.unprivileged_userns_clone": "0",
            "user.max_user_namespaces": "0",
            "kernel.apparmor_restrict_unprivileged_userns": "1",
        }
        closed = [knob for knob, value in knobs.items() if _sysctl(knob) == value]
        mends = {"0": "sysctl -w {}=1", "1": "sysctl -w {}=0"}
        mend = mends[knobs[closed[0]]].format(closed[0]) if closed else ""
        if mend and "max_user" in mend:
            mend = mend.replace("=1", "=65536")
        why = f"{error.strerror}{': ' + closed[0] if closed else ''}"
        follows = "as root --userns host, without root nothing runs"
        return Finding(name, NO, why, follows, mend)
    return Finding(name, YES, "a process can make one")


def _ids() -> Finding:
    """newuidmap(1), subuid(5)."""
    name, user = subids.LACK, subids.own_names()[0]
    if os.geteuid() == 0:
        return Finding(name, YES, "root maps what it likes")
    tools = [tool for tool in ("newuidmap", "newgidmap") if not subids.program(tool)]
    if not tools and all(subids.own()):
        return Finding(name, YES, f"newuidmap, and ranges for {user}")
    found = f"{' and '.join(tools)} missing" if tools else f"no range for {user} in /etc/subuid"
    mend = "install the package uidmap" if tools else f"usermod --add-subuids 100000-165535 {user}"
    return Finding(name, NO, found, "containers have one id, the caller's", mend)


def _idmapped_mounts() -> Finding:
    name = "idmapped mounts"
    if not host.probe().privileged:
        return Finding(name, NO, "only for root", "files keep their owners' ids")
    try:
        userns = idmap.make_userns(ONE_ID, ONE_ID)
    except SetupError:
        return Finding(name, NO, "no user namespace can be made for their maps", "--userns host")
    tree = -1
    try:
        flags = sc.OPEN_TREE_CLONE | sc.OPEN_TREE_CLOEXEC
        tree = core.syscall(NUMBERS["open_tree"], sc.AT_FDCWD, b"/", flags)
        attr = sc.MOUNT_ATTR_IDMAP.to_bytes(8, "little") + bytes(16) + userns.to_bytes(8, "little")
        core.syscall(NUMBERS["mount_setattr"], tree, b"", sc.AT_EMPTY_PATH, attr, len(attr))
    except OSError as error:
        follows = "--userns host, or :noidmap for volumes there"
        return Finding(name, PARTLY, f"not for the file system of /: {error.strerror}", follows)
    finally:
        os.close(userns)
        if tree >= 0:
            os.close(tree)
    return Finding(name, YES, "for the file system of /, at least")


def _overlay() -> Finding:
    """It marks what is removed with user.* attributes, which tmpfs has since 6.6 (tmpfs(5))."""
    module = f"/lib/modules/{os.uname().release}/modules.dep"
    if "overlay" in _text("/proc/filesystems").split():
        found = "there is one"
    elif "/overlay.ko" in _text(module):
        found = "a module that the kernel loads when it is asked for"
    else:
        follows = "no --overlay and no --read-only"
        return Finding("overlay", NO, "not in this kernel", follows)
    if _version() >= [6, 6]:
        return Finding("overlay", YES, found)
    follows = "directories of the tree cannot be removed in --overlay and --volatile"
    mend = "install a kernel of 6.6 or newer"
    return Finding("overlay", PARTLY, f"{found}; tmpfs has no user.* attributes", follows, mend)


def _proc() -> Finding:
    """mount_too_revealing() in fs/namespace.c: a user namespace gets a new proc or sysfs only where
    one is fully visible."""
    rows = [row.split() for row in _text("/proc/self/mountinfo").splitlines()]
    points = [row[4] for row in rows if len(row) > 4]
    covers = [one for one in points if one.startswith("/proc/") and one != BINFMT]
    if not covers:
        return Finding("proc", YES, "nothing covers a part of /proc")
    found = f"{len(covers)} mounts below /proc, as in a container: {covers[0]}"
    follows = "no new proc in a user namespace; --userns host, or --share pid"
    mend = "the outer container without masked paths (systempaths=unconfined)"
    return Finding("proc", PARTLY, found, follows, mend)


def _cgroups() -> Finding:
    mounts = cgroup.mounts()
    place = mounts.pop("", None)
    controllers = _text(f"{place[0]}/cgroup.controllers").split() if place else []
    known = [row.split()[0] for row in _text("/proc/cgroups").splitlines()[1:] if row.split()]
    older = sorted(name for name in mounts if name in known)
    if place and not older:
        lacks = [name for name in ("cpu", "io", "memory", "pids") if name not in controllers]
        found = f"v2, with {', '.join(controllers) or 'no controller'}"
        follows = f"nothing can limit {', '.join(lacks)}" if lacks else ""
        return Finding("cgroups", PARTLY if lacks else YES, found, follows)
    if place:
        found = f"hybrid: v1 has {', '.join(older)}, v2 {', '.join(controllers) or 'none'}"
        mend = "boot with systemd.unified_cgroup_hierarchy=1"
        return Finding("cgroups", PARTLY, found, "crun, and engines with it, want v2 alone", mend)
    if older:
        return Finding("cgroups", PARTLY, f"v1: {', '.join(older)}", "no CLONE_INTO_CGROUP")
    return Finding("cgroups", NO, "none is mounted", "nothing can limit a container")


def _seccomp() -> Finding:
    """seccomp(2)."""
    from minibox.seccomp import library
    from minibox.seccomp.rules import MACHINES

    follows, machine = "containers start with --security-opt seccomp=unconfined", os.uname().machine
    actions = _text("/proc/sys/kernel/seccomp/actions_avail").split()
    if not actions:
        return Finding("seccomp", NO, "not in this kernel", follows)
    if machine not in MACHINES:
        return Finding("seccomp", NO, f"the system calls of {machine} are not known", follows)
    try:
        version = ".".join(map(str, library.version()))
    except Unsupported:
        found = f"the kernel's, without {library.NAME}"
        follows = "no filter but the default one that minibox was built with"
        return Finding("seccomp", PARTLY, found, follows, "install the package libseccomp2")
    return Finding("seccomp", YES, f"libseccomp {version}; {', '.join(actions)}")


def _landlock() -> Finding:
    """landlock_create_ruleset(2)."""
    try:
        version = restrictions.landlock_version()
    except OSError as error:
        state = "not in this kernel" if error.errno == ENOSYS else "switched off at boot"
        known = error.errno in (ENOSYS, EOPNOTSUPP)
        return Finding("landlock", NO, state if known else error.strerror or "")
    return Finding("landlock", YES, f"version {version}")


def _networks() -> Finding:
    """Bridges and their rules; what needs no right to look at."""
    from _socket import AF_NETLINK, SOCK_CLOEXEC, SOCK_RAW, socket

    name = "networks"
    try:
        socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 12).close()  # NETLINK_NETFILTER
    except OSError as error:
        follows = "no bridge and no published port: --net none, host or user"
        return Finding(name, NO, f"no nftables: {error.strerror}", follows, "modprobe nf_tables")
    forwards = _text("/proc/sys/net/ipv4/ip_forward").strip() == "1"
    found = "nftables" + (", and this host forwards" if forwards else "")
    follows = "" if forwards else "the first start with a bridge sets net.ipv4.ip_forward"
    return Finding(name, YES, found, follows)


def _pasta() -> Finding:
    """What --net user needs."""
    from minibox.network import user

    name, why = "pasta", user.obstacle()
    if not why:
        return Finding(name, YES, user.find() or "")
    mend = "install the package passt" if user.find() is None else ""
    mend = mend or (f"chmod 666 {user.TUN}" if "opened" in why else "")
    return Finding(name, NO, why, "no --net user: without root only lo", mend)


def _modules() -> Finding:
    """The kernel's other guards."""
    there, mend = [], ""
    if restrictions.has_apparmor():
        is_loaded = restrictions.is_loaded(restrictions.APPARMOR)
        there.append(
            f"AppArmor, profile {restrictions.APPARMOR} {'' if is_loaded else 'not '}loaded"
        )
        mend = "" if is_loaded else f"apparmor_parser -r {os.path.dirname(__file__)}/apparmor"
    if os.path.exists("/sys/fs/selinux/enforce"):
        enforces = _text("/sys/fs/selinux/enforce").strip() == "1"
        there.append(f"SELinux{'' if enforces else ', permissive'}")
    found = ", ".join(there) or "neither AppArmor nor SELinux is on"
    state = NO if not there else PARTLY if mend else YES
    follows = "containers have no label of their own" if state != YES else ""
    return Finding("security modules", state, found, follows, mend)


def _core_dumps() -> Finding:
    """core(5)."""
    pattern = _text("/proc/sys/kernel/core_pattern").strip()
    if pattern.startswith("|"):
        found = f"a program of the host's: {pattern[:60]}"
        follows = (
            "run by the host's root, but for a container: its limit is 1 byte, unless --ulimit"
        )
        return Finding("core dumps", YES, found, follows)
    return Finding("core dumps", YES, f"a file: {pattern}")


CHECKS: dict[str, Callable[[], Finding]] = {
    "kernel": _kernel,
    "rights": _rights,
    "namespaces": _namespaces,
    "user namespaces": _user_namespaces,
    "ids for ordinary users": _ids,
    "idmapped mounts": _idmapped_mounts,
    "overlay": _overlay,
    "proc": _proc,
    "cgroups": _cgroups,
    "seccomp": _seccomp,
    "landlock": _landlock,
    "networks": _networks,
    "pasta": _pasta,
    "security modules": _modules,
    "core dumps": _core_dumps,
}


# What they look with.


def _version() -> list[int]:
    """The kernel's, as two numbers."""
    return [int(part) for part in os.uname().release.replace("-", ".").split(".")[:2]]


def _text(path: str) -> str:
    """A file; empty where there is none or it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _sysctl(name: str) -> str:
    return _text(f"/proc/sys/{name.replace('.', '/')}").strip()
