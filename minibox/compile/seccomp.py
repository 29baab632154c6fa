# SPDX-License-Identifier: Apache-2.0
"""The filter of system calls (seccomp(2)); which one is decided before (minibox/seccomp/)."""

from __future__ import annotations

import struct

from minibox import syscalls as sc
from minibox.plan import Memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minibox.host import Host
    from minibox.plan import Op
    from minibox.spec import Spec

INSTRUCTION = 8  # struct sock_filter


def restrict(spec: Spec, host: Host) -> Iterator[Op]:
    """After all that only the set-up needs, and before an init is left behind, so that it has the
    filter as well. no_new_privs is set, without which it would take CAP_SYS_ADMIN."""
    if spec.seccomp is None:
        return
    program = spec.seccomp.program
    length = len(program) // INSTRUCTION
    text = f'{{len={length} filter="{spec.seccomp.name}"}}'
    fprog = Memory(struct.pack("=H6xQ", length, 0), text, ((8, Memory(program)),))
    yield sc.seccomp_set_mode_filter(
        spec.seccomp.flags, fprog, why="system calls that containers need"
    )
