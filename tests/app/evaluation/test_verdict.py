"""From marks to a verdict: the first that fits."""

import pytest
from sqlalchemy.orm import Session

from app.core.models import Arm, ExampleKind, Standing
from app.evaluation import verdict, words
from app.evaluation.verdict import Figures, Tally
from tests.factories import make_adapter, make_dataset_version, make_evaluation, make_job


@pytest.mark.parametrize(
    ("tuned", "base", "lookup", "practised", "expected"),
    [
        ("r" * 19, "w" * 19, "w" * 19, "", Standing.TOO_FEW),
        ("w" * 24, "w" * 24, "w" * 24, "r" * 20 + "w" * 4, Standing.MEMORISED),
        ("w" * 24, "w" * 24, "w" * 24, "r" * 19 + "w" * 5, Standing.NO_BETTER),
        # Known by heart, and better on new questions all the same.
        ("r" * 12 + "w" * 12, "w" * 24, "w" * 24, "r" * 24, Standing.BETTER),
        ("r" * 38 + "p" * 2, "w" * 40, "r" * 20 + "w" * 20, "", Standing.READY_FOR_TRIAL),
        # Looking up does better: what is better than before is not ready beside that.
        ("r" * 38 + "p" * 2, "w" * 40, "r" * 40, "", Standing.BETTER),
        # Too many wrong: of 40, three leave the upper bound above 15 %.
        ("r" * 37 + "w" * 3, "w" * 40, "w" * 40, "", Standing.BETTER),
        # What waits for a person counts as not right.
        ("r" * 24 + "u" * 16, "w" * 40, "w" * 40, "", Standing.BETTER),
        ("w" * 24, "r" * 24, "w" * 24, "", Standing.NO_BETTER),
        # Better by one answer of 24 may be chance.
        ("r" + "w" * 23, "w" * 24, "w" * 24, "", Standing.NO_BETTER),
    ],
)
def test_the_first_standing_that_fits(
    db: Session, tuned: str, base: str, lookup: str, practised: str, expected: Standing
) -> None:
    marks = {Arm.TUNED: tuned, Arm.BASE: base, Arm.LOOKUP: lookup}
    made = make_evaluation(db, marks=marks, practised=practised)
    assert made.standing is expected


def test_a_question_counts_once_all_have_answered_it(db: Session) -> None:
    """Cut off amid the arms, their counts would be of different questions."""
    made = make_evaluation(db, marks={Arm.TUNED: "r" * 24, Arm.BASE: "w" * 22})
    assert verdict.figures_of(made).arms == {
        Arm.TUNED: Tally(right=22),
        Arm.BASE: Tally(wrong=22),
    }


def test_partly_counts_half(db: Session) -> None:
    made = make_evaluation(db, marks={Arm.TUNED: "p" * 24, Arm.BASE: "w" * 24})
    than_base = verdict.figures_of(made).than_base
    assert than_base is not None
    assert (than_base.mean, than_base.low, than_base.high) == (0.5, 0.5, 0.5)


def test_plain_text_has_no_count(db: Session) -> None:
    version = make_dataset_version(db, kind=ExampleKind.TEXT)
    made = make_evaluation(db, adapter=make_adapter(db, job=make_job(db, version=version)))
    assert made.standing is Standing.LOSS_ALONE
    assert verdict.figures_of(made) == Figures()


def test_bounds_are_settings(db: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.core import settings

    monkeypatch.setenv("ETUDE_READY_MIN_RIGHT", "0.95")
    settings.get.cache_clear()
    marks = {Arm.TUNED: "r" * 40, Arm.BASE: "w" * 40, Arm.LOOKUP: "w" * 40}
    assert make_evaluation(db, marks=marks).standing is Standing.BETTER


def test_how_many_may_be_wrong() -> None:
    """By Wilson's upper bound of 15 %: of fewer than 22 not even none, and 1 of 41."""
    assert [verdict.max_wrong(num) for num in (20, 24, 41, 100)] == [-1, 0, 1, 8]


def test_what_is_said_of_a_count(db: Session) -> None:
    made = make_evaluation(db)
    figures = verdict.figures_of(made)
    assert words.headline(made, figures) == "6 of 24 answers are right"
    said = words.summary(made, figures)
    assert said.startswith("6 of 24 right, 6 partly, 6 wrong, 6 for you to check. ")
    assert "It gets times wrong." in said
    assert said.endswith("Looking the answer up in your data without training: 12 of 24.")
    assert "safe" not in said
