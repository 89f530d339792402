"""A child is ended when it has said nothing for too long, and only then."""

import time
from collections.abc import Iterator

import pytest

from app.core import settings
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


@pytest.mark.parametrize("how", ["1000 whole", "1000 babble", "0 whole", "0 whole 11"])
def test_a_child_with_its_whole_result_is_done_however_it_ends(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs, speaks on, ends well, or crashes."""
    monkeypatch.setenv("ETUDE_EXIT_SECONDS", "0.5")
    settings.get.cache_clear()
    with Child(
        "tests.app.core.talker", f"2 {how}", ends=['{"result"'], timeout_seconds=1000
    ) as child:
        assert list(child.lines()) == [b"0\n", b"1\n", b'{"result": [1, 2]}\n']


@pytest.mark.parametrize(("how", "code"), [("0 half", 0), ("0 half 9", -9)])
def test_half_a_result_is_none(how: str, code: int) -> None:
    heard: list[bytes] = []
    broken = Child("tests.app.core.talker", f"1 {how}", ends=['{"result"'], timeout_seconds=1000)
    with broken as child, pytest.raises(BrokeOff) as broke_off:
        heard.extend(child.lines())
    assert (heard, broke_off.value.code) == ([b"0\n"], code)


def test_a_result_counts_only_of_a_child_that_was_fed_to_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ETUDE_EXIT_SECONDS", "0.5")
    settings.get.cache_clear()

    def feed() -> Iterator[bytes]:
        yield b"half of it\n"
        raise RuntimeError("the database is away")

    with (
        Child(
            "tests.app.core.talker",
            "0 1000 whole",
            ends=['{"result"'],
            timeout_seconds=1000,
            feed=feed,
        ) as child,
        pytest.raises(RuntimeError),
    ):
        list(child.lines())
