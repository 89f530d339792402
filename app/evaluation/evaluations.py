"""Evaluations: asked for, drawn, answered some questions at a time, ended; the only writer of them.

    waiting -> evaluating -> done, failed or cancelled    under a lease (app/core/leases.py)

Questions are drawn once, in a seeded order, and asked in blocks. What was answered of a block is
kept in the transaction that renews the lease, all of it or nothing: whoever goes on after a crash
begins with the block that was being asked. A job's notice waits for the end of the evaluation that
follows it, and is written in the transaction of that end.
"""

import random
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, exists, func, insert, literal, select, update
from sqlalchemy.orm import Session

from app import notices
from app.base_models import registry as base_models
from app.core import audit, bins, clock, leases, settings
from app.core.errors import Conflict, Forbidden, Invalid
from app.core.leases import Lease, LeaseLost
from app.core.models import (
    Adapter,
    Arm,
    BaseModel,
    DatasetVersion,
    Evaluation,
    EvaluationAnswer,
    EvaluationQuestion,
    EvaluationStatus,
    ExampleKind,
    Finish,
    Json,
    Mark,
    Part,
    Release,
    Role,
    Split,
    User,
    VersionStatus,
    Worker,
)
from app.datasets import adding, examples, parts, sameness, versions
from app.datasets.practised import Practised
from app.datasets.privacy import reviews
from app.evaluation import arms as asking
from app.evaluation import dont_know, general_questions, own_questions, verdict, words
from app.jobs import afterwards
from app.jobs import practice as practising
from app.people.auth import can_edit

OPEN = (EvaluationStatus.WAITING, EvaluationStatus.EVALUATING)
# So many test questions are asked side by side, and as many of what was practised.
BLOCK = 8
# So many are answered even where the time is over, up to three times that time.
LEAST_QUESTIONS = 24
_MOST_TIMES = 3
_TUNED_ARMS = (Arm.TUNED, Arm.BASE, Arm.LOOKUP, Arm.NEAREST)
_CURVE_ARMS = (Arm.TUNED, Arm.BASE)
_OF_OURS = (Part.UNANSWERABLE, Part.GENERAL)
_UNTRAINED_ARMS = (Arm.BASE, Arm.LOOKUP, Arm.NEAREST)
# Nobody who trains was heard of for so long: nobody will answer either.
_HOPELESS_AFTER = timedelta(days=1)

WITHDRAWN = "“{name}” was withdrawn, so it answers no questions; release it first."
NO_QUESTIONS = (
    "There are no test questions: no row of the test set has both a question and an answer. Add "
    "rows, or upload them with a test set of their own."
)
_ALL_PRACTISED = (
    "There are no test questions: each row of the test set was practised by this trained model, "
    "or by "
    "one before it. Add new rows."
)
_UNKNOWN_ROWS = (
    "Which rows an earlier trained model practised is not known any more, as its data was "
    "deleted; what "
    "is counted on rows that were practised says nothing."
)
_NOBODY = (
    "For a day no machine that trains was there to answer the questions. Ask your administrator to "
    "start one, and then start the evaluation again."
)


class Unanswerable(Exception):
    """An evaluation cannot go on; a sentence for a person."""


# --- asking for one --------------------------------------------------------------------------


def request_after_job(db: Session, adapter: Adapter) -> Evaluation | None:
    """Have a new adapter evaluated, in the transaction that publishes it.

    Where this site evaluates nothing by itself, its job's notice is written at once. A point of a
    learning curve is evaluated all the same: without that the job would be for nothing.
    """
    job = adapter.job
    assert job is not None
    if job.curve_id is not None:
        made = _add(db, adapter, job.owner_id, _CURVE_ARMS, follows_job=True)
        # Of the practice rows only a part was practised, and none is looked up.
        made.practice_version_id = None
        db.flush()
        return made
    if not settings.get().evaluate_after_training:
        notices.job_ended(db, job.id)
        return None
    return _add(db, adapter, job.owner_id, _TUNED_ARMS, follows_job=True)


def request(
    db: Session,
    user: User,
    adapter: Adapter,
    *,
    version: DatasetVersion | None = None,
    all_rows: bool = False,
    with_tuned_lookup: bool = False,
    also_asks: Sequence[Part] = (),
) -> Evaluation:
    """Have an adapter evaluated because a person wants it; the caller rings gpu after the commit.

    Args:
        version: Whose test rows are asked; none: those that were set apart from its own data. Rows
            that it practised are left out.
        all_rows: Whether all rows of that version are asked, as of a file of its own for testing.
        also_asks: What else is asked: what the data cannot answer (does it make something up?), and
            general questions, Etude's and the department's own (has it forgotten something?).
        with_tuned_lookup: Whether it is asked with practice rows in its prompt as well.

    Raises:
        Forbidden: the person may only look.
        NotFound: its data was deleted.
        Conflict: it is being evaluated, was withdrawn, or nobody knows what it learned from.
    """
    _require_editor(user)
    if not adapter.has_weights and adapter.lookup_version is not None:
        return request_untrained(db, user, adapter.lookup_version, adapter.base_model)
    # Of two who press the button at once, the second waits for this lock and sees the first's.
    db.refresh(adapter, with_for_update={"of": Adapter})
    if adapter.job is None:
        raise Conflict(
            "The job of this trained model was deleted, so its test questions are not known any "
            "more."
        )
    versions.get_version(db, user, adapter.job.version_id)
    if adapter.job.validation_version_id is not None:
        versions.get_version(db, user, adapter.job.validation_version_id)
    if adapter.binned_at is not None:
        raise bins.in_the_bin(adapter.name)
    if adapter.release is Release.WITHDRAWN:
        raise Conflict(WITHDRAWN.format(name=adapter.name))
    if _is_open(db, Evaluation.adapter_id == adapter.id):
        raise Conflict(
            "This trained model is being evaluated already; wait for it, or cancel that."
        )
    arms = (*_TUNED_ARMS, Arm.TUNED_LOOKUP) if with_tuned_lookup else _TUNED_ARMS
    made = _add(db, adapter, user.id, arms, follows_job=False)
    made.also_asks = [part.value for part in Part if part in also_asks and part in _OF_OURS]
    if version is not None:
        _require_ready(db, user, version)
        made.version_id, made.all_rows = version.id, all_rows
        db.flush()
        db.refresh(made)
    audit.record(db, user, "evaluation.start", f"evaluation {made.id}", adapter=adapter.id)
    return made


def request_untrained(
    db: Session, user: User, version: DatasetVersion, base_model: BaseModel
) -> Evaluation:
    """Have a starting model and looking up tried on a version's test questions, without training.

    The caller rings gpu after the commit.

    Raises:
        Forbidden: the person may only look.
        NotFound: the data was deleted.
        Invalid: the data is text to go on with, which has no right answers.
        Conflict: version or model are not ready, or this is being checked already.
    """
    _require_editor(user)
    _require_ready(db, user, version)
    base_models.folder(base_model)
    same = (
        Evaluation.adapter_id.is_(None),
        Evaluation.version_id == version.id,
        Evaluation.base_model_id == base_model.id,
    )
    if _is_open(db, *same):
        raise Conflict("This is being checked already; wait for it, or cancel that.")
    made = Evaluation(
        department_id=version.dataset.department_id,
        owner_id=user.id,
        base_model_id=base_model.id,
        version_id=version.id,
        practice_version_id=version.id,
        arms=list(_UNTRAINED_ARMS),
        budget_seconds=afterwards.evaluation_seconds(None),
    )
    db.add(made)
    db.flush()
    audit.record(db, user, "evaluation.start", f"evaluation {made.id}", version=version.id)
    return made


def _require_ready(db: Session, user: User, version: DatasetVersion) -> None:
    versions.get_version(db, user, version.id)
    db.refresh(version, with_for_update={"of": DatasetVersion})
    is_settled = db.scalar(select(reviews.settled(literal(version.id))))
    if version.status is not VersionStatus.READY or not is_settled:
        raise Conflict("This version is not ready yet; wait until it has been read and checked.")
    if examples.kind(db, version) is ExampleKind.TEXT:
        raise Invalid("Plain text has no right answers, so there is nothing to count.")


def _add(
    db: Session, adapter: Adapter, owner_id: int, arms: Sequence[Arm], *, follows_job: bool
) -> Evaluation:
    job = adapter.job
    assert job is not None
    made = Evaluation(
        department_id=adapter.department_id,
        owner_id=owner_id,
        adapter_id=adapter.id,
        base_model_id=adapter.base_model_id,
        version_id=job.validation_version_id or job.version_id,
        practice_version_id=job.version_id,
        all_rows=job.validation_version_id is not None,
        follows_job=follows_job,
        arms=list(arms),
        budget_seconds=afterwards.evaluation_seconds((job.plan or {}).get("seconds")),
    )
    db.add(made)
    db.flush()
    return made


# --- ending it -------------------------------------------------------------------------------


def may_cancel(user: User, row: Evaluation) -> bool:
    """Say whether a person may stop it: who asked for it, a lead, or an administrator."""
    if user.role is Role.ADMIN:
        return True
    if user.department_id != row.department_id or not can_edit(user):
        return False
    return user.role is Role.LEAD or user.id == row.owner_id


def cancel(db: Session, user: User, row: Evaluation) -> None:
    """Stop one; a worker that has it is fenced off.

    Raises:
        Forbidden: the person may not.
        Conflict: it is over.
    """
    if not may_cancel(user, row):
        raise Forbidden(
            "Only who started this evaluation, your department's lead or an administrator can "
            "cancel it."
        )
    db.refresh(row, with_for_update={"of": Evaluation})
    if row.status not in OPEN:
        raise Conflict("This evaluation is over already, so it cannot be cancelled.")
    row.status, row.finished_at = EvaluationStatus.CANCELLED, func.now()
    row.worker_id = row.lease_until = row.progress = None
    db.flush()
    audit.record(db, user, "evaluation.cancel", f"evaluation {row.id}")
    _tell(db, row.id)


def given_up(db: Session, ids: Sequence[int]) -> None:
    """End what was failed without a result, in the transaction that failed it.

    Args:
        ids: Of rows that came back from workers; only those that failed by that are ended.
    """
    for row_id in ids:
        ended = db.scalar(
            update(Evaluation)
            .where(
                Evaluation.id == row_id,
                Evaluation.status == EvaluationStatus.FAILED,
                Evaluation.finished_at.is_(None),
            )
            .values(finished_at=clock.NOW)
            .returning(Evaluation.id)
            .execution_options(synchronize_session=False)
        )
        if ended is not None:
            _tell(db, ended)


def fail_hopeless(db: Session) -> list[int]:
    """Fail what has waited for a day while no worker that trains was there."""
    since = clock.NOW - _HOPELESS_AFTER
    lives = exists().where(Worker.queue == "gpu", Worker.last_seen > since)
    waiting = (
        select(Evaluation.id)
        .where(Evaluation.status == EvaluationStatus.WAITING, Evaluation.created_at < since, ~lives)
        .with_for_update(skip_locked=True, of=Evaluation)
        .scalar_subquery()
    )
    failed = db.scalars(
        update(Evaluation)
        .where(Evaluation.id.in_(waiting))
        .values(status=EvaluationStatus.FAILED, reason=_NOBODY)
        .returning(Evaluation.id)
        .execution_options(synchronize_session=False)
    ).all()
    given_up(db, failed)
    return list(failed)


def _tell(db: Session, evaluation_id: int) -> None:
    """Write the notice of the job that an evaluation follows; each job's is written once."""
    job_id = db.scalar(
        select(Adapter.job_id)
        .join(Evaluation, Evaluation.adapter_id == Adapter.id)
        .where(Evaluation.id == evaluation_id, Evaluation.follows_job)
    )
    if job_id is None:
        return
    row = db.get_one(Evaluation, evaluation_id, populate_existing=True)
    figures = verdict.figures_of(row)
    tally = figures.arms.get(verdict.main_arm(row))
    if tally is None or not tally.num or row.status is not EvaluationStatus.DONE:
        notices.job_ended(db, job_id)
        return
    counts = {**tally.model_dump(), "num": tally.num, "verdict": row.standing}
    notices.job_ended(db, job_id, words.headline(row, figures), counts)


def _is_open(db: Session, *conditions: object) -> bool:
    query = select(Evaluation.id).where(Evaluation.status.in_(OPEN), *conditions)  # type: ignore[arg-type]
    return db.scalar(query.limit(1)) is not None


def _require_editor(user: User) -> None:
    if not can_edit(user):
        raise Forbidden("You can look at evaluations, but not start them.")


# --- the worker's side -----------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """One question, and who answers it."""

    position: int
    part: Part
    before: list[Json]  # the turns before the answer
    reference: Json
    tools: list[Json] | None
    arms: list[Arm]


@dataclass(frozen=True)
class Kept:
    """What one arm said to one question."""

    position: int
    arm: Arm
    text: str
    finish: Finish
    sources: list[Json] | None
    mark: Mark
    why: str
    about: str | None = None


@dataclass(frozen=True)
class Far:
    """How far an evaluation is, in test questions."""

    num_answered: int
    num_drawn: int
    spent_seconds: float
    budget_seconds: float

    @property
    def is_enough(self) -> bool:
        """Whether nothing more is to be asked."""
        if self.num_answered >= self.num_drawn:
            return True
        if self.num_answered < min(LEAST_QUESTIONS, self.num_drawn):
            return self.spent_seconds >= _MOST_TIMES * self.budget_seconds
        return self.spent_seconds >= self.budget_seconds


def held(db: Session, lease: Lease) -> Evaluation:
    """Return the row that is held.

    Raises:
        LeaseLost: it was cancelled or deleted, or another worker may have it.
    """
    row = db.get(Evaluation, lease.id, populate_existing=True)
    if row is None or (row.attempt, row.status) != (lease.attempt, lease.status):
        raise LeaseLost(f"evaluation {lease.id}, attempt {lease.attempt}")
    return row


def require_usable(row: Evaluation) -> None:
    """Look whether what is to be asked is still there.

    Raises:
        Unanswerable: its adapter was withdrawn, or its data is gone.
    """
    if row.adapter is not None and row.adapter.release is Release.WITHDRAWN:
        raise Unanswerable(WITHDRAWN.format(name=row.adapter.name))
    gone = row.version.dataset.deleted_at is not None
    if row.practice_version is not None:
        gone |= row.practice_version.dataset.deleted_at is not None
    if gone:
        raise Unanswerable("Its data was deleted, and with it the test questions.")


def draw(db: Session, lease: Lease, beat: Callable[[], object] = lambda: None) -> None:
    """Draw the questions, unless an earlier attempt has.

    Args:
        beat: Called while rows are read; it may raise.

    Raises:
        LeaseLost: as for held.
        Unanswerable: there is nothing to ask.
    """
    row = held(db, lease)
    require_usable(row)
    if row.num_questions or not row.arms:
        return
    if examples.kind(db, row.version) is ExampleKind.TEXT:
        leases.renew(db, lease, arms=[])
        return
    tests = _shuffled(_test_rows(db, row, beat), row.seed)
    num_rows = len(tests)
    tests = tests[: settings.get().evaluation_questions]
    drawn = [(Part.TEST, row.version, tests)]
    job = row.adapter.job if row.adapter is not None else None
    has_practised_all = job is not None and job.rows_percent == 100
    if Arm.TUNED in row.arms and row.practice_version is not None and has_practised_all:
        known = _practice_rows(db, row.practice_version, practised_splits(row), beat)
        practised = _shuffled(known, row.seed)
        drawn.append((Part.PRACTICE, row.practice_version, practised[: len(tests)]))
    questions = [one for part in drawn for one in _placed(db, row.id, *part)]
    questions += _of_ours(db, row)
    leases.renew(db, lease, num_rows=num_rows, num_questions=len(questions))
    db.execute(delete(EvaluationQuestion).where(EvaluationQuestion.evaluation_id == row.id))
    db.execute(insert(EvaluationQuestion), questions)


def practised_splits(row: Evaluation) -> frozenset[Split]:
    """Return the splits whose rows are practised, and so are looked up.

    Where a file of its own is tested on, a version's test part is practised as well.
    """
    version = row.practice_version
    if version is None or row.version_id == version.id:
        return frozenset({Split.TRAIN})
    return frozenset({Split.TRAIN, parts.test_split(version)})


def far(db: Session, row: Evaluation) -> Far:
    """Say how far an evaluation is."""
    drawn = select(func.count()).where(
        EvaluationQuestion.evaluation_id == row.id, EvaluationQuestion.part == Part.TEST
    )
    num_drawn = db.scalar(drawn) or 0
    return Far(row.num_answered, num_drawn, row.spent_seconds, row.budget_seconds)


def next_questions(db: Session, lease: Lease) -> list[Question]:
    """Return the next block of questions; none once enough was asked.

    Raises:
        LeaseLost: as for held.
        Unanswerable: what is to be asked is gone, or there was no time to answer anything.
    """
    row = held(db, lease)
    require_usable(row)
    stands = far(db, row)
    if stands.is_enough:
        if row.arms and not stands.num_answered:
            raise Unanswerable(
                "Not one question could be answered in the time there was; choose a smaller "
                "starting model, or a faster machine."
            )
        return []
    last = select(func.max(EvaluationAnswer.position)).where(
        EvaluationAnswer.evaluation_id == row.id
    )
    answered = db.scalar(last)
    if answered is None:
        begin = select(func.min(EvaluationQuestion.position))
        lowest = db.scalar(begin.where(EvaluationQuestion.evaluation_id == row.id)) or 0
        first = lowest // (2 * BLOCK) * 2 * BLOCK
    else:
        first = (answered // (2 * BLOCK) + 1) * 2 * BLOCK
    drawn = db.scalars(
        select(EvaluationQuestion)
        .where(
            EvaluationQuestion.evaluation_id == row.id,
            EvaluationQuestion.position.between(first, first + 2 * BLOCK - 1),
        )
        .order_by(EvaluationQuestion.position)
    ).all()
    return _written_out(db, row, drawn)


def references(db: Session, row: Evaluation) -> Iterator[Json]:
    """Yield the right answers of the test questions, as far as they are drawn."""
    indices = db.scalars(
        select(EvaluationQuestion.index).where(
            EvaluationQuestion.evaluation_id == row.id, EvaluationQuestion.part == Part.TEST
        )
    ).all()
    for example in examples.at(db, row.version, [index for index in indices if index is not None]):
        turn = asking.last_turn(example.messages)
        if turn is not None:
            yield turn.reference


def keep(
    db: Session, lease: Lease, kept: Sequence[Kept], num_new: int, seconds: float, progress: Json
) -> None:
    """Keep what was said to a block of questions, and hold on; all of it or nothing.

    An attempt that got so far was no strike.

    Args:
        num_new: How many test questions of it every arm has answered.
        seconds: That it took.

    Raises:
        LeaseLost: as for held; roll back.
    """
    leases.renew(
        db,
        lease,
        progress,
        num_answered=Evaluation.num_answered + num_new,
        spent_seconds=Evaluation.spent_seconds + seconds,
        strikes=0,
    )
    db.execute(
        insert(EvaluationAnswer),
        [
            {
                "evaluation_id": lease.id,
                "position": one.position,
                "arm": one.arm,
                # PostgreSQL's text knows no NUL, and a model may say anything.
                "text": one.text.replace("\0", "\ufffd"),
                "finish": one.finish,
                "sources": one.sources,
                "mark": one.mark,
                "why": one.why,
                "about": one.about,
            }
            for one in kept
        ],
    )


def begin(db: Session, lease: Lease, engine: str) -> None:
    """Write down which engine answers, and since when.

    Raises:
        LeaseLost: as for held.
    """
    started = func.coalesce(Evaluation.started_at, clock.NOW)
    leases.renew(db, lease, engine=engine, started_at=started)


def finish(db: Session, lease: Lease) -> None:
    """End an evaluation well: count, and write the notice of its job.

    Raises:
        LeaseLost: as for held; roll back.
    """
    leases.release(db, lease, EvaluationStatus.DONE, reason=None, finished_at=clock.NOW)
    row = db.get_one(Evaluation, lease.id, populate_existing=True)
    verdict.count(db, row)
    db.flush()
    _tell(db, row.id)


def _test_rows(db: Session, row: Evaluation, beat: Callable[[], object]) -> "array[int]":
    """Return the indices of the rows that may be asked.

    Raises:
        Unanswerable: there is none.
    """
    known = _practised(db, row, beat)
    split = None if row.all_rows else parts.test_split(row.version)
    found, num_seen = array("i"), 0
    for batch in examples.stream(db, row.version, split):
        beat()
        for example in batch:
            if asking.last_turn(example["messages"]) is not None:
                num_seen += 1
                if known is None or example["messages"] not in known:
                    found.append(example["index"])
    if not found:
        raise Unanswerable(_ALL_PRACTISED if num_seen else NO_QUESTIONS)
    return found


def _practised(db: Session, row: Evaluation, beat: Callable[[], object]) -> Practised | None:
    """Return the rows that an adapter practised; None: none of those that are asked.

    Raises:
        Unanswerable: nobody knows them any more.
    """
    adapter = row.adapter
    if adapter is None or (not adapter.lineage and not _is_foreign(row)):
        return None
    found = practising.known(db, adapter, beat=beat)
    if found is None or not found.is_complete:
        raise Unanswerable(_UNKNOWN_ROWS)
    return found.rows


def _is_foreign(row: Evaluation) -> bool:
    """Say whether the rows were set apart from other data than the adapter's own."""
    job = row.adapter.job if row.adapter is not None else None
    return job is None or row.version_id != (job.validation_version_id or job.version_id)


def _practice_rows(
    db: Session,
    version: DatasetVersion,
    splits: frozenset[Split],
    beat: Callable[[], object],
) -> "array[int]":
    found = array("i")
    for batch in examples.stream(db, version):
        beat()
        for example in batch:
            if example["split"] in splits and asking.last_turn(example["messages"]) is not None:
                found.append(example["index"])
    return found


def _shuffled(rows: "array[int]", seed: int) -> list[int]:
    return random.Random(seed).sample(rows, len(rows))  # noqa: S311 (an order, no secret)


def _placed(
    db: Session, evaluation_id: int, part: Part, version: DatasetVersion, indices: list[int]
) -> Iterator[Json]:
    """Yield questions with their places: of each block, those of the test part come first."""
    first = 0 if part is Part.TEST else BLOCK
    rows = {example.index: example for example in examples.at(db, version, indices)}
    for number, index in enumerate(indices):
        turn = asking.last_turn(rows[index].messages)
        assert turn is not None
        yield {
            "evaluation_id": evaluation_id,
            "position": number // BLOCK * 2 * BLOCK + first + number % BLOCK,
            "part": part,
            "index": index,
            "group": _group(turn.before),
        }


def _of_ours(db: Session, row: Evaluation) -> list[Json]:
    """Return the questions of ours that are asked as well, before those of the data.

    They stand at places below 0, a whole number of blocks, so that time for them is there.
    """
    wanted = [Part(name) for name in row.also_asks]
    if not wanted:
        return []
    language, told = (
        dont_know.language_of(db, row.version),
        adding.instruction(db, row.practice_version or row.version),
    )
    found: list[Json] = [
        {
            "part": part,
            "messages": [*told, {"role": "user", "content": question}],
            "reference": reference,
        }
        for asked in wanted
        for part, question, reference in _questions_of_ours(db, row, asked, language)
    ]
    first = -(-len(found) // (2 * BLOCK)) * -2 * BLOCK
    return [
        {
            "evaluation_id": row.id,
            "position": position,
            "group": _group(one["messages"]),
            "index": None,
            **one,
        }
        for position, one in enumerate(found, first)
    ]


def _questions_of_ours(
    db: Session, row: Evaluation, part: Part, language: str
) -> list[tuple[Part, str, str]]:
    if part is not Part.GENERAL:
        return [(part, one.question, "") for one in dont_know.asked(language)]
    ours = own_questions.general(language)
    of_site = general_questions.of_department(db, row.department_id)
    return [
        *((Part.GENERAL, one.question, one.reference) for one in ours),
        *((Part.SITE, one.question, one.answer) for one in of_site),
    ]


def _group(before: Sequence[Json]) -> int:
    """Return the same number for equal questions, of 64 bits with a sign."""
    said = [{"role": turn["role"], "content": turn.get("content") or ""} for turn in before]
    return sameness.number(sameness.whole(said), b"") - 2**63


def _written_out(
    db: Session, row: Evaluation, drawn: Sequence[EvaluationQuestion]
) -> list[Question]:
    of_part = {Part.TEST: row.version, Part.PRACTICE: row.practice_version}
    known = [Arm(arm) for arm in row.arms]
    found = [
        Question(
            one.position,
            one.part,
            list(one.messages),
            {"role": "assistant", "content": one.reference or ""},
            None,
            asking.of(one.part, known),
        )
        for one in drawn
        if one.messages is not None
    ]
    for part, version in of_part.items():
        indices = [one.index for one in drawn if one.part is part and one.index is not None]
        if version is None or not indices:
            continue
        rows = {example.index: example for example in examples.at(db, version, indices)}
        for one in drawn:
            example = rows.get(one.index) if one.part is part and one.index is not None else None
            turn = asking.last_turn(example.messages) if example is not None else None
            if example is None or turn is None:
                continue
            answering = asking.of(part, known)
            tools = example.tools or None
            found.append(
                Question(one.position, part, turn.before, turn.reference, tools, answering)
            )
    return found
