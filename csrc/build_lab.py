# SPDX-License-Identifier: Apache-2.0
"""Recipe of the extension minibox._lab: what experiments do in C. Each header of csrc/lab/ declares
its part."""

import sys
from pathlib import Path

from cffi import FFI

sys.path.insert(0, str(Path(__file__).parent))
from build_core import CHILD, WARNINGS

LAB = Path(__file__).parent / "lab"
HEADERS = sorted(LAB.glob("*.h"))


def declarations(header: Path) -> str:
    return header.read_text().split("// cffi: begin")[1].split("// cffi: end")[0]


ffi = FFI()
ffi.cdef("".join(declarations(header) for header in HEADERS))
ffi.set_source(
    "minibox._lab",
    "".join(f'#include "lab/{header.name}"\n' for header in HEADERS),
    sources=[f"csrc/lab/{file.name}" for file in sorted(LAB.glob("*.c"))],
    include_dirs=["csrc"],
    extra_compile_args=[
        *WARNINGS,
        "-Wno-unused-parameter",
        "-Wno-missing-field-initializers",
        *CHILD,
    ],
    py_limited_api=True,
)
