# SPDX-License-Identifier: Apache-2.0
"""A detached container has a monitor: a process of minibox-init outside of it, nobody's child."""

from __future__ import annotations

import struct

from minibox import syscalls as sc
from minibox.compile import lifeline, namespaces
from minibox.compile.slots import ALIVE, DIRECTORY, FDS, PARENT, STARTER, STREAM_ENDS, monitor_fds
from minibox.plan import Memory, Offset, Slot, Strings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minibox.host import Host
    from minibox.plan import Op
    from minibox.spec import Monitor, Spec

SELF = Slot("self")
LISTENER = Slot("listener")
RECORD = Slot("record")
# struct mb_monitor of csrc/minibox.h: its fds in their order, then numbers, then pointers.
LAYOUT = struct.Struct("=8i4I10Q")
FD_FIELDS = (ALIVE, STARTER, LISTENER, FDS, *STREAM_ENDS, RECORD)
POINTERS_AT = 48
SOCKET = b"attach"
CLIENTS = 16


def _settings(monitor: Monitor) -> Memory:
    numbers = (monitor.log_size, monitor.log_files, monitor.interval, monitor.delay)
    targets: list[bytes | Memory | None] = [
        Strings(monitor.tick) if monitor.tick else None,
        Strings(monitor.ended) if monitor.ended else None,
        Strings(monitor.env),
        monitor.event or None,
        monitor.journal,
        Strings(monitor.leases) if monitor.leases else None,
        monitor.oom or None,
        monitor.thaw or None,
        monitor.thawed or None,
    ]
    pointers = [
        (POINTERS_AT + 8 * k, target) for k, target in enumerate(targets) if target is not None
    ]
    text = f"{{log_size={monitor.log_size}, log_files={monitor.log_files}"
    for name, words in (("tick", monitor.tick), ("ended", monitor.ended)):
        text += f", {name}={b' '.join(words).decode(errors='replace')!r}" if words else ""
    data = LAYOUT.pack(*[-1] * len(FD_FIELDS), *numbers, *[0] * len(targets), monitor.lifetime)
    return Memory(data, text + "}", tuple(pointers))


def detach(spec: Spec, host: Host) -> Iterator[Op]:
    """Leave Python's memory, its session and its children; stay as the monitor; go on in a child
    that lives as long as the monitor."""
    if not spec.monitor:
        return
    settings = _settings(spec.monitor)
    address = Memory(
        struct.pack("=H", sc.AF_UNIX) + SOCKET + b"\0", f'{{sun_path="{SOCKET.decode()}"}}'
    )
    yield from namespaces.stage(spec, host)
    yield sc.setsid(why="no terminal's hang-up reaches it")
    yield sc.umask(0o077, why="its files are nobody else's")
    yield sc.fork(0, why="nobody's child: nobody has to wait for it")
    yield sc.getpid(to=SELF, why="for the next call")
    yield sc.pidfd_open(SELF, to=PARENT, why="for its child to see that it lives")
    yield sc.fchdir(DIRECTORY, why="where the log is")
    yield sc.openat(
        sc.AT_FDCWD, spec.monitor.record, sc.O_WRONLY | sc.O_CLOEXEC, to=RECORD, why="exit status"
    )
    yield sc.socket(
        sc.AF_UNIX, sc.SOCK_SEQPACKET | sc.SOCK_CLOEXEC, to=LISTENER, why="for minibox attach"
    )
    yield sc.bind(LISTENER, address, why="for minibox attach")
    yield sc.listen(LISTENER, CLIENTS, why="for minibox attach")
    given = {*monitor_fds(spec), LISTENER, RECORD}
    for k, slot in enumerate(FD_FIELDS):
        if slot in given:
            yield sc.store(slot, Offset(settings, 4 * k, f"&{slot}"), why="for the monitor")
    flags = 0 if spec.joined else namespaces.new_flags(spec)
    yield sc.monitor(flags, settings, why="stays outside: log, attach, exit status")
    if spec.supervised:
        yield from lifeline.bind()
