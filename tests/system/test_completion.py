# SPDX-License-Identifier: Apache-2.0
"""What a shell is offered, and what becomes of containers when the clock jumps."""

from __future__ import annotations

import os
import time

import pytest

WORDS = {
    "bash": {"COMP_WORDS": "minibox --root {} stop ", "COMP_CWORD": "4"},
    "zsh": {"COMP_WORDS": "minibox --root {} stop ", "COMP_CWORD": "4"},
    "fish": {"COMP_WORDS": "minibox --root {} stop ", "COMP_CWORD": ""},
}


@pytest.mark.parametrize("shell", WORDS)
def test_a_shell_is_offered_the_names_of_what_runs(box, shell):
    box.run(name="alpha")
    box.create(name="beta")
    assert "complete" in box.do("completion", shell)
    asked = {name: text.format(box.root) for name, text in WORDS[shell].items()}
    env = {**os.environ, **asked, "_MINIBOX_COMPLETE": f"{shell}_complete"}
    done = box.finish(box.begin(env=env))
    assert b"alpha" in done.stdout, done
    assert b"beta" not in done.stdout


@pytest.mark.parametrize("years", [-30, 30])
def test_a_clock_that_jumps_harms_nobody(box, monkeypatch, years):
    """Of this process; what is waited for goes by clocks that nobody sets."""
    now = time.time_ns
    box.run(name="before")
    monkeypatch.setattr(time, "time_ns", lambda: now() + years * 31_557_600 * 10**9)
    box.run(name="after")
    assert [box.status(name) for name in ("before", "after")] == ["running", "running"]
    for name in ("before", "after"):
        assert box.do("stop", "-t", "0", name) == name
        assert box.state(name)["ExitCode"] == 137
    assert "before" in box.do("ps", "-a")
    box.do("rm", "before", "after")


@pytest.mark.parametrize(
    ("words", "offered", "not_offered"),
    [
        ("network ", {b"create", b"rm"}, {b"lan"}),
        ("network rm ", {b"lan"}, {b"create"}),
        ("topology ", {b"up", b"show"}, {b"lan"}),
        ("run --net ", {b"lan", b"bridge", b"none"}, {b"create"}),
        ("run --net l", {b"lan"}, {b"none"}),
    ],
)
def test_networks_are_offered_where_they_are_wanted(box, words, offered, not_offered):
    box.do("network", "create", "lan", "--internal")  # a file: nothing of the host's changes
    line = f"minibox --root {box.root} {words}"
    place = str(len(line.split(" ")) - 1)
    asked = {"COMP_WORDS": line, "COMP_CWORD": place, "_MINIBOX_COMPLETE": "bash_complete"}
    done = box.finish(box.begin(env={**os.environ, **asked}))
    found = {row.partition(b",")[2] for row in done.stdout.split()}
    assert offered <= found
    assert not found & not_offered
