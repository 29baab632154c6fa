# SPDX-License-Identifier: Apache-2.0
"""The choice of a filter, and the ones that are at hand.

The default filter of the default capabilities is made when the package is built and lies in it; all
others are made when they are asked for, which takes a few milliseconds and leaves nothing behind.
"""

from __future__ import annotations

import os

from minibox.errors import SpecError, Unsupported
from minibox.spec import DEFAULT_CAPABILITIES, Filter

OPTION = "--security-opt seccomp"
LIMIT = 1 << 20
MOST = 64
INSTRUCTION, LONGEST = 8, 4096  # struct sock_filter, BPF_MAXINSNS (include/uapi/linux/filter.h)

_known: dict[tuple[str, tuple[str, ...]], Filter] = {}


def choose(text: str | None, capabilities: tuple[str, ...]) -> Filter | None:
    """The filter of a container that keeps these capabilities (names without CAP_), None for none.

    text: None or "default", "unconfined", the path of a profile, or its JSON, which begins with
    "{". SpecError; Unsupported on a machine whose calls are not known.
    """
    if text == "unconfined":
        return None
    text = "default" if text is None else frozen(text)
    key = (text, capabilities)
    found = _known.get(key)
    if found is None:
        found = _ready(capabilities) if text == "default" else None
        found = found or _make(text, capabilities)
        if len(_known) >= MOST:
            _known.clear()
        _known[key] = found
    return found


def frozen(text: str) -> str:
    """The same choice as data: a path becomes what the file says now. SpecError."""
    if text in ("default", "unconfined") or text.lstrip().startswith("{"):
        return text
    try:
        with open(text, "rb") as file:
            content = file.read(LIMIT + 1)
        if len(content) > LIMIT:
            raise SpecError(OPTION, f"{text}: larger than 1 MiB")
        profile = content.decode()
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a NUL byte in the path
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SpecError(OPTION, f"{text}: {reason}") from None
    if not profile.lstrip().startswith("{"):
        raise SpecError(OPTION, f"{text}: a profile is a JSON object")
    return profile


def ready_path(machine: str) -> str:
    """Where the filter lies that was made when the package was built. setup.py puts it there."""
    return os.path.join(os.path.dirname(__file__), f"default-{machine}.bpf")


def _ready(capabilities: tuple[str, ...]) -> Filter | None:
    if capabilities != DEFAULT_CAPABILITIES:
        return None
    try:
        with open(ready_path(os.uname().machine), "rb") as file:
            program = file.read()
    except OSError:
        return None  # a tree that has not been built
    return Filter(program, 0, "default")


def _make(text: str, capabilities: tuple[str, ...]) -> Filter:
    from minibox.seccomp import calls, default, program

    here = os.uname()
    abis = calls.MACHINES.get(here.machine)
    if abis is None:
        raise Unsupported(
            f"seccomp: the system calls of {here.machine} are not known\n"
            "  hint: --security-opt seccomp=unconfined goes without a filter",
            "seccomp",
        )
    if text == "default":
        chosen, name = default.profile(capabilities, abis), "default"
    else:
        from minibox.seccomp import profile

        chosen, name = profile.read(text, capabilities, abis, here.release), "profile"
    code = program.assemble(chosen)
    if len(code) > LONGEST * INSTRUCTION:
        length = len(code) // INSTRUCTION
        raise SpecError(OPTION, f"{length} instructions, of which the kernel takes {LONGEST}")
    return Filter(code, chosen.flags, name)
