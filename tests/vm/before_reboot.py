# SPDX-License-Identifier: Apache-2.0
"""Before the machine is rebooted: containers, networks and limits that nobody will end. What they were
is written down for test_reboot.py.

usage: before_reboot.py      as root, in the machine of make vm-test
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

COMMAND = Path(sys.executable).with_name("minibox")
ROOTFS = "/vagrant/rootfs"
HERE = Path("/var/lib/minibox-reboot")  # on a disk, where /run is in memory


def minibox(*words: str) -> str:
    words = (str(COMMAND), "--root", str(HERE / "state"), *words)
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def main() -> None:
    HERE.mkdir()
    kept = ("run", "-d", "--memory", "64m")
    minibox(*kept, "--net", "none", "--name", "plain", ROOTFS, "sleep", "1000")
    minibox(
        *kept, "--net", "none", "--name", "always", "--restart", "always", ROOTFS, "sleep", "1000"
    )
    minibox("network", "create", "lan")
    minibox(
        "run", "-d", "--net", "lan", "--name", "networked", "-p", "8097:80", ROOTFS, "sleep", "1000"
    )
    minibox("run", "-d", "--net", "none", "--rm", "--name", "gone", ROOTFS, "sleep", "1000")
    minibox(
        "run", "-d", "--net", "none", "--volatile", "--name", "volatile", ROOTFS, "sleep", "1000"
    )
    minibox("create", "--net", "none", "--name", "created", ROOTFS, "true")
    minibox("run", "-d", "--net", "none", "--name", "paused", ROOTFS, "sleep", "1000")
    minibox("pause", "paused")
    names = minibox("ps", "-a", "--format", "{{.Names}}").split()
    facts = {
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "containers": {name: json.loads(minibox("inspect", name))[0] for name in names},
    }
    (HERE / "facts.json").write_text(json.dumps(facts))
    print(*names)


if __name__ == "__main__":
    main()
