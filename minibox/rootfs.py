# SPDX-License-Identifier: Apache-2.0
"""The recipe of the bundled root file system: `minibox rootfs build DIR`.

The text files come with minibox (rootfs/etc), the programs from the distribution's static
busybox; where there is none, from the host's own shell and coreutils with the libraries they need.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

from minibox import elf
from minibox.errors import SpecError, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORIES = {
    "bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "home/user": 0o755, "lib": 0o755,
    "mnt": 0o755, "opt": 0o755, "proc": 0o555, "root": 0o700, "run": 0o755, "sbin": 0o755,
    "srv": 0o755, "sys": 0o555, "tmp": 0o1777, "usr": 0o755, "usr/bin": 0o755, "usr/sbin": 0o755,
    "var": 0o755, "var/log": 0o755, "var/tmp": 0o1777,
}  # fmt: skip
USER_DIRECTORIES = {"home/user": 1000}
COREUTILS = (
    "sh", "ls", "cat", "echo", "true", "false", "id", "env", "pwd", "mkdir", "rm", "cp", "mv",
    "ln", "chmod", "stat", "head", "tail", "wc", "sort", "sleep", "date", "uname", "mount", "ps",
    "hostname", "grep", "sed", "readlink", "touch", "dd", "tty", "stty", "kill", "test",
)  # fmt: skip
BUSYBOX = ("/bin/busybox", "/usr/bin/busybox", "/bin/busybox-static")


def build(directory: str, *, from_host: bool = False) -> Iterator[str]:
    """Make the tree in `directory`, which may exist; yields what it does, a line each.

    Files that are there already stay, but for the programs. SpecError, Unsupported, OSError.
    """
    root = Path(directory)
    if root.exists() and not root.is_dir():
        raise SpecError("DIRECTORY", f"{directory}: not a directory")
    for name, mode in DIRECTORIES.items():
        _make_directory(root / name, mode, USER_DIRECTORIES.get(name, 0))
    yield f"{directory}: {len(DIRECTORIES)} directories"
    yield f"{directory}: {_copy_text(root / 'etc')} text files"
    busybox = None if from_host else static_busybox()
    if busybox:
        count = _install_busybox(busybox, root)
        yield f"{directory}: {count} commands of {busybox}"
    else:
        count, libraries = _install_from_host(root)
        yield f"{directory}: {count} commands of this host, with {libraries} libraries"


def static_busybox() -> str | None:
    """The path of a busybox that needs no library, or None."""
    found = shutil.which("busybox")
    for path in (*BUSYBOX, *([found] if found else [])):
        try:
            with open(path, "rb") as file:
                head = file.read(4096)
        except OSError:
            continue
        if elf.is_elf(head) and not elf.loader(head):
            return path
    return None


def _make_directory(path: Path, mode: int, owner: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    if os.geteuid() != 0:
        return
    try:
        os.chown(path, owner, owner)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # root of a user namespace that has no such id: it stays root's


def _copy_text(etc: Path) -> int:
    here = Path(__file__).parent
    source = next(
        path
        for path in (here / "skeleton" / "etc", here.parent / "rootfs" / "etc")
        if path.is_dir()
    )
    count = 0
    for file in sorted(source.iterdir()):
        target = etc / file.name
        if not target.exists():
            shutil.copyfile(file, target)
            target.chmod(0o644)
        count += 1
    return count


def _replace(source: str, target: Path) -> None:
    """Copy a program; never write through a link that lies in the way, nor into a running file."""
    temporary = target.with_name(target.name + ".new")
    temporary.unlink(missing_ok=True)
    shutil.copyfile(source, temporary)
    temporary.chmod(0o755)
    temporary.replace(target)


def _install_busybox(busybox: str, root: Path) -> int:
    _replace(busybox, root / "bin/busybox")
    listed = subprocess.run([busybox, "--list-full"], capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.split() if name != "bin/busybox"]
    for name in names:
        link = root / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink() and not link.exists():
            link.symlink_to(os.path.relpath(root / "bin/busybox", link.parent))
    return len(names)


def _install_from_host(root: Path) -> tuple[int, int]:
    programs = [path for path in map(shutil.which, COREUTILS) if path]
    if not any(path.endswith("/sh") for path in programs):
        raise Unsupported("no static busybox and no sh: install busybox-static")
    libraries: set[str] = set()
    for program in programs:
        _replace(os.path.realpath(program), root / "bin" / os.path.basename(program))
        libraries |= _libraries(program)
    for library in libraries:
        target = root / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(os.path.realpath(library), target)
    return len(programs), len(libraries)


def _libraries(program: str) -> set[str]:
    """The loader and the libraries, as ldd(1) lists them: `name => /path (address)`."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    words = [word for line in listed.stdout.splitlines() for word in line.split()]
    return {word for word in words if word.startswith("/") and os.path.exists(word)}
