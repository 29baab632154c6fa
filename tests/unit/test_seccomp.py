# SPDX-License-Identifier: Apache-2.0
"""Profiles, and the programs that come of them, as the kernel's interpreter runs them."""

import errno
import json
import os
import random
import re
from pathlib import Path

import pytest

from minibox import request, seccomp
from minibox.errors import SpecError, Unsupported
from minibox.forms import security_opt
from minibox.seccomp import default, filters, library, profile, program, rules
from minibox.spec import CAPABILITIES, DEFAULT_CAPABILITIES
from tests import bpf

X86, ARM = ("x86_64", "i386"), ("arm64", "arm")
ALLOW, EPERM, ENOSYS = rules.ALLOW, rules.EPERM, rules.ENOSYS
HIGH = 1 << 32
UNKNOWN = 1000
NUMBERS = {abi: bpf.numbers(abi) for abi in rules.AUDIT_ARCH}


def read(abis=X86, capabilities=(), release="6.18.0-generic", text=None, **data):
    data = {"defaultAction": "SCMP_ACT_ERRNO", **data}
    return profile.read(text or json.dumps(data), capabilities, abis, release)


def rule(*names, action="SCMP_ACT_ALLOW", **fields):
    return {"names": list(names), "action": action, **fields}


def arg(op, value, second=0, index=0):
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": second}


def asker(profile_):
    """`ask("read", 1, abi="i386")`: what the program says of a call, by name or number."""
    code = library.program(profile_)

    def ask(call, *args, abi=profile_.abis[0]):
        number = NUMBERS[abi].get(call, call)
        assert isinstance(number, int), f"{abi} has no {call}"
        return bpf.answer(code, rules.AUDIT_ARCH[abi], number, *args)

    return ask


# The default.


@pytest.fixture(params=[X86, ARM], ids=lambda abis: abis[0])
def abis(request):
    return request.param


def test_the_default_allows_what_programs_need(abis):
    ask = asker(default.profile(DEFAULT_CAPABILITIES, abis))
    for abi in abis:
        for name in ("read", "execve", "exit_group", "rt_sigprocmask", "close_range", "ptrace",
                     "openat2", "wait4", "setpgid", "ioctl", "chroot", "seccomp"):  # fmt: skip
            assert ask(name, abi=abi) == ALLOW, name


def test_what_the_init_calls_is_allowed_by_the_default(abis):
    source = "".join(
        (Path(__file__).parents[2] / "csrc" / f).read_text() for f in ("init.c", "child.c")
    )
    needed = {name.lower() for name in re.findall(r"\bSYS_([A-Z0-9_]+),", source)}
    assert "rt_sigtimedwait" in needed and "wait4" in needed
    ask = asker(default.profile((), abis))
    assert [name for name in needed if ask(name, 17) != ALLOW] == []


def test_the_default_refuses_what_reaches_beyond(abis):
    ask = asker(default.profile(DEFAULT_CAPABILITIES, abis))
    for abi in abis:
        here = NUMBERS[abi]
        for name in (
            *("mount", "umount2", "unshare", "setns", "fsopen", "move_mount", "mount_setattr"),
            *("open_tree", "fsconfig", "fsmount", "fspick", "pivot_root", "bpf", "perf_event_open"),
            *("add_key", "keyctl", "request_key", "userfaultfd", "kexec_load", "init_module"),
            *("finit_module", "delete_module", "io_uring_setup", "io_uring_enter", "reboot"),
            *("io_uring_register", "open_by_handle_at", "syslog", "acct", "swapon", "swapoff"),
            *("settimeofday", "clock_settime", "quotactl", "sethostname", "fanotify_init", "iopl"),
            *("ioperm", "vhangup", "mbind", "kcmp", "pidfd_getfd", "lookup_dcookie", "vm86"),
        ):
            if name in here:
                assert ask(name, abi=abi) == EPERM, (abi, name)


def test_what_no_table_has_is_missing(abis):
    ask = asker(default.profile(CAPABILITIES, abis))
    for abi in abis:
        for number in (UNKNOWN, 471, 0x3FFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF):
            assert ask(number, abi=abi) == ENOSYS


def test_no_abi_but_those_named():
    code = library.program(default.profile(CAPABILITIES, X86))
    for arch in (0, 0xC00000B7, 0x40000028, 0xFFFFFFFF):
        assert bpf.answer(code, arch, 0) == ENOSYS


def test_x32_is_refused_even_where_all_is_allowed():
    for chosen in (default.profile(CAPABILITIES, X86), read(defaultAction="SCMP_ACT_ALLOW")):
        ask = asker(chosen)
        for number in (0, 1, 59, 512, 520):
            assert ask(number + program.X32) == ENOSYS


def test_clone_makes_no_namespaces(abis):
    ask = asker(default.profile(DEFAULT_CAPABILITIES, abis))
    for abi in abis:
        assert ask("clone", 0x3D0F00, abi=abi) == ALLOW  # a thread
        assert ask("clone", 17, abi=abi) == ALLOW
        for bit in (17, 25, 26, 27, 28, 29, 30):
            for high in (0, HIGH, 0xFFFFFFFF << 32):
                assert ask("clone", 17 | 1 << bit | high, abi=abi) == EPERM
        assert ask("clone3", abi=abi) == ENOSYS


def test_families_of_sockets(abis):
    ask = asker(default.profile(DEFAULT_CAPABILITIES, abis))
    for abi in abis:
        for family in {*range(64)} - {38, 40}:
            assert ask("socket", family, abi=abi) == ALLOW
        for family in (38, 40):
            for high in (0, HIGH, HIGH * 38, 0xFFFFFFFF << 32):
                expected = rules.EAFNOSUPPORT if abi == abis[0] else EPERM
                assert ask("socket", family | high, abi=abi) == expected


def test_i386_has_no_way_around():
    ask = asker(default.profile(DEFAULT_CAPABILITIES, X86))
    for number in range(21):
        assert ask("socketcall", number, abi="i386") == ENOSYS
    assert ask("ipc", 1, abi="i386") == ALLOW


def test_personalities(abis):
    ask = asker(default.profile(DEFAULT_CAPABILITIES, abis))
    for abi in abis:
        for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF, (1 << 64) - 1):
            assert ask("personality", value, abi=abi) == ALLOW
        for value in (0x0040000, 0x0400000, 7, 0x1000008):  # ADDR_NO_RANDOMIZE, READ_IMPLIES_EXEC
            assert ask("personality", value, abi=abi) == EPERM


def test_a_capability_brings_its_calls(abis):
    for name, words in default.BY_CAPABILITY.items():
        for kept, answer in (((), (EPERM, ENOSYS)), ((name,), (ALLOW,))):
            ask = asker(default.profile(kept, abis))
            here = NUMBERS[abis[0]]
            found = {ask(call, 1 << 28) for call in words.split() if call in here}
            assert found <= set(answer), (name, kept)


def test_every_word_of_the_tables_is_a_call():
    """Those that this libseccomp is too old for excepted, which are few and new."""
    unknown = {name for name in bpf.WORDS if library.number(name, "x86_64") is None}
    assert unknown <= {
        *(
            "fchmodat2",
            "map_shadow_stack",
            "futex_wake",
            "futex_wait",
            "futex_requeue",
            "statmount",
        ),
        *("listmount", "lsm_get_self_attr", "lsm_set_self_attr", "lsm_list_modules", "mseal"),
        *("uretprobe", "setxattrat", "getxattrat", "listxattrat", "removexattrat"),
        *("open_tree_attr", "file_getattr", "file_setattr"),
    }
    assert set(default.BY_CAPABILITY) <= set(CAPABILITIES)
    allowed = default.ALLOWED.split()
    assert not set(allowed) & set(default.REFUSED.split()) and len(allowed) == len(set(allowed))


def test_the_built_filters_are_the_default():
    for machine, names in rules.MACHINES.items():
        made = library.program(default.profile(DEFAULT_CAPABILITIES, names))
        assert Path(seccomp.ready_path(machine)).read_bytes() == made
        assert len(made) // 8 < 1200


# Profiles.


def test_the_shortest_profile():
    ask = asker(read(syscalls=[rule("read", "write")]))
    assert (ask("read"), ask("write"), ask("open")) == (ALLOW, ALLOW, ENOSYS)
    assert asker(read())("read") == EPERM  # one that names nothing is about all of them
    assert [ask(n) for n in (0, 1, 2)] == [ALLOW, ALLOW, ENOSYS]  # above the highest named


def test_what_is_newer_than_the_profile_is_missing_not_forbidden():
    named = [rule("read", "faccessat2")]
    ask = asker(read(syscalls=named))
    assert [ask(n) for n in (438, 439, 440, UNKNOWN)] == [EPERM, ALLOW, ENOSYS, ENOSYS]
    ask = asker(read(defaultAction="SCMP_ACT_KILL_PROCESS", syscalls=named))
    assert [ask(n) for n in (438, UNKNOWN)] == [rules.KILL_PROCESS, ENOSYS]
    for action, value in (("ALLOW", ALLOW), ("LOG", rules.LOG), ("TRACE", rules.TRACE | 1)):
        ask = asker(read(defaultAction=f"SCMP_ACT_{action}", syscalls=named))
        assert ask(UNKNOWN) == value
    # arm's private calls are no newer ones.
    chosen = read(ARM, architectures=["SCMP_ARCH_ARM"], syscalls=[rule("read", "cacheflush")])
    ask = asker(chosen)
    found = [ask(n, abi="arm") for n in (3, 4, 400, 0xF0001, 0xF0002, 0xF0003, 0xF0100)]
    assert found == [ALLOW, ENOSYS, ENOSYS, EPERM, ALLOW, EPERM, ENOSYS]


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({"action": "SCMP_ACT_KILL"}, 0),
        ({"action": "SCMP_ACT_KILL_THREAD"}, 0),
        ({"action": "SCMP_ACT_KILL_PROCESS"}, 0x80000000),
        ({"action": "SCMP_ACT_TRAP"}, 0x30000),
        ({"action": "SCMP_ACT_ERRNO"}, 0x50001),
        ({"action": "SCMP_ACT_ERRNO", "errnoRet": 0}, 0x50000),
        ({"action": "SCMP_ACT_ERRNO", "errnoRet": 4094}, 0x50FFE),
        ({"action": "SCMP_ACT_ERRNO", "errno": "EINVAL"}, 0x50016),
        ({"action": "SCMP_ACT_ERRNO", "errno": "22"}, 0x50016),
        ({"action": "SCMP_ACT_ERRNO", "errno": "EINVAL", "errnoRet": 5}, 0x50005),
        ({"action": "SCMP_ACT_TRACE", "errnoRet": 7}, 0x7FF00007),
        ({"action": "SCMP_ACT_LOG"}, 0x7FFC0000),
        ({"action": "SCMP_ACT_ALLOW", "comment": "x", "args": None, "includes": {}}, ALLOW),
    ],
)
def test_actions(fields, answer):
    one = {**rule("read"), **fields}
    assert (
        asker(read(defaultAction="SCMP_ACT_ERRNO", defaultErrnoRet=99, syscalls=[one]))("read")
        == answer
    )


def test_the_default_action_and_its_errno():
    assert asker(read(defaultErrnoRet=38))("read") == ENOSYS
    assert asker(read(defaultErrno="EACCES", syscalls=[rule("write")]))("read") == 0x5000D
    assert asker(read(defaultAction="SCMP_ACT_ALLOW"))("read") == ALLOW


VALUES = (0, 1, 7, 8, 9, 0xFFFFFFFE, 0xFFFFFFFF, HIGH, HIGH | 7, HIGH | 8, HIGH | 9, 2 * HIGH,
          (1 << 64) - 1, 1 << 63)  # fmt: skip
MEANING = {
    "EQ": lambda a, v, _: a == v,
    "NE": lambda a, v, _: a != v,
    "LT": lambda a, v, _: a < v,
    "LE": lambda a, v, _: a <= v,
    "GE": lambda a, v, _: a >= v,
    "GT": lambda a, v, _: a > v,
    "MASKED_EQ": lambda a, v, s: a & v == s & v,
}


@pytest.mark.parametrize("op", MEANING)
@pytest.mark.parametrize("index", [0, 5])
def test_comparisons_are_of_64_bits(op, index):
    for value in VALUES:
        for second in VALUES if op == "MASKED_EQ" else (0,):
            args = [arg(op, value, second, index)]
            ask = asker(read(syscalls=[rule("read", args=args), rule("uname")]))
            for given in VALUES:
                expected = ALLOW if MEANING[op](given, value, second) else EPERM
                assert ask("read", *[0] * index, given) == expected, (value, second, given)


def test_minus_one_in_a_32_bit_abi():
    chosen = read(
        architectures=["SCMP_ARCH_X86"],
        syscalls=[rule("personality", args=[arg("EQ", (1 << 64) - 1)])],
    )
    ask = asker(chosen)
    assert ask("personality", 0xFFFFFFFF, abi="i386") == ALLOW
    assert ask("personality", 0xFFFFFFFF) == EPERM


def test_all_conditions_of_a_rule_and_any_rule():
    both = rule("socket", args=[arg("EQ", 2), arg("EQ", 1, index=1)])
    other = rule("socket", args=[arg("EQ", 1)])
    ask = asker(read(syscalls=[both, other]))
    assert [ask("socket", *a) for a in ((2, 1), (2, 2), (1, 5), (3, 1))] == [
        ALLOW,
        EPERM,
        ALLOW,
        EPERM,
    ]


def test_an_argument_asked_about_twice_makes_two_rules():
    ask = asker(read(syscalls=[rule("personality", args=[arg("EQ", 0), arg("EQ", 8)])]))
    assert [ask("personality", v) for v in (0, 8, 9)] == [ALLOW, ALLOW, EPERM]


def test_several_rules_about_one_call():
    allowed, denied = rule("read"), rule("read", action="SCMP_ACT_ERRNO", errnoRet=5)
    some = rule("read", args=[arg("EQ", 7)])
    killed = rule("read", action="SCMP_ACT_KILL_PROCESS", args=[arg("EQ", 7)])
    # One without conditions drives out the others, as with every runtime that has libseccomp.
    for named in ([some, denied], [denied, some]):
        assert asker(read(syscalls=named))("read", 7) == 0x50005
    # Of two such the first, as in podman's own profile.
    assert asker(read(syscalls=[allowed, denied]))("read") == ALLOW
    assert asker(read(syscalls=[denied, allowed]))("read") == 0x50005
    # Not where that would allow what depends on arguments.
    for named in ([allowed, killed], [killed, allowed]):
        with pytest.raises(SpecError, match="read"):
            read(syscalls=named)
    # What only repeats the default says nothing.
    for named in ([some, rule("read", action="SCMP_ACT_ERRNO")], [some] * 3):
        ask = asker(read(syscalls=named))
        assert (ask("read", 7), ask("read", 8)) == (ALLOW, EPERM)
    ask = asker(read(syscalls=[some, {**killed, "args": [arg("EQ", 8)]}]))
    assert [ask("read", n) for n in (7, 8, 9)] == [ALLOW, rules.KILL_PROCESS, EPERM]


def test_podman_s_own_profile(abis):
    """For each capability, where there is one."""
    path = Path("/usr/share/containers/seccomp.json")
    for kept in [(), DEFAULT_CAPABILITIES, CAPABILITIES, *[(name,) for name in CAPABILITIES]]:
        if path.exists():
            ask = asker(read(abis, kept, text=path.read_text()))
            answers = ask("read"), ask("bpf") == ALLOW
            assert answers == (ALLOW, "SYS_ADMIN" in kept)


def test_rules_that_contradict_each_other():
    same = [arg("EQ", 7)]
    named = [rule("read", args=same), rule("read", action="SCMP_ACT_LOG", args=same)]
    with pytest.raises(SpecError, match=r"seccomp_rule_add_array\(read\)"):
        asker(read(syscalls=named))


def test_docker_s_includes_and_excludes():
    def answer(machine=X86, capabilities=(), release="6.18.0", **fields):
        return (
            asker(read(machine, capabilities, release, syscalls=[rule("read", **fields)]))("read")
            == ALLOW
        )

    caps = {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}
    assert not answer(includes=caps)
    assert not answer(includes=caps, capabilities=("BPF",))
    assert answer(includes=caps, capabilities=("BPF", "SYS_ADMIN"))
    assert answer(excludes=caps)
    assert not answer(excludes=caps, capabilities=("BPF",))
    assert answer(includes={"arches": ["amd64", "x32"]})
    assert not answer(ARM, includes={"arches": ["amd64", "x32"]})
    assert answer(ARM, includes={"arches": ["arm64"]})
    assert not answer(excludes={"arches": ["amd64"]})
    assert answer(includes={"minKernel": "4.8"}, release="6.1-rc5")
    assert answer(includes={"minKernel": "6.18"}, release="6.18.3-x")
    assert not answer(includes={"minKernel": "6.18"}, release="6.9.0")
    assert not answer(excludes={"minKernel": "4.8"})
    assert answer(includes={"minKernel": ""}, excludes=None)


def test_the_old_form_of_one_name():
    assert asker(read(syscalls=[{"name": "read", "action": "SCMP_ACT_ALLOW"}]))("read") == ALLOW


def test_architectures():
    assert read().abis == ("x86_64",)
    assert read(architectures=["SCMP_ARCH_X86"]).abis == X86
    assert read(architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"]).abis == ("x86_64",)
    assert read(architectures=["SCMP_ARCH_S390X", "SCMP_ARCH_ARM"]).abis == ("x86_64",)
    mapped = [
        {
            "architecture": "SCMP_ARCH_X86_64",
            "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        },
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": None},
    ]
    assert read(archMap=mapped).abis == X86
    assert read(ARM, archMap=mapped).abis == ARM
    assert read(ARM, archMap=mapped[:1]).abis == ("arm64",)


def test_flags():
    names = [f"SECCOMP_FILTER_FLAG_{name}" for name in ("LOG", "SPEC_ALLOW", "TSYNC")]
    assert read(flags=names).flags == 6
    assert read().flags == 0


def test_i386_s_multiplexed_calls_follow_the_rules():
    machine = {"architectures": ["SCMP_ARCH_X86"]}
    ask = asker(read(**machine, syscalls=[rule("socket", "bind", "semop", "recv")]))
    assert [ask("socketcall", n, abi="i386") for n in (1, 2, 3, 10)] == [ALLOW, ALLOW, EPERM, ALLOW]
    # Not what has a version in its upper half (ipc(2)): libseccomp looks at the whole number.
    assert [ask("ipc", n, abi="i386") for n in (1, 1 | 5 << 16, 2)] == [ALLOW, EPERM, EPERM]
    # A list of what is forbidden.
    denied = rule("socket", "shmget", action="SCMP_ACT_ERRNO")
    ask = asker(read(**machine, defaultAction="SCMP_ACT_ALLOW", syscalls=[denied]))
    assert [ask("socketcall", n, abi="i386") for n in (1, 2)] == [EPERM, ALLOW]
    assert [ask("ipc", n, abi="i386") for n in (23, 22)] == [EPERM, ALLOW]


def test_calls_of_other_machines_and_calls_nobody_knows():
    names = ["read", "riscv_flush_icache", "no_such_call"]
    assert asker(read(syscalls=[rule(*names)]))("read") == ALLOW
    denied = rule(*names[:2], action="SCMP_ACT_ERRNO")
    assert asker(read(defaultAction="SCMP_ACT_ALLOW", syscalls=[denied]))("read") == EPERM
    with pytest.raises(Unsupported, match="no_such_call"):
        asker(read(defaultAction="SCMP_ACT_LOG", syscalls=[rule(*names, action="SCMP_ACT_ERRNO")]))
    # A name that C would read as another, and one that is no text.
    for name in ("read\0x", "\udcff", "read ", ""):
        assert asker(read(syscalls=[rule(name, "write")]))("read") == EPERM


def test_far_jumps():
    """A program longer than a jump reaches."""
    named = {name: 4 * k for k, name in enumerate(sorted(NUMBERS["x86_64"])[:200], 1)}
    many = [rule(name, args=[arg("EQ", value)]) for name, k in named.items()
            for value in (k, HIGH | k + 1, k + 2)]  # fmt: skip
    chosen = read(syscalls=many)
    assert len(library.program(chosen)) // 8 > 1000
    ask = asker(chosen)
    for name, k in named.items():
        found = [ask(name, v) for v in (k, HIGH | k + 1, k + 1, k + 2)]
        assert found == [ALLOW, ALLOW, EPERM, ALLOW]


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ({"listenerPath": "/x"}, "listenerPath"),
        ({"listenerMetadata": "x"}, "listenerPath"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "NOTIFY"),
        ({"syscalls": [rule("read", action="SCMP_ACT_NOTIFY")]}, "NOTIFY"),
        ({"flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}, "WAIT_KILLABLE"),
    ],
)
def test_notifications_are_refused_by_name(data, word):
    with pytest.raises(Unsupported, match=word):
        read(**data)


BAD = [
    {"defaultAction": None}, {"defaultAction": "ALLOW"}, {"defaultAction": 5}, {"defaultErrnoRet": -1},
    {"defaultErrnoRet": 4096}, {"defaultErrnoRet": True}, {"defaultErrnoRet": 1.0}, {"defaultErrnoRet": "1"},
    {"defaultErrno": "ENOTHING"}, {"defaultErrno": 5}, {"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1},
    {"architectures": "SCMP_ARCH_X86"}, {"architectures": [1]}, {"architectures": ["x86"]},
    {"archMap": {}}, {"archMap": [1]}, {"archMap": [{}]}, {"archMap": [{"architecture": "y"}]},
    {"archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": [3]}]},
    {"archMap": [{"architecture": "SCMP_ARCH_X86_64"}], "architectures": ["SCMP_ARCH_X86_64"]},
    {"flags": ["NONE"]}, {"flags": [1]}, {"flags": 2}, {"syscalls": {}}, {"syscalls": [1]}, {"nonsense": 1},
    {"syscalls": [{}]}, {"syscalls": [{"names": ["read"]}]}, {"syscalls": [{"action": "x"}]},
    {"syscalls": [rule(1)]}, {"syscalls": [{**rule("a"), "name": "b"}]}, {"syscalls": [{**rule(), "name": 5}]},
    {"syscalls": [rule("a", errnoRet=1)]}, {"syscalls": [rule("a", other=1)]}, {"syscalls": [rule("a", args={})]},
    {"syscalls": [rule("a", args=[1])]}, {"syscalls": [rule("a", args=[{}])]},
    {"syscalls": [rule("a", args=[{**arg("EQ", 1), "index": 6}])]},
    {"syscalls": [rule("a", args=[{**arg("EQ", 1), "index": -1}])]},
    {"syscalls": [rule("a", args=[{**arg("EQ", 1), "x": 1}])]},
    {"syscalls": [rule("a", args=[arg("XX", 1)])]}, {"syscalls": [rule("a", args=[arg("EQ", 1 << 64)])]},
    {"syscalls": [rule("a", args=[arg("EQ", -1)])]}, {"syscalls": [rule("a", args=[arg("EQ", 1.5)])]},
    {"syscalls": [rule("a", includes=[])]}, {"syscalls": [rule("a", includes={"x": 1})]},
    {"syscalls": [rule("a", includes={"caps": "CAP_BPF"})]}, {"syscalls": [rule("a", includes={"minKernel": 4})]},
    {"syscalls": [rule("a", includes={"minKernel": "4"})]}, {"syscalls": [rule("a", excludes={"minKernel": "4.x"})]},
    {"syscalls": [rule(*["read"] * 5000, args=[arg("EQ", 1)] * 3000)]},
]  # fmt: skip


@pytest.mark.parametrize("data", BAD, ids=lambda data: json.dumps(data)[:60])
def test_a_profile_that_makes_no_sense_is_refused(data):
    with pytest.raises(SpecError) as caught:
        read(**data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "5", "null", "{", '{"defaultAction"', "{}", '{"a":' * 100_000, "[" * 100_000,
     '{"defaultAction": ' + "9" * 5000 + "}", '{"defaultAction": NaN}', "{\0}", "\udcff{}",
     '{"defaultAction": "' + "x" * (1 << 20) + '"}'],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_what_is_no_profile_is_refused(text):
    with pytest.raises(SpecError):
        profile.read(text, (), X86, "6.18")


def test_a_profile_longer_than_the_kernel_takes():
    many = [
        rule(
            name,
            args=[
                arg("MASKED_EQ", HIGH * (7 * k + 1) | 9 * k + 1, (1 << 64) - 1, index)
                for index in range(6)
            ],
        )
        for k, name in enumerate(sorted(NUMBERS["x86_64"])[:170])
    ]
    text = json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": many})
    with pytest.raises(SpecError, match="4096"):
        seccomp.choose(text, ())
    with pytest.raises(SpecError, match="1024"):
        read(syscalls=[rule("read", args=[arg("EQ", k)]) for k in range(1025)])


def test_any_program_is_right_about_any_call():
    """Random profiles, against the rules read one by one."""
    rng = random.Random("minibox programs")
    names = sorted(NUMBERS["x86_64"])
    for _ in range(30):
        default_action, given = rng.choice([ALLOW, EPERM]), {}
        for name in rng.sample(names, rng.randrange(1, 300)):
            some = rules.Condition(
                rng.randrange(2), rng.choice(["EQ", "NE", "LT", "GT"]), rng.choice(VALUES)
            )
            always = rng.choice([0, EPERM + ALLOW - default_action])
            found = [rules.Rule(0x50002, (some,)), rules.Rule(always)]
            given[name] = tuple(rng.sample(found, rng.randrange(3)))
        ask = asker(rules.Profile(default_action, given, X86[:1]))
        highest = max(NUMBERS["x86_64"][name] for name in given)
        for name in names:
            args = rng.choice(VALUES), rng.choice(VALUES)
            beyond = NUMBERS["x86_64"][name] > highest and default_action != ALLOW
            expected = ENOSYS if beyond else default_action
            for one in sorted(given.get(name, ()), key=lambda one: not one.conditions):
                if all(MEANING[c.op](args[c.index], c.value, 0) for c in one.conditions):
                    expected = one.action
            assert ask(name, *args) == expected


# The choice.


def test_unconfined_is_none():
    assert seccomp.choose("unconfined", ()) is None


def test_the_choice_is_kept():
    assert seccomp.choose(None, ("CHOWN",)) is seccomp.choose("default", ("CHOWN",))
    assert seccomp.choose(None, ("CHOWN",)) != seccomp.choose(None, ("SYS_ADMIN",))
    assert seccomp.choose(None, DEFAULT_CAPABILITIES).name == "default"


def test_without_the_built_filter_it_is_made(monkeypatch):
    built = seccomp.choose(None, DEFAULT_CAPABILITIES)
    monkeypatch.setattr(filters, "_known", {})
    monkeypatch.setattr(seccomp, "_default", None)
    monkeypatch.setattr(seccomp, "ready_path", lambda _: "/nonexistent")
    assert seccomp.choose(None, DEFAULT_CAPABILITIES) == built


def test_another_machine(monkeypatch):
    monkeypatch.setattr(filters, "_known", {})
    monkeypatch.setattr(seccomp, "_default", None)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "x", "6.1", "x", "vax")))
    with pytest.raises(Unsupported, match="vax"):
        seccomp.choose(None, DEFAULT_CAPABILITIES)


def test_a_profile_is_a_file_or_its_text(tmp_path):
    text = json.dumps({"defaultAction": "SCMP_ACT_ALLOW"})
    (tmp_path / "p.json").write_text("\n " + text)
    assert seccomp.choose(str(tmp_path / "p.json"), ()).program == seccomp.choose(text, ()).program
    (tmp_path / "p.json").write_text(json.dumps({"defaultAction": "SCMP_ACT_LOG"}))
    assert seccomp.choose(str(tmp_path / "p.json"), ()) != seccomp.choose(text, ())


@pytest.mark.parametrize("content", [None, b"", b"[]", b"\xff{}", b"{" * (1 << 20) + b"}"])
def test_a_file_that_is_no_profile(tmp_path, content):
    path = tmp_path / "p.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpecError):
        seccomp.choose(str(path), ())


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "p.json"
    with open(path, "wb") as file:
        file.truncate(100 << 20)
    for where in (str(path), "/dev/zero", str(tmp_path), "a\0b"):
        with pytest.raises(SpecError):
            seccomp.choose(where, ())


def test_the_option():
    assert security_opt(["seccomp=unconfined", "seccomp:default"]) == {"seccomp": "default"}
    assert security_opt(['seccomp={"a:b=":1}']) == {"seccomp": '{"a:b=":1}'}
    assert security_opt([]) == {}
    for text in ("", "=", "seccomp", "seccomp=", "seccomp=\0", "nonsense=1", "=x", "Seccomp=x"):
        with pytest.raises(SpecError, match="security-opt"):
            security_opt([text])


def test_a_frozen_request_has_the_profile_itself(tmp_path):
    text = '{"defaultAction": "SCMP_ACT_ALLOW"}'
    (tmp_path / "p.json").write_text(text)
    _, frozen = request.freeze("/", {"security_opt": [f"seccomp={tmp_path}/p.json"]})
    assert frozen["security_opt"] == [f"seccomp={text}"]
    _, again = request.freeze("/", frozen)
    assert again == frozen
    with pytest.raises(SpecError):
        request.freeze("/", {"security_opt": [f"seccomp={tmp_path}/none.json"]})


def test_errnos_are_the_kernels():
    assert tuple(rules.ERRNO | n for n in (errno.EPERM, errno.ENOSYS, errno.EAFNOSUPPORT)) == (
        EPERM,
        ENOSYS,
        rules.EAFNOSUPPORT,
    )
