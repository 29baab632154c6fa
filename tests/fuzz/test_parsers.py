# SPDX-License-Identifier: Apache-2.0
"""What people and files write: a value or a SpecError, whatever the text. The same texts every
time: the generator's seed is fixed."""

from __future__ import annotations

import json
import random

import pytest

from minibox import elf, forms
from minibox.cli import click_app, quick, verbs
from minibox.errors import SpecError, Unsupported
from minibox.resources import accounts
from minibox.seccomp import library, profile
from minibox.spec import Join, Tmpfs, User
from tests import bpf

PIECES = (
    "", "/", "//", ".", "..", ":", "::", ",", "=", "==", "-", "--", "+", "%", "0", "1", "7", "64",
    "007", "-1", "99999999999999999999", "4294967295", "1e9", "1e400", "nan", "inf", "0x10", "1_000",
    "٣", "²", "½", "k", "m", "g", "s", "ms", "h", "ro", "rw", "noexec", "noidmap", "suid", "size",
    "mode", "size=", "mode=0755", "mode=9", "net", "pid", "user", "mnt", "time", "/tmp", "/a/../b",
    "/proc", "tmp", " ", "\t", "\n", "\r", "\0", "\udc80", "\udcff", "é", "\u2028", "🙂", "A", "NAME",
    "NAME=value", "#", "'", '"', "\\", "$x", "x" * 70, "9" * 5000,
)  # fmt: skip
FORMS = {
    "volume": forms.volume,
    "tmpfs": forms.tmpfs,
    "target": lambda text: forms.target("--x", text),
    "size": lambda text: forms.size("--x", text),
    "duration": lambda text: forms.duration("--x", text),
    "seconds": lambda text: forms.seconds("--x", text),
    "kinds": lambda text: forms.kinds("--x", text),
    "join": forms.join,
    "join of a kind": lambda text: forms.join("net=" + text),
    "hostname": lambda text: forms.hostname("--x", text),
    "variables": lambda text: forms.variables("--x", text.split("\t")),
    "security_opt": lambda text: forms.security_opt(text.split("\t")),
    "security_opt of a word": lambda text: forms.security_opt(["seccomp=" + text]),
}
CHECKS = {
    "volume": lambda v: v[0] and v[1].startswith(b"/") and isinstance(v[2], int),
    "tmpfs": lambda v: isinstance(v, Tmpfs) and v.target.startswith(b"/") and v.mode.isdigit(),
    "target": lambda v: v.startswith(b"/") and b".." not in v.split(b"/") and v != b"/",
    "size": lambda v: v[:1].isdigit() and v.isascii(),
    "duration": lambda v: 0 < v < 1e9,
    "seconds": lambda v: abs(v) < 10**18,
    "kinds": lambda v: isinstance(v, list),
    "join": lambda v: isinstance(v, Join) and v.path,
    "join of a kind": lambda v: isinstance(v, Join) and v.path,
    "hostname": lambda v: 0 < len(v) <= 64,
    "variables": lambda v: all(v) or not v,
    "security_opt": lambda v: all(v.values()) or not v,
    "security_opt of a word": lambda v: v["seccomp"],
}


def text(rng, most=6):
    return "".join(rng.choice(PIECES) for _ in range(rng.randrange(most)))


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_a_value_or_a_spec_error(name):
    rng = random.Random(f"minibox forms {name}")
    for _ in range(1200):
        word = text(rng)
        try:
            value = FORMS[name](word)
        except SpecError as error:
            assert str(error)
            continue
        except Exception as error:  # noqa: BLE001
            pytest.fail(f"{name}({word!r}): {type(error).__name__}: {error}")
        assert CHECKS[name](value), (name, word, value)


@pytest.mark.parametrize("name", [name for name in FORMS if name != "variables"])
def test_the_message_about_a_form_is_one_line(name):
    rng = random.Random(f"minibox messages {name}")
    for _ in range(600):
        word = text(rng)
        try:
            FORMS[name](word)
        except SpecError as error:
            assert "\n" not in str(error), (name, word)
        except Exception:  # noqa: BLE001  (the test above tells)
            pass


# The two parsers of the command line.

RUN = next(verb for verb in verbs.VERBS if verb.name == "run")
NAMES = [name for option in RUN.options for name in option.names]
WORDS = (
    *NAMES, *NAMES, "--nosuch", "--vol", "--help", "-it", "-iT", "-vx:/y", "-ex", "-e", "-z", "-",
    "--", "--volume=a:/b", "--env=", "--init=1", "--init=", "-=", "--=x", "--size=1m", "ROOTFS", "./x",
    "/bin/sh", "-c", "x", "", "a b", "é", "\udcff", "-h", "-hname", "-uroot", "-tiw/", "-w",
)  # fmt: skip


def by_click(words):
    """click's own values of a command line, or None where it complains."""
    import click

    command = click_app.app.commands["run"]
    try:
        context = command.make_context("run", list(words))
    except (click.ClickException, click.exceptions.Exit):
        return None
    with context:
        return _normal(context.params)


def _normal(values):
    """What was given, as both parsers say it."""
    found = {}
    for field, value in values.items():
        if isinstance(value, tuple):
            value = list(value)
        if field == "args" or value not in (None, False, []):
            found[field] = value
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_quick_parser_and_click_agree(capsys):
    rng = random.Random("minibox command lines")
    agreed = 0
    for _ in range(4000):
        words = [rng.choice(WORDS) for _ in range(rng.randrange(8))]
        values = quick.parse(RUN, words)
        slow = by_click(words)
        if values is not None:
            assert slow == _normal(values), f"click says otherwise of {words!r}"
            agreed += 1
        elif slow is not None:
            # click is asked, too: that is its purpose. But what it takes is what quick leaves it.
            assert any(word.startswith("--") for word in words), f"quick refuses {words!r}"
    assert agreed > 200


def test_whatever_click_accepts_the_quick_parser_accepts():
    """But for what only click knows: abbreviated options (--vol for --volume)."""
    rng = random.Random("minibox plain command lines")
    whole = [word for word in WORDS if word not in ("--vol", "--nosuch", "--help")]
    accepted = 0
    for _ in range(4000):
        words = [rng.choice(whole) for _ in range(rng.randrange(8))]
        slow = by_click(words)
        if slow is not None:
            values = quick.parse(RUN, words)
            assert values is not None, f"quick refuses {words!r}, click takes {slow}"
            assert _normal(values) == slow
            accepted += 1
    assert accepted > 100


# Profiles of system calls.

WORDS_OF_PROFILES = (
    *("defaultAction", "defaultErrnoRet", "defaultErrno", "architectures", "archMap", "syscalls"),
    *("flags", "listenerPath", "architecture", "subArchitectures", "names", "name", "action"),
    *("errnoRet", "errno", "args", "comment", "includes", "excludes", "index", "value"),
    *("valueTwo", "op", "caps", "arches", "minKernel"),
)
VALUES_OF_PROFILES = (
    *("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_NOTIFY", "SCMP_CMP_EQ"),
    *("SCMP_CMP_MASKED_EQ", "SCMP_CMP_GE", "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "CAP_BPF"),
    *("EPERM", "amd64", "4.8", "read", "socket", "", "\0", "\udcff", "x" * 90, None, True, 0, 1, 5),
    *(-1, 4095, 4096, 1 << 63, 1 << 64, 1.5, 1e400, "SECCOMP_FILTER_FLAG_LOG"),
)
SHAPE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    "flags": ["SECCOMP_FILTER_FLAG_LOG"],
    "syscalls": [
        {
            "names": ["read", "socket"],
            "action": "SCMP_ACT_ALLOW",
            "includes": {"caps": ["CAP_BPF"]},
        },
        {
            "names": ["clone"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 2114060288, "valueTwo": 0}],
            "excludes": {"minKernel": "4.8"},
        },
    ],
}


def _mutated(rng, node, rate):
    """The same shape with some words, values and branches changed."""
    if rng.random() < rate:
        return rng.choice([*VALUES_OF_PROFILES, [], {}, [{}], [[]], node, [node], {"names": node}])
    if isinstance(node, dict):
        pairs = [(k, v) for k, v in node.items() if rng.random() > rate / 4]
        return {
            rng.choice(WORDS_OF_PROFILES) if rng.random() < rate / 4 else k: _mutated(rng, v, rate)
            for k, v in pairs
        }
    if isinstance(node, list):
        return [
            _mutated(rng, one, rate) for one in node for _ in range(rng.choice([1, 1, 1, 2, 0]))
        ]
    return node


def test_any_profile_is_a_program_or_an_error():
    rng = random.Random("minibox profiles")
    programs = 0
    for _ in range(4000):
        data = json.dumps(_mutated(rng, SHAPE, rng.choice([0.0, 0.02, 0.1])))
        at = rng.randrange(len(data))
        broken = data[:at] + rng.choice(["", "{", "]", '"', "\0", "\\"]) + data[at + 1 :]
        for words in (data, broken):
            try:
                found = profile.read(words, ("CHOWN",), ("x86_64", "i386"), "6.1.0")
                code = library.program(found)
            except (SpecError, Unsupported) as error:
                assert "\n" not in str(error), words
                continue
            except Exception as error:  # noqa: BLE001
                pytest.fail(f"{words}: {type(error).__name__}: {error}")
            programs += 1
            assert len(code) % 8 == 0
            for number in (0, 41, 56, 1000, 0x40000000):
                for arch in (0xC000003E, 0x40000003, 0):
                    bpf.answer(code, arch, number, rng.getrandbits(64))
    assert programs > 300


# Files of a root file system, which may be hostile.

FIELDS = (
    b"", b"root", b"bob", b"0", b"1000", b"+5", b" 5", b"-1", b"4294967295", b"4294967294",
    b"99999999999999999999999", "٣".encode(), "²".encode(), b"x", b"/", b"/home/bob", b"\0", b"\xff", b"a,b", b"bob,root",
    b"bob,", b"#", b"\r", b"1e3", b"0x0", b"007",
)  # fmt: skip
USERS = (
    b"", b"root", b"bob", b":", b"bob:", b":root", b"0", b"1000:", b"1000:1000", b"bob:bob", b"-1",
    b"4294967295", b"4294967294", b"+0", b"bob:0", b"0:bob", b"a:b:c", b"\xff", "٣".encode(), "²".encode(), b"007",
    b"x:x", b" ", b"root:4294967295", b"99999999999",
)  # fmt: skip


def _file(rng, fields):
    lines = []
    for _ in range(rng.randrange(6)):
        count = fields if rng.random() < 0.7 else rng.randrange(10)
        lines.append(b":".join(rng.choice(FIELDS) for _ in range(count)))
    return rng.choice([b"\n", b"\r\n", b"\n\n"]).join(lines)


def test_a_user_of_any_passwd_file_is_a_user_or_a_spec_error(monkeypatch):
    rng = random.Random("minibox accounts")
    files = {}
    monkeypatch.setattr(accounts.tree, "read", lambda _root, path, *_: files[path])
    found = 0
    for _ in range(3000):
        files[b"/etc/passwd"], files[b"/etc/group"] = _file(rng, 7), _file(rng, 4)
        who = rng.choice(USERS)
        try:
            user, home = accounts.look_up(b"/", who)
        except SpecError:
            continue
        except Exception as error:  # noqa: BLE001
            pytest.fail(f"{who!r} in {files}: {type(error).__name__}: {error}")
        found += 1
        assert isinstance(user, User) and home.startswith(b"/")
        assert all(0 <= number < 0xFFFFFFFF for number in (user.uid, user.gid, *user.groups))
        assert b"\0" not in home, (who, files)
    assert found > 300


def _elf(rng):
    """A 64-bit header with one PT_INTERP, some bytes of which are changed."""
    head = bytearray(4096)
    head[:6] = b"\x7fELF\x02\x01"
    head[32:40] = (64).to_bytes(8, "little")
    head[54:58] = (56).to_bytes(2, "little") + (3).to_bytes(2, "little")
    head[64:68] = (rng.choice([1, 3])).to_bytes(4, "little")
    head[72:80] = (512).to_bytes(8, "little")
    head[96:104] = (20).to_bytes(8, "little")
    head[512:532] = b"/lib/ld-linux.so.2\0\0"
    for _ in range(rng.randrange(8)):
        head[rng.randrange(128)] = rng.choice([0, 1, 3, 0x7F, 0x80, 0xFF, rng.randrange(256)])
    return bytes(head[: rng.choice([4096, 4096, 4096, 64, 63, 100, 120, 520, 0, 5])])


def test_any_header_is_an_interpreter_or_none():
    rng = random.Random("minibox elf")
    loaders = 0
    for _ in range(3000):
        head = _elf(rng)
        try:
            found = elf.loader(head)
        except Exception as error:  # noqa: BLE001
            pytest.fail(f"{head[:128]!r}: {type(error).__name__}: {error}")
        assert isinstance(found, bytes) and len(found) <= len(head)
        loaders += found == b"/lib/ld-linux.so.2"
    assert loaders > 200


def test_any_first_line_is_an_interpreter_or_none():
    rng = random.Random("minibox scripts")
    pieces = (
        b"#!",
        b"#",
        b"!",
        b" ",
        b"\t",
        b"\n",
        b"\r",
        b"\0",
        b"/bin/sh",
        b"-e",
        b"\xff",
        b"x" * 300,
    )
    for _ in range(1500):
        head = b"".join(rng.choice(pieces) for _ in range(rng.randrange(8)))
        found = elf.script_interpreter(head)
        assert isinstance(found, bytes)
        assert found == b"" or (head.startswith(b"#!") and b"\n" not in found)
