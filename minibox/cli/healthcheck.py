# SPDX-License-Identifier: Apache-2.0
"""minibox healthcheck: exit code 0 when the container is well, 1 when not."""

from __future__ import annotations

import os
import time

from minibox import health, host, inside, life, supervisor
from minibox.cli import containers
from minibox.compile import compile, slots
from minibox.errors import SetupError, StateError
from minibox.resources import cgroup
from minibox.resources.streams import Conversation
from minibox.syscalls import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values
    from minibox.resident import Resident, State


def execute(values: Values) -> int:
    container = containers.find(values["args"][0])
    rules = container.config.get("health")
    if not rules:
        raise StateError(f"container {container.name} has no --health-cmd")
    state, began = container.state(), time.time_ns()
    pidfd = container.open_pidfd(state)
    try:
        code, output = check(container, state, pidfd, rules["test"], rules["timeout"])
    except SetupError as error:
        code, output = error.exit_code, str(error).encode(errors="backslashreplace")
    finally:
        os.close(pidfd)
    before = health.last(container, state)["status"]
    after = health.note(container, state, began, code, output)
    if after not in (before, health.STARTING):
        life.journal(container, f"health_status: {after}")
    return 0 if code == 0 else 1


def check(
    container: Resident, state: State, pidfd: int, test: list[str], timeout: float
) -> tuple[int, bytes]:
    """Run the command inside: its exit code, or -1 after `timeout` seconds, and what it wrote."""
    here = host.probe()
    spec = inside.build(container, state, test, redirected=(0, 1, 2))
    plan = compile(spec, here)
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    read, write = os.pipe2(os.O_CLOEXEC)
    inputs: dict[str, int] = {slots.MEMBER: pidfd}
    inputs.update(zip(slots.STDIO, (null, write, write), strict=True))
    process = supervisor.start(
        spec, plan, here, plan.encode(), inputs, lambda pid: cgroup.join(pid, state.pid)
    )
    os.close(write)
    try:
        talk = Conversation(process.pidfd, [-1, read, -1], b"", health.KEPT_OUTPUT)
        timed_out = talk.hold(timeout, lambda: process.kill(SIGKILL))
        process.started()
        status = process.wait()
    finally:
        process.close()
    assert status is not None
    code = health.TIMED_OUT if timed_out else status.exit_code
    return code, talk.captures[0].data
