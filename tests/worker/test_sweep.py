"""What the sweep removes because its time is over."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.models import Beside, Conversation, JobStatus, JudgingStatus, Role
from app.evaluation import evaluations, judging
from tests.factories import (
    make_adapter,
    make_base_model,
    make_evaluation,
    make_job,
    make_user,
    make_zipped_adapter,
)
from worker import sweep
from worker.bell import Bell


def test_conversations_over_their_time_are_removed(db: Session, broker: str) -> None:
    adapter = make_zipped_adapter(db, make_user(db))
    for days in (29.9, 30.1):
        db.add(
            Conversation(
                owner_id=adapter.owner_id,
                adapter_id=adapter.id,
                beside=Beside.NOBODY,
                instruction="",
                temperature=days,  # to know it by
                updated_at=func.now() - timedelta(days=days),
            )
        )
    db.commit()
    sweep.clean(db)
    db.commit()
    assert db.scalars(select(Conversation.temperature)).all() == [29.9]


def test_an_evaluation_rings_for_those_who_train_alone(
    db: Session, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_WORKER_ID", "w@test")
    gpu, cpu = sweep._Sweep("gpu", Bell()), sweep._Sweep("cpu", Bell())
    assert not gpu._has_work(db)
    job = make_job(db, status=JobStatus.SUCCEEDED)
    evaluations.request_after_job(db, make_adapter(db, job=job))
    assert gpu._has_work(db)
    assert not cpu._has_work(db)


def test_a_judging_rings_for_those_who_train_alone_and_ends_in_a_day(
    db: Session, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_WORKER_ID", "w@test")
    gpu, cpu = sweep._Sweep("gpu", Bell()), sweep._Sweep("cpu", Bell())
    made = make_evaluation(db)
    user, judge = make_user(db, role=Role.MEMBER), make_base_model(db, name="house/judge")
    row = judging.request(db, user, made, judge)
    assert gpu._has_work(db)
    assert not cpu._has_work(db)
    judging.fail_hopeless(db)
    assert gpu._has_work(db)
    row.created_at = datetime.now(UTC) - timedelta(days=2)
    db.flush()
    judging.fail_hopeless(db)
    db.refresh(row)
    assert row.status is JudgingStatus.FAILED
    assert "no machine that trains" in str(row.reason)
    assert not gpu._has_work(db)
