"""Sheets and documents as the field has them (../shared/data/field): what is right stands there."""

from collections import Counter
from pathlib import Path

import pytest

from app.datasets.conversations import assemble
from app.datasets.mapping import LeftOut
from app.datasets.proposals import propose
from app.datasets.readers.inspections import ReadAs
from app.datasets.readers.reading import inspect, open_rows

FIELD = Path(__file__).resolve().parents[5] / "shared/data/field"
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not FIELD.is_dir(), reason="the field's files lie beside the project alone"),
]


def examples(name: str) -> tuple[list[str], Counter[str], str]:
    """Return what is learned as one text each, why rows are left out, and what is said."""
    found = inspect(FIELD / name, ReadAs(), lambda rows: None)
    texts, reasons = [], Counter[str]()

    def rows():  # type: ignore[no-untyped-def]
        with open_rows(FIELD / name, found.read_as(ReadAs())) as source:
            yield from source.rows

    for _, messages, _ in assemble(propose(found).mapping, rows):
        if isinstance(messages, LeftOut):
            reasons[messages.reason] += 1
        else:
            texts.append(" → ".join(message["content"] for message in messages))
    return texts, reasons, " ".join(found.warnings)


@pytest.mark.parametrize(
    ("name", "number", "left_out"),
    [
        ("bug-02-sep-line.csv", 24, {}),
        ("bug-02b-sep-line-quoted.csv", 24, {}),
        ("bug-03-glued-exports.csv", 24, {"header_again": 1}),
        ("bug-04-invisible-header.csv", 24, {}),
        ("bug-09-title-rows.xlsx", 24, {"total": 1}),
        ("bug-10-merged-cells.xlsx", 27, {}),
        ("bug-11-number-formats.xlsx", 24, {}),
        ("bug-13-offset-hidden.xlsx", 21, {"hidden": 3}),
        ("bug-14-two-row-header.xlsx", 24, {}),
        ("bug-39-comments.ods", 25, {}),
        ("extra-01-gradebook.xlsx", 24, {"total": 1}),
        ("extra-02b-ehr-pipe-unquoted.txt", 24, {}),
        ("extra-03b-quiz.docx", 10, {}),
        ("extra-07-google-forms.csv", 24, {}),
        ("extra-11-faq.html", 24, {}),
        ("extra-12b-html-in-truth.xls", 24, {}),
        ("extra-12f-faq.odt", 24, {}),
        ("var-02-1-sep-tab.csv", 24, {}),
        ("var-03-1-header-twice.csv", 24, {"header_again": 1}),
        ("var-04-1-names.csv", 24, {}),
        ("var-09-1-title.csv", 24, {"total": 1}),
        ("var-10-1-merged-answers.xlsx", 28, {}),
        ("var-11-1-doses.xlsx", 24, {"empty_answer": 1}),
        ("var-12-1-crlf-in-cells.csv", 24, {}),
        ("var-13-1-filtered.xlsx", 12, {"hidden": 12}),
        ("var-14-1-known-first-row.xlsx", 24, {}),
        ("var-39-1-spaces-numbers.ods", 29, {"hidden": 6}),
        ("var-x3-1-raised-and-symbols.docx", 7, {}),
        ("var-x3-3-raised.xlsx", 26, {}),
        ("var-x7-1-camel-case.csv", 24, {}),
    ],
)
def test_as_many_examples_as_the_field_has(
    name: str, number: int, left_out: dict[str, int]
) -> None:
    texts, reasons, _ = examples(name)
    assert (len(texts), reasons) == (number, left_out)
    for sign in ("\ufeff", "\r", "COMMENT", "Total: 24", "OLD ", "draft:"):
        assert not any(sign in text for text in texts), sign


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("bug-11-number-formats.xlsx", ["7.5%", "00007", "EUR 1,234.50", "0.3", "15.03.2027",
                                        "09:00", "1.10", "TRUE", "1.23E+08", "1 Jun 2027 14:30"]),
        ("var-11-1-doses.xlsx", ["5 mg", "10.00%", "+49 30 123456", "000815", "30:15", "3/4",
                                 "-12.50 €", "W-012", "12,500", "37.5°C", "7:05 AM"]),
        ("var-39-1-spaces-numbers.ods", ["one   four", "left\tright", "first\nsecond\nthird",
                                         "7.5%", "EUR 1,234.50", "00007", "5 mg", "30:15"]),
        ("bug-39-comments.ods", ["7.5%", "2027-06-01"]),
        ("var-x3-1-raised-and-symbols.docx", ["150 to 400 × 10³/µl", "Give 5 µg a day",
                                              "Fever: ≥ 38 °C", "½ tablet", "A=r²", "5 mg"]),
        ("var-x3-3-raised.xlsx", ["150 to 400 × 10³/µl", "5 mg"]),
        ("extra-02b-ehr-pipe-unquoted.txt",
         ["Four books, for three weeks.\nPlease call if it gets worse."]),
        ("extra-03b-quiz.docx", ["Four books, for three weeks."]),
        ("extra-11-faq.html", ["Four books, for three weeks.", "Swim only between the ropes."]),
        ("extra-12b-html-in-truth.xls", ["Four books, for three weeks."]),
        ("extra-12f-faq.odt", ["Four books, for three weeks.", "Swim only between the ropes."]),
    ],
)  # fmt: skip
def test_what_is_shown_is_learned(name: str, answers: list[str]) -> None:
    learned = {text.partition(" → ")[2] for text in examples(name)[0]}
    assert not set(answers) - learned


def test_a_handout_of_word_as_its_reader_sees_it() -> None:
    texts, _, said = examples("extra-03-handout.docx")
    whole = "\n".join(texts)
    for sight in ("nine litres", "H₂O and 10³", "a/b is a fraction", "Tick ✓", "BOX: Remember"):
        assert sight in whole
    for hidden in ("five", "HIDDEN", "STRUCK", "Two litres"):
        assert hidden not in whole
    assert "3 places text was deleted" in said


def test_columns_of_a_pdf_are_not_read_across() -> None:
    texts, _, said = examples("extra-04b-columns-line-by-line.pdf")
    whole = " ".join("\n".join(texts).split())
    end = "including exceptional circumstances during examinations."
    for question, answer in (
        ("When does the school library open?", "At half past seven, on every school day."),
        ("Where does the chess club meet?", "In room 12, every Friday after lessons."),
        ("What does the yellow flag at the pool mean?", "Swim only between the ropes."),
    ):
        notice = f"The notice beside the entrance explains this arrangement thoroughly, {end}"
        assert f"{question} {answer} {notice}" in whole
    assert "side by side" not in said
