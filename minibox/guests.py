# SPDX-License-Identifier: Apache-2.0
"""The library's exec: one more command in a kept container, run to its end."""

from __future__ import annotations

import os
import time

from minibox import inside, runtime, supervisor
from minibox.compile import compile, slots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from minibox.resident import Resident
    from minibox.runtime import Result


def run_inside(
    container: Resident,
    args: Iterable[str],
    *,
    input: bytes = b"",
    timeout: float | None = None,
    output_limit: int = runtime.OUTPUT_LIMIT,
) -> Result:
    """One more command in a kept container that runs, as minibox exec; the arguments are those of
    run. SpecError, StateError, SetupError."""
    state, host = container.state(), runtime.this_host()
    pidfd = container.open_pidfd(state)
    ends = [-1, -1, -1]
    inputs: dict[str, int] = {slots.MEMBER: pidfd}
    try:
        spec = inside.build(container, state, tuple(args), redirected=(0, 1, 2))
        for fd in range(3):
            read, write = os.pipe2(os.O_CLOEXEC)
            inputs[runtime.STREAMS[fd]], ends[fd] = (read, write) if fd == 0 else (write, read)
        plan, began = compile(spec, host), time.monotonic()
        process = runtime.from_lasting_thread(
            lambda: supervisor.start(
                spec,
                plan,
                host,
                plan.encode(),
                inputs,
                lambda pid: inside.admit(container, state, pidfd, pid),
            )
        )
        for name in runtime.STREAMS:
            os.close(inputs.pop(name))
        try:
            return runtime.hold(process, ends, input, timeout, output_limit, began)
        finally:
            process.close()
    finally:
        for fd in {*inputs.values(), *ends}:
            if fd >= 0:
                os.close(fd)
