# SPDX-License-Identifier: Apache-2.0
"""From what was asked for, in words, to a Spec: the one place where both doors come together."""

from __future__ import annotations

import os
import stat

from minibox import forms, restrictions
from minibox.errors import SpecError
from minibox.network import modes
from minibox.resources import idmap
from minibox.spec import (
    DEFAULT_CAPABILITIES,
    DEFAULT_MOUNTS,
    DEFAULT_NAMESPACES,
    Bind,
    Cgroup,
    Dev,
    Interface,
    Mount,
    Record,
    Root,
    Spec,
    TimeOffsets,
    User,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TypedDict

    from minibox.forms import Userns
    from minibox.host import Host
    from minibox.spec import Join

    Text = str | bytes | os.PathLike[str]

    class Options(TypedDict, total=False):
        """What a container can be asked for; the command line's options have the same names.

        volumes, tmpfs, join, env: the texts of --volume, --tmpfs, --join, --env (env may be a
        mapping). share: kinds of namespaces to leave out. net: "none", "host", "user", "bridge",
        "ns:PATH", "container:NAME" or the name of a network; several networks in a list. publish,
        dns, add_host, network_alias, route, sysctl, security_opt: the texts of --publish and so on.
        userns: "auto", "host", "keep-id" or "UID:GID:SIZE". boottime, monotonic: seconds; either
        makes a time namespace, as time does.
        """

        overlay: bool
        size: str
        read_only: bool
        volumes: Sequence[str]
        tmpfs: Sequence[str]
        shm_size: str
        share: Sequence[str]
        join: Sequence[str]
        net: str | Sequence[str]
        publish: Sequence[str]
        dns: Sequence[str]
        add_host: Sequence[str]
        network_alias: Sequence[str]
        ip: str
        latency: str
        loss: str
        rate: str
        route: Sequence[str]
        sysctl: Sequence[str]
        userns: str
        hostname: str
        domainname: str
        workdir: str
        env: Sequence[str] | Mapping[str, str]
        env_file: Sequence[str]
        user: str
        cap_add: Sequence[str]
        cap_drop: Sequence[str]
        landlock: Sequence[str]
        ulimit: Sequence[str]
        oom_score_adj: str
        security_opt: Sequence[str]
        init: bool
        time: bool
        boottime: str
        monotonic: str
        # Limits: sizes, numbers and lists as texts (limits.py); a number may be one.
        memory: str | int
        memory_swap: str | int
        memory_reservation: str | int
        cpus: str | float
        cpu_shares: str | int
        cpuset: str
        cpuset_mems: str
        pids: str | int
        io_weight: str | int
        io_rbps: Sequence[str]
        io_wbps: Sequence[str]
        io_riops: Sequence[str]
        io_wiops: Sequence[str]
        cgroup_parent: str
        cgroup_manager: str


LIMITS = (
    *("memory", "memory_swap", "memory_reservation", "cpus", "cpu_shares", "cpuset"),
    *("cpuset_mems", "pids", "io_weight", "io_rbps", "io_wbps", "io_riops", "io_wiops"),
    *("cgroup_parent", "cgroup_manager"),
)
OPTIONS = frozenset(
    (
        *("overlay", "size", "read_only", "volumes", "tmpfs", "shm_size", "share", "join", "net"),
        *("publish", "dns", "add_host", "network_alias", "ip", "latency", "loss", "rate"),
        *("route", "sysctl", "userns", "hostname", "domainname", "workdir", "env", "env_file"),
        *("user", "cap_add", "cap_drop", "landlock", "ulimit", "oom_score_adj", "security_opt"),
        *("init", "time", "boottime", "monotonic"),
        *LIMITS,
    )
)
PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENV_FILE_LIMIT = 1 << 20
ROOT_USER = User()
NO_OFFSETS = TimeOffsets()


class Wired(Record):
    """What a network brings into a container (network/wiring.py)."""

    interfaces: tuple[Interface, ...] = ()
    mounts: tuple[Mount, ...] = ()
    routes: tuple[tuple[bytes, bytes], ...] = ()
    uplink: bool = False


UNWIRED = Wired()


def build(
    args: Iterable[Text],
    rootfs: Text,
    options: Options,
    host: Host,
    redirected: tuple[int, ...] = (),
    wired: Wired = UNWIRED,
) -> Spec:
    """The Spec of a request. SpecError; the root file system and the volumes are looked at.
    wired: what a network brings with it."""
    namespaces, joined = _namespaces(options)
    modes.check(options)
    has_root = _has_root(joined, options)
    root = _root(rootfs, options, host) if has_root else None
    userns = forms.userns(_given(options, "userns", "auto"))
    user, home = _user(_wanted_user(options, userns), root)
    uids, gids = idmap.choose(userns, host) if "user" in namespaces else ((), ())
    capabilities = _capabilities(options)
    hostname = _name(options, "hostname") or (b"minibox" if "uts" in namespaces else None)
    group = _cgroup(options, namespaces, joined)
    spec = Spec(
        args=tuple(os.fsencode(arg) for arg in args),
        root=root,
        env=_env(options, home, hostname or os.fsencode(os.uname().nodename)),
        cwd=_workdir(_given(options, "workdir", "/")),
        user=user,
        capabilities=capabilities,
        hostname=hostname,
        domainname=_name(options, "domainname"),
        namespaces=namespaces,
        joined=joined,
        uid_mappings=uids,
        gid_mappings=gids,
        is_leased=bool(uids) and host.privileged and userns.mode == "auto",
        mounts=(*_mounts(options), *wired.mounts) if has_root else (),
        interfaces=wired.interfaces,
        routes=wired.routes,
        uplink=wired.uplink,
        sysctls=tuple(forms.sysctl(text) for text in options.get("sysctl") or ()),
        **restrictions.build(options, capabilities),
        time_offsets=_time_offsets(options) if "time" in namespaces else NO_OFFSETS,
        redirected=redirected,
        # With an init the command is a child, which every kernel lets into a time namespace.
        init=bool(options.get("init")) or ("time" in namespaces and not host.exec_enters_time),
    )
    if group is None:
        return spec
    from minibox import limits

    return limits.fit(spec, group, host)


def cgroup(options: Options) -> Cgroup | None:
    """What is asked for of the container's cgroup; None when nothing is. SpecError."""
    return _cgroup(options, *_namespaces(modes.unwired(options)))


def _cgroup(options: Options, kinds: tuple[str, ...], joined: tuple[Join, ...]) -> Cgroup | None:
    apart = {*kinds, *[join.kind for join in joined]}  # from the host's
    # The host's root that can make nodes, or lift the nodev of a mount, may open the usual ones.
    kept = () if "user" in apart else _capabilities(options)
    devices = next((f"--cap-add {name}" for name in kept if name in ("MKNOD", "SYS_ADMIN")), "")
    ends = "pid" not in apart  # nothing else would end what is left
    if not devices and not ends and all(options.get(word) is None for word in LIMITS):
        return None
    from minibox import limits

    found = limits.asked(options, os.sysconf("SC_NPROCESSORS_ONLN"))
    return found.replace(devices=devices, ends=ends)


def freeze(rootfs: Text, options: Options) -> tuple[str, Options]:
    """The request as data that means the same in another process: paths are absolute, variables
    have their values. SpecError."""
    given = {k: v for k, v in options.items() if k in OPTIONS and v is not None and v is not False}
    frozen: Options = given  # type: ignore[assignment]
    frozen.pop("env_file", None)
    variables = _variables(options)
    if variables:
        pairs = [(name, value) for name, value in variables.items() if value is not None]
        frozen["env"] = [os.fsdecode(name + b"=" + value) for name, value in pairs]
    if options.get("volumes"):
        frozen["volumes"] = [_frozen_path(text, ":") for text in options["volumes"]]
    if options.get("join"):
        frozen["join"] = [_frozen_join(text) for text in options["join"]]
    if options.get("security_opt"):
        frozen["security_opt"] = restrictions.freeze(options)
    path = os.fsencode(rootfs)
    return os.fsdecode(_absolute(path) if path else path), frozen


def _frozen_path(text: str, end: str) -> str:
    path, separator, rest = text.partition(end)
    return os.fsdecode(_absolute(os.fsencode(path))) + separator + rest if path else text


def _frozen_join(text: str) -> str:
    kind, equals, where = text.partition("=")
    return text if where.isdigit() or not where else kind + equals + _frozen_path(where, "\0")


def namespaces(options: Options) -> tuple[str, ...]:
    """The kinds that a container with these options gets anew. SpecError."""
    is_anothers = modes.nets(options)[0].startswith("container:")
    found = _namespaces(modes.unwired(options))[0]
    return tuple(kind for kind in found if kind != "net" or not is_anothers)


def _given(options: Options, word: str, default: str) -> str:
    """An option's text; only one that is not given at all has the default: "" may be a mistake."""
    text: str | None = options.get(word)  # type: ignore[assignment]
    return default if text is None else text


def _has_root(joined: tuple[Join, ...], options: Options) -> bool:
    """Does the container get a root file system? A mnt namespace that it joins brings its own."""
    if not any(join.kind == "mnt" for join in joined):
        return True
    for word in ("overlay", "read_only", "size", "volumes", "tmpfs", "shm_size", "dns", "add_host"):
        if options.get(word):
            option = "--" + word.replace("_", "-").replace("volumes", "volume")
            raise SpecError(option, "nothing is mounted in a mnt namespace that is joined")
    return False


def _capabilities(options: Options) -> tuple[str, ...]:
    add, drop = list(options.get("cap_add") or ()), list(options.get("cap_drop") or ())
    return forms.capabilities(add, drop) if add or drop else DEFAULT_CAPABILITIES


def _absolute(path: bytes) -> bytes:
    """Against the working directory, but not normalised: `link/..` means what the kernel says."""
    try:
        return path if path.startswith(b"/") else os.getcwdb() + b"/" + path.removeprefix(b"./")
    except FileNotFoundError:
        name = os.fsdecode(path)
        raise SpecError(name, "the working directory, against which it counts, is gone") from None


def _namespaces(options: Options) -> tuple[tuple[str, ...], tuple[Join, ...]]:
    joined = tuple(forms.join(text) for text in options.get("join") or ())
    shared = {kind for text in options.get("share") or () for kind in forms.kinds("--share", text)}
    asked = modes.nets(options)
    if asked == ("host",):
        shared.add("net")
    if asked[0].startswith("container:"):
        raise SpecError("--net", f"{asked[0]!r} is not known here")
    if asked[0].startswith("ns:"):
        joined += (forms.join("net=" + asked[0].removeprefix("ns:")),)
    if forms.userns(_given(options, "userns", "auto")).mode == "host":
        shared.add("user")
    for join in joined:
        if join.kind in shared:
            raise SpecError("--join", f"{join.kind} cannot be both joined and shared")
    offsets = [options.get("boottime"), options.get("monotonic")]
    wants_time = bool(options.get("time")) or offsets != [None, None]
    kinds = [*DEFAULT_NAMESPACES, *(["time"] if wants_time else [])]
    if wants_time and "time" in shared:
        raise SpecError("--share", "time cannot be both shared and new")
    out = shared | {join.kind for join in joined}
    return tuple(kind for kind in kinds if kind not in out), joined


def _root(rootfs: Text, options: Options, host: Host) -> Root:
    path = os.fsencode(rootfs)
    if not path:
        raise SpecError("ROOTFS", "the path is empty")
    found = _look("ROOTFS", path)
    if not stat.S_ISDIR(found.st_mode):
        raise SpecError("ROOTFS", f"{os.fsdecode(path)}: not a directory")
    overlay = bool(options.get("overlay"))
    size = options.get("size")
    if size is not None and not overlay:
        raise SpecError("--size", "it is the size of the overlay: give --overlay too")
    return Root(
        path=_absolute(path),
        overlay=overlay,
        readonly=bool(options.get("read_only")),
        size=b"50%" if size is None else forms.size("--size", size),
        mode=stat.S_IMODE(found.st_mode),
        owner=(found.st_uid, found.st_gid) if host.privileged else (0, 0),
    )


def _look(option: str, path: bytes) -> os.stat_result:
    try:
        return os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SpecError(option, f"{os.fsdecode(path)}: {reason}") from None


def _mounts(options: Options) -> tuple[Mount, ...]:
    """The default ones, then the user's, a parent before what lies in it."""
    given: list[Mount] = [forms.tmpfs(text) for text in options.get("tmpfs") or ()]
    for text in options.get("volumes") or ():
        source, target, attributes, idmapped = forms.volume(text)
        path = os.fsencode(source)
        directory = stat.S_ISDIR(_look("--volume", path).st_mode)
        given.append(Bind(target, _absolute(path), directory, attributes, idmapped))
    given.sort(key=lambda mount: mount.target.count(b"/"))
    default = DEFAULT_MOUNTS
    if options.get("shm_size") is not None:
        dev = Dev(shm_size=forms.size("--shm-size", options["shm_size"]))
        default = tuple(dev if isinstance(mount, Dev) else mount for mount in default)
    return (*default, *given)


def _wanted_user(options: Options, userns: Userns) -> str | None:
    """With keep-id the command is who the caller is."""
    if options.get("user") is None and userns.mode == "keep-id":
        return f"{os.geteuid()}:{os.getegid()}"
    return options.get("user")


def _user(text: str | None, root: Root | None) -> tuple[User, bytes]:
    if text is None:
        return ROOT_USER, b"/root"
    if root is None:
        raise SpecError("--user", "names are looked up in ROOTFS, which a joined mnt replaces")
    from minibox.resources import accounts

    return accounts.look_up(root.path, os.fsencode(text))


def _workdir(text: str) -> bytes:
    if not text.startswith("/") or "\0" in text:
        raise SpecError("--workdir", f"{text!r}: the working directory must be absolute")
    return os.fsencode(text)


def _name(options: Options, word: str) -> bytes | None:
    text: str | None = options.get(word)  # type: ignore[assignment]
    return None if text is None else forms.hostname(f"--{word}", text)


def _time_offsets(options: Options) -> TimeOffsets:
    return TimeOffsets(_seconds(options, "monotonic"), _seconds(options, "boottime"))


def _seconds(options: Options, word: str) -> int:
    return forms.seconds(f"--{word}", _given(options, word, "0"))


def _env(options: Options, home: bytes, hostname: bytes) -> tuple[bytes, ...]:
    """The defaults, then the files, then the options; nothing of the caller's but by name."""
    found: dict[bytes, bytes | None] = {
        b"PATH": PATH,
        b"HOME": home,
        b"HOSTNAME": hostname,
        b"container": b"minibox",
        **_variables(options),
    }
    return tuple(name + b"=" + value for name, value in found.items() if value is not None)


def _variables(options: Options) -> dict[bytes, bytes | None]:
    """What is asked for; a name without a value has the caller's, None if there is none."""
    found: dict[bytes, bytes | None] = {}
    for path in options.get("env_file") or ():
        found |= forms.variables("--env-file", env_file(path))
    given = options.get("env") or ()
    items = [f"{k}={v}" for k, v in given.items()] if hasattr(given, "items") else list(given)
    found |= forms.variables("--env", items)
    return {name: os.environb.get(name) if v is None else v for name, v in found.items()}


def env_file(path: str) -> list[str]:
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
