# SPDX-License-Identifier: Apache-2.0
"""From a bare fork to `minibox run`, flag by flag."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import minibox
from minibox import rootfs
from minibox import syscalls as sc
from minibox.errors import SetupError
from minibox.lab import Run, experiment, op, own_namespace
from minibox.plan import Memory, Op, Slot
from minibox.resources import idmap

TELL = 16384
END = b"\0"
PID_STEP = 1  # getpid, after the gate
# What each stage adds, to all that was before it.
STAGES = {
    "fork": 0,
    "and NEWUTS": sc.CLONE_NEWUTS,
    "and NEWNS": sc.CLONE_NEWNS,
    "and NEWPID": sc.CLONE_NEWPID,
    "and NEWNET": sc.CLONE_NEWNET,
    "and NEWIPC": sc.CLONE_NEWIPC,
    "and NEWCGROUP": sc.CLONE_NEWCGROUP,
    "and NEWUSER": sc.CLONE_NEWUSER,
}
LAST, RUN = "and pivot_root", "minibox run"
FILES = ("/proc/sys/kernel/hostname", "/proc/self/mountinfo", "/proc/net/dev", "/proc/self/uid_map")
IPC, CGROUP, USER = "its IPC objects and limits", "its cgroup namespace", "its user namespace"


def stages() -> dict[str, int]:
    """Name of the stage -> all flags that it has."""
    found, flags = {}, 0
    for name, flag in STAGES.items():
        flags |= flag
        found[name] = flags
    return {**found, LAST: flags, RUN: flags}


def expected(flags: int, name: str) -> dict[str, object]:
    """What the manual says that a child sees with these flags."""

    def has(flag: int) -> bool:
        return bool(flags & flag)

    return {
        "its name": "inside" if has(sc.CLONE_NEWUTS) else "that of who made it",
        "its mount is seen outside": not has(sc.CLONE_NEWNS),
        "its pid": "1" if has(sc.CLONE_NEWPID) else "another",
        "its interfaces": "lo" if has(sc.CLONE_NEWNET) else "those of who made it",
        IPC: "its own" if has(sc.CLONE_NEWIPC) else "shared",
        CGROUP: "its own" if has(sc.CLONE_NEWCGROUP) else "shared",
        USER: "its own" if has(sc.CLONE_NEWUSER) else "shared",
        "its /": "its own" if name in (LAST, RUN) else "that of who made it",
    }


ALL = stages()
EXPECTED = {name: expected(flags, name) for name, flags in ALL.items()}


@experiment(
    sum(STAGES.values()),
    source="namespaces(7), pivot_root(2)",
    runs=ALL,
    expected=EXPECTED,
    order=8,
)
def flags_to_container(run: Run) -> None:
    """A container is a fork with some more flags, and a pivot_root.

    Each stage has one flag more than the one before it. The child gives itself a name, mounts
    something, and tells what it then sees; who made it looks from outside. The last stage is a
    container of `minibox run`: it sees the same.
    """
    os.mkdir("tree")
    os.mkdir("mounted")
    if run.name == RUN:
        _container(run)
        return
    read, write = os.pipe()
    with run.clone([*_program(run, write), sc.gate(2)]) as child:
        os.close(write)
        if run.flags & sc.CLONE_NEWUSER:
            child.arrived()
            # Its root is who made it: the one id that needs no right.
            idmap.write(child.pid, b"0 0 1", b"0 0 1", deny_setgroups=True)
        child.go()
        told = _told(read, len(FILES))
        _saw(run, child.pid, child.report().results[PID_STEP], told)
    os.close(read)


def _program(run: Run, write: int) -> Iterator[Op]:
    yield sc.gate()
    yield op("getpid")
    yield sc.sethostname(b"inside")
    if run.flags & sc.CLONE_NEWNS:
        # Or what is mounted here would be mounted outside, too.
        yield sc.mount(None, b"/", None, sc.MS_REC | sc.MS_PRIVATE)
    yield sc.mount(b"tmpfs", b"mounted", b"tmpfs", 0)
    if run.name == LAST:
        yield from _new_root()
    buffer, size = Memory(bytes(TELL), "buffer"), Slot("size")
    for path in FILES:
        fd = Slot("fd")
        yield sc.openat(sc.AT_FDCWD, path.encode(), sc.O_RDONLY, to=fd)
        yield op("read", fd, buffer, TELL, to=size)
        yield op("write", write, buffer, size)
        yield op("write", write, Memory(END, "END"), len(END))
        yield sc.close(fd)


def _new_root() -> Iterator[Op]:
    yield sc.mount(b"tmpfs", b"tree", b"tmpfs", 0)
    yield sc.mkdirat(sc.AT_FDCWD, b"tree/proc", 0o555)
    yield sc.mount(b"proc", b"tree/proc", b"proc", 0)
    yield sc.chdir(b"tree")
    yield sc.pivot_root(b".", b".")
    yield sc.umount2(b".", sc.MNT_DETACH)


def _told(fd: int, count: int, end: bytes = END) -> list[str]:
    """So many texts, each with a zero at its end; the last one with `end`."""
    data = b""
    while data.count(END) < count - (end != END) or not data.endswith(end):
        more = os.read(fd, TELL)
        if not more:
            raise EOFError("it has not told what it sees: look at the step that failed")
        data += more
    return data.decode(errors="replace").split("\0")[:count]


def _saw(run: Run, pid: int, own_pid: int, told: list[str]) -> None:
    name, mounts, interfaces, ids = told
    outside = os.uname().nodename
    run.saw("its name", "that of who made it" if name.strip() == outside else name.strip())
    here = _mount_points("self")
    run.saw("its mount is seen outside", any(path.endswith("/mounted") for path in here))
    run.saw("its pid", "1" if own_pid == 1 else "another")
    _saw_outside(run, pid, _interfaces(interfaces))
    # These depend on the machine, so nothing is expected of them.
    run.saw("its uid_map", " ".join(ids.split()))
    run.measured("mounts that it sees", len(mounts.splitlines()), "")
    seen = [entry for entry in os.listdir(f"/proc/{pid}/root/proc") if entry.isdigit()]
    run.measured("processes that it sees", len(seen), "")


def _saw_outside(run: Run, pid: int, interfaces: list[str]) -> None:
    with open("/proc/self/net/dev", encoding="ascii") as file:
        is_own = own_namespace("net", pid)
        own = " ".join(interfaces) if is_own else "those of who made it"
        run.saw("its interfaces", own if is_own or _interfaces(file.read()) == interfaces else "?")
    for what, kind in ((IPC, "ipc"), (CGROUP, "cgroup"), (USER, "user")):
        run.saw(what, "its own" if own_namespace(kind, pid) else "shared")
    same = os.path.samestat(os.stat(f"/proc/{pid}/root"), os.stat("/"))
    run.saw("its /", "that of who made it" if same else "its own")


def _mount_points(pid: int | str) -> list[str]:
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return [line.split()[4] for line in file]


def _interfaces(text: str) -> list[str]:
    return [line.partition(":")[0].strip() for line in text.splitlines()[2:]]


def _container(run: Run) -> None:
    """The same looks at a container: the primitive under it is minibox.clone's."""
    for _ in rootfs.build("tree"):
        pass
    try:
        _look_into(run, "auto")
    except SetupError as error:
        if error.errno != errno.EINVAL or not error.hint:
            raise
        run.skipped(USER, error.hint)  # a tmpfs, as the lab's is, before Linux 6.3
        _look_into(run, "host")


def _look_into(run: Run, userns: str) -> None:
    script = "for f in $0 $@; do cat $f; printf '\\000'; done; echo $$; read line"
    with minibox.Container(
        ["/bin/sh", "-c", script, *FILES],
        rootfs="tree",
        hostname="inside",
        net="none",
        stdin="pipe",
        stdout="pipe",
        tmpfs=["/mounted"],
        userns=userns,
    ) as box:
        *told, pid = _told(box.stdout.fileno(), len(FILES) + 1, b"\n")
        _saw(run, box.pid, int(pid), told)
