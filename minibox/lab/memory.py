# SPDX-License-Identifier: Apache-2.0
"""Memory that experiments share with their children or do not, and C functions to run there."""

from __future__ import annotations

import contextlib
import mmap
from typing import Any

from minibox import core
from minibox._lab import ffi, lib
from minibox.errors import SpecError
from minibox.numbers import NUMBERS
from minibox.plan import Address

PAGE = mmap.PAGESIZE
FUTEX_WAKE = 1
POPULATE_WRITE = 23


class Block:
    """Private memory of its own pages, zeroed: words in it, a stack, or something to write to.

    A child with CLONE_VM sees it, one without has a copy, unless it is `shared` with all (mmap(2),
    MAP_SHARED). Its pages are small ones, each of which counts, and its mapping is no other's. As a
    context manager it is unmapped at the end, by which time no child may use it.
    """

    def __init__(self, size: int = PAGE, *, shared: bool = False) -> None:
        flags = mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE
        self.memory = mmap.mmap(-1, size, flags | mmap.MAP_ANONYMOUS)
        # The kernel joins neighbours that are alike; none is like this one.
        self.memory.madvise(mmap.MADV_DONTDUMP)
        with contextlib.suppress(OSError):  # a kernel without huge pages
            self.memory.madvise(mmap.MADV_NOHUGEPAGE)
        self.size = size
        self._base = ffi.from_buffer(self.memory)
        self.address = int(ffi.cast("uintptr_t", self._base))

    def word(self, index: int = 0) -> int:
        """The index-th 32-bit word, as it is now."""
        return int(ffi.cast("volatile int32_t *", self._base)[index])

    def set(self, index: int, value: int) -> None:
        """Store a 32-bit word."""
        ffi.cast("volatile int32_t *", self._base)[index] = value

    def wake(self, index: int, value: int = 1) -> int:
        """Store a 32-bit word, and wake one who sleeps for it (futex(2)): was there any? 1 or 0."""
        self.set(index, value)
        return core.syscall(NUMBERS["futex"], self.address + 4 * index, FUTEX_WAKE, 1, 0, 0, 0)

    def pointer(self, index: int = 0, text: str = "&word") -> Address:
        """The address of the index-th 32-bit word, for a call, which shows it as `text`."""
        return Address(self.address + 4 * index, text)

    def text(self, at: int = 0) -> str:
        """The text that begins at this byte and ends before the next NUL."""
        return self.memory[at:].partition(b"\0")[0].decode(errors="backslashreplace")

    def fill(self) -> None:
        """Write to each page, so that there is one. OSError."""
        try:
            self.memory.madvise(POPULATE_WRITE)
        except OSError:  # before Linux 5.14
            self.memory[::PAGE] = b"x" * (self.size // PAGE)

    @property
    def stack(self) -> tuple[int, int]:
        """All of it, as clone's `stack`."""
        return self.address, self.size

    def __enter__(self) -> Block:
        return self

    def __exit__(self, *_: object) -> None:
        ffi.release(self._base)
        self.memory.close()


def function(name: str) -> Address:
    """A C function of csrc/lab/, for the op `call`."""
    return pointer(getattr(lib, name), name)


def call(name: str, argument: int = 0) -> int:
    """Call a C function of csrc/lab/ in this process, with an address; other Python threads run
    meanwhile."""
    return int(getattr(lib, name)(ffi.cast("void *", argument)))


def pointer(function: Any, name: str = "function") -> Address:
    """A C function of your own, `long function(void *)`, for the op `call`: a cffi pointer to it
    (`ffi.addressof(lib, "function")`), not a callback, as the child has no Python.

    A child with CLONE_VM runs in this process's memory beside a running interpreter, and has its
    thread-local variables unless it has CLONE_SETTLS: the function makes raw system calls or none,
    and uses nothing of libc that sets errno, allocates or locks. name: how the plan shows it.
    SpecError for a callback.
    """
    if " calling " in repr(function):
        raise SpecError(
            name, "a callback is Python, which the child has not; it must be a C function"
        )
    return Address(int(ffi.cast("uintptr_t", function)), name)
