# SPDX-License-Identifier: Apache-2.0
"""Each step of a detached start goes wrong: it fails, or whoever makes it dies there. The start
fails with one message, nothing is left, and the container is what it was before.

MINIBOX_EVERY=1 takes each step of each plan, MINIBOX_EVERY=n each n-th.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path

import pytest

from minibox import host as hosts
from minibox import life
from minibox.compile import compile
from minibox.numbers import NUMBERS
from minibox.resident import Resident
from minibox.spec import Monitor
from minibox.store import Store

sys.path.append(str(Path(__file__).parent))
import kept

starting = sys.modules["minibox.life.start"]
NO_SUCH_CALL = 9999
PLANS = {
    "default": (),
    "the host's ids": ("--userns", "host"),
    "init, stdin, restarts": ("--init", "-i", "--restart", "on-failure:3"),
    "overlay, tmpfs, a volume, a user": (
        *("--overlay", "--tmpfs", "/tmp", "--volume", "/usr:/mnt:ro"),
        *("--user", "1000:1000", "--workdir", "/var"),
    ),
    "a terminal, health": (
        *("-t", "--rm", "--health-cmd", "true"),
        *("--health-interval", "1s", "--health-start-period", "1s"),
    ),
}
USUAL = {"default": 1}  # of the other plans, most of which is the same, each third step


@pytest.fixture
def start(tmp_path, rootfs, message):
    return lambda options, number: Start(options, tmp_path, rootfs, message, number)


class Start:
    """A detached start one step of which makes another system call than it should."""

    def __init__(self, options, top, rootfs, message, number):
        self.options = options
        self.top = top
        self.rootfs = rootfs
        self.message = message
        self.number = number
        self.plan = self.compiled()

    def compiled(self):
        home = kept.Home(self.top, self.rootfs, "state-plan")
        try:
            home.make("one", *self.options)
            config = Resident.find(Store(str(home.root)), "one").config
            watched = Monitor(stdin=config["interactive"])
            return compile(life.build(config, hosts.probe(), watched), hosts.probe())
        finally:
            home.clear()

    def __call__(self, k):
        """What is wrong when step k, from 0, goes wrong. In a process of its own: what is changed
        here is so for the commands that it forks."""
        home = kept.Home(self.top, self.rootfs, f"state-{os.getpid()}")
        try:
            home.make("one", *self.options)
            before = contents(home)
            starting.compile = lambda spec, host: compile(spec, host).failing_at(k, self.number)
            try:
                run = ("run", "-d", "--name", "two", *self.options, self.rootfs, *kept.STAY)
                done, made = home.run("start", "one", timeout=5), home.run(*run, timeout=5)
            finally:
                starting.compile = compile
            found = self.problems(done, k)
            if k >= len(self.plan.before) or self.number == NO_SUCH_CALL:
                found += [f"run: {text}" for text in self.problems(made, k)]
                after = contents(home)
                found += changes(before, after)
            found += gone(home)
            found += works(home)
            found += home.sweep()
            return [f"step {k + 1}, {self.plan.steps[k].call}: {text}" for text in found]
        finally:
            home.clear()

    def problems(self, done, k):
        if self.number == NO_SUCH_CALL:
            return self.about_a_failure(done, k)
        if k < len(self.plan.before):
            return []  # it was the command itself that has ended there, whatever its exit code
        text = done.stderr.decode()
        is_one = done.returncode == 125 and self.message(done.stderr) is None
        return [] if is_one and not done.stdout else [f"it died, and: {done.returncode}, {text!r}"]

    def about_a_failure(self, done, k):
        op, text = self.plan.steps[k], done.stderr.decode()
        is_exec = op.call == "execve"
        wanted = 126 if is_exec else 125
        found = [] if done.returncode == wanted else [f"exit code {done.returncode}, not {wanted}"]
        found += [problem for problem in [self.message(done.stderr)] if problem]
        parts = [os.strerror(errno.ENOSYS)]
        if not is_exec:
            parts += [f"step {k + 1} of {len(self.plan.steps)}", f"({op.call}: {op.why})"]
        return found + [f"{part!r} is not in {text!r}" for part in parts if part not in text]


def contents(home):
    """The files of the containers, but those that hold the locks, and the log."""
    return {
        f"{path.parent.name[:5]}/{path.name}": path.read_bytes()
        for path in home.root.glob("containers/*/*")
        if path.is_file() and path.name not in ("lock", "alive", "log")
    }


def changes(before, after):
    names = sorted(before.keys() | after.keys())
    changed = [name for name in names if before.get(name) != after.get(name)]
    return [f"{changed} are not what they were"] if changed else []


def gone(home):
    return [] if kept.until(lambda: not kept.descendants(), 3) else kept.named(kept.descendants())


def works(home):
    """The same start, with nothing in its way."""
    done = home.run("start", "one")
    state = home.states().get("one", {}).get("State")
    return [] if (done.returncode, done.stderr, state) == (0, b"", "running") else [f"{done}"]


def steps_of(plan, name):
    step = kept.every(USUAL.get(name, 5))
    return list(range(0, len(plan.steps), step))


@pytest.mark.parametrize("name", PLANS)
def test_every_step_that_fails_is_named_and_the_container_is_as_before(start, unchanged, name):
    tried = start(PLANS[name], NO_SUCH_CALL)
    assert kept.few(kept.in_parallel(tried, steps_of(tried.plan, name))) == []


@pytest.mark.parametrize("name", PLANS)
def test_who_dies_at_any_step_is_missed(start, unchanged, name):
    """exit_group(2) instead of the step, in the stage, the monitor or the first process. From the
    exec of the command on its end is the container's."""
    tried = start(PLANS[name], NUMBERS["exit_group"])
    last = next(k for k, op in enumerate(tried.plan.steps) if op.call == "execve")
    steps = [k for k in steps_of(tried.plan, name) if k < last]
    assert kept.few(kept.in_parallel(tried, steps)) == []


# What only the stage, the monitor and the container's first process call -> how often.
OF_OTHERS = {
    "execveat": 1, "setsid": 1, "umask": 1, "fchdir": 1, "bind": 1, "listen": 1, "socket": 1,
    "signalfd4": 1, "setgroups": 1, "setresuid": 1, "keyctl": 1, "sethostname": 1, "ppoll": 2,
    "mount_setattr": 1, "mount": 9, "pivot_root": 1, "umount2": 1, "chdir": 1, "capset": 1,
    "close_range": 1,
}  # fmt: skip
LATE = ("ppoll", "signalfd4")


class Kill:
    """SIGKILL for whoever below a start calls something the n-th time."""

    def __init__(self, top, rootfs, message):
        self.top = top
        self.rootfs = rootfs
        self.message = message

    def __call__(self, case):
        name, number = case
        home = kept.Home(self.top, self.rootfs, f"state-{os.getpid()}")
        fault = f"{name}:signal=KILL:when={number}"
        options = ("-f", "-o", "/dev/null", f"-etrace={name}", f"-einject={fault}")
        try:
            home.make("one")
            before = contents(home)
            done = home.run("start", "one", under=options, timeout=5)
            found = []
            if done.returncode == -signal.SIGKILL:
                return []  # it was the command itself
            if done.returncode == 0:
                # The monitor may come to that when the start is over and nobody watches any more.
                found += [] if name in LATE or is_dead(home) else ["it has started"]
                home.run("stop", "-t", "0", "one")
            else:
                problem = self.message(done.stderr)
                found += [problem] if problem or done.returncode != 125 else []
                after = contents(home)
                found += changes(before, after)
            found += gone(home) + works(home) + home.sweep()
            return [f"{fault}: {text}" for text in found]
        finally:
            home.clear()


def is_dead(home):
    return kept.until(lambda: home.states()["one"]["State"] == "exited", 3)


def test_who_is_killed_during_a_start_is_missed(tmp_path, rootfs, message, unchanged):
    cases = [(name, k) for name, most in OF_OTHERS.items() for k in range(1, most + 1)]
    assert kept.few(kept.in_parallel(Kill(tmp_path, rootfs, message), cases)) == []
