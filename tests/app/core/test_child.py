"""A child is ended when it has said nothing for too long, and only then."""

import time

import pytest

from app.core.child import BrokeOff, Child
from tests import patience


def test_a_child_that_says_nothing_is_ended() -> None:
    silent = Child("tests.app.core.talker", "0 1000", timeout_seconds=1000, idle_seconds=0.5)
    with silent as child, pytest.raises(BrokeOff) as broke_off:
        list(child.lines())
    assert (broke_off.value.is_late, broke_off.value.is_silent) == (True, True)


def test_the_time_in_which_nobody_listens_is_no_silence_of_its_own() -> None:
    heard = 0
    idle = patience.seconds(5)  # as long as a slow machine needs to start it, and more
    with Child("tests.app.core.talker", "3 0", timeout_seconds=1000, idle_seconds=idle) as child:
        for _ in child.lines():
            if heard == 0:
                time.sleep(1.2 * idle)
            heard += 1
    assert heard == 3


def test_the_whole_time_counts_also_where_it_goes_on_speaking() -> None:
    endless = Child("tests.app.core.talker", "1000000000 0", timeout_seconds=2)
    with endless as child, pytest.raises(BrokeOff) as broke_off:
        for _ in child.lines():
            pass
    assert (broke_off.value.is_late, broke_off.value.is_silent) == (True, False)
