# SPDX-License-Identifier: Apache-2.0
"""--net where it is not given: what this user can have on this host, or what MINIBOX_NET says."""

from __future__ import annotations

import os

from minibox import cli, host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.cli.quick import Values

VARIABLE = "MINIBOX_NET"
CAP_NET_ADMIN = 12


def settle(values: Values) -> None:
    """Put it in. Where there is only lo, and not because somebody has asked for that, a person at a
    terminal is told why. SetupError, SpecError."""
    if values.get("net") or _is_given(values):
        return
    mode = os.environ.get(VARIABLE)
    if mode is None:
        here = host.probe()
        if here.privileged and here.capabilities >> CAP_NET_ADMIN & 1:
            mode = "bridge"
        else:
            mode = _of_users()
    values["net"] = [mode]


def _is_given(values: Values) -> bool:
    """Does --share or --join say which network namespace it is?"""
    share: list[str] = values.get("share") or []  # type: ignore[assignment]
    join: list[str] = values.get("join") or []  # type: ignore[assignment]
    is_shared = any("net" in text.split(",") for text in share)
    return is_shared or any(text.startswith(("net=", "mnt=")) for text in join)


def _of_users() -> str:
    from minibox.network import user

    why = user.obstacle()
    if not why and not (cli.root or os.environ.get("XDG_RUNTIME_DIR")):
        why = "XDG_RUNTIME_DIR is not set"
    if why and os.isatty(2):
        cli.say(f"no network but lo: {why}\n  hint: --net none, or {VARIABLE}=none, is silent")
    return "none" if why else "user"
