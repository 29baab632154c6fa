# SPDX-License-Identifier: Apache-2.0
"""From what was asked for, in words, to a Spec: the one place where both doors come together."""

from __future__ import annotations

import os

from minibox import forms
from minibox.errors import SpecError
from minibox.resources import idmap
from minibox.spec import (
    DEFAULT_MOUNTS,
    DEFAULT_NAMESPACES,
    Bind,
    Dev,
    Root,
    Spec,
    TimeOffsets,
    User,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TypedDict

    from minibox.host import Host
    from minibox.spec import Join, Mount

    Text = str | bytes | os.PathLike[str]

    class Options(TypedDict, total=False):
        """What a container can be asked for; the command line's options have the same names.

        volumes, tmpfs, join, env: the texts of --volume, --tmpfs, --join, --env (env may be a
        mapping). share: kinds of namespaces to leave out. net: "none" or "host". userns: "auto"
        or "host". boottime, monotonic: seconds; either makes a time namespace, as time does.
        """

        overlay: bool
        size: str
        read_only: bool
        volumes: Sequence[str]
        tmpfs: Sequence[str]
        shm_size: str
        share: Sequence[str]
        join: Sequence[str]
        net: str
        userns: str
        hostname: str
        domainname: str
        workdir: str
        env: Sequence[str] | Mapping[str, str]
        env_file: Sequence[str]
        user: str
        init: bool
        time: bool
        boottime: str
        monotonic: str


PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENV_FILE_LIMIT = 1 << 20
ROOT_USER = User()
NO_OFFSETS = TimeOffsets()


def build(
    args: Iterable[Text],
    rootfs: Text,
    options: Options,
    host: Host,
    redirected: tuple[int, ...] = (),
) -> Spec:
    """The Spec of a request. SpecError; the root file system and the volumes are looked at."""
    namespaces, joined = _namespaces(options)
    joins_mnt = any(join.kind == "mnt" for join in joined)
    root = None if joins_mnt else _root(rootfs, options)
    user, home = _user(options.get("user", ""), root)
    makes_user = "user" in namespaces
    uids, gids = idmap.choose(host) if makes_user else ((), ())
    return Spec(
        args=tuple(os.fsencode(arg) for arg in args),
        root=root,
        env=_env(options, home, options.get("hostname") or "minibox"),
        cwd=_workdir(options.get("workdir") or "/"),
        user=user,
        hostname=_hostname(options, "uts" in namespaces),
        domainname=(
            forms.hostname("--domainname", options["domainname"])
            if options.get("domainname")
            else None
        ),
        namespaces=namespaces,
        joined=joined,
        uid_mappings=uids,
        gid_mappings=gids,
        mounts=() if joins_mnt else _mounts(options),
        time_offsets=_time_offsets(options) if "time" in namespaces else NO_OFFSETS,
        redirected=redirected,
        init=bool(options.get("init")),
    )


def _namespaces(options: Options) -> tuple[tuple[str, ...], tuple[Join, ...]]:
    joined = tuple(forms.join(text) for text in options.get("join") or ())
    shared = {kind for text in options.get("share") or () for kind in forms.kinds("--share", text)}
    net, userns = options.get("net") or "none", options.get("userns") or "auto"
    if net not in ("none", "host"):
        raise SpecError("--net", f"{net!r} is none of none, host")
    if userns not in ("auto", "host"):
        raise SpecError("--userns", f"{userns!r} is none of auto, host")
    if net == "host":
        shared.add("net")
    if userns == "host":
        shared.add("user")
    for join in joined:
        if join.kind in shared:
            raise SpecError("--join", f"{join.kind} cannot be both joined and shared")
    wants_time = any(options.get(word) for word in ("time", "boottime", "monotonic"))
    kinds = [*DEFAULT_NAMESPACES, *(["time"] if wants_time else [])]
    if wants_time and "time" in shared:
        raise SpecError("--share", "time cannot be both shared and new")
    out = shared | {join.kind for join in joined}
    return tuple(kind for kind in kinds if kind not in out), joined


def _root(rootfs: Text, options: Options) -> Root:
    path = os.fsencode(rootfs)
    if not path or b"\0" in path:
        raise SpecError("ROOTFS", "the path is empty or contains a NUL byte")
    try:
        is_directory = _is_directory(path)
    except OSError as error:
        raise SpecError("ROOTFS", f"{os.fsdecode(path)}: {error.strerror}") from None
    if not is_directory:
        raise SpecError("ROOTFS", f"{os.fsdecode(path)}: not a directory")
    overlay = bool(options.get("overlay"))
    size = options.get("size")
    if size and not overlay:
        raise SpecError("--size", "it is the size of the overlay: give --overlay too")
    return Root(
        os.path.abspath(path),
        overlay,
        bool(options.get("read_only")),
        forms.size("--size", size) if size else b"50%",
    )


def _is_directory(path: bytes) -> bool:
    return os.stat(path).st_mode & 0o170000 == 0o040000


def _mounts(options: Options) -> tuple[Mount, ...]:
    """The default ones, then the user's, a parent before what lies in it."""
    given: list[Mount] = [forms.tmpfs(text) for text in options.get("tmpfs") or ()]
    for text in options.get("volumes") or ():
        source, target, attributes, idmapped = forms.volume(text)
        path = os.path.abspath(os.fsencode(source))
        try:
            directory = _is_directory(path)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise SpecError("--volume", f"{source}: {reason}") from None
        given.append(Bind(target, path, directory, attributes, idmapped))
    given.sort(key=lambda mount: mount.target.count(b"/"))
    default = DEFAULT_MOUNTS
    if options.get("shm_size"):
        dev = Dev(shm_size=forms.size("--shm-size", options["shm_size"]))
        default = tuple(dev if isinstance(mount, Dev) else mount for mount in default)
    return (*default, *given)


def _user(text: str, root: Root | None) -> tuple[User, bytes]:
    if not text:
        return ROOT_USER, b"/root"
    if root is None:
        raise SpecError("--user", "names are looked up in ROOTFS, which a joined mnt replaces")
    from minibox.resources import accounts

    return accounts.look_up(root.path, os.fsencode(text))


def _workdir(text: str) -> bytes:
    if not text.startswith("/") or "\0" in text:
        raise SpecError("--workdir", f"{text!r}: the working directory must be absolute")
    return os.fsencode(text)


def _hostname(options: Options, is_new: bool) -> bytes | None:
    if options.get("hostname"):
        return forms.hostname("--hostname", options["hostname"])
    return b"minibox" if is_new else None


def _time_offsets(options: Options) -> TimeOffsets:
    return TimeOffsets(_seconds(options, "monotonic"), _seconds(options, "boottime"))


def _seconds(options: Options, word: str) -> int:
    text: str = options.get(word) or ""  # type: ignore[assignment]
    return forms.integer(f"--{word}", text) if text else 0


def _env(options: Options, home: bytes, hostname: str) -> tuple[bytes, ...]:
    """The defaults, then the files, then the options; nothing of the caller's but by name."""
    found: dict[bytes, bytes | None] = {
        b"PATH": PATH,
        b"HOME": home,
        b"HOSTNAME": os.fsencode(hostname),
        b"container": b"minibox",
    }
    for path in options.get("env_file") or ():
        found |= forms.variables("--env-file", _env_file(path))
    given = options.get("env") or ()
    items = [f"{k}={v}" for k, v in given.items()] if hasattr(given, "items") else list(given)
    found |= forms.variables("--env", items)
    result = []
    for name, value in found.items():
        if value is None:
            value = os.environb.get(name)
        if value is not None:
            result.append(name + b"=" + value)
    return tuple(result)


def _env_file(path: str) -> list[str]:
    """A variable a line; empty lines and those that begin with # say nothing."""
    try:
        with open(path, "rb") as file:
            text = file.read(ENV_FILE_LIMIT + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SpecError("--env-file", f"{path}: {reason}") from None
    if len(text) > ENV_FILE_LIMIT or b"\0" in text:
        raise SpecError("--env-file", f"{path}: larger than 1 MiB, or no text")
    lines = [os.fsdecode(line.rstrip(b"\r")) for line in text.split(b"\n")]
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
