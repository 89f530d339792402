"""What the length limit cuts off, practice rows apart from those that losses are measured on."""

from collections.abc import Collection
from dataclasses import asdict, dataclass

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from app.core.models import JobEvent, Json
from app.core.sentences import counted
from app.jobs.practice import ChosenBy

_PRACTICE = ("num_truncated", "num_cut_tokens", "num_cut_answers")
_CHECKED = ("num_checked_truncated", "num_checked_cut_tokens", "num_checked_cut_answers")
COUNTS = frozenset({*_PRACTICE, *_CHECKED})


@dataclass(frozen=True)
class Cut:
    examples: int = 0
    tokens: int = 0  # of these examples, together
    answers: int = 0  # of these examples, those whose answer lost something


@dataclass(frozen=True)
class Cuts:
    practice: Cut
    checked: Cut | None  # rows that check, or test in versions of two parts; None: counted together


def of_plan(told: Json) -> Cuts:
    """Read them off what a plan's event tells."""
    practice = Cut(*(int(told.get(name) or 0) for name in _PRACTICE))
    if not told.keys() & set(_CHECKED):
        return Cuts(practice, None)  # written before they were counted apart
    return Cuts(practice, Cut(*(int(told.get(name) or 0) for name in _CHECKED)))


def of_jobs(db: Session, job_ids: Collection[int]) -> dict[int, Cuts]:
    """Return what the newest attempt of each job cut off; of jobs that have not begun nothing."""
    rows = db.execute(
        select(JobEvent.job_id, JobEvent.data)
        .where(JobEvent.job_id.in_(job_ids), JobEvent.kind == "plan")
        .order_by(JobEvent.job_id, JobEvent.seq.desc())
        .ext(distinct_on(JobEvent.job_id))
    )
    return {job_id: of_plan(told or {}) for job_id, told in rows}


def by_use(cuts: Cuts, asked: ChosenBy) -> dict[str, dict[str, int]]:
    """Return the counts by what the rows are for.

    Args:
        cuts: Of a job.
        asked: What its losses in between are measured on.
    """
    parts = {"practice": cuts.practice}
    if cuts.checked is not None and asked != "practice":
        parts[asked] = cuts.checked
    return {use: asdict(cut) for use, cut in parts.items()}


def sentence(cuts: Cuts, asked: ChosenBy) -> str:
    """Say what was cut off because examples are too long; nothing where none is."""
    sentences = []
    if cuts.checked is None:
        sentences += _of_part(
            cuts.practice,
            "1 example is too long and is cut, at the beginning of its question first.",
            "{n} examples are too long and are cut, at the beginning of their question first.",
        )
    else:
        sentences += _of_part(
            cuts.practice,
            "1 practice example is too long and is cut, at the beginning of its question first.",
            "{n} practice examples are too long and are cut, at the beginning of their question "
            "first.",
        )
        sentences += _of_part(
            cuts.checked,
            "1 {asked} example is too long and is cut in the same way, so the loss is on what is "
            "left of it.",
            "{n} {asked} examples are too long and are cut in the same way, so the loss is on what "
            "is left of them.",
            asked=asked,
        )
    if sentences:
        sentences.append("A larger “Longest example” keeps them whole.")
    return " ".join(sentences)


def _of_part(cut: Cut, one: str, many: str, **words: str) -> list[str]:
    if not cut.examples:
        return []
    sentences = [counted(cut.examples, one, many, **words)]
    if cut.tokens:
        sentences.append(counted(cut.tokens, "1 token is lost.", "{n} tokens are lost."))
    if cut.answers:
        sentences.append(
            counted(
                cut.answers,
                "1 of them also loses part of its answer.",
                "{n} of them also lose part of their answer.",
            )
        )
    return sentences
