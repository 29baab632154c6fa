# SPDX-License-Identifier: Apache-2.0
"""A state directory that is damaged, hostile, full, read-only or not there: one message, no hang;
the other containers are shown and unharmed, and `rm -f` takes the damaged one away, with whatever
still runs of it.

MINIBOX_EVERY=1 tries each damage, MINIBOX_EVERY=n each n-th.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
import kept

# An ordinary answer comes within 50 ms.
SOON = 4.0
# A start may wait so long for a monitor that is still there.
LATE = 14.0
NESTED = 100_000


def emptied(path):
    path.write_bytes(b"")


def cut_in_half(path):
    os.truncate(path, path.stat().st_size // 2)


def contains(data):
    return lambda path: path.write_bytes(data)


def huge(path):
    """100 MB of JSON, most of it a hole."""
    with path.open("wb") as file:
        file.write(b'{"version": 1, "text": "')
        file.truncate(100 << 20)
        file.seek(0, os.SEEK_END)
        file.write(b'"}')


def replaced(make):
    def damage(path):
        path.unlink()
        make(path)

    return damage


def a_directory_with_more(path):
    (path / "in/it").mkdir(parents=True)
    (path / "file").write_text("text")


DAMAGES = {
    "is gone": Path.unlink,
    "is empty": emptied,
    "is cut in half": cut_in_half,
    "is random": contains(bytes(range(256)) * 12),
    "has another version": contains(b'{"version": 99}'),
    "is a list": contains(b"[1, 2]"),
    "is null": contains(b"null"),
    "is an empty object": contains(b"{}"),
    "is a deep list": contains(b"[" * NESTED),
    "is a deep object": contains(b'{"a":' * NESTED),
    "has a number of 5000 digits": contains(b'{"version": 1, "created": ' + b"9" * 5000 + b"}"),
    "has no number": contains(b'{"version": NaN}'),
    "is huge": huge,
    "is a directory": replaced(Path.mkdir),
    "is a directory with more": replaced(a_directory_with_more),
    "is a fifo": replaced(os.mkfifo),
    "is a link to nothing": replaced(lambda path: path.symlink_to("/nonexistent/file")),
    "is a link to itself": replaced(lambda path: path.symlink_to(path.name)),
    "is a link to a file": replaced(lambda path: path.symlink_to("/etc/passwd")),
    "is a link to what has no end": replaced(lambda path: path.symlink_to("/dev/zero")),
}
FILES = (
    *("config.json", "run.json", "exit-1.json", "alive", "lock", "log", "attach", "stop"),
    "health.json",
)
# Asked in this order of a container whose file is damaged. A code of 125 is fine, silence is not.
VERBS = (
    ("ps", "-a"),
    ("ps", "-a", "--format", "json"),
    ("ps", "-a", "--filter", "name=one"),
    ("inspect", "ID"),
    ("logs", "ID"),
    ("exec", "ID", "/bin/true"),
    ("stop", "-t", "0", "ID"),
    ("kill", "ID"),
    ("rename", "ID", "two"),
    ("gc",),
)


class Damage:
    """One damage to one file of one of two containers; and what the verbs say to that."""

    def __init__(self, top, rootfs, message, damage):
        self.top = top
        self.rootfs = rootfs
        self.message = message
        self.damage = damage

    def __call__(self, case):
        is_running, *what = case
        home = kept.Home(self.top, self.rootfs, f"state-{os.getpid()}")
        state = "running" if is_running else "exited"
        try:
            home.start("other")
            if is_running:
                id_ = home.start("one")
            else:
                id_ = home.start("one", command=("/bin/sh", "-c", "exit 7"))
                home.good("wait", "one")
                kept.until(lambda: len(kept.descendants()) == 2)
            self.damage(home.directory(id_), *what)
            found = self.problems(home, id_, is_running)
            return [f"{state}, {' '.join(map(str, what))}: {text}" for text in found]
        finally:
            home.clear()

    def problems(self, home, id_, is_running):
        found = []
        for words in VERBS:
            found += self.answer(home, words, id_)
        if not is_running:
            found += self.answer(home, ("start", "ID"), id_)
        if home.directory(id_).exists():
            found += self.removed(home, id_)
        other = home.run("inspect", "other")
        state = other.returncode == 0 and json.loads(other.stdout)[0]["State"]["Status"]
        if state != "running":
            found.append(f"the other one: {other.stderr!r}, {state}")
        if not kept.until(lambda: not kept.strangers(home), 2):
            found.append(f"{kept.strangers(home)} live on")
        return found + home.sweep()

    def answer(self, home, words, id_):
        argv = [id_ if word == "ID" else word for word in words]
        done = home.run(*argv, timeout=LATE if words[0] == "start" else SOON)
        found = []
        if words[0] == "ps":
            found += self.about_ps(done, words, id_)
        elif done.returncode not in (0, 125):
            found.append(f"exit code {done.returncode}")
        elif done.returncode:
            found += [text for text in [self.message(done.stderr)] if text]
        return [f"{' '.join(words)}: {text}" for text in found]

    def about_ps(self, done, words, id_):
        """The other one is shown, and the damaged one or a warning about it."""
        found = [] if done.returncode == 0 else [f"exit code {done.returncode}"]
        if not words[-1].startswith("name=") and b"other" not in done.stdout:
            found.append("the other one is not shown")
        if done.stderr:
            found += [text for text in [self.message(done.stderr)] if text]
        shown = b"one" in done.stdout or id_[:12].encode() in done.stderr
        return found if shown else [*found, f"nothing about this one: {done.stderr!r}"]

    def removed(self, home, id_):
        done = home.run("rm", "-f", id_, timeout=LATE)
        found = [] if (done.returncode, done.stderr) == (0, b"") else [f"rm -f: {done}"]
        if home.directory(id_).exists():
            found.append("rm -f: it is still there")
        return found


def damage_file(directory, name, how):
    path = directory / name
    if not os.path.lexists(path):
        path.write_text("{}")
    if path.is_socket():
        path.unlink()
        path.write_text("{}")
    DAMAGES[how](path)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file(tmp_path, rootfs, message, name):
    damage = Damage(tmp_path, rootfs, message, damage_file)
    cases = [(is_running, name, how) for how in DAMAGES for is_running in (True, False)]
    usual = 1 if name in ("config.json", "run.json") else 3
    chosen = cases[:: kept.every(usual)]
    assert kept.few(kept.in_parallel(damage, chosen)) == []
