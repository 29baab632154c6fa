# SPDX-License-Identifier: Apache-2.0
"""minibox.clone: every flag has its effect, every rejection its errno."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import select
import signal
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

import minibox
from minibox import core
from minibox import syscalls as sc
from minibox.numbers import NUMBERS
from minibox.plan import Memory, Op, Slot, Strings
from tests.conftest import PATIENCE
from tests.system import cgroups

DEADLINE = 10.0 * PATIENCE
KCMP_VM, KCMP_FILES, KCMP_FS, KCMP_SIGHAND, KCMP_IO, KCMP_SYSVSEM = 1, 2, 3, 4, 5, 6
MS_REC_PRIVATE = 0x4000 | 1 << 18
SHARED_HANDLERS = sc.CLONE_VM | sc.CLONE_SIGHAND
THREAD = sc.CLONE_VM | sc.CLONE_FS | sc.CLONE_FILES | sc.CLONE_SIGHAND | sc.CLONE_THREAD
NAMESPACES = {
    "mnt": sc.CLONE_NEWNS,
    "uts": sc.CLONE_NEWUTS,
    "ipc": sc.CLONE_NEWIPC,
    "pid": sc.CLONE_NEWPID,
    "net": sc.CLONE_NEWNET,
    "user": sc.CLONE_NEWUSER,
    "cgroup": sc.CLONE_NEWCGROUP,
    "time": sc.CLONE_NEWTIME,
}


def raw(call, *args, **how):
    """An op that has no constructor."""
    return Op(call, NUMBERS[call], args, **how)


@contextmanager
def child(*program, flags=0, **how):
    """A child that runs the program; it is ended, reaped and closed."""
    clone = minibox.clone(program, flags, **how)
    try:
        yield clone
    finally:
        clone.go()
        if not flags & sc.CLONE_THREAD:
            try:
                os.kill(clone.pid, signal.SIGKILL)
                os.waitpid(clone.pid, 0x40000000)
            except (ProcessLookupError, ChildProcessError):
                pass
        else:
            assert clone.left(DEADLINE)
        clone.close()


def run(*program, flags=0, **how):
    """Run the program to its end: (results by op, exit code)."""
    with child(*program, flags=flags, **how) as clone:
        status = clone.wait()
        return clone.report().results, status.exit_code


def kcmp(pid, kind):
    """0: it is one and the same resource (kcmp(2))."""
    try:
        return core.syscall(NUMBERS["kcmp"], os.getpid(), pid, kind, 0, 0)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            pytest.skip("this kernel has no kcmp")
        raise


def status_of(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def namespace(kind, pid="self"):
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def in_python(source, *prefix):
    """Run a program in another Python, beside strace perhaps: its stdout as text."""
    head = "import errno, os, signal, sys\nimport minibox\nfrom minibox import syscalls as sc\nfrom minibox.numbers import NUMBERS\n"
    words = [*prefix, sys.executable, "-I", "-c", head + source]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


# The plain child.


@pytest.mark.parametrize("call", [0, 2, 3])
def test_a_child_runs_its_program_and_ends(call):
    results, code = run(raw("getpid"), raw("getppid"), call=call)
    assert code == 0
    assert results[0] != os.getpid()
    assert results[1] == os.getpid()


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_a_child_ends_with_the_code_that_it_asks_for(code):
    assert run(sc.exit_(code))[1] == code


def test_a_child_has_a_copy_of_everything():
    with child(sc.gate()) as clone:
        kinds = (KCMP_VM, KCMP_FILES, KCMP_FS, KCMP_SIGHAND)
        assert all(kcmp(clone.pid, kind) != 0 for kind in kinds)
        assert all(namespace(kind, clone.pid) == namespace(kind) for kind in NAMESPACES)


def test_a_child_that_is_killed_says_by_which_signal():
    with child(sc.gate()) as clone:
        os.kill(clone.pid, signal.SIGKILL)
        status = clone.wait()
    assert (status.exit_code, status.signal) == (137, 9)


# What is shared: the same kernel object with the flag, and its effect in the parent.

SHARED = {
    "VM": (sc.CLONE_VM, KCMP_VM),
    "FS": (sc.CLONE_FS, KCMP_FS),
    "FILES": (sc.CLONE_FILES, KCMP_FILES),
    "SIGHAND": (sc.CLONE_VM | sc.CLONE_SIGHAND, KCMP_SIGHAND),
}


@pytest.mark.parametrize("call", [2, 3])
@pytest.mark.parametrize("name", SHARED)
def test_a_sharing_flag_shares_the_kernels_object(name, call):
    flags, kind = SHARED[name]
    with child(sc.gate(), flags=flags, call=call) as clone:
        assert kcmp(clone.pid, kind) == 0
    others = {other for _, other in SHARED.values()} - {kind, KCMP_VM}
    with child(sc.gate(), flags=flags, call=call) as clone:
        assert all(kcmp(clone.pid, other) != 0 for other in others)


def test_io_shares_the_io_context():
    """In another process, as an I/O context stays once it is made (ioprio_set(2))."""
    source = """
from minibox import core
number = {"x86_64": 251, "aarch64": 30}[os.uname().machine]
core.syscall(number, 1, 0, 2 << 13 | 4)
for flags in (sc.CLONE_IO, 0):
    clone = minibox.clone([sc.gate()], flags)
    print(core.syscall(NUMBERS["kcmp"], os.getpid(), clone.pid, 5, 0, 0) == 0)
    clone.go(); clone.wait(); clone.close()
"""
    assert in_python(source).split() == ["True", "False"]


def test_sysvsem_shares_the_undo_list():
    with child(sc.gate(), flags=sc.CLONE_SYSVSEM) as clone:
        assert kcmp(clone.pid, KCMP_SYSVSEM) == 0
    with child(sc.gate()) as clone:
        assert kcmp(clone.pid, KCMP_SYSVSEM) != 0


@pytest.mark.parametrize("flags", [sc.CLONE_VM, 0])
def test_vm_lets_the_parent_see_what_the_child_writes(flags):
    """read(2) of the child's into memory of this process's own."""
    word = ctypes.create_string_buffer(b"before")
    read, write = os.pipe()
    os.write(write, b"AFTER!")
    read_number = {"x86_64": 0, "aarch64": 63}[os.uname().machine]
    try:
        run(Op("read", read_number, (read, ctypes.addressof(word), 6)), flags=flags)
    finally:
        os.close(read)
        os.close(write)
    assert word.value == (b"AFTER!" if flags else b"before")


@pytest.mark.parametrize("flags", [sc.CLONE_FS, sc.CLONE_FS | sc.CLONE_VM, 0])
def test_fs_makes_a_chdir_and_umask_the_parents_too(flags, tmp_path):
    directory, mask = os.getcwd(), os.umask(0o022)
    os.umask(0o022)
    try:
        run(sc.chdir(os.fsencode(tmp_path)), sc.umask(0o027), flags=flags)
        assert os.getcwd() == (str(tmp_path) if flags else directory)
        assert os.umask(0o022) == (0o027 if flags else 0o022)
    finally:
        os.chdir(directory)
        os.umask(mask)


@pytest.mark.parametrize("flags", [sc.CLONE_FILES, 0])
def test_files_makes_an_open_file_the_parents_too(flags, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    path = os.fsencode(tmp_path / "file")
    results, _ = run(sc.openat(sc.AT_FDCWD, path, sc.O_RDONLY), flags=flags)
    fd = results[0]
    if flags:
        assert os.readlink(f"/proc/self/fd/{fd}") == os.fsdecode(path)
        os.close(fd)
    else:
        assert not os.path.exists(f"/proc/self/fd/{fd}")


@pytest.mark.parametrize("flags", [sc.CLONE_FILES, 0])
def test_files_makes_a_close_the_parents_too(flags):
    read, write = os.pipe()
    os.close(write)
    run(sc.close(read), flags=flags)
    if flags:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.close(read)
    else:
        os.close(read)


@pytest.mark.parametrize("flags", [sc.CLONE_VM | sc.CLONE_SIGHAND, sc.CLONE_VM])
def test_sighand_makes_a_sigaction_the_parents_too(flags):
    before = signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    ignore = Memory(struct.pack("=4Q", 1, 0, 0, 0))
    try:
        run(raw("rt_sigaction", signal.SIGUSR2, ignore, None, 8), flags=flags)
        ignored = bool(int(status_of("self")["SigIgn"], 16) & 1 << signal.SIGUSR2 - 1)
        assert ignored == bool(flags & sc.CLONE_SIGHAND)
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_without_sighand_the_parents_handlers_stay():
    before = status_of("self")["SigCgt"], status_of("self")["SigIgn"]
    run(raw("getpid"), flags=sc.CLONE_VM)
    assert (status_of("self")["SigCgt"], status_of("self")["SigIgn"]) == before


# Threads, parents, and ends.


@pytest.mark.parametrize("call", [2, 3])
def test_a_thread_is_of_this_process(call):
    program = [raw("getpid"), raw("gettid"), sc.gate()]
    with child(*program, flags=THREAD, exit_signal=0, call=call) as clone:
        assert str(clone.pid) in os.listdir("/proc/self/task")
        with pytest.raises(ChildProcessError):
            clone.wait()
        clone.go()
        assert clone.left(DEADLINE)
        results = clone.report().results
    assert results[:2] == [os.getpid(), clone.pid]
    deadline = time.monotonic() + DEADLINE
    while str(clone.pid) in os.listdir("/proc/self/task"):
        assert time.monotonic() < deadline


def test_parent_makes_it_the_callers_parents_child():
    """Made by another process, so that this one, its parent, can reap it."""
    source = """
clone = minibox.clone([sc.gate()], sc.CLONE_PARENT, exit_signal=0)
parent = [line.split()[1] for line in open(f"/proc/{clone.pid}/status") if line.startswith("PPid")]
try:
    clone.wait()
    error = 0
except OSError as caught:
    error = caught.errno
print(clone.pid, parent[0], error)
clone.go()
clone.close()
"""
    pid, parent, error = map(int, in_python(source).split())
    assert (parent, error) == (os.getpid(), errno.ECHILD)
    assert os.waitpid(pid, 0)[0] == pid


@pytest.mark.parametrize("flags", [sc.CLONE_VFORK, sc.CLONE_VFORK | sc.CLONE_VM, 0])
def test_vfork_suspends_the_parent_until_the_child_is_done(flags):
    pause = Memory(struct.pack("=qq", 0, 100_000_000))
    began = time.monotonic()
    clone = minibox.clone([raw("nanosleep", pause, None)], flags)
    took = time.monotonic() - began
    clone.wait()
    clone.close()
    assert (took >= 0.1) == bool(flags)


def test_the_exit_signal_is_the_one_that_was_asked_for():
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    try:
        with child(raw("getpid"), exit_signal=signal.SIGUSR1) as clone:
            assert clone.wait().exit_code == 0
        assert seen == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_without_an_exit_signal_a_plain_wait_does_not_see_it():
    with child(sc.exit_(3), exit_signal=0) as clone:
        with pytest.raises(ChildProcessError):
            os.waitpid(clone.pid, 0)
        assert clone.wait().exit_code == 3


@pytest.mark.parametrize("call", [2, 3])
def test_the_pidfd_tells_of_the_end_and_takes_signals(call):
    with child(sc.gate(), call=call) as clone:
        poll = select.poll()
        poll.register(clone.pidfd, select.POLLIN)
        assert poll.poll(0) == []
        core.pidfd_send_signal(clone.pidfd, signal.SIGKILL)
        assert poll.poll(DEADLINE * 1000)
        assert clone.wait().signal == signal.SIGKILL


def test_the_child_is_known_to_have_left_the_shared_memory():
    with child(sc.gate(), flags=sc.CLONE_VM) as clone:
        assert not clone.left(0.01)
        clone.go()
        assert clone.left(DEADLINE)


def test_settls_sets_the_thread_pointer():
    if os.uname().machine != "x86_64":
        pytest.skip("this kernel has no arch_prctl")
    read, write = os.pipe()
    base, found = 0x7000_0000_1230, Memory(bytes(8))
    program = [
        Op("arch_prctl", 158, (0x1003, found)),
        sc.write(write, b""),
        raw("write", write, found, 8),
    ]
    try:
        run(*program, flags=sc.CLONE_SETTLS | sc.CLONE_VM, tls=base)
        assert struct.unpack("Q", os.read(read, 8)) == (base,)
        run(*program, flags=sc.CLONE_VM, tls=base)
        assert struct.unpack("Q", os.read(read, 8)) != (base,)
    finally:
        os.close(read)
        os.close(write)


def test_a_thread_pointer_that_is_no_address_is_refused():
    if os.uname().machine != "x86_64":
        pytest.skip("this kernel has no arch_prctl")
    assert_refused(errno.EPERM, flags=sc.CLONE_SETTLS, tls=1 << 62)


# Namespaces.


@pytest.mark.parametrize("kind", NAMESPACES)
def test_a_new_namespace_is_another_one_and_the_only_one(kind):
    with child(sc.gate(), flags=NAMESPACES[kind]) as clone:
        other = {k for k in NAMESPACES if namespace(k, clone.pid) != namespace(k)}
    assert other == {kind}


@pytest.mark.parametrize("kind", set(NAMESPACES) - {"time"})
def test_it_can_be_made_by_clone_and_with_shared_memory_as_well(kind):
    for call in (2, 3):
        with child(sc.gate(), flags=NAMESPACES[kind] | sc.CLONE_VM, call=call) as clone:
            assert namespace(kind, clone.pid) != namespace(kind)


def test_a_time_namespace_needs_clone3():
    """Its bit is part of the exit signal in clone's flags."""
    with child(sc.gate(), flags=sc.CLONE_NEWTIME, call=3) as clone:
        assert namespace("time", clone.pid) != namespace("time")


def test_all_namespaces_at_once():
    flags = 0
    for flag in NAMESPACES.values():
        flags |= flag
    with child(sc.gate(), flags=flags) as clone:
        assert all(namespace(kind, clone.pid) != namespace(kind) for kind in NAMESPACES)


def test_a_name_that_is_set_in_newuts_stays_there():
    name = os.uname().nodename
    run(sc.sethostname(b"minibox-test"), sc.setdomainname(b"minibox-test"), flags=sc.CLONE_NEWUTS)
    assert os.uname().nodename == name


def test_in_newpid_it_is_the_first():
    with child(raw("getpid"), raw("getppid"), sc.gate(), flags=sc.CLONE_NEWPID) as clone:
        deadline = time.monotonic() + DEADLINE
        while clone.report().results[0] == 0:
            assert time.monotonic() < deadline
        assert status_of(clone.pid)["NSpid"].split() == [str(clone.pid), "1"]
        assert clone.report().results[:2] == [1, 0]


def test_in_newnet_there_is_only_loopback():
    with child(sc.gate(), flags=sc.CLONE_NEWNET) as clone:
        lines = Path(f"/proc/{clone.pid}/net/dev").read_text().splitlines()[2:]
    assert [line.partition(":")[0].strip() for line in lines] == ["lo"]


def test_in_newuser_it_has_every_capability_and_no_ids():
    with child(sc.gate(), flags=sc.CLONE_NEWUSER) as clone:
        assert Path(f"/proc/{clone.pid}/uid_map").read_text() == ""
        # All that this kernel knows, also where the parent's bounding set lacks some.
        assert status_of(clone.pid)["CapEff"] == status_of(clone.pid)["CapBnd"]
        last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
        assert int(status_of(clone.pid)["CapEff"], 16) == (1 << last + 1) - 1


@pytest.mark.parametrize("flags", [sc.CLONE_NEWNS, 0])
def test_a_mount_in_newns_stays_there(flags, tmp_path):
    target = os.fsencode(tmp_path)
    if not flags:
        assert target.decode() not in Path("/proc/self/mountinfo").read_text()
        return
    program = [
        sc.mount(None, b"/", None, MS_REC_PRIVATE),
        sc.mount(b"minibox-test", target, b"tmpfs", 0),
        sc.gate(),
    ]
    with child(*program, flags=flags) as clone:
        deadline = time.monotonic() + DEADLINE
        while target.decode() not in Path(f"/proc/{clone.pid}/mountinfo").read_text():
            assert time.monotonic() < deadline
        assert target.decode() not in Path("/proc/self/mountinfo").read_text()


def test_a_queue_in_newipc_is_not_seen():
    number = {"x86_64": 68, "aarch64": 186}[os.uname().machine]
    key = 0x4D42_0000 + os.getpid() % 0x10000
    results, _ = run(Op("msgget", number, (key, 0o1600)), flags=sc.CLONE_NEWIPC)
    assert results[0] >= 0
    with pytest.raises(FileNotFoundError):
        core.syscall(number, key, 0)


def test_in_newcgroup_its_cgroup_is_the_root():
    read, write = os.pipe()
    buffer = Memory(bytes(4096))
    number = {"x86_64": 0, "aarch64": 63}[os.uname().machine]
    fd = Slot("fd")
    program = [
        sc.openat(sc.AT_FDCWD, b"/proc/self/cgroup", sc.O_RDONLY, to=fd),
        Op("read", number, (fd, buffer, 4096)),
        raw("write", write, buffer, 4096),
    ]
    try:
        run(*program, flags=sc.CLONE_NEWCGROUP)
        text = os.read(read, 4096).rstrip(b"\0").decode()
    finally:
        os.close(read)
        os.close(write)
    assert {line.split(":", 2)[2] for line in text.splitlines()} == {"/"}


# What only clone3 can say.


def free_pid():
    """A pid that nobody has, far from the next ones."""
    top = int(Path("/proc/sys/kernel/pid_max").read_text())
    return next(
        pid for pid in range(min(top, 30_000) - 7, 300, -1) if not os.path.exists(f"/proc/{pid}")
    )


def test_the_pid_can_be_chosen():
    pid = free_pid()
    with child(raw("getpid"), set_tid=[pid]) as clone:
        clone.wait()
        assert clone.pid == pid
        assert clone.report().results[0] == pid


def test_the_pids_of_two_namespaces_can_be_chosen():
    pid = free_pid()
    with child(sc.gate(), flags=sc.CLONE_NEWPID, set_tid=[1, pid]) as clone:
        assert status_of(clone.pid)["NSpid"].split() == [str(pid), "1"]


def test_into_cgroup_puts_it_there():
    """With a mount of the second hierarchy that only another process sees; the directory in it
    is gone before that process ends."""
    source = """
from minibox import core
core.syscall(NUMBERS["unshare"], sc.CLONE_NEWNS)
core.syscall(NUMBERS["mount"], b"none\\0", b"/\\0", None, 0x44000, None)
if os.system("MOUNT_V2 /mnt"):
    print("no cgroup2")
    sys.exit()
name = f"/mnt/minibox-test-{os.getpid()}"
os.mkdir(name)
try:
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY)
    clone = minibox.clone([sc.gate()], sc.CLONE_INTO_CGROUP, cgroup=fd)
    line = [l for l in open(f"/proc/{clone.pid}/cgroup") if l.startswith("0::")][0]
    print(line.strip() == "0::/" + os.path.basename(name))
    clone.go(); clone.wait(); clone.close()
finally:
    while True:
        try:
            os.rmdir(name)
            break
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
try:
    minibox.clone([], sc.CLONE_INTO_CGROUP, cgroup=fd)
except OSError as error:
    print(error.errno)
"""
    output = in_python(source.replace("MOUNT_V2", cgroups.MOUNT_V2))
    if "no cgroup2" in output:
        pytest.skip("this kernel has no cgroup2")
    assert output.split() == ["True", str(errno.ENODEV)] or output.split() == [
        "True",
        str(errno.ENOENT),
    ]


def test_a_directory_that_is_no_cgroup2_is_refused(tmp_path):
    v1 = [
        line.split()[1]
        for line in Path("/proc/mounts").read_text().splitlines()
        if line.split()[2] == "cgroup"
    ]
    for directory in [str(tmp_path), *v1[:1]]:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with pytest.raises(OSError) as caught:
                minibox.clone([], sc.CLONE_INTO_CGROUP, cgroup=fd)
            assert caught.value.errno == errno.EBADF
        finally:
            os.close(fd)


def test_clear_sighand_reaches_the_kernel():
    run(raw("getpid"), flags=sc.CLONE_CLEAR_SIGHAND, call=3)
    assert_refused(errno.EINVAL, flags=sc.CLONE_CLEAR_SIGHAND | SHARED_HANDLERS, call=3)


# Seen from outside: what cannot be seen in the child itself.


@pytest.fixture
def traced(tmp_path):
    """What strace sees of clone and clone3 while another Python runs a source."""

    def traced(source, *options):
        log = tmp_path / "log"
        text = in_python(source, "strace", "-o", str(log), "-e", "trace=clone,clone3", *options)
        return text, log.read_text()

    return traced


@pytest.mark.parametrize("call", [2, 3])
@pytest.mark.parametrize(
    "name", ["PARENT_SETTID", "CHILD_SETTID", "CHILD_CLEARTID", "PTRACE", "UNTRACED", "IO"]
)
def test_a_flag_reaches_the_kernel(traced, name, call):
    source = f"""
clone = minibox.clone([sc.exit_(0)], sc.CLONE_{name}, call={call})
print(clone.pid); clone.wait(); clone.close()
"""
    pid, log = traced(source)
    line = next(line for line in log.splitlines() if f"CLONE_{name}" in line)
    assert line.startswith("clone3(" if call == 3 else "clone(")
    if name == "PARENT_SETTID":
        assert f"parent_tid=[{pid.strip()}]" in line


TRACER = """
clone = minibox.clone([sc.gate()], sc.CLONE_{name} if {on} else 0)
print([l.split()[1] for l in open(f"/proc/{{clone.pid}}/status") if l.startswith("TracerPid")][0])
clone.go(); clone.wait(); clone.close()
"""


@pytest.mark.parametrize("on", [True, False])
def test_an_untraced_child_has_no_tracer(traced, on):
    output, _ = traced(TRACER.format(name="UNTRACED", on=on), "-f")
    assert (output.strip() == "0") == on


# Rejections.

BOTH = {
    "NEWNS|FS": {"flags": sc.CLONE_NEWNS | sc.CLONE_FS},
    "NEWUSER|FS": {"flags": sc.CLONE_NEWUSER | sc.CLONE_FS},
    "THREAD": {"flags": sc.CLONE_VM | sc.CLONE_THREAD, "exit_signal": 0},
    "SIGHAND": {"flags": sc.CLONE_SIGHAND},
    "THREAD|NEWUSER": {"flags": THREAD & ~sc.CLONE_FS | sc.CLONE_NEWUSER, "exit_signal": 0},
    "THREAD|NEWPID": {"flags": THREAD | sc.CLONE_NEWPID, "exit_signal": 0},
    "NEWIPC|SYSVSEM": {"flags": sc.CLONE_NEWIPC | sc.CLONE_SYSVSEM},
}
CLONE_ONLY = {
    "PIDFD|PARENT_SETTID": {"flags": sc.CLONE_PIDFD | sc.CLONE_PARENT_SETTID},
    "PIDFD|DETACHED": {"flags": sc.CLONE_PIDFD | sc.CLONE_DETACHED},
}
CLONE3_ONLY = {
    "an exit signal in flags": {"flags": 17},
    "DETACHED": {"flags": sc.CLONE_DETACHED},
    "an unknown bit": {"flags": 1 << 62},
    "SIGHAND|CLEAR_SIGHAND": {"flags": sc.CLONE_VM | sc.CLONE_SIGHAND | sc.CLONE_CLEAR_SIGHAND},
    "THREAD with an exit signal": {"flags": THREAD},
    "PARENT with an exit signal": {"flags": sc.CLONE_PARENT},
    "exit signal 65": {"exit_signal": 65},
    "pid 0": {"set_tid": [0]},
    "pid -1": {"set_tid": [-1]},
    "more pids than namespaces": {"set_tid": [30_000] * 33},
    "pid 2 in a new namespace": {"flags": sc.CLONE_NEWPID, "set_tid": [2]},
}


def assert_refused(number, **how):
    fds, tasks = os.listdir("/proc/self/fd"), os.listdir("/proc/self/task")
    with pytest.raises(OSError) as caught:
        minibox.clone([sc.gate()], **how)
    assert caught.value.errno == number
    assert (os.listdir("/proc/self/fd"), os.listdir("/proc/self/task")) == (fds, tasks)


@pytest.mark.parametrize("call", [0, 2, 3])
@pytest.mark.parametrize("how", BOTH.values(), ids=BOTH)
def test_both_calls_refuse(how, call):
    assert_refused(errno.EINVAL, call=call, **how)


@pytest.mark.parametrize("how", CLONE_ONLY.values(), ids=CLONE_ONLY)
def test_clone_refuses(how):
    assert_refused(errno.EINVAL, call=2, **how)


def test_what_clone_refuses_clone3_takes():
    with child(raw("getpid"), flags=sc.CLONE_PIDFD | sc.CLONE_PARENT_SETTID, call=3) as clone:
        assert clone.wait().exit_code == 0


@pytest.mark.parametrize("how", CLONE3_ONLY.values(), ids=CLONE3_ONLY)
def test_clone3_refuses(how):
    assert_refused(errno.EINVAL, call=3, **how)


def test_what_clone3_refuses_clone_takes():
    with child(raw("getpid"), flags=sc.CLONE_DETACHED, call=2) as clone:
        assert clone.wait().exit_code == 0


def test_a_pid_that_is_taken_is_refused():
    assert_refused(errno.EEXIST, set_tid=[os.getpid()])


def test_a_cgroup_that_is_no_fd_is_refused():
    assert_refused(errno.EBADF, flags=sc.CLONE_INTO_CGROUP, cgroup=10_000)


@pytest.mark.parametrize(
    "how",
    [{"flags": sc.CLONE_INTO_CGROUP}, {"set_tid": [30_000]}, {"flags": sc.CLONE_CLEAR_SIGHAND}],
)
def test_what_clone_cannot_say_is_never_silently_dropped(how):
    fds = os.listdir("/proc/self/fd")
    with pytest.raises(OSError), child(sc.gate(), call=2, **how):
        pass
    assert os.listdir("/proc/self/fd") == fds


@pytest.mark.parametrize(
    ("limit", "flags"),
    [("max_uts_namespaces", sc.CLONE_NEWUTS), ("max_user_namespaces", sc.CLONE_NEWUSER)],
)
def test_a_limit_on_namespaces_is_enospc(limit, flags):
    """The limit of a user namespace of another process's own."""
    source = f"""
from minibox import core
core.syscall(NUMBERS["unshare"], sc.CLONE_NEWUSER)
open("/proc/self/setgroups", "w").write("deny")
open("/proc/self/uid_map", "w").write("0 0 1")
open("/proc/self/gid_map", "w").write("0 0 1")
open("/proc/sys/user/{limit}", "w").write("0")
try:
    minibox.clone([], {flags})
except OSError as error:
    print(error.errno)
"""
    assert int(in_python(source)) == errno.ENOSPC


def test_without_rights_a_namespace_is_eperm():
    source = """
minibox.clone([]).wait()
os.setresuid(12345, 12345, 12345)
for flag in (sc.CLONE_NEWNS, sc.CLONE_NEWUTS, sc.CLONE_NEWPID, sc.CLONE_NEWNET):
    try:
        minibox.clone([], flag)
    except OSError as error:
        print(error.errno)
"""
    assert in_python(source).split() == [str(errno.EPERM)] * 4


# clone3 that does not exist.

NO_CLONE3 = [
    "strace",
    "-f",
    "-qq",
    "-o",
    os.devnull,
    "-e",
    "trace=clone3",
    "-e",
    "inject=clone3:error=ENOSYS",
]


def test_without_clone3_clone_does_it():
    source = """
clone = minibox.clone([sc.exit_(7)], sc.CLONE_NEWUTS | sc.CLONE_VM)
print(clone.pidfd >= 0, clone.wait().exit_code); clone.close()
"""
    assert in_python(source, *NO_CLONE3).split() == ["True", "7"]


@pytest.mark.parametrize(
    "how",
    [
        "set_tid=[30000]",
        "flags=sc.CLONE_CLEAR_SIGHAND",
        "flags=sc.CLONE_INTO_CGROUP",
        "call=3",
        "flags=sc.CLONE_NEWTIME",
    ],
)
def test_without_clone3_what_needs_it_is_enosys(how):
    source = f"""
try:
    clone = minibox.clone([], {how})
    print("made", clone.pid); clone.wait()
except OSError as error:
    print(error.errno)
"""
    assert in_python(source, *NO_CLONE3).split() == [str(errno.ENOSYS)]


def test_without_clone3_containers_run(rootfs):
    source = f"""
for how in ({{}}, {{"init": True}}, {{"userns": "host"}}):
    result = minibox.run(["/bin/sh", "-c", "echo $$; exit 4"], rootfs={rootfs!r}, **how)
    print(result.exit_code, result.stdout)
"""
    lines = in_python(source, *NO_CLONE3).splitlines()
    assert lines == ["4 b'1\\n'", "4 b'2\\n'", "4 b'1\\n'"]


# A call of the program's that fails.


@pytest.mark.parametrize("flags", [0, sc.CLONE_VM, sc.CLONE_NEWNS])
def test_a_call_that_fails_is_an_error_with_its_place(flags):
    program = [raw("getpid"), sc.chdir(b"/no/such/directory"), sc.exit_(3)]
    with child(*program, flags=flags) as clone:
        with pytest.raises(minibox.SetupError) as caught:
            clone.wait()
        report = clone.report()
    error = caught.value
    assert isinstance(error, OSError)
    assert (error.errno, error.step, error.steps) == (errno.ENOENT, 2, 3)
    assert "/no/such/directory" in str(error)
    assert (report.step, report.error) == (1, errno.ENOENT)


def test_an_errno_that_is_tolerated_is_no_error():
    results, code = run(sc.chdir(b"/no/such", ok=(errno.ENOENT,)), sc.exit_(4))
    assert (results[0], code) == (-errno.ENOENT, 4)


def test_a_program_can_become_another(tmp_path):
    read, write = os.pipe()
    program = [
        sc.dup3(write, 1),
        sc.rt_sigprocmask_unblock_all(),
        sc.execve(b"/bin/echo", Strings([b"echo", b"hello"]), Strings([])),
    ]
    try:
        assert run(*program, flags=sc.CLONE_VM | sc.CLONE_VFORK)[1] == 0
        assert os.read(read, 100) == b"hello\n"
    finally:
        os.close(read)
        os.close(write)


def test_a_thousand_children_leave_nothing():
    fds = set(os.listdir("/proc/self/fd"))
    for k in range(1000):
        assert run(sc.exit_(k % 256), flags=sc.CLONE_VM | sc.CLONE_VFORK)[1] == k % 256
    assert set(os.listdir("/proc/self/fd")) == fds
    assert not re.search("minibox-plan", Path("/proc/self/maps").read_text())


def test_the_steps_of_an_init_are_refused_in_pythons_memory():
    for op in (sc.init(), sc.fork(0)):
        with child(op, flags=sc.CLONE_VM) as clone, pytest.raises(OSError) as caught:
            clone.wait()
        assert caught.value.errno == errno.ENOSYS
