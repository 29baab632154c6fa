# SPDX-License-Identifier: Apache-2.0
"""The site of all probes, and one report a mode."""

from __future__ import annotations

import time

import pytest

from tests import conftest
from tests.escape.modes import MODES, Site


@pytest.fixture(scope="session")
def site(subreaper, warm):
    """Where containers find what the probes look for."""
    made = Site()
    yield made
    made.close()


class Report:
    """lines: name -> "PASS name: why" or "FAIL name: why". others: lines that are none. signals:
    how many came to the host's observer. changed: what of the host is not as it was."""

    def __init__(self, text: str) -> None:
        lines = [line.rstrip("\r") for line in text.splitlines()]
        self.lines = {line.split()[1].rstrip(":"): line for line in lines if line[4:5] == " "}
        self.others = [line for line in lines if line[:5] not in ("PASS ", "FAIL ")]
        self.signals = 0
        self.changed: dict[str, object] = {}


@pytest.fixture(scope="session", params=MODES)
def report(request, site):
    """What all probes say in a mode: they run once. The guard against leaks is round that run."""
    signals, before = site.observer.signals, conftest._host_state()
    made = Report(MODES[request.param](site))
    made.signals = site.observer.signals - signals
    deadline = time.monotonic() + 2
    while (after := conftest._host_state()) != before and time.monotonic() < deadline:
        conftest._reap()
    made.changed = {key: (before[key], after[key]) for key in before if before[key] != after[key]}
    return made


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """A test that looks at a line needs no guard of its own; the site is there before others' ."""
    for item in items:
        names = getattr(item, "fixturenames", [])
        if "report" in names:
            if "no_leaks" in names:
                names.remove("no_leaks")
        elif "site" in names and item.path.parent.name == "escape":
            names.remove("site")
            names.insert(0, "site")
