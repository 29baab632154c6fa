# SPDX-License-Identifier: Apache-2.0
"""What pyproject.toml cannot say: the abi3 tag, the static init and the bundled text files."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
INIT_FLAGS = shlex.split(
    "-std=gnu11 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wvla -Werror -Os -ffreestanding "
    "-fno-stack-protector -fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns "
    "-static -nostdlib -Wl,--build-id=none -Wl,-z,noexecstack"
)


class BuildExt(build_ext):
    """Builds the extension, and beside it what the package carries as data."""

    def run(self) -> None:
        super().run()
        package = ROOT / "minibox" if self.inplace else Path(self.build_lib) / "minibox"
        package.mkdir(parents=True, exist_ok=True)
        compiler = shlex.split(os.environ.get("CC", "cc"))
        sources = ["csrc/init.c", "csrc/child.c"]
        self.spawn([*compiler, *INIT_FLAGS, "-s", "-o", str(package / "minibox-init"), *sources])
        if not self.inplace:
            shutil.copytree(
                ROOT / "rootfs" / "etc", package / "skeleton" / "etc", dirs_exist_ok=True
            )


sys.path.insert(0, str(ROOT))
setup(
    cffi_modules=["csrc/build_core.py:ffi"],
    cmdclass={"build_ext": BuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
