# SPDX-License-Identifier: Apache-2.0
"""A tracer for any program: what it does with processes, namespaces and mounts (ptrace(2)).

    from minibox import tracing

    seen = tracing.trace(["sh", "-c", "true & wait"])       # or a function, see trace
    for event in seen.events:
        print(event.tid, event.text)
    forks = [event for event in seen.events if event.makes_a_task]
    forks[0].call, forks[0].flags, forks[0].args["exit_signal"]

Calls told of: clone, fork, vfork, clone3, unshare, setns, pivot_root, chroot, mount and its newer
relatives, execve; and the end of every task. Which they are on each architecture: calls.py.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from minibox import core
from minibox.errors import Unsupported
from minibox.tracing.run import Begin, NotExecuted, Outcome, follow
from minibox.tracing.tree import Event, Process

__all__ = ["Event", "NotExecuted", "Outcome", "Process", "Trace", "follow", "trace"]


@dataclass(frozen=True)
class Trace:
    """events: in their order. processes: all there were, the first one first. exit_code: its, as a
    shell has it."""

    events: list[Event]
    processes: list[Process]
    exit_code: int


def trace(what: Sequence[str] | Begin) -> Trace:
    """Trace a command, or a function in a child of its own, until all that comes of it has ended.

    The tracer is a process of its own, so that other children of the caller are not waited for.
    What the function returns is the exit code of its process; what it changes in its memory is
    lost. Forks, so the caller should have one thread. Unsupported where ptrace is forbidden;
    OSError when the command cannot be executed.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _trace(what, write)
    os.close(write)
    try:
        with open(read, encoding="utf-8") as lines:
            said = [json.loads(line) for line in lines]
    finally:
        os.kill(pid, signal.SIGKILL)  # it has ended, unless this is an interrupt
        os.waitpid(pid, 0)
    end: dict[str, Any] = {"failed": "the tracer was killed"}
    if said and "text" not in said[-1]:
        end = said.pop()
    if "errno" in end:
        raise OSError(end["errno"], os.strerror(end["errno"]))
    if "failed" in end:
        raise Unsupported(end["failed"])
    processes = [Process(**one) for one in end["processes"]]
    return Trace([Event(**one) for one in said], processes, end["exit_code"])


def _trace(what: Sequence[str] | Begin, write: int) -> NoReturn:
    """The life of the tracer: it writes a line of JSON an event, and one at the end."""
    try:
        core.die_with_parent()
        with open(write, "w", encoding="utf-8") as file:

            def say(what: object) -> None:
                file.write(json.dumps(what) + "\n")

            try:
                outcome = follow(what, lambda event: say(asdict(event)))
                processes = [asdict(process) for process in outcome.processes]
                say({"processes": processes, "exit_code": outcome.exit_code})
            except NotExecuted as error:
                say({"errno": error.errno})
            except Exception as error:  # noqa: BLE001 - the caller raises it
                say({"failed": str(error)})
    finally:
        os._exit(0)
