# SPDX-License-Identifier: Apache-2.0
"""What pyproject.toml cannot say: the abi3 tag, the static binaries and the bundled text files."""

import os
import shlex
import shutil
import sys
from distutils.command.build_scripts import build_scripts
from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
INIT = [f"csrc/{name}.c" for name in ("init", "monitor", "log", "child")]
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


def write_filters(directory: Path) -> None:
    """The default filter of each machine, so that a start makes none. They are data: whoever builds
    the package need not be such a machine."""
    from minibox.seccomp import calls, default, filters, program
    from minibox.spec import DEFAULT_CAPABILITIES

    for machine, abis in calls.MACHINES.items():
        name = Path(filters.ready_path(machine)).name
        profile = default.profile(DEFAULT_CAPABILITIES, abis)
        (directory / name).write_bytes(program.assemble(profile))


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
        write_filters(package / "seccomp")
        if not self.inplace:
            shutil.copytree(
                ROOT / "rootfs" / "etc", package / "skeleton" / "etc", dirs_exist_ok=True
            )


sys.path.insert(0, str(ROOT))
setup(
    cffi_modules=["csrc/build_core.py:ffi"],
    scripts=["csrc/start.c"],  # only says that there is one: BuildScripts builds it
    cmdclass={"build_ext": BuildExt, "build_scripts": BuildScripts},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
