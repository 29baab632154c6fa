# SPDX-License-Identifier: Apache-2.0
"""The end of it all: rename, remove, what follows an end, and sweeping up."""

from __future__ import annotations

import os
import time

from minibox import resident
from minibox.directory import SHORT, Damaged, is_there
from minibox.errors import NoSuchContainer, SpecError, StateError
from minibox.life import grouping
from minibox.life.create import journal
from minibox.life.start import start_locked
from minibox.life.stop import KILL_PATIENCE, forbid_restart, forget, stop_locked, withdraw
from minibox.resident import NS, RESTARTING, Resident
from minibox.resources import leftovers
from minibox.store import Store, is_name, remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LONG_LIFE = 10 * NS
ALIVE_FD = 8  # csrc/monitor.c


def rename(container: Resident, name: str) -> None:
    """Give it another name. StateError when it is taken."""
    if not is_name(name):
        raise SpecError("NAME", f"{name!r}: letters, digits and _ . - after a letter or digit")
    with container.directory.lock(container.name):
        old = container.reload()["name"]
        container.store.rename(container.directory, container.config, name)
        container.reload()
    journal(container, "rename", oldName=old)


def remove(container: Resident, *, force: bool = False) -> None:
    """Remove a container that has ended; with `force` also one that runs, or whose files are
    damaged. StateError."""
    try:
        name = container.name
    except Damaged:
        if not force:
            raise
        name = container.id[:SHORT]
    try:
        with container.directory.lock(name):
            _remove(container, name, force)
    except Damaged:
        if not force:
            raise
        _remove(container, name, force)  # its lock is none any more


def _remove(container: Resident, name: str, force: bool) -> None:
    if not is_there(container.directory.path):
        raise NoSuchContainer(name)
    if force:
        _end_by_force(container, name)
        if not is_there(container.directory.path):
            return  # a container with --rm: its end was its removal
    elif not container.state().is_at_rest:
        raise StateError(f"container {name} is running\n  hint: minibox stop {name}, or rm -f")
    forget(container)


def _end_by_force(container: Resident, name: str) -> None:
    """Whatever can be known about it, nothing of it runs after this. StateError."""
    try:
        state = container.state()
        if state.is_running:
            stop_locked(container, 0, None)
        elif state.status == RESTARTING:
            forbid_restart(container)
    except StateError:
        pass  # it is damaged, or does not end: its monitor is the way to it
    if container.directory.exists("attach"):
        _kill_by_monitor(container, name)
    try:
        container.end_monitor()  # and with it the container
    except Damaged:
        pass


def _kill_by_monitor(container: Resident, name: str) -> None:
    """The container's files do not say who it is, but its monitor knows: until nobody listens any
    more. StateError."""
    deadline = time.monotonic() + KILL_PATIENCE
    while connection := container.directory.connect(name):
        with connection:
            try:
                connection.settimeout(KILL_PATIENCE)
                connection.send(b"k")
                while connection.recv(1 << 16):
                    pass
            except OSError:
                pass  # its end, or none: the next connection will show
        if time.monotonic() > deadline:
            raise StateError(f"container {name} does not end")
        time.sleep(0.002)


def after(container: Resident, number: int) -> None:
    """What the monitor becomes when start `number` has ended: the policies for that."""
    with container.directory.lock(container.name):
        _let_go(container)
        config, state = container.reload(), container.state()
        if state.run != number or state.is_running:
            return  # somebody was faster
        withdraw(container)
        if config["remove"]:
            forget(container)
        elif container.wants_restart(state):
            lived_long = state.finished - state.began >= LONG_LIFE
            start_locked(container, restarts=1 if lived_long else state.restarts + 1)


def _let_go(container: Resident) -> None:
    """The monitor's lock, which has come down to us: what is to be done is certain now."""
    try:
        ours, theirs = os.fstat(ALIVE_FD), os.stat(container.directory.file("alive"))
    except OSError:
        return  # called by hand
    if (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino):
        os.close(ALIVE_FD)


def gc(store: Store) -> Iterator[str]:
    """Clear what killed commands and monitors have left; says what, a line each."""
    for container in resident.residents(store):
        try:
            yield from _sweep(container)
        except NoSuchContainer:
            pass  # somebody else has removed it
        except StateError as error:
            yield f"left alone: {error}"
    yield from leftovers.sweep()
    if not is_there(store.root):
        return
    with store.lock():
        for path in store.stale():
            remove_tree(path)
            yield path
    if is_there(f"{store.root}/topologies"):
        from minibox.topology import standing

        yield from standing.sweep(store.root)
    if is_there(f"{store.root}/networks") or is_there(f"{store.root}/pasta"):
        from minibox.network import afterwards

        yield from afterwards.sweep(store.root)


def _sweep(container: Resident) -> Iterator[str]:
    """One container: files of a command that was killed; all of it, if it was to go at its end."""
    directory = container.directory
    with directory.lock(container.name):
        for name in directory.files():
            if name.startswith("."):
                directory.remove(name)
                yield directory.file(name)
        state = container.state()
        if state.status == resident.EXITED:
            grouping.remove(container)
            if container.config["remove"]:
                forget(container)
                yield f"container {container.name}"
            elif directory.exists("attach"):
                directory.remove("attach")
                yield directory.file("attach")
