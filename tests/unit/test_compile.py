# SPDX-License-Identifier: Apache-2.0
"""The compiler: golden plans, and what it refuses. MINIBOX_GOLDEN=write renews the files."""

import os
from pathlib import Path

import pytest

from minibox import describe, forms, request
from minibox import spec as s
from minibox import syscalls as sc
from minibox.compile import compile
from minibox.compile.command import search
from minibox.errors import SpecError
from minibox.host import Host

ROOT_HOST = Host(0, 0, True, (1 << 41) - 1)
USER_HOST = Host(1000, 1000, False)
IDS = (s.IDMapping(0, 1 << 30, 65536),)
OWN_IDS = (s.IDMapping(0, 1000, 1),)
GOLDEN = Path(__file__).parent / "golden"
ENV = (b"PATH=/usr/bin:/bin",)


def spec(**changes):
    given = {"args": (b"sh",), "root": s.Root(b"/srv/rootfs"), "env": ENV,
             "uid_mappings": IDS, "gid_mappings": IDS, "is_leased": True, "seccomp": s.Filter(bytes(8 * 312))}  # fmt: skip
    return s.Spec(**{**given, **changes})


def without(*kinds):
    return tuple(kind for kind in s.DEFAULT_NAMESPACES if kind not in kinds)


HOST_IDS = {"namespaces": without("user"), "uid_mappings": (), "gid_mappings": ()}
INTERFACES = (
    s.Interface(b"eth0", (b"10.66.0.2/16",), (b"10.66.0.1",), b"\x02\x42\x0a\x42\x00\x02"),
    s.Interface(b"eth1", (b"10.67.0.2/24", b"fd66::2/64"), (), b"\x02\x42\x0a\x43\x00\x02"),
)
PLANS = {
    "networks": (
        spec(
            interfaces=INTERFACES,
            routes=((b"10.2.0.0/24", b"10.67.0.9"), (b"::/0", b"fd66::9")),
            sysctls=((b"net/ipv4/ip_forward", b"1"), (b"kernel/shmmni", b"99")),
            mounts=(*s.DEFAULT_MOUNTS, s.Text(b"/etc/hosts", b"127.0.0.1")),
        ),
        ROOT_HOST,
    ),
    "default": (spec(), ROOT_HOST),
    "rootless": (spec(uid_mappings=OWN_IDS, gid_mappings=OWN_IDS), USER_HOST),
    "userns_host": (spec(**HOST_IDS), ROOT_HOST),
    "volatile_terminal_init": (
        spec(root=s.Root(b"/srv/rootfs", overlay=True), terminal=s.Terminal(50, 132), init=True),
        ROOT_HOST,
    ),
    "everything": (
        spec(
            root=s.Root(b"/srv/rootfs", readonly=True),
            args=(b"/bin/sh", b"-c", b"id\xff"),
            cwd=b"/work",
            user=s.User(1000, 100, (100, 5)),
            umask=0o077,
            hostname=b"box",
            domainname=b"example",
            namespaces=(*without("net"), "time"),
            time_offsets=s.TimeOffsets(5, 1000000),
            mounts=(
                *s.DEFAULT_MOUNTS,
                s.Tmpfs(b"/tmp", size=b"1m"),
                s.Bind(b"/data/a", b"/srv/a", True, sc.MOUNT_ATTR_RDONLY),
                s.Bind(b"/etc/file", b"/srv/file", False, idmap=False),
            ),
            redirected=(1, 2),
        ),
        ROOT_HOST,
    ),
    "join": (
        spec(
            **{**HOST_IDS, "namespaces": without("user", "net", "pid")},
            joined=(s.Join("user", b"/proc/7/ns/user"), s.Join("pid", b"/proc/7/ns/pid"),
                    s.Join("net", b"/run/netns/blue")),
        ),
        ROOT_HOST,
    ),
    "detached": (
        spec(
            root=s.Root(b"/srv/rootfs", overlay=True),
            redirected=(0, 1, 2),
            monitor=s.Monitor(
                record=b"exit-1.json",
                stdin=True,
                ended=(b"/usr/bin/minibox", b"after"),
                event=b'{"Action":"die"',
            ),
        ),
        ROOT_HOST,
    ),
    "detached_terminal_rootless": (
        spec(
            uid_mappings=OWN_IDS, gid_mappings=OWN_IDS, terminal=s.Terminal(), monitor=s.Monitor()
        ),
        USER_HOST,
    ),
    "exec": (
        spec(
            root=None,
            namespaces=(),
            mounts=(),
            hostname=None,
            uid_mappings=(),
            gid_mappings=(),
            joined=tuple(
                s.Join(kind, b"/proc/7/ns/" + kind.encode()) for kind in s.DEFAULT_NAMESPACES
            ),
            terminal=s.Terminal(),
            user=s.User(5, 5),
            guest=True,
        ),
        ROOT_HOST,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANS)
def test_golden(name):
    text = describe.table(compile(*PLANS[name]))
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("MINIBOX_GOLDEN") == "write":
        file.write_text(text)
    assert text == file.read_text()


@pytest.mark.parametrize("name", PLANS)
def test_every_step_says_whence_and_why(name):
    for op in compile(*PLANS[name]).steps:
        assert op.origin and op.why, op.call


@pytest.mark.parametrize("name", PLANS)
def test_the_compiler_is_pure(name):
    one, two = (compile(*PLANS[name]).encode().blob for _ in range(2))
    assert one == two


@pytest.mark.parametrize("name", PLANS)
def test_every_fd_slot_is_filled_before_it_is_used(name):
    from minibox.compile.slots import INPUTS
    from minibox.plan import Slot

    known = set(INPUTS)
    for op in compile(*PLANS[name]).steps:
        used = {arg for arg in op.args if isinstance(arg, Slot)}
        assert used <= known, op.call
        if op.to:
            known.add(op.to)


def test_python_is_left_before_a_namespace_is_joined():
    calls = [op.call for op in compile(*PLANS["join"]).ops]
    assert calls.index("execveat") < calls.index("setns") < calls.index("fork")


def test_the_stage_runs_after_the_ids_are_mapped():
    calls = [op.call for op in compile(*PLANS["rootless"]).ops]
    assert calls.index("gate") < calls.index("setresuid") < calls.index("execveat")


def test_pasta_is_there_before_the_first_gate_opens():
    def gates(**changes):
        return [op.why for op in compile(spec(**changes), ROOT_HOST).ops if op.call == "gate"]

    maps = "until minibox has written uid_map and gid_map"
    assert gates() == [maps]
    assert gates(uplink=True) == [f"{maps}, and pasta is there"]
    assert gates(**HOST_IDS) == []
    assert gates(**HOST_IDS, uplink=True) == ["until pasta is there"]


def test_only_root_with_a_user_namespace_runs_in_pythons_memory():
    staged = {name: compile(*given).staged for name, given in PLANS.items()}
    assert [name for name, is_staged in staged.items() if not is_staged] == [
        "networks",
        "default",
        "everything",
    ]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"args": ()}, "args"),
        ({"args": (b"a\0b",)}, "args"),
        ({"env": (b"A=\0",)}, "args"),
        ({"cwd": b"tmp"}, "cwd"),
        ({"namespaces": without("mnt")}, "namespaces"),
        ({"namespaces": without("uts")}, "hostname"),
        ({"namespaces": without("uts"), "hostname": None, "domainname": b"x"}, "domainname"),
        ({"joined": (s.Join("net", b"/x"),)}, "namespaces"),
        ({"user": s.User(70000)}, "user"),
        ({"user": s.User(0, 70000)}, "user"),
        ({"root": None}, "namespaces"),
        ({"routes": ((b"0.0.0.0/0", b"10.0.0.1"),)}, "route"),
        ({"sysctls": ((b"kernel/core_pattern", b"x"),)}, "sysctl"),
        ({"sysctls": ((b"net/a", b"x"),), "namespaces": without("net")}, "sysctl"),
        ({"mounts": (s.Tmpfs(b"/proc/x"),)}, "mounts[0]"),
        ({"mounts": (s.Tmpfs(b"/"),)}, "mounts[0]"),
        ({"mounts": (s.Tmpfs(b"/a/../b"),)}, "mounts[0]"),
        ({"mounts": (s.Tmpfs(b"a"),)}, "mounts[0]"),
    ],
)
def test_a_contradiction_is_refused(changes, word):
    with pytest.raises(SpecError) as caught:
        compile(spec(**changes), ROOT_HOST)
    assert caught.value.path.startswith(word)
    assert caught.value.exit_code == 125


def test_groups_need_root():
    with pytest.raises(SpecError):
        compile(
            spec(uid_mappings=OWN_IDS, gid_mappings=OWN_IDS, user=s.User(0, 0, (0,))), USER_HOST
        )


@pytest.mark.parametrize(
    ("name", "path", "tried"),
    [
        (b"/bin/x", b"PATH=/a", [b"/bin/x"]),
        (b"./x", b"PATH=/a", [b"./x"]),
        (b"x", b"PATH=/a:/b", [b"/a/x", b"/b/x"]),
        (b"x", b"PATH=/a::/b", [b"/a/x", b"./x", b"/b/x"]),
        (b"x", b"PATH=", [b"./x"]),
        (b"x", b"HOME=/", [b"/bin/x", b"/usr/bin/x"]),
        (b"", b"PATH=/a", [b""]),
    ],
)
def test_the_path_search_is_execvps(name, path, tried):
    assert search((name,), (path,)) == tried


def test_strings_in_a_plan_may_be_any_bytes():
    plan = compile(spec(args=(b"/bin/\xff\n",)), ROOT_HOST)
    assert '"/bin/\\xff\\n"' in describe.table(plan)


def test_as_data_is_json():
    import json

    data = json.loads(json.dumps(describe.as_data(compile(*PLANS["everything"]))))
    assert data["steps"][0]["side"] == "parent"
    assert data["steps"][-1]["call"] == "execve"
    assert [step["step"] for step in data["steps"]] == list(range(1, len(data["steps"]) + 1))


def test_a_kernel_whose_exec_does_not_enter_a_time_namespace():
    """Before 6.3 only children do: the command is an init's then."""
    old = ROOT_HOST.replace(exec_enters_time=False)
    spec = request.build(["/bin/true"], "/", {"time": True}, old)
    assert spec.has_init
    names_ = [op.call for op in compile(spec, old).ops]
    assert names_.index("unshare") < names_.index("init")
    with pytest.raises(SpecError, match="it takes an init"):
        compile(spec.replace(init=False), old)
    assert not request.build(["/bin/true"], "/", {}, old).init


def test_a_guest_there_is_where_the_children_of_the_init_are():
    spec, host = PLANS["exec"]
    spec = spec.replace(joined=(*spec.joined, forms.join("time=1234")))
    ops = compile(spec, host.replace(exec_enters_time=False)).steps
    (opened,) = [op for op in ops if b"/proc/1234/ns/time_for_children" in op.args]
    pidfds, file = [op.args for op in ops if op.call == "setns"]
    assert file == (opened.to, sc.CLONE_NEWTIME)
    assert not pidfds[1] & sc.CLONE_NEWTIME
    (all_at_once,) = [op.args for op in compile(spec, host).steps if op.call == "setns"]
    assert all_at_once == (pidfds[0], pidfds[1] | sc.CLONE_NEWTIME)
