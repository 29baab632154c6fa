# SPDX-License-Identifier: Apache-2.0
"""The compiler: compile(spec, host) -> Plan. Pure: it reads no file and makes no system call.

A stage is a generator of ops. The two tuples below are the order of the whole container: what the
parent calls before clone, and what the child calls from clone to exec.
"""

from __future__ import annotations

from minibox import spec as s
from minibox.compile import (
    capabilities,
    command,
    console,
    identity,
    labels,
    landlock,
    lifeline,
    monitor,
    mounts,
    names,
    namespaces,
    oom,
    paths,
    rlimits,
    root,
    seccomp,
)
from minibox.errors import SpecError
from minibox.plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minibox.host import Host
    from minibox.plan import Op

    Stage = Callable[[s.Spec, Host], Iterator[Op]]


def _interfaces(spec: s.Spec, host: Host) -> Iterator[Op]:
    """Imported by who has some: a start without is not to pay for it."""
    if spec.routes and not spec.interfaces:
        raise SpecError("route", "there is no interface that it could go by")
    if spec.interfaces:
        from minibox.compile import network

        for op in network.interfaces(spec, host):
            op.origin = op.origin or "network"
            yield op


BEFORE: tuple[Stage, ...] = (
    namespaces.acquire,
    root.acquire,
    mounts.acquire,
)

STAGES: tuple[Stage, ...] = (
    lifeline.tie,
    monitor.detach,
    namespaces.join,
    lifeline.wait,
    names.clocks,
    oom.adjust_early,
    identity.become_root,
    names.cgroup,
    namespaces.leave_python,
    oom.adjust_late,
    labels.label,
    names.session,
    names.name,
    names.loopback,
    mounts.seclude,
    root.attach,
    mounts.mount,
    console.open_pty,
    root.finish,
    root.pivot,
    console.open_guest_pty,
    command.redirect,
    command.enter_directory,
    _interfaces,
    names.sysctls,
    paths.cover,
    landlock.rule,
    capabilities.limit,
    rlimits.limit,
    identity.become_user,
    landlock.restrict,
    capabilities.drop,
    lifeline.check,
    command.close,
    seccomp.restrict,
    command.start_init,
    command.execute,
)


def compile(spec: s.Spec, host: Host) -> Plan:
    """The plan of `spec` on `host`. SpecError when the request contradicts itself."""
    return Plan(
        _run(BEFORE, spec, host),
        namespaces.clone_flags(spec, host),
        _run(STAGES, spec, host),
        staged=namespaces.is_staged(spec, host),
        uid_map=identity.id_map(spec.uid_mappings),
        gid_map=identity.id_map(spec.gid_mappings),
    )


def _run(stages: tuple[Stage, ...], spec: s.Spec, host: Host) -> tuple[Op, ...]:
    """The ops of the stages; one that does not say its origin is of its stage's module."""
    ops = []
    for stage in stages:
        for op in stage(spec, host):
            op.origin = op.origin or stage.__module__.rpartition(".")[2]
            ops.append(op)
    return tuple(ops)


__all__ = ["BEFORE", "STAGES", "compile"]
