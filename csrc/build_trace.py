# SPDX-License-Identifier: Apache-2.0
"""Recipe of the extension minibox._trace: the tracer, declared in trace.h."""

import sys
from pathlib import Path

from cffi import FFI

sys.path.insert(0, str(Path(__file__).parent))
from build_core import HERE, WARNINGS

ffi = FFI()
ffi.cdef((HERE / "trace.h").read_text().split("// cffi: begin")[1].split("// cffi: end")[0])
ffi.set_source(
    "minibox._trace",
    '#include "trace.h"',
    sources=["csrc/trace.c"],
    include_dirs=["csrc"],
    extra_compile_args=[
        *WARNINGS,
        "-Wno-unused-parameter",
        "-Wno-missing-field-initializers",
        "-O2",
    ],
    py_limited_api=True,
)
