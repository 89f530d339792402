"""From marks to a verdict: what is counted, how sure it is, and the first standing that fits.

A count and not a loss; nothing is called safe. How answers get their marks: app/evaluation/marks;
what the figures mean for people: docs/evaluation.md.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from app.core import settings
from app.core.models import (
    Arm,
    Evaluation,
    EvaluationAnswer,
    EvaluationQuestion,
    ExampleKind,
    Mark,
    Part,
    Standing,
)
from app.datasets import examples
from app.evaluation.answered import MARK, select_answers
from app.evaluation.statistics import paired_difference, wilson

MIN_ANSWERED = 20
_KNOWN_BY_HEART = 0.8
# What an answer is worth where models are compared.
WORTH = {Mark.RIGHT: 1.0, Mark.PARTLY: 0.5, Mark.WRONG: 0.0, Mark.UNSURE: 0.0}


class Tally(BaseModel):
    """How many answers of one arm got which mark."""

    right: int = 0
    partly: int = 0
    wrong: int = 0
    unsure: int = 0

    @property
    def num(self) -> int:
        return self.right + self.partly + self.wrong + self.unsure


class Difference(BaseModel):
    """How much better the first of two arms does, as a share of the questions; partly is a half."""

    mean: float
    low: float
    high: float


class Judge(BaseModel):
    """What a larger model said of answers, over all arms (app/evaluation/judging.py)."""

    num: int = 0  # answers that it read
    unclear: int = 0  # of these, replies that were no mark
    counting: int = 0  # its marks that count: no person has marked these answers
    compared: int = 0  # answers that a person marked as well
    agreed: int = 0  # of these, with the same mark


class Figures(BaseModel):
    """What an evaluation counted: kept in its row, counted anew after each mark by a person."""

    arms: dict[Arm, Tally] = Field(default_factory=dict)  # of the test questions
    practice: Tally | None = None  # the tuned model, on questions that it practised
    unanswerable: Tally | None = None  # wrong: it made something up
    general: dict[Arm, Tally] = Field(default_factory=dict)
    site: dict[Arm, Tally] = Field(default_factory=dict)  # general questions of the department's
    # 95 % intervals of the first arm's shares.
    right_between: tuple[float, float] | None = None
    wrong_between: tuple[float, float] | None = None
    than_base: Difference | None = None
    than_lookup: Difference | None = None
    lookup_than_base: Difference | None = None
    num_by_people: int = 0  # marks that a person gave or changed, over all arms
    judge: Judge | None = None  # none: no larger model was asked
    # What the first arm gets wrong or leaves out, the most frequent first, and how often.
    errors: list[tuple[str, int]] = Field(default_factory=list)
    num_cut: int = 0  # answers of the first arm that met their limit


@dataclass
class _Answered:
    """One question as all arms answered it."""

    part: Part
    group: int
    marks: dict[Arm, Mark] = field(default_factory=dict)


def count(db: Session, evaluation: Evaluation) -> None:
    """Count an evaluation's marks and say where it stands; the caller commits."""
    if examples.kind(db, evaluation.version) is ExampleKind.TEXT:
        evaluation.figures, evaluation.standing = Figures().model_dump(), Standing.LOSS_ALONE
        return
    main = main_arm(evaluation)
    answered: dict[int, _Answered] = {}
    errors: Counter[str] = Counter()
    figures = Figures()
    judge = Judge()
    for (
        position,
        part,
        group,
        arm,
        rules,
        person,
        judged,
        counts,
        mark,
        about,
        finish,
    ) in db.execute(
        select_answers(
            evaluation,
            EvaluationAnswer.position,
            EvaluationQuestion.part,
            EvaluationQuestion.group,
            EvaluationAnswer.arm,
            EvaluationAnswer.mark,
            EvaluationAnswer.person_mark,
            EvaluationAnswer.judge_mark,
            EvaluationAnswer.judge_counts,
            MARK,
            EvaluationAnswer.about,
            EvaluationAnswer.finish,
        ).order_by(EvaluationAnswer.position)
    ):
        answered.setdefault(position, _Answered(part, group)).marks[arm] = mark
        figures.num_by_people += person is not None
        if judged is not None:
            _count_judged(judge, judged, person, counts=counts)
        if arm is main and part is Part.TEST:
            figures.num_cut += finish.value == "length"
            # Who overrules the rules also overrules their reason.
            if about and mark in (Mark.WRONG, Mark.PARTLY) and mark is rules:
                errors[about] += 1
    figures.errors = errors.most_common()
    figures.judge = judge if judge.num else None
    _add_up(figures, answered.values(), main)
    evaluation.figures = figures.model_dump(mode="json")
    evaluation.standing = _standing_of(figures, main)


def _count_judged(judge: Judge, mark: Mark, person: Mark | None, *, counts: bool) -> None:
    judge.num += 1
    judge.unclear += mark is Mark.UNSURE
    judge.counting += counts and person is None
    if person is not None and mark is not Mark.UNSURE:
        judge.compared += 1
        judge.agreed += mark is person


def main_arm(evaluation: Evaluation) -> Arm:
    """Return the arm that a verdict is about: without training that is looking up."""
    if evaluation.adapter_id is not None:
        return Arm.TUNED
    return Arm.LOOKUP if Arm.LOOKUP.value in evaluation.arms else Arm.BASE


def standing_as(evaluation: Evaluation, arm: Arm) -> Standing | None:
    """Return where one arm of an evaluation stands, which may not be the one that it is about."""
    if arm is main_arm(evaluation):
        return evaluation.standing
    return _standing_of(figures_of(evaluation), arm)


def figures_of(evaluation: Evaluation) -> Figures:
    """Return what was counted; nothing yet is a count of nothing."""
    return Figures.model_validate(evaluation.figures or {})


def num_right(evaluation: Evaluation) -> str:
    """Say how many answers are right, e.g. “29 of 41 right”; empty: nothing was counted."""
    tally = figures_of(evaluation).arms.get(main_arm(evaluation))
    return f"{tally.right} of {tally.num} right" if tally is not None and tally.num else ""


def standing(figures: Figures) -> Standing:
    """Return the first standing that fits."""
    tuned = figures.arms.get(Arm.TUNED, Tally())
    if tuned.num < MIN_ANSWERED:
        return Standing.TOO_FEW
    is_better = is_above(figures.than_base)
    practice = figures.practice
    by_heart = practice and practice.num and practice.right / practice.num >= _KNOWN_BY_HEART
    if by_heart and not is_better:
        return Standing.MEMORISED
    if is_better and _is_ready(figures):
        return Standing.READY_FOR_TRIAL
    return Standing.BETTER if is_better else Standing.NO_BETTER


def looked_up_standing(figures: Figures) -> Standing:
    """Return the first standing that fits looking up, beside the starting model alone."""
    tally = figures.arms.get(Arm.LOOKUP, Tally())
    if tally.num < MIN_ANSWERED:
        return Standing.TOO_FEW
    than_base = figures.lookup_than_base
    if is_good_enough(tally) and than_base is not None and than_base.mean >= 0:
        return Standing.READY_FOR_TRIAL
    return Standing.BETTER if is_above(than_base) else Standing.NO_BETTER


def alone_standing(figures: Figures) -> Standing:
    """Return the first standing that fits the starting model alone: it has nothing to be beside."""
    tally = figures.arms.get(Arm.BASE, Tally())
    if tally.num < MIN_ANSWERED:
        return Standing.TOO_FEW
    return Standing.READY_FOR_TRIAL if is_good_enough(tally) else Standing.NO_BETTER


def is_good_enough(tally: Tally) -> bool:
    """Say whether so many right and wrong answers are within the bounds for a trial."""
    if tally.num < MIN_ANSWERED:
        return False
    values = settings.get()
    right, wrong = wilson(tally.right, tally.num), wilson(tally.wrong, tally.num)
    return right.low >= values.ready_min_right and wrong.high <= values.ready_max_wrong


def worth(tally: Tally) -> float:
    """Return how many answers are right; partly counts half."""
    return tally.right + tally.partly / 2


def _standing_of(figures: Figures, arm: Arm) -> Standing | None:
    if arm is Arm.TUNED:
        return standing(figures)
    if arm is Arm.BASE:
        return alone_standing(figures)
    return looked_up_standing(figures) if arm is Arm.LOOKUP else None


def is_above(difference: Difference | None) -> bool:
    """Say whether one arm does better than another, and not by chance."""
    return difference is not None and difference.low > 0


def _is_ready(figures: Figures) -> bool:
    assert figures.right_between is not None
    assert figures.wrong_between is not None
    values = settings.get()
    return (
        figures.right_between[0] >= values.ready_min_right
        and figures.wrong_between[1] <= values.ready_max_wrong
        and figures.than_lookup is not None
        and figures.than_lookup.mean >= 0
    )


def max_wrong(num: int) -> int:
    """Return how many wrong answers of so many may be ready for a trial; -1: even none are few."""
    bound = settings.get().ready_max_wrong
    allowed = -1
    while allowed < num and wilson(allowed + 1, num).high <= bound:
        allowed += 1
    return allowed


def _add_up(figures: Figures, answered: Iterable[_Answered], main: Arm) -> None:
    of_part: dict[Part, list[_Answered]] = {}
    for one in answered:
        of_part.setdefault(one.part, []).append(one)
    # A question counts once every arm has answered it: else two arms' counts are of two tests.
    test = of_part.get(Part.TEST, [])
    arms = {arm for one in test for arm in one.marks}
    test = [one for one in test if arms <= one.marks.keys()]
    figures.arms = {arm: _tally(one.marks[arm] for one in test) for arm in Arm if arm in arms}
    if practised := of_part.get(Part.PRACTICE):
        figures.practice = _tally(one.marks[main] for one in practised if main in one.marks)
    if unanswerable := of_part.get(Part.UNANSWERABLE):
        figures.unanswerable = _tally(one.marks[main] for one in unanswerable if main in one.marks)
    figures.general = _before_and_after(of_part.get(Part.GENERAL, []))
    figures.site = _before_and_after(of_part.get(Part.SITE, []))
    if not test or main not in arms:
        return
    tally = figures.arms[main]
    figures.right_between = wilson(tally.right, tally.num)
    figures.wrong_between = wilson(tally.wrong, tally.num)
    figures.than_base = _difference(test, main, Arm.BASE)
    figures.than_lookup = _difference(test, main, Arm.LOOKUP)
    if Arm.LOOKUP in arms:
        figures.lookup_than_base = _difference(test, Arm.LOOKUP, Arm.BASE)


def _before_and_after(asked: list[_Answered]) -> dict[Arm, Tally]:
    both = [one for one in asked if {Arm.TUNED, Arm.BASE} <= one.marks.keys()]
    if not both:
        return {}
    return {arm: _tally(one.marks[arm] for one in both) for arm in (Arm.TUNED, Arm.BASE)}


def _difference(test: list[_Answered], first: Arm, second: Arm) -> Difference | None:
    if second is first or any(second not in one.marks for one in test):
        return None
    return difference(
        [WORTH[one.marks[first]] for one in test],
        [WORTH[one.marks[second]] for one in test],
        [one.group for one in test],
    )


def difference(
    first: Sequence[float], second: Sequence[float], groups: Sequence[int]
) -> Difference:
    """Return by how much one model does better on the same questions (statistics.py)."""
    mean, between = paired_difference(first, second, groups)
    return Difference(mean=mean, low=between.low, high=between.high)


def _tally(marks: Iterable[Mark]) -> Tally:
    counted: Mapping[Mark, int] = Counter(marks)
    return Tally(**{mark.value: number for mark, number in counted.items()})
