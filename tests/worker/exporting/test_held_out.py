"""Which held-out rows an export is proved on, and what of each is judged."""

from typing import Any

import pytest

from app.training.chat import ChatFormat
from tests.worker.trainer.conftest import SMOLLM2_SPECIAL, TEMPLATES, tokenizer_json
from worker.exporting import held_out
from worker.exporting.agreement import ENOUGH_POSITIONS
from worker.exporting.requests import Row, Unusable


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    special = {"bos_token": SMOLLM2_SPECIAL[0], "eos_token": "<|im_end|>"}
    template = (TEMPLATES / "smollm2.jinja").read_text()
    return ChatFormat(tokenizer_json(SMOLLM2_SPECIAL), template, special)


def row(answer: str, question: str = "Where?", **turn: Any) -> Row:
    return Row(
        messages=[
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer, **turn},
        ]
    )


def num_judged(asked: list[held_out.Asked]) -> int:
    return sum(len(one.ids) - one.start for one in asked)


def judged(chat: ChatFormat, one: held_out.Asked) -> str:
    return chat.tokenizer.decode(one.ids[one.start :], skip_special_tokens=True).strip()


def test_of_a_chat_the_last_answer_is_judged_up_to_its_end(chat: ChatFormat) -> None:
    two = Row(messages=[*row("In room 1.").messages, *row("In room 2.", "And now?").messages])
    for asked in held_out.choose(chat, [row("In room 2."), two]):
        assert judged(chat, asked) == "In room 2."
        assert chat.tokenizer.id_to_token(asked.ids[-1]) == "<|im_end|>"
        before = chat.tokenizer.decode(asked.ids[: asked.start], skip_special_tokens=False)
        assert before.endswith("assistant\n")


def test_of_a_text_the_second_half_is_judged(chat: ChatFormat) -> None:
    text = "Wash your hands before and after each of your patients, and say so aloud."
    [asked] = held_out.choose(chat, [Row(messages=[{"role": "text", "content": text}])])
    assert text.endswith(judged(chat, asked))
    assert abs(2 * asked.start - len(asked.ids)) <= 1


def test_the_first_twenty_where_they_are_enough(chat: ChatFormat) -> None:
    rows = [row(f"Rule {number}: " + "wash your hands, " * 5) for number in range(30)]
    asked = held_out.choose(chat, rows)
    assert [judged(chat, one).partition(":")[0] for one in asked] == [
        f"Rule {number}" for number in range(20)
    ]
    assert num_judged(asked) >= ENOUGH_POSITIONS


def test_the_longest_answers_where_the_first_are_too_little(chat: ChatFormat) -> None:
    short, long = [row("No.") for _ in range(30)], [row("Yes, " * 40) for _ in range(10)]
    asked = held_out.choose(chat, short + long)
    assert len(asked) == 20
    assert sum(judged(chat, one).startswith("Yes") for one in asked) == 10
    assert num_judged(asked) >= ENOUGH_POSITIONS


def test_all_where_there_are_fewer(chat: ChatFormat) -> None:
    assert len(held_out.choose(chat, [row("No."), row("Yes.")])) == 2


def test_a_turn_that_is_not_learned_is_not_judged(chat: ChatFormat) -> None:
    with pytest.raises(Unusable, match="None of the held-out rows can be asked"):
        held_out.choose(chat, [row("In room 2.", weight=0)])
