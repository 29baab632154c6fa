# SPDX-License-Identifier: Apache-2.0
"""Where experiments are found: one file each below lab/, an entry point, or a path."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Iterable
from types import ModuleType

from minibox.errors import SpecError, one_line
from minibox.lab.experiment import Experiment

# Packages below minibox.lab, in the order in which a reader meets them.
KINDS = {
    "flags": "What a flag shares or does",
    "namespaces": "What a namespace isolates",
    "rules": "What the kernel refuses, and what calls differ",
    "systems": "Classical systems",
    "own": "Your own",
}
# The group of entry points: each is an Experiment, or a module that has some.
GROUP = "minibox.experiments"


def catalogue() -> list[Experiment]:
    """minibox's own experiments, and those that installed packages offer. SpecError."""
    found = [one for module in _modules() for one in of(module)]
    for entry in importlib.metadata.entry_points(group=GROUP):
        found += _others(_load(entry), found, f"entry point {entry.name}")
    kinds = list(KINDS)
    return sorted(found, key=lambda one: (kinds.index(one.kind), one.order, one.flags, one.name))


def find(names: Iterable[str]) -> list[Experiment]:
    """Experiments by name, or all of a Python file by its path, or all of a kind. SpecError."""
    known = catalogue()
    by_name = {one.name: one for one in known}
    found = []
    for name in names:
        if "/" in name or name.endswith(".py"):
            found += _others(of_path(name), known, name)
        elif name in KINDS:
            found += [one for one in known if one.kind == name]
        elif name in by_name:
            found.append(by_name[name])
        else:
            raise SpecError("NAME", f"{name}: no such experiment (minibox lab lists them)")
    return found


def of(module: ModuleType) -> list[Experiment]:
    """The experiments that a module defines, in its order."""
    return [one for one in vars(module).values() if isinstance(one, Experiment)]


def _others(new: list[Experiment], known: list[Experiment], where: str) -> list[Experiment]:
    """Those that are new, if their names are. SpecError."""
    names = {one.name for one in known}
    for one in new:
        if one.name in names:
            raise SpecError(where, f"{one.name}: there is an experiment of that name already")
    return new


def of_path(path: str) -> list[Experiment]:
    """The experiments of a Python file. SpecError."""
    # Not a name that an import may mean.
    name = "own." + os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not os.path.isfile(path):
        raise SpecError("NAME", f"{path}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    directory = os.path.dirname(os.path.abspath(path))
    sys.path.insert(0, directory)  # as for a script
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise SpecError("NAME", one_line(f"{path}: {type(error).__name__}: {error}")) from error
    finally:
        if directory in sys.path:
            sys.path.remove(directory)
    found = of(module)
    if not found:
        raise SpecError("NAME", f"{path}: there is no experiment in it")
    return found


def _modules() -> Iterable[ModuleType]:
    for kind in KINDS:
        if kind == "own":
            continue
        package = importlib.import_module(f"minibox.lab.{kind}")
        for info in pkgutil.iter_modules(package.__path__):
            yield importlib.import_module(f"{package.__name__}.{info.name}")


def _load(entry: importlib.metadata.EntryPoint) -> list[Experiment]:
    try:
        value = entry.load()
    except (Exception, SystemExit) as error:
        text = one_line(f"{type(error).__name__}: {error}")
        raise SpecError(f"entry point {entry.name}", text) from error
    return [value] if isinstance(value, Experiment) else of(value)
