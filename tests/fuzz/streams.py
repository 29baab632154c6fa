# SPDX-License-Identifier: Apache-2.0
"""The tar streams of cp, which may mean harm."""

from __future__ import annotations

import os
import tarfile
import tempfile
from pathlib import Path

from hypothesis import strategies as st

from minibox.resources import archive
from minibox.resources.unpacking import Unpacking
from tests.fuzz import strategies as s
from tests.fuzz.properties import PLACE, Property
from tests.fuzz.read import file_with

MEMBER_NAMES = (
    "a", "a/b", "a/b/c", "d/", ".", "./a", "..", "../x", "a/../../x", "/etc/x", "link/x", "l", "a//b", "x" * 300, "a\nb",
    "\udcff", "", "/", "a/" * 200 + "f", "é",
)  # fmt: skip
TARGETS = ("..", "../outside", "/etc", "a", "l", "", "/", "../../outside/file", "x" * 5000, ".")


@st.composite
def members(draw):
    info = tarfile.TarInfo(draw(st.sampled_from(MEMBER_NAMES)))
    info.type = draw(
        st.sampled_from(
            [b"0", b"0", b"5", b"5", b"1", b"2", b"2", b"3", b"6", b"7", b"S", b"\0", b"Z"]
        )
    )
    info.linkname = draw(st.sampled_from(TARGETS))
    data = draw(st.binary(max_size=40))
    info.size = (
        len(data)
        if draw(st.integers(0, 5))
        else draw(st.sampled_from([0, 1, 600, 1 << 32, 1 << 62]))
    )
    info.mode = draw(st.sampled_from([0o644, 0o755, 0, 0o7777, 0o4755, 0o177777 & 0o7777777]))
    info.uid = draw(st.sampled_from([0, 1000, (1 << 32) - 1, 1 << 32]))
    info.mtime = draw(st.sampled_from([0, 1, -1, 1 << 40, 1.5, (1 << 62)]))
    if draw(st.integers(0, 3)) == 0:
        key = draw(
            st.sampled_from(["path", "linkpath", "size", "uid", "mtime", "GNU.sparse.map", "odd"])
        )
        info.pax_headers = {
            key: draw(
                s.pieces.filter(lambda t: "\0" not in t)
                | st.sampled_from(["-1", "1e9", *MEMBER_NAMES])
            )
        }
    form = draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
    try:
        head = info.tobuf(form, "utf-8", "surrogateescape")
    except ValueError:  # tarfile has no way to write that
        info.size = len(data)
        info.mtime = info.uid = 0
        info.pax_headers = {}
        head = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    return head + data + bytes(-len(data) % 512)


@st.composite
def streams(draw):
    data = b"".join(draw(st.lists(members(), max_size=4))) + draw(
        st.sampled_from([bytes(1024), bytes(1024), b"", b"x"])
    )
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        data = (
            data[:at]
            + draw(st.binary(min_size=1, max_size=8))
            + data[at + draw(st.integers(0, 8)) :]
        )
    return data


def incoming(data):
    with file_with(data) as path:
        fd = os.open(path, os.O_RDONLY)
        try:
            stream = archive.Incoming(fd)
            while member := stream.next():
                assert isinstance(member.name, bytes) and 0 <= member.size <= 1 << 63
                assert 0 <= member.uid <= archive.MOST_ID
        finally:
            os.close(fd)


def seen(path):
    """All that is there, as names and what can be compared of it."""
    found = {}
    for where, directories, files in os.walk(path):
        for name in [*directories, *files]:
            status = os.lstat(f"{where}/{name}")
            found[f"{where}/{name}"] = (
                status.st_mode,
                status.st_uid,
                status.st_gid,
                status.st_size,
                status.st_mtime_ns,
            )
    return found


def unpack(given):
    data, is_copy, owner, as_is, target = given
    with tempfile.TemporaryDirectory(dir=PLACE) as top:
        outside = Path(top, "outside")
        outside.mkdir()
        (outside / "file").write_text("mine")
        inside = Path(top, "inside")
        (inside / "d").mkdir(parents=True)
        (inside / "link").symlink_to("../outside")
        (inside / "l").symlink_to("../outside/file")
        (inside / "file").write_text("old")
        before, warnings = seen(outside), []
        with file_with(data) as path:
            fd = os.open(path, os.O_RDONLY)
            try:
                Unpacking(
                    fd,
                    os.fsencode(inside / target),
                    warnings.append,
                    is_copy=is_copy,
                    owner=owner,
                    as_is=as_is,
                ).unpack()
            finally:
                os.close(fd)
                assert seen(outside) == before, "it was written outside"
                assert (outside / "file").read_text() == "mine"
                assert sorted(os.listdir(top)) == ["inside", "outside"]
                assert not any("\n" in text for text in warnings)
                for where, directories, _ in os.walk(inside):
                    for name in directories:
                        if not os.path.islink(f"{where}/{name}"):
                            os.chmod(f"{where}/{name}", 0o700)


PROPERTIES = [
    Property("tar stream", streams() | s.binary, incoming, 40),
    Property("tar stream unpacked", st.tuples(
        streams(), st.booleans(), st.sampled_from([None, (0, 0), (1000, 1000)]), st.booleans(),
        st.sampled_from([".", "d", "new", "file", "d/.", "new/"])), unpack, 2, variants=0),
]  # fmt: skip
