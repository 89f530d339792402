"""What makes two examples equal, and what is hashed and said of rows."""

from app.datasets.examples import body, rows_that
from app.datasets.readers.reader import _body as reader_body
from app.datasets.readers.reader import rank


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
