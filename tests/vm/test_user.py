# SPDX-License-Identifier: Apache-2.0
"""An ordinary user as distributions make one: subordinate ids, a manager of his own with a part of the
tree, pasta."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.system import cgroups
from tests.vm.conftest import TREE, USER, sh

RUN = "minibox run --net none"


def test_his_ids(login, user):
    """newuidmap maps what /etc/subuid gives him (subuid(5))."""
    (row,) = [
        line for line in Path("/etc/subuid").read_text().splitlines() if line.startswith(USER)
    ]
    _, first, count = row.split(":")
    found = [line.split() for line in login.do(f"{RUN} ~/tree cat /proc/self/uid_map").splitlines()]
    assert found == [["0", str(user), "1"], ["1", first, count]]


def test_whose_files_they_are(login, user):
    login.do(f"{RUN} ~/tree sh -c 'mkdir -m 777 /mnt/d; touch /mnt/d/root'")
    login.do(f"{RUN} --user nobody ~/tree touch /mnt/d/nobody")
    found = {path.name: path.stat().st_uid for path in Path(TREE, "mnt/d").iterdir()}
    login.do(f"{RUN} ~/tree rm -r /mnt/d")
    subids = int(sh(f"grep ^{USER}: /etc/subuid").split(":")[1])
    assert found == {"root": user, "nobody": subids + 65533}


def test_all_namespaces_are_the_containers(login):
    ours = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in os.listdir("/proc/self/ns")}
    theirs = login.do(
        f"{RUN} ~/tree sh -c 'cd /proc/self/ns; for n in *; do echo $n $(readlink $n); done'"
    )
    shared = {kind for kind, text in map(str.split, theirs.splitlines()) if ours[kind] == text}
    assert shared == {"time", "time_for_children"}


def test_a_session_rules_no_cgroup_and_is_told_what_does(login):
    said = login.refused(f"{RUN} --memory 64m ~/tree true")
    assert said.startswith("minibox: --memory: the memory controller is not available")
    assert "systemd-run --user --scope -p Delegate=yes" in said
    assert "--cgroup-manager systemd" in said


def test_limits_in_a_part_of_the_tree(login):
    """Debian delegates cpu, memory and pids."""
    limits = "--memory 64m --cpus 0.5 --pids 20"
    cat = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max /sys/fs/cgroup/pids.max"
    script = f"{RUN} {limits} ~/tree sh -c '{cat}'"
    assert login.delegated(script).splitlines() == [str(64 << 20), "50000 100000", "20"]


def test_twice_in_one_part_of_the_tree(login):
    """The shell is moved to a leaf by the first, and is still there for the second."""
    script = f"{RUN} --pids 20 ~/tree true; cat /proc/self/cgroup; {RUN} --pids 9 ~/tree cat /sys/fs/cgroup/pids.max"
    own, limit = login.delegated(script).splitlines()
    assert own.endswith("/minibox.callers")
    assert limit == "9"


def test_what_is_not_delegated_is_refused(login):
    for option, controller in (("--cpuset 0", "cpuset"), ("--io-rbps /dev/vda:1mb", "io")):
        script = f"{RUN} {option} ~/tree true 2>&1 || echo $?"
        first, *_, code = login.delegated(script).splitlines()
        assert f": the {controller} " in first
        assert "controller is not available" in first
        assert code == "125"


def test_limits_by_his_manager(login):
    """--cgroup-manager systemd, from a session that rules nothing."""
    found = login.do(f"{RUN} --cgroup-manager systemd --memory 64m --pids 20 ~/tree "
                     "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max")  # fmt: skip
    assert found.split() == [str(64 << 20), "20"]


def test_a_hog_is_killed(login):
    done = login(f"{RUN} --cgroup-manager systemd --memory 16m ~/tree tail /dev/zero")
    assert done.returncode == 137


def test_a_kept_one_with_limits(login, user):
    begin = (
        "minibox run -d --net none --cgroup-manager systemd --memory 64m --name c ~/tree sleep 1000"
    )
    login.do(begin)
    pid = login.do("minibox inspect --format '{{.State.Pid}}' c")
    own = cgroups.memberships(pid)[""]
    assert own.startswith(f"/user.slice/user-{user}.slice/user@{user}.service/")
    limit = Path(f"{cgroups.TOP}{own}/memory.max")
    assert limit.read_text().strip() == str(64 << 20)
    login.do("minibox update --memory 32m c")
    assert limit.read_text().strip() == str(32 << 20)
    (one,) = json.loads(login.do("minibox stats --no-stream --json"))
    assert one["memory_limit_bytes"] == 32 << 20
    login.do("minibox pause c")
    assert login.do("minibox ps --format '{{.State}}'") == "paused"
    login.do("minibox resume c; minibox rm -f c")


@pytest.fixture
def server(helper, tmp_path):
    """A web server on another host, on a wire to this machine; its address."""
    (tmp_path / "name").write_text("far\n")
    far = helper("--net", script="ip link set lo up")
    sh(f"ip link add wire type veth peer name wire netns {far.pid}")
    sh("ip addr add 198.51.100.1/24 dev wire; ip link set wire up")
    enter = ["nsenter", "--target", str(far.pid), "--net"]
    subprocess.run([*enter, "ip", "addr", "add", "198.51.100.2/24", "dev", "wire"], check=True)
    subprocess.run([*enter, "ip", "link", "set", "wire", "up"], check=True)
    words = [*enter, "busybox", "httpd", "-f", "-p", "80", "-h", tmp_path]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    sh("curl --silent --fail --retry 9 --retry-all-errors http://198.51.100.2/name")
    yield "198.51.100.2"
    process.kill()
    process.wait()
    sh("ip link del wire")


def test_pasta_leads_out(login, server):
    """By default, if there is pasta: the container has a network of its own, and reaches others by
    the host's address."""
    run = "env -u MINIBOX_NET minibox run ~/tree"
    assert login.do(f"{run} wget -q -O - http://{server}/name") == "far"
    assert login.do(f"{run} cat /proc/net/dev").count(":") == 2


def test_a_port_of_his(login):
    """Published by pasta: the container's web server is the host's."""
    login.do("mkdir -p ~/tree/www; echo hello >~/tree/www/index.html")
    login.do("env -u MINIBOX_NET minibox run -d --name c -p 8098:80 ~/tree httpd -f -h /www")
    get = "curl --silent --fail --retry 9 --retry-all-errors --max-time 20 http://127.0.0.1:8098/"
    assert sh(get) == "hello"
    login.do("minibox rm -f c")


def test_root_of_the_host_is_out_of_reach(login):
    """Mapped ids or not: root's files are nobody's inside."""
    script = "stat -c %u /host/etc/shadow; cat /host/etc/shadow"
    done = login(f"{RUN} -v /:/host:ro ~/tree sh -c '{script}'")
    assert done.returncode != 0
    assert done.stdout == b"65534\n", done
    assert b"Permission denied" in done.stderr
