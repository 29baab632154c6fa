# SPDX-License-Identifier: Apache-2.0
"""The choice of a filter, and the ones that are at hand.

The default filter of the default capabilities is made when the package is built and lies in it, so
that the common start reads one file and asks for no library. Others are made when they are asked
for, and kept (cache.py).
"""

from __future__ import annotations

import os

from minibox import seccomp
from minibox.errors import SpecError, Unsupported
from minibox.spec import DEFAULT_CAPABILITIES, Filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.seccomp.rules import Profile

OPTION = "--security-opt seccomp"
LIMIT = 1 << 20
MOST = 64

_known: dict[tuple[str, tuple[str, ...]], Filter] = {}


def choose(text: str | None, capabilities: tuple[str, ...]) -> Filter | None:
    """The filter of a container that keeps these capabilities (names without CAP_), None for none.

    text: None or "default", "unconfined", the path of a profile, or its JSON, which begins with
    "{". SpecError; Unsupported on a machine whose calls are not known, and without libseccomp.
    """
    text = "default" if text is None else frozen(text)
    key = (text, capabilities)
    found = _known.get(key)
    if found is None:
        found = _make(text, capabilities)
        if len(_known) >= MOST:
            _known.clear()
        _known[key] = found
    return found


def frozen(text: str) -> str:
    """The same choice as data: a path becomes what the file says now. SpecError."""
    if text in ("default", "unconfined") or text.lstrip().startswith("{"):
        return text
    try:
        with open(text, "rb") as file:
            content = file.read(LIMIT + 1)
        if len(content) > LIMIT:
            raise SpecError(OPTION, f"{text}: larger than 1 MiB")
        profile = content.decode()
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a NUL byte in the path
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SpecError(OPTION, f"{text}: {reason}") from None
    if not profile.lstrip().startswith("{"):
        raise SpecError(OPTION, f"{text}: a profile is a JSON object")
    return profile


def write() -> None:
    """Make the filters that the package carries, of each machine: they are data, and whoever builds
    it need not be such a machine. Without libseccomp none are made."""
    from minibox.seccomp import default, library
    from minibox.seccomp.rules import MACHINES

    for machine, abis in MACHINES.items():
        try:
            program = library.program(default.profile(DEFAULT_CAPABILITIES, abis))
        except Unsupported as error:
            print(f"minibox: the package carries no filter: {str(error).splitlines()[0]}")
            return
        with open(seccomp.ready_path(machine), "wb") as file:
            file.write(program)


def _make(text: str, capabilities: tuple[str, ...]) -> Filter:
    from minibox.seccomp import cache, library
    from minibox.seccomp.rules import MACHINES

    here = os.uname()
    abis = MACHINES.get(here.machine)
    if abis is None:
        raise Unsupported(
            f"seccomp: the system calls of {here.machine} are not known\n"
            "  hint: --security-opt seccomp=unconfined goes without a filter",
            "seccomp",
        )
    if text == "default":
        from minibox.seccomp import default

        chosen, name = default.profile(capabilities, abis), "default"
    else:
        from minibox.seccomp import profile

        chosen, name = profile.read(text, capabilities, abis, here.release), "profile"
    code = cache.kept(_called(chosen, here.release), lambda: library.program(chosen))
    if len(code) > cache.LONGEST * cache.INSTRUCTION:
        length = len(code) // cache.INSTRUCTION
        raise SpecError(OPTION, f"{length} instructions, of which the kernel takes {cache.LONGEST}")
    return Filter(code, chosen.flags, name)


def _called(profile: Profile, release: str) -> str:
    """What a filter's file is called: all that decides what is in it. libseccomp asks the kernel
    which actions it has."""
    from hashlib import sha256

    from minibox.seccomp import library, program

    digest = sha256(repr((profile, library.version(), release)).encode())
    for module in (library, program):
        with open(module.__file__ or "", "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()
