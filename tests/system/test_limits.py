# SPDX-License-Identifier: Apache-2.0
"""--memory, --cpus and so on: what the kernel says of it from outside, and what is felt inside."""

import os
import time
from pathlib import Path

import pytest

import minibox
from tests.system import cgroups

MIB = 1 << 20
HOG = "x=a; while :; do x=$x$x; done"
LIMITS = {
    "memory": ("64m", "memory.limit_in_bytes", "memory.max", str(64 * MIB), str(64 * MIB)),
    "memory_reservation": (
        "32m", "memory.soft_limit_in_bytes", "memory.low", str(32 * MIB), str(32 * MIB),
    ),
    "cpus": ("0.5", "cpu.cfs_quota_us", "cpu.max", "50000", "50000 100000"),
    "cpu_shares": ("512", "cpu.shares", "cpu.weight", "512", "59"),
    "cpuset": ("0", "cpuset.cpus", "cpuset.cpus", "0", "0"),
    "cpuset_mems": ("0", "cpuset.mems", "cpuset.mems", "0", "0"),
    "pids": ("20", "pids.max", "pids.max", "20", "20"),
}  # fmt: skip


@pytest.fixture
def running(rootfs):
    """`running(memory="64m")`: a container of the library's that sleeps."""
    made = []

    def run(args=("/bin/sleep", "1000"), **options):
        made.append(minibox.Container(args, rootfs=rootfs, net="none", **options).start())
        return made[-1]

    yield run
    for one in made:
        one.close()


@pytest.mark.parametrize("option", LIMITS)
def test_the_kernel_has_the_limit(running, option):
    text, old, new, v1, v2 = LIMITS[option]
    pid = running(**{option: text}).pid
    assert cgroups.read(pid, old, new) == (v2 if cgroups.IS_V2 else v1)


def test_only_the_trees_that_a_limit_needs(running):
    ours = cgroups.memberships("self")
    theirs = cgroups.memberships(running(pids=20).pid)
    changed = [names for names in theirs if theirs[names] != ours[names]]
    assert changed == ([""] if cgroups.IS_V2 else ["pids"])
    assert "/minibox/" in theirs[changed[0]]


def test_without_a_limit_there_is_no_cgroup(running):
    assert cgroups.memberships(running().pid) == cgroups.memberships("self")
    assert cgroups.left() == []


def test_its_cgroup_is_the_root_of_its_namespace(inside):
    rows = inside("cat /proc/self/cgroup", "--memory", "64m", "--pids", "20").splitlines()
    assert {row.rpartition(":")[2] for row in rows if "memory" in row or "pids" in row} <= {"/"}
    if cgroups.IS_V2:
        assert rows == ["0::/"]


def test_it_is_gone_with_the_container(cli, rootfs):
    done = cli("run", "--memory", "64m", "--pids", "20", rootfs, "/bin/true")
    assert (done.returncode, done.stderr) == (0, b"")
    assert cgroups.left() == []


@pytest.mark.parametrize("how", [(), ("--init",), ("--userns", "host")], ids=["", "init", "host"])
def test_a_memory_hog_is_killed(cli, rootfs, how):
    words = ("--memory", "16m", "--memory-swap", "16m", *how)
    done = cli("run", *words, rootfs, "/bin/sh", "-c", HOG)
    assert (done.returncode, done.stderr) == (137, b"minibox: out of memory (limit 16 MiB)\n")
    assert cgroups.left() == []


def test_the_library_says_so(rootfs):
    hog = {"rootfs": rootfs, "net": "none", "memory": 16 * MIB, "memory_swap": 16 * MIB}
    result = minibox.run(["/bin/sh", "-c", HOG], **hog)
    assert (result.exit_code, result.signal, result.oom_killed) == (137, 9, True)
    with minibox.Container(["/bin/sh", "-c", HOG], **hog) as container:
        assert container.wait(30).oom_killed
    assert not minibox.run(["/bin/sh", "-c", "kill -9 $$; exit 3"], init=True, **hog).oom_killed


def test_when_a_child_is_killed_the_status_is_the_commands_own(cli, rootfs):
    script = f"({HOG}); echo $?; exit 3"
    done = cli("run", "--memory", "16m", "--memory-swap", "16m", rootfs, "/bin/sh", "-c", script)
    assert (done.returncode, done.stdout) == (3, b"137\n")
    assert b"out of memory" not in done.stderr


def test_a_fork_bomb_stays_inside(cli, rootfs):
    bomb = "b() { b | b & }; b; sleep 0.2; echo over"
    began = time.monotonic()
    done = cli("run", "--pids", "30", "--timeout", "5", rootfs, "/bin/sh", "-c", bomb, timeout=30)
    assert time.monotonic() - began < 20
    assert b"fork" in done.stderr  # EAGAIN
    assert cgroups.left() == []


def test_cpu_time_is_held_back(running, until):
    pid = running(["/bin/sh", "-c", "while :; do :; done"], cpus=0.1).pid

    def throttled():
        lines = cgroups.read(pid, "cpu.stat", "cpu.stat").splitlines()
        return int(dict(line.split() for line in lines)["nr_throttled"])

    until(lambda: throttled() > 2)


def test_the_cpus_that_it_may_have(running, inside):
    assert os.sched_getaffinity(running(cpuset="0").pid) == {0}
    assert inside("nproc", "--cpuset", "0") == "1"


def test_a_full_volatile_root_is_the_containers_own_trouble(cli, rootfs):
    script = "dd if=/dev/zero of=/full bs=64k 2>/dev/null; echo $?; df -m / | tail -1"
    done = cli(
        "run", "--overlay", "--size", "4m", "--memory", "64m", rootfs, "/bin/sh", "-c", script
    )
    assert done.stdout.startswith(b"1\n")
    assert b" 4 " in done.stdout


def test_a_flood_of_fds_ends_inside(rootfs):
    script = """ulimit -n 64; i=3
    while (eval "exec $i</dev/null") 2>/dev/null && eval "exec $i</dev/null"; do i=$((i+1)); done
    echo $i"""
    how = {"rootfs": rootfs, "net": "none", "pids": 20, "memory": "64m"}
    result = minibox.run(["/bin/sh", "-c", script], **how)
    assert 50 < int(result.stdout) <= 64


def block_device():
    for path in Path("/sys/block").iterdir():
        if Path(f"/dev/{path.name}").is_block_device() and not path.name.startswith("loop"):
            return f"/dev/{path.name}"
    return None


@pytest.mark.parametrize(
    ("option", "rate", "file", "key", "value"),
    [
        ("io_rbps", "1mb", "blkio.throttle.read_bps_device", "rbps", str(MIB)),
        ("io_wbps", "2m", "blkio.throttle.write_bps_device", "wbps", str(2 * MIB)),
        ("io_riops", "10", "blkio.throttle.read_iops_device", "riops", "10"),
        ("io_wiops", "20", "blkio.throttle.write_iops_device", "wiops", "20"),
    ],
)
def test_a_throttle_is_in_its_file(running, option, rate, file, key, value):
    device = block_device()
    if device is None:
        pytest.skip("this kernel has no block device")
    found = os.stat(device).st_rdev
    number = f"{os.major(found)}:{os.minor(found)}"
    said = cgroups.read(running(**{option: [f"{device}:{rate}"]}).pid, file, "io.max")
    line = next(line for line in said.splitlines() if line.startswith(number))
    assert (f"{key}={value}" in line.split()) if cgroups.IS_V2 else line == f"{number} {value}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--memory", "1m"), "minibox: --memory: 1m: 6m is the least"),
        (("--cpus", "4096"), "minibox: --cpus: '4096': from 0.01 to "),
        (("--cpuset", "4000"), "minibox: --cpuset: 4000: the CPUs of this host are 0"),
        (("--io-rbps", "/dev/null:1m"), "minibox: --io-rbps: /dev/null is no block device"),
        (("--io-rbps", "/dev/nope:1m"), "minibox: --io-rbps: /dev/nope: No such file or directory"),
        (("--pids", "many"), "minibox: --pids: 'many': a number from 1 to"),
        (("--cgroup-parent", "../x"), "minibox: --cgroup-parent: "),
        (("--cgroup-manager", "x"), "minibox: --cgroup-manager: 'x' is none of cgroupfs, systemd"),
    ],
)
def test_a_mistake_is_said_by_the_options_name(refused, rootfs, words, said):
    assert refused(*words, rootfs, "/bin/true").startswith(said)
    assert cgroups.left() == []


def test_a_parent_of_ones_own(running, tmp_path):
    name = f"mbx{os.getpid()}"
    container = running(pids=20, cgroup_parent=f"/{name}/a")
    place = cgroups.directory(container.pid, "pids")
    assert place.relative_to(cgroups.TOP).parts[-4:-1] == (name, "a", "minibox")
    container.close()
    assert not place.exists()
    for parent in (place.parent.parent, place.parent.parent.parent):
        parent.rmdir()  # those are the caller's


def test_orphans_are_given_back(rootfs):
    """Zombies are charged: an init reaps them, so that there are never forty at once."""
    script = "i=0; while [ $i -lt 200 ]; do (sleep 0 &); i=$((i+1)); done; wait; echo done"
    result = minibox.run(["/bin/sh", "-c", script], rootfs=rootfs, net="none", pids=40, init=True)
    assert result.stdout == b"done\n"


def test_docker_names_are_taken(cli, rootfs):
    words = ("--cpuset-cpus", "0", "--pids-limit", "20", "-m", "64m", "-c", "100")
    done = cli("run", *words, rootfs, "/bin/true")
    assert (done.returncode, done.stderr) == (0, b"")


def test_another_mistake_leaves_no_cgroup(cli, rootfs):
    done = cli("run", "--memory", "64m", rootfs, "/nope")
    assert done.returncode == 127
    assert cgroups.left() == []


def test_plan_makes_none(cli, rootfs):
    done = cli("plan", "--memory", "64m", rootfs, "/bin/true")
    assert b"unshare(CLONE_NEWCGROUP)" in done.stdout
    assert cgroups.left() == []
