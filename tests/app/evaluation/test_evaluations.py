"""Evaluations: who may ask for one, what is drawn, when it is enough, who is told of its end."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.adapters import registry as adapters
from app.core import leases, settings
from app.core.errors import Conflict, Forbidden, Invalid, NotFound
from app.core.leases import EVALUATIONS, Lease, LeaseLost
from app.core.models import (
    Adapter,
    Arm,
    DatasetVersion,
    Evaluation,
    EvaluationAnswer,
    EvaluationQuestion,
    EvaluationStatus,
    Example,
    ExampleKind,
    Finish,
    JobStatus,
    Mark,
    Notice,
    NoticeKind,
    Part,
    Release,
    Role,
    Split,
    Standing,
    VersionStatus,
    Worker,
)
from app.datasets import deletion, practised
from app.evaluation import evaluations, reading
from app.evaluation.evaluations import Far, Kept, Question, Unanswerable
from app.jobs import afterwards, practice
from tests.factories import (
    make_adapter,
    make_base_model,
    make_dataset_version,
    make_department,
    make_job,
    make_user,
)

ME = "gpu-0@test"


def an_adapter(db: Session, version: DatasetVersion | None = None, **job: Any) -> Adapter:
    version = version or make_dataset_version(db, num_train=40, num_validation=30)
    made = make_job(db, version=version, status=JobStatus.SUCCEEDED, **job)
    return make_adapter(db, job=made)


def followed(db: Session, adapter: Adapter | None = None) -> Evaluation:
    row = evaluations.request_after_job(db, adapter or an_adapter(db))
    assert row is not None
    db.commit()
    return row


def claim(db: Session) -> Lease:
    lease = leases.claim(db, EVALUATIONS, ME)
    assert lease is not None
    db.commit()
    return lease


def drawn(db: Session, row: Evaluation, part: Part = Part.TEST) -> list[EvaluationQuestion]:
    query = select(EvaluationQuestion).where(
        EvaluationQuestion.evaluation_id == row.id, EvaluationQuestion.part == part
    )
    return list(db.scalars(query.order_by(EvaluationQuestion.position)))


def answers_to(questions: Sequence[Question]) -> list[Kept]:
    return [
        Kept(one.position, arm, "Yes.", Finish.STOP, None, Mark.WRONG, "other words")
        for one in questions
        for arm in one.arms
    ]


def keep_next(db: Session, lease: Lease, seconds: float = 1) -> list[Question]:
    questions = evaluations.next_questions(db, lease)
    num_new = sum(one.part is Part.TEST for one in questions)
    if questions:
        evaluations.keep(db, lease, answers_to(questions), num_new, seconds, {"done": 1})
        db.commit()
    return questions


def told(db: Session) -> list[NoticeKind]:
    return list(db.scalars(select(Notice.kind).order_by(Notice.id)))


# --- asking for one


def test_a_new_adapter_is_evaluated_and_its_notice_waits(db: Session) -> None:
    row = followed(db)
    assert (row.status, row.follows_job) == (EvaluationStatus.WAITING, True)
    assert row.arms == ["tuned", "base", "lookup", "nearest"]
    assert row.budget_seconds == 120  # nobody had planned it
    assert told(db) == []
    lease = claim(db)
    evaluations.draw(db, lease)
    while keep_next(db, lease):
        assert told(db) == []
    evaluations.finish(db, lease)
    db.commit()
    db.refresh(row)
    assert row.status is EvaluationStatus.DONE
    assert row.finished_at is not None
    assert told(db) == [NoticeKind.JOB_SUCCEEDED]


def test_a_site_that_evaluates_nothing_by_itself_tells_at_once(
    db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_EVALUATE_AFTER_TRAINING", "false")
    settings.get.cache_clear()
    assert evaluations.request_after_job(db, an_adapter(db)) is None
    assert told(db) == [NoticeKind.JOB_SUCCEEDED]
    settings.get.cache_clear()


def test_the_budget_is_a_fifth_of_the_planned_time_within_bounds() -> None:
    assert afterwards.evaluation_seconds(None) == 120
    assert afterwards.evaluation_seconds(60) == 120
    assert afterwards.evaluation_seconds(1500) == 300
    assert afterwards.evaluation_seconds(86_400) == 900


def test_one_at_a_time_and_not_by_those_who_only_look(db: Session) -> None:
    adapter = an_adapter(db)
    owner = adapter.job.owner if adapter.job else make_user(db)
    with pytest.raises(Forbidden):
        evaluations.request(db, make_user(db, role=Role.VIEWER), adapter)
    row = evaluations.request(db, owner, adapter, with_tuned_lookup=True)
    assert row.arms[-1] == "tuned_lookup"
    assert not row.follows_job
    with pytest.raises(Conflict, match="already"):
        evaluations.request(db, owner, adapter)
    evaluations.cancel(db, owner, row)
    assert evaluations.request(db, owner, adapter).id != row.id


def test_what_is_withdrawn_or_without_data_is_not_evaluated(db: Session) -> None:
    adapter = an_adapter(db)
    assert adapter.job is not None
    user = adapter.job.owner
    adapter.release = Release.WITHDRAWN
    db.commit()
    with pytest.raises(Conflict, match="withdrawn"):
        evaluations.request(db, user, adapter)
    adapter.release = Release.PRIVATE
    db.commit()
    deletion.delete_dataset(db, user, adapter.job.version.dataset)
    with pytest.raises(NotFound):
        evaluations.request(db, user, adapter)


def test_a_version_is_checked_without_training(db: Session) -> None:
    version, base = make_dataset_version(db), make_base_model(db)
    user = version.dataset.owner
    row = evaluations.request_untrained(db, user, version, base)
    assert row.arms == ["base", "lookup", "nearest"]
    assert row.adapter_id is None
    with pytest.raises(Conflict, match="already"):
        evaluations.request_untrained(db, user, version, base)
    text = make_dataset_version(db, kind=ExampleKind.TEXT)
    with pytest.raises(Invalid, match="nothing to count"):
        evaluations.request_untrained(db, user, text, base)
    unread = make_dataset_version(db, status=VersionStatus.MAPPING)
    with pytest.raises(Conflict, match="not ready"):
        evaluations.request_untrained(db, user, unread, base)
    lease = claim(db)
    evaluations.draw(db, lease)
    assert drawn(db, row, Part.PRACTICE) == []  # nothing was practised


def test_those_of_another_department_find_none(db: Session) -> None:
    row = followed(db)
    stranger = make_user(db, department=make_department(db))
    with pytest.raises(NotFound):
        reading.get(db, stranger, row.id)
    with pytest.raises(Forbidden):
        evaluations.cancel(db, stranger, row)


# --- the questions


def test_questions_are_drawn_once_in_an_order_that_stays(db: Session) -> None:
    version = make_dataset_version(db, num_train=40, num_validation=30)
    orders = []
    for _ in range(2):
        row = followed(db, an_adapter(db, version))
        lease = claim(db)
        evaluations.draw(db, lease)
        evaluations.draw(db, lease)  # a second attempt finds them drawn
        db.commit()
        db.refresh(row)
        tests, known = drawn(db, row), drawn(db, row, Part.PRACTICE)
        assert (row.num_rows, row.num_questions) == (30, 60)
        assert sorted(one.index for one in tests if one.index) == list(range(40, 70))
        assert [one.index for one in tests] != list(range(40, 70))
        assert all(one.index is not None and one.index < 40 for one in known)
        # Each block has both parts: what is cut short has practised rows, too.
        assert [one.position for one in tests[:9]] == [*range(8), 16]
        assert known[0].position == 8
        orders.append([(one.position, one.index) for one in tests + known])
    assert orders[0] == orders[1]


def test_of_a_large_test_set_a_sample_is_drawn(
    db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_EVALUATION_QUESTIONS", "24")
    settings.get.cache_clear()
    row = followed(db)
    evaluations.draw(db, claim(db))
    db.commit()
    db.refresh(row)
    assert (row.num_rows, len(drawn(db, row))) == (30, 24)
    settings.get.cache_clear()


def test_equal_questions_are_one_group(db: Session) -> None:
    version = make_dataset_version(db, num_train=2, num_validation=3)
    for index, question in ((2, "Where is SOAP?"), (3, "where is soap?"), (4, "Where is tea?")):
        example = db.get_one(Example, (version.id, index))
        example.messages = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": f"Shelf {index}."},
        ]
    db.commit()
    row = followed(db, an_adapter(db, version))
    evaluations.draw(db, claim(db))
    groups = {one.index: one.group for one in drawn(db, row)}
    assert groups[2] == groups[3] != groups[4]


def test_a_version_of_its_own_is_the_test_part_whole(db: Session) -> None:
    own = make_dataset_version(db, num_train=5, num_validation=2)
    row = followed(db, an_adapter(db, validation_version_id=own.id))
    evaluations.draw(db, claim(db))
    assert sorted(one.index for one in drawn(db, row) if one.index is not None) == list(range(7))


def test_three_parts_are_practised_checked_and_tested(db: Session) -> None:
    version = make_dataset_version(db, num_train=40, num_validation=10, num_test=30)
    row = followed(db, an_adapter(db, version))
    evaluations.draw(db, claim(db))
    tests, known = drawn(db, row), drawn(db, row, Part.PRACTICE)
    assert {one.index for one in tests} == set(range(50, 80))
    assert {one.index for one in known} <= set(range(40))
    assert evaluations.practised_splits(row) == {Split.TRAIN}
    own = make_dataset_version(db, num_train=40, num_validation=2)
    beside = followed(db, an_adapter(db, version, validation_version_id=own.id))
    # Then the version's own test part is practised, and its check part still is not.
    assert evaluations.practised_splits(beside) == {Split.TRAIN, Split.TEST}
    evaluations.draw(db, claim(db))
    known = drawn(db, beside, Part.PRACTICE)
    assert len(known) == 42
    assert {one.index for one in known}.isdisjoint(range(40, 50))
    assert any(one.index is not None and one.index >= 50 for one in known)


def test_rows_that_an_earlier_adapter_practised_are_left_out(db: Session) -> None:
    first = an_adapter(db)
    version = make_dataset_version(db, num_train=5, num_validation=6)
    lineage = [{"adapter_id": first.id, "name": "x", "public_name": "y", "manifest_sha256": "z"}]
    adapter = an_adapter(db, version, start_adapter_id=first.id, lineage=lineage)
    collector = practised.Collector()
    for index in range(5, 9):
        collector.add(db.get_one(Example, (version.id, index)).messages)
    practice.keep(db, first, collector.rows())
    practice.keep(db, adapter, collector.rows())
    db.commit()
    row = followed(db, adapter)
    evaluations.draw(db, claim(db))
    assert {one.index for one in drawn(db, row)} == {9, 10}


@pytest.mark.parametrize("is_answered", [True, False])
def test_where_nothing_can_be_asked_a_sentence_says_so(db: Session, is_answered: bool) -> None:
    version = make_dataset_version(db, num_train=3, num_validation=0 if is_answered else 2)
    if not is_answered:
        messages = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": " "}]
        held_out = (Example.version_id == version.id, Example.split == Split.VALIDATION)
        db.execute(update(Example).where(*held_out).values(messages=messages))
        db.commit()
    followed(db, an_adapter(db, version))
    with pytest.raises(Unanswerable, match="no test questions"):
        evaluations.draw(db, claim(db))


def test_plain_text_is_judged_by_its_loss_alone(db: Session) -> None:
    row = followed(db, an_adapter(db, make_dataset_version(db, kind=ExampleKind.TEXT)))
    lease = claim(db)
    evaluations.draw(db, lease)
    evaluations.finish(db, lease)
    db.commit()
    db.refresh(row)
    assert (row.status, row.standing) == (EvaluationStatus.DONE, Standing.LOSS_ALONE)
    assert row.figures is not None
    assert told(db) == [NoticeKind.JOB_SUCCEEDED]


def test_a_block_is_asked_until_it_is_kept(db: Session) -> None:
    row = followed(db)
    lease = claim(db)
    evaluations.draw(db, lease)
    first = evaluations.next_questions(db, lease)
    assert [one.part for one in first] == [Part.TEST] * 8 + [Part.PRACTICE] * 8
    assert first[0].arms == [Arm.TUNED, Arm.BASE, Arm.LOOKUP, Arm.NEAREST]
    assert first[8].arms == [Arm.TUNED]
    assert first[0].before[0]["content"].startswith("What is rule")
    assert evaluations.next_questions(db, lease) == first
    assert keep_next(db, lease) == first
    db.refresh(row)
    assert (row.num_answered, row.spent_seconds, row.progress) == (8, 1, {"done": 1})
    second = evaluations.next_questions(db, lease)
    assert {one.position for one in second}.isdisjoint(one.position for one in first)


def test_the_time_ends_it_but_not_before_24_questions() -> None:
    assert Far(30, 30, 1, 120).is_enough
    assert not Far(24, 100, 119, 120).is_enough
    assert Far(24, 100, 120, 120).is_enough
    assert not Far(16, 100, 359, 120).is_enough
    assert Far(16, 100, 360, 120).is_enough
    assert not Far(8, 10, 130, 120).is_enough


def test_without_a_single_answer_in_time_it_fails(db: Session) -> None:
    row = followed(db)
    lease = claim(db)
    evaluations.draw(db, lease)
    row.spent_seconds = 3 * row.budget_seconds
    db.commit()
    with pytest.raises(Unanswerable, match="Not one question"):
        evaluations.next_questions(db, lease)


# --- its end


def test_who_cancels_ends_it_and_the_job_is_told(db: Session) -> None:
    row = followed(db)
    lease = claim(db)
    evaluations.draw(db, lease)
    evaluations.cancel(db, make_user(db, role=Role.LEAD), row)
    db.commit()
    assert told(db) == [NoticeKind.JOB_SUCCEEDED]
    with pytest.raises(LeaseLost):
        evaluations.next_questions(db, lease)
    db.rollback()
    with pytest.raises(Conflict, match="over"):
        evaluations.cancel(db, make_user(db, role=Role.LEAD), row)


def test_a_strike_that_got_on_does_not_count(db: Session) -> None:
    row = followed(db)
    for _ in range(2 * settings.get().max_strikes):
        lease = claim(db)
        evaluations.draw(db, lease)
        if not keep_next(db, lease):
            break
        taken = leases.take_back(db, EVALUATIONS, ME)
        evaluations.given_up(db, taken)
        db.commit()
        db.refresh(row)
        assert (row.status, row.strikes) == (EvaluationStatus.WAITING, 1)
    assert told(db) == []


def test_the_last_strike_fails_it_and_the_job_is_told_once(db: Session) -> None:
    row = followed(db)
    for _ in range(settings.get().max_strikes):
        assert told(db) == []
        claim(db)
        evaluations.given_up(db, leases.take_back(db, EVALUATIONS, ME))
        db.commit()
    db.refresh(row)
    assert row.status is EvaluationStatus.FAILED
    assert row.reason is not None
    assert "without getting on" in row.reason
    assert row.finished_at is not None
    evaluations.given_up(db, [row.id])
    assert told(db) == [NoticeKind.JOB_SUCCEEDED]


def test_what_nobody_will_do_is_ended_after_a_day(db: Session) -> None:
    row = followed(db)
    assert evaluations.fail_hopeless(db) == []
    past = func.now() - timedelta(days=2)
    db.execute(update(Evaluation).values(created_at=past))
    db.add(Worker(id=ME, queue="gpu", host="h", boot_id="b", devices=["cpu"], version="1"))
    db.commit()
    assert evaluations.fail_hopeless(db) == []  # somebody is there
    db.execute(update(Worker).values(last_seen=past))
    db.commit()
    assert evaluations.fail_hopeless(db) == [row.id]
    db.commit()
    db.refresh(row)
    assert row.reason is not None
    assert row.reason.startswith("For a day no machine")
    assert told(db) == [NoticeKind.JOB_SUCCEEDED]


def test_a_withdrawn_adapter_is_asked_no_more(db: Session) -> None:
    row = followed(db)
    lease = claim(db)
    evaluations.draw(db, lease)
    assert row.adapter is not None
    row.adapter.release = Release.WITHDRAWN
    db.commit()
    with pytest.raises(Unanswerable, match="withdrawn"):
        evaluations.next_questions(db, lease)


@pytest.mark.parametrize("what", ["adapter", "data"])
def test_with_its_adapter_or_data_it_goes_and_the_job_is_told(db: Session, what: str) -> None:
    row = followed(db)
    lease = claim(db)
    evaluations.draw(db, lease)
    keep_next(db, lease)
    adapter = row.adapter
    assert adapter is not None
    assert adapter.job is not None
    owner, row_id = adapter.job.owner, row.id
    if what == "adapter":
        adapters.delete(db, owner, adapter)
    else:
        deletion.delete_dataset(db, owner, adapter.job.version.dataset)
    db.commit()
    db.expire_all()
    assert db.get(Evaluation, row_id) is None
    assert db.scalar(select(func.count()).select_from(EvaluationAnswer)) == 0
    assert told(db) == [NoticeKind.JOB_SUCCEEDED]
    with pytest.raises(LeaseLost):
        evaluations.next_questions(db, lease)
