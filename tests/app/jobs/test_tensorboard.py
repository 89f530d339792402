"""A job's event file, byte by byte; tests/ops/test_real_loggers.py has TensorBoard read it."""

import struct

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core.models import Job
from app.jobs import metrics, protocol, tensorboard
from app.jobs.protocol import WorkerInfo
from app.training.events import EvaluationEvent, StepEvent
from tests.app.web.pages import sign_in
from tests.factories import make_job

WORKER = WorkerInfo("gpu-0@here", "here", "boot", 1, 1, ("cpu",))


@pytest.fixture
def job(db: Session) -> Job:
    job = make_job(db)
    claimed = protocol.claim(db, WORKER)
    assert claimed is not None
    steps = [
        StepEvent(at=1.7e9 + step, step=step, epoch=step / 10, loss=3 - step / 8,
                  learning_rate=1e-3, grad_norm=1, num_tokens=50, tokens_per_second=500)
        for step in (1, 2, 300)
    ]  # fmt: skip
    tested = EvaluationEvent(at=1.7e9 + 301, step=300, loss=2.5, is_best=True)
    metrics.ingest(db, job.id, claimed.attempt, [*steps, tested], spool_offset=1)
    db.commit()
    db.refresh(job)
    return job


@pytest.mark.parametrize(
    ("data", "checksum"),
    # RFC 3720, appendix B.4.
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
    ],
)
def test_checksums_are_those_of_the_standard(data: bytes, checksum: int) -> None:
    assert tensorboard.crc32c(data) == checksum


def test_the_first_record_is_the_one_that_tensorboard_writes(db: Session, job: Job) -> None:
    first = next(tensorboard.event_file(db, job))
    assert job.started_at is not None
    # What EventFileWriter of tensorboard 2.21.0 writes at 1,764,576,000 seconds.
    assert first[:8] == struct.pack("<Q", 24)
    event = b"\x09" + struct.pack("<d", job.started_at.timestamp()) + b"\x1a\x0dbrain.Event:2"
    assert first[12:-4] == event


def test_it_is_downloaded_with_every_point(client: TestClient, db: Session, job: Job) -> None:
    sign_in(client, db, job.owner)
    assert f"/jobs/{job.id}/tensorboard" in client.get(f"/jobs/{job.id}").text
    answer = client.get(f"/jobs/{job.id}/tensorboard")
    assert ".tfevents." in answer.headers["content-disposition"]
    assert answer.headers["content-disposition"].endswith(f'.etude-job-{job.id}"')
    data, records = answer.content, []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        records.append(data[12 : 12 + length])
        data = data[length + 16 :]
    # The version, the settings, three steps, and the test at the last of them.
    assert len(records) == 6
    assert b"| lora_rank | 16 |" in records[1]
    for step, record in zip((1, 2, 300), records[2:5], strict=True):
        assert b"\x0a\x04loss\x15" + struct.pack("<f", 3 - step / 8) in record
        assert record[:9] == b"\x09" + struct.pack("<d", 1.7e9 + step)
    assert records[4][9:12] == b"\x10\xac\x02"  # 300, seven bits at a time
    assert b"validation_loss" in records[5]
    assert job.name.encode() not in answer.content
