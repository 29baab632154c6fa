# SPDX-License-Identifier: Apache-2.0
"""The fd slots that stages hand to one another."""

from __future__ import annotations

from minibox.plan import Slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.spec import Spec


def namespace(kind: str) -> Slot:
    """A namespace's fd."""
    return Slot(f"{kind}ns")


# Inputs: launch fills them.
PARENT = Slot("parent")  # a pidfd of the supervising process
# A user namespace with the container's id map, for idmapped mounts; the joined one, if one is.
USERNS = namespace("user")
CONSOLE = Slot("console")  # a socket that takes the pty's master
STAGE = Slot("stage")  # the sealed memfd of minibox-init
ARENA = Slot("arena")  # the memfd of the plan itself
STDIO = (Slot("stdin"), Slot("stdout"), Slot("stderr"))
MEMBER = Slot("member")  # a pidfd of a process in the container that a guest goes into
# A monitor's: its container's directory, the lock that says it lives, the pipe from whoever starts
# it, and its ends of CONSOLE and the standard streams.
DIRECTORY = Slot("directory")
ALIVE = Slot("alive")
STARTER = Slot("starter")
FDS = Slot("fds")
STREAM_ENDS = (Slot("input"), Slot("output"), Slot("error"))
INPUTS = (
    *(PARENT, USERNS, CONSOLE, STAGE, ARENA, MEMBER, *STDIO),
    *(DIRECTORY, ALIVE, STARTER, FDS, *STREAM_ENDS),
)


def monitor_fds(spec: Spec) -> tuple[Slot, ...]:
    """The inputs that the monitor of this container has."""
    found = [DIRECTORY, ALIVE, STARTER]
    if spec.sends_fds:
        found.append(FDS)
    if spec.monitor and not spec.terminal:
        found += STREAM_ENDS if spec.monitor.stdin else STREAM_ENDS[1:]
    return tuple(found)


# Results.
LOWER = Slot("lower")  # the given tree, below an overlay
ROOT = Slot("root")  # the new root's mount
TARGET = Slot("target")  # where the next mount goes
FS = Slot("fs")  # a file system context
MOUNT = Slot("mount")  # a mount that is not attached yet
DEV = Slot("dev")
UPPER = Slot("upper")
