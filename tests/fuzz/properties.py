# SPDX-License-Identifier: Apache-2.0
"""A property: what may come of an input. Held for a few inputs by pytest, for many by million.py."""

from __future__ import annotations

import atexit
import os
import random
import shutil
import signal
import tempfile
import time
import warnings
from collections import Counter
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import hypothesis
from hypothesis import HealthCheck, Phase, configuration
from hypothesis.errors import HypothesisWarning

from minibox.errors import SpecError, StateError, Unsupported
from tests.fuzz.strategies import texts, variant

if TYPE_CHECKING:
    from collections.abc import Callable

SLOW = 0.5  # seconds of CPU time for one input
HANGS = 3.0  # seconds of waiting; the machine may be busy with something else
# Hypothesis keeps tables of characters and constants: not in the repository.
PLACE = tempfile.mkdtemp(prefix="hypothesis-")
atexit.register(shutil.rmtree, PLACE, ignore_errors=True)
configuration.set_hypothesis_home_dir(PLACE)


class Property(NamedTuple):
    """inputs: a strategy. check: takes an input, asserts, and may raise one of `errors`. share: of
    all inputs, beside the others'. variants: of each input that Hypothesis makes. apart: it is held
    in namespaces of its own, since its files may name processes, links and cgroups of the machine.
    """

    name: str
    inputs: Any
    check: Callable[[Any], object]
    share: int = 10
    variants: int = 9
    apart: bool = False
    errors: tuple[type[Exception], ...] = (SpecError, Unsupported, StateError)


class Hangs(BaseException):
    """No Exception: nobody's handler shall take it."""


def _on_alarm(*_):
    raise Hangs(f"nothing came of it for {HANGS} s")


@contextmanager
def alarm():
    before = signal.signal(signal.SIGALRM, _on_alarm)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(one: Property, given: object) -> str:
    """ "value", or the kind of the error; anything else that comes of it is raised."""
    began = time.thread_time()
    signal.setitimer(signal.ITIMER_REAL, HANGS)
    try:
        one.check(given)
        kind = "value"
    except one.errors as error:
        kind = type(error).__name__
        check_message(str(error))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    took = time.thread_time() - began
    assert took < SLOW, f"it took {took:.2f} s"
    return kind


def check_message(text: str) -> None:
    """One line that can be printed, and hints that are indented."""
    first, *hints = text.split("\n")
    assert first and first.isprintable(), text
    assert all(line.startswith("  ") and line.isprintable() for line in hints), text


def hold(
    one: Property,
    examples: int,
    round_: int | None,
    found: Counter[str],
    *,
    variants: bool = False,
) -> None:
    """Try so many inputs, and count in `found` what came of them. Without a round they are the same
    ones every time. What does not hold is raised, with the smallest input that shows it. variants:
    each with a few more that are much like it, which cost less than what Hypothesis thinks of."""

    @hypothesis.settings(
        max_examples=examples,
        derandomize=round_ is None,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @hypothesis.given(one.inputs)
    def holds(given):
        found[outcome(one, given)] += 1
        rng = random.Random(repr(given))
        for _ in range(one.variants if variants else 0):
            changed = variant(given, rng)
            try:
                found[outcome(one, changed)] += 1
            except Exception as error:
                raise AssertionError(f"{changed!r}: {type(error).__name__}: {error}") from error

    if round_ is not None:
        holds = hypothesis.seed(round_)(holds)
    with alarm(), warnings.catch_warnings():
        warnings.simplefilter("ignore", HypothesisWarning)  # that a sample is long
        holds()


@cache
def warm() -> None:
    """What Hypothesis makes once a process; a fork has it from its parent."""
    hold(Property("warm", texts, str), 5, None, Counter())


def million() -> int:
    return int(os.environ.get("MINIBOX_FUZZ", "1000000"))
