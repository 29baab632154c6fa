# SPDX-License-Identifier: Apache-2.0
"""The compiler: compile(spec, host) -> Plan. Pure: it reads no file and makes no system call.

A stage is a generator of ops. The two tuples below are the order of the whole container: what the
parent calls before clone, and what the child calls from clone to exec.
"""

from __future__ import annotations

import sys

from minibox import spec as s
from minibox.compile import (
    capabilities,
    command,
    identity,
    lifeline,
    mounts,
    names,
    namespaces,
    paths,
    rlimits,
    root,
    seccomp,
)
from minibox.plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minibox.host import Host
    from minibox.plan import Op

    Stage = Callable[[s.Spec, Host], Iterator[Op]]


def _seldom(asks: Callable[[s.Spec], object], module: str, name: str) -> Stage:
    """A stage whose module is imported by who asks for it: a start without is not to pay for it."""

    def stage(spec: s.Spec, host: Host) -> Iterator[Op]:
        if asks(spec):
            whole = f"{__name__}.{module}"
            __import__(whole)
            for op in getattr(sys.modules[whole], name)(spec, host):
                op.origin = op.origin or module
                yield op

    return stage


def _asks_oom(spec: s.Spec) -> bool:
    return spec.oom_score_adj is not None


def _asks_labels(spec: s.Spec) -> object:
    return spec.apparmor or spec.selinux


def _asks_landlock(spec: s.Spec) -> object:
    return spec.landlock


def _asks_monitor(spec: s.Spec) -> object:
    return spec.monitor


def _asks_terminal(spec: s.Spec) -> object:
    return spec.terminal


def _asks_network(spec: s.Spec) -> object:
    return spec.interfaces or spec.routes


BEFORE: tuple[Stage, ...] = (
    namespaces.acquire,
    root.acquire,
    mounts.acquire,
)

STAGES: tuple[Stage, ...] = (
    lifeline.tie,
    _seldom(_asks_monitor, "monitor", "detach"),
    namespaces.join,
    lifeline.wait,
    names.clocks,
    _seldom(_asks_oom, "oom", "adjust_early"),
    identity.become_root,
    names.cgroup,
    namespaces.leave_python,
    _seldom(_asks_oom, "oom", "adjust_late"),
    _seldom(_asks_labels, "labels", "label"),
    names.session,
    names.name,
    names.loopback,
    mounts.seclude,
    mounts.take,
    root.attach,
    mounts.mount,
    _seldom(_asks_terminal, "console", "open_pty"),
    root.finish,
    root.pivot,
    _seldom(_asks_terminal, "console", "open_guest_pty"),
    command.redirect,
    command.enter_directory,
    _seldom(_asks_network, "network", "interfaces"),
    names.sysctls,
    paths.cover,
    _seldom(_asks_landlock, "landlock", "rule"),
    capabilities.limit,
    rlimits.limit,
    identity.become_user,
    _seldom(_asks_landlock, "landlock", "restrict"),
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
