# SPDX-License-Identifier: Apache-2.0
"""A start with a network that fails at any step, or whose command is killed at any of its calls,
leaves no interface, address, port or name that nobody has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import COMMAND
from tests.system.hosts import Site

sys.path.append(str(Path(__file__).parent))
import kept

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


@pytest.fixture
def site(tmp_path, rootfs, subreaper):
    made = Site(tmp_path / "state", rootfs)
    yield made
    made.close()


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


@pytest.mark.parametrize("words", [("run", "-d", "--name", "one"), ("run",)], ids=" ".join)
def test_killed_at_each_of_its_system_calls(site, tmp_path, words):
    """The next command with the same port works, whatever the killed one has left."""
    site.do("network", "create", "lan")
    # The first time is another one: the bridges are made.
    site("run", "--net", "bridge", "--net", "lan", "-p", "8080:80", site.rootfs, "true")
    trace = tmp_path / "trace"
    line = [*words, "--net", "bridge", "--net", "lan", "-p", "8080:80", site.rootfs, "sleep", "0"]

    def run(*strace):
        """The command under strace, all of it but the container."""
        argv = site.enter("strace", "-o", trace, *strace, *Site.__mro__[1].words(site, *line))
        return subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)

    assert run().returncode == 0
    calls = [one for one in kept.calls(trace, str(site.root)) if one.name != "exit_group"]
    assert len(calls) > 50
    for call in calls[:: kept.every(15)]:
        site("rm", "-f", "one")
        done = run(
            "-e", f"trace={call.name}", "-e", f"inject={call.name}:signal=KILL:when={call.number}"
        )
        assert done.returncode in (-9, 137), (call, done)
        site("rm", "-f", "one")
        again = site(*line)
        assert (again.returncode, again.stderr) == (0, b""), (call, again)
        site("rm", "-f", "one")
        site.do("gc")
        assert kept.until(lambda: not kept.descendants() - {site.host.pid}), call
        assert nothing_is_held(site) == [], call
    assert kept.until(
        lambda: not [name for name in site.sh("ls /sys/class/net").split() if name[:3] == "mbv"]
    )
    assert os.listdir(site.root / "containers") == []
