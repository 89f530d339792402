"""What a worker asks of the database, counted: thousands of jobs and dozens of workers ask it."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import event, update
from sqlalchemy.orm import Session

from app.core.models import (
    Desired,
    Job,
    JobStatus,
    QuarantinedDevice,
    Worker,
    WorkerState,
)
from app.jobs import fence, metrics, protocol, wishes
from app.training.events import StepEvent
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
    assert len(sent) == 4, "\n\n".join(sent)
    with counted(db) as sent:
        fence.heartbeat(db, claimed)
        db.commit()
    assert len(sent) == 1, "\n\n".join(sent)
    db.refresh(job)
    assert job.attempt == 1


def test_a_step_is_one_statement(db: Session) -> None:
    make_job(db, status=JobStatus.QUEUED)
    db.commit()
    claimed = protocol.claim(db, WORKER)
    db.commit()
    assert claimed is not None
    step = StepEvent(at=1.0, step=1, epoch=0.1, loss=2.0, learning_rate=1e-3, grad_norm=1.0,
                     num_tokens=100, tokens_per_second=50.0)  # fmt: skip
    with counted(db) as sent:
        heard = metrics.ingest(db, claimed.job_id, claimed.attempt, [step], spool_offset=120)
        db.commit()
    assert heard == (Desired.RUN, False), "what people want comes along"
    assert len(sent) == 1, "\n\n".join(sent)
    with counted(db) as sent:
        assert wishes.of(db, claimed, WORKER.host, WORKER.devices) == (Desired.RUN, False)
    assert len(sent) == 1, "\n\n".join(sent)


def test_a_step_brings_what_people_want(db: Session) -> None:
    job = make_job(db, status=JobStatus.QUEUED)
    host, device = WORKER.host, WORKER.devices[0]
    db.add(Worker(id=WORKER.id, queue="gpu", host=host, boot_id="b", devices=[device], version="0"))
    db.commit()
    claimed = protocol.claim(db, WORKER)
    db.commit()
    assert claimed is not None

    def heard() -> tuple[Desired, bool]:
        found = metrics.ingest(db, claimed.job_id, claimed.attempt, [], spool_offset=0)
        assert found == wishes.of(db, claimed, host, WORKER.devices)
        return found

    assert heard() == (Desired.RUN, False)
    out = QuarantinedDevice(host=host, device=device, reason="")
    db.add(out)
    assert heard() == (Desired.RUN, True)
    db.delete(out)
    assert heard() == (Desired.RUN, False)
    db.execute(update(Worker).values(state=WorkerState.DRAINING))
    assert heard() == (Desired.RUN, True)
    db.execute(update(Worker).values(state=WorkerState.ACTIVE))
    job.desired = Desired.PAUSE
    assert heard() == (Desired.PAUSE, False)


def test_an_empty_queue_costs_fewer(db: Session) -> None:
    with counted(db) as sent:
        assert protocol.claim(db, WORKER) is None
        db.commit()
    assert db.query(Job).count() == 0
    assert len(sent) == 3, "\n\n".join(sent)
