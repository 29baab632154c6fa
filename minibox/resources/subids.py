# SPDX-License-Identifier: Apache-2.0
"""Subordinate ids: what /etc/subuid and /etc/subgid hand out, and the programs that map them.

Sources: subuid(5), newuidmap(1).
"""

from __future__ import annotations

import os

from minibox.errors import SetupError, Unsupported
from minibox.resources import ranges

MOST_IDS = 0xFFFFFFFF  # -1 is nobody's
MOST_LINES = 340  # of a map (user_namespaces(7))
LACK = "ids for ordinary users"  # minibox doctor
PLACES = ("/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin")


def parse(text: bytes, names: tuple[bytes, ...]) -> ranges.Rows:
    """The (first id, count) of the rows whose owner is one of `names`; a row that is none says
    nothing. Of rows that overlap the first one counts."""
    found: ranges.Rows = []
    for row in text.split(b"\n"):
        fields = row.split(b":")
        if len(fields) != 3 or fields[0] not in names:
            continue
        first, count = _number(fields[1]), _number(fields[2])
        if first is None or not count or first + count > MOST_IDS:
            continue
        if not any(a < first + count and first < a + n for a, n in found):
            found.append((first, count))
        if len(found) == MOST_LINES - 3:
            break
    return found


def _number(text: bytes) -> int | None:
    return int(text) if text.isdigit() and len(text) <= 10 else None


def given_to(*names: str) -> tuple[ranges.Rows, ranges.Rows]:
    """The uids and the gids that the rows of these owners give; empty where there are none.
    SetupError for a file that is there and cannot be read."""
    wanted = tuple(os.fsencode(name) for name in names)
    uids, gids = (parse(ranges.text(path), wanted) for path in ranges.FILES)
    return uids, gids


def own() -> tuple[ranges.Rows, ranges.Rows]:
    """Those of the caller, by name and by number; empty where nothing is there to map them."""
    if not program("newuidmap") or not program("newgidmap"):
        return [], []
    return given_to(*own_names())


def own_names() -> list[str]:
    """How the files may call the caller: by name and by number."""
    import pwd

    uid = os.getuid()
    try:
        return [pwd.getpwuid(uid).pw_name, str(uid)]
    except KeyError:
        return [str(uid)]


def program(name: str) -> str | None:
    """Where a program that runs with other rights is: by no PATH, which might be anybody's."""
    paths = [f"{place}/{name}" for place in PLACES]
    return next((path for path in paths if os.access(path, os.X_OK)), None)


def write(pid: int, uid_map: bytes, gid_map: bytes) -> None:
    """Have newuidmap and newgidmap write the maps of a process. SetupError, Unsupported."""
    for name, text in (("newgidmap", gid_map), ("newuidmap", uid_map)):
        path = program(name)
        if path is None:
            raise Unsupported(f"{name} is not there to map more ids than the caller's own", LACK)
        code, said = _run([path, str(pid), *os.fsdecode(text).split()])
        with open(f"/proc/{pid}/{name[3:6]}_map", "rb") as file:
            is_written = file.read().split() == text.split()
        if not is_written:
            reason = said or f"{name} ended with {code}"
            raise SetupError(1, f"map the ids {os.fsdecode(text.strip())}", reason=reason)


def _run(words: list[str]) -> tuple[int, str]:
    """Its exit code, and the last line that it says. Where SIGCHLD is ignored, 0: what it has done
    is looked at anyway."""
    read, write_ = os.pipe2(os.O_CLOEXEC)
    try:
        quiet = [(os.POSIX_SPAWN_DUP2, write_, 1), (os.POSIX_SPAWN_DUP2, write_, 2)]
        pid = os.posix_spawn(words[0], words, {}, file_actions=quiet, setsigmask=())
        os.close(write_)
        write_ = -1
        said = b""
        while piece := os.read(read, 4096):
            said = (said + piece)[-4096:]
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except ChildProcessError:
            code = 0
    finally:
        for fd in (read, write_):
            if fd >= 0:
                os.close(fd)
    lines = said.decode(errors="replace").strip().splitlines()
    return code, lines[-1] if lines else ""
