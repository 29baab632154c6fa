# SPDX-License-Identifier: Apache-2.0
"""Starting: one launch under a monitor, committed when run.json says that it happened."""

from __future__ import annotations

import json
import os
import sys
import time

from minibox import host as hosts
from minibox import monitor, resident
from minibox.compile import compile
from minibox.directory import SHORT, Directory, put, try_lock
from minibox.errors import StateError
from minibox.life import grouping
from minibox.life.create import DEFAULT_SIZE, build, journal
from minibox.network import modes
from minibox.resident import RECORD_BYTES, Resident, State, record, start_time
from minibox.spec import Monitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minibox.directory import Data
    from minibox.network.wiring import Wiring
    from minibox.spec import Spec

ENDING_PATIENCE = 10.0  # seconds for the last run's monitor
MOST_ATTRIBUTES = 500  # each character may become six
FIRST_DELAY, LONGEST_DELAY = 100, 60_000
SAFE_PATH = b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def start(
    container: Resident,
    *,
    ready: Callable[[int], object] | None = None,
    show: Callable[[monitor.Start], object] | None = None,
    size: tuple[int, int] = DEFAULT_SIZE,
    say: Callable[[str], object] = str,
) -> State:
    """Start it; returns when its command has been exec'd. SetupError, StateError; a start that
    fails leaves it as it was.

    ready: called with the number of this start just before output begins to flow. show: called
    with the start when set-up has ended, well or not; its plan is traced then. size: of its
    terminal. say: gets a line about what of the host's was changed for its network.
    """
    with container.directory.lock(container.name):
        return start_locked(container, ready=ready, show=show, size=size, say=say)


def start_locked(
    container: Resident,
    *,
    ready: Callable[[int], object] | None = None,
    show: Callable[[monitor.Start], object] | None = None,
    size: tuple[int, int] = DEFAULT_SIZE,
    restarts: int = 0,
    say: Callable[[str], object] = str,
) -> State:
    container.reload()
    before = container.state()
    if before.is_running:
        raise StateError(f"container {container.name} is already running")
    if before.status == resident.EXITED:
        container.end_monitor()  # it has told the end, and would only look what is to be done
    alive = _hold(container.directory, "alive", container.name)
    try:
        wiring = _wiring(container, say)
        try:
            _go(container, before.run + 1, alive, wiring, ready, show, size, restarts)
        except BaseException:
            if wiring:
                wiring.release()
            raise
        if wiring:
            wiring.let_go()
    finally:
        os.close(alive)
    if before.run:
        container.directory.remove(record(before.run))
    return container.state()


def _go(
    container: Resident,
    number: int,
    alive: int,
    wiring: Wiring | None,
    ready: Callable[[int], object] | None,
    show: Callable[[monitor.Start], object] | None,
    size: tuple[int, int],
    restarts: int,
) -> None:
    """Start `number`: launched, written down, committed; or undone."""
    directory, host = container.directory, hosts.probe()
    before = directory.read("run.json")
    group = grouping.make(container)
    place = os.open(directory.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        watched = grouping.watched(group, _watched(container, number, restarts, wiring))
        spec = build(container.config, host, watched, size, wiring)
        spec = grouping.fit(group, spec, host)
        plan = compile(spec, host)
        _make_room(directory, number)
        going = monitor.Start(spec, plan, host, place, alive)
        try:
            going.launch(trace=show is not None)
            going.go(wiring, group.admit)
            if ready:
                ready(number)
            run = _run(going, number, restarts) | _process(spec)
            run["cgroup"] = group.data()
            directory.write("run.json", run | (wiring.told() if wiring else {}))
            journal(container, "start")  # before its end can be told
            going.commit()
        except BaseException:
            going.undo()
            _put_back(container, before, number)
            raise
        finally:
            if show and going.is_launched:
                show(going)
            going.close()
        group.let_go()
    except BaseException:
        group.remove()
        raise
    finally:
        os.close(place)


def _put_back(container: Resident, before: Data | None, number: int) -> None:
    """The files as they were. The monitor may have died between being told to commit and answering;
    or it has answered, and we could not hear it: then it lives, and must not."""
    directory = container.directory
    try:
        if directory.read("run.json") != before:
            container.end_monitor()
            if before is None:
                directory.remove("run.json")
            else:
                directory.write("run.json", before)
        directory.remove(record(number))
    except (StateError, OSError):
        pass  # why the start has failed is what is to be said; run.json tells what lives


def _wiring(container: Resident, say: Callable[[str], object]) -> Wiring | None:
    """Its networks, with leases for this start."""
    config = container.config
    if not modes.is_wired(config["options"]):
        return None
    from minibox.network.wiring import Wiring

    hostname = config["options"].get("hostname") or container.id[:SHORT]
    wiring = Wiring(container.store.root, config["options"], hostname, container.id, container.name)
    wiring.take(say)
    return wiring


def _hold(directory: Directory, name: str, called: str) -> int:
    """The file whose lock the monitor will hold. StateError while the last one still has it."""
    try:
        fd = os.open(directory.file(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateError(f"{directory.file(name)}: {error.strerror}") from None
    deadline = time.monotonic() + ENDING_PATIENCE
    while not try_lock(fd):
        if time.monotonic() > deadline:
            os.close(fd)
            raise StateError(f"container {called} is still ending")
        time.sleep(0.005)
    return fd


def _make_room(directory: Directory, number: int) -> None:
    """What the last run has left goes; the record of the end has its place before there is one."""
    for name in ("attach", "stop", "health.json"):
        directory.remove(name)
    put(directory.file(record(number)), b" " * (RECORD_BYTES - 1) + b"\n")


def _run(going: monitor.Start, number: int, restarts: int) -> Data:
    return {
        "run": number,
        "pid": going.pid,
        "start_time": start_time(going.pid),
        "monitor": going.monitor_pid,
        "monitor_start_time": start_time(going.monitor_pid),
        "boot_id": resident.boot_id(),
        "began": time.time_ns(),
        "restarts": restarts,
    }


def _process(spec: Spec) -> Data:
    """What exec gives one more process in this run; its root and volumes may be gone by then."""
    user = spec.user
    return {
        "process": {
            "env": [os.fsdecode(item) for item in spec.env],
            "cwd": os.fsdecode(spec.cwd),
            "umask": spec.umask,
            "user": [user.uid, user.gid, list(user.groups)],
            "capabilities": list(spec.capabilities),
        }
    }


def _watched(container: Resident, number: int, restarts: int, wiring: Wiring | None) -> Monitor:
    """What the monitor of this run is told."""
    config, health = container.config, container.config.get("health")
    wants_end = config["restart"]["policy"] != "no" or config["remove"]
    wants_end = wants_end or bool(wiring and wiring.needs_an_end)
    delay = min(FIRST_DELAY << min(restarts, 16), LONGEST_DELAY)
    interval = int(health["interval"] * 1000) if health else 0
    return Monitor(
        record=record(number).encode(),
        stdin=config["interactive"],
        log_size=config["log"]["max-size"],
        log_files=max(1, config["log"]["max-file"] - 1),
        interval=interval,
        lifetime=int(config["timeout"] * 1000),
        delay=delay if config["restart"]["policy"] != "no" else 0,
        tick=_command(container, "healthcheck", container.id) if interval else (),
        ended=_command(container, "after", container.id, str(number)) if wants_end else (),
        env=(SAFE_PATH,),
        event=_event(container),
        leases=wiring.lease_paths() if wiring else (),
    )


def _command(container: Resident, *words: str) -> tuple[bytes, ...]:
    """A command line of minibox's own, for this interpreter and this installation."""
    place = os.path.dirname(os.path.dirname(os.path.abspath(resident.__file__)))
    script = f"import sys; sys.path.insert(0, {place!r}); from minibox.cli import main; "
    python = sys.executable or os.readlink("/proc/self/exe")
    line = [python, "-I", "-c", script + "main(sys.argv[1:])", "--root", container.store.root]
    return tuple(os.fsencode(word) for word in (*line, *words))


def _event(container: Resident) -> bytes:
    """The journal's line at the end, up to the exit code; without labels where they are long."""
    attributes = {**container.config["labels"], "name": container.name}
    if len(str(attributes)) > MOST_ATTRIBUTES:
        attributes = {"name": container.name}
    pairs = json.dumps(attributes, separators=(",", ":"))[:-1]
    who = f'"Actor":{{"ID":"{container.id}","Attributes":{pairs},"exitCode":"'
    return f'{{"Type":"container","Action":"die",{who}'.encode()
