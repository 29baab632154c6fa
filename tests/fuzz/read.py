# SPDX-License-Identifier: Apache-2.0
"""What is in files: profiles, id ranges, a root file system's, streams, /proc."""

from __future__ import annotations

import io
import json
import os
from contextlib import contextmanager
from itertools import chain
from unittest import mock

from hypothesis import strategies as st

from minibox import elf, processes, request, resident, seccomp, settings
from minibox.host import Host
from minibox.network import naming
from minibox.resources import accounts, idmap, leftovers, ranges, subids
from minibox.seccomp import library, profile
from minibox.seccomp import rules as seccomp_rules
from minibox.spec import DEFAULT_CAPABILITIES, User
from minibox.topology import model, picture, routes
from tests import bpf
from tests.fuzz import strategies as s
from tests.fuzz.asked import RIGHT, check_maps
from tests.fuzz.properties import Property


def bent_text(text):
    return text.encode(errors="surrogateescape")


# System call filters.

ABIS = (("x86_64", "i386"), ("arm64", "arm"))
NAMES = (
    "read",
    "openat",
    "socketcall",
    "socket",
    "ipc",
    "semget",
    "clone3",
    "personality",
    "nosuch",
    "arm_sync_file_range",
)
RULE = {
    "names": ["read", "socket"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1, "errno": "ENOSYS", "comment": "",
    "args": [{"index": 0, "value": 1 << 40, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}, {"index": 1, "value": 7, "op": "SCMP_CMP_GT"}],
    "includes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["amd64"], "minKernel": "4.8"}, "excludes": {"caps": ["CAP_BPF"]},
}  # fmt: skip
PROFILE = {
    "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "defaultErrno": "ENOSYS",
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}],
    "flags": ["SECCOMP_FILTER_FLAG_LOG"],
    "syscalls": [RULE, {"names": ["clone3"], "action": "SCMP_ACT_ERRNO"}, {"name": "ipc", "action": "SCMP_ACT_KILL_PROCESS", "excludes": {}}],
}  # fmt: skip
ODD_IN_A_PROFILE = s.json_values | st.sampled_from(
    [
        *NAMES,
        *profile.ACTIONS,
        *profile.FLAGS,
        *profile.OPERATORS,
        *profile.ARCHES,
        "SCMP_ACT_NOTIFY",
        "amd64",
        RULE,
    ]
)
rules = st.fixed_dictionaries(
    {
        "names": st.lists(
            st.sampled_from(NAMES) | st.sampled_from(sorted(bpf.numbers("x86_64"))), max_size=4
        ),
        "action": st.sampled_from([*profile.ACTIONS]),
    },
    optional={
        "args": st.lists(
            st.fixed_dictionaries(
                {
                    "index": st.integers(0, 5),
                    "value": st.integers(0, (1 << 64) - 1)
                    | st.sampled_from([0, 1, 1 << 32, (1 << 32) - 1]),
                    "op": st.sampled_from([*profile.OPERATORS]),
                },
                optional={"valueTwo": st.integers(0, (1 << 64) - 1)},
            ),
            max_size=3,
        ),
        "errnoRet": st.integers(0, 4096),
        "includes": st.fixed_dictionaries(
            {},
            optional={
                "caps": st.just(["CAP_CHOWN"]),
                "minKernel": st.sampled_from(["4.8", "9.9", "x"]),
            },
        ),
    },
)
profiles = st.fixed_dictionaries(
    {"defaultAction": st.sampled_from([*profile.ACTIONS]), "syscalls": st.lists(rules, max_size=5)},
    optional={"architectures": st.lists(st.sampled_from([*profile.ARCHES]), max_size=3)},
)  # fmt: skip
profile_texts = st.one_of(
    s.near(PROFILE, ODD_IN_A_PROFILE).map(json.dumps),
    profiles.map(json.dumps),
    s.bent([json.dumps(PROFILE)]),
    s.texts,
)


KINDS = {*profile.ACTIONS.values()}


def filter_(given):
    """A program that the kernel takes, and that says something about any call."""
    text, machine, number, args = given
    abis = ABIS[machine]
    found = profile.read(text, DEFAULT_CAPABILITIES, abis, "6.18.0-rc1")
    code = library.program(found)
    assert len(code) % 8 == 0 and code
    for arch in (seccomp_rules.AUDIT_ARCH[abis[0]], 12345):
        answer = bpf.answer(code, arch, number, *args)
        assert answer & 0xFFFF0000 in KINDS, answer


def choose(text):
    found = seccomp.choose(text.replace("\0", ""), DEFAULT_CAPABILITIES)
    assert found is None or len(found.program) <= 4096 * 8


def no_path(text):
    """Nothing that names a file here which takes long to read, or is not always the same."""
    return text if text.lstrip().startswith("{") else "./nonexistent/" + text


# Subordinate ids.

_rows = st.lists(
    st.tuples(
        st.sampled_from([b"minibox", b"bob", b"1000", b"", b"\xff"]),
        st.integers(0, 1 << 33) | st.sampled_from([0, 100000, 1000, 999, 1001, (1 << 32) - 2, (1 << 32) - 65536]),
        st.integers(0, 1 << 32) | st.sampled_from([0, 1, 65536, 131072, (1 << 32) - 1]),
    ).map(lambda row: b"%s:%d:%d" % row)
    | s.bent(["minibox:100000:131072", "bob:100000:65536"]).map(bent_text)
    | s.binary,
    max_size=6,
).map(b"\n".join)  # fmt: skip
many_rows = st.integers(300, 800).map(
    lambda n: b"\n".join(b"minibox:%d:1" % (2 * k) for k in range(n))
)
sub_files = _rows | _rows | _rows | many_rows


def ids(given):
    """What is handed out can be mapped, and is no less than what is there."""
    uids, gids, own = given
    rows = subids.parse(uids, (b"minibox", b"bob", b"1000"))
    assert len(rows) <= subids.MOST_LINES - 3
    if rows:
        # The caller's own id may be one of those that he is given: the kernel takes no id twice.
        free = [(first, n) for first, n in rows if not first <= own < first + n]
        for inside in (0, own):
            maps = idmap.around(inside, own, free)
            check_maps(maps)
            assert sum(row.size for row in maps) == 1 + sum(n for _, n in free)
    with mock.patch.object(ranges, "text", {"/etc/subuid": uids, "/etc/subgid": gids}.get):
        with mock.patch.object(ranges, "_chunks", None):
            count = ranges.number_of()
            assert 2 <= count <= ranges.COUNT
            for number in (0, count // 2, count - 1):
                for side in ranges.maps(number):
                    check_maps(side)
                    assert sum(row.size for row in side) == ranges.SIZE
            for side in ranges.kept(count + 3):
                check_maps(side)
        found = own_maps(own)
    for maps in found:
        check_maps(maps)
        assert any(row.host_id == own and row.size == 1 for row in maps), "the caller is not in it"


def own_maps(own):
    """As idmap.choose does for somebody without privilege."""
    host = Host(own, own, False, 0, 40)
    given = subids.given_to("bob", "1000")
    with mock.patch.object(subids, "own", lambda: given):
        from minibox import forms

        return idmap.choose(forms.userns("auto"), host)


# Of a root file system.

PASSWD = "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:100:Bob:/home/bob:/bin/sh\n"
GROUP = "root:x:0:\nwheel:x:10:root,bob\nusers:x:100:bob\n"


def account(given):
    passwd, group, who = given
    files = {b"/etc/passwd": passwd, b"/etc/group": group}
    with mock.patch.object(accounts.tree, "read", lambda _root, path, *_: files[path]):
        user, home = accounts.look_up(b"/", who)
    assert isinstance(user, User) and home.startswith(b"/") and b"\0" not in home
    assert all(0 <= number < 0xFFFFFFFF for number in (user.uid, user.gid, *user.groups))


def resolver(given):
    text, servers, reaches = given
    with mock.patch.object(naming, "slurp", lambda _path: text):
        found = naming.resolv_conf(servers, reaches_loopback=reaches)
        assert isinstance(found, bytes) and found.endswith(b"\n")
        rows = [row.split() for row in found.decode().splitlines()]
        named = [row[1] for row in rows if row[:1] == ["nameserver"] and len(row) > 1]
        assert named[: len(servers)] == list(servers)
        assert isinstance(naming.hosts([("10.0.0.1", ["a"])]), bytes)


@contextmanager
def file_with(data):
    fd = os.memfd_create("fuzz")
    try:
        os.write(fd, data)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def env_file(data):
    from minibox import forms

    with file_with(data) as path:
        found = forms.variables("--env-file", request.env_file(path))
        assert all(name and b"\n" not in name and b"\0" not in name for name in found)


def label_file(data):
    with file_with(data) as path:
        found = settings.parse({"label_file": [path]})["labels"]
        assert all(isinstance(k, str) and isinstance(v, str) and k for k, v in found.items())


def header(data):
    assert isinstance(elf.loader(data), bytes) and len(elf.loader(data)) <= len(data)
    found = elf.script_interpreter(data)
    assert found == b"" or data.startswith(b"#!")
    assert elf.is_elf(data) in (True, False)


@st.composite
def headers(draw):
    head = bytearray(draw(st.sampled_from([64, 128, 512, 4096])))
    head[:6] = b"\x7fELF\x02\x01"
    for at, size in ((32, 8), (54, 2), (56, 2)):
        head[at : at + size] = draw(
            st.sampled_from([0, 1, 56, 64, 255, (1 << 8 * size) - 1])
        ).to_bytes(size, "little")
    if len(head) > 128:
        head[64:68] = draw(st.sampled_from([1, 3])).to_bytes(4, "little")
        for at in (72, 96):
            head[at : at + 8] = draw(
                st.sampled_from([0, 20, 512, 4095, (1 << 63), (1 << 64) - 1])
            ).to_bytes(8, "little")
    return bytes(head) + draw(st.binary(max_size=20))


# Topologies.

TOPOLOGY = {
    "name": "lab", "rootfs": "./tree",
    "networks": {"left": {"subnet": "10.1.0.0/24", "latency": "20ms", "outside": True, "mtu": 1400}, "right": {"ipv6": True}},
    "routers": {"r": {"networks": ["left", "right"]}},
    "containers": {"a": {"command": ["x"], "env": ["A=b"], "networks": {"left": {"ip": "10.1.0.9", "rate": "1mbit"}}, "volumes": ["./x:/y"]},
                   "b": {"networks": ["right"], "read_only": True, "hostname": "h"}},
}  # fmt: skip
TOML = """name = "lab"
rootfs = "./tree"
[networks.left]
subnet = "10.1.0.0/24"
[routers.r]
networks = ["left"]
[containers.a]
command = ["httpd", "-f"]
networks.left = { ip = "10.1.0.9" }
"""


def topology(data):
    found = model.parse(data, "/somewhere")
    assert found.nodes and found.networks
    assert isinstance(picture.text(found, {}, {}), str)
    assert picture.svg(found, {}, {}).encode()
    for node in found.nodes:
        routes.ways(found, node)
    again = model.parse(json.loads(json.dumps(found.given)))
    assert [node.name for node in again.nodes] == [node.name for node in found.nodes]


def toml(text):
    with file_with(text.encode(errors="surrogateescape")) as path:
        assert model.load(path).nodes


# /proc, whose words may be a process's own.

STAT = b"%d (%s) S %d 1 1 %d -1 4194560 1 2 3 4 %d 6 7 8 20 0 1 0 %d 4096 0 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0\n"


def process(given):
    name, cmdline, ppid, terminal, ticks, began = given
    stat = STAT % (7, name[:15], ppid, terminal, ticks, began)
    status = b"Name:\t%s\nUmask:\t0022\nUid:\t0\t1000\t0\t0\n" % name[:15].replace(b"\n", b"\\n")
    files = {"stat": stat, "cmdline": cmdline, "status": status}
    with mock.patch.object(
        processes,
        "open",
        lambda path, _mode: io.BytesIO(files[path.rpartition("/")[2]]),
        create=True,
    ):
        row = processes._row(7, [(0, 1000, 1)])
    assert row is not None and row.ppid == ppid and row.uid == 0
    assert isinstance(row.command, str) and row.terminal
    with mock.patch.object(leftovers, "open", lambda *_: io.BytesIO(stat), create=True):
        assert resident.start_time(7) == began


def any_stat(data):
    with mock.patch.object(leftovers, "open", lambda *_: io.BytesIO(data), create=True):
        assert isinstance(resident.start_time(7), int)


PROPERTIES = [
    Property("seccomp program", st.tuples(
        profile_texts, st.integers(0, 1), st.integers(0, 600) | st.integers(0, (1 << 32) - 1),
        st.lists(st.integers(0, (1 << 64) - 1), min_size=6, max_size=6)), filter_, 40),
    Property("seccomp choice", profile_texts.map(no_path), choose, 20),
    Property("subuid and subgid", st.tuples(sub_files, sub_files, st.sampled_from([1000, 1, 100000, 4000000000])), ids, 8),
    Property("passwd and group", st.tuples(
        s.bent([PASSWD]).map(bent_text), s.bent([GROUP]).map(bent_text),
        st.sampled_from([b"root", b"bob", b"bob:wheel", b"0", b"1000:5", b":", b"", b"bob:"]) | s.texts.map(bent_text)), account, 30),
    Property("resolv.conf", st.tuples(
        s.bent(["nameserver 10.0.0.1\nsearch a b\n", "nameserver 127.0.0.53\noptions edns0\n"]).map(bent_text) | s.binary,
        st.lists(st.sampled_from(["10.0.0.53", "fd00::1", "x"]), max_size=2), st.booleans()), resolver, 20),
    Property("env file", s.bent(["A=b\n# c\n\nHOME\n"]).map(bent_text) | s.binary, env_file, 20),
    Property("label file", s.bent(["a=b\n# c\n\nd\n"]).map(bent_text) | s.binary, label_file, 20),
    Property("program header", headers() | s.binary.map(lambda b: b"#!" + b) | s.binary, header, 30),
    Property("topology", s.near(TOPOLOGY, s.json_values | st.sampled_from([*chain(*RIGHT.values())])), topology, 40),
    Property("topology file", s.bent([TOML]), toml, 20),
    Property("process", st.tuples(
        s.binary.map(lambda b: b.replace(b"\0", b"")), s.binary, st.integers(0, 1 << 22), st.integers(-1, 1 << 31),
        st.integers(0, 1 << 40), st.integers(0, 1 << 40)), process, 20),
    Property("start time", s.binary | s.bent(["7 (a) S 1 2 3 4 5 6"]).map(bent_text), any_stat, 10),
]  # fmt: skip
