# SPDX-License-Identifier: Apache-2.0
"""Capabilities (capabilities(7)): the kept ones, and no way to any other.

Root of a user namespace has all of them over what the namespace owns; with CAP_SYS_ADMIN it could
lift the flags of its mounts (read-only, nodev), which is why this belongs to every container.
"""

from __future__ import annotations

import struct

from minibox import syscalls as sc
from minibox.errors import Unsupported
from minibox.plan import Memory
from minibox.spec import CAPABILITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minibox.host import Host
    from minibox.plan import Op
    from minibox.spec import Spec

VERSION_3 = 0x20080522


def mask(names: tuple[str, ...]) -> int:
    return sum(1 << CAPABILITIES.index(name) for name in names)


def _name(number: int) -> str:
    return CAPABILITIES[number] if number < len(CAPABILITIES) else str(number)


def limit(spec: Spec, host: Host) -> Iterator[Op]:
    """The bounding set: what no exec can give back."""
    kept = mask(spec.capabilities)
    missing = kept & ~host.capabilities
    if missing and not spec.has_own_ids:
        name = next(name for name in spec.capabilities if mask((name,)) & missing)
        text = f"CAP_{name} cannot be given: this process does not have it itself"
        raise Unsupported(text, "rights")
    if not spec.has_own_ids:
        # A user namespace begins with none set (kernel/user_namespace.c, set_cred_user_ns).
        yield sc.prctl(sc.PR_SET_SECUREBITS, 0, why="the caller's may be anything")
    for number in range(host.last_capability + 1):
        if not kept >> number & 1:
            yield sc.prctl(sc.PR_CAPBSET_DROP, number, why=f"not {_name(number)}")


def drop(spec: Spec, host: Host) -> Iterator[Op]:
    """The process's own sets. Inheritable is empty, and with it ambient (CVE-2022-24769)."""
    kept = mask(spec.capabilities) if spec.user.uid == 0 else 0
    low, high = kept & 0xFFFFFFFF, kept >> 32
    header = Memory(struct.pack("=Ii", VERSION_3, 0), "{_LINUX_CAPABILITY_VERSION_3, 0}")
    sets = Memory(struct.pack("=6I", low, low, 0, high, high, 0), f"{{{hex(kept)}, inheritable=0}}")
    yield sc.capset(header, sets, why="the kept ones; nothing is inheritable or ambient")
