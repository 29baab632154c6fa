# SPDX-License-Identifier: Apache-2.0
"""The machine: brought up and destroyed by Vagrant, spoken to by ssh."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import time
from pathlib import Path

from steps import Failed, output, run, say, step

TREE = Path(__file__).parents[2]
NAME = "near"
# Emulated, a minute is usual. QEMU 7.2 may go on running kernel code as it was before another
# processor patched it, an int3, for ever: so it was seen in one machine of some dozens.
FIRST_BOOT = 300


class Guest:
    """One machine of the Vagrantfile. `work` is for its state, `log` for what Vagrant says. Without
    a wheel it builds its own."""

    def __init__(
        self, box: Path, work: Path, log: Path, wheel: Path | None, model: str, *, has_kvm: bool
    ) -> None:
        self._box, self._work, self._log = box, work, log
        self._slow = 1 if has_kvm else 4  # limits below are for KVM
        self._ssh: list[str] = []
        self._environment = {
            **os.environ,
            "VAGRANT_HOME": str(work / "vagrant"),
            "VAGRANT_DOTFILE_PATH": str(work / "machine"),
            "VAGRANT_CWD": str(TREE),
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "VAGRANT_DEFAULT_PROVIDER": "libvirt",
            "VM_BOX": f"minibox-{box.name}",
            "VM_EMULATE": "0" if has_kvm else "1",
            "VM_CPU_MODEL": model,
            "VM_WHEEL": str(wheel.relative_to(TREE)) if wheel else "build",
        }

    def up(self) -> None:
        """Add the box, start the machine from it, provision it; twice, which shall do no harm."""
        with step("vagrant box add"):
            self._vagrant(
                "box", "add", "--name", self._environment["VM_BOX"], self._box / "minibox.box"
            )
        try:
            self._boot(FIRST_BOOT)
        except Failed as error:
            say(f"once more: {error}")
            self.destroy()
            self._boot(240 * self._slow)
        for again in ("", ", again"):
            with step("vagrant provision" + again):
                self._vagrant("provision", NAME, limit=120 * self._slow)
        config = self._work / "ssh"
        config.write_text(
            output(["vagrant", "ssh-config", NAME], 60 * self._slow, env=self._environment)
        )
        self._ssh = ["ssh", "-q", "-F", str(config), "-o", "ConnectTimeout=30", NAME]

    def _boot(self, limit: float) -> None:
        with step("vagrant up"):
            self._vagrant("up", "--no-provision", NAME, limit=limit)

    def words(self, script: str) -> list[str]:
        """A command here that runs a shell script there, as user vagrant in /vagrant."""
        return [*self._ssh, f"cd /vagrant && {script}"]

    def ask(self, script: str, limit: float = 60) -> str:
        """What a script prints. Raises Failed."""
        return output(self.words(script), limit * self._slow)

    def shell(self) -> int:
        """A login shell; its exit code."""
        return subprocess.call([self._ssh[0], "-t", *self._ssh[1:]])

    def reboot(self) -> None:
        """Let it boot again; nothing is told to end in good order."""
        before = self.ask("cat /proc/sys/kernel/random/boot_id")
        with contextlib.suppress(Failed):  # nobody is left there to close the connection
            self.ask("sudo systemctl reboot --force --force", 10)
        deadline = time.monotonic() + 120 * self._slow
        while time.monotonic() < deadline:
            try:
                if self.ask("cat /proc/sys/kernel/random/boot_id") != before:
                    return
            except Failed:
                time.sleep(1)
        raise Failed("the machine does not come back")

    def fetch(self, path: str, to: Path) -> bool:
        """Copy a file of it that root can read; whether there was one."""
        with to.open("wb") as file:
            done = subprocess.run(
                self.words(f"sudo cat {shlex.quote(path)}"), stdout=file, stderr=subprocess.PIPE
            )
        if done.returncode:
            to.unlink()
        return done.returncode == 0

    def destroy(self) -> None:
        with step("vagrant destroy"):
            self._vagrant("destroy", "-f", NAME, limit=120)

    def _vagrant(self, *words: object, limit: float = 300) -> None:
        run(["vagrant", *words], self._log, limit, env=self._environment, cwd=TREE)
