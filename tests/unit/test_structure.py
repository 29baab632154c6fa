# SPDX-License-Identifier: Apache-2.0
"""The house's rules, held by the code itself: floors, imports of the hot path, file sizes."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import minibox
from minibox import _core as core

PACKAGE = Path(minibox.__file__).parent
REPOSITORY = Path(__file__).parents[2]
# The longest prefix decides. Imports go down, or stay on the floor.
FLOORS = {
    "minibox": 5,
    "minibox.errors": 0, "minibox.plan": 0, "minibox.syscalls": 0, "minibox.numbers": 0, "minibox.spec": 0, "minibox.record": 0, "minibox.netlink": 0,
    "minibox.elf": 0, "minibox.describe": 0,
    "minibox.forms": 1, "minibox.limits": 1, "minibox.host": 1, "minibox.compile": 1,
    "minibox.core": 2, "minibox._core": 2,
    "minibox.resources": 3, "minibox.supervisor": 3, "minibox.explain": 3,
    "minibox.monitor": 3, "minibox.watch": 3, "minibox.names": 1, "minibox.settings": 1, "minibox.shapes": 1,
    "minibox.directory": 4, "minibox.store": 4, "minibox.resident": 4, "minibox.life": 4, "minibox.inside": 4, "minibox.processes": 4, "minibox.health": 4, "minibox.attach": 4,
    "minibox.network": 4, "minibox.topology": 4, "minibox.copying": 4, "minibox.changes": 4,
    "minibox.seccomp": 3, "minibox._seccomp": 3,
    "minibox.tracing": 3, "minibox._trace": 3,
    "minibox.lines": 3, "minibox.logs": 4, "minibox.events": 4,
    "minibox.foreground": 4, "minibox.guests": 4, "minibox.signals": 4, "minibox.request": 4, "minibox.restrictions": 4, "minibox.runtime": 4, "minibox.primitive": 4, "minibox.doctor": 4, "minibox.rootfs": 4,
    "minibox.lab": 5, "minibox._lab": 5,
    "minibox.cli": 5, "minibox.__main__": 5,
}  # fmt: skip
SLOW = {"click", "dataclasses", "enum", "typing", "re", "json", "signal", "subprocess", "socket",
        "threading", "pathlib", "collections", "inspect", "pyroute2", "hashlib"}  # fmt: skip


def floor(module):
    while module not in FLOORS:
        module = module.rpartition(".")[0]
    return FLOORS[module]


def sources():
    """All but what cffi writes."""
    return [file for file in sorted(PACKAGE.rglob("*.py")) if file.name != "_seccomp.py"]


def modules():
    for file in sources():
        name = ".".join(["minibox", *file.relative_to(PACKAGE).with_suffix("").parts])
        yield name.removesuffix(".__init__"), file


def imported(file):
    """All minibox modules a file imports, wherever in it; those for type checkers excepted."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    known = {name for name, _ in modules()} | {
        "minibox._core",
        "minibox._lab",
        "minibox._seccomp",
        "minibox._trace",
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("minibox"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("minibox"):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in known else node.module


@pytest.mark.parametrize(("name", "file"), list(modules()), ids=str)
def test_imports_go_down_only(name, file):
    if name == "minibox":
        return  # the door: its late imports reach upwards on purpose
    for other in imported(file):
        assert floor(other) <= floor(name), f"{name} imports {other}"


def test_only_core_imports_the_extension():
    users = [name for name, file in modules() if "minibox._core" in set(imported(file))]
    assert users == ["minibox.core"]


def test_only_one_module_imports_the_labs_c():
    users = [name for name, file in modules() if "minibox._lab" in set(imported(file))]
    assert users == ["minibox.lab.memory"]


def test_only_one_module_imports_the_tracers_c():
    users = [name for name, file in modules() if "minibox._trace" in set(imported(file))]
    assert users == ["minibox.tracing.stops"]


def test_only_one_module_knows_libseccomp():
    users = [name for name, file in modules() if "minibox._seccomp" in set(imported(file))]
    assert users == ["minibox.seccomp.library"]
    headers = subprocess.run(["readelf", "-d", core.__file__], capture_output=True, check=True)
    assert b"seccomp" not in headers.stdout  # the extension is not linked to it


def test_the_compiler_touches_no_system():
    for name, file in modules():
        if name.startswith("minibox.compile"):
            assert "import os" not in file.read_text(), name


@pytest.mark.parametrize(("name", "file"), list(modules()), ids=str)
def test_a_module_reads_in_one_sitting(name, file):
    assert len(file.read_text().splitlines()) <= 420  # about 400


def test_all_that_is_public_is_there():
    for name in minibox.__all__:
        assert getattr(minibox, name).__doc__, name
    with pytest.raises(AttributeError):
        minibox.nonsense  # noqa: B018


@pytest.mark.parametrize("net", ["none", "bridge"])
def test_the_quick_path_imports_little(tmp_path, net):
    """`minibox plan` goes the way of `run` up to the launch, and needs no root."""
    (tmp_path / "root").mkdir()
    code = (
        "import sys; sys.path.append(sys.argv[1]); from minibox.cli import main, run\n"
        "import os, minibox.foreground, minibox.supervisor\n"
        "os._exit = lambda code: print(*sys.modules)\n"
        "main(['--root', sys.argv[2], 'plan', '--net', sys.argv[3], sys.argv[2], '/bin/true'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-IS", "-c", code, str(PACKAGE.parent), str(tmp_path / "root"), net],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = done.stdout.splitlines()[-1].split()
    assert "minibox.compile" in loaded
    assert not SLOW & set(loaded)


def test_every_source_has_its_licence_line():
    files = [
        *sources(),
        *REPOSITORY.glob("csrc/**/*.[ch]"),
        *REPOSITORY.glob("tests/**/*.py"),
    ]
    assert [
        file for file in files if "SPDX-License-Identifier: Apache-2.0" not in file.read_text()
    ] == []
