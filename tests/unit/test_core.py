# SPDX-License-Identifier: Apache-2.0
"""The door to C, as far as no container is needed."""

from __future__ import annotations

import signal

import pytest

from minibox import core


class Interrupted(BaseException):
    pass


@pytest.fixture
def interrupt():
    """`interrupt(seconds)`: a handler raises in this thread, so much later."""

    def handler(*_):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, handler)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def blocked():
    return signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_an_interrupt_waits_while_signals_are_held(interrupt):
    has_waited = False
    with pytest.raises(Interrupted), core.SignalsHeld():
        signal.raise_signal(signal.SIGALRM)
        has_waited = True
    assert has_waited
    assert blocked() == set()


def test_what_was_blocked_before_is_blocked_afterwards():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        with core.SignalsHeld():
            assert blocked() >= {signal.SIGINT, signal.SIGTERM, signal.SIGUSR2}
            with core.SignalsHeld():
                pass
            assert signal.SIGINT in blocked()
        assert blocked() == before | {signal.SIGUSR2}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_an_interrupt_at_any_moment_leaves_no_signal_blocked(interrupt):
    """Also when it came before they were blocked, and is raised when they are."""
    for k in range(300):
        with pytest.raises(Interrupted):
            interrupt(0.0001 + k * 1e-7)
            while True:
                with core.SignalsHeld():
                    pass
        assert blocked() == set(), f"at the interrupt {k}"
