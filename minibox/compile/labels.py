# SPDX-License-Identifier: Apache-2.0
"""What the kernel's security modules shall call the command: set for its exec, by the host's proc,
before anything of the container could have put another file in its place (CVE-2019-16884)."""

from __future__ import annotations

from errno import ENOENT

from minibox import syscalls as sc
from minibox.errors import SpecError
from minibox.plan import Slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minibox.host import Host
    from minibox.plan import Op
    from minibox.spec import Spec

ATTRIBUTE = Slot("attribute")
APPARMOR, ANY = b"/proc/thread-self/attr/apparmor/exec", b"/proc/thread-self/attr/exec"


def label(spec: Spec, host: Host) -> Iterator[Op]:
    """apparmor(7), "aa_change_onexec"; setexeccon(3)."""
    if spec.apparmor and spec.selinux:
        raise SpecError("--security-opt", "apparmor= and label= are of two modules: choose one")
    for word, text in (("apparmor", b"exec " + spec.apparmor), ("label", spec.selinux)):
        if not (spec.apparmor if word == "apparmor" else spec.selinux):
            continue
        flags = sc.O_WRONLY | sc.O_CLOEXEC
        shown = text.removeprefix(b"exec ").decode(errors="replace")
        ops = [sc.write(ATTRIBUTE, text, why=f"the command's {word}")]
        ops.insert(0, sc.openat(sc.AT_FDCWD, ANY, flags, to=ATTRIBUTE, why="for the next exec"))
        if word == "apparmor":
            # With several modules the common file is the first one's (since Linux 5.8).
            own = sc.openat(sc.AT_FDCWD, APPARMOR, flags, to=ATTRIBUTE, ok=(ENOENT,))
            own.why = "AppArmor's own file, where there is one"
            ops.insert(1, own)
        for op in ops:
            op.origin = f"labels, --security-opt {word}={shown}"
            yield op
