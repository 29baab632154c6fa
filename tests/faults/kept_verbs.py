# SPDX-License-Identifier: Apache-2.0
"""Every verb with what there is before it and what is right after it, for tests that interfere."""

from __future__ import annotations

import os

import kept

LONG = kept.STAY


class Case:
    """A verb that comes to grief. words: its command line. usual: each so many-th call is tried.
    prepare(home): what there is before. judge(home, again): what is wrong in the end, when the same
    command has come a second time. fresh: without another container beside it."""

    def __init__(self, words, prepare, judge, *, usual=1, fresh=False):
        self.words = words
        self.prepare = prepare
        self.judge = judge
        self.usual = usual
        self.fresh = fresh


# What there is before.


def nothing(home):
    return None


def created(*options, command=LONG):
    return lambda home: home.make("one", *options, command=command)


def running(*options, command=LONG):
    return lambda home: home.start("one", *options, command=command)


def exited(home):
    home.start("one", command=("/bin/sh", "-c", "exit 7"))
    home.good("wait", "one")


def orphaned(*options):
    """Its monitor was killed, and the container with it: what was to follow has not."""

    def prepare(home):
        home.start("one", *options)
        monitor = home.whole("one")["State"]["ConmonPid"]
        kept.end({monitor, *kept.descendants(monitor)})

    return prepare


def littered(home):
    """What each kind of killed command can leave."""
    orphaned("--rm")(home)
    home.make("two")
    id_ = home.whole("two")["Id"]
    (home.directory(id_) / ".run.json.99999").write_text("{")
    hidden = home.root / "containers" / f".{'ab' * 32}"
    hidden.mkdir()
    (hidden / "config.json").write_text("{}")
    (home.root / "names/stale").symlink_to("ab" * 32)
    (home.root / "ids/88888").symlink_to("ab" * 32)
    (home.root / ".events.1").write_text("")


# What is right at the end. again: the same command, the second time.


def is_fine(again):
    return again.returncode == 0 and not again.stderr


def complains_of(again, text):
    return again.returncode == 125 and text in again.stderr


def wrong(condition, text):
    return [] if condition else [text]


def there_once(status):
    """A container of that name is there, and only one, in that state."""

    def judge(home, again):
        states = home.states()
        mine = {name: one["State"] for name, one in states.items() if name != "other"}
        fine = is_fine(again) or complains_of(again, b"is taken by container")
        if not is_fine(again):
            # The first one made it, and was killed afterwards, or between making and starting.
            return wrong(fine and list(mine) == ["one"], f"{again.stderr!r}, {mine}")
        return wrong(mine == {"one": status}, f"it is {mine}")

    return judge


def in_state(status, *complaints):
    def judge(home, again):
        fine = is_fine(again) or any(complains_of(again, text) for text in complaints)
        state = home.states().get("one", {}).get("State")
        return wrong(fine, f"again: {again}") + wrong(state == status, f"it is {state}")

    return judge


def restarted(home, again):
    """Or it has ended once more, if the kill came just before the start counted."""
    if home.states()["one"]["State"] == "exited" and home.whole("one")["State"]["ExitCode"] == 137:
        again = home.run("start", "one")
    return in_state("running")(home, again)


def gone(home, again):
    fine = is_fine(again) or complains_of(again, b"no such container")
    return wrong(fine, f"again: {again}") + wrong("one" not in home.states(), "it is still there")


def renamed(home, again):
    fine = is_fine(again) or complains_of(again, b"no such container")
    names = set(home.states()) - {"other"}
    found = (
        home.run("inspect", "two").returncode == 0 and home.run("inspect", "one").returncode == 125
    )
    return wrong(fine, f"again: {again}") + wrong(
        names == {"two"} and found, f"it is called {names}"
    )


KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
WHERE = f"for kind in {' '.join(KINDS)}; do readlink /proc/self/ns/$kind; done"


def unharmed(home, again):
    """The container runs, and the command was in all of its namespaces."""
    found = in_state("running")(home, home.run("ps"))
    pid = home.states()["one"]["Pid"]
    names = "".join(f"{os.readlink(f'/proc/{pid}/ns/{kind}')}\n" for kind in KINDS)
    return found + wrong(is_fine(again) and again.stdout.decode() == names, f"{again}")


def unharmed_detached(home, again):
    return in_state("running")(home, again)


def swept(home, again):
    left = [
        text for text in home.rest() if "/." in text or "stale" in text or text.endswith("/88888")
    ]
    left += [str(path) for path in home.root.glob("containers/*/.*")]
    states = set(home.states())
    left += wrong(states == {"two", "other"}, f"there are {states}")
    return wrong(is_fine(again), f"again: {again}") + left


def signalled(home, again):
    fine = is_fine(again) or complains_of(again, b"is not running")
    return wrong(fine, f"again: {again}") + wrong("one" in home.states(), "it is gone")


PID_1 = ("/bin/sh", "-c", "trap 'exit 3' TERM; while :; do sleep 1; done")
CASES = {
    "create": Case(("create", "--name", "one", "ROOTFS", *LONG), nothing, there_once("created")),
    "create, the first ever": Case(
        ("create", "--name", "one", "ROOTFS", *LONG), nothing, there_once("created"), fresh=True
    ),
    "run -d": Case(
        ("run", "-d", "--name", "one", "ROOTFS", *LONG), nothing, there_once("running"), usual=3
    ),
    "run -d --rm --init": Case(
        ("run", "-d", "--rm", "--init", "--name", "one", "ROOTFS", *LONG),
        nothing,
        there_once("running"),
        usual=4,
    ),
    "start": Case(
        ("start", "one"), created(), in_state("running", b"is already running"), usual=2
    ),
    "start, the second time": Case(
        ("start", "one"),
        orphaned(),
        in_state("running", b"is already running"),
        usual=4,
    ),
    "exec": Case(("exec", "one", "/bin/sh", "-c", WHERE), running(), unharmed, usual=2),
    "exec -d": Case(("exec", "-d", "one", *LONG), running(), unharmed_detached, usual=2),
    "stop": Case(("stop", "one"), running("--init"), in_state("exited")),
    "stop, which has to kill": Case(
        ("stop", "-t", "0", "one"), running(command=PID_1), in_state("exited"), usual=2
    ),
    "stop of one that is to restart": Case(
        ("stop", "-t", "0", "one"), running("--restart", "always"), in_state("exited"), usual=2
    ),
    "kill": Case(("kill", "one"), running(), in_state("exited", b"is not running")),
    "kill with a signal": Case(
        ("kill", "-s", "USR1", "one"), running("--init", command=PID_1), signalled
    ),
    "restart": Case(("restart", "-t", "0", "one"), running(), in_state("running"), usual=4),
    "rename": Case(("rename", "one", "two"), created(), renamed),
    "rename of one that runs": Case(("rename", "one", "two"), running(), renamed, usual=2),
    "rm": Case(("rm", "one"), exited, gone),
    "rm of one never started": Case(("rm", "one"), created(), gone, usual=2),
    "rm -f": Case(("rm", "-f", "one"), running(), gone),
    "gc": Case(("gc", "-q"), littered, swept),
    "after, which removes": Case(("after", "ID", "1"), orphaned("--rm"), gone),
    "after, which restarts": Case(
        ("after", "ID", "1"),
        orphaned("--restart", "always"),
        restarted,
        usual=4,
    ),
}  # fmt: skip


class Trial:
    """One verb, to which something happens at one of its calls: `fault(call)`, as strace's inject
    takes it. `verdict(done, call)`: what is wrong with how the command took that."""

    def __init__(self, case, top, rootfs, message, fault, verdict):
        self.case = case
        self.fault = fault
        self.verdict = verdict
        self.top = top
        self.rootfs = rootfs
        self.message = message

    def home(self, name):
        """With what there is before; the command line."""
        home = kept.Home(self.top, self.rootfs, f"state-{name}")
        if not self.case.fresh:
            home.make("other")
        self.case.prepare(home)
        words = [
            self.rootfs if word == "ROOTFS" else home.whole("one")["Id"] if word == "ID" else word
            for word in self.case.words
        ]
        return home, words

    def trace(self, *, whole=False):
        """The calls of the verb when nothing happens to it."""
        home, words = self.home("trace")
        try:
            return kept.traced(home, *words, whole=whole)
        finally:
            home.clear()

    def __call__(self, call):
        home, words = self.home(f"{os.getpid()}")
        other = None if self.case.fresh else home.whole("other")["State"]
        try:
            return [f"{call}: {text}" for text in self.problems(home, words, call, other)]
        finally:
            home.clear()

    def problems(self, home, words, call, other):
        done = self.strike(home, words, call)
        found = self.verdict(done, call) + self.afterwards(home)
        if done.returncode == 0 and self.case.judge is not swept:  # gc does what it can
            found += self.case.judge(home, done)
        again = home.run(*words)
        if again.returncode:
            found += self.complaints(again.stderr)
        found += self.case.judge(home, again)
        if other:
            now = home.whole("other")["State"]
            found += wrong(now == other, f"the other container: {other} became {now}")
        found += home.sweep()
        if left := kept.until(lambda: not kept.descendants()) or kept.named(kept.descendants()):
            found += [] if left is True else [f"after rm -af: {left}"]
        return found

    def strike(self, home, words, call):
        """The verb, and what happens to it. What it leaves wrong here is right again after it."""
        return home.run(*words, under=kept.injected(self.fault(call)))

    def complaints(self, stderr):
        """The messages of several containers may be several."""
        return [text for text in [self.message(stderr)] if text]

    def afterwards(self, home):
        found = []
        shown = home.run("ps", "-a")
        if shown.returncode or shown.stderr:
            found.append(f"ps: {shown}")
        for name in ("one", "two"):
            shown = home.run("inspect", name)
            if shown.returncode:
                found += self.complaints(shown.stderr)
                found += wrong(b"no such container" in shown.stderr, f"inspect: {shown.stderr!r}")
        if not kept.until(lambda: not kept.strangers(home), 3):
            found.append(f"{kept.strangers(home)} live on")
        return found
