# SPDX-License-Identifier: Apache-2.0
"""The main job, through each door."""

import minibox


def test_the_command(cli, rootfs):
    done = cli("run", rootfs, "/bin/sh", "-c", "echo hello; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"hello\n", b"")


def test_the_library(rootfs):
    result = minibox.run(["/bin/echo", "hi"], rootfs=rootfs)
    assert (result.exit_code, result.stdout) == (0, b"hi\n")
