# SPDX-License-Identifier: Apache-2.0
"""minibox lab: every experiment says what this kernel does, and notices when its flag is not there."""

from __future__ import annotations

import pytest

from minibox import lab
from minibox.lab import words
from minibox.lab.result import DIFFERS, HOLDS, UNSUPPORTED

EXPERIMENTS = lab.catalogue()
# Where this kernel is known to differ from the manual (6.18), or may have no such thing.
VERDICTS: dict[str, str] = {}


def bits(flags):
    return [1 << k for k in range(64) if flags >> k & 1]


PAIRS = [(one, bit) for one in EXPERIMENTS for bit in bits(one.flags)]
NAMES = [f"{one.name}-{'|'.join(words.flags(bit))}" for one, bit in PAIRS]


@pytest.mark.parametrize("one", EXPERIMENTS, ids=lambda one: one.name)
def test_the_kernel_does_what_it_says(one):
    result = lab.perform(one)
    if result.verdict == UNSUPPORTED:
        pytest.skip(f"this kernel has no {one.name}: {result.why}")
    assert result.verdict == VERDICTS.get(one.name, HOLDS), result.why
    assert not result.failures


@pytest.mark.parametrize(("one", "bit"), PAIRS, ids=NAMES)
def test_without_the_flag_it_does_not_hold(one, bit):
    result = lab.perform(one, taken_out=bit)
    if result.verdict == UNSUPPORTED:
        pytest.skip(f"this kernel has no {one.name}: {result.why}")
    assert result.verdict == DIFFERS


@pytest.mark.parametrize("one", EXPERIMENTS, ids=lambda one: one.name)
def test_each_is_about_something(one):
    assert one.flags
    assert one.source
    assert set(one.expected) <= set(one.runs)
