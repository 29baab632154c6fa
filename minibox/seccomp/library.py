# SPDX-License-Identifier: Apache-2.0
"""libseccomp: a Profile -> the program that the kernel runs at each system call.

The only importer of minibox._seccomp. The library is opened when it is needed, by name: neither the
extension nor a start with the default filter asks for it. seccomp_init(3) and its neighbours.
"""

from __future__ import annotations

import os
from errno import EEXIST, EINVAL

from minibox.errors import SetupError, SpecError, Unsupported
from minibox.seccomp.program import prologue
from minibox.seccomp.rules import ALL_BITS, AUDIT_ARCH, ENOSYS, permits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from minibox.seccomp.rules import Condition, Profile, Rule

NAME = "libseccomp.so.2"
OPTION = "--security-opt seccomp"
# enum scmp_filter_attr, enum scmp_compare (seccomp.h).
ACT_BADARCH, CTL_NNP, CTL_OPTIMIZE = 2, 3, 8
BINARY_TREE = 2
COMPARE = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6}
MASKED_EQ = 7
NO_SUCH_CALL = -1  # __NR_SCMP_ERROR; all else below 0 is a call of other machines
# What i386 has behind socketcall and ipc is -101 and so on; of their own they have numbers up to
# msgctl's.
MULTIPLEXED, LAST_OF_THEM = range(-299, -99), 402
MFD_CLOEXEC, MFD_NOEXEC_SEAL = 1, 8

_library: Any = None


def version() -> tuple[int, int, int]:
    """libseccomp's own. Unsupported."""
    found = _open()[1].seccomp_version()
    return found.major, found.minor, found.micro


def number(name: str, abi: str) -> int | None:
    """A call's number in one of AUDIT_ARCH, below 0 where it has none; None: libseccomp does not
    know it. Unsupported."""
    return _resolved(name, AUDIT_ARCH[abi])


def program(profile: Profile) -> bytes:
    """struct sock_filter[]. SpecError; Unsupported: the library is not there, or is too old to know
    a call that is to be kept away; SetupError."""
    numbers = {abi: _numbers(profile, abi) for abi in profile.abis}
    return prologue(profile, numbers) + _exported(profile)


def _open() -> tuple[Any, Any]:
    """The declarations, and the library. (A second call finds it in memory.)"""
    global _library
    from minibox._seccomp import ffi

    if _library is None:
        try:
            _library = ffi.dlopen(NAME)
        except OSError:
            raise Unsupported(
                f"seccomp: {NAME} is not there, which makes filters\n"
                "  hint: --security-opt seccomp=unconfined goes without a filter",
                "seccomp",
            ) from None
    return ffi, _library


def _resolved(name: str, token: int) -> int | None:
    if not (name.isascii() and name.isidentifier()):
        return None  # C would read "read\\0x" as "read"
    found: int = _open()[1].seccomp_syscall_resolve_name_arch(token, name.encode())
    return None if found == NO_SUCH_CALL else found


def _numbers(profile: Profile, abi: str) -> list[int]:
    found = [number(name, abi) for name in (*profile.calls, *profile.own)]
    known = [LAST_OF_THEM if one in MULTIPLEXED else one for one in found if one is not None]
    return [one for one in known if one >= 0]


def _exported(profile: Profile) -> bytes:
    ffi, library = _open()
    context = library.seccomp_init(profile.default)
    if context == ffi.NULL:
        raise SpecError(OPTION, "seccomp_init: this kernel has no such action")
    try:
        _set_up(library, context)
        native = library.seccomp_arch_native()
        first, *others = [AUDIT_ARCH[abi] for abi in profile.abis]
        # A new context is for the machine it was made on.
        if first != native:
            _must("seccomp_arch_add", library.seccomp_arch_add(context, first))
            _must("seccomp_arch_remove", library.seccomp_arch_remove(context, native))
        _add_rules(context, profile.own, profile.default)
        for token in others:
            _must("seccomp_arch_add", library.seccomp_arch_add(context, token))
        _add_rules(context, profile.calls, profile.default)
        return _export(library, context)
    finally:
        library.seccomp_release(context)


def _set_up(library: Any, context: Any) -> None:
    _must("seccomp_attr_set", library.seccomp_attr_set(context, ACT_BADARCH, ENOSYS))
    _must("seccomp_attr_set", library.seccomp_attr_set(context, CTL_NNP, 0))
    if version() >= (2, 5, 0):
        # The kernel runs it once for each number when it takes it (seccomp_cache_prepare): a chain
        # of 400 comparisons costs more there than all the calls that follow.
        done = library.seccomp_attr_set(context, CTL_OPTIMIZE, BINARY_TREE)
        _must("seccomp_attr_set", done)


def _add_rules(context: Any, calls: Mapping[str, tuple[Rule, ...]], default: int) -> None:
    """In their order, for the machines that the context has by now. A call is given by its number
    here, whatever the filter is for: libseccomp finds those of the others, and leaves out a machine
    that has no such call."""
    ffi, library = _open()
    native = library.seccomp_arch_native()
    for name, rules in calls.items():
        its = _resolved(name, native)
        if its is not None:
            for rule in rules:
                tests = [_comparison(one) for one in rule.conditions]
                array = ffi.new("struct scmp_arg_cmp[]", tests)
                add = library.seccomp_rule_add_array
                _must(
                    f"seccomp_rule_add_array({name})",
                    add(context, rule.action, its, len(tests), array),
                )
        elif permits(default) and not all(permits(rule.action) for rule in rules):
            # To leave out what is asked to be allowed is safe; what is asked to be kept away, not.
            known = ".".join(map(str, version()))
            raise Unsupported(f"seccomp: libseccomp {known} knows no system call {name!r}")


def _comparison(condition: Condition) -> tuple[int, int, int, int]:
    """struct scmp_arg_cmp."""
    if condition.mask != ALL_BITS:
        return condition.index, MASKED_EQ, condition.mask, condition.value
    return condition.index, COMPARE[condition.op], condition.value, 0


def _export(library: Any, context: Any) -> bytes:
    """By a file in memory: a pipe may hold less than a program."""
    try:
        with open(_memfd(), "rb") as file:
            _must("seccomp_export_bpf", library.seccomp_export_bpf(context, file.fileno()))
            file.seek(0)
            return file.read()
    except OSError as error:
        raise SetupError(error.errno or 0, "make a filter: a file in memory") from None


def _memfd() -> int:
    try:
        return os.memfd_create("seccomp", MFD_CLOEXEC | MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != EINVAL:
            raise
    return os.memfd_create("seccomp", MFD_CLOEXEC)  # before Linux 6.3


def _must(call: str, result: int) -> None:
    if result == -EEXIST:
        raise SpecError(OPTION, f"{call}: it contradicts a rule before it, for i386 at least")
    if result < 0:
        raise SpecError(OPTION, f"{call}: {os.strerror(-result)}")
