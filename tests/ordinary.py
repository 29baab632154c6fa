# SPDX-License-Identifier: Apache-2.0
"""An ordinary user, for tests of what root is not needed for."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
USER = 1234
DROP = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--inh-caps=-all"]


def uncover() -> str:
    """Shell commands that make the interpreter and this repository reachable for everybody in a
    mount namespace: a directory above them that is closed is covered by an open one."""
    commands = ["set -e"]
    for needed in {Path(sys.base_prefix), Path(sys.prefix), REPOSITORY}:
        closed = [path for path in [*needed.parents][::-1] if not path.stat().st_mode & 1]
        if closed:
            top, inner = shlex.quote(str(closed[0])), shlex.quote(str(needed))
            commands += [
                f"exec 9<{inner}",
                f"mount -t tmpfs -o mode=755 covered {top}",
                f"mkdir -p {inner}",
                f"mount --no-canonicalize --bind /proc/self/fd/9 {inner}",
                "exec 9<&-",
            ]
    return "\n".join(commands)
