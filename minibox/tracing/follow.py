# SPDX-License-Identifier: Apache-2.0
"""Stops of tasks become events: who made whom, which call returned what, who has ended.

A child's first stop and its parent's come in either order. Whichever is first waits for the other,
so that a parent's line is before its child's, and both memories are read before either goes on.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Set

from minibox import describe
from minibox.syscalls import CLONE_THREAD, CLONE_UNTRACED
from minibox.tracing import calls, decode, stops
from minibox.tracing.decode import Call
from minibox.tracing.stops import Stop, Tracer
from minibox.tracing.tree import Event, Namespaces, Process

# unshare makes these for children to come, and not for its caller.
HELD_BACK = {"pid", "time"}


class Task:
    """A thread of control. call: the one it is in. told: its end."""

    def __init__(self, tid: int, process: Process) -> None:
        self.tid = tid
        self.process = process
        self.call: Call | None = None
        self.namespaces: dict[str, int] = {}
        self.told = False

    @property
    def is_cloning(self) -> bool:
        """In a call whose child, if there is to be one, is not known yet, but will be."""
        call = self.call
        if call is None or call.name not in calls.FAMILY or call.child:
            return False
        return not call.flags & CLONE_UNTRACED


class Follower:
    """What is known of the tasks. tell: is given each event. processes: all that were seen."""

    def __init__(self, tracer: Tracer, tell: Callable[[Event], None]) -> None:
        self._tracer = tracer
        self._tell = tell
        self._began = time.monotonic()
        self._namespaces = Namespaces()
        self._tasks: dict[int, Task] = {}
        self._makers: dict[int, Task] = {}  # child -> the task that made it, and waits for it
        self._held: list[int] = []  # children whose parent has yet to tell of them
        self._gone: dict[int, int] = {}  # the same, killed before their first stop: wait statuses
        self.processes: list[Process] = []
        self._by_pid: dict[int, Process] = {}

    def take(self, stop: Stop) -> None:
        """A stop of a task, or its end."""
        {
            stops.BORN: self._born,
            stops.ENTER: self._enter,
            stops.LEAVE: self._leave,
            stops.CHILD: self._child,
            stops.EXEC: self._exec,
            stops.EXITING: self._exiting,
            stops.ENDED: self._ended,
        }[stop.kind](stop)

    def is_alive(self, pid: int) -> bool:
        """Is there a task of that process, whose end was not told?"""
        tasks = self._tasks.values()
        return any(task.process.pid == pid and not task.told for task in tasks)

    def kill(self) -> None:
        """All that are left."""
        for task in self._tasks.values():
            try:
                os.kill(task.tid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has just ended

    # Calls.

    def _enter(self, stop: Stop) -> None:
        self._tasks[stop.tid].call = Call(stop)
        self._tracer.go(stop.tid)

    def _leave(self, stop: Stop) -> None:
        task = self._tasks[stop.tid]
        call, task.call = task.call, None
        # An exec, and a clone with a child, are told of when they happen.
        if call and not call.child and -stop.result not in decode.RESTARTS:
            changed: dict[str, int] = {}
            if call.name in calls.ENTERING and stop.result == 0:
                changed = self._enters(task, calls.made(call.flags) - HELD_BACK)
            self._tell_call(task, call, stop.result, changed)
        self._tracer.go(stop.tid)
        self._release()

    def _enters(self, task: Task, made: Set[str] = frozenset()) -> dict[str, int]:
        """Its namespaces may be others now. made: new ones, of these kinds. Those that changed."""
        before, task.namespaces = task.namespaces, self._namespaces.of(task.tid, made)
        if task.tid == task.process.pid:
            task.process.namespaces = task.namespaces
        return _changed(task.namespaces, before)

    def _exec(self, stop: Stop) -> None:
        task = self._tasks.pop(stop.result, None) or self._tasks[stop.tid]
        task.tid = stop.tid
        self._tasks[stop.tid] = task
        task.process.threads = []
        call, task.call = task.call, None
        if call:
            argv = call.args["argv"]
            task.process.command = argv if isinstance(argv, list) else []
            self._tell_call(task, call, 0, self._enters(task))  # time namespaces begin here
        self._tracer.go(stop.tid)

    # The makings of tasks.

    def _child(self, stop: Stop) -> None:
        child, task = stop.result, self._tasks[stop.tid]
        if task.call:
            task.call.child = child
        self._makers[child] = task
        if child in self._tasks:
            self._meet(child)
        elif child in self._gone:
            self._lost(child, self._gone.pop(child))
        # Else the parent waits for it.

    def _born(self, stop: Stop) -> None:
        self._tasks[stop.tid] = self._newborn(stop.tid)
        if stop.tid in self._makers:
            self._meet(stop.tid)
        elif any(task.is_cloning for task in self._tasks.values()):
            self._held.append(stop.tid)
        else:
            self._enters(self._tasks[stop.tid])
            self._tracer.go(stop.tid)

    def _lost(self, child: int, status: int) -> None:
        """It was killed before its first stop."""
        self._tasks[child] = self._newborn(child)
        self._meet(child)
        self._tell_end(self._tasks.pop(child), status)
        self._by_pid.pop(child, None)

    def _newborn(self, tid: int) -> Task:
        maker = self._makers.get(tid)
        is_thread = maker and maker.call and maker.call.flags & CLONE_THREAD
        presumed = maker.process.pid if maker and is_thread else tid
        status = _status(tid)
        pid = int(status.get("Tgid", presumed))
        process = self._by_pid.get(pid)
        if process is None:
            parent = int(status.get("PPid", 0))  # who made it may never tell, and knows better
            process = Process(pid, parent if parent in self._by_pid else 0)
            self._by_pid[pid] = process
            self.processes.append(process)
        elif tid != pid:
            process.threads.append(tid)
        task = Task(tid, process)
        if tid == pid:
            process.command = _command(pid)
        return task

    def _meet(self, child: int) -> None:
        """Parent and child stand still: tell of the call, and let both go."""
        maker, task = self._makers.pop(child), self._tasks.get(child)
        call, changed = maker.call, dict[str, int]()
        if task:
            task.namespaces = maker.namespaces
            changed = self._enters(task, _made(child, call))
            if task.process is not maker.process:
                task.process.parent = maker.process.pid
        if call:
            call.made(child)
            self._tell_call(maker, call, _seen_by(maker.tid, child), changed)
        for tid in (maker.tid, child):
            self._tracer.go(tid)
        if child in self._held:
            self._held.remove(child)

    def _release(self) -> None:
        """Children that nobody will tell of any more: the parent was killed."""
        if not self._held and not self._gone:
            return
        if not any(task.is_cloning for task in self._tasks.values()):
            for tid in self._held:
                self._enters(self._tasks[tid])
                self._tracer.go(tid)
            self._held.clear()
            self._gone.clear()

    # Ends.

    def _exiting(self, stop: Stop) -> None:
        self._tell_end(self._tasks[stop.tid], stop.result)
        self._tracer.go(stop.tid)

    def _ended(self, stop: Stop) -> None:
        task = self._tasks.pop(stop.tid, None)
        if task:
            self._tell_end(task, stop.result)
            if stop.tid == task.process.pid:
                self._by_pid.pop(stop.tid, None)
        elif stop.tid in self._makers:
            self._lost(stop.tid, stop.result)
        else:
            self._gone[stop.tid] = stop.result
        if stop.tid in self._held:
            self._held.remove(stop.tid)
        self._release()

    def _tell_end(self, task: Task, status: int) -> None:
        if task.told:
            return
        task.told = True
        call, task.call = task.call, None
        if call and (not call.child or call.child in self._makers):
            self._tell_call(task, call, None, {})
        code = os.waitstatus_to_exitcode(status & ~CORE)
        ended = "exited" if code >= 0 else "killed"
        text = f"exited with {code}" if code >= 0 else f"killed by {describe.signal_name(-code)}"
        text += " (core dumped)" if status & CORE and code < 0 else ""
        if task.tid == task.process.pid:
            task.process.ended = text
        event = Event(self._now(), task.process.pid, task.tid, text, result=abs(code), ended=ended)
        self._tell(event)

    def _tell_call(
        self, task: Task, call: Call, result: int | None, changed: dict[str, int]
    ) -> None:
        text = f"{call.text} = {decode.result(result)}"
        if call.child and result != call.child:
            text += f" /* {call.child} outside */"
        elif call.tid != task.tid:
            text += f" /* {task.tid} now */"
        pid = task.process.pid
        self._tell(
            Event(
                *(self._now(), pid, call.tid, text, call.name, call.args, result),
                *(call.child, changed),
            )
        )

    def _now(self) -> float:
        return round(time.monotonic() - self._began, 6)


CORE = 0x80


def _changed(now: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    return {kind: number for kind, number in now.items() if before.get(kind) != number}


def _status(tid: int) -> dict[str, str]:
    """/proc/TID/status by field; empty when it is gone."""
    try:
        with open(f"/proc/{tid}/status", encoding="utf-8", errors="replace") as file:
            pairs = (line.partition(":") for line in file)
            return {key: value.strip() for key, _, value in pairs}
    except OSError:
        return {}


def _made(child: int, call: Call | None) -> set[str]:
    """The kinds of namespaces that are new with a child. One of pids may have been made by unshare
    before: the child is its first process then."""
    kinds = calls.made(call.flags) if call else set()
    return kinds | {"pid"} if _status(child).get("NSpid", "").split()[-1:] == ["1"] else kinds


def _seen_by(maker: int, child: int) -> int:
    """The number of a child in the pid namespace of the one that made it: what clone returns."""
    depth = len(_status(maker).get("NSpid", "").split())
    numbers = _status(child).get("NSpid", "").split()
    return int(numbers[depth - 1]) if 0 < depth <= len(numbers) else child


def _command(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return [decode.plain(word) for word in file.read().split(b"\0")[:-1]]
    except OSError:
        return []
