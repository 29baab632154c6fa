# SPDX-License-Identifier: Apache-2.0
"""What happens in the machine: a reboot in the middle of something, the tests, the lab."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from pathlib import Path

from guest import TREE, Guest
from steps import Failed, say, step

SELECTION = TREE / "tests/vm/selection"
LIMIT = 40 * 60
PYTHON = "/opt/minibox/bin/python"
# A unit with a part of the tree that systemd leaves to it, as services with containers have it.
UNIT = [
    *("sudo", "systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--unit=minibox-tests"),
    *("--property=Delegate=yes", "--property=WorkingDirectory=/vagrant"),
]
PYTEST = ["/opt/minibox/bin/pytest", "-q", "-p", "no:cacheprovider", "--basetemp=/var/tmp/pytest"]


def selected() -> list[str]:
    """The files that run inside: the first word of each line that is no comment."""
    lines = SELECTION.read_text().splitlines()
    return [line.split()[0] for line in lines if line and not line.startswith("#")]


def tests_inside(guest: Guest, out: Path, arguments: list[str], patience: float) -> bool:
    """Whether all is green. `arguments` are pytest's instead of the selection."""
    for line in guest.ask(FACTS).splitlines():
        say(line)
    if not arguments:
        with step("reboot in the middle"):
            guest.ask(f"sudo {PYTHON} tests/vm/before_reboot.py", 120)
            guest.reboot()
    words = [*UNIT, f"--setenv=MINIBOX_PATIENCE={patience}", *PYTEST, "--junitxml=/run/junit.xml"]
    with step("tests"):
        code = _watched(
            guest.words(shlex.join([*words, *(arguments or selected())])), out / "pytest.log"
        )
        guest.fetch("/run/junit.xml", out / "junit.xml")
    say((out / "pytest.log").read_text(errors="replace").rstrip().rpartition("\n")[2])
    has_lab = True if arguments else _lab(guest, out)
    return code == 0 and has_lab


FACTS = r"""
echo "kernel: $(uname -sr) $(uname -m)"
echo "init: $(systemctl --version | head -n 1)"
echo "cgroup: $(stat -fc %T /sys/fs/cgroup), $(cat /sys/fs/cgroup/cgroup.controllers)"
"""


def _watched(words: list[str], log: Path) -> int:
    """Run pytest; its output goes to the log, each tenth of its way to the terminal."""
    shown = 0
    deadline = time.monotonic() + LIMIT
    with (
        log.open("wb") as file,
        subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                file.write(line)
                file.flush()
                found = re.search(rb"\[ *(\d+)%\]$", line.rstrip())
                if found and int(found[1]) >= shown + 10:
                    shown = int(found[1])
                    say(f"tests: {shown} %")
                if time.monotonic() > deadline:
                    raise Failed(f"the tests did not end within {LIMIT} s")
        finally:
            process.kill()
    return process.returncode


WRONG = "an experiment went wrong"


def _lab(guest: Guest, out: Path) -> bool:
    """Whether all experiments could be made. What differs from the manual is a finding."""
    lab = f"sudo minibox lab run --all --report /run/lab.html || echo {WRONG}"
    with step("lab"):
        lines = guest.ask(lab, 300).splitlines()
        guest.fetch("/run/lab.html", out / "lab.html")
    for line in lines:
        if not line.startswith("holds"):
            say(f"lab: {line}")
    return WRONG not in lines
