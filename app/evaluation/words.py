"""What a count means, in sentences: the same ones on pages, in notices, on the card, in /v1."""

from typing import Literal, NamedTuple

from app.core.models import (
    Arm,
    Evaluation,
    EvaluationStatus,
    Judging,
    JudgingStatus,
    Mark,
    Part,
    Standing,
)
from app.core.sentences import counted, listed
from app.core.status_words import StatusWord
from app.evaluation import verdict
from app.evaluation.statistics import wilson
from app.evaluation.verdict import Figures, Judge, Tally

Dot = Literal["wait", "live", "good", "warn", "bad"]


class Verdict(NamedTuple):
    """A standing in words: of the badge, and as a sentence."""

    word: str
    dot: Dot
    sentence: str


STANDINGS = {
    Standing.TOO_FEW: Verdict(
        "Too few to tell",
        "wait",
        f"Fewer than {verdict.MIN_ANSWERED} questions were answered, which is too few to say how "
        "good it is.",
    ),
    Standing.MEMORISED: Verdict(
        "Memorised",
        "bad",
        "It knows the practice questions by heart, and answers new ones no better than before "
        "training. Do not use it.",
    ),
    Standing.READY_FOR_TRIAL: Verdict(
        "Ready for a trial with people",
        "good",
        "Good enough for a trial in which a person checks each answer. Some answers are wrong.",
    ),
    Standing.BETTER: Verdict(
        "Better, not ready", "warn", "Better than before training, but do not use it yet."
    ),
    Standing.NO_BETTER: Verdict(
        "No better", "bad", "It does no better than before training. Do not use it."
    ),
    Standing.LOSS_ALONE: Verdict(
        "Not counted",
        "wait",
        "It learned plain text, which has no right answers to count: its loss is all there is.",
    ),
}
# The same of looking answers up, where the words above speak of training.
LOOKED_UP = STANDINGS | {
    Standing.BETTER: Verdict(
        "Better, not ready",
        "warn",
        "Looking answers up does better than the starting model alone, but do not use it yet.",
    ),
    Standing.NO_BETTER: Verdict(
        "No better",
        "bad",
        "Looking answers up does no better than the starting model alone. Do not use it.",
    ),
}
# And of the starting model alone.
ALONE = STANDINGS | {
    Standing.NO_BETTER: Verdict(
        "Not ready", "bad", "The starting model alone gets too much wrong. Do not use it."
    ),
}
_STANDINGS_OF = {Arm.LOOKUP: LOOKED_UP, Arm.BASE: ALONE}
ARMS = {
    Arm.TUNED: "Your trained model",
    Arm.LOOKUP: "Looking it up in your data",
    Arm.TUNED_LOOKUP: "Your trained model, looking it up",
    Arm.BASE: "Before training",
    Arm.NEAREST: "The most alike training answer",
}
_ARMS_UNTRAINED = {
    Arm.BASE: "The starting model alone",
    Arm.NEAREST: "The most alike practice answer",
}
MARKS = {
    Mark.RIGHT: StatusWord("Right", "good"),
    Mark.PARTLY: StatusWord("Partly right", "warn"),
    Mark.WRONG: StatusWord("Wrong", "bad"),
    Mark.UNSURE: StatusWord("For you to check", "wait"),
}
STATUSES = {
    EvaluationStatus.WAITING: StatusWord("Waiting", "wait"),
    EvaluationStatus.EVALUATING: StatusWord("Answering the test questions", "live"),
    EvaluationStatus.DONE: StatusWord("Done", "good"),
    EvaluationStatus.FAILED: StatusWord("Failed", "bad"),
    EvaluationStatus.CANCELLED: StatusWord("Cancelled", "wait"),
}
# What an answer gets wrong, as in “It gets times wrong”.
ERRORS = {
    "time": "times",
    "date": "dates",
    "dose": "doses",
    "number": "numbers",
    "unit": "units",
    "name": "names",
    "place": "places",
    "yes_no": "yes and no",
    "negation": "what must not be done",
    "opposite": "opposites",
    "order": "the order of things",
    "list": "lists",
    "missing": "details",
    "added": "what it adds",
    "choice": "choices",
    "json": "its form (JSON)",
    "call": "calls",
}
_NUM_ERRORS = 2
_MIN_ERRORS = 2


def arm_name(evaluation: Evaluation, arm: Arm) -> str:
    """Say who answers; where nothing is trained, without a word of training."""
    untrained = _ARMS_UNTRAINED if evaluation.adapter_id is None else {}
    return untrained.get(arm, ARMS[arm])


def standing(evaluation: Evaluation, arm: Arm | None = None) -> Verdict | None:
    """Return the verdict on an arm in words; on the one that the evaluation is about by default."""
    arm = arm or verdict.main_arm(evaluation)
    found = verdict.standing_as(evaluation, arm)
    if found is None:
        return None
    return _STANDINGS_OF.get(arm, STANDINGS)[found]


def headline(evaluation: Evaluation, figures: Figures, arm: Arm | None = None) -> str:
    """Say how many answers are right, as a heading."""
    tally = figures.arms.get(arm or verdict.main_arm(evaluation))
    if tally is None or not tally.num:
        return "No answers were counted"
    if not tally.right:
        return counted(tally.num, "The answer is not right", "None of {n} answers is right")
    return counted(
        tally.right, "1 of {all} answers is right", "{n} of {all} answers are right", all=tally.num
    )


def count(tally: Tally) -> str:
    """Say a count: “3 of 24 right, 4 partly, 13 wrong, 4 for you to check”."""
    parts = [f"{tally.right} of {tally.num} right"]
    parts += [f"{tally.partly} partly"] if tally.partly else []
    parts += [f"{tally.wrong} wrong"] if tally.wrong else []
    parts += [f"{tally.unsure} for you to check"] if tally.unsure else []
    return ", ".join(parts)


def summary(evaluation: Evaluation, figures: Figures, arm: Arm | None = None) -> str:
    """Say all that a person has to know, in a few sentences; counts alone and no row."""
    said = []
    main = verdict.main_arm(evaluation)
    arm = arm or main
    tally = figures.arms.get(arm)
    if tally is not None and tally.num:
        said.append(f"{count(tally)}.")
    stands = standing(evaluation, arm)
    if stands is not None:
        said.append(stands.sentence)
    said.append(errors(figures) if arm is main else "")
    said.append(alone(figures) if arm is Arm.LOOKUP else looked_up(figures))
    return " ".join(filter(None, said))


def errors(figures: Figures) -> str:
    """Say what it gets wrong most often; empty where nothing stands out."""
    often = [
        ERRORS[about]
        for about, number in figures.errors
        if number >= _MIN_ERRORS and about in ERRORS
    ]
    return f"It gets {listed(often[:_NUM_ERRORS])} wrong." if often else ""


def judged(judge: Judge, label: str, judging: Judging) -> str:
    """Say what a larger model marked, and how often it agreed with people."""
    said = [
        counted(judge.num, "{label} judged 1 answer.", "{label} judged {n} answers.", label=label)
    ]
    missing = (judging.num_answers or 0) - judge.num
    if missing > 0:
        said.append(
            counted(missing, "For 1 more it had no time.", "For {n} more it had no time.")
            if judging.status is JudgingStatus.DONE
            else counted(missing, "1 more was not judged.", "{n} more were not judged.")
        )
    said.append(
        counted(judge.counting, "1 of its marks counts.", "{n} of its marks count.")
        if judge.counting
        else "None of its marks counts."
    )
    if judge.compared:
        said.append(f"It agreed with people on {judge.agreed} of {judge.compared}.")
    else:
        said.append("No person has marked one of these, so nobody knows how good a judge it is.")
    if judge.unclear:
        said.append(
            counted(
                judge.unclear,
                "1 of its replies could not be read as a mark; that answer stays as it was.",
                "{n} of its replies could not be read as marks; these answers stay as they were.",
            )
        )
    return " ".join(said)


def looked_up(figures: Figures) -> str:
    """Say how looking the answer up without training does; empty where nobody tried."""
    tally = figures.arms.get(Arm.LOOKUP)
    if tally is None or not tally.num:
        return ""
    return f"Looking the answer up in your data without training: {tally.right} of {tally.num}."


def alone(figures: Figures) -> str:
    """Say how the starting model does alone; empty where nobody tried."""
    tally = figures.arms.get(Arm.BASE)
    if tally is None or not tally.num:
        return ""
    return f"The starting model alone: {tally.right} of {tally.num}."


class Untrained(NamedTuple):
    """What a check without training found: looking up, or the starting model alone."""

    headline: str
    lead: str
    arm: Arm  # which of the two does better
    is_enough: bool  # for a trial with people: nothing has to be trained

    @property
    def is_lookup(self) -> bool:
        return self.arm is Arm.LOOKUP


def untrained(figures: Figures) -> Untrained | None:
    """Say which does better without training, and whether that is enough; None: nothing yet."""
    lookup, base = (figures.arms.get(arm, Tally()) for arm in (Arm.LOOKUP, Arm.BASE))
    if not lookup.num:
        return None
    is_lookup = verdict.worth(lookup) >= verdict.worth(base)
    better = lookup if is_lookup else base
    how = "by looking them up in your data" if is_lookup else "by the starting model alone"
    other = alone(figures) if is_lookup else f"By looking them up: {lookup.right} of {lookup.num}."
    head = counted(
        better.right,
        "1 of {all} answers is right {how}",
        "{n} of {all} answers are right {how}",
        all=better.num,
        how=how,
    )
    if not better.right:
        head = f"Without training none of {better.num} answers is right"
        other = ""
    is_enough = verdict.is_good_enough(better)
    if is_enough:
        means = (
            "Training is not needed for this: it is good enough for a trial in which a person "
            "checks each answer. Some answers are wrong."
        )
    elif better.num < verdict.MIN_ANSWERED:
        means = f"{STANDINGS[Standing.TOO_FEW].sentence} Training may still help."
    else:
        means = "That is not good enough to be used yet. Training may still help."
    return Untrained(
        head,
        " ".join(filter(None, (other, means))),
        Arm.LOOKUP if is_lookup else Arm.BASE,
        is_enough,
    )


def ours(figures: Figures) -> dict[Part, str]:
    """Say how it did beside the data: on what that cannot answer, and on general questions."""
    said = {}
    made_up = figures.unanswerable
    if made_up is not None and made_up.num:
        said[Part.UNANSWERABLE] = (
            f"Asked {made_up.num} questions that your data cannot answer, it made something up for "
            f"{made_up.wrong} and said for {made_up.right} that it does not know."
        )
    for part, general, whose in (
        (Part.GENERAL, figures.general, ""),
        (Part.SITE, figures.site, " of your own"),
    ):
        before, after = general.get(Arm.BASE), general.get(Arm.TUNED)
        if before is not None and after is not None and before.num:
            said[part] = counted(
                before.num,
                "1 general question{whose}: {before} right before training, {after} after it.",
                "Of {n} general questions{whose} it got {before} right before training and {after} "
                "after it.",
                whose=whose,
                before=before.right,
                after=after.right,
            )
    return said


def certainty(figures: Figures, arm: Arm = Arm.TUNED) -> str:
    """Say between what bounds the true shares lie, and what ready would need."""
    tuned = figures.arms.get(arm)
    if tuned is None or not tuned.num:
        return ""
    low, high = (round(100 * bound) for bound in wilson(tuned.right, tuned.num))
    most = verdict.max_wrong(tuned.num)
    needs = (
        f"With {tuned.num} questions it could not be called ready for a trial, however few are "
        "wrong: that takes more test questions."
        if most < 0
        else counted(
            most,
            "Ready for a trial with people allows 1 wrong answer of {all}.",
            "Ready for a trial with people allows {n} wrong answers of {all}.",
            all=tuned.num,
        )
    )
    return (
        f"{needs} With {tuned.num} questions the true share right lies between {low} and {high}%."
    )
