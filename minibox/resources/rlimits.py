# SPDX-License-Identifier: Apache-2.0
"""Room for resource limits above the caller's own: only CAP_SYS_RESOURCE in the initial user
namespace gives it (prlimit(2)), which the child has left."""

from __future__ import annotations

import struct

from minibox import core
from minibox.errors import SetupError
from minibox.numbers import NUMBERS
from minibox.spec import NO_CORE, RLIMITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.spec import Spec

PAIR = struct.Struct("=QQ")
LACKING = "only CAP_SYS_RESOURCE raises a hard limit; up to the caller's own everybody may"


def make_room(pid: int, spec: Spec) -> None:
    """Raise the hard limits of a child at its gate where the Spec asks for more. SetupError."""
    for rlimit in spec.rlimits:
        number = RLIMITS.index(rlimit.name)
        own = bytearray(PAIR.size)
        core.syscall(NUMBERS["prlimit64"], pid, number, None, own)
        soft, hard = PAIR.unpack(own)
        if rlimit.hard <= hard:
            continue
        try:
            core.syscall(NUMBERS["prlimit64"], pid, number, PAIR.pack(soft, rlimit.hard), None)
        except OSError as error:
            if rlimit == NO_CORE:
                continue  # then it is 0 bytes
            what = f"--ulimit {rlimit.name.lower()}: {rlimit.hard} is above {hard}"
            raise SetupError(error.errno or 0, what, hint=LACKING, lack="rights") from None
