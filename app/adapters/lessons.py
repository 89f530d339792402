"""What people said of an adapter's answers -> the next version of the data that it learned from.

As examples: each correction is the answer to its question. As pairs: a correction is preferred to
what the model said, and a good answer to a bad one to the same question. What is kept from practice
stays so: a correction of a question to check or to test with becomes that row's right answer, and
never a row to practise, however it came to be asked.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from app.adapters import conversations
from app.core import audit, clock, settings
from app.core.errors import Conflict, Invalid
from app.core.models import (
    Adapter,
    DatasetVersion,
    Example,
    ExampleKind,
    Feedback,
    Split,
    User,
    VersionStatus,
)
from app.datasets import changes, examples, nearest, parts, sameness, versions
from app.datasets.changes import Addition, Change
from app.datasets.doctor import checks
from app.datasets.mapping import Mapping
from app.datasets.privacy import reviews

FLAG = "feedback"  # in an example's flags: the row that it was made of
_PAIRS_OF = "pairs_of"  # in a version's `changes`: of which adapter's feedback it holds pairs


@dataclass(frozen=True)
class Made:
    """What became of the feedback that was chosen."""

    version: DatasetVersion
    # Where the held-out rows are a version of their own, and some of them were corrected.
    held_out: DatasetVersion | None
    num_used: int


@dataclass(frozen=True)
class Place:
    """Where a question is kept from practice; without an index it was, and is no longer."""

    version_id: int
    index: int | None
    part: Split  # what it means: check or test, in versions of two parts as well


Held = Callable[[Feedback], Place | None]


@dataclass(frozen=True)
class Pair:
    """A better answer and a worse one to one question."""

    question: str
    better: str
    worse: str
    rows: tuple[Feedback, ...]


@dataclass
class _Lessons:
    """What changes in which version, and which feedback that uses up."""

    added: list[Addition] = field(default_factory=list)
    # The right answers of rows that are kept from practice, by version and index.
    references: dict[tuple[int, int], Feedback] = field(default_factory=dict)
    used: list[Feedback] = field(default_factory=list)


def kinds(db: Session, adapter: Adapter) -> list[str]:
    """Return what an adapter's feedback can become: "examples", "pairs", both or nothing."""
    base = _base(db, adapter)
    kind = examples.kind(db, base) if base else None
    if kind is None or kind is ExampleKind.TEXT:
        return []
    return ["pairs"] if kind is ExampleKind.PREFERENCE else ["examples", "pairs"]


def make(
    db: Session, user: User, adapter: Adapter, chosen: Sequence[int], *, as_pairs: bool
) -> Made:
    """Make the next version of an adapter's data of some feedback, and mark that as used.

    Raises:
        Forbidden: viewers look only.
        Conflict: the data was deleted, or another version is being made.
        Invalid: nothing of it can become data so, or it is too little.
    """
    versions.require_editor(user)
    base = _base(db, adapter)
    if base is None:
        raise Conflict("The data that this model learned from was deleted.")
    if ("pairs" if as_pairs else "examples") not in kinds(db, adapter):
        raise Invalid("This cannot be made of data of this kind.", field="use_as")
    # Whoever comes second waits here, and then finds nothing that is not used.
    rows = db.scalars(
        select(Feedback)
        .where(
            Feedback.adapter_id == adapter.id,
            Feedback.id.in_(chosen),
            Feedback.used_at.is_(None),
        )
        .order_by(Feedback.id)
        .with_for_update()
    ).all()
    if not rows:
        raise Invalid("Choose what is to become data; what has become data is not taken again.")
    tested = _tested(db, adapter, base)
    held = _kept(db, base, tested, rows)
    system = _system(conversations.source(db, user, adapter).instruction)
    why = f"what people said of answers by “{adapter.name}”"
    if as_pairs:
        made, used = _of_pairs(db, user, adapter, base, pairs(rows), held, system, why)
        held_out = None
    else:
        lessons = _as_examples(rows, held, system)
        if not lessons.used:
            raise Invalid("None of these has a better answer, so there is no example to make.")
        made, held_out = _derive(db, user, base, tested, lessons, why)
        used = lessons.used
    for row in used:
        row.used_at, row.used_version_id = clock.NOW, made.id
    db.flush()
    subject = f"dataset version {made.id}"
    audit.record(db, user, "feedback.version", subject, adapter=adapter.id, number=len(used))
    return Made(made, held_out, len(used))


def pairs(rows: Sequence[Feedback]) -> list[Pair]:
    """Return what is preferred to what: corrections, and good answers to bad ones."""
    found = []
    good: dict[bytes, Feedback] = {}
    for row in rows:
        if row.better is not None and _same(row.better) != _same(row.answer):
            found.append(Pair(row.question, row.better, row.answer, (row,)))
        elif row.thumb == 1:
            good[_same(row.question)] = row  # the newest
    for row in rows:
        best = good.get(_same(row.question))
        if row.thumb != -1 or row.better is not None or best is None:
            continue
        if row.is_follow_up == best.is_follow_up and _same(row.answer) != _same(best.answer):
            found.append(Pair(row.question, best.answer, row.answer, (row, best)))
    return found


# --- the versions behind an adapter --------------------------------------------------------------


def _base(db: Session, adapter: Adapter) -> DatasetVersion | None:
    """Return the newest version of what the adapter learned from, or looks answers up in."""
    learned_from = adapter.job.version if adapter.job else None
    version = learned_from if adapter.has_weights else adapter.lookup_version
    if version is None or version.dataset.deleted_at is not None:
        return None
    return newest(db, version)


def newest(db: Session, version: DatasetVersion) -> DatasetVersion:
    """Return the newest version that is made from one; that itself where there is none."""
    query = select(DatasetVersion).where(
        DatasetVersion.dataset_id == version.dataset_id,
        DatasetVersion.status == VersionStatus.READY,
        DatasetVersion.number > version.number,
    )
    for later in db.scalars(query.order_by(DatasetVersion.number.desc())):
        if version.id in examples.layers(later):
            return later
    return version


def _tested(db: Session, adapter: Adapter, base: DatasetVersion) -> DatasetVersion:
    """Return the version whose rows are held out: the base itself, or one of its own."""
    job = adapter.job
    if job is None or job.validation_version_id is None:
        return base
    version = db.get_one(DatasetVersion, job.validation_version_id)
    return base if version.dataset.deleted_at is not None else newest(db, version)


def _kept(
    db: Session, base: DatasetVersion, tested: DatasetVersion, rows: Sequence[Feedback]
) -> Held:
    """Find out which questions are kept from practice, and as which rows.

    Of a version that only tests these are all, of the base those to check and to test with.

    Returns:
        What says where a question stands; None of one that may be practised.
    """
    wanted = {_same(row.question) for row in rows}
    found: dict[bytes, Place] = {}
    asked: dict[int, Place] = {}  # by the index that the Ask page knows: that of `tested`
    for version in dict.fromkeys((tested, base)):
        for batch in examples.stream(db, version):
            for example in batch:
                is_whole = version is not base
                part = Split.TEST if is_whole else parts.meant(version, example["split"])
                if part is Split.TRAIN:
                    continue
                question = _same(nearest.question_of(example["messages"])[0])
                if question in wanted:
                    place = Place(version.id, example["index"], part)
                    found.setdefault(question, place)
                    if version is tested:
                        asked[example["index"]] = place

    def place_of(row: Feedback) -> Place | None:
        if row.example_index is None:
            return found.get(_same(row.question))
        gone = Place(tested.id, None, Split.TEST)
        return asked.get(row.example_index) or found.get(_same(row.question), gone)

    return place_of


# --- as examples ---------------------------------------------------------------------------------


def _as_examples(
    rows: Sequence[Feedback],
    held: Held,
    system: list[dict[str, Any]],
) -> _Lessons:
    lessons = _Lessons()
    newest: dict[bytes, Feedback] = {}
    for row in rows:
        place = held(row)
        if row.better is None or (place is not None and place.index is None):
            continue
        lessons.used.append(row)
        if place is None or place.index is None:
            newest[_same(row.question)] = row  # of two answers to one question the later
        else:
            lessons.references[place.version_id, place.index] = row
    for row in newest.values():
        assert row.better is not None
        messages = [*system, _turn("user", row.question), _turn("assistant", row.better)]
        lessons.added.append(Addition(messages, flags={FLAG: row.id}))
    return lessons


def _derive(
    db: Session,
    user: User,
    base: DatasetVersion,
    tested: DatasetVersion,
    lessons: _Lessons,
    why: str,
) -> tuple[DatasetVersion, DatasetVersion | None]:
    corrected = _references(db, base, lessons)
    if tested.id == base.id:
        return changes.derive(db, user, base, corrected, why, added=lessons.added), None
    of_tests = _references(db, tested, lessons)
    held_out = changes.derive(db, user, tested, of_tests, why) if of_tests else None
    if not lessons.added and not corrected:
        if held_out is None:
            raise Conflict("The test questions were changed meanwhile; try again.")
        return held_out, None
    return changes.derive(db, user, base, corrected, why, added=lessons.added), held_out


def _references(db: Session, version: DatasetVersion, lessons: _Lessons) -> list[Change]:
    """Return how the rows of a version change whose right answers somebody gave."""
    return [
        change
        for (version_id, index), row in sorted(lessons.references.items())
        if version_id == version.id and (change := _reference(db, version, index, row.better or ""))
    ]


def _reference(db: Session, version: DatasetVersion, index: int, better: str) -> Change | None:
    """Say how a held-out row changes so that this is the right answer to its question."""
    row = examples.get(db, version, index)
    if row is None:
        return None
    messages = [dict(message) for message in row.messages]
    asked = False
    for message in messages:
        asked = asked or message["role"] == "user"
        if asked and message["role"] == "assistant":
            message["content"] = better
            return Change(index, messages=messages)
    return None


# --- as pairs ------------------------------------------------------------------------------------


def _of_pairs(
    db: Session,
    user: User,
    adapter: Adapter,
    base: DatasetVersion,
    found: Sequence[Pair],
    held: Held,
    system: list[dict[str, Any]],
    why: str,
) -> tuple[DatasetVersion, list[Feedback]]:
    usable = [
        (pair, place.part if place else Split.TRAIN)
        for pair in found
        if (place := held(pair.rows[0])) is None or place.index is not None
    ]
    if not usable:
        raise Invalid(
            "There is nothing to prefer to anything: it takes a better answer, or a good and a "
            "bad one to the same question."
        )
    used = list({row.id: row for pair, _ in usable for row in pair.rows}.values())
    added = [
        Addition(
            [
                *system,
                _turn("user", pair.question),
                _turn("assistant", pair.better) | {"rejected": pair.worse},
            ],
            part,
            {FLAG: pair.rows[0].id},
        )
        for pair, part in usable
    ]
    is_of_pairs = examples.kind(db, base) is ExampleKind.PREFERENCE
    before = base if is_of_pairs else _pairs_before(db, adapter, base)
    if before is None:
        return _whole(db, adapter, base, added, why), used
    added = [replace(one, split=parts.stored(before, one.split)) for one in added]
    return changes.derive(db, user, before, [], why, added=added), used


def _pairs_before(db: Session, adapter: Adapter, base: DatasetVersion) -> DatasetVersion | None:
    """Return the newest version of this adapter's earlier pairs, to which new ones are added."""
    query = select(DatasetVersion).where(
        DatasetVersion.dataset_id == base.dataset_id, DatasetVersion.status == VersionStatus.READY
    )
    for version in db.scalars(query.order_by(DatasetVersion.number)):
        if (version.changes or {}).get(_PAIRS_OF) == adapter.id:
            return newest(db, version)
    return None


def _whole(
    db: Session,
    adapter: Adapter,
    base: DatasetVersion,
    added: Sequence[Addition],
    why: str,
) -> DatasetVersion:
    """Make a version that holds these pairs alone: they stand in no version of other rows."""
    wanted = settings.get().min_examples
    if len(added) < wanted:
        raise Invalid(
            f"This makes {len(added)} pairs, and training needs at least {wanted}; collect more, "
            "or make examples of the corrections."
        )
    versions.lock(db, base)
    if base.dataset.deleted_at is not None:
        raise Conflict("The data that this model learned from was deleted.")
    made = versions.next_version(db, base)
    # What is read from the file, and how, says nothing about these; nor are they its rows changed.
    made.base_version_id = made.inspection = made.read_as = None
    made.mapping = Mapping.model_validate(
        {"columns": {"question": "question", "better": "better", "worse": "worse"}}
    ).model_dump(mode="json")
    made.validation_share, made.split_seed = base.validation_share, base.split_seed
    seed = made.split_seed.to_bytes(8, "big")
    ranks = array("Q", (sameness.number(sameness.question(a.messages), seed) for a in added))
    free = array(
        "Q",
        (rank for rank, one in zip(ranks, added, strict=True) if one.split is Split.TRAIN),
    )
    drawn = parts.draw(free, made.validation_share)
    splits = [
        drawn.split(rank) if one.split is Split.TRAIN else one.split
        for one, rank in zip(added, ranks, strict=True)
    ]
    parts.set_counts(made, splits)
    if made.num_train == 0:
        raise Invalid("All of these are test questions, so nothing would be left to practise.")
    rows = [
        {
            "version_id": made.id,
            "index": index,
            "split": split,
            "kind": ExampleKind.PREFERENCE,
            "messages": one.messages,
            "flags": one.flags,
        }
        for index, (one, split) in enumerate(zip(added, splits, strict=True))
    ]
    db.execute(insert(Example), rows)
    made.changes = {"why": why, "num_added": len(rows), _PAIRS_OF: adapter.id}
    made.status, made.ready_at = VersionStatus.READY, clock.NOW
    db.flush()
    made.examples_sha256 = examples.sha256(db, made)
    reviews.begin(db, made.id)
    checks.want(db, made)
    return made


def _system(instruction: str) -> list[dict[str, Any]]:
    return [_turn("system", instruction)] if instruction else []


def _turn(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def _same(text: str) -> bytes:
    """Return a text as it is compared: as two questions are when a version is split."""
    return sameness.whole([_turn("user", text)])
