# SPDX-License-Identifier: Apache-2.0
"""What needs an observer outside: the runtime's executables, links and races that lead to the host.

tests/system holds what is near: volumes and links (test_volumes), `cp` and races (test_copying), a
root that is swapped (test_root), who exec is before it is the command (test_exec_life); and
tests/faults what a killed supervisor leaves.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import minibox
from tests import conftest
from tests.conftest import COMMAND
from tests.escape.modes import HOST_IDS, HOST_RANGE, MOST
from tests.escape.observer import HERE

PACKAGE = Path(minibox.__file__).parent
EXECUTABLES = [Path(sys.executable).resolve(), COMMAND, PACKAGE / "minibox-init"]
WAYS = [
    "run",
    "init",
    "host ids",
    "range",
    "rootless",
    "exec",
    "exec host ids",
    "join",
    "join host ids",
]


def hashes():
    """Of every file that a container might reach while minibox starts it."""
    files = [*EXECUTABLES, *sorted(PACKAGE.rglob("*.so")), *sorted(PACKAGE.rglob("*.py"))]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def executables():
    """None of them changes."""
    before = hashes()
    yield
    assert hashes() == before


# The runtime's own executable: CVE-2019-5736.


@pytest.fixture(scope="module")
def trap(site):
    """A library and the host's loader in the tree: what is run through /proc/self/exe loads them,
    and hands its executable to the probe. Three entrypoints that lead there."""
    root = site.observer.root
    words = ["cc", "-shared", "-fPIC", "-Wno-unused-result", "-o", root / "preload.so"]
    subprocess.run([*words, HERE / "preload/preload.c"], check=True)
    listed = subprocess.run(["ldd", EXECUTABLES[0]], capture_output=True, check=True).stdout
    for library in re.findall(r"(/\S+) \(0x", os.fsdecode(listed)):
        target = root / library[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)
    (root / "link").symlink_to("/proc/self/exe")
    (root / "script").write_text("#!/proc/self/exe\n")
    os.chmod(root / "script", 0o755)
    return {"direct": "/proc/self/exe", "link": "/link", "script": "/script"}


def begin(site, way, *words):
    """The command line in one of these ways."""
    options, user = (HOST_IDS if "host ids" in way else ()), way == "rootless"
    preload = ("-e", "LD_PRELOAD=/preload.so")
    if way.startswith("exec"):
        with site.kept(*options):
            return site.call("exec", *preload, "kept", *words)
    if way.startswith("join"):
        with site.kept(*options) as pid:
            kinds = MOST[1:] if options else MOST
            joined = [word for kind in kinds for word in ("--join", f"{kind}={pid}")]
            root = [*joined, *options, *site.given(), site.observer.root]
            return site.call("run", *preload, *root, *words)
    options = {"init": ("--init",), "range": HOST_RANGE}.get(way, options)
    root = [*site.given(), site.observer.root]
    return site.call("run", *options, *preload, *root, *words, user=user)


@pytest.mark.parametrize("entry", ["direct", "link", "script"])
@pytest.mark.parametrize("way", WAYS)
def test_the_executable_as_an_entrypoint(site, trap, executables, way, entry):
    done = begin(site, way, trap[entry])
    assert b"REACHED" not in done.stdout, done
    assert b"Python" not in done.stdout + done.stderr, done


def test_the_trap_works(site, trap):
    """A program of the container's own that is run so does hand its executable over."""
    shutil.copy("/bin/true", site.observer.root / "dynamic")
    done = begin(site, "run", "/dynamic")
    assert done.stdout.startswith(b"ran /dynamic\n"), done


@contextlib.contextmanager
def lurking(site):
    """What a process of the container `kept` has reached: lines, complete when this is over."""
    over, lines = site.observer.volume / "over", []
    words = [COMMAND, "--root", site.directory / "roots", "exec", "kept", "/probe", "--lurk"]
    with subprocess.Popen([*words, "/volume/over"], stdout=subprocess.PIPE) as lurker:
        try:
            assert lurker.stdout.readline() == b"ready\n"
            yield lines
        finally:
            over.touch()
            said, _ = lurker.communicate(timeout=20)
            over.unlink()
    *reached, met = said.decode().splitlines()
    assert int(met.removeprefix("met ")) > 0
    lines += sorted(set(reached))


@pytest.mark.parametrize("options", [(), HOST_IDS, ("--cap-add", "SYS_PTRACE")], ids=" ".join)
def test_nobody_inside_reaches_who_comes_in(site, executables, options):
    """A reader of every process that appears, by its executable and by ptrace."""
    root, kinds = site.observer.root, MOST[1:] if options == HOST_IDS else MOST
    with site.kept(*options) as pid, lurking(site) as lines:
        joined = [word for kind in kinds for word in ("--join", f"{kind}={pid}")]
        end = time.monotonic() + 1
        while time.monotonic() < end:
            site.do("exec", "kept", "/probe", "--rights")
            site.do("run", *joined, *options, *site.given(), root, "/probe", "--rights")
    assert lines == []


def test_the_reader_reaches_what_it_may(site):
    """Another program of the container's own."""
    words = [COMMAND, "--root", site.directory / "roots", "exec", "kept", "/suid", "--wait"]
    with site.kept(), lurking(site) as lines:
        other = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert other.stdout.readline() == b"ready\n"
        site.do("exec", "kept", "/probe", "--rights")
    other.communicate(timeout=20)
    assert "REACHED the executable /suid" in lines


# The working directory: CVE-2024-21626.


@pytest.mark.parametrize("options", [(), HOST_IDS], ids=["own ids", "host ids"])
@pytest.mark.parametrize("way", ["exec", "join"])
def test_no_working_directory_leads_out(site, way, options):
    """In exec and in join, where fds of the runtime's are open on namespaces and directories."""
    facts = ["--only=working_directory", *site.observer.facts()]
    with site.kept(*options) as pid:
        kinds = MOST[1:] if options else MOST
        joined = [word for kind in kinds for word in ("--join", f"{kind}={pid}")]
        words = [*joined, *options, *site.given(), site.observer.root]
        for fd in range(21):
            workdir = ("--workdir", f"/proc/self/fd/{fd}")
            verb = ("exec", *workdir, "kept") if way == "exec" else ("run", *workdir, *words)
            done = site.call(*verb, "/probe", *facts)
            assert done.returncode == 125 or done.stdout.startswith(b"PASS"), (fd, done)


# Links and races.


def snapshot(directory):
    """Names, kinds, modes, owners, links and contents below it."""
    found = {}
    for path in [directory, *sorted(directory.rglob("*"))]:
        info = path.lstat()
        content = os.readlink(path) if path.is_symlink() else ""
        content = path.read_text() if path.is_file() else content
        found[str(path)] = (info.st_mode, info.st_uid, info.st_gid, info.st_ctime_ns, content)
    return found


@pytest.fixture
def outside(tmp_path):
    """A tree of the host's that must stay as it is."""
    top = tmp_path / "outside"
    (top / "below").mkdir(parents=True)
    for name in ("hosts", "resolv.conf", "hostname", "null", "canary"):
        (top / name).write_text(f"the host's {name}\n")
    before = snapshot(top)
    yield top
    assert snapshot(top) == before


def ends(outside):
    """Links to it."""
    return [str(outside), "../" * 30 + str(outside)[1:], f"/proc/self/root{outside}",
            f"/proc/1/cwd/../../../../../..{outside}"]  # fmt: skip


TARGETS = {
    "add-host": {"add_host": ["a:192.0.2.1"]},
    "dns": {"dns": ["192.0.2.1"]},
    "tmpfs": {"tmpfs": ["/etc/below/made"]},
    "volume": {"volumes": ["/usr:/etc/below"]},
    "file": {"volumes": ["/usr/bin/env:/etc/new"]},
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("userns", ["auto", "host"])
def test_links_at_mount_targets(tree, outside, userns, target):
    """The directory is a link, and then the file is."""
    shutil.rmtree(tree / "etc")
    for end in ends(outside):
        (tree / "etc").symlink_to(end)
        with contextlib.suppress(minibox.SetupError):
            minibox.run(["/bin/true"], rootfs=tree, userns=userns, **TARGETS[target])
        (tree / "etc").unlink()
        (tree / "etc").mkdir()
        for name in ("hosts", "resolv.conf", "below", "new"):
            (tree / "etc" / name).symlink_to(f"{end}/{name}")
        with contextlib.suppress(minibox.SetupError):
            minibox.run(["/bin/true"], rootfs=tree, userns=userns, **TARGETS[target])
        shutil.rmtree(tree / "etc")


# Seconds for each of the twelve.
SWAPPING = 10 if os.environ.get("MINIBOX_EVERY") else 0.85
# What is swapped with a link -> what is asked for.
RACES = {
    "tmpfs": ("way", {"tmpfs": ["/way/made/deep"]}),
    "tmpfs deep": ("way", {"tmpfs": ["/way/below"]}),
    "file": ("way", {"volumes": ["/usr/bin/env:/way/canary"]}),
    "hosts": ("etc", {"add_host": ["a:192.0.2.1"]}),
    "dev": ("dev", {}),
    "workdir": ("way", {"workdir": "/way/below"}),
}


@pytest.mark.parametrize("userns", ["auto", "host"])
@pytest.mark.parametrize("race", RACES)
def test_a_directory_swapped_for_a_link(tree, outside, site, race, userns):
    """CVE-2021-30465, CVE-2024-45310, CVE-2026-41579: until it has been lost and won, and for so
    long, ten seconds in all."""
    name, options = RACES[race]
    (tree / "way/below").mkdir(parents=True)
    (tree / "swapped").symlink_to("../" * 30 + str(outside)[1:])
    words = [site.observer.root / "probe", "--swap", tree / name, tree / "swapped"]
    seen, ended = set(), time.monotonic() + SWAPPING
    tried = 0
    with subprocess.Popen(words, stdout=subprocess.PIPE) as swapping:
        assert swapping.stdout.readline() == b"ready\n"
        try:
            while time.monotonic() < ended or (len(seen) < 2 and time.monotonic() < ended + 5):
                tried += 1
                seen.add(attempt(tree, outside, userns, options))
        finally:
            assert swapping.poll() is None
            swapping.kill()
    assert seen == {"started", "refused"}, tried


def attempt(tree, outside, userns, options):
    """Whether it started. Where it did, the host's files are not there."""
    where = options.get("workdir", "/")
    script = (
        f"cd -P . && test ! -e canary -a ! -e ../canary -a ! -e {outside}/canary || echo REACHED"
    )
    try:
        done = minibox.run(["/bin/sh", "-c", script], rootfs=tree, userns=userns, **options)
    except minibox.SetupError as error:
        assert error.errno in {errno.ENOENT, errno.EEXIST, errno.EAGAIN, errno.ENOTDIR, errno.ELOOP}
        return "refused"
    assert (where, done.stdout) == (where, b"")
    return "started"


# Its own init.


@pytest.mark.parametrize("userns", ["auto", "host"])
def test_who_kills_the_init_ends_with_it(cli, rootfs, userns):
    """In a pid namespace that is shared, nothing but the init ends what the command leaves behind,
    and the command may signal it. What is left comes to pytest, which is a subreaper."""
    before = conftest._descendants(os.getpid())
    script = "(setsid sleep 1000 >/dev/null 2>&1 &); kill -9 $PPID; exec sleep 1000"
    words = ("--share", "pid", "--userns", userns, rootfs, "/bin/sh", "-c", script)
    done = cli("run", *words)
    deadline = time.monotonic() + 1
    while (left := conftest._descendants(os.getpid()) - before) and time.monotonic() < deadline:
        conftest._reap()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert done.returncode == 137, done
    assert not left, "a process of the container's lives on, on the host"
