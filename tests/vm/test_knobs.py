# SPDX-License-Identifier: Apache-2.0
"""sysctl knobs that forbid user namespaces: nothing runs with less isolation than was asked for, the
message says why, and doctor what mends it."""

from __future__ import annotations

import pytest

RUN = "minibox run --net none"
NONE = "user.max_user_namespaces"
PRIVILEGED = "kernel.unprivileged_userns_clone"  # Debian's own


@pytest.mark.parametrize("knob", [NONE, PRIVILEGED])
def test_an_ordinary_user_is_refused(login, sysctl, knob):
    sysctl(knob, 0)
    said = login.refused(f"{RUN} ~/tree true")
    assert "hint: user namespaces are restricted here" in said
    assert f"sysctl -w {knob}=" in login("minibox doctor").stdout.decode()


def test_root_is_refused_where_nobody_may(refused, rootfs, sysctl, cli):
    """Not run as the host's root instead."""
    sysctl(NONE, 0)
    said = refused(rootfs, "/bin/true")
    assert "user namespaces are restricted here" in said
    assert cli("run", "--userns", "host", rootfs, "/bin/true").returncode == 0
    said = cli("doctor").stdout.decode()
    assert f"sysctl -w {NONE}=65536" in said


def test_root_may_where_others_may_not(inside, sysctl):
    sysctl(PRIVILEGED, 0)
    assert inside("cat /proc/self/uid_map").split()[1] != "0"


def test_a_kept_one_that_runs_is_not_lost(box, sysctl):
    """The knob comes down while it runs: it can be entered, which makes none, and ended."""
    box.run()
    sysctl(NONE, 0)
    assert box.do("exec", "c", "echo", "here") == "here"
    box.do("stop", "-t", "0", "c")
    assert "user namespaces are restricted here" in box.refused("start", "c")
    assert box.status() == "exited"
