# SPDX-License-Identifier: Apache-2.0
"""minibox start, and the second half of a `run` that is detached or has a name."""

from __future__ import annotations

import os
import sys

from minibox import cli, life, limits, request
from minibox.cli import containers
from minibox.errors import SpecError, StateError
from minibox.resident import Ending
from minibox.syscalls import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket

    from minibox.cli.containers import Values
    from minibox.monitor import Start
    from minibox.resident import Resident


def execute(values: Values) -> int:
    names: list[str] = values["args"]
    if not (values.get("attach") or values.get("interactive")):
        show = show_trace if values.get("trace") else None
        return containers.each(
            names, lambda container: life.start(container, show=show, say=cli.say)
        )
    if len(names) > 1:
        raise SpecError("--attach", "it goes with one container")
    return start_attached(containers.find(names[0]), values, stdin=bool(values.get("interactive")))


def show_trace(start: Start) -> None:
    from minibox import describe

    report = start.report()
    sys.stderr.write(describe.traced(start.plan, report.results, report.micros, report.step))
    sys.stderr.flush()


def start_attached(container: Resident, values: Values, *, stdin: bool) -> int:
    """Start it with this terminal or these streams, and end as it ends."""
    from minibox import attach, settings
    from minibox.resources.console import window_size

    config = container.config
    tty: bool = config["tty"]
    given = values.get("detach_keys")
    keys = settings.detach_keys(config["detach_keys"] if given is None else given)
    size = window_size(0) if tty and os.isatty(0) else (24, 80)
    opened: list[tuple[socket, Ending]] = []
    life.start(
        container,
        ready=lambda number: opened.append((attach.connect(container), Ending(container, number))),
        size=size,
        show=show_trace if values.get("trace") else None,
        say=cli.say,
    )
    connection, ending = opened[0]
    talk = attach.Attached(
        container,
        connection,
        tty=tty,
        stdin=stdin and config["interactive"],
        keys=keys,
        ends=True,
    )
    with ending:
        talk.hold()
        if talk.detached:
            return 0
        code = exit_code(container, ending, talk.ended_by)
    life.forget_if_asked(container)
    return code


def exit_code(container: Resident, ending: Ending, ended_by: int) -> int:
    """Of the run that has come to its end; `ended_by`: the signal that the caller meant. StateError
    when it was not its end that ended the conversation."""
    try:
        os.close(container.open_pidfd(container.state()))
    except StateError:
        pass  # as it should be
    else:
        reason = "16 can be attached at most, and who takes nothing for 10 s is let go"
        raise StateError(f"container {container.name} goes on without us: {reason}")
    state = ending.wait()
    assert state is not None
    if state.oom_killed:
        asked = request.cgroup(container.config["options"])
        cli.say(limits.short_of(asked.limits.memory if asked else 0))
    elif state.error:
        cli.say(f"the container has ended: {state.error}")
    return 128 + ended_by if ended_by and state.signal == SIGKILL else state.exit_code
