"""Chats that a template refuses: their turns are joined, or they are left out; none fails a job."""

from typing import Any

import pytest

from app.training.fitting import drops_thoughts, fit, join_turns
from tests.app.training.test_templates import CALLING, TOOL, chat, turn

HI, YES, MORE = turn("user", "Hi"), turn("assistant", "Yes"), turn("user", "More")
AMID = [HI, YES, turn("system", "Be brief."), MORE, YES]


def test_turns_of_one_speaker_are_joined() -> None:
    assert join_turns([HI, MORE, YES]) == [turn("user", "Hi\n\nMore"), YES]
    assert join_turns([HI, YES, YES]) == [HI, turn("assistant", "Yes\n\nYes")]
    two = [turn("system", "A"), turn("system", "B"), HI, YES]
    assert join_turns(two) == [turn("system", "A\n\nB"), HI, YES]


def test_a_system_turn_amid_a_chat_opens_the_question_behind_it() -> None:
    assert join_turns(AMID) == [HI, YES, turn("user", "Be brief.\n\nMore"), YES]
    assert join_turns([HI, turn("system", "S"), MORE, YES]) == [
        turn("user", "Hi\n\nS\n\nMore"),
        YES,
    ]


def test_what_must_stay_apart_does() -> None:
    wrong = turn("assistant", "No", weight=0)
    for turns in ([HI, wrong, YES], CALLING, [turn("system", "S"), HI, YES]):
        assert join_turns(turns) == turns


@pytest.mark.parametrize(
    ("turns", "is_joined", "is_taken"),
    [
        ([HI, YES], False, True),
        ([HI, MORE, YES], True, True),
        (AMID, True, True),
        ([YES, HI, YES], False, False),  # a greeting is nobody's question
    ],
)
def test_what_gemma_takes(turns: list[dict[str, Any]], is_joined: bool, is_taken: bool) -> None:
    found = fit(chat("gemma2"), turns, None, joins=True)
    assert (found.is_joined, found.messages is not None) == (is_joined, is_taken)
    assert bool(found.problem) == (is_joined or not is_taken)
    if is_joined:
        assert fit(chat("gemma2"), turns, None, joins=False).messages is None


def test_a_template_without_tools_takes_none() -> None:
    found = fit(chat("gemma2"), CALLING, [TOOL], joins=True)
    assert found.messages is None
    assert fit(chat("qwen2.5"), CALLING, [TOOL], joins=True).messages == CALLING


def test_thoughts_that_are_not_learned_are_told() -> None:
    thinks = turn("assistant", "Yes", reasoning_content="I look.")
    assert not drops_thoughts(chat("qwen3"), [HI, thinks], None)
    assert drops_thoughts(chat("qwen3"), [HI, thinks, MORE, YES], None)
    assert drops_thoughts(chat("llama3"), [HI, thinks], None)
    inline = turn("assistant", "<think>\nI look.\n</think>\n\nYes")
    assert not drops_thoughts(chat("llama3"), [HI, inline], None)
    assert drops_thoughts(chat("qwen3"), [HI, inline, MORE, YES], None)
