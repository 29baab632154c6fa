# SPDX-License-Identifier: Apache-2.0
"""The static init as PID 1, and that no binary of the host can be reached through /proc."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import minibox

PYTHON = Path(sys.executable).resolve()
INIT = Path(minibox.__file__).with_name("minibox-init")
ORPHANS = 10_000

# Fork children that end at once under a parent that does not wait for them; when that parent ends
# they are PID 1's. Then say how many zombies are left, once they are no more or a second is over.
ORPHANAGE = r"""
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static int zombies(void) {
    int found = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *entry; (entry = readdir(proc));) {
        char path[300], line[300] = "";
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        FILE *file = entry->d_name[0] > '9' ? 0 : fopen(path, "r");
        if (file) {
            fgets(line, sizeof line, file);
            fclose(file);
            found += strstr(line, ") Z ") != 0;
        }
    }
    closedir(proc);
    return found;
}
int main(int argc, char **argv) {
    int made = 0, left = 0;
    for (int total = atoi(argv[1]); made < total;) {
        int batch = total - made < 1000 ? total - made : 1000;
        pid_t middle = fork();
        if (!middle) {
            for (int k = 0; k < batch; k++) {
                pid_t pid = fork();
                if (pid < 0) _exit(1);
                if (!pid) _exit(0);
            }
            _exit(0);
        }
        int status;
        waitpid(middle, &status, 0);
        if (status) return 2;
        made += batch;
    }
    for (int k = 0; k < 100 && (left = zombies()); k++) usleep(10000);
    printf("%d left of %d\n", left, made);
    return 0;
}
"""

# A loader that a hostile image brings along. Whatever is executed with it, it runs inside that
# process: it opens /proc/self/exe, keeps the fd and becomes a shell.
LOADER = r"""
static long call(long n, long a, long b, long c) {
#if defined(__x86_64__)
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return r;
#else
    register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c, x3 __asm__("x3") = 0;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
#endif
}
#if defined(__x86_64__)
#define OPENAT 257
#define EXECVE 59
#define EXIT 60
#else
#define OPENAT 56
#define EXECVE 221
#define EXIT 93
#endif
int written = 1; // before Linux 6.7 a loader must end with what can be written (binfmt_elf.c, padzero)
void _start(void) {
    char *words[] = {"/bin/sh", "/attack", 0}, *none[] = {0};
    call(OPENAT, -100, (long)"/proc/self/exe", 0);
    call(EXECVE, (long)"/bin/sh", (long)words, (long)none);
    call(EXIT, 99, 0, 0);
}
"""
ATTACK = """
PATH=/bin:/usr/bin
for fd in /proc/self/fd/3 /proc/self/fd/4 /proc/self/fd/5; do
    test -e $fd || continue
    echo found $(readlink $fd)
    for k in 1 2 3 4 5; do (echo attacked >> $fd) && echo opened for writing; done
done
"""


def build(tmp_path, source, output, *flags):
    """Compile for the container."""
    (tmp_path / "program.c").write_text(source)
    words = ["cc", "-O1", "-w", *flags, "-o", str(output), str(tmp_path / "program.c")]
    subprocess.run(words, check=True)


def shell(script):
    return ["/bin/sh", "-c", script]


# PID 1.


def test_pid_1_is_the_init_and_the_command_its_child(rootfs):
    script = "tr '\\0' ' ' < /proc/1/cmdline; echo; echo $$ $PPID"
    result = minibox.run(shell(script), rootfs=rootfs, init=True)
    name, pids = result.stdout.splitlines()
    assert name.startswith(b"minibox-init")
    assert pids == b"2 1"


def test_without_it_the_command_is_pid_1(rootfs):
    assert minibox.run(shell("echo $$"), rootfs=rootfs).stdout == b"1\n"


@pytest.mark.parametrize("options", [{}, {"userns": "host"}, {"share": ["pid"]}, {"overlay": True}])
def test_it_works_in_every_mode(rootfs, options):
    result = minibox.run(shell("exit 3"), rootfs=rootfs, init=True, **options)
    assert (result.exit_code, result.signal) == (3, None)


def test_ten_thousand_orphans_are_reaped(tree, tmp_path):
    build(tmp_path, ORPHANAGE, tree / "orphanage", "-static")
    result = minibox.run(["/orphanage", str(ORPHANS)], rootfs=tree, init=True, timeout=60)
    assert result.stdout == f"0 left of {ORPHANS}\n".encode()


def test_without_it_nobody_reaps_them(tree, tmp_path):
    """The control of the test above."""
    build(tmp_path, ORPHANAGE, tree / "orphanage", "-static")
    result = minibox.run(["/orphanage", "50"], rootfs=tree, timeout=60)
    assert result.stdout == b"50 left of 50\n"


@pytest.mark.parametrize(
    "name", ["INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "WINCH", "CONT", "TSTP"]
)
def test_it_forwards_signals(rootfs, name):
    script = f"trap 'echo caught; exit 21' {name}; echo ready; while :; do sleep 100 & wait; done"
    with minibox.Container(shell(script), rootfs=rootfs, init=True, stdout="pipe") as container:
        assert container.stdout.readline() == b"ready\n"
        container.kill(signal.Signals[f"SIG{name}"])
        assert container.wait(10).exit_code == 21
        assert container.stdout.read() == b"caught\n"


def test_a_signal_that_the_command_has_no_handler_for_ends_it(rootfs):
    for number in (1, 2, 3, 10, 15):
        with minibox.Container(["sleep", "100"], rootfs=rootfs, init=True) as container:
            container.kill(number)
            result = container.wait(10)
        assert (result.exit_code, result.signal) == (128 + number, number)


@pytest.mark.parametrize("number", [1, 2, 9, 15, 34, 64])
def test_the_signal_that_ended_the_command_is_known_exactly(rootfs, number):
    killed = minibox.run(shell(f"kill -{number} $$; sleep 9"), rootfs=rootfs, init=True)
    assert (killed.exit_code, killed.signal) == (128 + number, number)
    ended = minibox.run(shell(f"exit {128 + number}"), rootfs=rootfs, init=True)
    assert (ended.exit_code, ended.signal) == (128 + number, None)


def test_a_kill_of_the_init_itself_is_known_as_well(rootfs):
    with minibox.Container(["sleep", "100"], rootfs=rootfs, init=True) as container:
        container.kill()
        result = container.wait(10)
    assert (result.exit_code, result.signal) == (137, 9)


def test_what_the_command_leaves_behind_ends_with_the_init(rootfs):
    began = minibox.run(shell("setsid sleep 60 & exit 5"), rootfs=rootfs, init=True)
    assert began.exit_code == 5
    assert began.duration < 5


@pytest.mark.parametrize(
    ("command", "kind", "code"),
    [("/no/such", minibox.CommandNotFound, 127), ("/etc", minibox.CannotExecute, 126)],
)
def test_a_command_that_cannot_be_run_is_an_error_all_the_same(cli, rootfs, command, kind, code):
    with pytest.raises(kind):
        minibox.run([command], rootfs=rootfs, init=True)
    assert cli("run", "--init", rootfs, command).returncode == code


def test_the_command_cannot_kill_the_init(rootfs):
    script = "for s in KILL STOP; do kill -$s 1; done; sleep 0.05; exit 6"
    assert minibox.run(shell(script), rootfs=rootfs, init=True).exit_code == 6


def test_it_keeps_no_fd_open(rootfs):
    """A pipe whose writer is the command alone ends with the command's copy."""
    with minibox.Container(
        shell("echo last; exec >&- 2>&-; sleep 60"), rootfs=rootfs, init=True, stdout="pipe"
    ) as container:
        assert container.stdout.read() == b"last\n"
        assert container.wait(0) is None


# The memory of PID 1 is shared with the supervisor's: nobody inside may look.


@pytest.mark.parametrize("options", [{}, {"user": "1000"}], ids=["root", "1000"])
@pytest.mark.parametrize(
    "attempt",
    [
        "head -c 1 /proc/1/maps | grep .",
        "dd if=/proc/1/mem of=/dev/null bs=1 count=1 skip=4194304",
        "dd if=/dev/null of=/proc/1/mem conv=notrunc",
        "head -c 1 /proc/1/environ",
        "head -c 1 /proc/1/auxv | grep .",
        "ls /proc/1/map_files | grep .",
        "readlink /proc/1/exe",
    ],
)
def test_nothing_inside_can_look_into_the_init(rootfs, attempt, options):
    result = minibox.run(shell(f"({attempt}) && exit 9"), rootfs=rootfs, init=True, **options)
    if "environ" in attempt and result.exit_code == 9:
        assert result.stdout == b""
    else:
        assert result.exit_code not in (0, 9)


# Where root inside can write there: every byte of the plan's first page becomes `value`.
VANDAL = """
line=$(grep minibox-plan /proc/1/maps | tail -n 1); set -- ${line%% *}
start=$((0x${1%-*}))
tr '\\0' '\\VALUE' < /dev/zero |
    dd of=/proc/1/mem bs=4096 count=1 seek=$((start / 4096)) conv=notrunc iflag=fullblock
exit 0
"""


@pytest.mark.parametrize("value", ["001", "020", "177", "377"])
def test_nothing_inside_that_writes_into_the_init_harms_the_supervisor(cli, rootfs, value):
    """A program of its own, because it may crash."""
    script = VANDAL.replace("VALUE", value)
    done = cli("run", "--init", "--timeout", "5s", rootfs, *shell(script), timeout=20)
    assert 0 <= done.returncode <= 255, f"minibox died of signal {-done.returncode}"
    assert b"Traceback" not in done.stderr
    assert b"killed after" not in done.stderr


# CVE-2019-5736: no binary of the host can be opened for writing.


@pytest.fixture
def binaries():
    """The host's binaries that a container could come across; they must not change."""
    paths = [PYTHON, INIT]
    paths += [
        Path(line.split()[-1])
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "libpython" in line
    ]
    before = {
        path: (path.stat().st_size, hashlib.sha256(path.read_bytes()).digest()) for path in paths
    }
    yield
    changed = []
    for path, (size, digest) in before.items():
        if hashlib.sha256(path.read_bytes()).digest() != digest:
            changed.append(path)
            os.truncate(path, size)  # the attack only appends
    assert not changed


@pytest.fixture
def hostile(tree, tmp_path):
    """A tree whose loaders attack whatever host binary is executed with them."""
    (tree / "lib64").mkdir()
    build(
        tmp_path,
        LOADER,
        tree / "lib64/ld-linux-x86-64.so.2",
        "-static",
        "-nostdlib",
        "-ffreestanding",
    )
    (tree / "lib/ld-linux-aarch64.so.1").symlink_to("/lib64/ld-linux-x86-64.so.2")
    (tree / "attack").write_text(ATTACK)
    (tree / "link").symlink_to("/proc/self/exe")
    (tree / "script").write_text("#!/proc/self/exe\n")
    (tree / "script").chmod(0o755)
    return tree


MODES = [
    {},
    {"init": True},
    {"userns": "host"},
    {"userns": "host", "init": True},
    {"userns": "host", "share": ["pid"]},
    {"overlay": True},
]


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("entry", ["/proc/self/exe", "/link", "/script"])
def test_an_entry_point_that_is_the_runtime_gives_no_writable_binary(
    binaries, hostile, mode, entry
):
    try:
        result = minibox.run([entry], rootfs=hostile, timeout=10, **mode)
    except minibox.CannotExecute:
        return
    except minibox.CommandNotFound:
        return
    assert b"opened for writing" not in result.stdout
    assert not result.timed_out


def test_the_attack_is_a_real_one(hostile, tmp_path):
    """The control: against a program of the container's own it succeeds."""
    dynamic = hostile / "dynamic"
    build(tmp_path, "int main(void) { return 0; }", dynamic)
    size = dynamic.stat().st_size
    result = minibox.run(["/dynamic"], rootfs=hostile, timeout=10)
    assert b"found /dynamic" in result.stdout
    assert b"opened for writing" in result.stdout
    assert dynamic.stat().st_size > size


@pytest.mark.parametrize("userns", ["auto", "host"])
def test_the_running_init_cannot_be_written(binaries, rootfs, userns):
    script = "(echo attacked >> /proc/1/exe) && exit 9; (: > /proc/1/exe) && exit 9; exit 4"
    result = minibox.run(shell(script), rootfs=rootfs, init=True, userns=userns)
    assert result.exit_code == 4
    assert minibox.run(shell("exit 5"), rootfs=rootfs, init=True, userns=userns).exit_code == 5


def test_the_sealed_copy_cannot_be_written_by_this_program_either(rootfs):
    minibox.run(["/bin/true"], rootfs=rootfs, init=True)
    copies = [
        fd
        for fd in os.listdir("/proc/self/fd")
        if "memfd:minibox-init" in os.path.realpath(f"/proc/self/fd/{fd}")
    ]
    assert len(copies) == 1
    fd = int(copies[0])
    assert os.pread(fd, 1 << 20, 0) == INIT.read_bytes()
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)


def test_the_init_refuses_to_be_started_by_hand():
    done = subprocess.run([str(INIT)], capture_output=True, timeout=10)
    assert done.returncode == 125
    assert b"minibox-init" in done.stderr
