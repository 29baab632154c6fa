# SPDX-License-Identifier: Apache-2.0
"""What every process of a container is kept from, as fields of a Spec: also one that minibox exec
brings in. The words of --security-opt are docker's and podman's.
"""

from __future__ import annotations

import os

from minibox import core, forms
from minibox.errors import SetupError, SpecError, Unsupported
from minibox.numbers import NUMBERS
from minibox.seccomp import choose, frozen
from minibox.spec import DEFAULT_MASKED, DEFAULT_READONLY, Landlock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minibox.request import Options

APPARMOR = "minibox-default"  # the file minibox/apparmor
ENABLED = "/sys/module/apparmor/parameters/enabled"
PROFILES = "/sys/kernel/security/apparmor/policy/profiles"
LANDLOCK_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION


def build(options: Options, capabilities: tuple[str, ...]) -> dict[str, Any]:
    """Its limits, filters, labels and covered paths. SpecError, Unsupported."""
    score = options.get("oom_score_adj")
    words = forms.security_opt(options.get("security_opt") or ())
    is_strict = words.get("no-new-privileges") != "false"
    filter_ = choose(words.get("seccomp"), capabilities)
    landlock = _landlock(list(options.get("landlock") or ()))
    if not is_strict and (filter_ or landlock):
        reason = "no-new-privileges=false: a filter needs them; also seccomp=unconfined?"
        raise SpecError("--security-opt", reason)
    label = words.get("label", "disable")
    masked, readonly = _paths(words)
    return {
        "rlimits": forms.ulimits(list(options.get("ulimit") or ())),
        "oom_score_adj": None if score is None else forms.oom_score_adj(score),
        "no_new_privileges": is_strict,
        "seccomp": filter_,
        "landlock": landlock,
        "apparmor": _apparmor(words.get("apparmor")),
        "selinux": b"" if label == "disable" else os.fsencode(label),
        "masked_paths": masked,
        "readonly_paths": readonly,
    }


def freeze(options: Options) -> list[str]:
    """--security-opt as data that means the same later: a profile, not its path. SpecError."""
    words = forms.security_opt(options.get("security_opt") or ())
    if "seccomp" in words:
        words["seccomp"] = frozen(words["seccomp"])
    return [f"{word}={value}" for word, value in words.items()]


def _apparmor(text: str | None) -> bytes:
    """The profile that is asked for, or minibox's own where it is loaded."""
    if text is None:
        return APPARMOR.encode() if has_apparmor() and is_loaded(APPARMOR) else b""
    return b"" if text == "unconfined" else os.fsencode(text)


def has_apparmor() -> bool:
    """Does this kernel run AppArmor? SetupError when that cannot be known."""
    try:
        with open(ENABLED, "rb") as file:
            return file.read(1) == b"Y"
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SetupError(error.errno or 0, f"look at {ENABLED}") from None


def is_loaded(profile: str) -> bool:
    """Does AppArmor know this profile? Without the right to look it does not. SetupError. (In its
    directory each has a number behind the name.)"""
    try:
        names = os.listdir(PROFILES)
    except (FileNotFoundError, PermissionError):
        return False
    except OSError as error:
        raise SetupError(error.errno or 0, f"look at {PROFILES}") from None
    return any(name.rpartition(".")[0] == profile for name in names)


def _paths(words: dict[str, str]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """The masked and the read-only ones. mask= and unmask= take paths with : between them."""
    unmasked = [os.fsencode(path) for path in words.get("unmask", "").split(":")]
    more = tuple(os.fsencode(path) for path in words.get("mask", "").split(":") if path)
    if "systempaths" in words or unmasked in ([b"ALL"], [b"all"]):
        return more, ()
    masked = tuple(path for path in DEFAULT_MASKED if path not in unmasked)
    return masked + more, tuple(path for path in DEFAULT_READONLY if path not in unmasked)


def landlock_version() -> int:
    """The kernel's version of Landlock (landlock_create_ruleset(2)). OSError where it has none."""
    return core.syscall(NUMBERS["landlock_create_ruleset"], 0, 0, LANDLOCK_VERSION)


def _landlock(texts: list[str]) -> Landlock | None:
    if not texts:
        return None
    rules = forms.landlock(texts)
    try:
        abi = landlock_version()
    except OSError as error:
        text = f"--landlock: this kernel has no Landlock: {error.strerror}"
        raise Unsupported(text, "landlock") from None
    return Landlock(abi, rules)
