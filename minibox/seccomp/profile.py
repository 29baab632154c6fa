# SPDX-License-Identifier: Apache-2.0
"""A profile's JSON -> Profile: OCI's linux.seccomp, and what docker and podman write beyond it.

OCI: runtime-spec, config-linux.md, "Seccomp". docker: archMap, and rules that hold for some
capabilities, architectures or kernels (includes, excludes). podman: errno names. Pure.

The rules go to libseccomp in the profile's order, as with other runtimes. A rule that says what the
default says is left out: libseccomp takes none.
"""

from __future__ import annotations

from minibox.errors import SpecError, Unsupported
from minibox.seccomp import rules as p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Data = dict[str, Any]

LIMIT = 1 << 20
MAX_ERRNO = 4094  # libseccomp's; the kernel's is one more
MOST_CONDITIONS = 1024  # libseccomp takes a second for so many, and 20 for twice as many
MOST_ARGUMENT = (1 << 64) - 1
ACTIONS = {
    "SCMP_ACT_KILL_PROCESS": p.KILL_PROCESS,
    "SCMP_ACT_KILL_THREAD": p.KILL_THREAD,
    "SCMP_ACT_KILL": p.KILL_THREAD,
    "SCMP_ACT_TRAP": p.TRAP,
    "SCMP_ACT_ERRNO": p.ERRNO,
    "SCMP_ACT_TRACE": p.TRACE,
    "SCMP_ACT_LOG": p.LOG,
    "SCMP_ACT_ALLOW": p.ALLOW,
}
WITH_NUMBER = (p.ERRNO, p.TRACE)
# TSYNC is about other threads, and a container's first process has none yet.
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
}
OPERATORS = {f"SCMP_CMP_{op}": op for op in ("EQ", "NE", "LT", "LE", "GE", "GT", "MASKED_EQ")}
# OCI's names of what may run here, by ours; and all others, which are of other machines.
ARCHES = {
    "SCMP_ARCH_X86_64": "x86_64",
    "SCMP_ARCH_X86": "i386",
    "SCMP_ARCH_AARCH64": "arm64",
    "SCMP_ARCH_ARM": "arm",
}
OTHER_ARCHES = frozenset(
    f"SCMP_ARCH_{name}"
    for name in (
        *("NATIVE", "X32", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32"),
        *("PPC", "PPC64", "PPC64LE", "S390", "S390X", "PARISC", "PARISC64", "RISCV64"),
        *("LOONGARCH64", "M68K", "SH", "SHEB"),
    )
)
# Go's names, which includes and excludes have.
GO_ARCHES = {"x86_64": "amd64", "arm64": "arm64"}


def read(
    text: str, capabilities: tuple[str, ...], abis: tuple[str, ...], release: str
) -> p.Profile:
    """The profile for a container that keeps `capabilities`, on a machine whose calls are those of
    `abis` (of rules.MACHINES), with the kernel `release`. SpecError, Unsupported."""
    data = _load(text)
    _known(data, "seccomp", TOP)
    default = _action(data, "seccomp", "defaultAction", ("defaultErrnoRet", "defaultErrno"))
    if "listenerPath" in data or "listenerMetadata" in data:
        raise Unsupported("seccomp: listenerPath: nobody listens to notifications here")
    context = _Context({f"CAP_{name}" for name in capabilities}, GO_ARCHES[abis[0]], release)
    found: dict[str, list[p.Rule]] = {}
    for k, entry in enumerate(_list(data, "seccomp", "syscalls")):
        _add(found, entry, f"seccomp.syscalls[{k}]", context, default)
    calls = {name: tuple(dict.fromkeys(rules)) for name, rules in found.items()}
    for name, rules in calls.items():
        _nothing_is_lost(name, rules)
    return p.Profile(default, calls, _abis(data, abis), flags=_flags(data))


# Plain data: its shape is checked before its sense.

TOP = frozenset(
    [
        *("defaultAction", "defaultErrnoRet", "defaultErrno", "architectures", "archMap", "flags"),
        *("listenerPath", "listenerMetadata", "syscalls", "comment"),
    ]
)
CALL = frozenset(
    [
        *("name", "names", "action", "errnoRet", "errno", "args", "comment", "includes"),
        "excludes",
    ]
)


def _load(text: str) -> Data:
    import json

    if len(text) > LIMIT:
        raise SpecError("seccomp", "the profile is larger than 1 MiB")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise SpecError("seccomp", f"the profile is no JSON: {reason}") from None
    return _object(data, "seccomp")


def _object(data: object, path: str) -> Data:
    """null says nothing, as in Go. SpecError."""
    if not isinstance(data, dict):
        raise SpecError(path, "an object is needed")
    return {name: value for name, value in data.items() if value is not None}


def _known(data: Data, path: str, names: frozenset[str]) -> None:
    for name in data.keys() - names:
        raise SpecError(path, f"{name!r} is not known")


def _list(data: Data, path: str, name: str) -> list[object]:
    found = data.get(name, [])
    if not isinstance(found, list):
        raise SpecError(f"{path}.{name}", "a list is needed")
    return found


def _texts(data: Data, path: str, name: str) -> list[str]:
    found = [text for text in _list(data, path, name) if isinstance(text, str)]
    if len(found) != len(_list(data, path, name)):
        raise SpecError(f"{path}.{name}", "a list of texts is needed")
    return found


def _text(data: Data, path: str, name: str) -> str:
    found = data.get(name)
    if not isinstance(found, str):
        raise SpecError(f"{path}.{name}", "a text is needed")
    return found


def _number(data: Data, path: str, name: str, most: int, default: int | None = None) -> int:
    found = data.get(name, default)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= most:
        raise SpecError(f"{path}.{name}", f"a number from 0 to {most} is needed")
    return found


# What it means.


class _Context:
    """What includes and excludes ask for, and what counts for all rules together. architecture:
    Go's name."""

    def __init__(self, capabilities: set[str], architecture: str, release: str) -> None:
        self.capabilities = capabilities
        self.architecture = architecture
        self.release = release
        self.count = 0


def _action(data: Data, path: str, name: str, errnos: tuple[str, str]) -> int:
    """SECCOMP_RET_* with its number: `errnos` are the fields for that, as a number and by name."""
    word = _text(data, path, name)
    if word == "SCMP_ACT_NOTIFY":
        raise Unsupported(f"{path}.{name}: SCMP_ACT_NOTIFY: nobody listens to notifications here")
    if word not in ACTIONS:
        raise SpecError(f"{path}.{name}", f"{word!r} is none of {', '.join(ACTIONS)}")
    action = ACTIONS[word]
    number, called = (data.get(field) for field in errnos)
    if action not in WITH_NUMBER:
        if number or called:
            raise SpecError(f"{path}.{errnos[0]}", f"{word} returns no errno")
        return action
    if number is None and called:
        return action | _errno(_text(data, path, errnos[1]), f"{path}.{errnos[1]}")
    return action | _number(data, path, errnos[0], MAX_ERRNO, 1)


def _errno(name: str, path: str) -> int:
    """podman writes ENOSYS, or the number once more."""
    import errno

    if name.isascii() and name.isdigit() and len(name) < 5 and int(name) <= MAX_ERRNO:
        return int(name)
    for number, known in errno.errorcode.items():
        if known == name:
            return number
    raise SpecError(path, f"{name!r} is no errno")


def _add(
    found: dict[str, list[p.Rule]], entry: object, path: str, context: _Context, default: int
) -> None:
    data = _object(entry, path)
    _known(data, path, CALL)
    names = _texts(data, path, "names")
    if "name" in data and data["name"] != "":
        if names:
            raise SpecError(path, "it has both name and names")
        names = [_text(data, path, "name")]
    action = _action(data, path, "action", ("errnoRet", "errno"))
    conditions = [
        _condition(item, f"{path}.args[{k}]") for k, item in enumerate(_list(data, path, "args"))
    ]
    if not _applies(data, path, context):
        return
    given = [] if action == default else _rules(action, conditions)
    context.count += len(names) * len(conditions) if given else 0
    if context.count > MOST_CONDITIONS:
        raise SpecError(path, f"more than {MOST_CONDITIONS} questions about arguments")
    for name in names:
        found.setdefault(name, []).extend(given)


def _rules(action: int, conditions: list[p.Condition]) -> list[p.Rule]:
    """All conditions at once; but each by itself when an argument is asked about twice, as every
    runtime does since libseccomp could not, and as such profiles are meant."""
    if len({condition.index for condition in conditions}) == len(conditions):
        return [p.Rule(action, tuple(conditions))]
    return [p.Rule(action, (condition,)) for condition in conditions]


def _condition(item: object, path: str) -> p.Condition:
    data = _object(item, path)
    _known(data, path, frozenset(["index", "value", "valueTwo", "op"]))
    index = _number(data, path, "index", 5)
    value = _number(data, path, "value", MOST_ARGUMENT, 0)
    second = _number(data, path, "valueTwo", MOST_ARGUMENT, 0)
    word = _text(data, path, "op")
    if word not in OPERATORS:
        raise SpecError(f"{path}.op", f"{word!r} is none of {', '.join(OPERATORS)}")
    if OPERATORS[word] == "MASKED_EQ":
        return p.Condition(index, "EQ", second & value, value)
    return p.Condition(index, OPERATORS[word], value)


def _applies(data: Data, path: str, context: _Context) -> bool:
    """docker's includes (all must hold) and excludes (none may)."""
    includes, excludes = (
        _object(data.get(name, {}), f"{path}.{name}") for name in ("includes", "excludes")
    )
    wanted = _answers(includes, f"{path}.includes", context)
    unwanted = _answers(excludes, f"{path}.excludes", context)
    return all(wanted) and not any(unwanted)


def _answers(data: Data, path: str, context: _Context) -> list[bool]:
    _known(data, path, frozenset(["caps", "arches", "minKernel"]))
    found = [name in context.capabilities for name in _texts(data, path, "caps")]
    arches = _texts(data, path, "arches")
    if arches:
        found.append(context.architecture in arches)
    if data.get("minKernel", "") != "":
        wanted = _version(_text(data, path, "minKernel"), f"{path}.minKernel")
        found.append(_version(".".join(context.release.split(".")[:2]), "uname") >= wanted)
    return found


def _version(text: str, path: str) -> tuple[int, int]:
    """ "4.8"; of a release such as "6.1-rc5" the number counts."""
    first, _, second = text.partition(".")
    second = second.partition("-")[0] if path == "uname" else second
    parts = (first, second)
    if not all(part.isascii() and part.isdigit() and len(part) <= 3 for part in parts):
        raise SpecError(path, f"{text!r} is no version such as 4.8")
    return int(first), int(second)


def _nothing_is_lost(name: str, rules: tuple[p.Rule, ...]) -> None:
    """Of a call's rules libseccomp takes the first one without conditions alone, and says nothing.
    Profiles in use name a call in two lists; but where what is lost looks at arguments, and would
    have kept something away, SpecError."""
    kept = next((rule for rule in rules if not rule.conditions), None)
    lost = [rule for rule in rules if rule.conditions and not p.permits(rule.action)]
    if kept and lost and p.permits(kept.action):
        reason = "a rule that allows it whatever its arguments are overrides one that does not"
        raise SpecError("seccomp.syscalls", f"{name}: {reason}")


def _abis(data: Data, abis: tuple[str, ...]) -> tuple[str, ...]:
    """Of those of this machine the ones that the profile is for; its own always. x32 is refused,
    asked for or not."""
    listed = _texts(data, "seccomp", "architectures")
    entries = _list(data, "seccomp", "archMap")
    if listed and entries:
        raise SpecError("seccomp", "it has both architectures and archMap")
    for k, entry in enumerate(entries):
        path = f"seccomp.archMap[{k}]"
        one = _object(entry, path)
        _known(one, path, frozenset(["architecture", "subArchitectures"]))
        name, below = _text(one, path, "architecture"), _texts(one, path, "subArchitectures")
        _check_arches([name, *below], path)
        if ARCHES.get(name) == abis[0]:
            listed = below
    _check_arches(listed, "seccomp.architectures")
    wanted = {ARCHES.get(name) for name in listed}
    return (abis[0], *[abi for abi in abis[1:] if abi in wanted])


def _check_arches(names: list[str], path: str) -> None:
    for name in names:
        if name not in ARCHES and name not in OTHER_ARCHES:
            raise SpecError(path, f"{name!r} is no architecture")


def _flags(data: Data) -> int:
    flags = 0
    for name in _texts(data, "seccomp", "flags"):
        if name == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV":
            raise Unsupported(f"seccomp.flags: {name}: nobody listens to notifications here")
        if name not in FLAGS:
            raise SpecError("seccomp.flags", f"{name!r} is none of {', '.join(FLAGS)}")
        flags |= FLAGS[name]
    return flags
