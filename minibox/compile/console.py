# SPDX-License-Identifier: Apache-2.0
"""A terminal of the container's own; the master goes to the supervisor through a socket."""

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
    from minibox.spec import Spec

MASTER = Slot("master")
SLAVE = Slot("slave")
SOL_SOCKET, SCM_RIGHTS = 1, 1
CMSG_FD_AT = 16


def _message() -> tuple[Memory, Memory]:
    """struct msghdr with one byte of data and room for one fd, and its cmsghdr (unix(7))."""
    rights = Memory(
        struct.pack("=QiiiI", 20, SOL_SOCKET, SCM_RIGHTS, -1, 0), "SCM_RIGHTS [@master]"
    )
    vector = Memory(struct.pack("=QQ", 0, 1), '["\\0"]', ((0, b"\0"),))
    header = Memory(
        struct.pack("=QQQQQQQ", 0, 0, 0, 1, 0, len(rights.data), 0),
        '{iov=["\\0"], control=[SCM_RIGHTS [@master]]}',
        ((16, vector), (32, rights)),
    )
    return header, rights


def open_pty(spec: Spec, host: Host) -> Iterator[Op]:
    """The working directory is the new /dev. TIOCGPTPEER opens the slave without a path that
    someone could have put in the way (ioctl_tty(2))."""
    if not spec.terminal:
        return
    terminal = spec.terminal
    header, rights = _message()
    window = Memory(
        struct.pack("=4H", terminal.rows, terminal.columns, 0, 0),
        f"{{ws_row={terminal.rows}, ws_col={terminal.columns}}}",
    )
    yield sc.openat(
        sc.AT_FDCWD,
        b"pts/ptmx",
        sc.O_RDWR | sc.O_NOCTTY | sc.O_CLOEXEC,
        to=MASTER,
        why="a terminal of its own",
    )
    yield sc.ioctl(MASTER, sc.IOCTL_TIOCSPTLCK, Memory(bytes(4), "[0]"), why="unlock the slave")
    yield sc.ioctl(
        MASTER,
        sc.IOCTL_TIOCGPTPEER,
        sc.O_RDWR | sc.O_NOCTTY | sc.O_CLOEXEC,
        to=SLAVE,
        why="the slave",
    )
    yield sc.ioctl(SLAVE, sc.IOCTL_TIOCSWINSZ, window, why="the right size from the start")
    if spec.user.uid:
        yield sc.fchown(SLAVE, spec.user.uid, -1, why="the user's terminal")
    yield sc.store(MASTER, Offset(rights, CMSG_FD_AT, "&SCM_RIGHTS"), why="for the next call")
    yield sc.sendmsg(CONSOLE, header, why="minibox keeps the master")
    yield sc.mknodat(DEV, b"console", sc.S_IFREG | 0o620, why="/dev/console is the terminal")
    yield sc.open_tree(
        SLAVE,
        b"",
        sc.OPEN_TREE_CLONE | sc.OPEN_TREE_CLOEXEC | sc.OPEN_TREE_AT_EMPTY_PATH,
        to=MOUNT,
        why="/dev/console is the terminal",
    )
    yield sc.move_mount(MOUNT, DEV, b"console", why="/dev/console is the terminal")
    for fd in terminal.streams:
        yield sc.dup3(SLAVE, fd, why="standard stream")
    yield sc.ioctl(SLAVE, sc.IOCTL_TIOCSCTTY, 0, why="the controlling terminal")
