"""What each arm is asked."""

from typing import Any

from app.core.models import Arm, Part
from app.evaluation import arms
from app.evaluation.arms import Row

ROWS = [Row(7, "Best?", "One."), Row(3, "Next?", "Two."), Row(9, "Third?", "Three.")]


def said(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def test_a_chat_is_asked_its_last_turn_with_its_own_instruction() -> None:
    turn = arms.last_turn(
        [
            said("system", "Be short."),
            said("user", "Where?"),
            said("assistant", "Here.", weight=0),
            said("user", "When?"),
            said("assistant", "Now."),
        ]
    )
    assert turn is not None
    assert turn.before[0] == said("system", "Be short.")
    assert turn.before[2] == said("assistant", "Here.")
    assert turn.reference == said("assistant", "Now.")
    assert arms.question_of(turn.before) == "Where?\nWhen?"


def test_of_a_pair_the_better_answer_is_right_and_of_a_call_the_call() -> None:
    pair = arms.last_turn([said("user", "Q"), said("assistant", "good", rejected="bad")])
    assert pair is not None
    assert pair.reference == said("assistant", "good")
    call = {"type": "function", "function": {"name": "beds", "arguments": {"ward": 3}}}
    turn = arms.last_turn([said("user", "Q"), {"role": "assistant", "tool_calls": [call]}])
    assert turn is not None
    assert arms.words_of(turn.reference) == '{"arguments": {"ward": 3}, "name": "beds"}'


def test_what_has_no_question_or_no_answer_is_not_asked() -> None:
    assert arms.last_turn([said("text", "Wash.")]) is None
    assert arms.last_turn([said("user", "Q"), said("assistant", " ")]) is None
    assert arms.last_turn([said("user", " "), said("assistant", "A")]) is None
    assert arms.last_turn([said("assistant", "A")]) is None


def test_only_the_arms_that_look_up_get_rows_the_most_alike_nearest_to_the_question() -> None:
    before = [said("system", "Be short."), said("user", "And now?")]
    plain = arms.asked(Arm.TUNED, before, ROWS, lambda _: True)
    assert plain == (before, None)
    looked = arms.asked(Arm.LOOKUP, before, ROWS, lambda _: True)
    assert looked.sources == [{"index": 7}, {"index": 3}, {"index": 9}]
    assert looked.messages[0] == before[0]
    assert looked.messages[1]["content"] == (
        "Here are questions that were answered before:\n\nQuestion: Third?\nAnswer: Three.\n\n"
        "Question: Next?\nAnswer: Two.\n\nQuestion: Best?\nAnswer: One.\n\n"
        "Now answer this question:\n\nAnd now?"
    )


def test_rows_that_do_not_fit_are_left_out_the_least_alike_first() -> None:
    before = [said("user", "And now?")]
    looked = arms.asked(Arm.LOOKUP, before, ROWS, lambda m: "Third?" not in m[0]["content"])
    assert looked.sources == [
        {"index": 7},
        {"index": 3},
        {"note": "Only 2 of the 3 most alike rows fit into the prompt."},
    ]
    none = arms.asked(Arm.LOOKUP, before, ROWS, lambda m: len(m[0]["content"]) < 9)
    assert none.messages == before
    assert none.sources == [{"note": "The 3 most alike rows are too long for this model's prompt."}]


def test_what_was_practised_is_asked_of_the_tuned_model_alone() -> None:
    every = [Arm.TUNED, Arm.BASE, Arm.LOOKUP, Arm.NEAREST]
    assert arms.of(Part.TEST, every) == every
    assert arms.of(Part.PRACTICE, every) == [Arm.TUNED]
