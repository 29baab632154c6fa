# SPDX-License-Identifier: Apache-2.0
"""Ending: stop, kill, wait, restart. A process is known by its pidfd and its start time."""

from __future__ import annotations

import os

from minibox import core, request, signals
from minibox.compile.command import ORPHANED
from minibox.directory import Damaged
from minibox.errors import StateError
from minibox.life import grouping
from minibox.life.create import journal
from minibox.life.start import start_locked
from minibox.resident import (
    RESTARTING,
    Ending,
    Resident,
    State,
    has_ended,
)
from minibox.syscalls import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.directory import Data

KILL_PATIENCE = 10.0


def stop(container: Resident, timeout: float | None = None, signal: int | None = None) -> State:
    """Ask it to end, and kill it after `timeout` seconds. One that has ended is left alone."""
    with container.directory.lock(container.name):
        return stop_locked(container, timeout, signal)


def stop_locked(container: Resident, timeout: float | None, signal: int | None) -> State:
    config, state = container.reload(), container.state()
    if state.status == RESTARTING:
        forbid_restart(container)
        return container.state()
    if not state.is_running:
        _mark(container)  # its monitor may be about to start it anew
        return state
    if timeout is None:
        timeout = config["stop_timeout"]
    signal = signal or config["stop_signal"]
    _mark(container)
    pidfd = container.open_pidfd(state)
    try:
        if timeout == 0 or is_spared(container, state, signal):
            signal = SIGKILL
        send(container, pidfd, signal)
        if signal != SIGKILL and not has_ended(pidfd, timeout):
            send(container, pidfd, SIGKILL)
        _await(container, state, pidfd)
    finally:
        os.close(pidfd)
    journal(container, "stop")
    withdraw(container)
    ended = container.state()
    _forget_if_asked(container)
    return ended


def kill(container: Resident, signal: int) -> None:
    """Send a signal to its first process. StateError when it does not run."""
    state = container.state()
    if state.status == RESTARTING and signal == SIGKILL:
        with container.directory.lock(container.name):
            forbid_restart(container)
        return
    pidfd = container.open_pidfd(state)
    try:
        if signal in (SIGKILL, container.config["stop_signal"]):
            _mark(container)
        send(container, pidfd, signal)
        journal(container, "kill", signal=str(signal))
        if signal == SIGKILL:
            _await(container, state, pidfd)
            forget_if_asked(container)
    finally:
        os.close(pidfd)


def _mark(container: Resident) -> None:
    """Its end is asked for: no policy starts it anew."""
    if container.config["restart"]["policy"] != "no":
        container.directory.mark("stop")


def is_spared(container: Resident, state: State, signal: int) -> bool:
    """Would the signal end it, if the kernel did not spare PID 1 what it has no handler for?"""
    is_first = _has_own_pids(container) and not container.config["options"].get("init")
    return is_first and signals.has_default(state.pid, signal)


def send(container: Resident, pidfd: int, signal: int) -> None:
    """Send a signal to the first process, if it has not ended."""
    if signal == SIGKILL and not _has_own_pids(container):
        signal = ORPHANED  # killed itself, the init could not end what the command has started
    try:
        core.pidfd_send_signal(pidfd, signal)
    except ProcessLookupError:
        pass
    thaw(container)


def thaw(container: Resident) -> None:
    """What is paused hears no signal, and v1's freezer lets nobody end."""
    try:
        group = container.cgroup()
        if group.is_frozen():
            group.thaw()
    except (Damaged, OSError):
        pass  # it has ended, or its monitor thaws it when it kills it


def _has_own_pids(container: Resident) -> bool:
    return "pid" in request.namespaces(container.config["options"])


def _await(container: Resident, state: State, pidfd: int) -> None:
    """Until the process that was killed has ended and its monitor has said how. StateError."""
    with Ending(container, state.run) as ending:
        if not has_ended(pidfd, KILL_PATIENCE):
            raise StateError(f"container {container.name} does not end")
        ending.wait()


def wait(container: Resident) -> State:
    """Until it does not run. How it ended then, or has ended before."""
    state = container.state()
    if not state.is_running:
        return state
    try:
        pidfd = container.open_pidfd(state)
    except StateError:
        pidfd = -1  # it has just ended
    with Ending(container, state.run, pidfd) as ending:
        ended = ending.wait()
    assert ended is not None
    return ended


def restart(container: Resident, timeout: float | None = None) -> State:
    """Stop it if it runs, and start it."""
    with container.directory.lock(container.name):
        stop_locked(container, timeout, None)
        state = start_locked(container)
    journal(container, "restart")
    return state


def forbid_restart(container: Resident) -> None:
    """Its monitor waits to start it anew: end the monitor."""
    _mark(container)
    container.end_monitor()


def forget(container: Resident) -> None:
    """Take everything of a container that does not run away. Its lock is held."""
    try:
        config: Data = container.reload()  # it may have another name by now
    except StateError:
        config = {}
    journal(container, "destroy")
    withdraw(container)
    grouping.remove(container)
    with container.store.lock():
        container.store.forget(container.id, config)


def withdraw(container: Resident) -> None:
    """Its published ports lead nowhere, its names are nobody's. StateError, SetupError."""
    try:
        run = container.directory.read("run.json") or {}
    except Damaged:
        run = {}  # its leases are free all the same, and gc finds the rest
    if run.get("networks"):
        from minibox.network import afterwards

        afterwards.withdraw(container.store.root, container.id, run)


def _forget_if_asked(container: Resident) -> None:
    """With --rm: now, and not when the monitor's last command has its turn."""
    if container.config["remove"]:
        forget(container)


def forget_if_asked(container: Resident) -> None:
    """The same for who does not hold the lock; it may be gone already."""
    if not container.config["remove"]:
        return
    try:
        with container.directory.lock(container.name):
            if container.directory.exists("config.json") and not container.state().is_running:
                forget(container)
    except StateError:
        if container.directory.exists("config.json"):
            raise
