"""What stays of llama.cpp's files, and what goes with its model or adapter."""

import asyncio
import os
import time

import pytest
from sqlalchemy import func
from sqlalchemy.orm import Session

from app.adapters import answering, registry
from app.core import settings
from app.core.models import Attempt, BaseModel, Job, JobStatus
from tests.factories import first_user, make_job
from tests.worker.answering.asking import (
    AnswerProcess,
    a_model,
    an_adapter,
    journal,
)
from tests.worker.conftest import wait_for
from worker import identity
from worker.answering import conversion
from worker.inference import gguf_files


def test_files_of_what_was_deleted_are_removed(db: Session) -> None:
    model = a_model(db)
    kept, deleted = an_adapter(db, model), an_adapter(db, model)
    sha256 = str(model.manifest_sha256)
    conversion.folder().mkdir(parents=True)
    base = gguf_files.base_gguf(conversion.folder(), sha256, "q8_0")
    files = {base, gguf_files.agreement_file(base)}
    for adapter in (kept, deleted):
        files.add(
            gguf_files.adapter_gguf(conversion.folder(), sha256, str(adapter.manifest_sha256))
        )
    merged = gguf_files.merged_gguf(
        conversion.folder(), sha256, str(deleted.manifest_sha256), "q8_0"
    )
    stray, young = conversion.folder() / "base-of-old.gguf", conversion.folder() / "young"
    for path in (*files, merged, stray, young):
        path.touch()
        if path != young:
            os.utime(path, (time.time() - 4000,) * 2)
    assert conversion.purge(db) == 1  # the stray one
    registry.delete(db, first_user(db), deleted)
    db.commit()
    assert conversion.purge(db) == 2
    left = files - {
        gguf_files.adapter_gguf(conversion.folder(), sha256, str(deleted.manifest_sha256))
    }
    assert set(conversion.folder().iterdir()) == {*left, young}


def test_what_will_be_asked_is_written_ahead_once_nobody_trains_or_asks(
    answerer: AnswerProcess, db: Session
) -> None:
    model, unasked = a_model(db), a_model(db)
    adapter = an_adapter(db, model)
    an_adapter(db, model, use_dora=True)  # a whole model of its own: only for those who ask
    answerer.environment["ETUDE_ANSWER_AHEAD_SECONDS"] = "0.5"
    answerer.start()
    sha256 = str(model.manifest_sha256)
    files = {
        gguf_files.base_gguf(conversion.folder(), sha256, "q8_0"),
        gguf_files.adapter_gguf(conversion.folder(), sha256, str(adapter.manifest_sha256)),
    }
    wait_for(db, lambda: all(file.exists() for file in files))
    assert set(conversion.folder().glob("*.gguf")) == files
    assert journal(unasked) == []


def test_nothing_is_written_ahead_while_a_job_trains(answerer: AnswerProcess, db: Session) -> None:
    model = a_model(db)
    an_adapter(db, model)
    job = a_running_job(db, model)
    answerer.environment["ETUDE_ANSWER_AHEAD_SECONDS"] = "0.5"
    answerer.start()
    # Each renewal of its row comes after several looks, and many are longer than it waits.
    seen = {answerer.lease()}
    wait_for(db, lambda: len(seen.add(answerer.lease()) or seen) > 8)  # type: ignore[func-returns-value]
    assert journal(model) == []
    db.delete(job)
    db.commit()
    wait_for(db, lambda: journal(model) != [])


def test_a_file_counts_though_the_process_that_made_it_does_not_end(
    quick: None, db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_EXIT_SECONDS", "0.5")
    settings.get.cache_clear()
    base = answering.wanted_base(a_model(db))
    (base.folder / "lingering").touch()
    target = conversion.base_file(base)
    asyncio.run(conversion.make(base, None, target, lambda doing: None))
    assert conversion.is_made(base, target)


def a_running_job(db: Session, model: BaseModel) -> Job:
    job = make_job(
        db,
        base_model=model,
        status=JobStatus.RUNNING,
        attempt=1,
        worker_id="gpu-0@test",
        lease_until=func.now(),
    )
    db.add(
        Attempt(
            job_id=job.id,
            number=1,
            worker_id="gpu-0@test",
            host="test",
            boot_id=identity.boot_id(),
            supervisor_pid=1,
            supervisor_started=1,
            devices=["cpu"],
            resume_step=0,
        )
    )
    db.commit()
    return job
