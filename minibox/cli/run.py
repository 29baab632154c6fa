# SPDX-License-Identifier: Apache-2.0
"""minibox run"""

from __future__ import annotations

import os
import sys

from minibox import foreground, forms, host, request
from minibox.compile import compile
from minibox.errors import SpecError
from minibox.spec import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.quick import Values
    from minibox.host import Host
    from minibox.plan import Plan
    from minibox.resources.console import Streams
    from minibox.spec import Spec
    from minibox.supervisor import Process


def prepare(values: Values, *, terminals: tuple[int, ...]) -> tuple[Spec, Host, bool]:
    """The Spec of a command line, the host, and whether the container gets a pty."""
    args: list[str] = values["args"]  # type: ignore[assignment]
    here = host.probe()
    spec = request.build(args[1:], args[0], values, here)  # type: ignore[arg-type]
    pty = _wants_pty(values, terminals)
    if pty:
        from minibox.resources import console

        rows, columns = console.window_size(0)
        term = b"TERM=" + os.environb.get(b"TERM", b"xterm")
        has_term = any(item.startswith(b"TERM=") for item in spec.env)
        spec = spec.replace(
            terminal=Terminal(rows, columns, terminals),
            env=spec.env if has_term else (*spec.env, term),
        )
    elif terminals:
        spec = spec.replace(redirected=terminals)
    return spec, here, pty


def _wants_pty(values: Values, terminals: tuple[int, ...]) -> bool:
    """An interactive command has a terminal at both ends."""
    has_both = {0, 1} <= set(terminals)
    if values.get("tty") and values.get("no_tty"):
        raise SpecError("--tty", "it contradicts --no-tty")
    if values.get("tty") and not has_both:
        raise SpecError("--tty", "stdin and stdout are not a terminal")
    return has_both and not values.get("no_tty")


def execute(values: Values) -> int:
    text: str = values.get("timeout") or ""  # type: ignore[assignment]
    timeout = forms.duration("--timeout", text) if text else None
    terminals = tuple(fd for fd in range(3) if os.isatty(fd))
    spec, here, pty = prepare(values, terminals=terminals)
    plan = compile(spec, here)
    trace = bool(values.get("trace"))
    if not terminals:
        return _run(spec, plan, here, None, timeout, trace, text)
    from minibox.resources.console import Streams

    with Streams(terminals, pty) as streams:
        streams.open()
        return _run(spec, plan, here, streams, timeout, trace, text)


def _run(
    spec: Spec,
    plan: Plan,
    here: Host,
    streams: Streams | None,
    timeout: float | None,
    trace: bool,
    timeout_text: str,
) -> int:
    def show(process: Process) -> None:
        from minibox import describe

        report = process.report()
        sys.stderr.write(describe.traced(plan, report.results, report.micros, report.step))
        sys.stderr.flush()

    outcome = foreground.run(
        spec, plan, here, streams=streams, timeout=timeout, show=show if trace else None
    )
    if outcome.timed_out:
        from minibox import cli

        cli.say(f"the container was killed after {timeout_text} (--timeout)")
    return outcome.exit_code
