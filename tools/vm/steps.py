# SPDX-License-Identifier: Apache-2.0
"""What a long run shows of itself: a line for each step with its seconds, the rest in a log."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

BEGAN = time.monotonic()


class Failed(Exception):
    """A step did not come to its end: the message is for people."""


def say(text: str) -> None:
    """A line, with the seconds since the beginning."""
    sys.stdout.write(f"[{time.monotonic() - BEGAN:5.0f} s] {text}\n")
    sys.stdout.flush()


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """`text …` when it begins, and how long it took when it has ended, well or not."""
    say(f"{text} …")
    begun = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"{text}: failed after {time.monotonic() - begun:.0f} s")
        raise
    say(f"{text}: {time.monotonic() - begun:.0f} s")


def run(words: Sequence[object], log: Path, limit: float, **how: object) -> None:
    """Run a command; its output goes to the end of `log`. After `limit` seconds it is killed with
    its process group. Raises Failed with the log's last lines."""
    with log.open("ab") as output:
        output.write(f"$ {' '.join(map(str, words))}\n".encode())
        output.flush()
        process = subprocess.Popen(
            [str(word) for word in words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **how,
        )
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        raise Failed(f"{words[0]} did not end within {limit:.0f} s, see {log}") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code:
        last = log.read_text(errors="replace").splitlines()[-15:]
        raise Failed("\n  ".join([f"{words[0]} ended with {code}, see {log}:", *last]))


def output(words: Sequence[object], limit: float = 60, **how: object) -> str:
    """What a command prints. Raises Failed."""
    try:
        done = subprocess.run(
            [str(word) for word in words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit,
            **how,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{words[0]} did not end within {limit:.0f} s") from None
    if done.returncode:
        raise Failed(f"{words[0]} ended with {done.returncode}: {done.stderr.decode().strip()}")
    return done.stdout.decode()
