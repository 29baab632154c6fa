# SPDX-License-Identifier: Apache-2.0
"""A host for the machine, beside this one: namespaces of its own with a libvirt of its own. Its
bridge, its DHCP server, its rules and its files are seen by nobody else, and the kernel ends all
that runs in there when the first process has ended, whatever it died of."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from steps import Failed

CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
PR_SET_PDEATHSIG = 1
MARK = "MINIBOX_VM_INSIDE"

# No cgroups, no other user, no mount namespaces: what libvirt would do about them is done already.
QEMU = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
"""
LIBVIRTD = 'auth_unix_rw = "none"\nauth_unix_ro = "none"\n'
SOCKET = Path("/run/libvirt/libvirt-sock")
EMPTY = ("/run", "/etc/libvirt", "/var/cache/libvirt", "/var/log/libvirt")


def enter() -> None:
    """Go on in a pid and a mount namespace of our own (unshare(1)). Their first process is killed
    with the one that has called us, and everything else with that (pid_namespaces(7)). Returns in
    its child; the first process itself reaps orphans, without which libvirtd waits for them."""
    if os.environ.get(MARK) != "1":
        unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--"]
        outer = subprocess.Popen(
            [*unshare, sys.executable, *sys.argv],
            env={**os.environ, MARK: "1"},
            preexec_fn=_die_with_us,  # noqa: PLW1509 (no threads)
        )
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells the worker itself
        signal.signal(signal.SIGTERM, lambda *_: outer.kill())  # unshare ignores SIGTERM
        code = outer.wait()
        os._exit(code if code >= 0 else 128 - code)
    worker = os.fork()
    if worker == 0:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        pid, status = os.wait()
        if pid == worker:
            os._exit(max(0, os.waitstatus_to_exitcode(status)) or int(os.WIFSIGNALED(status)))


def _die_with_us() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def leave_the_network() -> None:
    """A network namespace for us and what we start from now on, with a /sys that shows it."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise Failed(f"unshare(CLONE_NEWNET): {os.strerror(ctypes.get_errno())}")
    _do("ip", "link", "set", "lo", "up")
    _do("mount", "-t", "sysfs", "sysfs", "/sys")


def start_libvirt(work: Path, log: Path) -> subprocess.Popen[bytes]:
    """libvirtd, whose state is below `work` or in memory. Nothing of the host's own libvirt is
    read or written."""
    for path in EMPTY:
        os.makedirs(path, exist_ok=True)
        _do("mount", "-t", "tmpfs", "-o", "mode=755", "libvirt", path)
    state = work / "libvirt"
    state.mkdir()
    os.makedirs("/var/lib/libvirt", exist_ok=True)
    _do("mount", "--bind", str(state), "/var/lib/libvirt")
    Path("/etc/libvirt/qemu.conf").write_text(QEMU)
    Path("/etc/libvirt/libvirtd.conf").write_text(LIBVIRTD)
    with log.open("ab") as output:
        daemon = subprocess.Popen(
            ["libvirtd"], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    deadline = time.monotonic() + 60
    while not SOCKET.exists():
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise Failed(f"libvirtd does not listen, see {log}")
        time.sleep(0.1)
    return daemon


def _do(*words: str) -> None:
    subprocess.run(words, check=True)
