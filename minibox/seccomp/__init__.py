# SPDX-License-Identifier: Apache-2.0
"""Which system calls a container may make (seccomp(2)).

    text ──profile.read──┐
    capabilities ────────┴─> Profile ──program.assemble──> struct sock_filter[] ──> spec.Filter
             └─default.profile─┘        (first match)         (a tree of numbers)

A profile is docker's or OCI's JSON, or the default one (default.py). What comes out is the kernel's
own program, made without libseccomp: that knows the calls of its own release only, cannot keep
i386's socketcall away from a rule about socket, and makes programs four times as long.
"""

from __future__ import annotations

from minibox.seccomp.filters import choose as choose
from minibox.seccomp.filters import frozen as frozen
