# SPDX-License-Identifier: Apache-2.0
"""The calls that are traced, their numbers by architecture, and what their arguments are."""

from __future__ import annotations

from minibox import describe
from minibox import syscalls as sc
from minibox.spec import NAMESPACES

# AUDIT_ARCH_* of include/uapi/linux/audit.h -> how it is called, and the column of CALLS.
ARCHITECTURES = {
    0xC000003E: ("x86-64", 0),
    0xC00000B7: ("arm64", 1),
    0x40000003: ("i386", 2),
    0x40000028: ("arm", 3),
}
X86_64 = 0xC000003E
# x32 has x86-64's architecture and numbers, with this bit; and a few of its own
# (arch/x86/entry/syscalls/syscall_64.tbl).
X32 = 0x40000000
X32_OWN = {"execve": 520, "execveat": 545}

# name -> numbers on x86-64, arm64, i386 and arm, then the parameters as `name:kind`; |CLONE_ are
# flags of that prefix, =FSCONFIG_ is one name, and decode.py has a function for any other kind.
CALLS: dict[str, tuple[int | None, int | None, int | None, int | None, str]] = {
    "clone": (56, 220, 120, 120, "clone"),
    "fork": (57, None, 2, 2, "clone"),
    "vfork": (58, None, 190, 190, "clone"),
    "clone3": (435, 435, 435, 435, "clone"),
    "unshare": (272, 97, 310, 337, "flags:|CLONE_"),
    "setns": (308, 268, 346, 375, "fd:fd nstype:|CLONE_"),
    "pivot_root": (155, 41, 217, 218, "new_root:path put_old:path"),
    "chroot": (161, 51, 61, 61, "path:path"),
    "mount": (165, 40, 21, 21, "source:path target:path fstype:path flags:|MS_ data:path"),
    "umount": (None, None, 22, None, "target:path"),
    "umount2": (166, 39, 52, 52, "target:path flags:|MNT_"),
    "open_tree": (428, 428, 428, 428, "dirfd:fd path:path flags:|OPEN_TREE_"),
    "move_mount": (
        *(429, 429, 429, 429),
        "from_dirfd:fd from_path:path to_dirfd:fd to_path:path flags:|MOVE_MOUNT_",
    ),
    "fsopen": (430, 430, 430, 430, "fstype:path flags:|FSOPEN_"),
    "fsconfig": (431, 431, 431, 431, "fd:fd cmd:=FSCONFIG_ key:path value:value aux:int"),
    "fsmount": (432, 432, 432, 432, "fd:fd flags:|FSMOUNT_ attr_flags:|MOUNT_ATTR_"),
    "fspick": (433, 433, 433, 433, "dirfd:fd path:path flags:|FSPICK_"),
    "mount_setattr": (442, 442, 442, 442, "dirfd:fd path:path flags:|AT_ attr:attr size:int"),
    "open_tree_attr": (
        *(467, 467, 467, 467),
        "dirfd:fd path:path flags:|OPEN_TREE_ attr:attr size:int",
    ),
    "execve": (59, 221, 11, 11, "path:path argv:strings envp:count"),
    "execveat": (322, 281, 358, 387, "dirfd:fd path:path argv:strings envp:count flags:|AT_"),
}
# The namespaces that a call makes, by flag: as /proc/PID/ns calls them (namespaces(7)).
MAKES = {one.flag: one.kind for one in sorted(NAMESPACES, key=lambda one: one.kind)}
FAMILY = frozenset(("clone", "fork", "vfork", "clone3"))
ENTERING = frozenset(("unshare", "setns"))
EXEC = frozenset(("execve", "execveat"))


def _numbered() -> dict[tuple[int, int], str]:
    found = {}
    for arch, (_, column) in ARCHITECTURES.items():
        for name, row in CALLS.items():
            number = row[column]
            if isinstance(number, int):
                found[arch, number] = name
                if arch == X86_64:
                    found[arch, X32 | X32_OWN.get(name, number)] = name
    return found


NUMBERED = _numbered()  # (architecture, number) -> name, of all that is traced


# What programs ask for and minibox does not: include/uapi/linux/mount.h, fcntl.h; sys/mount.h.
MORE = {
    "MS_SYNCHRONOUS": 0x10, "MS_MANDLOCK": 0x40, "MS_DIRSYNC": 0x80, "MS_NOSYMFOLLOW": 0x100,
    "MS_NOATIME": 0x400, "MS_NODIRATIME": 0x800, "MS_MOVE": 0x2000, "MS_SILENT": 0x8000,
    "MS_POSIXACL": 1 << 16, "MS_UNBINDABLE": 1 << 17, "MS_SLAVE": 1 << 19, "MS_SHARED": 1 << 20,
    "MS_RELATIME": 1 << 21, "MS_I_VERSION": 1 << 23, "MS_STRICTATIME": 1 << 24,
    "MS_LAZYTIME": 1 << 25,
    "MNT_FORCE": 1, "MNT_EXPIRE": 4, "MNT_UMOUNT_NOFOLLOW": 8,
    "OPEN_TREE_AT_SYMLINK_NOFOLLOW": 0x100, "OPEN_TREE_AT_NO_AUTOMOUNT": 0x800,
    "MOVE_MOUNT_F_SYMLINKS": 1, "MOVE_MOUNT_F_AUTOMOUNTS": 2, "MOVE_MOUNT_T_SYMLINKS": 0x10,
    "MOVE_MOUNT_T_AUTOMOUNTS": 0x20, "MOVE_MOUNT_SET_GROUP": 0x100, "MOVE_MOUNT_BENEATH": 0x200,
    "FSCONFIG_SET_BINARY": 2, "FSCONFIG_SET_PATH": 3, "FSCONFIG_SET_PATH_EMPTY": 4,
    "FSCONFIG_SET_FD": 5, "FSCONFIG_CMD_RECONFIGURE": 7, "FSCONFIG_CMD_CREATE_EXCL": 8,
    "FSPICK_CLOEXEC": 1, "FSPICK_SYMLINK_NOFOLLOW": 2, "FSPICK_NO_AUTOMOUNT": 4,
    "FSPICK_EMPTY_PATH": 8,
    "MOUNT_ATTR_NOATIME": 0x10, "MOUNT_ATTR_STRICTATIME": 0x20, "MOUNT_ATTR_NODIRATIME": 0x80,
    "MOUNT_ATTR_NOSYMFOLLOW": 0x200000,
    "AT_SYMLINK_NOFOLLOW": 0x100, "AT_NO_AUTOMOUNT": 0x800,
}  # fmt: skip
NAMES = {**vars(sc), **MORE}


def flags(bits: int, prefix: str) -> list[str]:
    """The names of the bits, what has none in hexadecimal."""
    return describe.flags(bits, prefix, NAMES).split("|") if bits else []


def one_of(value: int, prefix: str) -> str:
    """The name of a value: FSCONFIG_SET_STRING."""
    names = (name for name, known in NAMES.items() if name.startswith(prefix) and known == value)
    return next(names, str(value))


def made(bits: int) -> set[str]:
    """The kinds of namespaces that a call with these flags makes."""
    return {kind for flag, kind in MAKES.items() if bits & flag}
