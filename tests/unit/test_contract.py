# SPDX-License-Identifier: Apache-2.0
"""The C child's contract, seen in its objects; the numbers, seen in the system's headers."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import minibox
from minibox.numbers import SYSCALLS

CSRC = Path(__file__).parents[2] / "csrc"
FLAGS = [
    "-std=gnu11",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fno-stack-protector",
    "-I",
    str(CSRC),
]
CROSS = "aarch64-linux-gnu-gcc"


def undefined(compiler, nm, source, tmp_path):
    target = tmp_path / f"{source}.o"
    subprocess.run(
        [compiler, *FLAGS, "-ffreestanding", "-c", CSRC / source, "-o", target], check=True
    )
    listed = subprocess.run([nm, "-u", target], capture_output=True, text=True, check=True)
    return {line.split()[-1] for line in listed.stdout.splitlines()}


def compilers():
    yield "cc", "nm"
    if os.uname().machine == "x86_64":
        yield CROSS, "aarch64-linux-gnu-nm"


def need(tool):
    assert shutil.which(tool), f"{tool} is missing: tools/setup test installs it"


@pytest.mark.parametrize(("compiler", "nm"), list(compilers()))
def test_the_child_calls_nothing_of_libc(compiler, nm, tmp_path):
    need(compiler)
    assert undefined(compiler, nm, "child.c", tmp_path) == {
        "mb_call",
        "mb_fork",
        "mb_init",
        "mb_monitor",
    }
    assert undefined(compiler, nm, "init.c", tmp_path) == {"mb_run", "mb_relocate"}
    assert undefined(compiler, nm, "monitor.c", tmp_path) == {
        "mb_fork_with", "log_open", "log_shed", "log_write",
        "end_had_oom", "end_give_back", "end_record",
    }  # fmt: skip
    assert undefined(compiler, nm, "end.c", tmp_path) == set()
    assert undefined(compiler, nm, "log.c", tmp_path) == set()


@pytest.mark.parametrize(("compiler", "nm"), list(compilers()))
def test_the_init_links_without_any_library(compiler, nm, tmp_path):
    need(compiler)
    target = tmp_path / "minibox-init"
    sources = [CSRC / name for name in ("init.c", "monitor.c", "end.c", "log.c", "child.c")]
    subprocess.run(
        [compiler, *FLAGS, "-ffreestanding", "-static", "-nostdlib", "-o", target, *sources],
        check=True,
    )
    listed = subprocess.run([nm, "-u", target], capture_output=True, text=True, check=True)
    assert listed.stdout == ""
    assert target.stat().st_size < 100_000


def test_the_parents_side_builds_for_arm64(tmp_path):
    if os.uname().machine == "x86_64":
        need(CROSS)
        subprocess.run([CROSS, *FLAGS, "-c", CSRC / "launch.c", "-o", tmp_path / "o"], check=True)


def test_the_installed_init_is_small_and_static():
    init = Path(minibox.__file__).parent / "minibox-init"
    assert init.stat().st_size < 32_000
    from minibox import elf

    head = init.read_bytes()[:4096]
    assert elf.is_elf(head) and not elf.loader(head)


def test_the_init_is_no_program_to_run_by_hand():
    init = Path(minibox.__file__).parent / "minibox-init"
    for words in ([], ["x"], ["99"], ["1", "2"]):
        done = subprocess.run([init, *words], capture_output=True, check=False)
        assert done.returncode == 125
        assert b"not by hand" in done.stderr


@pytest.mark.parametrize(("compiler", "column"), [("cc", "x86_64"), (CROSS, "aarch64")])
def test_the_numbers_are_the_kernels(compiler, column, tmp_path):
    """__NR_* of the headers, for each row the headers know."""
    if compiler == "cc":
        column = os.uname().machine
    need(compiler)
    place = ("x86_64", "aarch64").index(column)
    rows = {name: row[place] for name, row in SYSCALLS.items() if (row[place] or 0) >= 0}
    lines = [f'#ifdef __NR_{name}\n"{name}" __NR_{name}\n#endif' for name in rows]
    source = tmp_path / "numbers.c"
    source.write_text("#include <sys/syscall.h>\n" + "\n".join(lines))
    done = subprocess.run(
        [compiler, "-E", "-P", source], capture_output=True, text=True, check=True
    )
    words = [line.split('"') for line in done.stdout.splitlines() if line.startswith('"')]
    found = {name: eval(number) for _, name, number in words if name in rows}
    assert len(found) > 40
    assert found == {name: rows[name] for name in found}
