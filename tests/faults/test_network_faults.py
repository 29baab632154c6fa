# SPDX-License-Identifier: Apache-2.0
"""A start with a network that fails at any step, or whose command is killed at any of its calls,
leaves no interface, address, port or name that nobody has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from tests.conftest import COMMAND
from tests.system.hosts import Site

sys.path.append(str(Path(__file__).parent))
import kept

NEVER = {
    "brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "futex", "exit_group", "rt_sigreturn",
    "rt_sigaction", "rt_sigprocmask", "getpid", "gettid", "close", "execve", "clone3", "wait4",
}  # fmt: skip
NETLINK = {"socket", "sendto", "recvfrom", "symlink", "unlink", "readlink", "rename", "bind"}
ERRORS = ("EIO", "ENOMEM", "EMFILE", "ENOBUFS", "EPERM", "EINTR")

# Each step fails in turn; what is said otherwise than by the number of that step, or left.
EACH_STEP = """
import os, sys, time
from minibox import host, request, supervisor
from minibox.compile import compile
from minibox.errors import MiniboxError, SetupError
from minibox.network.wiring import Wiring

root, rootfs = sys.argv[1:]
here = host.probe()
wiring = Wiring(root, {"net": ["bridge", "lan"], "publish": ["8080:80"]}, "box")
wiring.take(str)
spec = request.build(["/bin/true"], rootfs, wiring.options, here, (), wiring.wired())
plan = compile(spec, here)
for step, op in enumerate(plan.steps):
    broken = plan.failing_at(step, 9999)
    try:
        process = supervisor.start(spec, broken, here, broken.encode(), {}, plug=wiring.plug_in)
        try:
            process.started()
            print(step, op.call, "succeeds")
        finally:
            process.close()
    except SetupError as error:
        if error.step != step + 1 and op.call != "execve":
            print(step, op.call, error)
end = time.monotonic() + 10
while any(name.startswith("mbv") for name in os.listdir("/sys/class/net")):
    assert time.monotonic() < end, os.listdir("/sys/class/net")
    time.sleep(0.01)
wiring.release()
print(len(plan.steps) > 100)
"""


def nothing_is_held(site):
    networks = site.root / "networks"
    left = [str(path) for path in networks.glob("*/leases/*")]
    left += [str(path) for path in networks.glob("*/hosts/*")]
    left += [str(path) for path in (site.root / "ports").glob("*") if path.name != "lock"]
    return [*left, *re.findall(r"tcp \\. 8080.*", site.sh("nft list ruleset"))]


def test_each_step_that_fails_is_named_and_leaves_nothing(site):
    site.do("network", "create", "lan")
    python = COMMAND.with_name("python")
    done = subprocess.run(
        site.enter(python, "-c", EACH_STEP, site.root, site.rootfs),
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"True\n", b""), done
    assert nothing_is_held(site) == []


class Command:
    """`minibox run …` with two networks and a port, at one of whose calls something happens."""

    def __init__(self, site, words, trace):
        self.site = site
        self.trace = trace
        self.line = [
            *(*words, "--net", "bridge", "--net", "lan", "-p", "8080:80"),
            *(site.rootfs, "sleep", "0"),
        ]
        site.do("network", "create", "lan")
        # The first time is another one: the bridges are made.
        site("run", "--net", "bridge", "--net", "lan", "-p", "8080:80", site.rootfs, "true")
        assert self.run().returncode == 0
        self.calls = [one for one in kept.calls(trace, str(site.root)) if one.name not in NEVER]
        assert len(self.calls) > 50

    def run(self, *strace):
        """The command under strace, all of it but the container."""
        words = Site.__mro__[1].words(self.site, *self.line)
        argv = self.site.enter("strace", "-o", self.trace, *strace, *words)
        return subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)

    def struck(self, call, what):
        """Its end, when `what` has happened to it at this call; nothing of it is left then, and the
        same command works."""
        site = self.site
        site("rm", "-f", "one")
        fault = f"inject={call.name}:{what}:when={call.number}"
        done = self.run("-e", f"trace={call.name}", "-e", fault)
        site("rm", "-f", "one")
        again = site(*self.line)
        assert (again.returncode, again.stderr) == (0, b""), (call, again)
        site("rm", "-f", "one")
        site.do("gc")
        assert kept.until(lambda: not kept.descendants() - {site.host.pid}), call
        assert nothing_is_held(site) == [], call
        return done

    def left(self):
        """Interfaces and containers, after all of them."""
        assert kept.until(lambda: "mbv" not in self.site.sh("ls /sys/class/net"))
        return os.listdir(self.site.root / "containers")


WORDS = [("run", "-d", "--name", "one"), ("run",)]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_killed_at_each_of_its_system_calls(site, tmp_path, words):
    """The next command with the same port works, whatever the killed one has left."""
    command = Command(site, words, tmp_path / "trace")
    for call in command.calls[:: kept.every(30)]:
        done = command.struck(call, "signal=KILL")
        assert done.returncode in (-9, 137), (call, done)
    assert command.left() == []


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_each_failing_call_is_one_message(site, tmp_path, message, words):
    """Or the command can do without it. What speaks to the kernel's network is always tried."""
    command = Command(site, words, tmp_path / "trace")
    rest = [call for call in command.calls if call.name not in NETLINK]
    spoken = [call for call in command.calls if call.name in NETLINK]
    for call in [*spoken[:: kept.every(9)], *rest[:: kept.every(80)]]:
        error = ERRORS[(zlib.crc32(call.name.encode()) + call.number) % len(ERRORS)]
        done = command.struck(call, f"error={error}")
        if done.returncode:
            assert done.returncode in (125, 126, 127), (call, done)
            assert not message(done.stderr), (call, done)
        else:
            assert done.stderr == b"", (call, done)
    assert command.left() == []


# Half of them are killed while they run, and every tenth with the process that has started it.
MANY = """
import os, signal, sys, warnings, minibox
warnings.simplefilter("ignore")
rootfs, count = sys.argv[1], int(sys.argv[2])
def start():
    words = ["/bin/sh", "-c", "echo; exec sleep 1000"]
    return minibox.Container(words, rootfs=rootfs, net="bridge", publish=["8080:80"],
                             stdout="pipe", stderr="null").start()
for k in range(count):
    if k % 10 == 0:
        pid = os.fork()
        if pid == 0:
            held = start()
            held.stdout.read(1)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
        continue
    container = start()
    if k % 2:
        container.stdout.read(1)
        container.kill()
        assert container.wait().signal == 9
    container.close()
"""


def test_five_hundred_starts_and_kills_leave_the_host_as_it_was(site):
    python = COMMAND.with_name("python")

    def run(count):
        done = subprocess.run(
            site.enter(python, "-c", MANY, site.rootfs, count), capture_output=True, timeout=120
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), done
        site.sh(f"{COMMAND} gc")
        assert kept.until(lambda: not kept.descendants() - {site.host.pid})
        assert kept.until(lambda: "mbv" not in site.sh("ls /sys/class/net"))
        # A bridge says a moment later that it has no carrier any more.
        assert kept.until(lambda: "NO-CARRIER" in site.sh("ip -o link show minibox0"))

    def host():
        """Links, addresses, neighbours, routes, rules, leases; what would hold a namespace."""
        return site.sh(
            "ip -o link; ip -o -4 addr; ip neigh | grep -v FAILED || :; ip route; ip rule;"
            " nft list ruleset; ls /run/minibox/networks/bridge/leases /run/minibox/ports;"
            " grep nsfs /proc/mounts || :"
        )

    run(2)
    before = host()
    run(500)
    assert host() == before
