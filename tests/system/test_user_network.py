# SPDX-License-Identifier: Apache-2.0
"""--net user, by pasta; and what --net is where nobody has said."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import COMMAND
from tests.ordinary import DROP, USER, uncover
from tests.system.hosts import OUTSIDE

HELLO = """python3 -uc '
import socket
s = socket.create_server(("", 7))
print("ready")
c, who = s.accept()
c.recv(4096)
c.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nhello from outside\\n")
print(who[0])
'"""
ASK = f"wget -q -O- http://{OUTSIDE}:7/"
# What the node of a distribution's udev is like; this machine may keep it to root.
READY = f"""
ip route add default via {OUTSIDE}
mkdir /run/dev /run/{USER}
mknod -m 666 /run/dev/tun c 10 200
mount --bind /run/dev/tun /dev/net/tun
chown {USER} /run/{USER}
"""


@pytest.fixture
def host(site, outside):
    """A host with a way out."""
    site.sh(READY)
    return site


@pytest.fixture
def ordinary(host):
    """`ordinary(words…)`: the command as an ordinary user there."""
    host.sh(uncover())

    def run(*words, env=(), terminal=False, **how):
        variables = {"XDG_RUNTIME_DIR": f"/run/{USER}", **dict(env)}
        pairs = [f"{name}={value}" for name, value in variables.items()]
        line = [*DROP, "env", "-i", f"PATH={os.environ['PATH']}", *pairs, COMMAND, *words]
        if terminal:
            line = ["script", "-qec", shlex.join(map(str, line)), "/dev/null"]
        done = subprocess.run(
            host.enter(*line), capture_output=True, timeout=30, stdin=subprocess.DEVNULL, **how
        )
        return done

    return run


def pastas(host):
    """How many there are in this host's namespaces."""
    ours = os.readlink(f"/proc/{host.host.pid}/ns/net")
    found = 0
    for process in Path("/proc").iterdir():
        try:
            is_one = (process / "comm").read_text().startswith(("pasta", "passt"))
            found += is_one and os.readlink(process / "ns/net") == ours
        except OSError:
            pass
    return found


def hello(outside):
    """Somebody outside, who says hello once; ready when this returns."""
    begun = outside.begin(HELLO)
    assert begun.stdout.readline() == b"ready\n"
    return begun


# The mode.


def test_it_reaches_out_with_the_hosts_address(host, outside, until):
    speaker = hello(outside)
    text = host.inside(f"ip -4 -o addr show eth0; {ASK}", net="user")
    assert "inet 198.51.100.1/24" in text
    assert text.endswith("hello from outside\n")
    assert speaker.communicate(timeout=20)[0] == b"198.51.100.1\n"
    until(lambda: not pastas(host))


def test_it_changes_nothing_of_the_hosts(host):
    # An address may still be looked for at others when we look at it first (RFC 4862, 5.4).
    look = "ip -o addr | sed 's/ tentative//'; ip route; cat /proc/sys/net/ipv4/ip_forward"
    before = host.sh(look)
    host.inside("true", net="user")
    assert host.sh(look) == before


@pytest.mark.parametrize("options", [("--userns", "host"), ("--init",), ("--overlay",)], ids=str)
def test_with_other_options(host, options):
    assert "198.51.100.1/24" in host.inside("ip addr show eth0", *options, net="user")


def test_what_pasta_cannot_do_is_refused(host):
    words = ("run", "--net", "user", "--rate", "1mbit", host.rootfs, "true")
    assert "--rate: it needs a network" in host.refused(*words)
    words = ("run", "--net", "user", "-p", "80:80/sctp", host.rootfs, "true")
    assert "pasta passes on tcp and udp" in host.refused(*words)


def test_a_published_port(host, outside):
    host.do(
        *("run", "-d", "--name", "web", "--net", "user", "-p", "8080:80", "--tmpfs", "/tmp"),
        *(host.rootfs, "sh", "-c", "mkdir /tmp/w; echo web >/tmp/w/name; httpd -f -h /tmp/w"),
    )
    assert host.get("http://127.0.0.1:8080/name") == "web"
    assert outside("curl -sf --max-time 5 http://198.51.100.1:8080/name") == "web\n"
    assert "8080->80" in host.do("ps", "--format", "{{.Ports}}")


def test_pasta_ends_with_the_container(host, until):
    host.do("run", "-d", "--name", "c", "--net", "user", host.rootfs, "sleep", "1000")
    assert pastas(host) == 1
    host.do("stop", "-t", "0", "c")
    until(lambda: not pastas(host))
    assert os.listdir(host.root / "pasta") == []
    host.do("start", "c")
    assert pastas(host) == 1
    host.do("rm", "-f", "c")
    until(lambda: not pastas(host))


@pytest.mark.parametrize("words", [("gc", "-q"), ("run", "--net", "user", "ROOTFS", "true")])
def test_a_killed_command_leaves_a_pasta_which_the_next_one_ends(host, until, words):
    begun = host.begin(
        "run", "--net", "user", host.rootfs, "sh", "-c", "echo ready; exec sleep 1000"
    )
    assert begun.stdout.readline() == b"ready\n"
    begun.send_signal(signal.SIGKILL)
    begun.wait()
    assert pastas(host) == 1
    host.do(*(host.rootfs if word == "ROOTFS" else word for word in words))
    until(lambda: not pastas(host))


def test_without_pasta_there_is_a_word_and_only_lo(host):
    env = {**os.environ, "PATH": "/nonexistent"}
    line = [shutil_which("nsenter"), *host.words("run", "--net", "user", host.rootfs)[1:]]
    done = subprocess.run([*line, "ls", "/sys/class/net"], capture_output=True, env=env, timeout=30)
    assert (done.returncode, done.stdout) == (0, b"lo\n")
    assert done.stderr == (
        b"minibox: no network but lo: pasta is not installed"
        b" (in distributions: the package passt)\n"
    )
    line[-1:] = ["-p", "80:80", host.rootfs]
    done = subprocess.run([*line, "true"], capture_output=True, env=env, timeout=30)
    assert done.returncode == 125
    assert done.stderr.startswith(b"minibox: --publish: pasta is not installed")


def shutil_which(name):
    """Its path: the PATH of who calls it leads nowhere."""
    return next(p for d in os.environ["PATH"].split(":") if os.access(p := f"{d}/{name}", os.X_OK))


def test_what_pasta_says_is_passed_on(host, monkeypatch, tmp_path):
    (tmp_path / "pasta").write_text("#!/bin/sh\necho it is broken >&2; exit 3\n")
    (tmp_path / "pasta").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    said = host.refused("run", "--net", "user", host.rootfs, "true")
    assert said == "minibox: start pasta: it is broken"
    assert os.listdir(host.root / "pasta") == []


# As an ordinary user.


def test_an_ordinary_user_has_it_by_default(ordinary, host, outside, until):
    speaker = hello(outside)
    done = ordinary("run", host.rootfs, "sh", "-c", f"id -u; {ASK}")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"0\nhello from outside\n", b"")
    speaker.communicate(timeout=20)
    until(lambda: not pastas(host))


def test_an_ordinary_users_kept_container(ordinary, host, until):
    done = ordinary("run", "-d", "--name", "c", "-p", "8080:80", host.rootfs, "sleep", "1000")
    assert (done.returncode, done.stderr) == (0, b"")
    done = ordinary("exec", "c", "ip", "-4", "-o", "addr", "show", "eth0")
    assert b"198.51.100.1/24" in done.stdout
    done = ordinary("rm", "-f", "c")
    assert (done.returncode, done.stderr) == (0, b"")
    until(lambda: not pastas(host))


@pytest.mark.parametrize("lack", ["pasta", "tun", "XDG_RUNTIME_DIR", "route"])
def test_what_an_ordinary_user_lacks_is_said_on_a_terminal_only(ordinary, host, lack):
    env = {}
    if lack == "pasta":
        env = {"PATH": "/nonexistent"}
    elif lack == "tun":
        host.sh("chmod 600 /run/dev/tun")
    elif lack == "route":
        host.sh("ip route del default; ip -6 route flush default")
    else:
        env = {"XDG_RUNTIME_DIR": ""}
    done = ordinary("run", host.rootfs, "/bin/ls", "/sys/class/net", env=env.items())
    assert (done.returncode, done.stdout, done.stderr) == (0, b"lo\n", b"")
    shown = ordinary("run", "-T", host.rootfs, "/bin/true", env=env.items(), terminal=True)
    assert b"minibox: no network but lo: " in shown.stdout
    assert lack.encode() in shown.stdout


# What is usual.


@pytest.fixture
def unsaid(monkeypatch):
    monkeypatch.delenv("MINIBOX_NET")


def test_root_has_a_bridge_by_default(site, unsaid):
    done = site("run", site.rootfs, "ip", "-4", "-o", "addr", "show", "eth0")
    assert b"inet 10.66.0.2/16" in done.stdout
    site.do("create", "--name", "c", site.rootfs, "true")
    assert site.inspect("c")["HostConfig"]["NetworkMode"] == "bridge"
    assert "netlink" in site.do("plan", site.rootfs, "true")


@pytest.mark.parametrize(
    "options",
    [
        ("--share", "net"),
        ("--join", "net=/proc/self/ns/net"),
        ("--net", "none"),
        ("--share=ipc,net",),
    ],
)
def test_who_says_which_network_it_is_gets_no_other(site, unsaid, options):
    site.do("run", *options, site.rootfs, "true")
    assert not (site.root / "networks").exists()


def test_the_variable_says_what_is_usual(site, monkeypatch):
    assert site.do("run", site.rootfs, "ls", "/sys/class/net") == "lo"
    site.do("network", "create", "lan", "--internal", "--subnet", "10.9.0.0/24")
    monkeypatch.setenv("MINIBOX_NET", "lan")
    assert "inet 10.9.0.2/24" in site.do("run", site.rootfs, "ip", "addr")
    monkeypatch.setenv("MINIBOX_NET", "nope")
    assert "nope: no such network" in site.refused("run", site.rootfs, "true")
    monkeypatch.setenv("MINIBOX_NET", "")
    assert "a mode or the name" in site.refused("run", site.rootfs, "true")


def test_root_without_the_right_to_networks_is_an_ordinary_user(site, unsaid):
    words = site.words("run", site.rootfs, "ls", "/sys/class/net")
    at = words.index("--") + 1
    words[at:at] = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    env = {**os.environ, "XDG_RUNTIME_DIR": ""}
    done = subprocess.run(words, capture_output=True, timeout=30, env=env)
    assert (done.returncode, done.stdout) == (0, b"lo\n"), done
