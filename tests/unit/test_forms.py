# SPDX-License-Identifier: Apache-2.0
"""The texts people write, and what they must not write."""

import pytest

from minibox import forms
from minibox import syscalls as sc
from minibox.errors import SpecError
from minibox.spec import Join, Tmpfs

SAFE = sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("/a:/b", ("/a", b"/b", SAFE, True)),
        ("a:/b:ro", ("a", b"/b", SAFE | sc.MOUNT_ATTR_RDONLY, True)),
        ("/a:/b//c/:ro,rw", ("/a", b"/b/c", SAFE, True)),
        ("/a:/b:exec,suid,dev", ("/a", b"/b", 0, True)),
        ("/a:/b:noexec,noidmap", ("/a", b"/b", SAFE | sc.MOUNT_ATTR_NOEXEC, False)),
        ("/a:/b/../c", ("/a", b"/c", SAFE, True)),
    ],
)
def test_volume(text, value):
    assert forms.volume(text) == value


@pytest.mark.parametrize(
    "text", ["", "/a", ":/b", "/a:", "/a:b", "/a:/b:x", "/a:/b:ro:x", "/a:/", "/a:/.."]
)
def test_no_volume(text):
    with pytest.raises(SpecError):
        forms.volume(text)


def test_tmpfs():
    assert forms.tmpfs("/a") == Tmpfs(b"/a", SAFE, b"", b"1777")
    assert forms.tmpfs("/a:size=1m,mode=0700,ro") == Tmpfs(
        b"/a", SAFE | sc.MOUNT_ATTR_RDONLY, b"1m", b"0700"
    )


@pytest.mark.parametrize(
    "text", ["a", "/a:size=x", "/a:mode=9", "/a:mode=", "/a:mode=77777", "/a:uid=0", "/"]
)
def test_no_tmpfs(text):
    with pytest.raises(SpecError):
        forms.tmpfs(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("1.5", 1.5), ("500ms", 0.5), ("30s", 30), ("2m", 120), ("1h", 3600)]
)
def test_duration(text, seconds):
    assert forms.duration("--timeout", text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "1x", "s", "nan", "inf", "1e99", "1 s s"])
def test_no_duration(text):
    with pytest.raises(SpecError):
        forms.duration("--timeout", text)


@pytest.mark.parametrize("text", ["", "0", "-1", "1x", "1.5m", "²", "k"])
def test_no_size(text):
    with pytest.raises(SpecError):
        forms.size("--size", text)


def test_join():
    assert forms.join("net=12") == Join("net", b"/proc/12/ns/net")
    assert forms.join("pid=/run/x") == Join("pid", b"/run/x")
    for text in ("net", "net=", "=1", "foo=1", ""):
        with pytest.raises(SpecError):
            forms.join(text)


def test_variables():
    found = forms.variables("--env", ["A=1", "B", "A=2=3", "C="])
    assert found == {b"B": None, b"A": b"2=3", b"C": b""}
    with pytest.raises(SpecError):
        forms.variables("--env", ["=1"])


@pytest.mark.parametrize("text", ["", "x" * 65, "a\0b"])
def test_no_hostname(text):
    with pytest.raises(SpecError):
        forms.hostname("--hostname", text)


@pytest.mark.parametrize("text", ["", "+", "--1", "1.0", "9" * 10, "1" * 19, "²"])
def test_no_integer(text):
    with pytest.raises(SpecError):
        forms.seconds("--boottime", text)


def test_integer():
    assert [forms.seconds("-", text) for text in ("5", "-5", "+5")] == [5, -5, 5]


@pytest.mark.parametrize("text", ["RTMIN+3²", "RTMIN+", "RTMIN+99", "RTMIN+-1", "²", ""])
def test_no_signal(text):
    with pytest.raises(SpecError):
        forms.signal("--stop-signal", text)
