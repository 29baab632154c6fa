# SPDX-License-Identifier: Apache-2.0
"""The tables of the tracer, against the kernel's headers; the tree of processes."""

import os
import subprocess

import pytest

from minibox import describe
from minibox.numbers import SYSCALLS
from minibox.plan import STEPS
from minibox.tracing import calls, tree
from minibox.tracing.tree import Process

# Column of CALLS -> whose headers have its numbers (asm/unistd.h); of arm they are not here.
COMPILERS = {
    0: ["cc"] if os.uname().machine == "x86_64" else [],
    1: ["aarch64-linux-gnu-gcc"] if os.uname().machine == "x86_64" else ["cc"],
    2: ["cc", "-D__i386__"] if os.uname().machine == "x86_64" else [],
}


def in_headers(compiler):
    """__NR_* of all calls that are traced."""
    lines = [f'#ifdef __NR_{name}\n"{name}" __NR_{name}\n#endif' for name in calls.CALLS]
    source = "#include <asm/unistd.h>\n" + "\n".join(lines)
    words = [*compiler, "-E", "-P", "-"]
    done = subprocess.run(words, input=source, capture_output=True, text=True, check=True)
    pairs = [line.split('"')[1:] for line in done.stdout.splitlines() if line.startswith('"')]
    return {name: eval(number) for name, number in pairs}


@pytest.mark.parametrize("column", COMPILERS)
def test_the_numbers_are_the_kernels(column):
    if COMPILERS[column]:
        found = in_headers(COMPILERS[column])
        assert len(found) > 15
        assert found == {name: calls.CALLS[name][column] for name in found}


def test_the_numbers_of_x32_are_the_kernels():
    if COMPILERS[0]:
        found = in_headers(["cc", "-D__ILP32__"])
        ours = {name: n for (arch, n), name in calls.NUMBERED.items() if arch == calls.X86_64}
        assert found == {name: ours[name] for name in found}


def test_both_tables_of_numbers_agree():
    for name, row in calls.CALLS.items():
        if name in SYSCALLS and name not in STEPS:
            assert SYSCALLS[name][:2] == row[:2]


def test_the_tree():
    found = [
        Process(1, 0, ["a"], [5, 6], {"uts": 0}, "exited with 0"),
        Process(2, 1, ["b", "new\nline"], [], {"uts": 1, "pid": 0}, "killed by SIGKILL"),
        Process(3, 2, ["c" * 50]),
        Process(4, 1, []),
        Process(2, 4, ["again"]),
        Process(7, 2, ["below it"]),
        Process(9, 8, ["an orphan"]),
    ]
    assert list(tree.lines(found)) == [
        "1 a (threads 5 6) - exited with 0",
        "├─ 2 b new\\nline [uts:1] - killed by SIGKILL",
        f"│  └─ 3 {'c' * 37}...",
        "└─ 4",
        "   └─ 2 again",
        "      └─ 7 below it",
        "9 an orphan",
    ]


def test_a_deep_tree_needs_no_recursion():
    found = [Process(pid, pid - 1) for pid in range(1, 5000)]
    assert len(list(tree.lines(found))) == 4999


@pytest.mark.parametrize(
    ("number", "name"), [(17, "SIGCHLD"), (34, "SIGRTMIN"), (37, "SIGRTMIN+3"), (64, "SIGRTMAX")]
)
def test_signals_have_names(number, name):
    assert describe.signal_name(number) == name


@pytest.mark.parametrize(
    ("bits", "names"),
    [(0, []), (0x100, ["CLONE_VM"]), (0x20000100, ["CLONE_VM", "CLONE_NEWPID"]), (1 << 60, [hex(1 << 60)])],
)  # fmt: skip
def test_flags_have_names(bits, names):
    assert calls.flags(bits, "CLONE_") == names
