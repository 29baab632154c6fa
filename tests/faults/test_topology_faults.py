# SPDX-License-Identifier: Apache-2.0
"""A topology whose up or down is killed or interrupted at any call is undone by whoever comes next."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.conftest import Box
from tests.system.topologies import SMALL, all_end, all_gone, left, pings, up, written

sys.path.append(str(Path(__file__).parent))
import kept


def traced(site, trace, *words, options=()):
    """The command under strace, which follows nobody."""
    argv = site.enter("strace", "-o", trace, *options, *Box.words(site, "topology", *words))
    return subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)


CHANGING = ("rename", "renameat", "symlink", "mkdir", "unlink", "rmdir", "clone3", "sendmsg",
            "sendto", "write", "link", "linkat", "clone")  # fmt: skip


def moments(trace, site, count):
    """So many of its system calls that change something, or all of them (MINIBOX_EVERY): the first
    and the last one that makes or removes the record are among them."""
    calls = [
        call
        for call in kept.calls(trace, str(site.root))
        if call.name in CHANGING and "ENOENT" not in call.line
    ]
    record = f"{site.root}/topologies/lab.json"
    records = [
        k for k, call in enumerate(calls)
        if record in call.line and call.name in ("rename", "unlink")
    ]  # fmt: skip
    calls = calls[: records[-1] + 1]
    assert len(calls) > 3 * count
    if not kept.SAMPLED:
        return calls[:: kept.EVERY]
    found = {k * (len(calls) - 1) // (count - 1) for k in range(count)}
    return [calls[k] for k in sorted(found | {records[0]})]


def interrupted(site, trace, call, *words, by="KILL"):
    """The command that gets a signal at this call."""
    fault = f"inject={call.name}:signal={by}:when={call.number}"
    return traced(site, trace, *words, options=("-e", f"trace={call.name}", "-e", fault))


def nothing_counts(site):
    """No container, network or topology is known."""
    known = [*(site.root / "networks").glob("*"), *(site.root / "topologies").glob("*.json")]
    return not known and not site.names() and site.sh("nft list ruleset") == ""


def test_a_killed_up_is_undone_by_whoever_comes_next(site, tmp_path):
    """By gc, by up again, by down, in turn."""
    path, trace = written(site, SMALL), tmp_path / "trace"
    assert traced(site, trace, "up", path).returncode == 0
    cases = moments(trace, site, 3)
    site.do("topology", "down", path)
    for k, call in enumerate(cases):
        done = interrupted(site, trace, call, "up", path)
        assert done.returncode in (-signal.SIGKILL, 137), (call, done)
        is_known = (site.root / "topologies/lab.json").exists()
        assert site.do("topology", "ls") == ("lab" if is_known else ""), call
        if k % 3 == 1:
            site.do("topology", "up", path)
            assert pings(site, "lab-a", "b"), call
        if k % 3:
            site.do("topology", "down", "lab" if is_known else path)
        else:
            site.do("gc")
        assert nothing_counts(site), call
        if left(site):
            site.do("gc")  # links of nobody's, which stop nobody
        assert all_gone(site), (call, left(site))
        assert all_end(site), call


def test_a_killed_up_is_undone_after_its_file_has_changed(site, tmp_path):
    """What it has left is what the record says, not what the file says now."""
    path, trace = written(site, SMALL), tmp_path / "trace"
    assert traced(site, trace, "up", path).returncode == 0
    call = moments(trace, site, 5)[-1]  # all runs, and that is not written down yet
    site.do("topology", "down", path)
    assert interrupted(site, trace, call, "up", path).returncode in (-signal.SIGKILL, 137)
    assert site.names() == {"lab-r", "lab-a", "lab-b"}
    path.write_text(path.read_text().replace("containers.a]", "containers.other]"))
    site.do("topology", "up", path)
    assert site.names() == {"lab-r", "lab-other", "lab-b"}
    site.do("topology", "down", path)
    assert nothing_counts(site)
    assert all_end(site)


@pytest.mark.parametrize(
    ("which", "word"),
    [("symlink", "names/lab-b"), ("clone3", "CLONE_NEWUSER")],
)
def test_an_interrupted_up_takes_away_what_it_has_made(site, tmp_path, which, word):
    """Where a container gets its name, and where processes are made: those do not go with the
    command, which lives on and clears up."""
    path, trace = written(site, SMALL), tmp_path / "trace"
    assert traced(site, trace, "up", path).returncode == 0
    calls = [
        call
        for call in kept.calls(trace, str(site.root))
        if call.name == which and word in call.line and "CLONE_THREAD" not in call.line
    ]
    site.do("topology", "down", path)
    done = interrupted(site, trace, calls[-1], "up", path, by="INT")
    assert (done.returncode, done.stderr) == (130, b""), done
    assert nothing_counts(site)
    site.do("gc")  # links of nobody's, which stop nobody
    assert all_gone(site), left(site)
    assert all_end(site)


def test_a_killed_down_is_followed_by_another(site, tmp_path):
    path, trace = up(site, SMALL), tmp_path / "trace"
    assert traced(site, trace, "down", path).returncode == 0
    for k, call in enumerate(moments(trace, site, 2)):
        site.do("topology", "up", path)
        done = interrupted(site, trace, call, "down", path)
        assert done.returncode in (-signal.SIGKILL, 137), (call, done)
        site.do("topology", "down", path if k % 2 else "lab")
        assert nothing_counts(site), call
        if left(site):
            site.do("gc")  # links of nobody's, which stop nobody
        assert all_gone(site), (call, left(site))
        assert all_end(site), call
