# SPDX-License-Identifier: Apache-2.0
"""minibox run"""

from __future__ import annotations

import os
import sys

from minibox import core, foreground, forms, host, request
from minibox.compile import compile
from minibox.errors import SpecError, StateError
from minibox.network import modes
from minibox.spec import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.quick import Values
    from minibox.host import Host
    from minibox.network.wiring import Wiring
    from minibox.request import Options
    from minibox.spec import Spec
    from minibox.supervisor import Process


def prepare(
    values: Values, *, terminals: tuple[int, ...], wiring: Wiring | None = None
) -> tuple[Spec, Host]:
    """The Spec of a command line and the host; `terminals` are those of fd 0, 1, 2 that are one."""
    args: list[str] = values["args"]  # type: ignore[assignment]
    here = host.probe()
    options: Options = wiring.options if wiring else values  # type: ignore[assignment]
    wired = wiring.wired() if wiring else request.UNWIRED
    spec = request.build(args[1:], args[0], options, here, (), wired)
    if wants_pty(values, terminals):
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
    return spec, here


def networks(values: Values, *, plans: bool = False) -> Wiring | None:
    """What --net asks for, where it is more than a mode of the namespace. plans: only to be shown,
    for which nobody needs a right. Unsupported."""
    options: Options = values  # type: ignore[assignment]
    if not modes.is_wired(options):
        return None
    from minibox import cli
    from minibox.network.wiring import Wiring, check_rights
    from minibox.store import Store

    if not plans:
        check_rights(options)
    return Wiring(Store(cli.root).root, options, options.get("hostname") or "minibox")


def wants_pty(values: Values, terminals: tuple[int, ...]) -> bool:
    """An interactive command has a terminal at both ends."""
    has_both = {0, 1} <= set(terminals)
    if values.get("tty") and values.get("no_tty"):
        raise SpecError("--tty", "it contradicts --no-tty")
    if values.get("tty") and not has_both:
        raise SpecError("--tty", "stdin and stdout are not a terminal")
    return has_both and not values.get("no_tty")


# What makes a container one that minibox keeps a record of.
KEPT = (
    *("detach", "name", "labels", "label_file", "restart", "stop_signal", "stop_timeout"),
    *("log_opt", "health_cmd", "cidfile", "detach_keys"),
)


def execute(values: Values) -> int:
    if not values.get("net"):
        from minibox.cli import default_net

        default_net.settle(values)
    if any(values.get(field) for field in KEPT):
        from minibox.cli import detached

        return detached.execute(values)
    limit: str | None = values.get("timeout")  # type: ignore[assignment]
    timeout = None if limit is None else forms.duration("--timeout", limit)
    if values.get("die_with_parent"):
        _die_with_parent()
    terminals = tuple(fd for fd in range(3) if os.isatty(fd))
    wiring = networks(values)
    try:
        if wiring:
            wiring.take(say)
        spec, here = prepare(values, terminals=terminals, wiring=wiring)
        outcome = _run(spec, here, values, terminals, timeout, wiring)
    finally:
        if wiring:
            wiring.release()
    if outcome.timed_out:
        say(f"the container was killed after {limit} (--timeout)")
    return outcome.exit_code


def _run(
    spec: Spec,
    here: Host,
    values: Values,
    terminals: tuple[int, ...],
    timeout: float | None,
    wiring: Wiring | None,
) -> foreground.Outcome:
    """With the cgroup that it is to have; said, when its memory was not enough."""
    plan = compile(spec, here)
    show = show_trace if values.get("trace") else None
    streams = None
    if terminals:
        from minibox.resources.console import Streams

        streams = Streams(terminals, pty=spec.terminal is not None)
    group = None
    try:
        if spec.cgroup:
            from minibox.resources import making

            group = making.plain(spec.cgroup)
        outcome = foreground.run(
            spec,
            plan,
            here,
            streams=streams,
            timeout=timeout,
            show=show,
            prepare=wiring.prepare if wiring else None,
            plug=wiring.plug_in if wiring else None,
            group=group,
        )
        if spec.cgroup and group and outcome.was_killed and group.oom_kills():
            from minibox import limits

            say(limits.short_of(spec.cgroup.limits.memory))
        return outcome
    finally:
        if group:
            group.remove()
        if streams:
            streams.close()


def say(text: str) -> None:
    from minibox import cli

    cli.say(text)


def _die_with_parent() -> None:
    """As the container dies with minibox (prctl(2), PR_SET_PDEATHSIG)."""
    parent = os.getppid()
    core.die_with_parent()
    if os.getppid() != parent:
        raise StateError("the process that started minibox has ended")


def show_trace(process: Process) -> None:
    from minibox import describe

    report = process.report()
    text = describe.traced(process.plan, report.results, report.micros, report.step)
    sys.stderr.write(text)
    sys.stderr.flush()
