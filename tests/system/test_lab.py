# SPDX-License-Identifier: Apache-2.0
"""minibox lab: every experiment says what this kernel does, and notices when its flag is not there."""

from __future__ import annotations

import pytest

from minibox import lab
from minibox.lab import words
from minibox.lab.result import DIFFERS, HOLDS, UNSUPPORTED

EXPERIMENTS = lab.catalogue()
# Where this kernel is known to differ from the manual (6.18), or may have no such thing.
VERDICTS: dict[str, str] = {
    "manual-differs": DIFFERS,  # PARENT beside NEWPID or NEWUSER, and PIDFD beside THREAD, are made
}


def bits(flags):
    return [1 << k for k in range(64) if flags >> k & 1]


PAIRS = [(one, bit) for one in EXPERIMENTS for bit in bits(one.flags)]
NAMES = [f"{one.name}-{'|'.join(words.flags(bit))}" for one, bit in PAIRS]
FIELDS = [(one, field) for one in EXPERIMENTS for field in one.fields]


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
    if VERDICTS.get(one.name) == DIFFERS:
        assert result.why != lab.perform(one).why


@pytest.mark.parametrize(("one", "field"), FIELDS, ids=lambda value: getattr(value, "name", value))
def test_without_the_field_it_does_not_hold(one, field):
    result = lab.perform(one, left_out=[field])
    if result.verdict == UNSUPPORTED:
        pytest.skip(f"this kernel has no {one.name}: {result.why}")
    assert result.verdict == DIFFERS


@pytest.mark.parametrize("one", EXPERIMENTS, ids=lambda one: one.name)
def test_each_is_about_something(one):
    assert one.flags or one.fields
    assert one.source
    assert set(one.expected) <= set(one.runs)


def test_a_flag_has_its_cost():
    """That of CLONE_VM is a saving: nothing is copied. No verdict depends on any."""
    found = {one.name: lab.perform(one).cost for one in lab.find(["vm", "newuts", "set-tid"])}
    assert found["vm"]["base"] == "fork"
    assert found["vm"]["value"] < 0
    assert found["newuts"]["base"] == "CLONE_VM|CLONE_VFORK"
    for cost in found.values():
        low, high = cost["range"]
        assert cost["unit"] == "µs"
        assert low <= cost["value"] <= high


def test_an_experiment_with_a_flag_less_has_no_cost():
    [one] = lab.find(["newuts"])
    assert lab.perform(one, taken_out=one.flags).cost is None
