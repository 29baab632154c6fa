# SPDX-License-Identifier: Apache-2.0
"""Any system call may fail, in the supervisor or in the container's first process: then there is
one message and no container, or the whole container. Never a weaker one, never a hang."""

from __future__ import annotations

import pytest

# What main does first: whatever fails before is a failure of the interpreter's own start.
MAIN = 'openat(AT_FDCWD, "/dev/null", O_RDWR'
# What the foreground does first, when everything is imported and read.
LAUNCH = "rt_sigaction(SIGCHLD, {sa_handler=SIG_DFL, sa_mask=[], sa_flags=0}, NULL"
ERRORS = ("EPERM", "ENOSYS", "ENOMEM", "EMFILE", "EINTR")
# Nothing can fail in the first two; the third has a test of its own.
# brk(2) has no error: it returns where the heap ends, and an errno there is one that never was.
OF_ITS_OWN = ("exit_group", "rt_sigreturn", "futex", "brk")
HUNG = "it hangs"
FAILED = (125, 126, 127)

# What the child calls and neither Python's start nor the probe does -> how often.
OF_THE_CHILD = {
    "clone3": 2, "setgroups": 1, "setresuid": 1, "setresgid": 1, "setsid": 1, "keyctl": 1,
    "sethostname": 1, "socket": 1, "open_tree": 1, "mount_setattr": 2, "move_mount": 4,
    "mkdirat": 6, "openat2": 3, "fsopen": 3, "fsconfig": 5, "fsmount": 3, "mknodat": 6,
    "mount": 9, "symlinkat": 5, "fchdir": 2, "pivot_root": 1, "umount2": 1, "chdir": 1,
    "close_range": 1, "ppoll": 1, "umask": 1,
}  # fmt: skip
# These with other options, which bring in more calls.
STAGED = ("execveat", "memfd_create", "setgroups", "setresuid", "setresgid")
LAYERED = ("mount_setattr", "fsmount", "fsconfig", "move_mount", "mkdirat", "fchdir", "umount2")
CLOCKS = ("unshare", "setdomainname", "openat2")


@pytest.fixture(scope="module")
def sound():
    """Options -> what the probe says in a container that nothing has happened to."""
    return {}


@pytest.fixture
def judge(command, sound, rootfs, probe, normal_probe, message, no_process_left):
    """`judge(options, fault, follow)`: what is wrong with how a run took the fault, or None."""

    def expected(options):
        if options not in sound:
            done = command.run("run", *options, rootfs, "/bin/sh", "-c", probe)
            assert (done.returncode, done.stderr) == (0, b"")
            sound[options] = normal_probe(done.stdout)
            assert sound[options].endswith("sound\n")
        return sound[options]

    def judge(options, fault, follow):
        words = ("run", *options, rootfs, "/bin/sh", "-c", probe)
        whole = expected(options)
        done = command.inject(fault, *words, follow=follow)
        problems = [_about_the_end(done, message)]
        if done.stdout and normal_probe(done.stdout) != whole:
            problems.append(f"weaker: {_difference(normal_probe(done.stdout), whole)}")
        if follow and done.returncode and done.stdout:
            problems.append("the command has run although set-up failed")
        if not no_process_left():
            problems.append("a process is left")
        return [f"{fault}: {problem}" for problem in problems if problem]

    return judge


def _about_the_end(done, message):
    """What is wrong with exit code and message."""
    if done.returncode == 0:
        return None if done.stdout else "success, and the command has not run"
    if done.returncode == HUNG:
        return HUNG
    if done.returncode not in FAILED:
        return f"exit code {done.returncode}: {done.stderr!r}"
    return message(done.stderr)


def _difference(found, whole):
    lines, wanted = found.split("\n"), whole.split("\n")
    return [line for line in lines if line not in wanted], [
        line for line in wanted if line not in lines
    ]


def _all(judge, options, names_and_counts, errors):
    found = []
    for name, count in names_and_counts:
        for k in range(1, count + 1):
            error = errors[k % len(errors)]
            found += judge(options, f"{name}:error={error}:when={k}", True)
    return found


@pytest.mark.parametrize("error", ERRORS)
def test_a_failing_call_of_the_child_means_no_container_or_a_sound_one(judge, unchanged, error):
    """The first occurrence of each, with each error."""
    names = [(name, 1) for name in OF_THE_CHILD]
    assert _all(judge, (), names, [error]) == []


def test_a_later_failing_call_of_the_child_means_no_container(judge, unchanged):
    names = [(name, count) for name, count in OF_THE_CHILD.items() if count > 1]
    assert _all(judge, (), names, ERRORS) == []


@pytest.mark.parametrize(
    "call",
    ["clone3", "close", "futex", "mmap", "openat", "pidfd_open", "poll", "prctl", "rt_sigprocmask",
     "rt_sigaction", "signalfd4", "waitid"],
)  # fmt: skip
def test_a_call_that_never_works_means_no_container(
    command, judge, unchanged, rootfs, tmp_path, call
):
    """From the launch on, in the supervisor."""
    lines = command.trace(tmp_path / "trace", "run", rootfs, "/bin/true")
    first = min(k for name, k in command.numbered(lines, LAUNCH) if name == call)
    faults = [f"{call}:error={error}:when={first}+" for error in ("EPERM", "ENOSYS", "ENOMEM")]
    assert [problem for fault in faults for problem in judge((), fault, False)] == []


@pytest.mark.parametrize("options", [("--init",), ("--userns", "host")], ids=" ".join)
def test_a_failing_call_of_the_stage_means_no_container_or_a_sound_one(judge, unchanged, options):
    names = [(name, 1) for name in STAGED]
    if "--init" in options:
        names.append(("clone", 1))
    assert _all(judge, options, names, ["EPERM"]) == []
    assert _all(judge, options, names, ["ENOSYS"]) == []


def test_a_failing_call_for_an_overlay_means_no_container(judge, unchanged):
    options = ("--overlay", "--read-only", "--tmpfs", "/tmp")
    assert _all(judge, options, [(name, 9) for name in LAYERED], ERRORS) == []


def test_a_failing_call_for_clocks_and_names_means_no_container(judge, unchanged):
    options = ("--boottime", "5", "--domainname", "example", "--workdir", "/var")
    assert _all(judge, options, [(name, 1) for name in CLOCKS], ["EPERM"]) == []


@pytest.mark.parametrize("error", ["EACCES", "ENOMEM", "E2BIG", "ETXTBSY", "EIO", "ENOEXEC"])
def test_an_exec_that_fails_is_126_and_one_message(command, rootfs, message, unchanged, error):
    """when=2: the first exec of each process is Python's or minibox's own; `echo` is searched in
    PATH, and the second place is where it would not be found anyway."""
    fault = f"execve:error={error}:when=6"
    done = command.inject(fault, "run", rootfs, "echo", "started", follow=True)
    assert (done.returncode, done.stdout) == (126, b"")
    assert message(done.stderr) is None


def test_each_failing_call_of_the_supervisor_means_no_container_or_a_sound_one(
    command, judge, unchanged, rootfs, tmp_path
):
    """From the launch to the end, in the supervisor alone; each call with one of the errors."""
    lines = command.trace(tmp_path / "trace", "run", rootfs, "/bin/true")
    calls = command.numbered(lines, LAUNCH)
    assert len(calls) > 30
    found = []
    for i, (name, k) in enumerate(calls):
        if name not in OF_ITS_OWN:
            error = ERRORS[i % len(ERRORS)]
            found += judge((), f"{name}:error={error}:when={k}", False)
    assert found == []


@pytest.mark.parametrize("error", ERRORS)
def test_each_kind_of_call_of_the_supervisor_may_fail(
    command, judge, unchanged, rootfs, tmp_path, error
):
    """The first occurrence of each kind after the launch, and the last, with each error."""
    lines = command.trace(tmp_path / "trace", "run", rootfs, "/bin/true")
    calls = command.numbered(lines, LAUNCH)
    chosen = dict(reversed(calls)).items() | dict(calls).items()
    found = []
    for name, k in sorted(chosen):
        if name not in OF_ITS_OWN:
            found += judge((), f"{name}:error={error}:when={k}", False)
    assert found == []


def test_a_failing_call_while_minibox_is_imported_is_one_message(
    command, judge, unchanged, rootfs, tmp_path
):
    """From main's first call to the launch: a sample of the files that are read."""
    lines = command.trace(tmp_path / "trace", "run", rootfs, "/bin/true")
    before = len(command.numbered(lines, MAIN)) - len(command.numbered(lines, LAUNCH))
    # The C library does not survive every error of its allocator's; minibox has no part in that.
    # And some calls cannot fail.
    left_out = ("brk", "mmap", "munmap", "mremap", "geteuid", "getegid", "getuid", "getpid")
    calls = [call for call in command.numbered(lines, MAIN)[:before] if call[0] not in left_out]
    assert len(calls) > 100
    found = []
    for i, (name, k) in enumerate(calls):
        if i % 17 == 0:
            error = ("EMFILE", "ENOMEM", "EIO")[i // 17 % 3]
            found += judge((), f"{name}:error={error}:when={k}", False)
    # A module that cannot be read has no better name than Python's.
    assert [problem for problem in found if "internal error: ImportError" not in problem
            and "internal error: ModuleNotFoundError" not in problem] == []  # fmt: skip


@pytest.mark.parametrize("error", ["EMFILE", "ENFILE", "ENOMEM"])
@pytest.mark.parametrize("options", [(), ("--init",)], ids=["default", "init"])
@pytest.mark.parametrize("call", ["pidfd_open", "signalfd4", "mmap", "memfd_create"])
def test_a_resource_that_runs_out_is_called_by_its_name(
    command, rootfs, tmp_path, call, options, error
):
    """Not "[Errno 24] Too many open files" alone: the message says what it was for."""
    lines = command.trace(tmp_path / "trace", "run", *options, rootfs, "/bin/true")
    found = [k for name, k in command.numbered(lines, LAUNCH) if name == call]
    if not found:
        return  # the default needs no memfd
    fault = f"{call}:error={error}:when={found[0]}+"
    done = command.inject(fault, "run", *options, rootfs, "/bin/true", follow=False)
    assert done.returncode == 125
    assert b"[Errno" not in done.stderr, done.stderr


def test_facts_about_the_host_that_cannot_be_read_never_weaken_the_container(
    command, judge, unchanged, rootfs, tmp_path
):
    """Who we are is read from /proc/self: not knowing is no reason to give away our own ids."""
    lines = command.trace(tmp_path / "trace", "run", rootfs, "/bin/true")
    calls = command.numbered(lines, "execve(")
    found = []
    for (name, k), line in zip(calls, lines, strict=True):
        if 'openat(AT_FDCWD, "/proc/self/' in line:
            for error in ("EMFILE", "EACCES", "ENOENT"):
                found += judge((), f"{name}:error={error}:when={k}", False)
    assert found == []


def test_without_clone3_the_container_is_as_sound(command, judge, rootfs):
    assert judge((), "clone3:error=ENOSYS", True) == []
    done = command.inject("clone3:error=ENOSYS", "run", rootfs, "/bin/true", follow=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_with_neither_clone3_nor_clone_nothing_starts(command, rootfs, message):
    fault = "clone,clone3:error=ENOSYS"
    argv = ["strace", "-f", "-qq", "-o", "/dev/null", f"-einject={fault}", "-etrace=clone,clone3"]
    done = command._execute([*argv, *command_line(rootfs)])
    assert (done.returncode, done.stdout) == (125, b"")
    assert message(done.stderr) is None


def command_line(rootfs):
    import sys
    from pathlib import Path

    return [str(Path(sys.executable).with_name("minibox")), "run", rootfs, "/bin/echo", "started"]


def test_an_interrupted_wait_goes_on(command, rootfs):
    """EINTR from what waits is no failure at all."""
    for call in ("poll", "waitid"):
        fault = f"{call}:error=EINTR:when=1"
        done = command.inject(fault, "run", rootfs, "/bin/echo", "done", follow=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"done\n", b"")
