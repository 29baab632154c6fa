# SPDX-License-Identifier: Apache-2.0
"""The fd slots that stages hand to one another."""

from minibox.plan import Slot


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
INPUTS = (PARENT, USERNS, CONSOLE, STAGE, ARENA, *STDIO)

# Results.
LOWER = Slot("lower")  # the given tree, below an overlay
ROOT = Slot("root")  # the new root's mount
TARGET = Slot("target")  # where the next mount goes
FS = Slot("fs")  # a file system context
MOUNT = Slot("mount")  # a mount that is not attached yet
DEV = Slot("dev")
UPPER = Slot("upper")
