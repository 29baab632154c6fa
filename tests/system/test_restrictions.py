# SPDX-License-Identifier: Apache-2.0
"""What a container cannot reach or use, beside capabilities and system calls: paths of the kernel,
resource limits, its oom_score_adj, Landlock."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import minibox
from minibox import host, restrictions
from minibox.spec import CAPABILITIES, MASKED_DIRECTORIES, MASKED_FILES

USERNS = ["auto", "host"]
MODES = [("--userns", mode) for mode in USERNS]
COMMAND = Path(sys.executable).with_name("minibox")


# Paths


def there(paths):
    return [os.fsdecode(path) for path in paths if os.path.lexists(path)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("path", there(MASKED_FILES))
def test_a_file_of_the_kernel_is_the_null_device(inside, path, mode):
    assert inside(f"stat -c '%F %t:%T' {path}; cat {path}", *mode) == ("character special file 1:3")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("path", there(MASKED_DIRECTORIES))
def test_a_directory_of_the_kernel_is_empty(inside, path, mode):
    script = f"ls -A {path}; stat -c %F {path}; touch {path}/x 2>&1 || echo refused"
    lines = inside(script, *mode).splitlines()
    assert lines[0] == "directory"
    assert lines[-1] == "refused"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("path", there([b"/proc/bus", b"/proc/fs", b"/proc/irq", b"/proc/sys"]))
def test_a_part_of_proc_is_read_only(inside, path, mode):
    options = inside(f"grep ' {path} ' /proc/self/mounts", *mode).split()[3]
    assert options.split(",")[0] == "ro"


@pytest.mark.parametrize("mode", MODES)
def test_no_sysctl_can_be_written(inside, mode):
    script = """cd /proc/sys; for f in kernel/core_pattern kernel/hostname vm/swappiness \
        net/ipv4/ip_forward; do (echo "$(cat $f)" > $f) 2>&1 | sed 's/.*: //'; done"""
    assert set(inside(script, *mode).splitlines()) == {"Read-only file system"}


def test_a_sysctl_that_is_asked_for_comes_before(inside):
    option = "net.ipv4.ip_default_ttl=77"
    assert inside("cat /proc/sys/net/ipv4/ip_default_ttl", "--sysctl", option) == "77"


# Limits


def test_no_core_is_dumped(inside):
    line = inside("grep core /proc/self/limits").split()
    assert line[4:6] == ["1", "1"]


def test_a_core_limit_of_nothing_stays(cli, rootfs):
    """The caller's hard limit is 0, and cannot be raised here."""
    done = subprocess.run(
        ["prlimit", "--core=0:0", COMMAND, "run", rootfs, "/bin/grep", "core", "/proc/self/limits"],
        capture_output=True, check=True,
    )  # fmt: skip
    assert set(done.stdout.split()[4:6]) <= {b"0", b"1"}


@pytest.mark.parametrize("mode", MODES)
def test_limits_by_name(inside, mode):
    script = "ulimit -Sn; ulimit -Hn; ulimit -t; grep pending /proc/self/limits"
    options = ("--ulimit", "nofile=64:128", "--ulimit", "cpu=99", "--ulimit", "RLIMIT_SIGPENDING=5")
    lines = inside(script, *options, *mode).splitlines()
    assert lines[:3] == ["64", "128", "99"]
    assert lines[3].split()[-3:-1] == ["5", "5"]


def test_the_last_limit_of_a_name_wins(inside):
    assert inside("ulimit -n", "--ulimit", "nofile=64", "--ulimit", "nofile=65") == "65"


def test_a_limit_holds(cli, rootfs):
    done = cli("run", "--ulimit", "fsize=1000", "--overlay", rootfs, "/bin/sh", "-c",
               "dd if=/dev/zero of=/big bs=2000 count=1")  # fmt: skip
    assert done.returncode in (1, 128 + 25)


def test_a_limit_above_the_callers(cli, rootfs):
    """It takes CAP_SYS_RESOURCE, which root has but in some sandboxes."""
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("this kernel has no limit to go above")
    words_ = ("--ulimit", f"memlock={hard + 1}", rootfs, "/bin/grep", "locked", "/proc/self/limits")
    done = cli("run", *words_)
    if host.probe().capabilities >> CAPABILITIES.index("SYS_RESOURCE") & 1:
        assert done.stdout.split()[3:5] == [str(hard + 1).encode()] * 2, done
    else:
        said = f"minibox: --ulimit memlock: {hard + 1} is above {hard}: Operation not permitted"
        assert (done.returncode, done.stderr.decode().splitlines()[0]) == (125, said)


@pytest.mark.parametrize(
    "text", ["", "nofile", "nofile=", "nofile=x", "nofile=5:4", "files=5", "=5", "nofile=-2", "nofile=1:2:3"],
)  # fmt: skip
def test_no_limit(refused, rootfs, text):
    assert "--ulimit" in refused("--ulimit", text, rootfs, "/bin/true")


def test_the_library_has_limits(rootfs):
    script = "ulimit -n"
    result = minibox.run(["/bin/sh", "-c", script], rootfs=rootfs, ulimit=["nofile=99"])
    assert result.stdout == b"99\n"


# oom_score_adj


@pytest.mark.parametrize("options", [*MODES, ("--init",), ("--share", "pid")])
def test_oom_score_adj(inside, options):
    before = Path("/proc/self/oom_score_adj").read_text()
    script = "cat /proc/self/oom_score_adj"
    assert inside(script, "--oom-score-adj", "321", *options) == "321"
    assert Path("/proc/self/oom_score_adj").read_text() == before


def test_oom_score_adj_is_not_the_programs(rootfs):
    """Written by a child that shares the memory, it would be that of the whole program."""
    before = Path("/proc/self/oom_score_adj").read_text()
    result = minibox.run(["/bin/cat", "/proc/self/oom_score_adj"], rootfs=rootfs, oom_score_adj="7")
    assert (result.stdout, Path("/proc/self/oom_score_adj").read_text()) == (b"7\n", before)


@pytest.mark.parametrize("text", ["", "1001", "-1001", "x", "1.5", "99999999999999999999"])
def test_no_oom_score_adj(refused, rootfs, text):
    assert "--oom-score-adj" in refused("--oom-score-adj", text, rootfs, "/bin/true")


# Landlock


def test_landlock(inside, tree):
    script = """cat /etc/hostname; (echo x > /new) 2>&1; echo y > /data/new && cat /data/new
        ls /root 2>&1; (mkdir /data/d && rmdir /data/d) && echo made; cat /dev/null; echo > /dev/null"""
    options = ("--landlock", "ro:/bin,ro:/etc", "--landlock", "rw:/data,rw:/dev/null")
    said = inside(script, *options, "--tmpfs", "/data", "--hostname", "locked", root=tree)
    assert "can't create /new: Permission denied" in said
    assert "can't open '/root': Permission denied" in said
    assert said.splitlines()[-1] == "made"
    assert "y" in said.splitlines()


def test_landlock_holds_for_another_user(cli, rootfs):
    words = ("--landlock", "ro:/bin", "--user", "1234", rootfs, "/bin/cat", "/etc/passwd")
    done = cli("run", *words)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"Permission denied" in done.stderr


def test_landlock_without_the_command_itself(refused, rootfs):
    assert "Permission denied" in refused("--landlock", "ro:/etc", rootfs, "/bin/true", code=126)


def test_landlock_of_what_is_not_there(refused, rootfs):
    said = refused("--landlock", "ro:/nowhere", rootfs, "/bin/true")
    assert said.startswith("minibox: --landlock ro:/nowhere: No such file")


@pytest.mark.parametrize("text", ["", "/etc", "ro:", "ro:etc", "rx:/etc", "ro:/etc,", "ro:/a:b,x"])
def test_no_landlock(refused, rootfs, text):
    assert "--landlock" in refused("--landlock", text, rootfs, "/bin/true")


# Securebits


def test_the_callers_securebits_stay_outside(cli, rootfs):
    code = """import ctypes, os, sys
libc = ctypes.CDLL(None)
assert libc.prctl(28, 1 << 2, 0, 0, 0) == 0  # SECBIT_NO_SETUID_FIXUP
os.execv(sys.argv[1], sys.argv[1:])"""
    words = [COMMAND, "run", "--userns", "host", "--user", "1000", rootfs]
    words += ["/bin/grep", "Cap", "/proc/self/status"]
    done = subprocess.run(["python3", "-c", code, *words], capture_output=True, check=True)
    held = {line.split()[0]: int(line.split()[1], 16) for line in done.stdout.splitlines()}
    assert held[b"CapEff:"] == held[b"CapPrm:"] == held[b"CapAmb:"] == 0


# --security-opt


def words(*texts):
    return [word for text in texts for word in ("--security-opt", text)]


def test_paths_can_be_opened(inside):
    points = "cut -d' ' -f5 /proc/self/mountinfo | grep '^/proc/' || true"
    assert inside(points, *words("systempaths=unconfined")) == ""
    assert inside(points, *words("unmask=ALL")) == ""
    found = inside(points, *words("unmask=/proc/keys:/proc/sys")).split()
    assert "/proc/irq" in found
    assert not {"/proc/keys", "/proc/sys"} & set(found)


def test_more_paths_can_be_masked(inside):
    script = "stat -c '%F' /etc/passwd /usr; ls /usr"
    said = inside(script, *words("mask=/etc/passwd:/usr:/nowhere"))
    assert said.split("\n") == ["character special file", "directory"]


@pytest.mark.parametrize("path", ["etc", "/etc/../x"])
def test_no_path_to_mask(refused, rootfs, path):
    assert "masked_paths: " in refused(*words(f"mask={path}"), rootfs, "/bin/true")


def test_new_privileges(inside, cli, rootfs):
    script = "grep NoNewPrivs /proc/self/status"
    assert inside(script).split()[1] == "1"
    assert inside(script, *words("no-new-privileges")).split()[1] == "1"
    options = words("no-new-privileges=false", "seccomp=unconfined")
    assert inside(script, *options).split()[1] == "0"
    done = cli("run", *words("no-new-privileges=false"), rootfs, "/bin/true")
    assert (done.returncode, b"seccomp=unconfined" in done.stderr) == (125, True)


@pytest.mark.parametrize(
    ("word", "module"), [("apparmor=some-profile", "apparmor"), ("label=a:b:c:d", "selinux")]
)
def test_a_label_of_a_module_that_is_not_there(refused, rootfs, word, module):
    if (
        module in Path("/sys/kernel/security/lsm").read_text()
        if Path("/sys/kernel/security/lsm").exists()
        else False
    ):
        pytest.skip("this kernel has no lack of it")
    said = refused(*words(word), rootfs, "/bin/true")
    assert said.startswith(f"minibox: --security-opt {word}: ")
    assert "labels (" in said


@pytest.mark.parametrize("word", ["apparmor=unconfined", "label=disable", "seccomp=unconfined"])
def test_no_label(inside, word):
    assert inside("echo hi", *words(word)) == "hi"


@pytest.mark.parametrize(
    "text", ["", "x=1", "seccomp", "seccomp=", "systempaths=x", "no-new-privileges=1", "mask="]
)
def test_no_security_opt(refused, rootfs, text):
    assert "--security-opt" in refused("--security-opt", text, rootfs, "/bin/true")


def test_a_kept_containers_next_process_is_kept_from_the_same(cli, rootfs, tmp_path):
    root = ("--root", tmp_path)
    options = (
        *words("seccomp=unconfined"),
        "--ulimit",
        "nofile=77",
        "--landlock",
        "ro:/",
        "--oom-score-adj",
        "99",
    )
    cli(*root, "run", "-d", "--name", "a", *options, rootfs, "/bin/sleep", "1000", check=True)
    try:
        script = (
            "ulimit -n; grep Seccomp: /proc/self/status; cat /proc/self/oom_score_adj; touch /x"
        )
        done = cli(*root, "exec", "a", "/bin/sh", "-c", script)
        assert done.stdout.split() == [b"77", b"Seccomp:", b"0", b"99"]
        assert b"Permission denied" in done.stderr
    finally:
        cli(*root, "rm", "-f", "a", check=True)


@pytest.fixture
def profile():
    """minibox's AppArmor profile, loaded for a test."""
    if not restrictions.has_apparmor() or not shutil.which("apparmor_parser"):
        pytest.skip("this kernel has no AppArmor, or its parser is missing")
    path = Path(restrictions.__file__).with_name("apparmor")
    was_loaded = restrictions.is_loaded(restrictions.APPARMOR)
    subprocess.run(["apparmor_parser", "-r", path], check=True)
    yield restrictions.APPARMOR
    if not was_loaded:
        subprocess.run(["apparmor_parser", "-R", path], check=True)


@pytest.mark.parametrize("options", [*MODES, ("--init",), ("--net", "host")])
def test_apparmor_confines_where_the_profile_is_loaded(profile, inside, options):
    assert inside("cat /proc/self/attr/current", *options) == f"{profile} (enforce)"
    script = "echo > /dev/null; ls / >/dev/null; sleep 1000 & kill $!; echo ok"
    assert inside(script, *options) == "ok"


def test_apparmor_holds_back_what_nothing_else_does(profile, inside):
    options = ("--userns", "host", *words("unmask=ALL"))
    script = "(: < /proc/kcore || cat /proc/kcore) 2>&1 | head -c 200; echo x 2>&1 > /proc/sys/vm/swappiness || true"
    assert "Permission denied" in inside(f"exec 2>&1; {script}", *options)


def test_apparmor_is_an_option(profile, inside, cli, rootfs, tmp_path):
    assert inside("cat /proc/self/attr/current", *words("apparmor=unconfined")) == "unconfined"
    assert "(enforce)" in inside("cat /proc/self/attr/current", *words(f"apparmor={profile}"))
    root = ("--root", tmp_path)
    cli(*root, "run", "-d", "--name", "a", rootfs, "/bin/sleep", "1000", check=True)
    try:
        done = cli(*root, "exec", "a", "/bin/cat", "/proc/self/attr/current")
        assert done.stdout.decode().strip() == f"{profile} (enforce)"
    finally:
        cli(*root, "rm", "-f", "a", check=True)
