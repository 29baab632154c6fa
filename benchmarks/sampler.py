# SPDX-License-Identifier: Apache-2.0
"""Taking samples: a process that answers each line with the time of one container.

Run as a program this is such a process: `sampler.py ROOTFS BYTES` holds BYTES of memory and reads
lines of JSON, the options of a library call as an object or the words of a command as a list.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    Task = Callable[[], float]
    Samples = dict[str, list[float]]
    Words = list[str | Path]

COMMAND = "/bin/true"
PAGE = 4096
# The kernel takes a network namespace down after its container has ended, on some CPU. The pause
# before each sample keeps the container before from being measured with this one.
PAUSE = 0.01
TIME_LIMIT = 60


class NotMeasured(Exception):
    """A contestant that does not run here, and why."""


class Sampler:
    """A long-lived process that answers a line with the nanoseconds of one sample, so that its
    own start is not counted and its caches are warm."""

    def __init__(self, argv: Sequence[str | Path]) -> None:
        self.process = subprocess.Popen(
            [str(word) for word in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, line: str = "") -> float:
        """One sample, in milliseconds."""
        assert self.process.stdin
        assert self.process.stdout
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline().strip()
        except BrokenPipeError:
            answer = ""
        if not answer.isdigit():
            raise NotMeasured(answer or "the process that takes the samples has ended")
        return int(answer) / 1e6

    def task(self, argv: Sequence[str | Path]) -> Task:
        """What takes a sample of this command."""
        line = json.dumps([str(word) for word in argv])
        return lambda: self.ask(line)

    def call(self, **options: str | list[str]) -> Task:
        """What takes a sample of a library call."""
        line = json.dumps(options)
        return lambda: self.ask(line)

    def __enter__(self) -> Sampler:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def worker(rootfs: str | Path, ballast: int = 0) -> Words:
    """The command line of a Sampler that is this program again."""
    return [sys.executable, "-I", __file__, rootfs, str(ballast)]


def work(rootfs: str, ballast: int) -> None:
    """The other end of a Sampler: library calls and commands, each timed from within."""
    import minibox

    held = bytearray(ballast)
    held[::PAGE] = b"\1" * len(range(0, ballast, PAGE))  # resident, not just promised
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            began = time.perf_counter_ns()
            if isinstance(asked, list):
                code, complaint = spawn(asked)
            else:
                result = minibox.run([COMMAND], rootfs=rootfs, **asked)
                code, complaint = result.exit_code, result.stderr
            took = time.perf_counter_ns() - began
        except (minibox.MiniboxError, OSError, subprocess.SubprocessError) as error:
            code, complaint = 125, str(error).encode()
        print(took if code == 0 else last_line(complaint) or f"exit code {code}", flush=True)


def spawn(argv: list[str]) -> tuple[int, bytes]:
    """What a Python program does that has no library: start the command, keep its output."""
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIME_LIMIT, check=False
    )
    return done.returncode, done.stderr or done.stdout


def last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


def interleave(
    tasks: Mapping[str, Task], rounds: int, warm_up: int, reasons: dict[str, str]
) -> Samples:
    """`rounds` samples of each task, one of each a round, the order of a round at random.

    A task that fails is left out, and why goes to `reasons`.
    """
    samples: Samples = {name: [] for name in tasks}
    dice = random.Random(0)
    for number in range(-warm_up, rounds):
        order = list(samples)
        dice.shuffle(order)
        for name in order:
            time.sleep(PAUSE)
            try:
                sample = tasks[name]()
            except NotMeasured as error:
                reasons[name] = str(error)
                del samples[name]
                continue
            if number >= 0:
                samples[name].append(sample)
    return samples


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]))
