"""The making up of questions from its start to its end; the only writer of its status.

People start and cancel here; a cpu worker does the work (worker/cpu/questions.py), and keeps what
it has after every few passages, under its lease.
"""

import random
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app import notices
from app.core import audit, clock, leases
from app.core.errors import Conflict, Invalid
from app.core.leases import Lease
from app.core.models import (
    Asking,
    AskingStatus,
    BaseModel,
    DatasetVersion,
    Example,
    ExampleKind,
    Json,
    ModelStatus,
    ProposedPair,
    User,
    Verdict,
    VersionStatus,
)
from app.datasets import examples, versions
from app.datasets.privacy import reviews
from app.datasets.questions.passages import Passage, passages

MAX_PER_PASSAGE, DEFAULT_PER_PASSAGE = 5, 2
MAX_PAIRS, DEFAULT_PAIRS = 2000, 100
_OPEN = (AskingStatus.WAITING, AskingStatus.ASKING)
# Some passages bring no pair; more of them than these are not looked at.
_PASSAGES_PER_PAIR = 4
_BATCH_TEXTS = 50


def can_ask(db: Session, version: DatasetVersion) -> bool:
    """Say whether a version is made of texts to which questions can be made up."""
    is_ready = version.status is VersionStatus.READY
    return is_ready and examples.kind(db, version) is ExampleKind.TEXT


def start(
    db: Session,
    user: User,
    version: DatasetVersion,
    model: BaseModel,
    per_passage: int = DEFAULT_PER_PASSAGE,
    max_pairs: int = DEFAULT_PAIRS,
) -> Asking:
    """Have a starting model make up questions; the caller rings the cpu queue after the commit.

    Raises:
        Forbidden: viewers look only.
        Conflict: the version is not made of texts, waits for a decision about personal details, or
            questions to it are being made up already.
        Invalid: the model is not ready, or a number is out of bounds; with the field it is about.
    """
    versions.require_editor(user)
    versions.lock(db, version)
    if version.dataset.deleted_at is not None or not can_ask(db, version):
        raise Conflict(
            "Questions can be made up only about plain text; read the document as plain text first."
        )
    reviews.check(db, version)  # what is proposed and read by people is what was decided on
    if model.status is not ModelStatus.READY:
        raise Invalid(f"{model.label} is not ready; choose another model.", field="model")
    _check_bounds(per_passage, 1, MAX_PER_PASSAGE, "per_passage")
    _check_bounds(max_pairs, 1, MAX_PAIRS, "max_pairs")
    earlier = list(db.scalars(select(Asking.status).where(Asking.version_id == version.id)))
    if any(status in _OPEN for status in earlier):
        raise Conflict(
            "Questions about this version are being made up already; wait, or stop that run."
        )
    asking = Asking(
        version_id=version.id,
        owner_id=user.id,
        base_model_id=model.id,
        per_passage=per_passage,
        max_pairs=max_pairs,
        seed=len(earlier),  # another try says something else
    )
    db.add(asking)
    db.flush()
    audit.record(
        db,
        user,
        "questions.start",
        f"dataset version {version.id}",
        asking=asking.id,
        model=model.name,
        per_passage=per_passage,
        max_pairs=max_pairs,
    )
    return asking


def cancel(db: Session, user: User, version: DatasetVersion) -> None:
    """Stop what goes on; the pairs that there are stay. A worker that has it is fenced off.

    Raises:
        Forbidden: viewers look only.
        Conflict: nothing goes on.
    """
    versions.require_editor(user)
    asking = db.scalars(
        select(Asking)
        .where(Asking.version_id == version.id, Asking.status.in_(_OPEN))
        .with_for_update(of=Asking)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if asking is None:
        raise Conflict("This has ended already; reload the page.")
    asking.status = AskingStatus.CANCELLED
    asking.worker_id = asking.lease_until = asking.progress = None
    asking.finished_at = clock.NOW
    db.flush()
    audit.record(db, user, "questions.cancel", f"dataset version {version.id}", asking=asking.id)


def of(db: Session, version: DatasetVersion) -> list[Asking]:
    """Return what was asked for of a version, the newest first."""
    return list(
        db.scalars(select(Asking).where(Asking.version_id == version.id).order_by(Asking.id.desc()))
    )


def is_open(asking: Asking) -> bool:
    """Say whether a worker has it, or is about to."""
    return asking.status in _OPEN


# --- the worker's side ---------------------------------------------------------------------


def quoted(db: Session, asking: Asking) -> list[tuple[int, Passage]]:
    """Return passages with the index of their text, in an order drawn once.

    The order is the same each time, so that whoever goes on knows what lies behind. It is drawn:
    where a limit ends the work early, the whole version was touched and not its beginning alone.
    """
    version = db.get_one(DatasetVersion, asking.version_id)
    enough = asking.max_pairs * _PASSAGES_PER_PAIR
    indices = list(examples.sample_sizes(db, version, enough))
    random.Random(asking.seed).shuffle(indices)  # noqa: S311 - no secret
    quoted_passages: list[tuple[int, Passage]] = []
    seen: set[str] = set()
    for start in range(0, len(indices), _BATCH_TEXTS):
        batch = indices[start : start + _BATCH_TEXTS]
        texts = {row.index: _text(row) for row in examples.at(db, version, batch)}
        for index in batch:
            for passage in passages(texts.get(index, ""), asking.per_passage):
                # Texts may overlap, and documents say things twice.
                new = tuple(answer for answer in passage.answers if answer not in seen)
                seen.update(new)
                if new:
                    quoted_passages.append((index, Passage(passage.heading, passage.text, new)))
        if len(quoted_passages) >= enough:
            break
    return quoted_passages


def known(db: Session, version_id: int) -> tuple[set[str], set[str]]:
    """Return the questions that were proposed of a version, and the answers that have a pair.

    An answer counts as without one where a person refused what was asked about it.
    """
    rows = db.execute(
        select(ProposedPair.question, ProposedPair.answer, ProposedPair.verdict)
        .join(Asking, ProposedPair.asking_id == Asking.id)
        .where(Asking.version_id == version_id)
    ).all()
    answered = {row.answer for row in rows if row.verdict is not Verdict.REFUSED}
    return {row.question for row in rows}, answered


def keep(
    db: Session,
    lease: Lease,
    asking: Asking,
    num_passages: int,
    pairs: list[dict[str, Any]],
    progress: Json,
) -> None:
    """Keep the pairs of the passages up to this one, and hold on; all of it or nothing.

    Raises:
        LeaseLost: another worker may have it by now, or it was stopped or deleted; roll back.
    """
    leases.renew(
        db,
        lease,
        progress,
        num_passages=num_passages,
        num_pairs=asking.num_pairs,
        refused=asking.refused,
        strikes=0,
    )
    db.add_all(ProposedPair(asking_id=lease.id, **pair) for pair in pairs)
    db.flush()


def finish(db: Session, lease: Lease, status: AskingStatus, reason: str | None = None) -> None:
    """End it, done or failed, and tell who asked for it; the pairs that there are stay.

    Raises:
        LeaseLost: as for keep.
    """
    now = clock.NOW
    leases.release(db, lease, status, reason=reason, finished_at=now)
    notices.questions_ready(db, db.get_one(Asking, lease.id, populate_existing=True))


def _text(row: Example) -> str:
    return str(row.messages[0]["content"])


def _check_bounds(value: int, least: int, most: int, field: str) -> None:
    if not least <= value <= most:
        raise Invalid(f"Write a whole number from {least} to {most:,}.", field=field)
