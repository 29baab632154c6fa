# SPDX-License-Identifier: Apache-2.0
"""Hosts for tests of networks: namespaces of their own, in which the command runs."""

from __future__ import annotations

import json
import subprocess

from tests.system.conftest import Box, Helper

NAMESPACES = ("--net", "--mount", "--propagation=private")
OUTSIDE = "198.51.100.2"
SERVE = "mkdir -p /tmp/w; hostname >/tmp/w/name; echo ready; exec httpd -f -p {0} -h /tmp/w"
# A resolv.conf and a /run of the test's own; a /sys of this network namespace.
HOST = """
ip link set lo up
mount -t sysfs none /sys
mount -t tmpfs none /run
"""
# What the first start with a network would do, and say.
FORWARDS = "echo 1 >/proc/sys/net/ipv4/ip_forward\n"


class Site(Box):
    """A host: a network namespace and a mount namespace, in which the command runs."""

    def __init__(self, root, rootfs):
        super().__init__(root, rootfs)
        self.host = Helper(NAMESPACES, HOST + FORWARDS)

    def enter(self, *words):
        return ["nsenter", "-t", str(self.host.pid), "-n", "-m", "--", *map(str, words)]

    def words(self, *words):
        return self.enter(*super().words(*words))

    def sh(self, script, **how):
        """A shell of the host's; what it prints."""
        done = subprocess.run(
            self.enter("sh", "-ec", script), capture_output=True, timeout=30, **how
        )
        assert done.returncode == 0, done
        return done.stdout.decode()

    def inside(self, script, *options, net="bridge"):
        """What a shell in a new container prints, which is not kept."""
        done = self("run", "--net", net, *options, self.rootfs, "sh", "-c", script)
        assert done.returncode == 0, done
        return done.stdout.decode()

    def serve(self, name, *options, port=80):
        """A container with a web server that tells its host name."""
        words = ("run", "-d", "--name", name, "--tmpfs", "/tmp", *options, self.rootfs)
        self.do(*words, "sh", "-c", SERVE.format(port))
        return self.address(name)

    def address(self, name):
        networks = json.loads(self.do("inspect", name))[0]["NetworkSettings"]["Networks"]
        return next(iter(networks.values()))["IPAddress"]

    def get(self, url):
        return self.sh(
            f"curl --silent --fail --max-time 5 --retry 9 --retry-all-errors {url}"
        ).strip()

    def close(self):
        """Whatever there is goes, and the host with it."""
        self("rm", "-af")
        super().close()
        self.host.close()
