# SPDX-License-Identifier: Apache-2.0
"""--latency, --loss and --rate: what is asked of a link."""

import pytest

from minibox.errors import SpecError
from minibox.network import attachment, queues


def test_no_loss_is_no_discipline():
    assert queues.asked(None, "0%", None) == ("", b"")
    assert attachment.parse("lab:loss=0%", {}).discipline == ""


def test_no_loss_takes_nothing_from_the_rest():
    assert queues.asked("20ms", "0%", None)[0] == "netem"
    assert queues.asked(None, "0%", "1mbit")[0] == "tbf"


@pytest.mark.parametrize("text", ["9" * 400 + "mbit", "9" * 5000, "1²mbit", "1.1.1mbit", "0mbit"])
def test_no_rate(text):
    with pytest.raises(SpecError):
        queues.asked(None, None, text)
