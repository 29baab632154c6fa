# SPDX-License-Identifier: Apache-2.0
"""What an experiment is: a claim, what shows it, and what should be seen."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from minibox.lab.run import Run

WITH, WITHOUT = "with", "without"
Observe = Callable[[Run], None]
Expected = Mapping[str, Mapping[str, object]]
Arguments = Callable[[Run], AbstractContextManager[dict[str, Any]]]


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    name: how the command line knows it. flags: CLONE_* bits under test. fields: what else of
    clone3's struct is under test, as minibox.clone calls it (exit_signal, set_tid). hypothesis: one
    sentence. about: what more there is to say. source: where that is written. runs: name -> flags
    of the run, in the order in which they are made. expected: name of the run -> what it sees ->
    the value, as the manual has it. observe: makes one run. kind: the package it is in (KINDS in
    catalogue.py). order: its place among those of its kind; the flags decide where it is the same.
    timeout: seconds that one run may take. arguments: what else minibox.clone has to be given when
    it is measured what the flags cost (cost.py).
    """

    name: str
    kind: str
    flags: int
    hypothesis: str
    about: str
    source: str
    runs: Mapping[str, int]
    expected: Expected
    observe: Observe = field(repr=False)
    fields: tuple[str, ...] = ()
    order: int = 0
    timeout: float = 30.0
    arguments: Arguments | None = field(default=None, repr=False)


def experiment(
    flags: int,
    *,
    source: str,
    expected: Expected,
    also: int = 0,
    runs: Mapping[str, int] | None = None,
    fields: tuple[str, ...] = (),
    order: int = 0,
    timeout: float = 30.0,
    arguments: Arguments | None = None,
) -> Callable[[Observe], Experiment]:
    """Make an experiment of a function whose docstring begins with the hypothesis.

    Without `runs` there are two: `with` has `flags` and `also`, `without` has `also` alone. The
    rest are the fields of Experiment; its name is the function's, with - for _.
    """

    def make(observe: Observe) -> Experiment:
        first, _, rest = inspect.cleandoc(observe.__doc__ or "").partition("\n\n")
        if not first:
            raise TypeError(
                f"{observe.__name__}: the docstring, which is the hypothesis, is missing"
            )
        parents = observe.__module__.split(".")
        return Experiment(
            name=observe.__name__.strip("_").replace("_", "-"),
            kind=parents[2] if parents[:2] == ["minibox", "lab"] else "own",
            flags=flags,
            hypothesis=" ".join(first.split()),
            about=rest,
            source=source,
            runs=dict(runs or {WITH: flags | also, WITHOUT: also}),
            expected=expected,
            observe=observe,
            fields=fields,
            order=order,
            timeout=timeout,
            arguments=arguments,
        )

    return make
