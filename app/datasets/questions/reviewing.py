"""People judge each pair whose question a model made up; what they accept becomes a version."""

import hashlib
from array import array
from typing import Any

from sqlalchemy import Select, func, insert, select, tuple_
from sqlalchemy.orm import Session

from app.core import audit, clock, settings
from app.core.errors import Conflict, Invalid, NotFound
from app.core.models import (
    Asking,
    DatasetVersion,
    Example,
    ExampleKind,
    ProposedPair,
    User,
    Verdict,
    VersionStatus,
)
from app.core.sentences import listed
from app.datasets import examples, parts, versions
from app.datasets.doctor import checks
from app.datasets.mapping import Mapping
from app.datasets.privacy import reviews

PAGE_PAIRS = 10
MAX_CHARACTERS = 4000
# What an example made of such a pair is flagged with: the pair's id.
FLAG = "proposed"
_DEEDS = {
    Verdict.OPEN: "questions.reopen",
    Verdict.ACCEPTED: "questions.accept",
    Verdict.REFUSED: "questions.refuse",
}


def counts(db: Session, version: DatasetVersion) -> dict[Verdict, int]:
    """Count a version's pairs by what was said of them."""
    rows = db.execute(
        select(ProposedPair.verdict, func.count())
        .join(Asking, ProposedPair.asking_id == Asking.id)
        .where(Asking.version_id == version.id)
        .group_by(ProposedPair.verdict)
    )
    counts = dict.fromkeys(Verdict, 0)
    for verdict, number in rows:
        counts[verdict] = number
    return counts


def page(
    db: Session,
    version: DatasetVersion,
    verdict: Verdict,
    after: ProposedPair | None = None,
    limit: int = PAGE_PAIRS,
) -> list[ProposedPair]:
    """Return some of a version's pairs in the order of the document, those behind one of them.

    A page begins behind a pair and not at a number: what is judged leaves the list.
    """
    query = _of(version).where(ProposedPair.verdict == verdict)
    if after is not None:
        position = tuple_(ProposedPair.example_index, ProposedPair.id)
        query = query.where(position > (after.example_index, after.id))
    query = query.order_by(ProposedPair.example_index, ProposedPair.id)
    return list(db.scalars(query.limit(limit)))


def before(
    db: Session, version: DatasetVersion, verdict: Verdict, first: ProposedPair
) -> list[ProposedPair]:
    """Return the pairs of the page before the one that begins with this pair, and one more."""
    position = tuple_(ProposedPair.example_index, ProposedPair.id)
    query = (
        _of(version)
        .where(ProposedPair.verdict == verdict, position < (first.example_index, first.id))
        .order_by(ProposedPair.example_index.desc(), ProposedPair.id.desc())
        .limit(PAGE_PAIRS + 1)
    )
    return list(db.scalars(query))[::-1]


def get(db: Session, version: DatasetVersion, pair_id: int) -> ProposedPair:
    """Return one pair of a version.

    Raises:
        NotFound: there is none.
    """
    pair = find(db, version, pair_id)
    if pair is None:
        raise NotFound("This question does not exist, or it has been deleted.")
    return pair


def find(db: Session, version: DatasetVersion, pair_id: int) -> ProposedPair | None:
    """Return one pair of a version, if there is such a one."""
    return db.scalars(_of(version).where(ProposedPair.id == pair_id)).one_or_none()


def decide(
    db: Session,
    user: User,
    pair: ProposedPair,
    verdict: Verdict,
    question: str = "",
    answer: str = "",
) -> None:
    """Accept a pair as it is written here, refuse it, or lay it open again.

    Args:
        question, answer: As the person left them; they count where the pair is accepted.

    Raises:
        Forbidden: viewers look only.
        Invalid: what is to be accepted lacks words, or has too many.
    """
    versions.require_editor(user)
    db.refresh(pair, with_for_update={"of": ProposedPair})
    if verdict is Verdict.ACCEPTED:
        question, answer = _checked(question, "question"), _checked(answer, "answer")
        pair.is_edited = pair.is_edited or (question, answer) != (pair.question, pair.answer)
        pair.question, pair.answer = question, answer
    pair.verdict = verdict
    is_open = verdict is Verdict.OPEN
    pair.decided_by_id = None if is_open else user.id
    pair.decided_at = None if is_open else clock.NOW
    db.flush()
    audit.record(
        db,
        user,
        _DEEDS[verdict],
        f"question {pair.id}",
        version=pair.asking.version_id,
        edited=pair.is_edited,
    )


def make_version(
    db: Session, user: User, version: DatasetVersion, validation_share: float = 0.1, seed: int = 0
) -> DatasetVersion:
    """Make the next version of the dataset, of the accepted pairs and nothing else; ready at once.

    Pairs of one passage stand in one part: a test question whose answer was practised with another
    question would be no test. Whatever holds for other versions, such as the look for personal
    details, holds for this one.

    Raises:
        Forbidden: viewers look only.
        Invalid: too few were accepted, or the share cannot be used.
        Conflict: the dataset was deleted.
    """
    versions.require_editor(user)
    versions.lock(db, version)
    if version.dataset.deleted_at is not None or version.status is not VersionStatus.READY:
        raise Conflict("This dataset no longer exists.")
    if not 0 <= validation_share <= versions.MAX_VALIDATION_SHARE:
        raise Invalid(
            f"The test set may take from 0 to {versions.MAX_VALIDATION_SHARE:.0%} of the examples.",
            field="test_percent",
        )
    query = _of(version).where(ProposedPair.verdict == Verdict.ACCEPTED)
    pairs = list(db.scalars(query.order_by(ProposedPair.example_index, ProposedPair.id)))
    wanted = settings.get().min_examples
    if len(pairs) < wanted:
        raise Invalid(
            f"{len(pairs)} accepted so far, and training needs at least {wanted}; accept more, or "
            "have more questions made up."
        )
    made = versions.next_version(db, version)
    # What is read from the file, and how, says nothing about these; nor are they its rows changed.
    made.base_version_id = made.inspection = made.read_as = None
    made.mapping = Mapping.model_validate(
        {"columns": {"question": "question", "answer": "answer"}}
    ).model_dump(mode="json")
    made.validation_share, made.split_seed = validation_share, seed
    models = dict.fromkeys(pair.asking.base_model.label for pair in pairs)
    made.changes = {
        "why": f"questions made up by {listed(list(models))} about version {version.number}",
        "num_accepted": len(pairs),
    }
    _write(db, made, pairs)
    made.status = VersionStatus.READY
    made.ready_at = clock.NOW
    db.flush()
    made.examples_sha256 = examples.sha256(db, made)
    reviews.begin(db, made.id)
    checks.want(db, made)
    subject = f"dataset version {made.id}"
    audit.record(db, user, "questions.version", subject, of=version.id, num_accepted=len(pairs))
    return made


def is_made_up(version: DatasetVersion) -> bool:
    """Say whether a version was made of accepted pairs."""
    return "num_accepted" in (version.changes or {})


def origin(db: Session, version: DatasetVersion) -> str:
    """Say how the questions of a version, or of the one it derives from, were made up.

    Returns:
        E.g. "questions made up by SmolLM2 about version 1"; nothing where they were not.
    """
    whole = db.get_one(DatasetVersion, examples.layers(version)[-1])
    return str((whole.changes or {})["why"]) if is_made_up(whole) else ""


def source_of(db: Session, version: DatasetVersion, example: Example) -> ProposedPair | None:
    """Return the pair that an example was made of; none where a person or a file said it."""
    number = (example.flags or {}).get(FLAG)
    if number is None:
        return None
    return db.scalars(
        select(ProposedPair)
        .join(Asking, ProposedPair.asking_id == Asking.id)
        .join(DatasetVersion, Asking.version_id == DatasetVersion.id)
        .where(ProposedPair.id == number, DatasetVersion.dataset_id == version.dataset_id)
    ).one_or_none()


def _of(version: DatasetVersion) -> Select[ProposedPair]:
    return (
        select(ProposedPair)
        .join(Asking, ProposedPair.asking_id == Asking.id)
        .where(Asking.version_id == version.id)
    )


def _write(db: Session, made: DatasetVersion, pairs: list[ProposedPair]) -> None:
    ranks = array("Q", (_rank(pair.passage, made.split_seed) for pair in pairs))
    drawn = parts.draw(ranks, made.validation_share)
    rows: list[dict[str, Any]] = []
    for index, (pair, rank) in enumerate(zip(pairs, ranks, strict=True)):
        rows.append(
            {
                "version_id": made.id,
                "index": index,
                "split": drawn.split(rank),
                "kind": ExampleKind.PAIR,
                "messages": [
                    {"role": "user", "content": pair.question},
                    {"role": "assistant", "content": pair.answer},
                ],
                "flags": {FLAG: pair.id},
            }
        )
    db.execute(insert(Example), rows)
    parts.set_counts(made, (row["split"] for row in rows))


def _rank(passage: str, seed: int) -> int:
    digest = hashlib.blake2b(f"{seed}\0{passage}".encode(), digest_size=8).digest()
    return int.from_bytes(digest)


def _checked(text: str, field: str) -> str:
    cleaned = text.replace("\r\n", "\n").replace("\0", "").strip()
    if not cleaned:
        raise Invalid(f"Write the {field}, or reject this question.", field=field)
    if len(cleaned) > MAX_CHARACTERS:
        raise Invalid(f"Use at most {MAX_CHARACTERS:,} characters.", field=field)
    return cleaned
