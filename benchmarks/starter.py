# SPDX-License-Identifier: Apache-2.0
"""Processes that start and stop detached containers by the library, and note how long each took.

Run as a program this is such a process: `starter.py STATE ROOTFS` reads lines of JSON, [what,
items], and answers each with one line: {"done": [...], "fds": N} or {"error": TEXT}.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time

from minibox import MiniboxError, life
from minibox.resident import Resident
from minibox.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    Entry = dict[str, Any]

PATIENCE = 900  # seconds for one job of one process
# The trap stands before the line is printed: whoever has seen the line may stop the container. It
# waits in the shell itself: one process a container.
SCRIPT = """
trap "exit $2" TERM
echo "$1" >/tmp/number
read number </tmp/number
gateway=$(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p')
test -z "$gateway" || ping -q -c 1 -W 9 $gateway >/dev/null || exit 99
echo "container $number"
mkfifo /tmp/never
read never <>/tmp/never
"""


class Stuck(Exception):
    """A process that does not answer, or has ended, or says that something went wrong."""


def line_of(number: int) -> str:
    """What container `number` prints."""
    return f"container {number}"


def code_of(number: int) -> int:
    """How container `number` ends when it is stopped."""
    return 1 + number % 100


# This end.


class Starters:
    """`count` of these processes, at work side by side. The containers' monitors, which are
    orphans, become children of this process (PR_SET_CHILD_SUBREAPER), which reaps them here."""

    def __init__(self, count: int, state: Path, rootfs: Path, net: str) -> None:
        words = [sys.executable, "-I", __file__, str(state), str(rootfs), net]
        pipe = subprocess.PIPE
        self._processes: list[subprocess.Popen[str]] = []
        self.fds = [0] * count
        for _ in range(count):
            process = subprocess.Popen(
                words, stdin=pipe, stdout=pipe, text=True, start_new_session=True
            )
            self._processes.append(process)

    @property
    def pids(self) -> set[int]:
        return {process.pid for process in self._processes}

    def start(self, numbers: Sequence[int]) -> list[Entry]:
        """Containers by these numbers, in the order in which their starts began. Stuck."""
        return sorted(self._ask("start", numbers), key=lambda entry: entry["began"])

    def stop(self, ids: Sequence[str]) -> list[Entry]:
        return self._ask("stop", ids)

    def remove(self, ids: Sequence[str]) -> list[Entry]:
        return self._ask("remove", ids)

    def _ask(self, what: str, items: Sequence[Any]) -> list[Entry]:
        """Deal the items out, and collect what was done."""
        count = len(self._processes)
        for k, process in enumerate(self._processes):
            assert process.stdin
            process.stdin.write(json.dumps([what, list(items[k::count])]) + "\n")
            process.stdin.flush()
        deadline = time.monotonic() + PATIENCE
        done: list[Entry] = []
        for k, process in enumerate(self._processes):
            answer = self._answer(process, deadline)
            if "error" in answer:
                raise Stuck(f"{what}: {answer['error']}")
            self.fds[k] = answer["fds"]
            done += answer["done"]
        return done

    def _answer(self, process: subprocess.Popen[str], deadline: float) -> Entry:
        assert process.stdout
        while not select.select([process.stdout], [], [], 0.05)[0]:
            reap()
            if time.monotonic() > deadline:
                raise Stuck(f"no answer in {PATIENCE} seconds")
        line = process.stdout.readline()
        if not line:
            raise Stuck("a process that starts containers has ended")
        answer: Entry = json.loads(line)
        return answer

    def __enter__(self) -> Starters:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


def reap() -> None:
    """Monitors that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


# The other end.


def start(store: Store, rootfs: str, net: str, number: int) -> Entry:
    """create and start; milliseconds of each. cpu: of both, what this process itself used."""
    args = ["/bin/sh", "-c", SCRIPT, "sh", str(number), str(code_of(number))]
    cpu, began = time.process_time_ns(), time.monotonic_ns()
    container = life.create(store, args, rootfs, {"tmpfs": ["/tmp"], "net": net}, {})
    created = time.monotonic_ns()
    state = life.start(container)
    ended = time.monotonic_ns()
    return {
        "number": number,
        "id": container.id,
        "monitor": state.monitor,
        "began": began,
        "ended": ended,
        "create": (created - began) / 1e6,
        "start": (ended - created) / 1e6,
        "cpu": (time.process_time_ns() - cpu) / 1e6,
    }


def stop(store: Store, id_: str) -> Entry:
    began = time.monotonic_ns()
    state = life.stop(Resident.find(store, id_))
    took = (time.monotonic_ns() - began) / 1e6
    return {"id": id_, "took": took, "status": state.status, "code": state.exit_code}


def remove(store: Store, id_: str) -> Entry:
    began = time.monotonic_ns()
    life.remove(Resident.find(store, id_))
    return {"id": id_, "took": (time.monotonic_ns() - began) / 1e6}


def work(state: str, rootfs: str, net: str) -> None:
    store = Store(state)
    jobs = {
        "start": lambda number: start(store, rootfs, net, number),
        "stop": lambda id_: stop(store, id_),
        "remove": lambda id_: remove(store, id_),
    }
    for line in sys.stdin:
        what, items = json.loads(line)
        answer: Entry
        try:
            done = [jobs[what](item) for item in items]
            answer = {"done": done, "fds": len(os.listdir("/proc/self/fd"))}
        except (MiniboxError, OSError) as error:
            answer = {"error": str(error) or repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    work(*sys.argv[1:])
