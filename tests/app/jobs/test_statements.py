"""What a worker asks of the database, counted: thousands of jobs and dozens of workers ask it."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import event
from sqlalchemy.orm import Session

from app.core.models import Job, JobStatus
from app.jobs import fence, protocol
from tests.factories import make_job

WORKER = protocol.WorkerInfo("gpu-0@here", "here", "boot", 1234, 99, ("cpu",))


@contextmanager
def counted(db: Session) -> Iterator[list[str]]:
    """Collect the statements that a session sends."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    engine = db.get_bind()
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)


def test_a_claim_asks_few_statements(db: Session) -> None:
    job = make_job(db, status=JobStatus.QUEUED)
    db.commit()
    with counted(db) as sent:
        claimed = protocol.claim(db, WORKER)
        db.commit()
    assert claimed is not None
    assert len(sent) == 12, "\n\n".join(sent)
    with counted(db) as sent:
        fence.heartbeat(db, claimed)
        db.commit()
    assert len(sent) == 1, "\n\n".join(sent)
    db.refresh(job)
    assert job.attempt == 1


def test_an_empty_queue_costs_fewer(db: Session) -> None:
    with counted(db) as sent:
        assert protocol.claim(db, WORKER) is None
        db.commit()
    assert db.query(Job).count() == 0
    assert len(sent) == 9, "\n\n".join(sent)
