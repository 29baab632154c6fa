# SPDX-License-Identifier: Apache-2.0
"""What is known of a container that outlives the command which made it.

Its state is not stored but found out: the lock of `alive` says whether its monitor lives, run.json
what was started last, exit-N.json how that ended.
"""

from __future__ import annotations

import os
import select
import time
from errno import EINVAL, ESRCH

from minibox import core, shapes
from minibox.directory import NO_FILE, READ, SHORT, Directory, is_there, said, slurp
from minibox.errors import NoSuchContainer, StateError
from minibox.resources import leftovers
from minibox.resources.cgroup import Cgroup
from minibox.spec import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minibox.directory import Data
    from minibox.store import Store

CREATED, RUNNING, PAUSED = "created", "running", "paused"
RESTARTING, EXITED = "restarting", "exited"
NS = 1_000_000_000
SIGKILL = 9
RECORD_BYTES = 128  # csrc/minibox.h, MB_RECORD
# After the end of the first process the monitor still empties pipes; longer than its patience.
MONITOR_PATIENCE = 15.0


class State(Record):
    """status: one of the words above. run: the number of its latest start, 0 before the first.
    pid: of the first process, 0 when it does not run. monitor: the monitor's pid, or 0. began,
    finished: ns since the epoch. exit_code: 128+n after signal n. restarts: by the restart policy.
    error: what is to be said beyond that. oom_killed: for want of memory."""

    status: str
    run: int = 0
    pid: int = 0
    start_time: int = 0
    monitor: int = 0
    began: int = 0
    finished: int = 0
    exit_code: int = 0
    signal: int = 0
    restarts: int = 0
    error: str = ""
    oom_killed: bool = False

    @property
    def is_running(self) -> bool:
        return self.status in (RUNNING, PAUSED)

    @property
    def is_at_rest(self) -> bool:
        """Does nothing of it run, and nothing wait to start it?"""
        return self.status not in (RUNNING, PAUSED, RESTARTING)


class Resident:
    """One container."""

    def __init__(self, store: Store, directory: Directory) -> None:
        self.store = store
        self.directory = directory
        self._config: Data | None = None

    @classmethod
    def find(cls, store: Store, text: str) -> Resident:
        """By name or id. StateError."""
        return cls(store, store.find(text))

    @property
    def id(self) -> str:
        return self.directory.id

    @property
    def config(self) -> Data:
        """What it was created as. Damaged."""
        if self._config is None:
            config = self.directory.read("config.json")
            if config is None:
                self.check_there()
                raise self.directory.damaged("config.json", "it is not there")
            _check(self.directory, "config.json", config, shapes.CONFIG)
            self._config = config
        return self._config

    def check_there(self) -> None:
        """StateError when it has been removed meanwhile."""
        if not is_there(self.directory.path):
            raise NoSuchContainer(self.id[:SHORT])

    def reload(self) -> Data:
        """The same, read again."""
        self._config = None
        return self.config

    @property
    def name(self) -> str:
        name: str = self.config["name"]
        return name

    def state(self) -> State:
        """How it is at this moment. Damaged."""
        run = self.directory.read("run.json")
        alive = self.directory.is_alive()
        if run is None:
            self.check_there()
            return State(CREATED)
        _check(self.directory, "run.json", run, shapes.RUN)
        number = run["run"]
        known: dict[str, Any] = {
            "run": number,
            "began": run["began"],
            "restarts": run["restarts"],
        }
        end = _end(self.directory.file(record(number)))
        if alive and end is None and run.get("boot_id") == boot_id():
            living = {"pid": run["pid"], "start_time": run["start_time"], "monitor": run["monitor"]}
            is_paused = bool(run.get("cgroup")) and Cgroup.of_data(run["cgroup"]).is_frozen()
            return State(PAUSED if is_paused else RUNNING, **living, **known)
        if end is None:
            return killed(**known)
        state = ended(end, **known)
        if alive and self.wants_restart(state):
            return state.replace(status=RESTARTING, monitor=run["monitor"])
        return state

    def wants_restart(self, state: State) -> bool:
        """Does its policy start it anew, after it has ended so?"""
        policy = self.config["restart"]
        if policy["policy"] == "no" or self.directory.exists("stop"):
            return False
        if policy["policy"] != "on-failure":
            return True
        return state.exit_code != 0 and (not policy["most"] or state.restarts < policy["most"])

    def end_monitor(self) -> None:
        """SIGKILL for a monitor that has told the end of its container, if the process with its pid
        is still the same one."""
        run = self.directory.read("run.json") or {}
        pid, began = run.get("monitor"), run.get("monitor_start_time")
        if not isinstance(pid, int) or pid <= 0 or not began or run.get("boot_id") != boot_id():
            return
        if pid == os.getpid():
            return  # we are what the monitor has become
        try:
            pidfd = core.pidfd_open(pid)
        except OSError as error:
            if error.errno not in (ESRCH, EINVAL):
                raise
            return
        try:
            if start_time(pid) == began:
                core.pidfd_send_signal(pidfd, SIGKILL)
                has_ended(pidfd, MONITOR_PATIENCE)
        except ProcessLookupError:
            pass
        finally:
            os.close(pidfd)

    def cgroup(self) -> Cgroup:
        """Of its latest start; without parts where it had none. Damaged."""
        run = self.directory.read("run.json") or {}
        if run.get("boot_id") != boot_id():
            return Cgroup.of_data(None)
        found = run.get("cgroup")
        # What is in it is killed, and the directory removed: it must be nobody else's.
        if not shapes.fits(found, shapes.RUN["cgroup"]) or not self._is_own(found or []):
            raise self.directory.damaged("run.json", "cgroup is missing or wrong")
        return Cgroup.of_data(found)

    def _is_own(self, parts: list[list[str]]) -> bool:
        return all(self.id in part[2].rpartition("/")[2] for part in parts)

    def open_pidfd(self, state: State) -> int:
        """A pidfd of its first process, which is the one that was started and no other: the pid
        could be somebody else's by now. StateError."""
        not_running = StateError(f"container {self.name} is not running")
        if not state.is_running:
            raise not_running
        try:
            pidfd = core.pidfd_open(state.pid)
        except OSError as error:  # EINVAL: a number that is no pid
            if error.errno not in (ESRCH, EINVAL):
                raise
            raise not_running from None
        if start_time(state.pid) != state.start_time:
            os.close(pidfd)
            raise not_running
        return pidfd


def record(number: int) -> str:
    """The file in which the monitor leaves the end of start `number`."""
    return f"exit-{number}.json"


def _end(path: str | int) -> Data | None:
    """What the monitor has left in such a file; None while it holds blanks. StateError when that
    cannot be known."""
    import json

    try:
        text = os.pread(path, RECORD_BYTES, 0) if isinstance(path, int) else slurp(path)
        end = json.loads(text)
    except (ValueError, RecursionError):
        return None
    except OSError as error:
        if error.errno in (*NO_FILE, EINVAL):
            return None
        raise said(error, str(path)) from None
    return end if shapes.fits(end, shapes.END) else None


class Ending:
    """The end of one start of a container, to be waited for, also when the container is removed
    at once: the file of the record is open all the time."""

    def __init__(self, container: Resident, number: int, pidfd: int = -1) -> None:
        self._container = container
        self._number = number
        self._pidfd = pidfd
        self._path = container.directory.file(record(number))
        try:
            self._fd = os.open(self._path, READ)
        except OSError as error:
            if error.errno not in NO_FILE:
                raise said(error, self._path) from None
            self._fd = -1

    def wait(self, timeout: float | None = None) -> State | None:
        """How it ended; None when the first process still runs after `timeout` seconds, where
        there is a pidfd of it. StateError when its monitor does not come to its end."""
        if self._pidfd >= 0 and not has_ended(self._pidfd, timeout):
            return None
        deadline = time.monotonic() + MONITOR_PATIENCE
        while (end := self._read()) is None:
            if not self._container.directory.is_alive():
                end = self._read()
                break
            if time.monotonic() > deadline:
                raise StateError(f"container {self._container.id[:SHORT]}: its monitor is stuck")
            time.sleep(0.002)
        if end is None:
            return killed(run=self._number)
        return ended(end, run=self._number)

    def _read(self) -> Data | None:
        if self._fd < 0:
            return None
        return _end(self._fd)

    def __enter__(self) -> Ending:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in (self._fd, self._pidfd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._pidfd = -1


def ended(end: Data, **known: Any) -> State:
    """The state after this record."""
    told = {name: end[name] for name in ("exit_code", "signal", "finished")}
    is_over_time = end.get("timed_out") is True and end["signal"] == SIGKILL
    oom_killed = end.get("oom_killed") is True
    error = "out of memory" if oom_killed else ""
    if is_over_time:
        error = "its time was up (--timeout)"
    return State(EXITED, error=error, oom_killed=oom_killed, **known, **told)


def killed(**known: Any) -> State:
    """The state after a monitor that has left no record: its container died with it."""
    error = "its monitor was killed"
    return State(EXITED, exit_code=128 + SIGKILL, signal=SIGKILL, error=error, **known)


def has_ended(pidfd: int, timeout: float | None) -> bool:
    """Does the process end within so many seconds?"""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000))


def _check(directory: Directory, name: str, data: Data, shape: dict[str, object]) -> None:
    key = shapes.misfit(data, shape)
    if key:
        raise directory.damaged(name, f"{key} is missing or wrong")


def start_time(pid: int) -> int:
    """When a process began, in clock ticks since boot (proc_pid_stat(5), field 22); 0 when there
    is none. OSError when that cannot be known."""
    try:
        return leftovers.start_time(pid)
    except (FileNotFoundError, ProcessLookupError, ValueError, IndexError):
        return 0


_boot_id = ""


def boot_id() -> str:
    """Which boot of the machine this is (random(4)); it does not change while we live. OSError."""
    global _boot_id
    if not _boot_id:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            _boot_id = file.read().strip()
    return _boot_id


def uptime(state: State) -> float:
    """Seconds since the first process began, by the clock that nobody sets."""
    ticks = os.sysconf("SC_CLK_TCK")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - state.start_time / ticks)


def residents(store: Store) -> list[Resident]:
    """All of them, the newest last; those whose config.json is damaged at the end."""
    found = [Resident(store, store.directory(id_)) for id_ in store.ids()]

    def age(resident: Resident) -> tuple[int, int]:
        try:
            return 0, resident.config["created"]
        except StateError:
            return 1, 0

    return sorted(found, key=age)
