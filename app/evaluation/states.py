"""How a trained model's result stands, and what a person can do about it, for every page.

An evaluation that is done is not the end of it: answers may wait for a person to be checked, and a
verdict may say that the model is not to be used. Whoever looks at its status alone leads people on
to use what they are told not to use.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from app.core.models import Arm, Evaluation, EvaluationStatus, Standing
from app.core.sentences import counted
from app.core.status_words import Dot
from app.evaluation import verdict, words
from app.evaluation.verdict import Tally


class State(StrEnum):
    """How a result stands."""

    NONE = "none"  # nobody has asked for it
    COUNTING = "counting"  # or waiting for a machine to do so
    FAILED = "failed"
    CANCELLED = "cancelled"
    TO_CHECK = "to_check"  # a person has to look at some answers
    NOT_FOR_USE = "not_for_use"  # so the verdict says
    COUNTED = "counted"


class Step(NamedTuple):
    """What a person can do about it: the button's words, and where it leads."""

    words: str
    address: str


@dataclass(frozen=True)
class Result:
    """How one result stands.

    Attributes:
        state: Which of the states it is in.
        word: What that is called.
        dot: The colour before the word.
        note: The same in a few words, beside other steps.
        may_use: Nothing in it speaks against using the model.
        step: What a person can do about it; none: nothing has to be done.
        num_unsure: So many answers wait for a person to be checked.
    """

    state: State
    word: str
    dot: Dot
    note: str
    may_use: bool = True
    step: Step | None = None
    num_unsure: int = 0


# What the verdict itself says not to use, or not yet.
_NOT_FOR_USE = (Standing.MEMORISED, Standing.NO_BETTER, Standing.BETTER)
_COUNTING = (EvaluationStatus.WAITING, EvaluationStatus.EVALUATING)


def of(evaluation: Evaluation | None, arm: Arm | None = None) -> Result:
    """Say how a result stands: of one arm, or of the one that the evaluation is about."""
    if evaluation is None:
        return Result(State.NONE, "Not counted yet", "wait", "not counted yet")
    address = f"/evaluations/{evaluation.id}"
    if evaluation.status in _COUNTING:
        step = Step("See how far it is", address)
        return Result(State.COUNTING, "Being counted", "live", "being counted", step=step)
    if evaluation.status is EvaluationStatus.FAILED:
        step = Step("See why", address)
        return Result(State.FAILED, "The test failed", "bad", "the test failed", step=step)
    if evaluation.status is EvaluationStatus.CANCELLED:
        step = Step("Evaluate again", address)
        said = "the test was cancelled"
        return Result(State.CANCELLED, "The test was cancelled", "wait", said, step=step)
    return _counted(evaluation, arm or verdict.main_arm(evaluation), address)


def _counted(evaluation: Evaluation, arm: Arm, address: str) -> Result:
    found = verdict.standing_as(evaluation, arm)
    stands = words.standing(evaluation, arm)
    may_use = found not in _NOT_FOR_USE
    tally = verdict.figures_of(evaluation).arms.get(arm, Tally())
    right = f"{tally.right} of {tally.num} right" if tally.num else ""
    if tally.unsure:
        return Result(
            State.TO_CHECK,
            counted(tally.unsure, "1 answer to check", "{n} answers to check"),
            "warn",
            f"{right}, {tally.unsure} to check",
            may_use,
            Step(
                counted(tally.unsure, "Check 1 answer", "Check {n} answers"),
                f"{address}/answers?arm={arm.value}&mark=unsure",
            ),
            tally.unsure,
        )
    if not may_use and stands is not None:
        step = Step("See what would help", address)
        return Result(State.NOT_FOR_USE, stands.word, stands.dot, right, may_use, step)
    word, dot = (stands.word, stands.dot) if stands is not None else ("Counted", "good")
    return Result(State.COUNTED, word, dot, right or "counted")


def sentence(evaluation: Evaluation | None, name: str, arm: Arm | None = None) -> str:
    """Say why the result of the model of this name waits for a person; empty: it does not."""
    found = of(evaluation, arm)
    match found.state:
        case State.TO_CHECK:
            return counted(
                found.num_unsure,
                "1 answer of “{name}” is for you to check. It counts as wrong until you do.",
                "{n} answers of “{name}” are for you to check. They count as wrong until you do.",
                name=name,
            )
        case State.NOT_FOR_USE:
            assert evaluation is not None
            stands = words.standing(evaluation, arm)
            assert stands is not None
            return f"“{name}”: {stands.word.lower()}. {stands.sentence}"
        case State.FAILED:
            return f"The test of “{name}” failed, so nobody knows yet how good it is."
        case State.CANCELLED:
            return f"The test of “{name}” was cancelled, so nobody knows yet how good it is."
        case State.COUNTING:
            return f"The answers of “{name}” are being counted."
        case State.NONE:
            return f"Nobody has counted yet how many answers of “{name}” are right."
        case _:
            return ""
