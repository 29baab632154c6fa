# SPDX-License-Identifier: Apache-2.0
"""A container's life: create, start, stop, kill, restart, wait, rename, remove, and sweeping up.

Each function that changes a container holds its lock, so that of two commands at once one wins and
the other finds what the first has made of it. Killed anywhere, it leaves a state that the next one
understands: a start that was not committed never happened, what is half removed is invisible.
"""

from minibox.life.create import build, create, journal
from minibox.life.pause import pause, resume, update
from minibox.life.remove import after, gc, remove, rename
from minibox.life.start import start
from minibox.life.stop import forget_if_asked, kill, restart, stop, wait

__all__ = [
    "after",
    "build",
    "create",
    "forget_if_asked",
    "gc",
    "journal",
    "kill",
    "pause",
    "remove",
    "rename",
    "restart",
    "resume",
    "start",
    "stop",
    "update",
    "wait",
]
