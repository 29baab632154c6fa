# SPDX-License-Identifier: Apache-2.0
"""The errors minibox raises.

MiniboxError            exit_code 125
├── SpecError           what was asked for makes no sense; says where and why
├── Unsupported         this host or this version cannot; named, never silently dropped
├── SetupError          a system call failed while the container was made; also an OSError
│   ├── CommandNotFound the command (or its interpreter, its loader) is not there; exit_code 127
│   └── CannotExecute   it is there and cannot be run; exit_code 126
└── StateError          a container is not in the state that the request needs
    └── NoSuchContainer it is not there, or not any more
"""

from __future__ import annotations

import os


def one_line(text: str) -> str:
    """Text of the user's in a message: what cannot be printed, a newline say, is escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class MiniboxError(Exception):
    """The base. `exit_code` is what the command line ends with. `lack`: which line of `minibox
    doctor` tells what this host has not, and how to mend that; or ""."""

    exit_code = 125
    lack = ""


class SpecError(MiniboxError):
    """A request that contradicts itself or is malformed.

    `path` names the option or field at fault ("--volume", "process.args"), `reason` says why.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(one_line(f"{path}: {reason}"))
        self.path = path
        self.reason = reason


class Unsupported(MiniboxError):
    """A request this kernel, host or version of minibox cannot fulfil."""

    def __init__(self, text: str, lack: str = "") -> None:
        super().__init__(text)
        self.lack = lack


class StateError(MiniboxError):
    """A container is not in the state that the request needs."""


class NoSuchContainer(StateError):
    """A container that is not there, or not any more; `called` is how it was asked for."""

    def __init__(self, called: str) -> None:
        super().__init__(one_line(f"{called}: no such container"))


class SetupError(MiniboxError, OSError):
    """A step of the plan failed with `errno`; the payload did not start.

    `what` is the step in words, `step` and `steps` its place in the plan (counted from 1),
    `origin` the part of the request it came from, `hint` a way out or "".
    """

    def __init__(
        self,
        errno: int,
        what: str,
        step: int = 0,
        steps: int = 0,
        origin: str = "",
        hint: str = "",
        reason: str = "",
        lack: str = "",
    ) -> None:
        OSError.__init__(self, errno, reason or os.strerror(errno))
        self.what = what
        self.step = step
        self.steps = steps
        self.origin = origin
        self.hint = hint
        self.lack = lack

    def __str__(self) -> str:
        lines = [one_line(f"{self.what}: {self.strerror}")]
        if self.step:
            lines.append(one_line(f"  step {self.step} of {self.steps}, from {self.origin}"))
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class CommandNotFound(SetupError):
    """The command, its interpreter or its loader does not exist in the container."""

    exit_code = 127


class CannotExecute(SetupError):
    """The command exists in the container, and the kernel will not execute it."""

    exit_code = 126
