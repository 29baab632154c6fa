# SPDX-License-Identifier: Apache-2.0
"""Which system calls a container may make (seccomp(2)).

    text ──profile.read──┐
    capabilities ────────┴─> Profile ──library.program──> struct sock_filter[] ──> spec.Filter
             └─default.profile─┘        libseccomp, and program.prologue before it

A profile is docker's or OCI's JSON, or the default one (default.py). libseccomp makes the filter;
it is opened by name, and only by a start whose filter is not made yet (filters.py, cache.py).
"""

from __future__ import annotations

from minibox.seccomp.filters import choose as choose
from minibox.seccomp.filters import frozen as frozen
