# SPDX-License-Identifier: Apache-2.0
"""clone against clone3"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from minibox import syscalls as sc
from minibox.lab import Block, Run, experiment, look, own_namespace, raw
from minibox.lab.words import error as name_of

RUNS = {"clone": 2, "clone3": 3}
PIDFD, BOTH_WORDS, DETACHED = "PIDFD", "PIDFD|PARENT_SETTID", "DETACHED"
SIGNAL_IN_FLAGS, SIGNAL_65, BIT_7 = "SIGCHLD among the flags", "exit signal 65", "bit 7 (NEWTIME)"
CLEAR, CGROUP, PID = "CLEAR_SIGHAND", "INTO_CGROUP, with no cgroup", "its pid"
MADE, IGNORED = "made", "made, and ignored"
EXPECTED = {
    "clone": {
        PIDFD: "its pidfd",
        BOTH_WORDS: "EINVAL",
        SIGNAL_IN_FLAGS: MADE,
        SIGNAL_65: MADE,
        DETACHED: IGNORED,
        BIT_7: "an exit signal",
        CLEAR: "handlers kept",
        CGROUP: IGNORED,
        PID: "the next one",
    },
    "clone3": {
        PIDFD: "its pidfd",
        BOTH_WORDS: "its pidfd and its pid",
        SIGNAL_IN_FLAGS: "EINVAL",
        SIGNAL_65: "EINVAL",
        DETACHED: "EINVAL",
        BIT_7: "a time namespace",
        CLEAR: "handlers cleared",
        CGROUP: "EBADF",
        PID: "as asked",
    },
}
FLAGS = (
    sc.CLONE_PIDFD
    | sc.CLONE_PARENT_SETTID
    | sc.CLONE_DETACHED
    | sc.CLONE_NEWTIME
    | sc.CLONE_CLEAR_SIGHAND
    | sc.CLONE_INTO_CGROUP
)


@experiment(
    FLAGS,
    source="clone(2); kernel/fork.c: SYSCALL_DEFINE5(clone), clone3_args_valid",
    expected=EXPECTED,
    runs=dict.fromkeys(RUNS, FLAGS),
    fields=("set_tid", "exit_signal"),
    order=-1,
)
def clone_and_clone3(run: Run) -> None:
    """clone has five words, and its flags share one of 32 bits with the exit signal; clone3 has a
    struct that can grow, and refuses what it does not know.

    Each thing is asked of both in the same way. clone takes pidfd and the parent's tid through one
    word, cannot be given a pid or a cgroup, sees an exit signal where clone3 has CLONE_NEWTIME, and
    throws the bits above 31 away: CLEAR_SIGHAND and INTO_CGROUP are not refused, but ignored.
    """
    call = RUNS[run.name]
    asked = Asked(run, call)
    run.saw(PIDFD, asked.words(sc.CLONE_PIDFD))
    run.saw(BOTH_WORDS, asked.words(sc.CLONE_PIDFD | sc.CLONE_PARENT_SETTID))
    run.saw(SIGNAL_IN_FLAGS, asked.plain(signal.SIGCHLD, exit_signal=0))
    run.saw(SIGNAL_65, asked.plain(0, exit_signal=65))
    run.saw(DETACHED, asked.ignored(sc.CLONE_DETACHED))
    run.saw(BIT_7, asked.in_time())
    run.saw(CLEAR, asked.handlers())
    run.saw(CGROUP, asked.ignored(sc.CLONE_INTO_CGROUP, cgroup=1000))
    run.saw(PID, asked.chosen())


class Asked:
    """Asks one of the calls, by itself, for a child that waits until it has been looked at."""

    def __init__(self, run: Run, call: int) -> None:
        self.run = run
        self.call = call

    def _child(self, look_at: Callable[[int, Block], str], flags: int, **words: int | str) -> str:
        """What is seen of it meanwhile, or the name of the error."""
        seen = []
        read, write = os.pipe()

        def meanwhile(pid: int, block: Block) -> None:
            seen.append(look_at(pid, block))
            os.close(write)

        def wait() -> None:
            os.close(write)
            os.read(read, 1)

        result = raw.fork(self.run, self.call, flags, words, wait, meanwhile)
        os.close(read)
        if result < 0:
            os.close(write)
            return name_of(-result)
        return seen[0]

    def plain(self, flags: int, **words: int | str) -> str:
        return self._child(lambda *_: MADE, flags, **words)

    def ignored(self, flags: int, **words: int | str) -> str:
        """Is it made, with an effect that nobody can see?"""
        return self._child(lambda *_: IGNORED, flags, **words)

    def words(self, flags: int) -> str:
        def look_at(pid: int, block: Block) -> str:
            # The words lie in the order in which they are named.
            fds, tid = f"/proc/self/fdinfo/{block.word(0)}", block.word(1)
            has_pidfd = f"Pid:\t{pid}\n" in open(fds).read() if os.path.exists(fds) else False
            found = {"its pidfd": has_pidfd, "its pid": tid == pid}
            return " and ".join(name for name, is_there in found.items() if is_there) or "neither"

        return self._child(look_at, flags, pidfd="&pidfd", parent_tid="&tid")

    def in_time(self) -> str:
        def look_at(pid: int, _: Block) -> str:
            own = own_namespace("time", pid)
            return "a time namespace" if own else "an exit signal"

        bit = sc.CLONE_NEWTIME & ~self.run.taken_out
        words = {"exit_signal": bit} if self.call == 2 else {}
        return self._child(look_at, 0 if self.call == 2 else bit, **words)

    def handlers(self) -> str:
        signal.signal(signal.SIGUSR1, lambda *_: None)
        bit = 1 << signal.SIGUSR1 - 1

        def look_at(pid: int, _: Block) -> str:
            kept = int(look.status(pid)["SigCgt"], 16) & bit
            return "handlers kept" if kept else "handlers cleared"

        return self._child(look_at, sc.CLONE_CLEAR_SIGHAND)

    def chosen(self) -> str:
        wanted = next(pid for pid in range(300, 30_000) if not os.path.exists(f"/proc/{pid}"))
        how = {"set_tid": [wanted]} if self.call == 3 else {}
        with self.run.clone([sc.gate()], 0, call=self.call, **how) as child:
            return "as asked" if child.pid == wanted else "the next one"
