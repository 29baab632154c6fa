# SPDX-License-Identifier: Apache-2.0
"""Which system calls a container may make (seccomp(2)).

    text ──profile.read──┐
    capabilities ────────┴─> Profile ──library.program──> struct sock_filter[] ──> spec.Filter
             └─default.profile─┘        libseccomp, and program.prologue before it

A profile is docker's or OCI's JSON, or the default one (default.py). libseccomp makes the filter;
it is opened by name, and only by a start whose filter is not made yet (filters.py, cache.py).
"""

from __future__ import annotations

import os

from minibox.spec import DEFAULT_CAPABILITIES, Filter

_default: Filter | None = None


def choose(text: str | None, capabilities: tuple[str, ...]) -> Filter | None:
    """The filter of a container that keeps these capabilities (names without CAP_), None for none.

    text: None or "default", "unconfined", the path of a profile, or its JSON, which begins with
    "{". SpecError; Unsupported on a machine whose calls are not known, and without libseccomp.
    """
    if text == "unconfined":
        return None
    if text in (None, "default") and capabilities == DEFAULT_CAPABILITIES and _ready():
        return _default
    from minibox.seccomp import filters

    return filters.choose(text, capabilities)


def frozen(text: str) -> str:
    """The same choice as data: a path becomes what the file says now. SpecError."""
    from minibox.seccomp import filters

    return filters.frozen(text)


def ready_path(machine: str) -> str:
    """Where the filter lies that was made when the package was built."""
    return os.path.join(os.path.dirname(__file__), f"default-{machine}.bpf")


def _ready() -> bool:
    """Is the default of the default capabilities at hand, as it lies in the package? It asks for no
    other module, and for no library."""
    global _default
    if _default is None:
        try:
            with open(ready_path(os.uname().machine), "rb") as file:
                _default = Filter(file.read(), 0, "default")
        except OSError:
            return False  # a tree that has not been built
    return True
