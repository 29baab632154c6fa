# SPDX-License-Identifier: Apache-2.0
"""minibox, a minimal container runtime built on clone namespaces.

    >>> import minibox
    >>> minibox.run(["/bin/echo", "hi"], rootfs="./rootfs").stdout
    b'hi\\n'

run(…) runs a command to its end, Container(…) holds one, clone(…) is the system call under both.
The names below are imported when they are first used: the command line needs few of them.
"""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = [
    "CannotExecute",
    "Clone",
    "CommandNotFound",
    "Container",
    "MiniboxError",
    "Result",
    "SetupError",
    "SpecError",
    "StateError",
    "Topology",
    "Unsupported",
    "clone",
    "run",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.errors import (
        CannotExecute,
        CommandNotFound,
        MiniboxError,
        SetupError,
        SpecError,
        StateError,
        Unsupported,
    )
    from minibox.primitive import Clone, clone
    from minibox.runtime import Container, Result, run
    from minibox.topology.standing import Topology


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'minibox' has no attribute {name!r}")
    if name in ("Container", "Result", "run"):
        from minibox import runtime as module
    elif name in ("Clone", "clone"):
        from minibox import primitive as module  # type: ignore[no-redef]
    elif name == "Topology":
        from minibox.topology import standing as module  # type: ignore[no-redef]
    else:
        from minibox import errors as module  # type: ignore[no-redef]
    value = getattr(module, name)
    globals()[name] = value
    return value
