# SPDX-License-Identifier: Apache-2.0
"""minibox cp"""

from __future__ import annotations

import os

from minibox import copying
from minibox.cli import containers
from minibox.copying import Place
from minibox.errors import SpecError, StateError
from minibox.resident import Resident, has_ended

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.containers import Values


def execute(values: Values) -> int:
    (source, source_path), (target, target_path) = (split(word) for word in values["args"])
    if bool(source) == bool(target):
        raise SpecError("cp", "one of SOURCE and TARGET is CONTAINER:PATH, the other one is not")
    name = source or target
    assert name is not None
    follow, archive = bool(values.get("follow_link")), bool(values.get("archive"))
    with Opened(containers.find(name)) as place:
        if source:
            here = None if target_path == "-" else target_path
            copying.copy_out(
                place, os.fsencode(source_path), here, follow_link=follow, archive=archive
            )
        else:
            here = None if source_path == "-" else source_path
            copying.copy_in(
                here, place, os.fsencode(target_path), follow_link=follow, archive=archive
            )
    return 0


def split(word: str) -> tuple[str | None, str]:
    """`web:/etc` names a container, as docker sees it: nothing before the colon is a path."""
    name, colon, path = word.partition(":")
    if not colon or not name or name.startswith((".", "/")):
        return None, word
    return name, path or "/"


class Opened:
    """The root and user namespace of a container, held by fds while the copy lasts."""

    def __init__(self, container: Resident) -> None:
        self.container = container
        self._fds: list[int] = []

    def __enter__(self) -> Place:
        state = self.container.state()
        if not state.is_running:
            return self._stopped()
        pidfd = self.container.open_pidfd(state)
        self._fds.append(pidfd)
        proc = f"/proc/{state.pid}"
        try:
            root = os.open(f"{proc}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self._fds.append(root)
            userns = os.open(f"{proc}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            self._fds.append(userns)
        except OSError as error:
            raise StateError(f"container {self.container.name}: {error.strerror}") from None
        if has_ended(pidfd, 0):
            raise StateError(f"container {self.container.name} is not running")
        own = os.readlink("/proc/self/ns/user") != os.readlink(f"/proc/self/fd/{userns}")
        return Place(_path(root), _path(userns) if own else None)

    def _stopped(self) -> Place:
        config = self.container.config
        if config["options"].get("overlay"):
            reason = "does not run: its root was in memory and went with it"
            raise StateError(f"container {self.container.name} {reason}")
        return Place(os.fsencode(config["rootfs"]), None)

    def __exit__(self, *_: object) -> None:
        for fd in self._fds:
            os.close(fd)


def _path(fd: int) -> bytes:
    return b"/proc/self/fd/%d" % fd
