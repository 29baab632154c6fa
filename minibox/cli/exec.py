# SPDX-License-Identifier: Apache-2.0
"""minibox exec"""

from __future__ import annotations

import os

from minibox import foreground, host, inside, supervisor
from minibox.cli import containers, run
from minibox.compile import compile, slots
from minibox.spec import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minibox.cli.containers import Values
    from minibox.resident import Resident, State


def execute(values: Values) -> int:
    container = containers.find(values["args"][0])
    state = container.state()
    pidfd = container.open_pidfd(state)
    try:
        one = Exec(container, state, pidfd, values)
        return one.leave() if values.get("detach") else one.hold()
    finally:
        os.close(pidfd)


class Exec:
    """One command in a container, whose first process `pidfd` names."""

    def __init__(self, container: Resident, state: State, pidfd: int, values: Values) -> None:
        self.container = container
        self.state = state
        self.pidfd = pidfd
        self.values = values
        self.host = host.probe()
        self.asked: dict[str, Any] = {
            "env": values.get("env") or (),
            "env_file": values.get("env_file") or (),
            "workdir": values.get("workdir"),
            "user": values.get("user"),
        }

    def hold(self) -> int:
        """Run it with the caller's streams, and end as it ends."""
        terminals = tuple(fd for fd in range(3) if os.isatty(fd))
        wants_pty = run.wants_pty(self.values, terminals)
        terminal, streams = None, None
        if terminals:
            from minibox.resources.console import Streams, window_size

            streams = Streams(terminals, pty=wants_pty)
            terminal = Terminal(*window_size(0), terminals) if wants_pty else None
        redirected = () if wants_pty else terminals
        spec = inside.build(
            self.container,
            self.state,
            self.values["args"][1:],
            terminal=terminal,
            redirected=redirected,
            **self.asked,
        )
        try:
            outcome = foreground.run(
                spec,
                compile(spec, self.host),
                self.host,
                streams=streams,
                timeout=None,
                show=run.show_trace if self.values.get("trace") else None,
                inputs={slots.MEMBER: self.pidfd},
                prepare=self.join,
                tied_to=self.pidfd,
            )
        finally:
            if streams:
                streams.close()
        return outcome.exit_code

    def leave(self) -> int:
        """Set it going, and leave it to the container."""
        spec = inside.build(
            self.container,
            self.state,
            self.values["args"][1:],
            redirected=(0, 1, 2),
            supervised=False,
            **self.asked,
        )
        plan = compile(spec, self.host)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        inputs: dict[str, int] = {slots.MEMBER: self.pidfd, **dict.fromkeys(slots.STDIO, null)}
        process = supervisor.start(spec, plan, self.host, plan.encode(), inputs, self.join)
        process.started()
        return 0

    def join(self, pid: int) -> None:
        inside.admit(self.container, self.state, self.pidfd, pid)
