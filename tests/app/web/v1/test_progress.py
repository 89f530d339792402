"""Events, checkpoints and results of a job, as a trainer's reports become them."""

import csv
import io
import time

import openai
import pytest
from openai import OpenAI
from sqlalchemy import delete
from sqlalchemy.orm import Session

from app.core import settings, storage
from app.core.models import Adapter, Job, Metric, ModelStatus, StoredFile, User
from app.jobs import fence, metrics, protocol
from app.training.events import (
    CheckpointEvent,
    EvaluationEvent,
    NoteEvent,
    PlanEvent,
    StepEvent,
)
from tests import factories
from tests.app.web.v1.conftest import connect

WORKER = protocol.WorkerInfo("gpu-0@here", "here", "boot", 1, 1, ("cpu",))
NUM_STEPS = 6


@pytest.fixture
def job(db: Session, user: User) -> Job:
    """A running job with six steps, evaluations after the third and the last, and checkpoints."""
    job = factories.make_job(db, user=user)
    claim = protocol.claim(db, WORKER)
    assert claim is not None
    at = time.time()
    reports: list[metrics.TrainerEvent] = [
        PlanEvent(
            at=at, total_steps=NUM_STEPS, num_train=20, num_validation=4, num_truncated=0, plan={}
        )
    ]
    for step in range(1, NUM_STEPS + 1):
        reports.append(
            StepEvent(
                at=at + step,
                step=step,
                epoch=step / NUM_STEPS,
                loss=3.0 - step / 4,
                learning_rate=1e-3,
                grad_norm=1.0,
                num_tokens=500,
                tokens_per_second=100.0,
            )
        )
        if step % 3 == 0:
            reports += [
                EvaluationEvent(at=at + step, step=step, loss=2.5 - step / 6, is_best=True),
                CheckpointEvent(
                    at=at + step,
                    step=step,
                    path=f"checkpoints/step-{step:05}",
                    manifest_sha256="0" * 64,
                ),
            ]
    reports.append(NoteEvent(at=at + 9, level="warn", message="The room is getting warm."))
    metrics.ingest(db, job.id, claim.attempt, reports, spool_offset=1)
    db.commit()
    return job


def test_events_page_by_themselves_newest_first(api: OpenAI, db: Session, job: Job) -> None:
    db.refresh(job)
    by_hand = api.fine_tuning.jobs.list_events(job.public_id, limit=100)
    events = list(api.fine_tuning.jobs.list_events(job.public_id, limit=3))
    assert [event.id for event in events] == [event.id for event in by_hand.data]
    assert len({event.id for event in events}) == len(events) == job.event_seq
    assert (events[0].message, events[0].level) == ("The room is getting warm.", "warn")
    assert events[0].type == "message"


def test_a_job_tells_what_is_cut(api: OpenAI, db: Session, job: Job) -> None:
    none = {"examples": 0, "tokens": 0, "answers": 0}
    shown = api.fine_tuning.jobs.retrieve(job.public_id)
    assert shown.model_extra is not None
    assert shown.model_extra["x_cut"] == {"practice": none, "test": none}
    waiting = factories.make_job(db, user=job.owner)
    listed = {one.id: one.model_extra or {} for one in api.fine_tuning.jobs.list()}
    assert listed[job.public_id]["x_cut"] == shown.model_extra["x_cut"]
    assert listed[waiting.public_id]["x_cut"] is None


def test_a_step_is_a_metrics_event(api: OpenAI, job: Job) -> None:
    events = list(api.fine_tuning.jobs.list_events(job.public_id))
    [second] = [event for event in events if event.message.startswith("Step 2/")]
    assert second.message == "Step 2/6: training loss=2.5000"
    assert second.type == "metrics"
    assert isinstance(second.data, dict)
    assert second.data["train_loss"] == 2.5
    assert (second.data["step"], second.data["total_steps"]) == (2, NUM_STEPS)
    [tested] = [event for event in events if "after step 6" in event.message]
    assert isinstance(tested.data, dict)
    assert tested.data["full_valid_loss"] == tested.data["valid_loss"] == 1.5


def test_paging_goes_on_when_a_point_was_taken_back(api: OpenAI, db: Session, job: Job) -> None:
    first = api.fine_tuning.jobs.list_events(job.public_id, limit=5)
    # An attempt that goes back to a checkpoint deletes the points after it.
    db.execute(delete(Metric).where(Metric.job_id == job.id, Metric.step > 3))
    db.commit()
    rest = api.fine_tuning.jobs.list_events(job.public_id, limit=5, after=first.data[-1].id)
    assert "Step 3/6" in " ".join(event.message for event in rest.data)


def test_after_must_be_an_event_of_this_job(api: OpenAI, job: Job) -> None:
    own = job.public_id.removeprefix("ftjob-")
    for after in ("ftevent-0-1", "nonsense", f"ftevent-{own}-999", f"ftevent-{own}-", "ftckpt-1"):
        with pytest.raises(openai.BadRequestError) as raised:
            api.fine_tuning.jobs.list_events(job.public_id, after=after)
        assert raised.value.param == "after"


def test_checkpoints_newest_first(api: OpenAI, job: Job) -> None:
    listed = list(api.fine_tuning.jobs.checkpoints.list(job.public_id, limit=1))
    assert [checkpoint.step_number for checkpoint in listed] == [6, 3]
    newest = listed[0]
    (settings.get().jobs_dir / str(job.id) / "checkpoints/step-00006").mkdir(parents=True)
    exists = [each.model_extra for each in api.fine_tuning.jobs.checkpoints.list(job.public_id)]
    assert exists == [{"x_exists": True}, {"x_exists": False}]
    assert newest.fine_tuning_job_id == job.public_id
    assert newest.metrics.train_loss == 1.5
    assert newest.metrics.full_valid_loss == 1.5
    assert newest.fine_tuned_model_checkpoint.startswith("ft:house/tiny:")
    assert newest.fine_tuned_model_checkpoint.endswith(":ckpt-step-6")
    with pytest.raises(openai.BadRequestError):
        api.fine_tuning.jobs.checkpoints.list(job.public_id, after="ftckpt-0")


def test_a_running_job_says_how_far_it_is(api: OpenAI, job: Job) -> None:
    shown = api.fine_tuning.jobs.retrieve(job.public_id)
    assert shown.status == "running"
    assert shown.model_extra is not None
    assert (shown.model_extra["x_step"], shown.model_extra["x_total_steps"]) == (6, 6)
    assert shown.estimated_finish is not None
    assert abs(shown.estimated_finish - time.time()) < 60


def make_adapter(db: Session, job: Job) -> Adapter:
    """What publishing leaves behind: a succeeded job, its adapter, the metrics and the archive."""
    claim = fence.Claim(job.id, 1, WORKER.id, 0)
    table = metrics.csv(db, job.id).encode()
    protocol.succeed(db, claim, measured={})
    files = []
    for name, content in (("step_metrics.csv", table), ("adapter.zip", b"PK\x05\x06" + b"\0" * 18)):
        stored = storage.put("results", [content])
        files.append(
            StoredFile(
                department_id=job.department_id,
                owner_id=job.owner_id,
                filename=name,
                purpose="fine-tune-results",
                storage_key=stored.key,
                size_bytes=stored.size_bytes,
                sha256=stored.sha256,
            )
        )
    db.add_all(files)
    db.flush()
    adapter = Adapter(
        department_id=job.department_id,
        owner_id=job.owner_id,
        job_id=job.id,
        base_model_id=job.base_model_id,
        name=job.name,
        public_name="ft:house/tiny:ward:first:12345678",
        storage_key="adapters/none",
        manifest_sha256="0" * 64,
        size_bytes=1,
        metrics={"validation_loss_after": 1.5},
        samples=[],
        metrics_file_id=files[0].id,
        archive_file_id=files[1].id,
    )
    db.add(adapter)
    db.commit()
    return adapter


def test_results_are_a_table_and_an_archive(api: OpenAI, db: Session, job: Job) -> None:
    make_adapter(db, job)
    done = api.fine_tuning.jobs.retrieve(job.public_id)
    assert (done.status, done.fine_tuned_model) == (
        "succeeded",
        "ft:house/tiny:ward:first:12345678",
    )
    assert done.trained_tokens == NUM_STEPS * 500
    assert done.finished_at is not None
    table, archive = (api.files.content(file_id).read() for file_id in done.result_files)
    lines = list(csv.DictReader(io.StringIO(table.decode())))
    assert [line["step"] for line in lines] == [str(step) for step in range(1, NUM_STEPS + 1)]
    assert float(lines[-1]["valid_loss"]) == 1.5
    assert archive.startswith(b"PK")
    assert [file.status for file in api.files.list(purpose="fine-tune-results")] == [
        "processed"
    ] * 2
    with pytest.raises(openai.ConflictError, match="belongs to the model"):
        api.files.delete(done.result_files[1])
    with pytest.raises(openai.BadRequestError, match="no training data"):
        api.fine_tuning.jobs.create(model="house/tiny", training_file=done.result_files[0])


def test_models_are_the_ready_ones_and_the_departments_adapters(
    api: OpenAI, address: str, db: Session, job: Job
) -> None:
    adapter = make_adapter(db, job)
    factories.make_base_model(db, name="house/coming", status=ModelStatus.WAITING)
    listed = list(api.models.list())
    assert [model.id for model in listed] == ["house/tiny", adapter.public_name]
    assert [model.owned_by for model in listed] == ["etude", f"org-{job.department_id}"]
    for model in listed:
        # What it was told before each question is looked up for one alone.
        alone = api.models.retrieve(model.id).model_dump(exclude={"x_instruction"})
        assert alone == model.model_dump(exclude={"x_instruction"})
    coming = api.models.retrieve("house/coming")
    assert coming.model_extra is not None
    assert coming.model_extra["x_status"] == "waiting"
    stranger = factories.make_user(db, department=factories.make_department(db))
    with connect(db, address, stranger) as theirs:
        assert [model.id for model in theirs.models.list()] == ["house/tiny"]
        for deed in (theirs.models.retrieve, theirs.models.delete):
            with pytest.raises(openai.NotFoundError) as raised:
                deed(adapter.public_name)
            assert raised.value.code == "model_not_found"


def test_an_adapter_is_deleted_and_a_starting_model_is_not(
    api: OpenAI, db: Session, job: Job
) -> None:
    adapter = make_adapter(db, job)
    before = api.fine_tuning.jobs.retrieve(job.public_id)
    assert api.models.delete(adapter.public_name).deleted
    with pytest.raises(openai.NotFoundError):
        api.models.retrieve(adapter.public_name)
    done = api.fine_tuning.jobs.retrieve(job.public_id)
    assert (done.status, done.fine_tuned_model) == ("succeeded", adapter.public_name)
    assert done.result_files == before.result_files
    assert len(done.result_files) == 2
    for file_id in done.result_files:
        with pytest.raises(openai.NotFoundError):
            api.files.content(file_id)
    with pytest.raises(openai.PermissionDeniedError):
        api.models.delete("house/tiny")
    assert api.models.retrieve("house/tiny").id == "house/tiny"
