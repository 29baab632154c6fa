# SPDX-License-Identifier: Apache-2.0
"""How long an exec'd command lives, who signals it, and that nobody inside looks into it before
it is the command."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.system import cgroups

# What is left in the background must not hold the streams.
LOOP = "while :; do sleep 1000 >/dev/null 2>&1"
WAYS = {"plain": (), "init": ("--init",), "host-ids": ("--userns=host",)}


def furnish(box):
    for name, options in WAYS.items():
        box.run(*options, name=name)


@pytest.fixture
def guest(box):
    """`guest("init", script)`: exec of a shell script that says `ready`, in a container of that
    kind called c; its client, which goes on."""

    def begin(name, script):
        box.run(*WAYS[name])
        client = box.begin("exec", "c", "/bin/sh", "-c", script)
        assert client.stdout.readline() == b"ready\n"
        return client

    return begin


def children(pid):
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def letter(pid):
    """The state of a process (proc_pid_stat(5)); "" when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def comm(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def ended(pid):
    """Is it gone? An orphan of a container is ours to wait for."""
    if letter(pid) == "Z":
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass
    return letter(pid) == ""


# Signals.


@pytest.mark.parametrize("name", WAYS)
def test_a_signal_to_the_client_reaches_the_command(shared_box, until, name):
    numbers = (1, 2, 3, 10, 12, 15)
    clients = [shared_box.begin("exec", name, "sleep", "1000") for _ in numbers]
    for number, client in zip(numbers, clients, strict=True):
        until(lambda pid=client.pid: "sleep" in [comm(child) for child in children(pid)])
        client.send_signal(number)
        assert shared_box.finish(client, 10).returncode == 128 + number


@pytest.mark.parametrize("number", [1, 2, 10, 15])
def test_the_commands_handler_has_its_say(box, guest, number):
    client = guest("plain", f"trap 'exit 7' {number}; echo ready; {LOOP} & wait; done")
    client.send_signal(number)
    assert box.finish(client).returncode == 7


def test_what_the_container_runs_gets_no_such_signal(box, guest):
    client = guest("init", "echo ready; exec sleep 1000")
    before = box.state()
    client.send_signal(signal.SIGTERM)
    assert box.finish(client).returncode == 143
    assert box.state() == before


def test_a_command_that_ignores_it_is_killed_when_asked_twice(box, guest):
    client = guest("plain", f"trap '' TERM; echo ready; {LOOP}; done")
    (pid,) = children(client.pid)
    client.send_signal(signal.SIGTERM)
    # The first one has been forwarded when it is not pending any more.
    while int(pending(client.pid), 16):
        pass
    client.send_signal(signal.SIGTERM)
    assert box.finish(client).returncode == 137
    assert ended(pid)


def pending(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("ShdPnd:"))


# Its end, its client's, its container's.


def test_what_it_leaves_in_the_background_lives_on(box, until):
    box.run("--init")
    script = "setsid sleep 4321 </dev/null >/dev/null 2>&1 & echo $!"
    inner = box.do("exec", "c", "sh", "-c", script)
    found = f"grep PPid /proc/{inner}/status; tr '\\0' ' ' < /proc/{inner}/cmdline"
    assert box.do("exec", "c", "sh", "-c", found) == "PPid:\t1\nsleep 4321 "
    box.do("exec", "c", "kill", inner)
    until(lambda: not box.do("exec", "c", "sh", "-c", f"ls -d /proc/{inner} 2>/dev/null || :"))


@pytest.mark.parametrize("name", WAYS)
def test_it_dies_with_a_client_that_is_killed(box, guest, until, name):
    client = guest(name, f"trap '' HUP TERM INT; echo ready; {LOOP}; done")
    (pid,) = children(client.pid)
    client.kill()
    client.wait()
    until(lambda: ended(pid))
    assert box.status() == "running"


def test_a_client_that_is_killed_early_leaves_nothing(box, until):
    box.run()
    before = set(children(os.getpid()))
    inside = set(box.do("exec", "c", "ls", "/proc").split())
    for k in range(8):
        client = box.begin("exec", "c", "sleep", "1000")
        try:
            client.wait(0.01 * k)
        except subprocess.TimeoutExpired:
            client.kill()
        client.wait()
    until(lambda: all(ended(pid) for pid in set(children(os.getpid())) - before))
    now = set(box.do("exec", "c", "ls", "/proc").split())
    assert len({word for word in now - inside if word.isdigit()}) <= 1  # that ls
    assert box.status() == "running"


@pytest.mark.parametrize("verb", [("stop",), ("kill",), ("rm", "-f")], ids=" ".join)
@pytest.mark.parametrize("option", ["--init", "--userns=host"])
def test_it_dies_with_its_container(box, verb, option):
    box.run(option)
    script = f"trap '' TERM; echo ready; {LOOP}; done"
    clients = [box.begin("exec", "c", "sh", "-c", script) for _ in range(2)]
    for client in clients:
        assert client.stdout.readline() == b"ready\n"
    pids = [children(client.pid)[0] for client in clients]
    box.do(*verb, "c")
    assert [box.finish(client).returncode for client in clients] == [137, 137]
    assert all(ended(pid) for pid in pids)


@pytest.mark.parametrize("verb", [("stop",), ("rm", "-f")], ids=" ".join)
def test_it_dies_with_its_container_also_where_pids_are_shared(box, until, verb):
    box.run("--share=pid")
    client = box.begin("exec", "c", "sleep", "1000")
    until(lambda: "sleep" in [comm(pid) for pid in children(client.pid)])
    box.do(*verb, "c")
    assert box.finish(client, 3).returncode == 137


# exec -d


@pytest.mark.parametrize("option", ["--net=none", "--init", "--userns=host"])
def test_detached_it_returns_at_once_and_the_command_stays(box, tmp_path, until, option):
    os.chmod(tmp_path, 0o777)
    box.run(option, "-v", f"{tmp_path}:/mnt")
    script = "echo $$ $1 > /mnt/new; mv /mnt/new /mnt/said; exec sleep 1000"
    done = box("exec", "-d", "c", "sh", "-c", script, "sh", "word")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    until((tmp_path / "said").exists)
    inner, word = (tmp_path / "said").read_text().split()
    assert word == "word"
    until(lambda: box.do("exec", "c", "cat", f"/proc/{inner}/comm") == "sleep")
    assert box.do("exec", "c", "readlink", f"/proc/{inner}/fd/1") == "/dev/null"
    box.do("stop", "c")
    assert box.status() == "exited"


@pytest.mark.parametrize(("command", "code"), [("/no/such", 127), ("/etc", 126)])
def test_detached_a_command_that_cannot_be_run(shared_box, command, code):
    assert command in shared_box.refused("exec", "-d", "plain", command, code=code)


def test_detached_with_user_variables_and_directory(box, tmp_path, until):
    os.chmod(tmp_path, 0o777)
    box.run("-v", f"{tmp_path}:/mnt")
    script = "echo $(id -u) $A $(pwd) > /mnt/new; mv /mnt/new /mnt/said"
    box.do("exec", "-d", "-u", "user", "-e", "A=b", "-w", "/tmp", "c", "sh", "-c", script)
    until((tmp_path / "said").exists)
    assert (tmp_path / "said").read_text() == "1000 b /tmp\n"


# The container's cgroup is its, too.


@pytest.fixture
def hierarchy(helper, box, tmp_path, until):
    """A cgroup of the test's own, below a mount that only a helper has: (the helper, where it is
    there). The machine's own mounts are left alone."""
    name, place = f"minibox-test-{os.getpid()}", tmp_path / "cgroup"
    place.mkdir()
    script = f"{cgroups.MOUNT_V2} {place}; mkdir {place}/{name}"
    there = helper("--mount", "--propagation=private", script=script)
    yield there, place / name
    try:
        box.close()
    finally:
        remove = f"cd {place} && rmdir {name}/inner {name}"
        until(lambda: there.run("sh", "-c", remove).returncode == 0)  # nobody is in it any more


def test_it_is_moved_into_the_containers_cgroup(box, hierarchy):
    there, place = hierarchy
    enter = f'mkdir {place}/inner; echo $$ > {place}/inner/cgroup.procs; exec "$@"'
    run = box.words("run", "-d", "--name", "c", box.rootfs, "sleep", "1000")
    assert there.run("sh", "-c", enter, "sh", *run).returncode == 0
    nsenter = ["nsenter", "-t", str(there.pid), "-m", "--"]
    words = box.words("exec", "c", "sh", "-c", "cat /proc/self/cgroup; read line")
    with subprocess.Popen(
        [*nsenter, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as client:
        seen = next(line for line in client.stdout if line.startswith(b"0::"))
        (pid,) = children(client.pid)
        first = box.state()["Pid"]
        its, theirs, clients = [
            Path(f"/proc/{one}/cgroup").read_text() for one in (pid, first, client.pid)
        ]
        client.communicate(b"\n")
    assert seen == b"0::/\n"  # as the container's cgroup namespace shows it
    assert its == theirs != clients


# Nobody inside sees what it was before.

# Look for a second at every process but those there were at the start: print what its links say,
# each text once. It is bound to look at some of them before they are the command.
READER = r"""
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
static char seen[4096][256];
static int n_seen;
static void say(const char *kind, const char *text) {
    char line[256];
    snprintf(line, sizeof line, "%s %s", kind, text);
    for (int k = 0; k < n_seen; k++)
        if (!strcmp(seen[k], line)) return;
    if (n_seen < 4096) strcpy(seen[n_seen++], line);
    puts(line);
}
static void look(int pid, const char *kind) {
    char path[64], text[200];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, kind);
    ssize_t size = readlink(path, text, sizeof text - 1);
    if (size >= 0) {
        text[size] = 0;
        say(kind, text);
    }
}
static void look_into(int pid, const char *kind) {
    char path[64], byte;
    snprintf(path, sizeof path, "/proc/%d/%s", pid, kind);
    int fd = open(path, O_RDONLY);
    if (fd >= 0) {
        char name[16] = "";
        snprintf(path, sizeof path, "/proc/%d/comm", pid);
        int comm = open(path, O_RDONLY);
        if (comm >= 0 && read(comm, name, sizeof name - 1) > 0 && read(fd, &byte, 1) >= 0) {
            name[strcspn(name, "\n")] = 0;
            say(kind, name);
        }
        close(comm);
        close(fd);
    }
}
int main(int argc, char **argv) {
    int pids = 0, last = 0, met = 0, self = getpid();
    time_t end = time(0) + 60;
    puts("ready");
    fflush(stdout);
    while (time(0) < end && access(argv[1], F_OK)) {
        DIR *proc = opendir("/proc");
        for (struct dirent *entry; (entry = readdir(proc));) {
            int pid = atoi(entry->d_name);
            if (pid <= 1 || pid == self) continue;
            met = pid != last ? met + 1 : met;
            last = pid;
            look(pid, "exe");
            look(pid, "cwd");
            look(pid, "root");
            for (int fd = 3; fd < 30; fd++) {
                char name[16];
                snprintf(name, sizeof name, "fd/%d", fd);
                look(pid, name);
            }
            look_into(pid, "maps");
            look_into(pid, "environ");
        }
        closedir(proc);
    }
    printf("met %d\n", met);
    return 0;
}
"""


@pytest.mark.parametrize(
    "options",
    [(), ("--userns=host",), ("--cap-add=SYS_PTRACE",)],
    ids=["plain", "host ids", "ptrace"],
)
def test_nobody_inside_sees_what_it_was_before(box, tree, tmp_path, options):
    (tmp_path / "reader.c").write_text(READER)
    words = ["cc", "-O1", "-w", "-static", "-o", str(tree / "reader"), str(tmp_path / "reader.c")]
    subprocess.run(words, check=True)
    box.run(*options, root=tree)
    reader = box.begin("exec", "c", "/reader", "/over")
    assert reader.stdout.readline() == b"ready\n"
    end = time.monotonic() + 0.7
    while time.monotonic() < end:
        clients = [box.begin("exec", "c", "/bin/true") for _ in range(2)]
        assert {box.finish(client).returncode for client in clients} == {0}
    (tree / "over").touch()
    *lines, met = box.finish(reader).stdout.decode().splitlines()
    assert int(met.split()[1]) > 0
    found = {}
    for line in lines:
        kind, _, text = line.partition(" ")
        found.setdefault("fd" if kind.startswith("fd/") else kind, set()).add(text)
    assert found.get("exe", set()) <= {"/bin/busybox"}
    assert found.get("cwd", set()) | found.get("root", set()) <= {"/"}
    assert found.get("fd", set()) == set()
    assert found.get("maps", set()) | found.get("environ", set()) <= {"true", "sleep"}
