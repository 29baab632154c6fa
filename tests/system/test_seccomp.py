# SPDX-License-Identifier: Apache-2.0
"""The filter of system calls, asked by a program inside that makes them."""

from __future__ import annotations

import errno
import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

import minibox
from minibox import seccomp
from minibox.errors import Unsupported
from minibox.numbers import NUMBERS
from minibox.seccomp import filters, rules
from tests import bpf
from tests.ordinary import DROP, uncover
from tests.system.conftest import COMMAND

ABI = rules.MACHINES[os.uname().machine][0]
HERE = bpf.numbers(ABI)
IS_X86 = ABI == "x86_64"
# call NUMBER [ARGUMENT…]: one call in a child, and what it gave; 80 NUMBER …: the same by int 0x80.
PROGRAM = r"""
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <sys/syscall.h>

static long by_int80(const unsigned long *a) {
    long r = -ENOSYS;
#ifdef __x86_64__
    __asm__ volatile("int $0x80" : "=a"(r) : "a"(a[0]), "b"(a[1]), "c"(a[2]), "d"(a[3]), "S"(a[4]),
                     "D"(a[5]) : "memory", "r8", "r9", "r10", "r11");
    r = (int)r;
#endif
    return r;
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        unsigned long a[7] = {0};
        char *text = argv[i];
        int old = *text == '!';
        text += old;
        for (int k = 0; k < 7 && *text; k++) {
            a[k] = strtoul(text, &text, 0);
            text += *text == ',';
        }
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
            long r = old ? by_int80(a) : syscall((long)a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
            if (!old && r == -1) {
                r = -errno;
            }
            printf("%ld\n", r < 0 ? r : 0);
            fflush(stdout);
            _exit(0);
        }
        int status;
        waitpid(pid, &status, 0);
        if (WIFSIGNALED(status)) {
            printf("signal %d\n", WTERMSIG(status));
        }
    }
    while (wait(NULL) > 0) {
        // What a call has made, and pid 1 has inherited, says its answer before all ends.
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def caller(tmp_path_factory):
    """A static program that makes the calls which its arguments say."""
    directory = tmp_path_factory.mktemp("caller")
    (directory / "call.c").write_text(PROGRAM)
    words = ["cc", "-O1", "-w", "-static", "-o", str(directory / "call"), str(directory / "call.c")]
    subprocess.run(words, check=True)
    return directory / "call"


@pytest.fixture
def answers(rootfs, caller):
    """`answers(["uname", …], **options)`: what each call gives inside: an errno's name or ""; a
    call is a name or number, with arguments in a tuple. "!name": i386's, by int 0x80."""

    def ask(asked, **options):
        words = [_word(one) for one in asked]
        done = minibox.run(
            ["/call", *words],
            rootfs=rootfs,
            volumes=[f"{caller}:/call:ro"],
            overlay=True,
            **options,
        )
        assert done.exit_code == 0, done
        return [_answer(line) for line in done.stdout.decode().splitlines()]

    return ask


def _word(asked):
    call, *arguments = asked if isinstance(asked, tuple) else (asked,)
    mark = "!" if str(call).startswith("!") else ""
    table = bpf.numbers("i386") if mark else HERE
    number = table[call.removeprefix("!")] if isinstance(call, str) else call
    return mark + ",".join(str(word) for word in (number, *arguments))


def _answer(line):
    if line.startswith("signal"):
        return line
    return errno.errorcode[-int(line)] if int(line) < 0 else ""


def profile(default, *rules, **fields):
    """A profile's JSON. A rule: (action, names…)."""
    syscalls = [{"names": names, "action": f"SCMP_ACT_{action}"} for action, *names in rules]
    return json.dumps({"defaultAction": f"SCMP_ACT_{default}", "syscalls": syscalls, **fields})


def security(text):
    return {"security_opt": [f"seccomp={text}"]}


STATUS = "grep -E '^(Seccomp|Seccomp_filters):' /proc/self/status | tr -d '\\n\\t'"
FILTERED, FREE = "Seccomp:2Seccomp_filters:1", "Seccomp:0Seccomp_filters:0"
NOT_PERMITTED = (
    *("mount", "umount2", "unshare", "setns", "fsopen", "fsconfig", "fsmount", "fspick"),
    *("move_mount", "open_tree", "mount_setattr", "pivot_root", "bpf", "perf_event_open"),
    *("add_key", "keyctl", "request_key", "userfaultfd", "kexec_load", "kexec_file_load"),
    *("init_module", "finit_module", "delete_module", "reboot", "acct", "swapon", "swapoff"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register", "open_by_handle_at", "syslog"),
    *("settimeofday", "clock_settime", "quotactl", "fanotify_init", "sethostname", "mbind"),
    *("setdomainname", "kcmp", "pidfd_getfd", "process_madvise", "vhangup", "lookup_dcookie"),
    *("move_pages", "migrate_pages", "nfsservctl"),
)
CLONE_NEWUSER, SIGCHLD, HIGH = 0x10000000, 17, 1 << 32


def test_what_is_refused_gives_eperm(answers):
    found = answers(NOT_PERMITTED)
    assert dict(zip(NOT_PERMITTED, found, strict=True)) == dict.fromkeys(NOT_PERMITTED, "EPERM")


def test_it_is_the_filter_that_refuses(answers):
    """The same calls without it fail otherwise, or not at all."""
    names = ("keyctl", "userfaultfd", "io_uring_setup", "kcmp", "move_pages", "bpf", "unshare")
    assert "EPERM" not in answers(names[:1], **security("unconfined"))
    found = answers(names, **security("unconfined"))
    assert len([one for one in found if one != "EPERM"]) >= 4
    assert answers(names) == ["EPERM"] * len(names)


def test_what_programs_need_works(answers):
    asked = ["getpid", "uname", ("chroot", 0), ("ptrace", 0), ("membarrier", 0), ("openat2", 0),
             ("seccomp", 9), ("personality", 0xFFFFFFFF), ("memfd_create", 0), "sched_yield"]  # fmt: skip
    found = answers(asked)
    assert not {"EPERM", "ENOSYS"} & set(found), found


def test_what_is_not_known_is_missing(answers):
    assert answers([1000, 499, 0x3FFFFFFF]) == ["ENOSYS"] * 3


def test_no_user_namespace_by_any_call(answers):
    flags = CLONE_NEWUSER | SIGCHLD
    asked = [("clone", flags), ("clone", flags | HIGH), ("unshare", CLONE_NEWUSER), "clone3"]
    assert answers(asked) == ["EPERM", "EPERM", "EPERM", "ENOSYS"]
    both = answers([("clone", flags)], **security("unconfined"))
    assert both == ["", ""]  # the new process says it, too


@pytest.mark.parametrize("family", [38, 40])
def test_families_that_reach_out(answers, family):
    kinds = [(family, 5), (family | HIGH, 5), (family | 0xFFFFFFFF << 32, 1)]
    found = answers([("socket", *kind) for kind in kinds])
    assert found == ["EAFNOSUPPORT"] * 3
    assert answers([("socket", 1, 1), ("socket", 2 | HIGH, 1), ("socket", 16, 3)]) == [""] * 3


def test_personalities(answers):
    values = (0, 8, 0xFFFFFFFF, 0x0040000, 0x0400000)
    found = answers([("personality", value) for value in values])
    assert found == ["", "", "", "EPERM", "EPERM"]


@pytest.mark.skipif(not IS_X86, reason="this kernel has no int 0x80")
def test_i386_calls_have_the_same_rules(answers):
    flags = CLONE_NEWUSER | SIGCHLD
    asked = ["!getpid", "!mount", ("!unshare", CLONE_NEWUSER), ("!clone", flags), "!clone3", "!keyctl",
             "!io_uring_setup", "!bpf", "!umount", "!vm86", ("!socket", 40, 1), ("!socket", 38, 5),
             ("!socketcall", 1), ("!socketcall", 2), 1000, "!stime"]  # fmt: skip
    expected = [
        "",
        *["EPERM"] * 3,
        "ENOSYS",
        *["EPERM"] * 5,
        *["EPERM"] * 2,  # not EAFNOSUPPORT: default.OWN
        *["ENOSYS"] * 3,
        "EPERM",
    ]
    assert answers(asked) == expected
    # The calls do go through the kernel's i386 table: without the filter they say otherwise.
    assert answers(["!keyctl", ("!socketcall", 1)], **security("unconfined")) != ["EPERM", "ENOSYS"]


@pytest.mark.skipif(not IS_X86, reason="this kernel has no x32 calls")
def test_x32_calls_are_missing(answers):
    x32 = 0x40000000
    asked = [HERE["getpid"] + x32, HERE["mount"] + x32, 520 + x32]
    assert answers(asked) == ["ENOSYS"] * 3
    assert answers(asked, **security(profile("ALLOW"))) == ["ENOSYS"] * 3


def test_what_is_newer_than_a_profile_is_missing(answers):
    """runc's rule: libraries fall back after ENOSYS, not after EPERM."""
    known = [name for name, number in HERE.items() if number < HERE["openat2"] and name != "kcmp"]
    text = profile("ERRNO", ("ALLOW", *known))
    assert answers(["kcmp", "openat2", 1000], **security(text)) == ["EPERM", "ENOSYS", "ENOSYS"]


def test_actions(answers):
    text = profile(
        "ALLOW", ("ERRNO", "acct"), ("KILL_PROCESS", "swapon"), ("KILL", "swapoff"), ("TRAP", "reboot"),
        ("LOG", "getppid"), ("TRACE", "sethostname"),
    )  # fmt: skip
    found = answers(
        ["acct", "swapon", "swapoff", "reboot", "getppid", "sethostname", "getpid"],
        **security(text),
    )
    assert found == ["EPERM", "signal 31", "signal 31", "signal 31", "", "ENOSYS", ""]


def test_arguments(answers):
    rule = {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EACCES,
            "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 2, "op": "SCMP_CMP_NE"}]}  # fmt: skip
    text = json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    asked = [("socket", 1, 1), ("socket", 1, 2), ("socket", 2, 1)]
    assert answers(asked, **security(text)) == ["EACCES", "", ""]


def test_a_flag_reaches_the_kernel(answers):
    text = profile(
        "ALLOW",
        ("LOG", "getppid"),
        flags=["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
    )
    assert answers(["getppid"], **security(text)) == [""]


def test_a_command_that_the_profile_kills(cli, rootfs, tmp_path):
    path = tmp_path / "profile.json"
    path.write_text(profile("ALLOW", ("KILL_PROCESS", "uname")))
    done = cli("run", "--security-opt", f"seccomp={path}", rootfs, "/bin/uname")
    assert (done.returncode, done.stdout) == (128 + 31, b"")


@pytest.mark.parametrize("init", [[], ["--init"]], ids=["plain", "init"])
@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (profile("ERRNO"), 125, b"refuses what starts a command"),
        (profile("ALLOW", ("ERRNO", "execve", "exit", "exit_group")), 126, b"not permitted"),
        (profile("KILL_PROCESS"), 128 + 31, b""),
    ],
    ids=["nothing", "no exit", "killed"],
)
def test_a_profile_that_lets_nothing_start(cli, rootfs, tmp_path, init, text, code, said):
    path = tmp_path / "profile.json"
    path.write_text(text)
    done = cli("run", *init, "--security-opt", f"seccomp={path}", rootfs, "/bin/true", timeout=10)
    assert (done.returncode, done.stdout) == (code, b"") and said in done.stderr, done


def test_who_has_a_filter(inside):
    assert inside(STATUS) == FILTERED
    assert inside(STATUS, "--security-opt", "seccomp=default") == FILTERED
    assert inside(STATUS, "--security-opt", "seccomp=unconfined") == FREE
    assert inside(STATUS, "--security-opt", "seccomp:unconfined") == FREE
    assert inside(STATUS, "--userns", "host") == FILTERED
    assert inside(STATUS, "--share", "pid", "--cap-add", "ALL") == FILTERED


def test_the_init_has_it_too(inside):
    one = STATUS.replace("self", "1")
    assert inside(f"[ $$ != 1 ] && {one}", "--init") == FILTERED
    assert inside(one, "--init", "--security-opt", "seccomp=unconfined") == FREE


def test_the_init_still_works(inside):
    """It reaps, forwards and ends under its own filter."""
    assert inside("(sleep 0.01 &) ; (exit 3); echo $?", "--init") == "3"


def test_a_capability_opens_its_calls(answers):
    with_admin = answers(
        ["mount", ("unshare", 0x04000000), "setns", "keyctl"], cap_add=["SYS_ADMIN"]
    )
    assert with_admin == ["EFAULT", "", "EINVAL", "EPERM"]
    assert answers(["clone3"], cap_add=["SYS_ADMIN"]) == ["EINVAL"]
    assert answers([("chroot", 0)], cap_drop=["SYS_CHROOT"]) == ["EPERM"]
    assert answers(["kcmp"], cap_add=["SYS_PTRACE"]) != ["EPERM"]


def test_mounting_with_the_capability(inside, rootfs):
    script = "mount -t tmpfs none /mnt && grep -c ' /mnt ' /proc/self/mountinfo"
    assert inside(script, "--cap-add", "SYS_ADMIN", "--overlay") == "1"


def test_exec_has_the_containers_filter(box, tmp_path):
    path = tmp_path / "profile.json"
    path.write_text(profile("ALLOW", ("ERRNO", "mkdir", "mkdirat")))
    mkdir = ("/bin/mkdir", "/dev/shm/made")
    for name, option in (("own", str(path)), ("free", "unconfined"), ("usual", "default")):
        box.run("--security-opt", f"seccomp={option}", name=name)
    path.unlink()  # a kept container has what the file said
    assert box.do("exec", "usual", "/bin/sh", "-c", STATUS) == FILTERED
    assert box.do("exec", "free", "/bin/sh", "-c", STATUS) == FREE
    assert box.do("exec", "own", "/bin/sh", "-c", STATUS) == FILTERED
    assert b"Operation not permitted" in box("exec", "own", *mkdir).stderr
    assert box("exec", "usual", *mkdir).returncode == 0
    pid = box.state("usual")["Pid"]
    assert "Seccomp:\t2" in Path(f"/proc/{pid}/status").read_text()
    box.do("restart", "--time", "0", "own")
    assert b"Operation not permitted" in box("exec", "own", *mkdir).stderr


def test_exec_has_the_calls_of_the_containers_capabilities(box):
    box.run("--cap-add", "SYS_ADMIN", "--overlay", name="admin")
    box.run("--overlay", name="usual")
    mount = ("/bin/mount", "-t", "tmpfs", "none", "/mnt")
    assert box("exec", "admin", *mount).returncode == 0
    assert box("exec", "usual", *mount).returncode != 0


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ("nonsense", "none of"),
        ("seccomp=", "write seccomp="),
        ("seccomp=/nonexistent", "No such file"),
        ("seccomp=/bin", "Is a directory"),
        ("seccomp=/dev/zero", "1 MiB"),
        ("seccomp={", "no JSON"),
        ('seccomp={"defaultAction": "SCMP_ACT_NOTIFY"}', "NOTIFY"),
    ],
)
def test_what_is_refused_before_anything_is_made(refused, rootfs, option, word):
    assert word in refused("--security-opt", option, rootfs, "/bin/true")


def test_docker_s_own_form_of_profile(inside, tmp_path):
    text = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {
                "names": ["mkdir", "mkdirat"],
                "action": "SCMP_ACT_ERRNO",
                "excludes": {"caps": ["CAP_BPF"]},
            },
            {"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "99.0"}},
        ],
    }
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(text))
    option = ("--security-opt", f"seccomp={path}")
    script = "mkdir /dev/shm/made 2>/dev/null || echo refused"
    assert inside(script, *option) == "refused"
    assert inside(script, *option, "--cap-add", "BPF") == ""


def test_without_root(rootfs, caller):
    words = [_word(one) for one in ("mount", "keyctl", ("socket", 40 | HIGH, 1), 1000, "getpid")]
    command = [str(COMMAND), "run", "--net", "none", rootfs]
    script = f'{uncover()}\nexec {shlex.join(DROP)} -- "$@"'
    argv = ["unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh"]
    how = {"capture_output": True, "timeout": 30, "cwd": "/", "stdin": subprocess.DEVNULL}
    done = subprocess.run([*argv, *command, "/bin/sh", "-c", STATUS], **how)
    assert (done.stdout.decode(), done.stderr) == (FILTERED, b"")
    public = f"mkdir -p /mnt && mount -t tmpfs none /mnt && cp {caller} /mnt/call && chmod 755 /mnt/call\n"
    argv[5] = public + script
    command[4:4] = ["--overlay", "--volume", "/mnt/call:/call:ro"]
    done = subprocess.run([*argv, *command, "/call", *words], **how)
    found = [_answer(line) for line in done.stdout.decode().splitlines()]
    assert found == ["EPERM", "EPERM", "EAFNOSUPPORT", "ENOSYS", ""], done


def test_a_call_of_the_library_makes_the_filter_once(rootfs, monkeypatch):
    minibox.run(["/bin/true"], rootfs=rootfs, cap_add=["SYS_TIME"])
    monkeypatch.setattr(filters, "_make", lambda *_: pytest.fail("it is made again"))
    monkeypatch.setattr(seccomp, "ready_path", lambda *_: pytest.fail("it is read again"))
    assert minibox.run(["/bin/true"], rootfs=rootfs, cap_add=["SYS_TIME"]).exit_code == 0
    assert minibox.run(["/bin/true"], rootfs=rootfs).exit_code == 0


def test_a_machine_whose_calls_are_not_known(rootfs, monkeypatch):
    monkeypatch.setattr(filters, "_known", {})
    monkeypatch.setattr(rules, "MACHINES", {})
    with pytest.raises(Unsupported, match="unconfined"):
        minibox.run(["/bin/true"], rootfs=rootfs, cap_add=["SYS_PACCT"])
    assert minibox.run(["/bin/true"], rootfs=rootfs, **security("unconfined")).exit_code == 0


def test_a_kernel_without_filters_starts_nothing(rootfs, cli, tmp_path):
    trace = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", "trace=seccomp"]
    inject = ["-e", "inject=seccomp:error=EINVAL"]
    words = [str(COMMAND), "run", rootfs, "/bin/echo", "started"]
    done = subprocess.run(
        [*trace, *inject, *words], capture_output=True, timeout=60, stdin=subprocess.DEVNULL
    )
    assert (done.returncode, done.stdout) == (125, b"")
    assert b"seccomp=unconfined" in done.stderr
    assert NUMBERS["seccomp"] == HERE["seccomp"]
