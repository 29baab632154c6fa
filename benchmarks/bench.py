# SPDX-License-Identifier: Apache-2.0
"""How fast minibox is, against the kernel's own floor and against its peers.

Every number that has a target is a ratio (or a difference) of two medians out of one run, in which
the samples of all contestants are interleaved in random order: what else the machine does hits
all of them alike. Milliseconds are printed for orientation; they are this machine's, now.

Run as root by the Python that minibox is installed for: `make bench`.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import COLD, Outcome, Row, plain_table, write
from sampler import COMMAND, NotMeasured, Sampler, interleave, last_line, worker

from minibox.seccomp import ready_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sampler import Samples, Task, Words

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
BALLAST = 4 << 30
# The peers have no network but lo, or what their own default is makes none.
MINIBOX = [BIN / "minibox", "run", "--net", "none"]
NO_CGROUPS = "--cgroup-manager=disabled"

# crun refuses a host with both cgroup hierarchies, and podman writes to /etc, /run and /dev/shm
# whatever its options say. Both run where none of that is the host's: in a mount namespace with
# cgroup2 alone and empty directories. They make no cgroups there, which is in their favour.
SECLUDED = """
set -e
if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
    umount -R -l /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
for directory in /run /dev/shm /etc/containers /etc/cni /var/lib; do
    [ ! -d "$directory" ] || mount -t tmpfs tmpfs "$directory"
done
exec "$@"
"""


# A host for networks: no interface, rule or sysctl of this machine's is touched.
HOST = """
set -e
mount -t tmpfs tmpfs /run
exec "$@"
"""


# Contestants.


def secluded(argv: Sequence[str | Path]) -> Words:
    return ["unshare", "--mount", "sh", "-c", SECLUDED, "sh", *argv]


def another_host(argv: Sequence[str | Path]) -> Words:
    return ["unshare", "--net", "--mount", "sh", "-c", HOST, "sh", *argv]


def build_floor(directory: Path) -> Path:
    """The floor, compiled. NotMeasured."""
    program = directory / "floor"
    words = [os.environ.get("CC", "cc"), "-std=gnu11", "-Wall", "-Wextra", "-O2"]
    try:
        done = subprocess.run(
            [*words, "-o", program, HERE / "floor.c"], capture_output=True, check=False
        )
    except OSError as error:
        raise NotMeasured(f"no C compiler: {error}") from None
    if done.returncode:
        raise NotMeasured(f"floor.c: {last_line(done.stderr) or 'it does not compile'}")
    return program


def bwrap(rootfs: Path) -> Words:
    """bubblewrap with what minibox does by default, as far as it can: no idmapped files, no
    sysfs, no mqueue."""
    options = "--unshare-all --die-with-parent --new-session --as-pid-1 --uid 0 --gid 0"
    mounts = "--proc /proc --dev /dev --chdir / --hostname minibox"
    return ["bwrap", *options.split(), "--bind", rootfs, "/", *mounts.split(), COMMAND]


def unshare(rootfs: Path) -> Words:
    options = "--mount --pid --uts --ipc --net --cgroup --user --map-root-user --fork --kill-child"
    return ["unshare", *options.split(), "--mount-proc", f"--root={rootfs}", COMMAND]


def bundle(tool: str, rootfs: Path, directory: Path) -> Path:
    """An OCI bundle as the tool itself would begin one, with the command in it. NotMeasured."""
    directory.mkdir()
    done = subprocess.run([tool, "spec"], cwd=directory, check=False, capture_output=True)
    file = directory / "config.json"
    if not file.exists():
        raise NotMeasured(f"{tool} spec: {last_line(done.stderr)}")
    config = json.loads(file.read_text())
    config["process"] |= {"args": [COMMAND], "terminal": False}
    config["root"]["path"] = str(rootfs)
    file.write_text(json.dumps(config))
    return directory


def oci(tool: str, rootfs: Path, directory: Path, *options: str) -> Words:
    state = directory / f"{tool}-state"
    where = bundle(tool, rootfs, directory / f"{tool}-bundle")
    return [tool, "--root", state, *options, "run", "--bundle", where, f"bench-{os.getpid()}"]


def podman(rootfs: Path, directory: Path, network: str = "none") -> Words:
    """Podman with a directory for a root, and no state outside of ours."""
    home = directory / f"podman-{network}"
    own: Words = ["--root", home / "root", "--runroot", home / "runroot", "--tmpdir", home / "tmp"]
    drivers = "--storage-driver vfs --events-backend none --cgroup-manager cgroupfs --runtime crun"
    # Its default limits are above what a host without CAP_SYS_RESOURCE may set.
    limits = "--ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --cgroups=disabled"
    run: Words = [
        "run",
        "--rm",
        f"--network={network}",
        *limits.split(),
        "--rootfs",
        rootfs,
        COMMAND,
    ]
    return ["podman", *own, *drivers.split(), *run]


# A run.


def ratio(row: Row, samples: Samples, left: str, right: str, reasons: Mapping[str, str]) -> Row:
    """Fill a row with the ratio of two contestants' medians."""
    missing = [name for name in (left, right) if name not in samples]
    if missing:
        row.note = f"{missing[0]}: {reasons.get(missing[0], 'not installed')}"
        return row
    row.left, row.right = statistics.median(samples[left]), statistics.median(samples[right])
    row.value = row.left / row.right
    each = [a / b for a, b in zip(samples[left], samples[right], strict=True)]
    row.low, _, row.high = statistics.quantiles(each, n=4)
    return row


class Bench:
    """The parts of a run; each adds its rows and samples to the outcome."""

    def __init__(self, rootfs: Path, directory: Path, samples: int, warm_up: int) -> None:
        self.rootfs = rootfs
        self.directory = directory
        self.rounds = samples
        self.warm_up = warm_up
        self.outcome = Outcome(machine())
        self.reasons: dict[str, str] = {}

    def measure(self, tasks: Mapping[str, Task], suffix: str = "") -> Samples:
        samples = interleave(tasks, self.rounds, self.warm_up, self.reasons)
        self.outcome.samples |= {name + suffix: taken for name, taken in samples.items()}
        return samples

    def add(self, row: Row, samples: Samples, left: str, right: str) -> None:
        self.outcome.rows.append(ratio(row, samples, left, right, self.reasons))

    def warm(self) -> None:
        """A container out of a program that is running already."""
        floor, its_filter = build_floor(self.directory), ready_path(os.uname().machine)
        with (
            Sampler([floor, "0", self.rootfs, its_filter, COMMAND]) as floor_process,
            Sampler(worker(self.rootfs)) as library,
            Sampler(worker(self.rootfs)) as other,
        ):
            tasks = {"floor": floor_process.ask, "library": library.call()}
            if shutil.which("bwrap"):
                tasks["bwrap from Python"] = other.task(bwrap(self.rootfs))
            samples = self.measure(tasks)
        row = Row("warm library call / floor in C", "x", limit=1.3, required=True)
        self.add(row, samples, "library", "floor")
        row = Row("warm library call / bwrap from Python", "x", limit=1, strictly=True)
        self.add(row, samples, "library", "bwrap from Python")

    def protection(self) -> None:
        """The same container with its walls taken down, as far as options can: with ids of its own,
        and with the host's, which runs the plan in a process of its own."""
        off = {
            "cap_add": ["ALL"],
            "security_opt": [
                *("seccomp=unconfined", "systempaths=unconfined", "no-new-privileges=false"),
            ],
        }
        host = {**off, "userns": "host", "cap_add": held_capabilities()}
        with (
            Sampler(worker(self.rootfs)) as safe,
            Sampler(worker(self.rootfs)) as bare,
            Sampler(worker(self.rootfs)) as hosts,
        ):
            tasks = {"library, default": safe.call(), "all off": bare.call(**off)}
            tasks["all off, host's ids"] = hosts.call(**host)
            samples = self.measure(tasks)
        for other in ("all off", "all off, host's ids"):
            row = Row(f"warm library call, default / {other}", "x", limit=1.5)
            self.add(row, samples, "library, default", other)

    def large_parent(self) -> None:
        """The same out of a program that holds 4 GiB."""
        row = Row("warm library call, parent of 4 GiB / small", "x", limit=1.1)
        if available_memory() < BALLAST + (1 << 30):
            row.note = "it needs 5 GiB of free memory"
            self.outcome.rows.append(row)
            return
        with (
            Sampler(worker(self.rootfs)) as small,
            Sampler(worker(self.rootfs, BALLAST)) as large,
        ):
            tasks = {"library, small": small.call(), "library, 4 GiB": large.call()}
            samples = self.measure(tasks)
        self.add(row, samples, "library, 4 GiB", "library, small")

    def cold(self) -> None:
        """A container out of a shell: the command line from its first instruction on."""
        with (
            Sampler(worker(self.rootfs)) as plain,
            Sampler(secluded(worker(self.rootfs))) as apart,
        ):
            samples = self.measure(self._cold_tasks(plain, apart), COLD)
        row = Row("minibox run / runc run", "x", limit=0.75)
        self.add(row, samples, "minibox", "runc")
        self._minus_python(samples)
        for peer in ("crun", "podman", "bwrap", "unshare"):
            self.add(Row(f"minibox run / {peer}", "x"), samples, "minibox", peer)

    def _cold_tasks(self, plain: Sampler, apart: Sampler) -> dict[str, Task]:
        tasks = {
            "python": plain.task([sys.executable, "-I", "-c", "pass"]),
            "minibox": plain.task([*MINIBOX, self.rootfs, COMMAND]),
        }
        peers: dict[str, tuple[Sampler, Callable[[], Words]]] = {
            "runc": (plain, lambda: oci("runc", self.rootfs, self.directory)),
            "crun": (apart, lambda: oci("crun", self.rootfs, self.directory, NO_CGROUPS)),
            "podman": (apart, lambda: podman(self.rootfs, self.directory)),
            "bwrap": (plain, lambda: bwrap(self.rootfs)),
            "unshare": (plain, lambda: unshare(self.rootfs)),
        }
        for name, (sampler, words) in peers.items():
            if shutil.which(name):
                try:
                    tasks[name] = sampler.task(words())
                except NotMeasured as error:
                    self.reasons[name] = str(error)
        return tasks

    def _minus_python(self, samples: Samples) -> None:
        row = Row("minibox run - python -I -c pass", " ms", limit=15)
        ratio(row, samples, "minibox", "python", self.reasons)
        if row.left is not None and row.right is not None:
            row.value = row.left - row.right
            each = [a - b for a, b in zip(samples["minibox"], samples["python"], strict=True)]
            row.low, _, row.high = statistics.quantiles(each, n=4)
        self.outcome.rows.append(row)

    def network(self) -> None:
        """The same with a bridge network, on hosts of their own."""
        with (
            Sampler(another_host(worker(self.rootfs))) as ours,
            Sampler(another_host(secluded(worker(self.rootfs)))) as theirs,
        ):
            cold = [BIN / "minibox", "run", "--net", "bridge", self.rootfs, COMMAND]
            without = [*MINIBOX, self.rootfs, COMMAND]
            tasks = {
                "library, no network": ours.call(),
                "library, bridge": ours.call(net="bridge"),
                "minibox, bridge": ours.task(cold),
                "minibox, no network": ours.task(without),
            }
            if shutil.which("podman"):
                words = podman(self.rootfs, self.directory, "bridge")
                tasks["podman, bridge"] = theirs.task(words)
            samples = self.measure(tasks)
        row = Row("warm library call, bridge / no network", "x", limit=2.0)
        self.add(row, samples, "library, bridge", "library, no network")
        row = Row("minibox run / podman, both with a bridge", "x", limit=0.35)
        self.add(row, samples, "minibox, bridge", "podman, bridge")
        row = Row("minibox run, bridge / no network", "x")
        self.add(row, samples, "minibox, bridge", "minibox, no network")

    def memory(self) -> None:
        """What the supervisor of a container that runs keeps for itself."""
        row = Row("memory (PSS) of minibox run, waiting", " MiB", limit=16)
        try:
            sizes = supervisor_memory([*MINIBOX, self.rootfs, "/bin/sleep", "60"])
            row.value = sizes["Pss"]
            row.note = f"of that its own alone {sizes['Private']:.1f} MiB; RSS {sizes['Rss']:.1f}"
        except NotMeasured as error:
            row.note = str(error)
        self.outcome.rows.append(row)


def held_capabilities() -> list[str]:
    """What this process could hand on: the host's root may lack some here."""
    from minibox import host
    from minibox.spec import CAPABILITIES

    held = host.probe().capabilities
    # With these two it would be put into a device cgroup.
    walls = ("MKNOD", "SYS_ADMIN")
    names = [name for number, name in enumerate(CAPABILITIES) if held >> number & 1]
    return [name for name in names if name not in walls]


def supervisor_memory(argv: Sequence[str | Path]) -> dict[str, float]:
    """MiB by kind (proc_pid_smaps_rollup) once the container's command runs. NotMeasured."""
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        until = time.monotonic() + 10
        while not runs_command(process.pid, "sleep"):
            if process.poll() is not None:
                assert process.stderr
                raise NotMeasured(last_line(process.stderr.read()) or "it has ended")
            if time.monotonic() > until:
                raise NotMeasured("the command has not started in 10 seconds")
            time.sleep(0.01)
        time.sleep(0.1)
        return smaps(process.pid)
    finally:
        # The container has a lifeline to the supervisor: it ends with it.
        process.kill()
        process.communicate()


def runs_command(pid: int, name: str) -> bool:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return any(Path(f"/proc/{child}/comm").read_text().strip() == name for child in children)
    except OSError:
        return False


def smaps(pid: int) -> dict[str, float]:
    sizes: dict[str, float] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        key, value = line.split()[:2]
        sizes[key.rstrip(":")] = int(value) / 1024
    sizes["Private"] = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return sizes


# Facts.


def available_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def version_of(tool: str) -> str:
    try:
        done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return "not installed"
    return (done.stdout.strip().splitlines() or ["unknown"])[0]


def machine() -> dict[str, str]:
    tools = ("runc", "crun", "podman", "bwrap", "unshare")
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": f"{os.cpu_count()} x {cpu_model()}",
        "python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.2f}",
        **{tool: version_of(tool) for tool in tools},
    }


# The program.


def options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=60, help="of each contestant [60]")
    parser.add_argument("--warm-up", type=int, default=5, help="samples that are dropped [5]")
    parser.add_argument("--quick", action="store_true", help="30 samples")
    parser.add_argument("--rootfs", type=Path, default=HERE.parent / "rootfs")
    parser.add_argument("--out", type=Path, default=HERE / "out")
    given = parser.parse_args(words)
    if given.quick:
        given.samples = 30
    if given.samples < 2:
        parser.error("--samples: at least 2 make a median with quartiles")
    return given


@contextlib.contextmanager
def own_rootfs(rootfs: Path) -> Iterator[tuple[Path, Path]]:
    """A temporary directory and in it a copy of the root file system: peers write to theirs."""
    if not os.path.lexists(f"{rootfs}{COMMAND}"):
        raise NotMeasured(f"{rootfs} has no {COMMAND} (make setup)")
    with tempfile.TemporaryDirectory(prefix="minibox-bench-") as name:
        copy = Path(name) / "rootfs"
        shutil.copytree(rootfs, copy, symlinks=True)
        # mkdtemp gives 0700, and the containers' ids are nobody's here.
        os.chmod(name, 0o755)
        yield Path(name), copy


def complete(outcome: Outcome) -> bool:
    missing = [row for row in outcome.rows if row.required and row.value is None]
    for row in missing:
        print(f"bench: {row.name}: not measured: {row.note}", file=sys.stderr)
    return not missing


def main(words: Sequence[str] | None = None) -> int:
    given = options(words)
    if os.geteuid() != 0:
        print("bench: it needs root, as its peers do", file=sys.stderr)
        return 1
    # Whatever ends this program, what it has started and written goes with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with own_rootfs(given.rootfs.resolve()) as (directory, rootfs):
            bench = Bench(rootfs, directory, given.samples, given.warm_up)
            for part in (
                bench.warm,
                bench.protection,
                bench.large_parent,
                bench.cold,
                bench.network,
                bench.memory,
            ):
                print(f"bench: {part.__doc__}", file=sys.stderr)
                part()
    except NotMeasured as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    outcome = bench.outcome
    outcome.machine["load after"] = f"{os.getloadavg()[0]:.2f}"
    write(outcome, given.out)
    facts = outcome.machine
    print(f"{facts['kernel']}, {facts['cpu']}, {facts['date']}, load {facts['load before']}\n")
    print(plain_table(outcome.rows), end="")
    return 0 if complete(outcome) else 1


if __name__ == "__main__":
    sys.exit(main())
