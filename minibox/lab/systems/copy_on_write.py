# SPDX-License-Identifier: Apache-2.0
"""Copy-on-write, page by page"""

from __future__ import annotations

import struct

from minibox import syscalls as sc
from minibox.lab import Block, Figure, Run, experiment, function, kcmp, smaps, until
from minibox.lab.memory import PAGE
from minibox.plan import Memory, Op
from minibox.primitive import Clone

PAGES = 8
EACH = list(range(PAGES + 1))
NONE, ALL = [0] * (PAGES + 1), [PAGES] * (PAGES + 1)
FIGURE = Figure(
    "Copy-on-write, one page after the other",
    "pages the child has written to",
    "pages in its mapping",
)
EXPECTED = {
    "with": {
        "memory (kcmp)": "same",
        "faults of reading all pages": 0,
        "faults of writing to each": [0] * PAGES,
        "the child's own pages": ALL,
        "pages it shares": NONE,
        "the parent's own pages": ALL,
    },
    "without": {
        "memory (kcmp)": "another",
        "faults of reading all pages": 0,
        "faults of writing to each": [1] * PAGES,
        "the child's own pages": EACH,
        "pages it shares": EACH[::-1],
        "the parent's own pages": EACH,
    },
}


@experiment(
    sc.CLONE_VM,
    source="fork(2), NOTES; proc_pid_smaps(5); mm/memory.c copy_present_ptes, do_wp_page",
    expected=EXPECTED,
    order=2,
)
def copy_on_write(run: Run) -> None:
    """A child without CLONE_VM has its parent's pages until one of the two writes to them; each is
    copied at the first write to it, and no other with it.

    The parent has written to eight pages when it makes the child, which reads all of them, and then
    writes to one after the other. fork copies the page tables, and takes the right to write out of
    both copies. Reading is no fault, unless the processor leaves it to the kernel to note that a
    page is in use (ARMv8.0 does): to the child all are new, and the verdict is "differs". The first
    write to a page is one: the kernel copies that page (do_wp_page), and from then on each of the
    two has one of its own, Private_Dirty in its smaps, where both had the same, Shared_Dirty.

    With CLONE_VM there is one set of page tables. Nothing is shared between two, nothing is copied,
    and nothing faults.
    """
    with Block(PAGES * PAGE) as block:
        block.fill()
        with run.clone(_program(block)) as child:
            child.arrived()
            run.saw("memory (kcmp)", kcmp(child.pid, "VM"))
            own, shared, parents = [], [], []
            for k in EACH:
                _at_gate(child, k)
                seen, left = smaps(child.pid, block.address), smaps("self", block.address)
                own.append(seen["Private_Dirty"] // PAGE)
                shared.append(seen["Shared_Dirty"] // PAGE)
                parents.append(left["Private_Dirty"] // PAGE)
                run.point(FIGURE, f"its own (Private_Dirty), {run.name} CLONE_VM", k, own[-1])
                run.point(FIGURE, f"shared (Shared_Dirty), {run.name} CLONE_VM", k, shared[-1])
                child.go(k + 1)
            faults = child.report().results
    run.saw("faults of reading all pages", faults[0])
    run.saw("faults of writing to each", faults[2::2])
    run.saw("the child's own pages", own)
    run.saw("pages it shares", shared)
    run.saw("the parent's own pages", parents)


def _at_gate(child: Clone, number: int) -> None:
    """Wait until it is at one of its gates, counted from 0."""
    if not until(lambda: child.report().step == 2 * number + 1):
        raise TimeoutError(f"the child is not at its gate {number + 1}")


def _program(block: Block) -> list[Op]:
    """Read all; wait; write to a page; wait; write to the next …"""

    def pages(first: int, count: int) -> Memory:
        text = f"page {first}" if count == 1 else f"{count} pages"
        return Memory(struct.pack("=3Q", block.address + first * PAGE, count, PAGE), text)

    write = function("lab_write_pages")
    program = [sc.call(function("lab_read_pages"), pages(0, PAGES)), sc.gate(1)]
    for k in range(PAGES):
        program += [sc.call(write, pages(k, 1)), sc.gate(k + 2)]
    return program
