# SPDX-License-Identifier: Apache-2.0
"""Recipe of the extension minibox._core: cffi in API mode, the declarations read from minibox.h."""

import os
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
WARNINGS = ["-std=gnu11", "-Wall", "-Wextra", "-Wshadow", "-Wstrict-prototypes", "-Wvla", "-Werror"]
# The child runs on a small stack in foreign memory: no canary (it lives in Python's TLS).
CHILD = ["-O2", "-fno-stack-protector", "-fcf-protection=none"]
if os.uname().machine != "x86_64":
    CHILD.remove("-fcf-protection=none")


def declarations() -> str:
    header = (HERE / "minibox.h").read_text()
    return header.split("// cffi: begin")[1].split("// cffi: end")[0]


ffi = FFI()
ffi.cdef(declarations())
ffi.set_source(
    "minibox._core",
    '#include "minibox.h"',
    sources=["csrc/launch.c", "csrc/child.c"],
    include_dirs=["csrc"],
    extra_compile_args=[
        *WARNINGS,
        "-Wno-unused-parameter",
        "-Wno-missing-field-initializers",
        *CHILD,
    ],
    py_limited_api=True,
)
