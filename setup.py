# SPDX-License-Identifier: Apache-2.0
"""What pyproject.toml cannot say: the abi3 tag, the static binaries, the bundled text files and the
default filters."""

import os
import shlex
import shutil
import subprocess
import sys
from distutils.command.build_scripts import build_scripts
from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
INIT = [f"csrc/{name}.c" for name in ("init", "monitor", "end", "log", "child")]
STATIC_FLAGS = shlex.split(
    "-std=gnu11 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wvla -Werror -Os -ffreestanding "
    "-fno-stack-protector -fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns "
    "-static -nostdlib -Wl,--build-id=none -Wl,-z,noexecstack"
)


def link_static(command: Any, target: Path, *sources: str) -> None:
    """Build a static binary without libc; setuptools has no word for that."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    target.parent.mkdir(parents=True, exist_ok=True)
    command.spawn([*compiler, *STATIC_FLAGS, "-s", "-o", str(target), *sources])


def write_filters(package: Path) -> None:
    """The default filters, so that a start makes none: by the package just built, in a process of
    its own, since the door to libseccomp is made by the build. Where there is no libseccomp, the
    package carries none."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); from minibox.seccomp import filters; "
    words = [sys.executable, "-B", "-c", code + "filters.write()", str(package.parent.resolve())]
    subprocess.run(words, check=True)


class BuildScripts(build_scripts):
    """The command is a binary: setuptools would look for a #! line in it."""

    def run(self) -> None:
        link_static(self, Path(self.build_dir) / "minibox", "csrc/start.c")


class BuildExt(build_ext):
    """Builds the extension, and beside it what the package carries as data."""

    def run(self) -> None:
        super().run()
        package = ROOT / "minibox" if self.inplace else Path(self.build_lib) / "minibox"
        link_static(self, package / "minibox-init", *INIT)
        if not self.inplace:
            write_filters(package)
            shutil.copytree(
                ROOT / "rootfs" / "etc", package / "skeleton" / "etc", dirs_exist_ok=True
            )


setup(
    cffi_modules=[f"csrc/build_{name}.py:ffi" for name in ("core", "lab", "seccomp", "trace")],
    scripts=["csrc/start.c"],  # only says that there is one: BuildScripts builds it
    cmdclass={"build_ext": BuildExt, "build_scripts": BuildScripts},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
