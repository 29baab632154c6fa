# SPDX-License-Identifier: Apache-2.0
"""A Landlock domain: which files of its own root file system the command can reach (landlock(7)).

The paths are opened inside, by the container's root; the domain begins when the user is there.
"""

from __future__ import annotations

import struct
from errno import EINVAL

from minibox import syscalls as sc
from minibox.errors import SpecError
from minibox.plan import Memory, Offset, Slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minibox.host import Host
    from minibox.plan import Op
    from minibox.spec import Spec

RULESET = Slot("ruleset")
PATH = Slot("landlock_path")
# include/uapi/linux/landlock.h, LANDLOCK_ACCESS_FS_*.
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
# By version: all rights up to MAKE_SYM; REFER; TRUNCATE; IOCTL_DEV.
HANDLED = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF, 5: 0xFFFF}
READ = EXECUTE | READ_FILE | READ_DIR
OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
PARENT_FD_AT = 8  # in struct landlock_path_beneath_attr, which is packed


def rule(spec: Spec, host: Host) -> Iterator[Op]:
    if spec.landlock is None:
        return
    handled = HANDLED[min(spec.landlock.abi, max(HANDLED))]
    attr = Memory(struct.pack("=Q", handled), f"{{handled_access_fs={handled:#x}}}")
    yield sc.landlock_create_ruleset(attr, to=RULESET, why="--landlock")
    for path, is_writable in spec.landlock.rules:
        if not path.startswith(b"/"):
            raise SpecError("--landlock", "a path must be absolute")
        how = sc.open_how(sc.O_PATH | sc.O_CLOEXEC, sc.RESOLVE_NO_MAGICLINKS)
        access = handled if is_writable else READ & handled
        ops = [sc.openat2(sc.AT_FDCWD, path, how, to=PATH, why="where it begins")]
        # What only a directory can have is refused for a file: the second rule is then the one.
        for rights, ok in ((access, (EINVAL,)), (access & OF_A_FILE, ())):
            beneath = Memory(struct.pack("=Qi", rights, -1), f"{{access={rights:#x}, @{PATH}}}")
            ops.append(sc.store(PATH, Offset(beneath, PARENT_FD_AT, "&parent_fd"), why="whose"))
            ops.append(sc.landlock_add_rule(RULESET, beneath, ok=ok, why="what is allowed there"))
        for op in ops:
            word = "rw" if is_writable else "ro"
            op.origin = f"landlock, --landlock {word}:{path.decode(errors='replace')}"
            yield op


def restrict(spec: Spec, host: Host) -> Iterator[Op]:
    if spec.landlock is not None:
        yield sc.landlock_restrict_self(RULESET, why="from here on nothing else can be reached")
