"""What would help: worked out from the questions that were not answered right, a few hints."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.base_models import registry as base_models
from app.core.models import (
    Arm,
    BaseModel,
    DatasetVersion,
    Evaluation,
    Finding,
    Mark,
    ModelStatus,
    Standing,
)
from app.core.sentences import counted
from app.datasets import nearest
from app.datasets.privacy.words import FUNCTION_WORDS
from app.evaluation import reading, verdict, words
from app.evaluation.verdict import Figures, Tally
from app.jobs import plans

_MAX_HINTS = 4
# A topic: a word of at least so many of its questions, most of which went wrong.
_MIN_TOPIC, _TOPIC_SHARE, _COMMON_SHARE = 3, 2 / 3, 0.3
_MIN_LETTERS, _STEM_LETTERS = 4, 6
_MIN_KNOWN_SHARE = 0.5  # of what was practised: below it, longer training helps first
_MIN_ERRORS = 2
_LARGER = 1.5
_FUNCTION_WORDS = frozenset().union(*FUNCTION_WORDS.values())
_WORD = re.compile(r"[^\W\d_]+")


class Help(StrEnum):
    CONFLICTS = "conflicts"
    LOOKING_UP = "looking_up"
    LONGER = "longer"
    LARGER = "larger"
    TOPIC = "topic"
    UNSEEN = "unseen"
    ERRORS = "errors"


@dataclass(frozen=True)
class Hint:
    """One thing that would help."""

    kind: Help
    sentence: str
    version_id: int | None = None
    base_model: BaseModel | None = None
    about: str = ""  # a topic's word


@dataclass(frozen=True)
class _Asked:
    question: str
    is_right: bool
    is_like_practice: bool | None  # None: it was not looked for


def of(db: Session, evaluation: Evaluation) -> list[Hint]:
    """Return what would help, the most useful first; for those who may read the data.

    What is ready for a trial, or too little to judge, needs none.
    """
    figures = verdict.figures_of(evaluation)
    if evaluation.standing in (None, Standing.TOO_FEW, Standing.LOSS_ALONE):
        return []
    practice = evaluation.practice_version
    if practice is None:  # a point of a learning curve: the curve says what would help
        return []
    asked = _asked(db, evaluation)
    found = [
        _conflicts(db, practice),
        _looking_up(figures),
        _longer(figures, practice),
        _topic(db, practice, asked),
        _unseen(db, practice, asked),
        _errors(figures, practice),
        # Without training the page itself says what may help: training.
        _larger(db, evaluation) if evaluation.adapter_id is not None else None,
    ]
    kept = [hint for hint in found if hint is not None]
    if any(hint.kind is Help.UNSEEN for hint in kept):  # rows like these help there as well
        kept = [hint for hint in kept if hint.kind is not Help.ERRORS]
    return kept[:_MAX_HINTS]


def look(db: Session, evaluation: Evaluation, beat: Callable[[], object]) -> None:
    """Keep which test questions are like a practice row: of a large version a page has no time.

    Args:
        beat: Called after each question.
    """
    practice = evaluation.practice_version
    if practice is None:
        return
    for row in _rows(db, evaluation):
        if row.question.is_like_practice is None:
            found = nearest.find(db, practice, row.asked.question)
            row.question.is_like_practice = found is not None
            beat()


def not_right(db: Session, evaluation: Evaluation, about: str, limit: int = 5) -> list[str]:
    """Return test questions that were not answered right, of one topic or of any.

    They are to be read beside a form for rows like them; they themselves are never practised.
    """
    stem = _stem(about)
    return [
        one.question
        for one in _asked(db, evaluation)
        if not one.is_right and (not about or stem in _stems(one.question))
    ][:limit]


def _asked(db: Session, evaluation: Evaluation) -> list[_Asked]:
    return [
        _Asked(row.asked.question, row.mark is Mark.RIGHT, row.question.is_like_practice)
        for row in _rows(db, evaluation)
    ]


def _rows(db: Session, evaluation: Evaluation) -> list[reading.Row]:
    return reading.first_rows(db, evaluation, verdict.main_arm(evaluation))


def _conflicts(db: Session, practice: DatasetVersion | None) -> Hint | None:
    if practice is None:
        return None
    number = db.scalar(
        select(Finding.count).where(Finding.version_id == practice.id, Finding.kind == "conflict")
    )
    if not number:
        return None
    said = counted(
        number,
        "1 row of your data contradicts another.",
        "{n} rows of your data contradict each other.",
    )
    return Hint(Help.CONFLICTS, said, practice.id)


def _looking_up(figures: Figures) -> Hint | None:
    lookup, tuned = figures.arms.get(Arm.LOOKUP), figures.arms.get(Arm.TUNED)
    if lookup is None or tuned is None or lookup.right <= tuned.right:
        return None
    return Hint(
        Help.LOOKING_UP,
        f"Looking the answer up does better than this training: {lookup.right} of {lookup.num} "
        f"are right, compared with {tuned.right}.",
    )


def _longer(figures: Figures, practice: DatasetVersion | None) -> Hint | None:
    known = figures.practice or Tally()
    if (
        practice is None
        or known.num < verdict.MIN_ANSWERED
        or known.right >= _MIN_KNOWN_SHARE * known.num
    ):
        return None
    said = (
        f"It does not know yet what it practised: {known.right} of {known.num} practice questions "
        "are right. More passes over the practice set may help."
    )
    return Hint(Help.LONGER, said, practice.id)


def _larger(db: Session, evaluation: Evaluation) -> Hint | None:
    size = evaluation.base_model.num_parameters
    if size is None:
        return None
    on = plans.devices(db)
    larger = [
        model
        for model in base_models.list_models(db)
        if model.status is ModelStatus.READY
        and (model.num_parameters or 0) >= _LARGER * size
        and plans.fits(model, on) == "yes"
    ]
    if not larger:
        return None
    model = max(larger, key=lambda one: one.num_parameters or 0)
    said = f"A larger starting model fits this machine: {model.label}."
    return Hint(Help.LARGER, said, evaluation.practice_version_id, base_model=model)


def _topic(db: Session, practice: DatasetVersion | None, asked: Sequence[_Asked]) -> Hint | None:
    """Find the word whose questions go wrong most often."""
    if practice is None:
        return None
    total: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    spelled: dict[str, Counter[str]] = {}
    for one in asked:
        for word in _content_words(one.question):
            spelled.setdefault(_stem(word), Counter())[word] += 1
        stems = _stems(one.question)
        total.update(stems)
        wrong.update(stems if not one.is_right else ())
    usual = sum(not one.is_right for one in asked) / max(1, len(asked))
    found = [
        stem
        for stem, number in wrong.items()
        if number >= _MIN_TOPIC
        and total[stem] <= _COMMON_SHARE * len(asked)
        and number / total[stem] >= max(_TOPIC_SHARE, usual)
    ]
    if not found:
        return None
    stem = max(found, key=lambda each: (wrong[each], wrong[each] / total[each], each))
    word = spelled[stem].most_common(1)[0][0]
    said = f"“{word}”: {wrong[stem]} of {total[stem]} questions with this word are not right"
    number = _num_about(db, practice, stem)
    if number is not None:
        said += counted(number, ", and 1 practice row has it", ", and {n} practice rows have it")
    return Hint(Help.TOPIC, f"{said}.", practice.id, about=word)


def _unseen(db: Session, practice: DatasetVersion | None, asked: Sequence[_Asked]) -> Hint | None:
    if practice is None:
        return None
    number = sum(_is_unseen(db, practice, one) for one in asked if not one.is_right)
    if not number:
        return None
    said = counted(
        number,
        "1 of the questions that it did not get right is like no practice row.",
        "{n} of the questions that it did not get right are like no practice row.",
    )
    return Hint(Help.UNSEEN, said, practice.id)


def _is_unseen(db: Session, practice: DatasetVersion, one: _Asked) -> bool:
    if one.is_like_practice is not None:
        return not one.is_like_practice
    # An evaluation of before this was kept.
    return nearest.is_indexed(practice) and nearest.find(db, practice, one.question) is None


def _errors(figures: Figures, practice: DatasetVersion | None) -> Hint | None:
    often = [each for each in figures.errors if each[1] >= _MIN_ERRORS and each[0] in words.ERRORS]
    if practice is None or not often:
        return None
    about, number = often[0]
    said = f"In {number} answers it gets {words.ERRORS[about]} wrong."
    return Hint(Help.ERRORS, said, practice.id)


def _num_about(db: Session, practice: DatasetVersion, stem: str) -> int | None:
    """Count the practice rows whose question has a word; None where there are too many to look."""
    return nearest.num_with(db, practice, stem) if nearest.is_indexed(practice) else None


def _stems(question: str) -> set[str]:
    return {_stem(word) for word in _content_words(question)}


def _content_words(question: str) -> set[str]:
    found = {word.casefold() for word in _WORD.findall(question)}
    return {word for word in found - _FUNCTION_WORDS if len(word) >= _MIN_LETTERS}


def _stem(word: str) -> str:
    return word.casefold()[:_STEM_LETTERS]
