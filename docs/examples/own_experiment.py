# SPDX-License-Identifier: Apache-2.0
"""An experiment of your own, in which the child is a C function of your own.

    minibox lab run ./own_experiment.py
    minibox lab show ./own_experiment.py

cffi compiles the function when the file is read (it needs a C compiler). One that is in a shared
library already is `ffi.dlopen("./library.so").function`, which is a pointer as it is. A callback
(`ffi.callback`, `extern "Python"`) cannot be the child: it runs Python, and the child is a task of
its own in the parent's memory that the interpreter knows nothing of.

For the same reason the function uses neither malloc nor stdio, nor what sets errno: their locks and
thread-local variables are the parent's.
"""

import sys
import tempfile

import cffi

from minibox import lab
from minibox import syscalls as sc

builder = cffi.FFI()
builder.cdef("long twice(void *word);")
builder.set_source("_own_c", "long twice(void *word) { return *(int *)word *= 2; }")
with tempfile.TemporaryDirectory() as directory:
    builder.compile(tmpdir=directory)
    sys.path.insert(0, directory)
    from _own_c import ffi, lib

    sys.path.remove(directory)


@lab.experiment(
    sc.CLONE_VM,
    source="clone(2), CLONE_VM",
    expected={"with": {"the parent's word": 42}, "without": {"the parent's word": 21}},
)
def own_experiment(run: lab.Run) -> None:
    """What a child does to a word is done to the parent's with CLONE_VM, else to a copy."""
    with lab.Block() as block:
        block.set(0, 21)
        function = lab.pointer(ffi.addressof(lib, "twice"), "twice")
        with run.clone([sc.call(function, block.pointer())]) as child:
            child.wait()
        run.saw("the parent's word", block.word())
