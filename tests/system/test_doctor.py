# SPDX-License-Identifier: Apache-2.0
"""minibox doctor says what the running kernel offers, also where something was taken away."""

from __future__ import annotations

import json
import os
import shlex
import subprocess

import pytest

from tests.conftest import COMMAND, KERNEL
from tests.ordinary import DROP, USER, uncover
from tests.system import cgroups

NAMES = {
    *("kernel", "rights", "namespaces", "user namespaces", "ids for ordinary users"),
    *("idmapped mounts", "overlay", "cgroups", "seccomp", "landlock", "networks", "pasta"),
    *("security modules", "core dumps", "proc"),
}


@pytest.fixture
def examined():
    """`examined("-m", script="umount …")`: the findings by name, in namespaces of their own."""

    def run(*flags, script=":", drop=()):
        line = f'{script}; exec "$@"'
        argv = ["unshare", *flags, "sh", "-ec", line, "sh", *drop, str(COMMAND), "doctor", "--json"]
        done = subprocess.run(argv, capture_output=True, timeout=30)
        assert (done.returncode, done.stderr) == (0, b""), done
        return {one["name"]: one for one in json.loads(done.stdout)}

    return run


def test_it_says_what_this_kernel_has(examined):
    found = examined("-m")
    assert set(found) == NAMES
    assert {one["state"] for one in found.values()} <= {"yes", "partly", "no"}
    assert os.uname().release in found["kernel"]["found"]
    assert found["user namespaces"]["state"] == found["idmapped mounts"]["state"] == "yes"
    assert found["overlay"]["state"] == ("yes" if KERNEL >= (6, 6) else "partly")


def test_it_changes_nothing(cli):
    before = (sorted(os.listdir("/proc/self/fd")), os.listdir("/sys/class/net"))
    done = cli("doctor")
    assert done.returncode == 0
    assert (sorted(os.listdir("/proc/self/fd")), os.listdir("/sys/class/net")) == before


def test_a_knob_that_forbids_user_namespaces_is_named_with_its_mend(examined):
    """user.max_user_namespaces is each user namespace's own (user_namespaces(7))."""
    found = examined("-Ur", "-m", script="echo 0 >/proc/sys/user/max_user_namespaces")
    one = found["user namespaces"]
    assert one["state"] == "no"
    assert "user.max_user_namespaces" in one["found"]
    assert one["mend"] == "sysctl -w user.max_user_namespaces=65536"


def test_a_host_without_cgroups(examined):
    found = examined("-m", script="umount -R -l /sys/fs/cgroup")
    assert found["cgroups"]["state"] == "no"


def test_a_host_with_cgroup_v2_alone(examined):
    assert examined("-m", script=cgroups.V2_ALONE)["cgroups"]["found"].startswith("v2, with ")


def test_an_ordinary_user_is_told_what_is_missing(examined):
    found = examined("-m", "--propagation=private", script=uncover(), drop=DROP)
    assert found["rights"]["found"] == "user 1234"
    assert found["ids for ordinary users"]["state"] == "no"
    assert found["idmapped mounts"]["found"] == "only for root"


def test_a_table_for_people(cli):
    text = cli("doctor").stdout.decode()
    lines = text.splitlines()
    assert lines[0].split() == ["WHAT", "FOUND", "WHAT", "FOLLOWS"]
    assert all(any(line.startswith(name) for line in lines) for name in NAMES)
    assert "\x1b" not in text


# Errors that come from what the host lacks


@pytest.fixture
def lacking(rootfs):
    """`lacking(script, *options)`: what minibox run says where a script has taken something away."""

    def run(script, *options, drop=(), via="exec"):
        last = shlex.join([*drop, str(COMMAND), "run", *options, rootfs, "/bin/true"])
        words = [
            "unshare",
            "-m",
            "--propagation=private",
            "sh",
            "-ec",
            f"{script}\ncd /; {via} {last}",
        ]
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 125, done
        assert "Traceback" not in done.stderr
        return done.stderr.splitlines()

    return run


def test_an_error_quotes_the_line_of_what_is_missing(lacking):
    inner = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    lines = lacking(f"exec_() {{ exec unshare -Ur sh -ec '{inner}' sh \"$@\"; }}", via="exec_")
    assert lines[0].startswith("minibox: cannot clone the container's process: ")
    assert lines[-1].startswith("  doctor: user namespaces: no: No space left on device: user.max")
    assert lines[-1].endswith("; mend: sysctl -w user.max_user_namespaces=65536")


def test_host_ids_without_root(lacking):
    lines = lacking(uncover(), "--userns", "host", drop=DROP)
    assert lines[0].startswith("minibox: only root has namespaces without a user namespace")
    assert lines[-1].startswith(f"  doctor: rights: partly: user {USER}; ")
    assert lines[-1].endswith("; mend: sudo minibox …")


def test_keep_id_without_newuidmap(lacking):
    script = "mount --bind /dev/null /usr/bin/newuidmap\n" + uncover()
    lines = lacking(script, "--userns", "keep-id", drop=DROP)
    assert lines[-1].startswith("  doctor: ids for ordinary users: no: newuidmap missing; ")
    assert lines[-1].endswith("; mend: install the package uidmap")


def test_a_covered_proc(lacking):
    lines = lacking("mount -t tmpfs none /proc/bus; mount -t tmpfs none /proc/irq")
    assert "Operation not permitted" in lines[0]
    assert lines[-1].startswith("  doctor: proc: partly: 2 mounts below /proc")
