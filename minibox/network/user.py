# SPDX-License-Identifier: Apache-2.0
"""--net user: pasta(1) moves a container's packets through sockets of the user's own, for those who
may not make interfaces of the host's.

pasta gets the network namespace by a link and ends when that is removed; so it comes and goes as a
lease does, and whoever finds a link of nobody's ends it.

ROOT/pasta/HOLDER      a link to the network namespace
"""

from __future__ import annotations

import fcntl
import os
import select

from minibox import core
from minibox.directory import discard, listed, said
from minibox.errors import SetupError, StateError
from minibox.network import naming
from minibox.network.leases import is_held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from minibox.network.ports import Port

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TUN = "/dev/net/tun"
PATIENCE = 10_000  # ms
SIGKILL, SIGPIPE = 9, 13
MOST_SAID = 4096
# Where pasta finds the namespaces. As root it gives up the right to look at processes of other ids,
# AppArmor's profile of Debian 12 lets it look at none, and new ones close all fds but these.
OWNER, NETWORK = "/proc/self/fd/0", "/proc/self/fd/1"
PROTOCOLS = {"tcp": "-t", "udp": "-u"}
NO_LOG = "syslog"  # it complains of each line that it could not log, too


def find() -> str | None:
    """The path of pasta, where it is installed."""
    for directory in os.environ.get("PATH", PATH).split(":"):
        path = f"{directory}/pasta"
        if directory.startswith("/") and os.access(path, os.X_OK):
            return path
    return None


def obstacle() -> str:
    """Why this user cannot have --net user; empty where nothing is in the way."""
    if find() is None:
        return "pasta is not installed (in distributions: the package passt)"
    if not os.access(TUN, os.R_OK | os.W_OK):
        return f"{TUN} cannot be opened by this user"
    if not _has_way():
        return "this host has no default route"
    return ""


def _has_way() -> bool:
    """proc(5): a route whose destination and mask, or prefix length, are 0, but for lo."""
    four = [row.split() for row in naming.read("/proc/net/route").splitlines()]
    six = [row.split() for row in naming.read("/proc/net/ipv6_route").splitlines()]
    nowhere = "0" * 32
    return any(len(row) > 7 and row[1] == row[7] == "00000000" for row in four) or any(
        len(row) > 9 and row[0] == nowhere and row[1] == "00" and row[9] != "lo" for row in six
    )


def link(root: str, holder: str) -> str:
    return f"{root}/pasta/{holder}"


def plug(root: str, holder: str, pid: int, ports: Iterable[Port]) -> None:
    """Give the network namespace of a process to a pasta, whose interface there is eth0, with the
    host's addresses. Returns when it is up. SetupError, StateError."""
    path = link(root, holder)
    opened: list[int] = []
    try:
        owner, network = _open(pid, "user", opened), _open(pid, "net", opened)
        os.makedirs(f"{root}/pasta", 0o700, exist_ok=True)
        discard(path)
        os.symlink(NETWORK, path)
        words = ["--config-net", "--quiet", "--no-map-gw", "--ns-ifname", "eth0"]
        words += ["-T", "none", "-U", "none", *_published(ports)]
        words += ["--runas", "0:0"] if os.geteuid() == 0 else []
        words += ["--userns", OWNER] if _is_own(owner) else ["--netns-only"]
        _run([*words, "--netns", path], owner, network)
    except OSError as error:
        if isinstance(error, SetupError):
            raise
        raise said(error, path) from None
    finally:
        for fd in opened:
            os.close(fd)


def _open(pid: int, kind: str, opened: list[int]) -> int:
    """A namespace of a process, under a number that is none of the streams', which may be closed
    here: they are what it becomes in pasta."""
    fd = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        opened.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3))
    finally:
        os.close(fd)
    return opened[-1]


def _is_own(owner: int) -> bool:
    """Is the container's user namespace another one than ours?"""
    return os.fstat(owner).st_ino != os.stat("/proc/self/ns/user").st_ino


def _published(ports: Iterable[Port]) -> list[str]:
    """pasta's own words for it; without any it would pass on what it likes."""
    found = []
    for protocol, option in PROTOCOLS.items():
        mine = [port for port in ports if port.protocol == protocol]
        texts = [f"{_host(port)}{port.host_port}:{port.port}" for port in mine]
        found += [word for text in texts or ["none"] for word in (option, text)]
    return found


def _host(port: Port) -> str:
    return f"{port.host}/" if port.host else ""


def _run(words: list[str], owner: int, network: int) -> None:
    """pasta goes into the background when everything is there."""
    program = find()
    if program is None:
        raise StateError(obstacle())
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        actions = [
            (os.POSIX_SPAWN_DUP2, write, 2),
            (os.POSIX_SPAWN_DUP2, owner, 0),
            (os.POSIX_SPAWN_DUP2, network, 1),
        ]
        # This thread may have blocked all signals; and pasta minds that Python ignores SIGPIPE.
        argv = ["pasta", *words]
        how: dict[str, Any] = {"setsigmask": [], "setsigdef": [SIGPIPE]}
        pid = os.posix_spawn(program, argv, os.environ, file_actions=actions, **how)
        code = _end(pid)
        if code:
            raise SetupError(0, "start pasta", reason=_said(read) or f"it ended with {code}")
    finally:
        os.close(read)
        os.close(write)


def _end(pid: int) -> int:
    """The exit code of a process that shall end at once."""
    pidfd = core.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(PATIENCE):
            core.pidfd_send_signal(pidfd, SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        raise StateError("the end of pasta is lost: something else has waited for it") from None
    finally:
        os.close(pidfd)


def _said(fd: int) -> str:
    try:
        text = os.read(fd, MOST_SAID).decode(errors="replace")
    except BlockingIOError:
        return ""
    rows = [row for row in text.splitlines() if row and NO_LOG not in row]
    return rows[-1] if rows else ""


def sweep(root: str) -> Iterator[str]:
    """End those whose containers are gone; says which. StateError."""
    for holder in listed(f"{root}/pasta"):
        if not is_held(root, holder):
            discard(link(root, holder))
            yield link(root, holder)
