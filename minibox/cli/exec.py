# SPDX-License-Identifier: Apache-2.0
"""minibox exec"""

from __future__ import annotations

import os

from minibox import foreground, host, inside, supervisor
from minibox.cli import containers, run
from minibox.compile import compile, slots
from minibox.errors import StateError
from minibox.resident import has_ended
from minibox.resources import cgroup
from minibox.spec import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values
    from minibox.resident import Resident, State


def execute(values: Values) -> int:
    name, *args = values["args"]
    container = containers.find(name)
    state = container.state()
    pidfd = container.open_pidfd(state)
    try:
        if values.get("detach"):
            return leave(container, state, pidfd, args, values)
        return hold(container, state, pidfd, args, values)
    finally:
        os.close(pidfd)


def hold(container: Resident, state: State, pidfd: int, args: list[str], values: Values) -> int:
    """Run it with the caller's streams, and end as it ends."""
    from minibox.resources.console import Streams, window_size

    here = host.probe()
    terminals = tuple(fd for fd in range(3) if os.isatty(fd))
    wants_pty = run.wants_pty(values, terminals)
    spec = inside.build(
        container,
        state,
        args,
        here,
        env=values.get("env") or (),
        env_file=values.get("env_file") or (),
        workdir=values.get("workdir"),
        user=values.get("user"),
        terminal=Terminal(*window_size(0), terminals) if wants_pty else None,
        redirected=() if wants_pty else terminals,
    )
    streams = Streams(terminals, pty=wants_pty) if terminals else None
    try:
        outcome = foreground.run(
            spec,
            compile(spec, here),
            here,
            streams=streams,
            timeout=None,
            show=run.show_trace if values.get("trace") else None,
            inputs={slots.MEMBER: pidfd},
            prepare=lambda pid: join(pid, state, pidfd, container),
        )
    finally:
        if streams:
            streams.close()
    return outcome.exit_code


def join(pid: int, state: State, pidfd: int, container: Resident) -> None:
    """Into the container's cgroups; it must still be the same container then."""
    cgroup.join(pid, state.pid)
    if has_ended(pidfd, 0):
        raise StateError(f"container {container.name} is not running")


def leave(container: Resident, state: State, pidfd: int, args: list[str], values: Values) -> int:
    """Set it going and leave it to the container."""
    here = host.probe()
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    spec = inside.build(
        container,
        state,
        args,
        here,
        env=values.get("env") or (),
        env_file=values.get("env_file") or (),
        workdir=values.get("workdir"),
        user=values.get("user"),
        redirected=(0, 1, 2),
        supervised=False,
    )
    plan = compile(spec, here)
    inputs: dict[str, int] = {slots.MEMBER: pidfd, **dict.fromkeys(slots.STDIO, null)}
    process = supervisor.start(
        spec, plan, here, plan.encode(), inputs, lambda pid: join(pid, state, pidfd, container)
    )
    process.started()
    return 0
