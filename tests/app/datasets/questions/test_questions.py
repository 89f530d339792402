"""Passages and answers are a document's own words; what a model says is judged before a person."""

import pytest

from app.datasets.questions import asking
from app.datasets.questions.asking import QuestionRequest
from app.datasets.questions.passages import Passage, passages, plain, stands_in

TEXT = """\
Ward 4

Visiting hours

Visitors are welcome on Ward 4 from two to six. At most two visitors may be with a patient at the
same time. They may not bring flowers. Ask at the desk!

Bring the following:
- your insurance card
- a list of your medicine

Room | Phone
12 | 555 is the number of the room

Termine

Der Termin ist am 10. Mai um 8 Uhr bei Dr. Weber. Sie dürfen z.B. Wasser trinken. Kommen Sie bitte \
pünktlich zu Ihrem Termin.

診療時間は午前九時から午後五時までです。日曜日は休みです。
"""
WASH = Passage(
    "Hand hygiene",
    "Wash your hands with soap for at least 20 seconds after each patient. Gloves do not help.",
    ("Wash your hands with soap for at least 20 seconds after each patient.",),
)
REQUEST = QuestionRequest(WASH, WASH.answers[0])


def test_a_passage_stands_under_its_heading_and_holds_its_answers() -> None:
    visits, dates = passages(TEXT, 9)
    assert (visits.heading, dates.heading) == ("Visiting hours", "Termine")
    for passage in (visits, dates):
        assert passage.text in TEXT
        assert all(stands_in(answer, passage.text) for answer in passage.answers)
    assert [plain(answer) for answer in visits.answers] == [
        "Visitors are welcome on Ward 4 from two to six.",
        "At most two visitors may be with a patient at the same time.",
        "Bring the following: - your insurance card - a list of your medicine",
    ]
    assert dates.answers == (
        # Neither a date nor a title ends a sentence.
        "Der Termin ist am 10. Mai um 8 Uhr bei Dr. Weber.",
        "Kommen Sie bitte pünktlich zu Ihrem Termin.",
        "診療時間は午前九時から午後五時までです。",
        "日曜日は休みです。",
    )


def test_what_leans_on_the_sentence_before_takes_that_along() -> None:
    (passage,) = passages(
        "Ibuprofen is kept in room 12. It is given at 7, at 13 and at 19 with a meal.", 3
    )
    assert passage.answers == (passage.text,)
    assert list(passages("It is given at 7, at 13 and at 19 with a meal.", 3)) == []


def test_of_many_answers_those_that_say_most_are_asked_about_in_their_order() -> None:
    (passage,) = passages(
        "It was so. This is one of the days. Insulin is stored in the refrigerator at 2 to 8 "
        "degrees. That is the way. Two nurses check every dose of insulin together.",
        2,
    )
    assert passage.answers == (
        "Insulin is stored in the refrigerator at 2 to 8 degrees.",
        "Two nurses check every dose of insulin together.",
    )


def test_long_texts_become_passages_of_a_page_beside_a_question() -> None:
    sentences = [
        f"Number {n} of the rules of this house is kept by all who live in it." for n in range(60)
    ]
    found = list(passages(" ".join(sentences), 2))
    assert len(found) > 4
    assert max(len(passage.text) for passage in found) < 1900
    assert {s for p in found for s in sentences if s in p.text} == set(sentences)
    assert list(passages("", 2)) == list(passages("Only a heading", 2)) == []


@pytest.mark.parametrize(
    ("said", "question"),
    [
        ("How long must you wash your hands?", "How long must you wash your hands?"),
        ("Question: how long do you wash\nyour hands? Because", "How long do you wash your hands?"),
        ("Sure! Here it is: “How long are hands washed?”", "How long are hands washed?"),
    ],
)
def test_the_question_is_found_in_what_was_said(said: str, question: str) -> None:
    assert asking.judge(REQUEST, said) == (question, "")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", "empty"),
        (" \0 ", "empty"),
        ("Wash your hands.", "no_question"),
        ("Why hands?", "too_short"),
        ("What about hands " + "and soap and patients, also " * 10 + "?", "too_long"),
        ("What are hands hands hands?", "repeats"),
        ("What is soap for and what is soap for and what is soap for?", "repeats"),
        ("What is the question that the sentence about hands answers?", "copies_order"),
        ("When is the library open on weekdays?", "copies_order"),
        ("Wash your hands with soap for at least 20 seconds after each patient?", "gives_away"),
        ("What is the capital of France?", "strays"),
        ("Why are hands washed for 30 seconds?", "strays"),
        ("How long does Doctor Miller wash hands?", "strays"),
        ("手を洗う時間はどのくらいですか？", "strays"),
    ],
)
def test_what_is_no_good_is_refused_with_its_reason(said: str, reason: str) -> None:
    assert asking.judge(REQUEST, said) == ("", reason)
    assert reason in asking.REASONS


def test_the_try_that_keeps_closest_to_the_answer_is_taken_once() -> None:
    asked: set[str] = set()
    tries = ["What do gloves do about hands?", "How many seconds do you wash your hands?", "No."]
    assert asking.choose(REQUEST, tries, asked) == ("How many seconds do you wash your hands?", "")
    again = ["how many SECONDS do you wash your hands ?"]
    assert asking.choose(REQUEST, again, asked) == ("", "duplicate")
    assert asking.choose(REQUEST, ["No.", "Never.", ""], asked) == ("", "no_question")


def test_an_answer_that_does_not_stand_there_is_not_asked_about() -> None:
    made_up = QuestionRequest(WASH, "Wash your hands for ten minutes.")
    assert asking.choose(made_up, ["How long do you wash your hands?"], set()) == (
        "",
        "not_in_passage",
    )
