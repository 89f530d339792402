"""Blind votes: two answers to the same question without names, chosen between by colleagues.

On which side an answer stands is drawn for each person and question, by a key of this site; a vote
names who was meant and not the side. The result is for those who may mark answers.
"""

import hashlib
import hmac
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from sqlalchemy import Integer, Select, bindparam, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core import audit, clock, secrets, settings
from app.core.errors import Conflict, Forbidden, Invalid, NotFound
from app.core.models import (
    Choice,
    User,
    Vote,
    VotePair,
    VoteRound,
)
from app.evaluation import agreement, comparing, reading
from app.evaluation.comparing import Contender
from app.evaluation.reading import Row
from app.evaluation.statistics import Interval, wilson
from app.people.auth import can_edit

# So many questions take two minutes.
NUM_QUESTIONS = 12
_MIN_QUESTIONS = 3
_MAX_WHY = 2000
_SECRET_FILE = "vote-sides"  # noqa: S105 - a file's name
LEFT, RIGHT = "left", "right"


@dataclass(frozen=True)
class Ballot:
    """One question with its two answers, as one person sees them."""

    number: int
    question: str
    reference: str
    left: str
    right: str
    num_done: int
    num_all: int


@dataclass(frozen=True)
class Result:
    """How a round stands."""

    num_people: int
    num_votes: int
    counts: dict[Choice, int]
    # Of the votes that prefer one: the share that prefers the first, with its 95 % interval.
    first_share: float | None
    between: Interval | None
    alpha: float | None  # how far people agree; none: nobody can say yet
    reasons: list[tuple[Choice, str]]


def start(db: Session, user: User, first: Contender, second: Contender) -> VoteRound:
    """Put two who answered the same questions to the vote; the caller commits.

    Raises:
        Forbidden: the person may only look, or may not read the data.
        Invalid: they are the same, or have too few questions in common on which they differ.
    """
    if not can_edit(user):
        raise Forbidden("You can vote, but not put answers to the vote.")
    if not reading.may_read_rows(db, user, first.evaluation):
        raise Forbidden("You may not read the data that these questions come from.")
    pairs = _pairs(db, first, second)
    if len(pairs) < _MIN_QUESTIONS:
        raise Invalid(
            f"These two answer fewer than {_MIN_QUESTIONS} questions differently, so there is "
            "nothing to choose between."
        )
    made = VoteRound(
        department_id=user.department_id,
        owner_id=user.id,
        first_evaluation_id=first.evaluation.id,
        first_arm=first.arm,
        second_evaluation_id=second.evaluation.id,
        second_arm=second.arm,
    )
    db.add(made)
    db.flush()
    # The same questions for everybody: only then can be said how far people agree.
    drawn = random.Random(0).sample(pairs, min(NUM_QUESTIONS, len(pairs)))  # noqa: S311
    db.add_all(
        VotePair(round_id=made.id, number=number, first_position=one, second_position=other)
        for number, (one, other) in enumerate(drawn)
    )
    db.flush()
    audit.record(db, user, "vote.start", f"vote {made.id}")
    return made


def get(db: Session, user: User, round_id: int) -> VoteRound:
    """Return a round, to those who may read its data.

    Raises:
        NotFound: there is none, or the person may not read it.
    """
    found = db.get(VoteRound, round_id)
    if (
        found is None
        or found.department_id != user.department_id
        or not reading.may_read_rows(db, user, found.first_evaluation)
    ):
        raise NotFound("There is no such vote; its data may have been deleted.")
    return found


def open_rounds(db: Session, user: User) -> list[VoteRound]:
    """Return the rounds in which a person has questions left, the newest first."""
    found = db.scalars(_open(), {"user_id": user.id, "department_id": user.department_id})
    return list(found)


@cache  # the first page asks it, and to put it together takes longer
def _open() -> Select[VoteRound]:
    department_id = bindparam("department_id", type_=Integer)
    voted = (
        select(func.count())
        .where(Vote.round_id == VoteRound.id, Vote.user_id == bindparam("user_id", type_=Integer))
        .scalar_subquery()
    )
    pairs = select(func.count()).where(VotePair.round_id == VoteRound.id).scalar_subquery()
    return (
        select(VoteRound)
        .where(
            VoteRound.department_id == department_id,
            VoteRound.closed_at.is_(None),
            VoteRound.first_evaluation.has(reading.rows_may_be_read_in(department_id)),
            voted < pairs,
        )
        .order_by(VoteRound.id.desc())
        .limit(20)
    )


def of_evaluation(db: Session, evaluation_id: int) -> list[VoteRound]:
    """Return the rounds in which an evaluation's answers are voted on, the newest first."""
    return list(
        db.scalars(
            select(VoteRound)
            .where(
                (VoteRound.first_evaluation_id == evaluation_id)
                | (VoteRound.second_evaluation_id == evaluation_id)
            )
            .order_by(VoteRound.id.desc())
        )
    )


def next_ballot(db: Session, user: User, of: VoteRound) -> Ballot | None:
    """Return the next question that a person has not voted on; none: all are done."""
    pairs = db.scalars(
        select(VotePair).where(VotePair.round_id == of.id).order_by(VotePair.number)
    ).all()
    done = set(
        db.scalars(select(Vote.number).where(Vote.round_id == of.id, Vote.user_id == user.id)).all()
    )
    # Each person begins elsewhere, so that the last ones are not voted on least.
    start_at = user.id % max(1, len(pairs))
    for pair in [*pairs[start_at:], *pairs[:start_at]]:
        if pair.number not in done:
            first, second = _rows(db, of, pair)
            left, right = (first, second) if _is_first_left(of, pair, user) else (second, first)
            return Ballot(
                number=pair.number,
                question=first.asked.question,
                reference=first.asked.answer,
                left=left.answer.text,
                right=right.answer.text,
                num_done=len(done),
                num_all=len(pairs),
            )
    return None


def vote(db: Session, user: User, of: VoteRound, number: int, choice: str, why: str = "") -> None:
    """Keep what a person said of one pair; said again, the later counts.

    Args:
        choice: `left` or `right` as the person saw them, `both` or `neither`.

    Raises:
        NotFound: there is no such question.
        Invalid: nothing was chosen, or the reason is too long.
        Conflict: the vote is over.
    """
    pair = db.get(VotePair, (of.id, number))
    if pair is None:
        raise NotFound("There is no such question in this vote.")
    if of.closed_at is not None:
        raise Conflict("This vote is over.")
    why = why.replace("\0", "").encode("utf-8", "replace").decode().strip()
    if len(why) > _MAX_WHY:
        raise Invalid(f"Use at most {_MAX_WHY:,} characters.", field="why")
    if choice in (LEFT, RIGHT):
        is_first = (choice == LEFT) == _is_first_left(of, pair, user)
        meant = Choice.FIRST if is_first else Choice.SECOND
    elif choice in (Choice.BOTH, Choice.NEITHER):
        meant = Choice(choice)
    else:
        raise Invalid("Choose one of the four.", field="choice")
    db.execute(
        insert(Vote)
        .values(round_id=of.id, number=number, user_id=user.id, choice=meant, why=why)
        .on_conflict_do_update(
            index_elements=["round_id", "number", "user_id"],
            set_={"choice": meant, "why": why, "created_at": func.now()},
        )
    )


def close(db: Session, user: User, of: VoteRound) -> None:
    """End a round; nobody votes any more.

    Raises:
        Forbidden: the person may only look.
    """
    if not can_edit(user):
        raise Forbidden("You can vote, but not end a vote.")
    of.closed_at = of.closed_at or clock.read(db)
    db.flush()
    audit.record(db, user, "vote.close", f"vote {of.id}")


def result(db: Session, of: VoteRound) -> Result:
    """Count a round's votes; who said what is not told."""
    rows = db.execute(
        select(Vote.number, Vote.user_id, Vote.choice, Vote.why)
        .where(Vote.round_id == of.id)
        .order_by(Vote.number, Vote.created_at)
    ).all()
    counts = Counter(row.choice for row in rows)
    of_question: dict[int, list[Choice]] = {}
    for row in rows:
        of_question.setdefault(row.number, []).append(row.choice)
    decided = counts[Choice.FIRST] + counts[Choice.SECOND]
    return Result(
        num_people=len({row.user_id for row in rows}),
        num_votes=len(rows),
        counts={choice: counts[choice] for choice in Choice},
        first_share=counts[Choice.FIRST] / decided if decided else None,
        between=wilson(counts[Choice.FIRST], decided) if decided else None,
        alpha=agreement.nominal_alpha(of_question.values()),
        reasons=[(row.choice, row.why) for row in rows if row.why],
    )


def names(of: VoteRound) -> tuple[str, str]:
    """Return what the two are called."""
    return (
        Contender(of.first_evaluation, of.first_arm).label,
        Contender(of.second_evaluation, of.second_arm).label,
    )


def _pairs(db: Session, first: Contender, second: Contender) -> list[tuple[int, int]]:
    """Return the positions of two answers to each question on which they differ."""
    if first.key == second.key or first.evaluation.version_id != second.evaluation.version_id:
        raise Invalid("Choose two who answered the same questions.")
    one, other = (comparing.answers(db, each) for each in (first, second))
    return [
        (one[index][0], other[index][0])
        for index in sorted(one.keys() & other.keys())
        if one[index][1].strip() != other[index][1].strip()
    ]


def _rows(db: Session, of: VoteRound, pair: VotePair) -> Sequence[Row]:
    return (
        reading.row_at(db, of.first_evaluation, pair.first_position, of.first_arm),
        reading.row_at(db, of.second_evaluation, pair.second_position, of.second_arm),
    )


def _is_first_left(of: VoteRound, pair: VotePair, user: User) -> bool:
    key = secrets.get(settings.get(), _SECRET_FILE).encode()
    message = f"{of.id} {pair.number} {user.id}".encode()
    return hmac.new(key, message, hashlib.sha256).digest()[0] % 2 == 0
