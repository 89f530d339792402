"""The draw of the test set: the asked share, never all, and equal examples on one side."""

from array import array

import pytest

from app.datasets.examples import body, rows_that, validation_ranks
from app.datasets.readers.reader import _body as reader_body
from app.datasets.readers.reader import rank


@pytest.mark.parametrize(
    ("ranks", "share", "drawn"),
    [
        (range(100), 0.1, set(range(10))),
        (range(10), 0.01, {0}),
        (range(10), 0.0, set()),
        (range(2), 0.5, {0}),
        ([7], 0.5, set()),
        ([7, 7, 7], 0.5, set()),
        # Eight equal ones would swallow the practice set: the next is drawn instead.
        ([1] * 8 + [2, 3], 0.1, {2}),
        ([1, 1, 2, 3, 4, 5, 6, 7, 8, 9], 0.1, {1}),
    ],
)
def test_the_draw(ranks: list[int], share: float, drawn: set[int]) -> None:
    assert validation_ranks(array("Q", ranks), share) == drawn


def test_equal_examples_have_equal_ranks_in_each_draw() -> None:
    def pair(question: str, answer: str, system: str = "") -> list[dict[str, str]]:
        return [
            {"role": "system", "content": system},
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]

    first = rank(pair("Where?", "There"), seed=1)
    assert rank(pair(" where? ", "THERE", "Be kind."), seed=1) == first
    assert rank(pair("Where?", "There"), seed=2) != first
    assert rank(pair("Where?", "Here"), seed=1) != first
    assert rank(pair("Where? There", ""), seed=1) != first


def test_reasons_are_said_for_one_and_for_many() -> None:
    assert rows_that("empty_answer", 1200) == "1,200 rows have no answer"
    assert rows_that("blank", 1) == "1 row is blank"


def test_the_reader_writes_what_is_hashed_as_it_is_hashed_later() -> None:
    words = 'ümlaut \x7f \u2028 / \\ " \n\t\x01 字 😀'
    plain = [{"role": "user", "content": words}, {"role": "assistant", "content": "x"}]
    weighted = [*plain, {"role": "assistant", "content": "y", "weight": 0}]
    for messages in (plain, weighted):
        assert reader_body(messages).decode() == body(messages)
