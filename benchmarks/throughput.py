# SPDX-License-Identifier: Apache-2.0
"""TCP from container to container, and from container to host, over minibox's bridge and over
podman's: iperf3 in the same tree, each on a host of its own (a network namespace), in turns.

Run as root by the Python that minibox is installed for, where iperf3 and podman are installed:
make throughput.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import BIN, HERE, HOST, SECLUDED, podman
from report import Row, plain_table
from sampler import NotMeasured

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDS = 11
SECONDS = 1
MOST = 1.05  # podman's throughput to ours
WITHIN = 20.0


def with_iperf3(tree: Path) -> Path:
    """A copy of the bundled root file system with iperf3 and what it is linked to."""
    shutil.copytree(HERE.parent / "rootfs", tree, symlinks=True)
    program = shutil.which("iperf3")
    if program is None:
        raise NotMeasured("iperf3 is not installed")
    words = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    files = [program, *(word for word in words.split() if word.startswith("/"))]
    for file in files:
        target = tree / file.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return tree


class Contestant:
    """A runtime on a host of its own, with a server in a container and one beside it."""

    def __init__(self, name: str, host: str, run: Sequence[str | Path], tree: Path) -> None:
        self.name = name
        self.run = [str(word) for word in run]
        self.tree = str(tree)
        script = f"ip link set lo up; {host}"
        argv = ["unshare", "--net", "--mount", "sh", "-c", script, "sh"]
        self.host = subprocess.Popen(
            [*argv, "sh", "-c", "echo ready; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.host.stdout
        if self.host.stdout.readline() != b"ready\n":
            raise NotMeasured(f"no host for {name}")
        self.servers: list[subprocess.Popen[bytes]] = []
        self.targets: dict[str, str] = {}

    def enter(self, *words: str) -> list[str]:
        return ["nsenter", "-t", str(self.host.pid), "-n", "-m", "--", *words]

    def inside(self, *words: str) -> list[str]:
        return self.enter(*self.run, self.tree, *words)

    def begin(self) -> None:
        """Start both servers, and learn where they are."""
        script = "hostname -i; ip route; echo .; exec iperf3 -s"
        server = subprocess.Popen(
            self.inside("sh", "-c", script), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.servers.append(server)
        assert server.stdout
        address = server.stdout.readline().split()[0].decode()
        while (row := server.stdout.readline().decode()) not in (".\n", ""):
            if row.startswith("default"):
                self.targets["container to host"] = row.split()[2]
        self.targets["container to container"] = address
        beside = self.enter("iperf3", "-s")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.servers.append(subprocess.Popen(beside, **quiet))  # type: ignore[call-overload]

    def measure(self, what: str) -> float:
        """Gbit/s. NotMeasured."""
        words = ("iperf3", "-c", self.targets[what], "-t", str(SECONDS), "-J")
        deadline = time.monotonic() + WITHIN
        while True:  # a server that has just started does not listen yet
            done = subprocess.run(
                self.inside(*words), capture_output=True, timeout=WITHIN, check=False
            )
            try:
                found = json.loads(done.stdout)
                return float(found["end"]["sum_received"]["bits_per_second"]) / 1e9
            except (ValueError, KeyError):
                if time.monotonic() > deadline:
                    text = (done.stdout + done.stderr).decode(errors="replace").strip()
                    raise NotMeasured(f"{self.name}, {what}: {text[-200:]}") from None

    def close(self) -> None:
        for server in self.servers:
            server.terminate()
            server.wait()
        assert self.host.stdin
        self.host.stdin.close()
        self.host.wait()


def rows(contestants: list[Contestant], rounds: int) -> list[Row]:
    found = []
    for what in ("container to container", "container to host"):
        samples = {one.name: [] for one in contestants}  # type: dict[str, list[float]]
        for turn in range(rounds):
            for one in contestants[:: 1 if turn % 2 else -1]:
                samples[one.name].append(one.measure(what))
        ours, theirs = (samples[one.name] for one in contestants)
        row = Row(f"TCP {what}: podman / minibox", "x", limit=MOST)
        row.value = statistics.median(theirs) / statistics.median(ours)
        each = [their / our for our, their in zip(ours, theirs, strict=True)]
        row.low, _, row.high = statistics.quantiles(each, n=4)
        row.note = f"minibox {statistics.median(ours):.1f} Gbit/s"
        found.append(row)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds: int = parser.parse_args().rounds
    contestants: list[Contestant] = []
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        try:
            tree = with_iperf3(directory / "ours")
            ours = [BIN / "minibox", "run", "--net", "bridge"]
            contestants.append(Contestant("minibox", HOST, ours, tree))
            copy = with_iperf3(directory / "theirs")
            words = podman(copy, directory, "bridge")[:-2]
            contestants.append(Contestant("podman", SECLUDED, words, copy))
            for one in contestants:
                one.begin()
            print(plain_table(rows(contestants, rounds)))
        except (NotMeasured, OSError) as error:
            print(f"not measured: {error}", file=sys.stderr)
            return 1
        finally:
            for one in contestants:
                one.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
