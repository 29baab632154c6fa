# SPDX-License-Identifier: Apache-2.0
"""Namespaces: which are new, shared or joined, told by their inodes; and what each one separates."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

import minibox

KINDS = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time")
NEW = tuple(kind for kind in KINDS if kind != "time")
UNSHARE = {
    "user": "--user", "mnt": "--mount", "pid": "--pid", "net": "--net", "ipc": "--ipc", "uts": "--uts",
    "cgroup": "--cgroup", "time": "--time",
}  # fmt: skip
SHOW = "for k in user mnt pid net ipc uts cgroup time; do readlink /proc/self/ns/$k; done"


def namespaces(pid="self"):
    """kind -> the inode of the namespace of a process of the host."""
    return {kind: os.readlink(file(pid, kind)) for kind in KINDS}


def file(pid, kind):
    """Where exec does not enter a time namespace, a container's first process is an init, and only
    its children are in it."""
    return f"/proc/{pid}/ns/{'time_for_children' if kind == 'time' else kind}"


@pytest.fixture
def namespaces_inside(inside):
    """The same as a container with these options sees it of itself."""

    def look(*options, **how):
        return dict(zip(KINDS, inside(SHOW, *options, **how).split(), strict=True))

    return look


@pytest.fixture
def other(rootfs, until):
    """`other(time=True)`: the pid of a running container."""
    running = []

    def start(**options):
        options.setdefault("hostname", "other")
        options.setdefault("userns", "auto")
        container = minibox.Container(["/bin/cat"], rootfs=rootfs, stdin="pipe", **options)
        running.append(container.start())
        # The kernel lets go of our memory some steps before an exec enters the time namespace. An
        # init, where exec does not enter one, has no such step.
        comm = Path(f"/proc/{container.pid}/comm")
        until(lambda: container.spec.init or comm.read_text() == "cat\n")
        return container.pid

    yield start
    for container in running:
        container.close()


# New and shared


@pytest.mark.parametrize("options", [(), ("--init",), ("--overlay",)], ids=" ".join)
def test_every_namespace_but_time_is_new(namespaces_inside, options):
    host, found = namespaces(), namespaces_inside(*options)
    assert {kind for kind in KINDS if found[kind] != host[kind]} == set(NEW)


def test_every_container_has_its_own(namespaces_inside, other):
    first, second = namespaces(other()), namespaces_inside()
    assert {kind for kind in KINDS if first[kind] != second[kind]} == set(NEW)


def test_what_the_host_sees_is_what_the_container_sees(rootfs):
    words = ["/bin/sh", "-c", f"{SHOW}; cat"]
    with minibox.Container(
        words, rootfs=rootfs, stdin="pipe", stdout="pipe", time=True
    ) as container:
        seen = b"".join(container.stdout.readline() for _ in KINDS)
        assert seen.decode().split() == list(namespaces(container.pid).values())


@pytest.mark.parametrize("kind", [kind for kind in NEW if kind != "mnt"])
def test_a_shared_namespace_is_the_hosts_and_the_others_are_new(namespaces_inside, kind):
    host, found = namespaces(), namespaces_inside("--share", kind)
    assert {k for k in KINDS if found[k] == host[k]} == {kind, "time"}


@pytest.mark.parametrize(
    "words",
    [
        ("--share", "user,pid,net,ipc,uts,cgroup"),
        ("--share", "pid,net", "--share", "ipc,uts,cgroup,user"),
    ],
)
def test_all_that_can_be_shared_can_be_shared_at_once(namespaces_inside, words):
    host, found = namespaces(), namespaces_inside(*words)
    assert {k for k in KINDS if found[k] != host[k]} == {"mnt"}


def test_all_but_the_user_namespace_can_be_shared(namespaces_inside):
    host, found = namespaces(), namespaces_inside("--share", "pid,net,ipc,uts,cgroup")
    assert {k for k in KINDS if found[k] != host[k]} == {"mnt", "user"}


def test_userns_host_and_net_host_are_other_words_for_it(namespaces_inside):
    host = namespaces()
    assert namespaces_inside("--userns", "host")["user"] == host["user"]
    assert namespaces_inside("--net", "host")["net"] == host["net"]


@pytest.mark.parametrize(
    "words", [("--time",), ("--boottime", "5"), ("--monotonic", "5"), ("--time", "--share", "net")]
)
def test_a_time_namespace_is_made_when_asked_for(namespaces_inside, words):
    assert namespaces_inside(*words)["time"] != namespaces()["time"]


# Joined

JOINABLE = ("user", "net", "ipc", "uts", "cgroup", "time")


@pytest.mark.parametrize("kind", JOINABLE)
@pytest.mark.parametrize("door", ["pid", "path"])
def test_one_namespace_of_a_container_is_joined_and_the_others_are_new(
    namespaces_inside, other, kind, door
):
    pid = other(time=True)
    where = file(pid, kind) if door == "path" else pid
    there, host, found = (
        namespaces(pid),
        namespaces(),
        namespaces_inside("--join", f"{kind}={where}"),
    )
    assert {k for k in KINDS if found[k] == there[k]} == {kind}
    assert {k for k in KINDS if found[k] == host[k]} == {"time"} - {kind}


def test_the_pid_namespace_of_a_container_is_joined_with_its_user_namespace(inside, other):
    pid = other()
    there = namespaces(pid)
    words = ("--join", f"pid={pid}", "--join", f"user={pid}")
    said = inside(
        "readlink /proc/self/ns/pid; readlink /proc/self/ns/user; cat /proc/1/comm", *words
    )
    assert said.split() == [there["pid"], there["user"], "cat"]


def test_the_pid_namespace_of_another_owner_is_joined_or_the_way_out_is_named(cli, rootfs, other):
    """A new user namespace may not mount the proc of a pid namespace that it does not own."""
    pid = other()
    done = cli("run", "--join", f"pid={pid}", rootfs, "/bin/readlink", "/proc/self/ns/pid")
    if done.returncode == 0:
        assert done.stdout.decode().strip() == namespaces(pid)["pid"]
    else:
        assert done.returncode == 125
        assert b"join user" in done.stderr


def test_the_mnt_namespace_of_a_container_is_joined_with_all_it_shows(cli, rootfs, other, tmp_path):
    (tmp_path / "mark").touch()
    pid = other(volumes=[f"{tmp_path}:/mnt"])
    joined = [word for kind in NEW for word in ("--join", f"{kind}={pid}")]
    done = cli("run", *joined, rootfs, "/bin/sh", "-c", f"{SHOW}; ls /mnt; pwd; id -u")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().split() == [*namespaces(pid).values(), "mark", "/", "0"]


def test_every_namespace_of_a_container_is_joined(cli, rootfs, other):
    pid = other(time=True)
    joined = [word for kind in KINDS for word in ("--join", f"{kind}={pid}")]
    done = cli("run", *joined, rootfs, "/bin/sh", "-c", f"{SHOW}; hostname; cat /proc/1/comm")
    first = Path(f"/proc/{pid}/comm").read_text().strip()
    assert done.stdout.decode().split() == [*namespaces(pid).values(), "other", first]


def test_a_joined_container_gets_no_privilege_and_no_fd(cli, rootfs, other):
    pid = other()
    joined = [word for kind in NEW for word in ("--join", f"{kind}={pid}")]
    done = cli(
        "run",
        *joined,
        rootfs,
        "/bin/sh",
        "-c",
        "cat /proc/$$/comm; grep NoNewPrivs /proc/$$/status; ls /proc/$$/fd; true",
    )
    assert done.stdout.split() == [b"sh", b"NoNewPrivs:", b"1", b"0", b"1", b"2"]


@pytest.mark.parametrize("door", ["pid", "path"])
@pytest.mark.parametrize("kind", ["net", "ipc", "uts", "cgroup"])
@pytest.mark.parametrize("userns", ["auto", "host"])
def test_a_namespace_made_by_unshare_is_joined(namespaces_inside, helper, kind, door, userns):
    made = helper(UNSHARE[kind])
    where = f"/proc/{made.pid}/ns/{kind}" if door == "path" else made.pid
    found = namespaces_inside("--userns", userns, "--join", f"{kind}={where}")
    assert found[kind] == os.readlink(f"/proc/{made.pid}/ns/{kind}") != namespaces()[kind]


@pytest.mark.parametrize("userns", ["auto", "host"])
def test_a_time_namespace_made_by_unshare_is_joined(inside, helper, userns):
    made = helper("--time", "--fork", "--boottime", "500000")
    where = f"time=/proc/{made.pid}/ns/time_for_children"
    for given in (where, f"time={made.child}"):
        said = inside(
            "readlink /proc/self/ns/time; cut -d. -f1 /proc/uptime",
            "--userns",
            userns,
            "--join",
            given,
        )
        inode, uptime = said.split()
        assert inode == os.readlink(f"/proc/{made.child}/ns/time") != namespaces()["time"]
        assert int(uptime) > 500000


def test_a_pid_namespace_made_by_unshare_is_joined_with_the_hosts_ids(inside, helper):
    made = helper("--pid", "--fork", "--kill-child", "--mount-proc")
    for given in (f"/proc/{made.pid}/ns/pid_for_children", made.child):
        said = inside(
            "readlink /proc/self/ns/pid; cat /proc/1/comm",
            "--userns",
            "host",
            "--join",
            f"pid={given}",
        )
        assert said.split() == [os.readlink(f"/proc/{made.child}/ns/pid"), "cat"]


def test_a_user_namespace_made_by_unshare_is_joined_and_its_ids_are_those_of_the_tree(
    namespaces_inside, inside, tree, helper
):
    made = helper("--user", "--map-root-user")
    words = ("--join", f"user={made.pid}")
    assert namespaces_inside(*words)["user"] == os.readlink(f"/proc/{made.pid}/ns/user")
    assert inside("touch /new; stat -c %u /new /etc", *words, root=tree) == "0\n0"
    assert os.stat(tree / "new").st_uid == 0


def test_a_user_namespace_with_other_ids_maps_the_tree(inside, tree, helper):
    os.chown(tree / "home/user", 1000, 1000)
    made = helper("--user")
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{made.pid}/{name}").write_text("0 500000 2000\n")
    said = inside(
        "id -u; stat -c %u:%g /etc /home/user; touch /new", "--join", f"user={made.pid}", root=tree
    )
    assert said == "0\n0:0\n1000:1000"
    assert os.stat(tree / "new").st_uid == 0


def test_a_mnt_namespace_made_by_unshare_is_joined(cli, rootfs, tmp_path, helper):
    made = helper("--mount", script=f"mount -t tmpfs made '{tmp_path}'; touch '{tmp_path}/mark'")
    done = cli(
        "run",
        "--userns",
        "host",
        "--join",
        f"mnt={made.pid}",
        "--share",
        "pid",
        rootfs,
        "/bin/sh",
        "-c",
        f"ls '{tmp_path}'; readlink /proc/self/ns/mnt",
    )
    assert done.stdout.decode().split() == ["mark", os.readlink(f"/proc/{made.pid}/ns/mnt")]


def test_a_namespace_kept_by_a_file_is_joined(rootfs, tmp_path, helper):
    """As `ip netns add` and podman keep them."""
    keeper = tmp_path / "keeper"
    keeper.touch()
    made = helper("--net")
    namespace = helper("--mount", script=f"mount --bind /proc/{made.pid}/ns/net '{keeper}'")
    done = namespace.minibox(
        "--join", f"net={keeper}", rootfs, "/bin/readlink", "/proc/self/ns/net"
    )
    assert done.stdout.decode().strip() == os.readlink(f"/proc/{made.pid}/ns/net")
    done = namespace.minibox(
        "--join", "net=keeper", rootfs, "/bin/readlink", "/proc/self/ns/net", cwd=tmp_path
    )
    assert done.stdout.decode().strip() == os.readlink(f"/proc/{made.pid}/ns/net")


def test_namespaces_of_several_owners_are_joined_together(namespaces_inside, other, helper):
    first, second, made = other(), other(), helper("--uts")
    words = [
        "--join",
        f"net={first}",
        "--join",
        f"ipc={second}",
        "--join",
        f"uts={made.pid}",
        "--share",
        "cgroup",
    ]
    found = namespaces_inside(*words)
    assert found["net"] == namespaces(first)["net"]
    assert found["ipc"] == namespaces(second)["ipc"]
    assert found["uts"] == namespaces(made.pid)["uts"]
    assert found["cgroup"] == namespaces()["cgroup"]
    assert found["user"] not in {namespaces(pid)["user"] for pid in ("self", first, second)}


def test_a_joined_network_is_used_and_lives_on(inside, other):
    pid = other()
    assert inside("cut -d: -f1 /proc/net/dev | tail -n +3", "--join", f"net={pid}").split() == [
        "lo"
    ]
    assert os.path.exists(f"/proc/{pid}/ns/net")


def test_joining_works_from_the_library(rootfs, other):
    pid = other()
    result = minibox.run(["/bin/readlink", "/proc/self/ns/net"], rootfs=rootfs, join=[f"net={pid}"])
    assert result.stdout.decode().strip() == namespaces(pid)["net"]


# What is refused


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--join", "net=self-made", "--share", "net"), "both joined and shared"),
        (("--join", "net={pid}", "--net", "host"), "both joined and shared"),
        (("--join", "user={pid}", "--userns", "host"), "both joined and shared"),
        (("--join", "net={pid}", "--join", "net={pid}"), "joined twice"),
        (("--share", "mnt"), "mnt cannot be shared"),
        (("--share", "network"), "'network'"),
        (("--share", "net,foo"), "'foo'"),
        (("--share", "NET"), "'NET'"),
        (("--share", "time", "--time"), "time"),
        (("--join", "foo={pid}"), "'foo'"),
        (("--join", "net"), "KIND=PID"),
        (("--join", "net="), "KIND=PID"),
        (("--join", "={pid}"), "none of"),
        (("--join", ""), "KIND=PID"),
        (("--join", "net=4194305"), "No such file"),
        (("--join", "net=0"), "No such file"),
        (("--join", "net=99999999999999999999"), "No such file"),
        (("--join", "net=/nowhere"), "No such file"),
        (("--join", "net=/etc/passwd"), "/etc/passwd"),
        (("--join", "net=/etc"), "/etc"),
        (("--join", "net=/proc/{pid}/ns/uts"), "/ns/uts"),
        (("--join", "mnt={pid}", "--tmpfs", "/x"), "--tmpfs"),
        (("--join", "mnt={pid}", "--volume", "/etc:/x"), "--volume"),
        (("--join", "mnt={pid}", "--overlay"), "--overlay"),
        (("--join", "mnt={pid}", "--read-only"), "--read-only"),
        (("--join", "uts={pid}", "--hostname", "x"), "hostname"),
        (("--share", "uts", "--hostname", "x"), "hostname"),
        (("--share", "uts", "--domainname", "x"), "domainname"),
        (("--net", "nope"), "nope: no such network"),
        (("--userns", "private"), "'private'"),
        (("--boottime", "soon"), "'soon'"),
        (("--boottime", "99999999999999999"), "boottime"),
        (("--boottime", "-99999999999"), "boottime"),
        (("--hostname", "x" * 65), "64"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_one_message(refused, rootfs, words, reason):
    given = [word.format(pid=os.getpid()) for word in words]
    assert reason in refused(*given, rootfs, "/bin/true")


def test_a_process_that_has_ended_has_no_namespaces(refused, rootfs):
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    assert f"/proc/{ended.pid}/ns/net" in refused("--join", f"net={ended.pid}", rootfs, "/bin/true")


def test_a_fifo_as_a_namespace_does_not_hang(refused, rootfs, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert "fifo" in refused("--join", f"net={tmp_path}/fifo", rootfs, "/bin/true", timeout=3)


# What they separate


def test_the_names_are_set_inside_only(inside):
    before = os.uname().nodename, Path("/proc/sys/kernel/domainname").read_text()
    said = inside("hostname; cat /proc/sys/kernel/domainname; uname -n; echo $HOSTNAME",
                  "--hostname", "h" * 64, "--domainname", "example.org")  # fmt: skip
    assert said.split() == ["h" * 64, "example.org", "h" * 64, "h" * 64]
    assert (os.uname().nodename, Path("/proc/sys/kernel/domainname").read_text()) == before


def test_the_host_name_is_not_the_hosts(inside):
    assert inside("hostname") == "minibox"


def test_a_shared_uts_namespace_has_the_hosts_name(inside):
    assert inside("hostname; echo $HOSTNAME", "--share", "uts").split() == [os.uname().nodename] * 2


def test_a_joined_uts_namespace_keeps_its_name(inside, other):
    pid = other(hostname="theirs")
    assert inside("hostname", "--join", f"uts={pid}") == "theirs"


def test_lo_is_the_only_interface_and_is_up(inside):
    said = inside(
        "ls /sys/class/net; cut -d: -f1 /proc/net/dev | tail -n +3; cat /sys/class/net/lo/flags; ip -4 addr show lo"
    )
    first, second, flags, address = said.split("\n", 3)
    assert (first, second.strip()) == ("lo", "lo")
    assert int(flags, 16) & 1, "IFF_UP"
    assert "inet 127.0.0.1/8" in address


def test_there_is_no_way_out_of_the_network(inside):
    assert inside("tail -n +2 /proc/net/route; ip route show") == ""


def test_lo_carries_data(inside):
    script = """
    mkfifo /dev/shm/open; exec 3<>/dev/shm/open # who sees an end may leave before it has spoken
    (echo hello | nc -l -p 7777 >/dev/null) &
    i=0; until nc 127.0.0.1 7777 <&3 2>/dev/null; do i=$((i+1)); [ $i -lt 2000 ] || exit 1; done
    """
    assert inside(script) == "hello"


def test_a_shared_network_is_the_hosts(inside):
    assert set(inside("ls /sys/class/net", "--net", "host").split()) == set(
        os.listdir("/sys/class/net")
    )
    assert "lo" in inside("cut -d: -f1 /proc/net/dev", "--net", "host")


@pytest.mark.parametrize(("seconds", "least"), [("1000000", 1000000), ("+5000000", 5000000)])
def test_the_boot_time_moves_inside_only(inside, seconds, least):
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    said = float(inside("cut -d' ' -f1 /proc/uptime", "--boottime", seconds))
    after = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before + least - 0.02 <= said <= after + least + 0.02
    assert after - before < 60


def test_the_boot_time_can_go_back(inside):
    back = int(time.clock_gettime(time.CLOCK_BOOTTIME)) - 5
    assert 0 <= float(inside("cut -d' ' -f1 /proc/uptime", "--boottime", f"-{back}")) < 60


def test_the_clocks_have_the_offsets_asked_for(inside):
    said = inside("cat /proc/self/timens_offsets", "--monotonic", "777", "--boottime", "888")
    assert said.split() == ["monotonic", "777", "0", "boottime", "888", "0"]
    assert Path("/proc/self/timens_offsets").read_text().split()[1::3] == ["0", "0"]


@pytest.mark.parametrize(
    "options", [("--init",), ("--userns", "host"), ("--user", "1000"), ("--overlay",)], ids=" ".join
)
def test_the_clocks_move_whatever_else_is_asked_for(inside, options):
    assert float(inside("cut -d' ' -f1 /proc/uptime", "--boottime", "3000000", *options)) > 3000000


def test_the_cgroup_is_the_root_of_what_is_seen(inside):
    lines = inside("cat /proc/self/cgroup").split("\n")
    assert lines
    assert {line.split(":", 2)[2] for line in lines} == {"/"}


@pytest.fixture
def cgroup():
    """A cgroup of the host's, in whichever hierarchy this process may make one."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        if words[words.index("-") + 1] in ("cgroup2", "cgroup"):
            path = Path(words[4]) / f"tests-{os.getpid()}"
            try:
                path.mkdir()
            except OSError:
                continue
            yield path
            path.rmdir()
            return
    pytest.skip("this kernel has no cgroup hierarchy that root may write to")


def test_the_cgroup_of_the_caller_is_not_seen(inside, cgroup, until):
    def enter():
        (cgroup / "cgroup.procs").write_text(str(os.getpid()))

    name = cgroup.name
    assert name in inside("cat /proc/self/cgroup", "--share", "cgroup", preexec_fn=enter)
    assert name not in inside("cat /proc/self/cgroup", preexec_fn=enter)
    until(lambda: not (cgroup / "cgroup.procs").read_text())


def test_the_ids_inside_are_65536_that_belong_to_nobody(inside):
    for name in ("uid_map", "gid_map"):
        first, host, size = map(int, inside(f"cat /proc/self/{name}").split())
        assert (first, size) == (0, 65536)
        assert host >= 1 << 29
        assert host % 65536 == 0


def test_the_host_sees_the_ids_that_belong_to_nobody(other):
    pid = other()
    status = Path(f"/proc/{pid}/status").read_text().split("\n")
    (uids,) = [line.split()[1:] for line in status if line.startswith("Uid:")]
    first = Path(f"/proc/{pid}/uid_map").read_text().split()[1]
    assert set(uids) == {first} != {"0"}


def test_two_processes_give_their_containers_other_ids(inside, other):
    mine = Path(f"/proc/{other()}/uid_map").read_text().split()[1]
    assert inside("cat /proc/self/uid_map").split()[1] != mine


def test_userns_host_means_the_hosts_ids(inside):
    assert inside(
        "cat /proc/self/uid_map /proc/self/gid_map; id -u", "--userns", "host"
    ).split() == ["0", "0", "4294967295"] * 2 + ["0"]


def test_groups_can_be_set_inside(inside):
    assert inside("cat /proc/self/setgroups") == "allow"


def test_a_process_has_a_pid_in_each_namespace(rootfs, inside, other):
    assert inside("grep NSpid /proc/$$/status").split()[1:] == ["1"]
    pid = other()
    (line,) = [
        line
        for line in Path(f"/proc/{pid}/status").read_text().split("\n")
        if line.startswith("NSpid")
    ]
    assert line.split()[1:] == [str(pid), "1"]


@pytest.mark.parametrize(("options", "first"), [((), "1"), (("--init",), "2")])
def test_the_command_is_the_first_process_or_follows_the_init(inside, options, first):
    assert inside("echo $$ $PPID", *options).split() == [first, str(int(first) - 1)]


def test_a_container_cannot_see_or_signal_a_process_of_the_host(inside):
    assert (
        inside(
            f"kill -0 {os.getpid()} 2>/dev/null || echo no; ls -d /proc/{os.getpid()} 2>/dev/null || echo no"
        )
        == "no\nno"
    )


def test_a_shared_pid_namespace_shows_the_hosts_processes_and_cannot_signal_them(inside):
    said = inside(
        f"cat /proc/{os.getpid()}/comm; kill -0 {os.getpid()} 2>/dev/null || echo no",
        "--share",
        "pid",
    )
    assert said.split("\n") == [Path("/proc/self/comm").read_text().strip(), "no"]


def test_ipc_objects_of_the_host_are_not_seen(inside):
    made = subprocess.run(
        ["ipcmk", "-Q"], capture_output=True, text=True, check=True
    ).stdout.split()[-1]
    try:
        shown = inside("tail -n +2 /proc/sysvipc/msg", "--share", "ipc").splitlines()
        assert made in [line.split()[1] for line in shown]
        assert inside("tail -n +2 /proc/sysvipc/msg") == ""
    finally:
        subprocess.run(["ipcrm", "-q", made], check=True)


def test_a_joined_ipc_namespace_shows_its_objects(inside, helper):
    made = helper("--ipc", script="ipcmk -Q >/dev/null")
    assert len(inside("tail -n +2 /proc/sysvipc/msg", "--join", f"ipc={made.pid}").split("\n")) == 1
