# SPDX-License-Identifier: Apache-2.0
"""A state directory with anything in it: what shows it, and what sweeps it."""

from __future__ import annotations

import fcntl
import io
import json
import os
import subprocess
import tempfile
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from unittest import mock

from hypothesis import strategies as st

from minibox import cli, events, health, life, logs, resident
from minibox.cli import inspect, ps
from minibox.directory import FLOCK, Directory
from minibox.errors import StateError
from minibox.network.config import Networks
from minibox.network.leases import Leases
from minibox.resident import Resident
from minibox.store import Store
from minibox.topology import standing
from tests.fuzz import strategies as s
from tests.fuzz.properties import PLACE, Property, check_message
from tests.fuzz.streams import seen

ONE, TWO = "ab" * 32, "cd" * 32
VICTIM, BEGAN, BOOT = "\ue000victim", "\ue000began", "\ue000boot"
OPTIONS = {
    "net": ["none"], "hostname": "h", "volumes": ["/a:/b:ro", "/c:/d"], "publish": ["8080:80"], "env": ["A=b"], "userns": "auto",
    "cap_add": ["ALL"], "workdir": "/", "user": "0", "read_only": True, "share": ["ipc"], "join": ["net=/proc/1/ns/net"],
}  # fmt: skip
CONFIG = {
    "version": 1, "id": ONE, "name": "one", "created": 10**18, "rootfs": "/tree", "args": ["sh", "-c", "x"], "options": OPTIONS,
    "ids": 3, "labels": {"minibox.topology": "lab"}, "remove": True, "restart": {"policy": "on-failure", "most": 3},
    "tty": False, "interactive": False, "detach_keys": "ctrl-p", "stop_signal": 15, "stop_timeout": 10, "timeout": 0.0,
    "log": {"max-size": 8192, "max-file": 2},
    "health": {"test": ["x"], "interval": 1.0, "timeout": 1.0, "start_period": 0.0, "retries": 3},
}  # fmt: skip
NETWORKS = [
    {
        "name": "lab-left",
        "interface": "mbv0",
        "addresses": ["10.1.0.2/24", "fd00::2/64"],
        "gateways": ["10.1.0.1"],
        "mac": "02:42:0a:01:00:02",
    }
]
# Of the container's own cgroup, and a directory that is not: all three are made where the test is.
OWN, OUTSIDE = f"\ue000top/cgroup/minibox/{ONE}", "\ue000top/outside"
RUN = {
    "version": 1, "run": 2, "boot_id": BOOT, "pid": VICTIM, "start_time": BEGAN, "monitor": VICTIM, "monitor_start_time": BEGAN,
    "began": 10**18, "restarts": 1, "networks": NETWORKS, "cgroup": [[1, ["memory", "freezer"], OWN], [2, [], OWN]],
}  # fmt: skip
EXIT = {"exit_code": 137, "signal": 9, "finished": 10**18 + 5, "timed_out": True}
HEALTH = {
    "version": 1,
    "run": 2,
    "status": "healthy",
    "failing": 0,
    "log": [{"Start": "x", "End": "y", "ExitCode": 0, "Output": ""}],
}
TOPOLOGY = {
    "version": 1, "is_up": False, "subnets": {"left": "10.1.0.0/24"}, "addresses": [["one", "left", "10.1.0.2"]],
    "given": {"name": "lab", "rootfs": "/tree", "networks": {"left": {}}, "containers": {"one": {"networks": ["left"]}}},
}  # fmt: skip
NETWORK = "driver bridge\ninterface mb0\nsubnets 10.1.0.0/24 fd00::/64\ngateways 10.1.0.1\nmtu 1500\ninternal no\ncreated 1\ntopology lab\n"
EVENT = '{"Type":"container","Action":"die","Actor":{"ID":"ab","Attributes":{"name":"one"}},"time":1,"timeNano":1}\n'
LOG = "2026-11-22T00:09:18.123456789Z stdout F text\n2026-11-22T00:09:19.123456789Z stderr P half\n"
LINKS = (ONE, TWO, "x", "../../outside/file", f"{VICTIM}:{BEGAN}", "1:1", f"{VICTIM}:1", "9" * 30 + ":1", ONE + " lab-left 80 10.1.0.2", ONE + " lab-left ² x y", "²", "\ud800")  # fmt: skip
NAMES = (
    "one",
    "two",
    "a b",
    "3",
    "²",
    "x" * 200,
    "tcp-8080",
    "tcp-²-1",
    "udp-99999999999999-::1",
    ".x",
    "\udcff",
)
ODD = s.json_values | st.sampled_from(
    [
        OUTSIDE,
        [[1, ["memory"], OUTSIDE]],
        [[2, ["memory"], f"{OWN}/../../../outside"]],
        VICTIM,
        BEGAN,
        "../../outside/file",
        "../../outside",
        ONE,
        [],
        {},
        CONFIG,
        10**18,
        True,
    ]
)


def record(sample):
    """A file: the sample, nearly it, or nothing like it; None: not there, True: the sample."""
    right = st.just(True)
    return st.one_of(
        right, right, s.near(sample, ODD, most=2).map(json.dumps), s.near(sample, ODD, most=2).map(json.dumps),
        s.bent([json.dumps(sample)]), s.texts, st.none(),
    )  # fmt: skip


def of_text(sample):
    return st.one_of(st.just(True), s.bent([sample]), s.texts, st.none())


def links(top, odd_names=NAMES):
    return st.dictionaries(st.sampled_from(odd_names), st.sampled_from(LINKS), max_size=2).map(
        lambda found: {f"{top}/{name}": ("link", text) for name, text in found.items()}
    )


FILES = {
    f"containers/{ONE}/config.json": CONFIG,
    f"containers/{ONE}/run.json": RUN,
    f"containers/{ONE}/exit-2.json": EXIT,
    f"containers/{ONE}/health.json": HEALTH,
    f"containers/{ONE}/log": LOG,
}
AROUND = {
    "networks/lab-left/network": NETWORK,
    "topologies/lab.json": TOPOLOGY,
    "events": EVENT,
    f"containers/{TWO}/config.json": {**CONFIG, "name": "lab-one", "id": TWO},
    f"containers/{TWO}/run.json": RUN,
    "networks/lab-left/hosts/2": "127.0.0.1 localhost\n10.1.0.2 a\n# the others\n10.1.0.3 b\n",
}


def written(samples):
    return st.fixed_dictionaries(
        {
            name: (of_text if isinstance(sample, str) else record)(sample)
            for name, sample in samples.items()
        }
    )


states = st.tuples(
    written(FILES), st.none() | written(AROUND), links("names"), links("ids"), links("networks/lab-left/leases"), links("ports"), links("pasta"),
    st.sampled_from(["", "locked", "fifo", "directory", "attach"]),
).map(lambda parts: ({k: v for part in parts[:-1] for k, v in (part or {}).items()}, parts[-1]))  # fmt: skip


class Victim:
    """A process of ours, of which the files speak."""

    def __init__(self):
        self._process = None

    def __enter__(self):
        if self._process is None:
            self._process = subprocess.Popen(["/bin/sleep", "100000"], stdin=subprocess.DEVNULL)
        self.pid = self._process.pid
        self.began = resident.start_time(self.pid)
        return self

    def __exit__(self, *_):
        assert self._process.poll() is None, "a process was signalled"

    def end(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()


victim = Victim()


def make(top, found, extra, *, is_right):
    """Write a state directory; is_right: what it says of the process may be true."""
    began = str(victim.began if is_right else victim.began + 1)
    for name, text in found.items():
        if text is None:
            continue
        path = f"{top}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if isinstance(text, tuple):
            os.symlink(
                os.fsencode(fill(text[1], began).encode(errors="surrogatepass")), os.fsencode(path)
            )
            continue
        if text is True:
            sample = (FILES | AROUND)[name]
            text = sample if isinstance(sample, str) else json.dumps(sample)
        text = text.replace(json.dumps(VICTIM), str(victim.pid)).replace(json.dumps(BEGAN), began)
        text = text.replace(json.dumps(BOOT), json.dumps(resident.boot_id()))
        text = text.replace("\\ue000top", os.path.dirname(top))
        Path(path).write_bytes(text.encode(errors="surrogatepass"))
    where = f"{top}/containers/{ONE}"
    os.makedirs(where, exist_ok=True)
    if extra == "fifo":
        os.mkfifo(f"{where}/alive")
    elif extra == "directory":
        os.mkdir(f"{where}/stop")
    elif extra == "attach":
        Path(where, "attach").write_bytes(b"")
        Path(where, ".run.json.7").write_bytes(b"")


def fill(text, began):
    return text.replace(VICTIM, str(victim.pid)).replace(BEGAN, began)


def in_a_state(look, *, is_right):
    """`look` at a state directory, while nothing beside it may change and nobody be signalled."""

    def check(given):
        found, extra = given
        with tempfile.TemporaryDirectory(dir=PLACE) as top, victim, ExitStack() as stack:
            outside = f"{top}/outside"
            os.mkdir(outside)
            Path(outside, "file").write_text("mine")
            os.symlink(ONE, f"{outside}/link")
            os.mkdir(f"{outside}/empty")
            Path(outside, "cgroup.procs").write_text(f"{victim.pid}\n")
            Path(outside, "cgroup.kill").write_text("")
            before = seen(outside)
            root = f"{top}/state"
            make(root, found, extra, is_right=is_right)
            if extra == "locked":
                fd = os.open(f"{root}/containers/{ONE}/alive", os.O_RDWR | os.O_CREAT)
                stack.callback(os.close, fd)
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_WRLCK, 0, 0, 0, 0))
            said = []
            stack.enter_context(mock.patch.object(cli, "root", root))
            stack.enter_context(mock.patch.object(cli, "say", said.append))
            try:
                look(root)
            finally:
                assert seen(outside) == before, "something outside was touched"
                assert sorted(os.listdir(top)) == ["outside", "state"]
                for text in said:
                    assert "internal error" not in text, text
                    check_message(text)

    return check


def shows(root):
    """ps in all its forms, which one damaged container does not stop; and inspect."""
    for values in (
        {"all": True},
        {"all": True, "no_trunc": True, "format": "{{json .}}"},
        {"all": True, "json": True},
        {
            "filters": [
                "label=a=b",
                "status=exited",
                "exited=1",
                "health=healthy",
                "ancestor=/x",
                "name=o",
            ]
        },
        {"all": True, "quiet": True},
    ):
        with redirect_stdout(io.StringIO()) as out:
            assert ps.execute(values) == 0
        out.getvalue().encode(errors="surrogatepass")
    with redirect_stdout(io.StringIO()) as out:
        assert inspect.execute({"args": [ONE, "one", "two", "ab", "..", "²"]}) in (0, cli.FAILED)
    json.loads(out.getvalue())


def knows(root):
    """What is known of one container, by the library."""
    container = Resident(Store(root), Directory(f"{root}/containers/{ONE}", ONE))
    state = container.state()
    assert isinstance(state, resident.State)
    assert container.name
    assert isinstance(health.last(container, state)["status"], str)
    assert container.wants_restart(state) in (True, False)
    assert resident.uptime(state) >= 0
    try:
        os.close(container.open_pidfd(state))
    except StateError:
        pass


def reads(root):
    """The journal and a log."""
    for event in events.read(root):
        assert isinstance(event.action, str)
    for entry in logs.read(f"{root}/containers/{ONE}", tail=1):
        assert isinstance(logs.rfc3339(entry.time), str)
    list(logs.read(f"{root}/containers/{ONE}"))


def networks(root):
    """Networks, their leases, and the topologies."""
    found = Networks(root)
    for name in found.names():
        try:
            network = found.find(name)
        except StateError as error:
            check_message(str(error))
            continue
        if network:
            leases = Leases(found, network)
            list(leases.all())
            leases.preview()
            list(leases.sweep())
    for name in standing.names(root):
        try:
            one = standing.Topology.find(name, root=root)
            one.text()
            one.svg()
        except StateError as error:
            check_message(str(error))


def sweeps(root):
    for line in life.gc(Store(root)):
        assert isinstance(line, str)


PROPERTIES = [
    Property("state", states, in_a_state(knows, is_right=True), 1, variants=0, apart=True, errors=(StateError,)),
    Property("ps and inspect", states, in_a_state(shows, is_right=True), 1, variants=0, apart=True, errors=()),
    Property("journal and log", states, in_a_state(reads, is_right=True), 1, variants=0, apart=True, errors=(StateError,)),
    Property("networks", states, in_a_state(networks, is_right=True), 1, variants=0, apart=True, errors=(StateError,)),
    Property("gc", states, in_a_state(sweeps, is_right=False), 2, variants=0, apart=True, errors=(StateError,)),
]  # fmt: skip
