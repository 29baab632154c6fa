# SPDX-License-Identifier: Apache-2.0
"""A host with systemd: scopes, units of ours, and logins that end."""

from __future__ import annotations

import os
import shlex
import subprocess

import pytest

from tests.conftest import COMMAND
from tests.system import cgroups
from tests.vm.conftest import TOP, USER, linger, sh

ASKED = ("--memory", "64m", "--cpus", "0.5", "--pids", "20", "--cpuset", "0")
PROPERTIES = {
    "MemoryMax": str(64 << 20),
    "CPUQuotaPerSecUSec": "500ms",
    "TasksMax": "20",
    "AllowedCPUs": "0",
    "Delegate": "yes",
    "Slice": "minibox.slice",
}
TRAP = "trap 'exit 7' TERM; echo up; while :; do sleep 0.2; done"
FILES = {"memory.max": str(64 << 20), "cpu.max": "50000 100000", "pids.max": "20"}


def of_unit(unit, *names):
    """systemctl show."""
    lines = sh(f"systemctl show {unit} --property={','.join(names)}").splitlines()
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture
def unit(until):
    """`unit("--property=…", "minibox …")` starts a service of ours; its name. It is gone in the end."""
    name = f"mbx{os.getpid()}.service"

    def start(*words):
        sh(f"systemd-run --quiet --unit={name} " + " ".join(map(str, words)))
        return name

    yield start
    subprocess.run(["systemctl", "stop", name], capture_output=True)
    subprocess.run(["systemctl", "reset-failed", name], capture_output=True)


def test_a_scope_has_the_limits(box):
    """As systemd's own properties, so that it does not undo them when it looks again."""
    box.run("--cgroup-manager", "systemd", *ASKED)
    own = cgroups.memberships(box.state()["Pid"])[""]
    scope = os.path.basename(own)
    assert own == f"/minibox.slice/{scope}"
    assert scope == f"minibox-{box.inspect()['Id']}.scope"
    sh("systemctl daemon-reload")
    assert of_unit(scope, *PROPERTIES) == PROPERTIES
    for name, value in FILES.items():
        assert (TOP / own[1:] / name).read_text().strip() == value
    assert box.do("exec", "c", "cat", "/sys/fs/cgroup/pids.max", "/proc/self/cgroup") == "20\n0::/"


def test_a_scope_goes_with_its_container(box, until):
    box.run("--cgroup-manager", "systemd")
    own = cgroups.memberships(box.state()["Pid"])[""]
    box.do("stop", "-t", "0", "c")
    until(lambda: not (TOP / own[1:]).exists())
    box.do("start", "c")
    assert cgroups.memberships(box.state()["Pid"])[""] == own


def test_a_plain_one_has_a_scope(inside):
    found = inside("cat /sys/fs/cgroup/memory.max", "--cgroup-manager", "systemd", *ASKED)
    assert found == str(64 << 20)
    assert "minibox-" not in sh(
        "systemctl list-units --type=scope --no-legend --plain --state=active"
    )


def test_the_slice_stays_systemds_own(box, inside):
    """It lies above the scope, and is not removed with it: systemd would make it again without the
    controllers that it believes to be there."""
    how = ("--cgroup-manager", "systemd", "--cgroup-parent", "mbxslice.slice")
    sh("systemctl start mbxslice.slice")
    try:
        box.run(*how, "--memory", "64m")
        box.do("rm", "-f", "c")
        assert (TOP / "mbxslice.slice").is_dir()
        assert inside("cat /sys/fs/cgroup/memory.max", *how, "--memory", "32m") == str(32 << 20)
    finally:
        sh("systemctl stop mbxslice.slice")


def test_a_scope_that_systemd_stops_ends_the_container(box, until):
    """As at the machine's end: SIGTERM, which a PID 1 may catch, and SIGKILL after 90 s."""
    box.run("--cgroup-manager", "systemd", command=("sh", "-c", TRAP))
    until(lambda: b"up" in box.log())
    sh(f"systemctl stop minibox-{box.inspect()['Id']}.scope")
    until(lambda: box.status() == "exited")
    assert box.state()["ExitCode"] == 7


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_a_service_that_ends_takes_its_container_along(unit, until, rootfs, tmp_path, signal):
    """Type=exec is what somebody writes who has a container for a service."""
    mark = tmp_path / "mark"
    tmp_path.chmod(0o777)
    volume = f"{tmp_path}:/mnt"
    inner = "'trap \"\" TERM; echo up >/mnt/mark; while :; do sleep 1000; done'"
    run = f"{COMMAND} run --net none --memory 64m -v {volume} {rootfs} sh -c {inner}"
    name = unit(
        "--property=Type=exec",
        "--property=TimeoutStopSec=2",
        f"--property=KillSignal={signal}",
        run,
    )
    until(mark.exists)
    supervisor = int(of_unit(name, "MainPID")["MainPID"])
    children = sh(f"cat /proc/{supervisor}/task/*/children").split()
    assert children
    sh(f"systemctl stop {name}")
    assert not [pid for pid in children if os.path.exists(f"/proc/{pid}")]
    sh(f"{COMMAND} gc")
    assert cgroups.left() == []


def test_a_kept_one_of_a_service_ends_with_it(unit, box, until):
    """Its monitor is in the service's cgroup, where systemd ends everybody."""
    run = f"{COMMAND} --root {box.root} run -d --net none --name c {box.rootfs} sleep 1000"
    name = unit("--property=Type=oneshot", "--property=RemainAfterExit=yes", run)
    assert box.status() == "running"
    pid = box.state()["Pid"]
    sh(f"systemctl stop {name}")
    until(lambda: not os.path.exists(f"/proc/{pid}"))
    until(lambda: box.status() == "exited")
    box.do("start", "c")
    assert box.status() == "running"


def test_a_service_with_a_part_of_the_tree(unit, until, rootfs, tmp_path):
    """--cgroup-parent puts the container below the unit, so that what the unit may, holds for it."""
    mark = tmp_path / "said"
    mark.touch()
    parent = f"system.slice/mbx{os.getpid()}.service/inner"
    run = (
        f"sh -c 'mkdir -p /sys/fs/cgroup/{os.path.dirname(parent)}/main;"
        f"echo $$ >/sys/fs/cgroup/{os.path.dirname(parent)}/main/cgroup.procs;"
        f"{COMMAND} run --net none --cgroup-parent {parent} --pids 9 {rootfs} "
        f"cat /sys/fs/cgroup/pids.max >{mark}; cat /sys/fs/cgroup/{parent}/pids.peak >>{mark} || :'"
    )
    name = unit("--property=Delegate=yes", "--property=TasksMax=50", run)
    until(lambda: of_unit(name, "ActiveState")["ActiveState"] == "inactive")
    assert mark.read_text().split()[0] == "9"


# Logins.


def sessions():
    """The ids of the user's sessions that logind knows."""
    lines = sh("loginctl list-sessions --no-legend").splitlines()
    return {line.split()[0] for line in lines if USER in line.split()}


def test_a_kept_one_outlives_the_login(login, until):
    """logind leaves processes alone (logind.conf(5), KillUserProcesses=no), minibox too."""
    login.do("minibox run -d --net none --name c ~/tree sleep 1000")
    assert login.do("minibox ps --format '{{.Names}} {{.State}}'") == "c running"
    assert login.do("minibox exec c echo here") == "here"
    assert login.do("minibox stop -t 0 c") == "c"


def test_one_of_the_users_manager_is_entered_from_anywhere(login, user):
    """Its cgroup lies where a session can put nobody: systemd does it, and the limits hold."""
    run = "minibox run -d --net none --cgroup-manager systemd --memory 64m --name c"
    login.do(f"{run} ~/tree sleep 1000")
    pid = login.do("minibox inspect --format '{{.State.Pid}}' c")
    assert f"/user@{user}.service/" in cgroups.memberships(pid)[""]
    found = login.do("minibox exec c cat /sys/fs/cgroup/memory.max /proc/self/cgroup")
    assert found.split() == [str(64 << 20), "0::/"]
    assert login.do("minibox rm -f c") == "c"


def test_a_session_that_is_terminated_ends_what_it_has(login, until):
    """loginctl terminate-session: the container is gone, its state says so, it can be started."""
    before = sessions()
    inner = shlex.join(["sh", "-c", TRAP])
    process = subprocess.Popen(
        login.words(f"minibox run -d --net none --name c ~/tree {inner}; echo ready; exec cat"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        while process.stdout.readline() != b"ready\n":
            pass
        (mine,) = sessions() - before
        until(lambda: login.do("minibox logs c") == "up")
        pid = login.do("minibox inspect --format '{{.State.Pid}}' c")
        sh(f"loginctl terminate-session {mine}")
        until(lambda: not os.path.exists(f"/proc/{pid}"))
    finally:
        process.kill()
        process.communicate()
    status = "minibox inspect --format '{{.State.Status}} {{.State.ExitCode}}' c"
    assert login.do(status) in ("exited 7", "exited 137")
    assert login.do("minibox start c") == "c"
    assert login.do("minibox ps --format '{{.State}}'") == "running"


def test_the_end_of_the_user_is_the_end_of_all(login, until, user):
    """Without lingering, terminate-user takes manager, runtime directory and state."""
    run = "minibox run -d --net none --cgroup-manager systemd --name c ~/tree"
    login.do(f"{run} {shlex.join(['sh', '-c', TRAP])}")
    until(lambda: login.do("minibox logs c") == "up")
    pid = login.do("minibox inspect --format '{{.State.Pid}}' c")
    sh(f"loginctl disable-linger {USER}; loginctl terminate-user {USER}")
    until(lambda: not os.path.exists(f"/proc/{pid}"))
    until(lambda: not os.path.exists(f"/run/user/{user}"))
    assert login.do("minibox ps -aq") == ""
    linger()
