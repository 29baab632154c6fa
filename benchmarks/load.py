# SPDX-License-Identifier: Apache-2.0
"""Many detached containers alive at once: what the first, the hundredth, the thousandth costs.

Twice: started, stopped and removed by one process and by several, through the library. Each
container writes a file, prints a line, and waits until it is stopped. What is measured are ratios
inside one run: a start among many that live, to the first starts. What is checked: none is lost,
none hangs, each ends as it should, and the host is afterwards what it was before.

Run as root by the Python that minibox is installed for: `make load`.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import leftovers
from bench import HERE, cpu_model, own_rootfs, smaps
from load_report import WINDOW, Load, Mode, rows, summary, write
from report import plain_table
from sampler import NotMeasured
from starter import Starters, Stuck, code_of, line_of, reap

from minibox import core
from minibox.errors import StateError
from minibox.numbers import NUMBERS
from minibox.resident import start_time
from minibox.store import Store
from minibox.syscalls import CLONE_NEWNET, SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from starter import Entry

COMMAND = Path(sys.executable).with_name("minibox")
ONE, SEVERAL = 1, 8
LISTINGS = 5  # samples of each kind of `minibox ps`
# Memory, as /run is on most machines; on a disk the files of a container cost more than it does.
SHM = Path("/dev/shm")
LINE_WITHIN = 60.0
GONE_WITHIN = 30.0


class Run:
    """The parts of a run; each adds what it finds to the load."""

    def __init__(self, state: Path, rootfs: Path, containers: int, net: str) -> None:
        self.state = state
        self.rootfs = rootfs
        self.containers = containers
        self.net = net
        self.load = Load(machine(state), containers)

    def mode(self, processes: int) -> None:
        """Start them, look at them, stop and remove them, by so many processes."""
        mode = Mode(processes)
        self.load.modes.append(mode)
        with Starters(processes, self.state, self.rootfs, self.net) as starters:
            # The first container of a process pays for imports and for what is made once.
            self._end(starters, Mode(processes), self._start(starters, range(processes)))
            # The interpreter that lists has been read once, too.
            mode.empty = [listing(self.state, "ps", 1) for _ in range(LISTINGS)]
            reap()
            before = leftovers.facts(self.state, starters.pids)
            fds = list(starters.fds)
            mode.started = self._start(starters, range(self.containers))
            mode.extra = self._start(starters, range(self.containers, self.containers + WINDOW))
            everything = mode.started + mode.extra
            self._look(mode, everything, before)
            self._end(starters, mode, everything)
            self._settle(mode, "all removed", starters, before)
            mode.again = self._start(starters, range(WINDOW))
            self._end(starters, Mode(processes), mode.again)
            self._settle(mode, "a second time", starters, before)
            if starters.fds != fds:
                self._fail(f"fds of the processes that start: {fds}, then {starters.fds}")

    def _fail(self, text: str) -> None:
        self.load.failures.append(f"{self.load.modes[-1].name}: {text}")

    def _start(self, starters: Starters, numbers: Sequence[int]) -> list[Entry]:
        """Start, and wait until each has printed its line, and no other."""
        entries = starters.start(numbers)
        waiting = {e["id"]: line_of(e["number"]) for e in entries}
        deadline = time.monotonic() + LINE_WITHIN
        while waiting and time.monotonic() < deadline:
            for id_ in list(waiting):
                lines = (self.state / "containers" / id_ / "log").read_text().splitlines()
                if [line.partition(" F ")[2] for line in lines] == [waiting[id_]]:
                    del waiting[id_]
            if waiting:
                time.sleep(0.05)
        if len(entries) != len(numbers) or waiting:
            self._fail(f"{len(numbers)} started; without their line: {sorted(waiting.values())}")
        return entries

    def _look(self, mode: Mode, entries: list[Entry], before: leftovers.Facts) -> None:
        """With all of them alive: what listing them costs, and what each takes."""
        mode.ps = [listing(self.state, "ps", 1) for _ in range(LISTINGS)]
        mode.quiet = [listing(self.state, "ps -q --no-trunc", 0) for _ in range(LISTINGS)]
        ids = sorted(entry["id"] for entry in entries)
        for found in mode.quiet:
            if sorted(found.pop("ids")) != ids:
                self._fail("ps -q does not list what was started")
        if any(len(found.pop("ids")) != len(ids) for found in mode.ps):
            self._fail("ps does not list what was started")
        mode.monitors = [smaps(entry["monitor"])["Pss"] * 1024 for entry in entries]
        now = leftovers.facts(self.state, set())
        for name in ("available memory, KiB", "kernel memory, KiB", "open files"):
            mode.each[name] = abs(now[name] - before[name]) / len(entries)
        mode.each["processes"] = len(now["processes"]) / len(entries)

    def _end(self, starters: Starters, mode: Mode, entries: list[Entry]) -> None:
        codes = {entry["id"]: code_of(entry["number"]) for entry in entries}
        began = time.monotonic()
        mode.stopped = starters.stop(list(codes))
        stopped = time.monotonic()
        removed = starters.remove(list(codes))
        mode.stop_rate = len(codes) / (stopped - began)
        mode.remove_rate = len(removed) / (time.monotonic() - stopped)
        wrong = [
            entry
            for entry in mode.stopped
            if (entry["status"], entry["code"]) != ("exited", codes[entry["id"]])
        ]
        if wrong or len(mode.stopped) != len(codes):
            self._fail(f"{len(wrong)} of {len(codes)} ended otherwise: {wrong[:3]}")

    def _settle(self, mode: Mode, name: str, starters: Starters, before: leftovers.Facts) -> None:
        after = leftovers.settle(before, self.state, starters.pids, len(mode.started))
        for what, how in after["changes"].items():
            self._fail(f"{name}: the host is not as before: {what}: {how}")
        mode.settled[name] = {
            "seconds": after["seconds"],
            "changed": len(after["changes"]),
            **{what: after[what] - before[what] for what in leftovers.ROUGH},
        }


def listing(state: Path, words: str, headings: int) -> Entry:
    """One `minibox ps`: milliseconds of CPU, its own and the kernel's for it, and of wall time."""
    began = time.perf_counter()
    argv = [COMMAND, "--root", state, *words.split()]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    if process.returncode:
        raise Stuck(f"minibox {words}: exit code {process.returncode}")
    return {
        "ids": [line.split()[0] for line in text.splitlines()[headings:]],
        "cpu": (usage.ru_utime + usage.ru_stime) * 1e3,
        "user": usage.ru_utime * 1e3,
        "wall": wall * 1e3,
    }


def clear(state: Path) -> None:
    """Whatever still lives of this run: a container ends with its monitor."""
    store = Store(str(state))
    for id_ in store.ids():
        try:
            run = store.directory(id_).read("run.json") or {}
        except StateError:
            continue
        kill(run.get("monitor", 0), run.get("monitor_start_time", 0))
    deadline = time.monotonic() + GONE_WITHIN
    while (left := leftovers.descendants(os.getpid())) and time.monotonic() < deadline:
        reap()
        time.sleep(0.02)
    if left:
        print(f"load: left behind: {sorted(left)}", file=sys.stderr)


def kill(pid: int, began: int) -> None:
    """SIGKILL for a process, if the one with this pid is still the one that began then."""
    try:
        pidfd = core.pidfd_open(pid) if pid > 0 else -1
    except OSError:
        return
    if pidfd < 0:
        return
    try:
        if start_time(pid) == began:
            core.pidfd_send_signal(pidfd, SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


def adopt() -> None:
    """Orphans below this process become its children: then all that this run has made can be
    found, and no other (PR_SET_CHILD_SUBREAPER)."""
    import ctypes

    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def machine(state: Path) -> dict[str, str]:
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": f"{os.cpu_count()} x {cpu_model()}",
        "python": platform.python_version(),
        "state on": file_system(state),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def file_system(path: Path) -> str:
    """The type of the file system there (proc_pid_mountinfo(5))."""
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split()[2] == number:
            return rest.split()[0]
    return "unknown"


def options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--containers", type=int, default=1000, help="alive at once [1000]")
    parser.add_argument("--rootfs", type=Path, default=HERE.parent / "rootfs")
    parser.add_argument(
        "--state", type=Path, default=SHM, help="where its state lies [%(default)s]"
    )
    parser.add_argument("--net", default="none", help="their network [%(default)s]")
    parser.add_argument("--out", type=Path, help="for both files [out for .json, here for .svg]")
    given = parser.parse_args(words)
    if not 2 * WINDOW <= given.containers <= 8000:
        parser.error(f"--containers: {2 * WINDOW} to 8000")
    return given


def interrupted(number: int, _: object) -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # one end at a time
    sys.exit(128 + number)


def main(words: Sequence[str] | None = None) -> int:
    given = options(words)
    if os.geteuid() != 0:
        print("load: it needs root: /proc/PID/smaps_rollup of the monitors", file=sys.stderr)
        return 1
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    adopt()
    if given.net != "none":
        # A host of its own: no interface, rule or sysctl of this machine's is touched.
        core.syscall(NUMBERS["unshare"], CLONE_NEWNET)
    try:
        with (
            own_rootfs(given.rootfs.resolve()) as (_, rootfs),
            tempfile.TemporaryDirectory(prefix="load-", dir=given.state) as state,
        ):
            run = Run(Path(state), rootfs, given.containers, given.net)
            try:
                for processes in (ONE, SEVERAL):
                    print(f"load: {given.containers}, {processes} at a time", file=sys.stderr)
                    run.mode(processes)
            finally:
                clear(run.state)
    except (NotMeasured, Stuck) as error:
        print(f"load: {error}", file=sys.stderr)
        return 1
    load = run.load
    load.machine["load after"] = f"{os.getloadavg()[0]:.2f}"
    name = "load" if given.net == "none" else f"load-{given.net}"
    write(load, name, given.out or HERE / "out", given.out or HERE)
    facts = load.machine
    shown = (facts["kernel"], facts["cpu"], facts["date"], f"load {facts['load before']}")
    print(*shown, f"state on {facts['state on']}", sep=", ", end="\n\n")
    print(plain_table(rows(load)), summary(load), sep="\n", end="")
    for failure in load.failures:
        print(f"load: {failure}", file=sys.stderr)
    return 1 if load.failures else 0


if __name__ == "__main__":
    sys.exit(main())
