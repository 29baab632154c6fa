# SPDX-License-Identifier: Apache-2.0
"""Each property, for a few inputs that are the same every time; `make fuzz` is for a million."""

from __future__ import annotations

import os

import pytest

from tests.fuzz import million, properties

EXAMPLES = 5_000  # in all


@pytest.mark.parametrize("name", million.PROPERTIES)
def test_it_holds(name):
    if million.PROPERTIES[name].apart and os.geteuid():
        pytest.skip("namespaces of its own need root")
    properties.warm()
    examples = million.share(name, EXAMPLES)
    found, error = million.apart(name, examples)
    if error:
        pytest.fail(error, pytrace=False)
    assert found.total() >= min(examples, 20)
