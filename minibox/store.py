# SPDX-License-Identifier: Apache-2.0
"""What is kept of containers on disk: one directory each, names, leases, locks.

ROOT/lock               held while names and leases change
ROOT/names/NAME         a link whose text is the container's id
ROOT/ids/N              a lease of the N-th range of ids, the same
ROOT/events             the journal (events.py)
ROOT/containers/ID/     a container: config.json (what it is), run.json (its latest start),
                        exit-N.json (the end of start N), health.json, stop (its end is asked
                        for), log, attach (the monitor's socket), lock, alive
"""

from __future__ import annotations

import errno
import os

from minibox.directory import SHORT, Damaged, Directory, Lock, is_there, listed, said
from minibox.errors import NoSuchContainer, StateError, one_line
from minibox.resources import ranges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minibox.directory import Data

ID_BYTES = 32


def default_root() -> str:
    """/run/minibox for root, else $XDG_RUNTIME_DIR/minibox (XDG base directory specification)."""
    if os.geteuid() == 0:
        return "/run/minibox"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if not runtime.startswith("/"):
        raise StateError("no place for state: XDG_RUNTIME_DIR is not set\n  hint: --root DIR")
    return f"{runtime}/minibox"


class Store:
    """The containers of one user, or of one --root."""

    def __init__(self, root: str | None = None) -> None:
        self.root = os.path.abspath(root) if root else default_root()
        self._containers = f"{self.root}/containers"

    def prepare(self) -> None:
        """Make the directories. StateError."""
        for path in (self.root, self._containers, f"{self.root}/names", f"{self.root}/ids"):
            try:
                os.makedirs(path, 0o700, exist_ok=True)
            except OSError as error:
                raise said(error, path) from None

    def directory(self, id_: str) -> Directory:
        return Directory(f"{self._containers}/{id_}", id_)

    def lock(self) -> Lock:
        """For names and leases."""
        return Lock(f"{self.root}/lock", self.root)

    def ids(self) -> list[str]:
        """Of all containers, in no order."""
        return [name for name in listed(self._containers) if _is_id(name)]

    def find(self, text: str) -> Directory:
        """By name, id, or the beginning of an id. StateError when there is none, or several."""
        id_ = self._named(text)
        if id_:
            return self.directory(id_)
        if _is_id(text) and is_there(f"{self._containers}/{text}"):
            return self.directory(text)
        found = [id_ for id_ in self.ids() if id_.startswith(text)] if _is_hex(text) else []
        if len(found) > 1:
            raise StateError(f"{one_line(text)}: more than one container's id begins so")
        if not found:
            raise NoSuchContainer(text)
        return self.directory(found[0])

    def _named(self, name: str) -> str | None:
        """The id of the container of that name. A link may be stale: config.json has the truth."""
        if not is_name(name):
            return None
        id_ = read_link(f"{self.root}/names/{name}")
        if not _is_id(id_):
            return None
        try:
            config = self.directory(id_).read("config.json")
        except Damaged:
            return id_
        return id_ if config and config.get("name") == name else None

    def add(self, config: Data, *, lease: bool) -> Directory:
        """Make a container's directory. `lease`: with a range of ids, config["ids"]. StateError
        when the name is taken."""
        self.prepare()
        id_ = config["id"]
        fresh = Directory(f"{self._containers}/.{id_}", id_)
        with self.lock():
            if config["name"] is None:
                config["name"] = self._free_name()
            holder = self._named(config["name"])
            if holder:
                name = config["name"]
                raise StateError(f"the name {name} is taken by container {holder[:SHORT]}")
            if lease:
                config["ids"] = self._lease(id_)
            try:
                self._link(f"{self.root}/names/{config['name']}", id_)
                os.mkdir(fresh.path, 0o700)
                fresh.mark("lock")  # a disk that is full later shall not keep it from being stopped
                fresh.write("config.json", config)
                os.rename(fresh.path, f"{self._containers}/{id_}")
            except OSError as error:
                self.forget(id_, config)
                raise said(error, error.filename2 or error.filename or fresh.path) from None
            except StateError:
                self.forget(id_, config)
                raise
        return self.directory(id_)

    def _free_name(self) -> str:
        from minibox import names

        while self._named(name := names.choose()):
            pass
        return name

    def _link(self, path: str, id_: str) -> None:
        """A link whose text is the id; a stale one makes room. The lock of the store is held."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        os.symlink(id_, path)

    def _lease(self, id_: str) -> int:
        """The lowest range that no container has. The lock of the store is held."""
        count = ranges.number_of() // 2
        start = int(id_[:8], 16) % count
        for k in range(count):
            number = (start + k) % count
            path = f"{self.root}/ids/{number}"
            try:
                os.symlink(id_, path)
                return number
            except FileExistsError:
                owner = os.readlink(path)
                if not is_there(f"{self._containers}/{owner}"):
                    self._link(path, id_)
                    return number
            except OSError as error:
                raise said(error, path) from None
        raise StateError(f"all {count} ranges of ids are in use")

    def rename(self, directory: Directory, config: Data, name: str) -> None:
        """Give a container another name. The order lets no crash lose the old one before the new
        one counts."""
        with self.lock():
            holder = self._named(name)
            if holder and holder != directory.id:
                raise StateError(f"the name {name} is taken by container {holder[:SHORT]}")
            old, link = config["name"], f"{self.root}/names/{name}"
            try:
                self._link(link, directory.id)
                directory.write("config.json", {**config, "name": name})
            except OSError as error:
                raise said(error, link) from None
            except StateError:
                self._unlink(link, directory.id)
                raise
            if old != name:
                self._unlink(f"{self.root}/names/{old}", directory.id)

    def _unlink(self, path: str, id_: str) -> None:
        """Take a link away if it is this container's."""
        try:
            if os.readlink(path) == id_:
                os.unlink(path)
        except OSError:
            pass

    def forget(self, id_: str, config: Data) -> None:
        """Take everything of a container away: its directory first becomes invisible, so that a
        crash leaves no half of it. The lock of the store is held."""
        hidden = f"{self._containers}/.{id_}"
        try:
            os.rename(f"{self._containers}/{id_}", hidden)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise said(error, f"{self._containers}/{id_}") from None
        remove_tree(hidden)
        if isinstance(config.get("name"), str):
            self._unlink(f"{self.root}/names/{config['name']}", id_)
        if isinstance(config.get("ids"), int):
            self._unlink(f"{self.root}/ids/{config['ids']}", id_)

    def stale(self) -> Iterator[str]:
        """The paths that commands which were killed have left: hidden directories, links to
        containers that are not there. The lock of the store is held."""
        for name in listed(self._containers):
            if name.startswith(".") or not _is_id(name):
                yield f"{self._containers}/{name}"
        for kind in ("names", "ids"):
            for name in listed(f"{self.root}/{kind}"):
                path = f"{self.root}/{kind}/{name}"
                if not self._is_current(kind, name, path):
                    yield path
        for name in listed(self.root):
            if name.startswith("."):
                yield f"{self.root}/{name}"

    def _is_current(self, kind: str, name: str, path: str) -> bool:
        id_ = read_link(path)
        try:
            config = self.directory(id_).read("config.json") if _is_id(id_) else None
        except Damaged:
            return True
        key = "name" if kind == "names" else "ids"
        return config is not None and str(config.get(key)) == name


def read_link(path: str) -> str:
    """The text of a link; "" where there is none. StateError when that cannot be known."""
    try:
        return os.readlink(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EINVAL):
            return ""
        raise said(error, path) from None


def remove_tree(path: str) -> None:
    """Remove a directory of ours, and what somebody may have put there. StateError; what is gone
    is well."""
    try:
        if not os.path.isdir(path) or os.path.islink(path):
            os.unlink(path)
            return
        for name in os.listdir(path):
            remove_tree(f"{path}/{name}")
        os.rmdir(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise said(error, path) from None


def _is_hex(text: str) -> bool:
    return bool(text) and not text.strip("0123456789abcdef")


def _is_id(text: str) -> bool:
    return len(text) == 2 * ID_BYTES and _is_hex(text)


def is_name(text: str) -> bool:
    """docker's rule: a letter or digit, then letters, digits, _ . -; at most 128."""
    rest = text.replace("_", "").replace(".", "").replace("-", "")
    is_plain = text.isascii() and (not rest or rest.isalnum())
    return 0 < len(text) <= 128 and is_plain and text[0].isalnum()


def new_id() -> str:
    return os.urandom(ID_BYTES).hex()
