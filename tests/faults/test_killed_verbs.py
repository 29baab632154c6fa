# SPDX-License-Identifier: Apache-2.0
"""SIGKILL of a command at any of its system calls: the next one understands what it has left.

A call is killed before it happens. Of those that change nothing one in a row is enough: for who
comes later they are the same moment. MINIBOX_EVERY=1 kills at each of the others, MINIBOX_EVERY=n
at each n-th.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
import kept
import kept_verbs

KILLED = -signal.SIGKILL
# Who waits for the other side calls something once more or less, as that is faster or slower.
MISSED = "it did not come to that"


def is_killed(done, call):
    if done.returncode == KILLED:
        return []
    return [MISSED if done.returncode == 0 else f"not killed: {done}"]


@pytest.mark.parametrize("case", kept_verbs.CASES.values(), ids=kept_verbs.CASES.keys())
def test_killed_at_each_of_its_system_calls(tmp_path, rootfs, message, unchanged, case):
    murder = kept_verbs.Trial(
        case,
        tmp_path,
        rootfs,
        message,
        lambda call: f"{call.name}:signal=KILL:when={call.number}",
        is_killed,
    )
    calls = murder.trace()
    assert len(calls) >= 5, calls
    tried = sample(calls, case.usual)
    found = kept.in_parallel(murder, tried)
    missed = [text for text in found if MISSED in text]
    assert kept.few([text for text in found if text not in missed]) == []
    assert len(missed) <= len(tried) // 3, missed


def sample(calls, usual):
    """Each so many-th, and all that change a name: there the order matters."""
    step = kept.every(usual)
    return [
        call for k, call in enumerate(calls) if k % step == 0 or call.name in ("rename", "symlink")
    ]


# The monitor, which is killed with the container that it has seen to its end.

WILL_END = ("/bin/sh", "-c", "trap 'exit 7' USR1; echo up; while :; do sleep 0.02; done")


class Widow:
    """A monitor that is killed before one of the calls it makes when its container has ended."""

    def __init__(self, top, rootfs, options):
        self.top = top
        self.rootfs = rootfs
        self.options = options

    def ended(self, home, options):
        """A container that has ended; strace with these options has its monitor meanwhile."""
        home.start("one", *self.options, command=WILL_END)
        assert kept.until(lambda: "up" in home.good("logs", "one")), "it does not start"
        state = home.whole("one")["State"]
        tracer = kept.attach_strace(state["ConmonPid"], options)
        os.kill(state["Pid"], signal.SIGUSR1)
        tracer.communicate(timeout=10)
        return state["ConmonPid"]

    def trace(self):
        home = kept.Home(self.top, self.rootfs)
        try:
            self.ended(home, ("-o", str(self.top / "trace")))
        finally:
            home.clear()
        return kept.calls(self.top / "trace", "wait4(-1, [{WIFEXITED")

    def __call__(self, call):
        home = kept.Home(self.top, self.rootfs, f"state-{os.getpid()}")
        try:
            self.ended(home, kept.injected(f"{call.name}:signal=KILL:when={call.number}"))
            return [f"{call}: {text}" for text in self.problems(home)]
        finally:
            home.clear()

    def problems(self, home):
        found = []
        if not kept.until(lambda: not kept.descendants(), 3):
            return [f"{kept.named(kept.descendants())} live on"]
        if "one" in home.states():  # with --rm it may have been removed
            state = home.whole("one")["State"]
            codes = (state["ExitCode"], home.good("wait", "one").strip())
            found += kept_verbs.wrong(state["Status"] == "exited", f"it is {state['Status']}")
            found += kept_verbs.wrong(codes in [(7, "7"), (137, "137")], f"exit codes {codes}")
            found += kept_verbs.wrong(b"up" in home.run("logs", "one").stdout, "the log is lost")
            home.good("start", "one")
        return found + home.sweep()


@pytest.mark.parametrize("options", [(), ("--rm",), ("--init",)], ids=["default", "rm", "init"])
def test_a_monitor_that_is_killed_at_its_end(tmp_path, rootfs, unchanged, options):
    widow = Widow(tmp_path, rootfs, options)
    calls = [call for call in widow.trace() if call.name != "execve"]
    assert {"pwrite64"} <= {call.name for call in calls}, calls
    assert kept.few(kept.in_parallel(widow, calls)) == []
