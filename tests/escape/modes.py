# SPDX-License-Identifier: Apache-2.0
"""The ways into a container, each of which runs all probes once."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import COMMAND
from tests.escape.observer import Observer, mount_namespace
from tests.ordinary import DROP, USER, uncover

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = ("user", "pid", "net", "ipc", "uts", "cgroup")
HOST_IDS = ("--userns", "host")
# A user namespace whose root is the host's.
HOST_RANGE = ("--userns", "0:0:65536")


class Site:
    """A directory below /tmp that an ordinary user may enter, an observer, and two places for
    containers that are kept: root's and the user's."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="escape-"))
        os.chmod(self.directory, 0o755)
        self.observer = Observer(self.directory)
        for name, owner in (("roots", 0), ("users", USER)):
            (self.directory / name).mkdir()
            os.chown(self.directory / name, owner, owner)

    def call(self, *words: object, user: bool = False, terminal: bool = False):
        """The command, as root or as an ordinary user, by a caller with secrets."""
        root = self.directory / ("users" if user else "roots")
        line = [str(COMMAND), "--root", str(root), *map(str, words)]
        if user:
            script = f'{uncover()}\nexec {shlex.join(DROP)} -- "$@"'
            line = ["unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh", *line]
        if terminal:
            line = ["script", "-qec", shlex.join(line), "/dev/null"]
        reading, writing = os.pipe()  # stays open: script(1) types something at the end
        try:
            return subprocess.run(
                line, stdin=reading if terminal else subprocess.DEVNULL, capture_output=True,
                timeout=60, cwd="/", env=self.observer.environment(),
                preexec_fn=self.observer.take_key,
            )  # fmt: skip
        finally:
            os.close(reading)
            os.close(writing)

    def do(self, *words: object, user: bool = False) -> str:
        """It must succeed; what it prints."""
        done = self.call(*words, user=user)
        assert (done.returncode, done.stderr) == (0, b""), done
        return os.fsdecode(done.stdout).strip()

    def given(self) -> list[object]:
        """The options for the files that the probes know."""
        observer = self.observer
        return [
            *("--tmpfs", "/tmp", "-v", f"{observer.read_only}:/ro:ro"),
            *("-v", f"{observer.volume}:/volume"),
        ]

    def run(self, *options: object, user=False, ids="own", only: str = "", **told: object) -> str:
        """All probes in a container of their own, or only one of them."""
        facts = [*([f"--only={only}"] if only else []), *self.observer.facts(ids=ids, **told)]
        words = [*self.given(), *options, self.observer.root, "/probe", *facts]
        terminal = "own" in told.values() or "caller" in told
        return self._report(self.call("run", *words, user=user, terminal=terminal))

    @contextlib.contextmanager
    def kept(self, *options: object, user: bool = False, words=("--wait",)) -> Iterator[str]:
        """A container that waits; the pid of its first process."""
        given = ["-d", "--name", "kept", *self.given(), *options, self.observer.root]
        self.do("run", *given, "/probe", *words, user=user)
        try:
            yield self.do("inspect", "--format", "{{.State.Pid}}", "kept", user=user)
        finally:
            self.do("rm", "-f", "kept", user=user)

    def exec(self, *options: object, user: bool = False, ids: str = "own", **told: object) -> str:
        """All probes in a container that runs already."""
        with self.kept(*options, user=user):
            facts = self.observer.facts(ids=ids, **told)
            terminal = told.get("terminal") == "own"
            done = self.call("exec", "kept", "/probe", *facts, user=user, terminal=terminal)
        return self._report(done)

    def join(self, kinds: tuple[str, ...], *options: object, user=False, ids="own") -> str:
        """All probes in a container that joins those namespaces of another."""
        with self.kept(*options, user=user) as pid:
            joined = [word for kind in kinds for word in ("--join", f"{kind}={pid}")]
            # A mnt namespace that is joined has its mounts.
            given = [] if "mnt" in kinds else self.given()
            words = [*given, *joined, *options, self.observer.root, "/probe"]
            cgroup = "joined" if "cgroup" in kinds else "own"
            done = self.call("run", *words, *self.observer.facts(ids=ids, cgroup=cgroup), user=user)
        return self._report(done)

    def beside(self, *options: object, user: bool = False, ids: str = "own") -> str:
        """All probes, with another container in the place of the host: what is that one's may not
        be found either, and it does not notice anything."""
        name, key = f"{self.observer.name}-other", self.observer.key + 1
        words = ("--furnish", name, str(key))
        named = dict.fromkeys(("abstract", "shm", "queue"), name)
        with self.kept(*options, user=user, words=words) as pid:
            theirs = {"observer": pid, "mounts": mount_namespace(pid), "key": key, **named}
            text = self.run(*options, user=user, ids=ids, **theirs)
            assert (
                self.do("inspect", "--format", "{{.State.Status}}", "kept", user=user) == "running"
            )
        return text

    @staticmethod
    def _report(done: subprocess.CompletedProcess) -> str:
        """What the probes said; a container that did not start says why."""
        assert done.returncode in (0, 1) and done.stderr == b"", done
        return os.fsdecode(done.stdout)

    def close(self) -> None:
        self.observer.close()
        shutil.rmtree(self.directory)


OWN = {"terminal": "own"}
MODES = {
    "run": lambda site: site.run(),
    "run, init": lambda site: site.run("--init"),
    "run, overlay": lambda site: site.run("--overlay"),
    "run, read-only": lambda site: site.run("--read-only"),
    "run, terminal": lambda site: site.run("-t", **OWN),
    "run, caller's terminal": lambda site: site.run("-T", caller="terminal"),
    "run, host ids": lambda site: site.run(*HOST_IDS, ids="host"),
    "run, a range of the host's ids": lambda site: site.run(*HOST_RANGE, ids="host"),
    "run, a user": lambda site: site.run("--user", "1000:1000"),
    "run, a user, host ids": lambda site: site.run("--user", "1000:1000", *HOST_IDS, ids="host"),
    "run, no capabilities": lambda site: site.run("--cap-drop", "ALL"),
    "run, rootless": lambda site: site.run(user=True),
    "exec": lambda site: site.exec(),
    "exec, terminal": lambda site: site.exec(**OWN),
    "exec, host ids": lambda site: site.exec(*HOST_IDS, ids="host"),
    "exec, a range of the host's ids": lambda site: site.exec(*HOST_RANGE, ids="host"),
    "exec, rootless": lambda site: site.exec(user=True),
    "join": lambda site: site.join(MOST),
    "join, host ids": lambda site: site.join(MOST[1:], *HOST_IDS, ids="host"),
    "join, rootless": lambda site: site.join(MOST, user=True),
    "join with mnt": lambda site: site.join((*MOST, "mnt")),
    "join net and ipc": lambda site: site.join(("net", "ipc")),
    "beside another": lambda site: site.beside(),
    "beside another, host ids": lambda site: site.beside(*HOST_IDS, ids="host"),
    "beside another, rootless": lambda site: site.beside(user=True),
}
