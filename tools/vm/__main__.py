# SPDX-License-Identifier: Apache-2.0
"""make vm-test: the tests in a machine of their own. Its box is made if need be, Vagrant brings it
up in namespaces of our own, the tests run, and it is destroyed. Results come to out/vm/.

usage: python tools/vm ARCH [PYTEST'S ARGUMENTS]     instead of the selection
       python tools/vm ARCH --box                    make the box, no more
       python tools/vm ARCH --shell                  a shell in the machine instead of tests
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from pathlib import Path

import box
import host
import steps
from guest import TREE, Guest
from steps import Failed, say, step
from tests_inside import tests_inside

OUT = TREE / "out/vm"
PATIENCE = 8  # so many times slower is a machine without KVM


def main() -> int:
    """0 if all is well, 1 if a test fails, 2 if it does not come to the tests."""
    arch, *arguments = sys.argv[1:]
    if arch not in box.ARCHITECTURES:
        say(f"vm-test: {arch}: no box is made for it, only for {', '.join(box.ARCHITECTURES)}")
        return 2
    host.enter()
    box.CACHE.mkdir(parents=True, exist_ok=True)
    lock = (box.CACHE / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        say("another one is running: it has the lock on " + lock.name)
        return 2
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    try:
        made = box.box(arch)
        return 0 if arguments == ["--box"] else in_machine(made, arch, arguments)
    except Failed as error:
        say(f"vm-test: {error}")
        return 2
    except KeyboardInterrupt:
        say("vm-test: interrupted")
        return 130


def in_machine(made: Path, arch: str, arguments: list[str]) -> int:
    """Bring it up, run the tests, destroy it."""
    work, log = box.CACHE / "work", OUT / "log"
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    work.mkdir()
    try:
        is_ours = arch == box.our_arch()
        wheel = None
        if is_ours:
            with step("wheel"):
                wheel = build_wheel(log)
        with step("KVM or emulation"):
            has_kvm = is_ours and box.has_kvm(made)
        say("KVM works" if has_kvm else "KVM does not work here: emulation")
        host.leave_the_network()
        with step("libvirtd"):
            host.start_libvirt(work, OUT / "libvirtd.log")
        guest = Guest(made, work, log, wheel, box.CPU_MODELS[arch], has_kvm=has_kvm)
        try:
            guest.up()
            if arguments == ["--shell"]:
                return guest.shell()
            is_green = tests_inside(guest, OUT, arguments, 1 if has_kvm else PATIENCE)
        finally:
            guest.destroy()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    say("green" if is_green else f"not green, see {OUT}")
    return 0 if is_green else 1


def build_wheel(log: Path) -> Path:
    """dist/minibox-….whl of this tree."""
    shutil.rmtree(TREE / "dist", ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps"]
    steps.run([*pip, "--no-build-isolation", "--wheel-dir", TREE / "dist", TREE], log, 300)
    (wheel,) = (TREE / "dist").iterdir()
    return wheel


if __name__ == "__main__":
    os.chdir(TREE)
    sys.exit(main())
