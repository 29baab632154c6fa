# SPDX-License-Identifier: Apache-2.0
"""The host's side of the probes: what no container may find, and the files it is given.

As a program it does that for any runtime's command line: see README.md.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
# <sys/ipc.h>, <linux/nsfs.h>, <linux/keyctl.h>.
IPC_CREAT, IPC_RMID = 0o1000, 0
NS_GET_MNTNS_ID = 0x8008B705
KEYCTL = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
ADD_KEY = {"x86_64": 248, "aarch64": 217}[os.uname().machine]
KEYCTL_JOIN_SESSION_KEYRING, KEY_SPEC_SESSION_KEYRING = 1, -3
# The directories of the tree: a container of an ordinary user's cannot make them.
PLACES = ("dev", "proc", "sys", "tmp", "ro", "volume", "etc", "links", "nodes")
libc = ctypes.CDLL(None, use_errno=True)


def compile_probe(to: Path) -> None:
    """The program, static: it needs nothing of the container's."""
    sources = sorted(map(str, HERE.glob("*.c")))
    flags = ["-static", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unused-result"]
    subprocess.run(["cc", *flags, "-o", str(to), *sources], check=True)


def mount_namespace(pid: object = "self") -> int:
    """The number of a process's, by which others may ask for its mounts; 0 before Linux 6.11."""
    number = bytearray(8)
    with contextlib.suppress(OSError), open(f"/proc/{pid}/ns/mnt") as file:
        fcntl.ioctl(file, NS_GET_MNTNS_ID, number)
    return int.from_bytes(number, sys.byteorder)


def _done(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _put_links(directory: Path, canary: Path) -> None:
    """To the canary: by its path, by .. from everywhere, and by a magic link."""
    directory.mkdir(exist_ok=True)
    (directory / "absolute").symlink_to(canary)
    (directory / "up").symlink_to("../" * 30 + str(canary)[1:])
    (directory / "magic").symlink_to(f"/proc/1/root/{canary}")


def _put_nodes(directory: Path) -> None:
    """Nodes that would be harmless: the real null, and a disk that there is not."""
    os.mknod(directory / "character", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(directory / "block", stat.S_IFBLK | 0o666, os.makedev(0, 0))
    for name in ("character", "block"):
        os.chmod(directory / name, 0o666)


class Observer:
    """What is there on the host while probes run, in a directory that anybody may enter.

    root, read_only, volume: to be the container's /, /ro and /volume. signals: how many SIGURG have
    come, which is what a probe sends to everybody it sees.
    """

    def __init__(self, directory: Path) -> None:
        self.name = f"escape-{os.getpid()}"
        self.key = 0x65730000 | os.getpid() & 0xFFFF
        self.signals = 0
        self.canary = directory / "canary"
        self.canary.write_text("the host's\n")
        self.root, self.read_only, self.volume = (
            directory / name for name in ("root", "read-only", "volume")
        )
        self._furnish()
        self._listen()
        self._share()
        self._before = signal.signal(signal.SIGURG, self._count)

    def _furnish(self) -> None:
        for name in PLACES:
            (self.root / name).mkdir(parents=True)
        (self.root / "etc/passwd").write_text("root:x:0:0:root:/:/probe\n")
        compile_probe(self.root / "probe")
        self.read_only.mkdir()
        (self.read_only / "file").write_text("stays\n")
        self.volume.mkdir()
        for directory in (self.root / "links", self.volume):
            _put_links(directory, self.canary)
        for directory in (self.root / "nodes", self.volume):
            _put_nodes(directory)
        for directory in (self.root, self.volume):
            (directory / "suid").write_bytes((self.root / "probe").read_bytes())
            os.chmod(directory / "suid", 0o6755)
        os.chmod(self.volume, 0o1777)

    def _listen(self) -> None:
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind(f"\0{self.name}")
        self.abstract.listen()
        self.port = socket.create_server(("127.0.0.1", 0))

    def _share(self) -> None:
        self.shm = Path("/dev/shm") / self.name
        self.shm.write_text("the host's\n")
        self.system_v = (
            _done(libc.shmget(self.key, ctypes.c_size_t(4096), IPC_CREAT | 0o666)),
            _done(libc.semget(self.key, 1, IPC_CREAT | 0o666)),
            _done(libc.msgget(self.key, IPC_CREAT | 0o666)),
        )
        path = f"/{self.name}".encode()
        self.queue = _done(libc.mq_open(path, os.O_CREAT | os.O_RDWR, 0o666, None))

    def _count(self, *_: object) -> None:
        self.signals += 1

    def facts(self, **others: object) -> list[str]:
        """What the probes are told. ids: own or host, as the container's are; terminal: none, or
        own when it has one. cgroup: joined for one that is in another's cgroup namespace, and
        not in its cgroup."""
        told = {
            "ids": "own",
            "canary": self.canary,
            "secret": self.name,
            "abstract": self.name,
            "shm": self.name,
            "queue": self.name,
            "key": self.key,
            "port": self.port.getsockname()[1],
            "observer": os.getpid(),
            "oom_score_adj": Path("/proc/self/oom_score_adj").read_text().strip(),
            "mounts": mount_namespace(),
            "host": os.uname().nodename,
            "interfaces": ",lo,",
            "commands": "probe,minibox-init,memfd:minibox-i",
            "terminal": "none",
            "cgroup": "own",
            **others,
        }
        return [f"{name}={value}" for name, value in told.items()]

    def environment(self) -> dict[str, str]:
        """A caller's, with a secret in it."""
        return {**os.environ, "SECRET": self.name, "LD_PRELOAD_": self.name}

    def take_key(self) -> None:
        """A session keyring with a key, as a login has one: for a child to call."""
        libc.syscall(KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, None)
        name = self.name.encode()
        libc.syscall(ADD_KEY, b"user", name, b"payload", 7, KEY_SPEC_SESSION_KEYRING)

    def close(self) -> None:
        signal.signal(signal.SIGURG, self._before)
        self.abstract.close()
        self.port.close()
        self.shm.unlink()
        shm, semaphores, messages = self.system_v
        libc.shmctl(shm, IPC_RMID, None)
        libc.semctl(semaphores, 0, IPC_RMID)
        libc.msgctl(messages, IPC_RMID, None)
        os.close(self.queue)
        libc.mq_unlink(f"/{self.name}".encode())


def main(words: list[str]) -> int:
    """Run a command line, with the facts after it; its exit code."""
    with tempfile.TemporaryDirectory(prefix="escape-") as directory:
        os.chmod(directory, 0o755)
        observer = Observer(Path(directory))
        places = {"ROOT": observer.root, "READ_ONLY": observer.read_only, "VOLUME": observer.volume}
        for name, path in places.items():
            words = [word.replace(name, str(path)) for word in words]
        try:
            return subprocess.run(
                [*words, *observer.facts()],
                env=observer.environment(),
                preexec_fn=observer.take_key,
            ).returncode
        finally:
            print(f"the observer got {observer.signals} signals")
            observer.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
