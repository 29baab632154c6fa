# SPDX-License-Identifier: Apache-2.0
"""Resource limits (getrlimit(2)).

For one above the caller's own hard limit the parent has made room while the child waited at its
gate (resources/rlimits.py): it may have the right that the child has not.
"""

from __future__ import annotations

import struct
from errno import EPERM

from minibox import syscalls as sc
from minibox.errors import SpecError
from minibox.plan import Memory
from minibox.spec import NO_CORE, RLIM_INFINITY, RLIMITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minibox.host import Host
    from minibox.plan import Op
    from minibox.spec import Spec


def limit(spec: Spec, host: Host) -> Iterator[Op]:
    for rlimit in spec.rlimits:
        name = rlimit.name
        if name not in RLIMITS:
            raise SpecError("rlimits", f"{name!r} is none of {', '.join(RLIMITS)}")
        if not 0 <= rlimit.soft <= rlimit.hard <= RLIM_INFINITY:
            raise SpecError("rlimits", f"{name}: the soft limit is above the hard one, or negative")
        memory = Memory(
            struct.pack("=QQ", rlimit.soft, rlimit.hard),
            f"{{rlim_cur={_shown(rlimit.soft)}, rlim_max={_shown(rlimit.hard)}}}",
        )
        # Where even one byte is more than the caller's own hard limit, there is that of 0.
        ok, why = ((EPERM,), "no core dump") if rlimit == NO_CORE else ((), "--ulimit")
        op = sc.prlimit64(0, RLIMITS.index(name), memory, ok=ok, why=why)
        op.origin = f"rlimits, --ulimit {name.lower()}"
        yield op


def _shown(value: int) -> str:
    return "RLIM_INFINITY" if value == RLIM_INFINITY else str(value)
