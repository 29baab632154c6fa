# SPDX-License-Identifier: Apache-2.0
"""Tests of what only a machine of their own can have: systemd, all of cgroup v2, logins, its clock, its
sysctls, its boots. They run as root in a unit of systemd's (tools/vm/tests_inside.py); elsewhere they
are counted and named, and not run (tests/conftest.py)."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from tests.system import conftest as system

USER = "minibox-user"  # not the one who has brought us here: his sessions end
TREE = f"/home/{USER}/tree"
TOP = Path("/sys/fs/cgroup")

box, helper, site = system.box, system.helper, system.site
inside, refused, until = system.inside, system.refused, system.until


def sh(script, **how):
    """A shell of root's must succeed; what it prints, as text."""
    done = subprocess.run(["sh", "-ec", script], capture_output=True, timeout=60, **how)
    assert done.returncode == 0, done
    return done.stdout.decode().removesuffix("\n")


class Login:
    """A session of an ordinary user, opened by logind (pam_systemd(8)) for each command."""

    def words(self, script):
        return ["su", "--login", USER, "--command", f"set -e; {script}"]

    def __call__(self, script):
        """A shell in a session that ends with it: the whole result."""
        return subprocess.run(
            self.words(script), capture_output=True, timeout=60, stdin=subprocess.DEVNULL
        )

    def do(self, script):
        """The same must succeed and say nothing on stderr; what it prints."""
        done = self(script)
        assert (done.returncode, done.stderr) == (0, b""), done
        return done.stdout.decode().removesuffix("\n")

    def refused(self, script):
        """minibox must fail with one message; the message."""
        done = self(script)
        lines = done.stderr.decode().splitlines()
        assert (done.returncode, done.stdout) == (125, b""), done
        assert lines[0].startswith("minibox: "), done
        assert all(line.startswith("  ") for line in lines[1:]), done
        return "\n".join(lines)

    def delegated(self, script):
        """What a shell prints to which systemd has delegated a part of the tree."""
        scope = "systemd-run --user --scope --quiet --property=Delegate=yes"
        return self.do(f"{scope} sh -ec {shlex.quote(script)}")


def linger():
    """The user's manager, with /run/user/UID, stays whoever comes and goes."""
    sh(f"loginctl enable-linger {USER}")
    sh(f"timeout 60 sh -c 'until test -S /run/user/$(id -u {USER})/bus; do sleep 0.1; done'")


@pytest.fixture(scope="session")
def user(rootfs):
    """An ordinary user with subordinate ids (useradd(8)) and a root file system; his uid."""
    sh(f"id {USER} || useradd --create-home --shell /bin/sh {USER}")
    sh(f"rm -rf {TREE}; cp -a {rootfs} {TREE}; chown -R {USER}:{USER} {TREE}")
    linger()
    yield int(sh(f"id -u {USER}"))
    sh(f"loginctl disable-linger {USER}; loginctl terminate-user {USER}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """The user is there before the guard against leaks looks for the first time."""
    for item in items:
        if "user" in item.fixturenames:
            item.fixturenames.insert(0, "user")


@pytest.fixture
def login(user):
    """`login.do("minibox run ~/tree id")`: as an ordinary user, who leaves no container."""
    login = Login()
    yield login
    login("minibox rm -af")
    assert login.do("minibox ps -aq") == ""


@pytest.fixture
def sysctl():
    """`sysctl("user.max_user_namespaces", 0)`: until the test is over."""
    before = {}

    def put(name, value):
        path = Path("/proc/sys", name.replace(".", "/"))
        before.setdefault(path, path.read_text())
        path.write_text(str(value))

    yield put
    for path, value in before.items():
        path.write_text(value)
