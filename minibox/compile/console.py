# SPDX-License-Identifier: Apache-2.0
"""A terminal of the container's own; fds that go to the supervisor through a socket."""

from __future__ import annotations

import struct

from minibox import syscalls as sc
from minibox.compile.slots import CONSOLE, DEV, MOUNT
from minibox.plan import Memory, Offset, Slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minibox.host import Host
    from minibox.plan import Op
    from minibox.spec import Spec, Terminal

MASTER = Slot("master")
SLAVE = Slot("slave")
OPEN = sc.O_RDWR | sc.O_NOCTTY | sc.O_CLOEXEC
SOL_SOCKET, SCM_RIGHTS = 1, 1
CMSG_FD_AT = 16


def send_fd(fd: Slot, what: bytes, why: str) -> Iterator[Op]:
    """Send an fd, with one byte that says what it is: struct msghdr, cmsghdr (unix(7))."""
    rights = Memory(struct.pack("=QiiiI", 20, SOL_SOCKET, SCM_RIGHTS, -1, 0), f"SCM_RIGHTS [@{fd}]")
    vector = Memory(struct.pack("=QQ", 0, 1), f'["{what.decode()}"]', ((0, what),))
    header = Memory(
        struct.pack("=QQQQQQQ", 0, 0, 0, 1, 0, len(rights.data), 0),
        f'{{iov=["{what.decode()}"], control=[SCM_RIGHTS [@{fd}]]}}',
        ((16, vector), (32, rights)),
    )
    yield sc.store(fd, Offset(rights, CMSG_FD_AT, "&SCM_RIGHTS"), why="for the next call")
    yield sc.sendmsg(CONSOLE, header, why=why)


def open_pty(spec: Spec, host: Host) -> Iterator[Op]:
    """The working directory is the new /dev."""
    if not spec.terminal or spec.guest:
        return
    yield sc.openat(sc.AT_FDCWD, b"pts/ptmx", OPEN, to=MASTER, why="a terminal of its own")
    yield from _open_slave(spec, spec.terminal)
    yield sc.mknodat(DEV, b"console", sc.S_IFREG | 0o620, why="/dev/console is the terminal")
    yield sc.open_tree(
        SLAVE,
        b"",
        sc.OPEN_TREE_CLONE | sc.OPEN_TREE_CLOEXEC | sc.OPEN_TREE_AT_EMPTY_PATH,
        to=MOUNT,
        why="/dev/console is the terminal",
    )
    yield sc.move_mount(MOUNT, DEV, b"console", why="/dev/console is the terminal")
    yield from _take_streams(spec.terminal)


def open_guest_pty(spec: Spec, host: Host) -> Iterator[Op]:
    """One more terminal of a running container, which may have put anything in its place: what is
    no ptmx, or lies behind a link, is refused by the calls themselves."""
    if spec.terminal and spec.guest:
        how = sc.open_how(OPEN, sc.RESOLVE_NO_SYMLINKS)
        yield sc.openat2(
            sc.AT_FDCWD, b"/dev/pts/ptmx", how, to=MASTER, why="a terminal of the container's"
        )
        yield from _open_slave(spec, spec.terminal)
        yield from _take_streams(spec.terminal)


def _open_slave(spec: Spec, terminal: Terminal) -> Iterator[Op]:
    """TIOCGPTPEER opens the slave without a path that someone could have put in the way
    (ioctl_tty(2))."""
    window = Memory(
        struct.pack("=4H", terminal.rows, terminal.columns, 0, 0),
        f"{{ws_row={terminal.rows}, ws_col={terminal.columns}}}",
    )
    yield sc.ioctl(MASTER, sc.IOCTL_TIOCSPTLCK, Memory(bytes(4), "[0]"), why="unlock the slave")
    yield sc.ioctl(MASTER, sc.IOCTL_TIOCGPTPEER, OPEN, to=SLAVE, why="the slave")
    yield sc.ioctl(SLAVE, sc.IOCTL_TIOCSWINSZ, window, why="the right size from the start")
    if spec.user.uid:
        yield sc.fchown(SLAVE, spec.user.uid, -1, why="the user's terminal")
    yield from send_fd(MASTER, b"m", "minibox keeps the master")


def _take_streams(terminal: Terminal) -> Iterator[Op]:
    for fd in terminal.streams:
        yield sc.dup3(SLAVE, fd, why="standard stream")
    yield sc.ioctl(SLAVE, sc.IOCTL_TIOCSCTTY, 0, why="the controlling terminal")
