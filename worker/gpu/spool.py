"""JOB_DIR, written from PostgreSQL: config.json and the examples as one Arrow file.

With these two any machine can train; the trainer itself knows no database.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pyarrow as pa
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.base_models import registry as base_models
from app.core import settings
from app.core.models import Checkpoint, DatasetVersion, Job, Split
from app.datasets import examples
from app.jobs import fence
from app.training import failpoints, manifests
from app.training.config import TrainConfig, TrainerSpec
from app.training.plan.shape import Shape

SCHEMA = pa.schema(
    [
        pa.field("index", pa.int32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("messages", pa.string(), nullable=False),
        pa.field("tools", pa.string()),
    ]
)


def job_dir(job_id: int) -> Path:
    """Return the folder that a job's attempts share."""
    return settings.get().jobs_dir / str(job_id)


def attempt_dir(claim: fence.Claim) -> Path:
    """Return the folder of one attempt: its events.jsonl and its log.txt."""
    return job_dir(claim.job_id) / "attempts" / str(claim.attempt)


def note_start(folder: Path, claim: fence.Claim) -> None:
    """Write into an attempt's folder which one it is: numbers come again, moments do not."""
    began = claim.started_at.isoformat() if claim.started_at is not None else None
    (folder / "attempt.json").write_text(json.dumps({"started_at": began}), encoding="utf-8")


def is_of(folder: Path, started_at: datetime) -> bool:
    """Say whether a folder is that of the attempt that began at a moment."""
    try:
        noted = json.loads((folder / "attempt.json").read_text(encoding="utf-8"))["started_at"]
        return datetime.fromisoformat(noted) == started_at
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_examples(db: Session, job: Job, beat: Callable[[], object]) -> None:
    """Write examples.arrow a few thousand examples at a time: no file is too large for memory.

    A derived version that was too long to be hashed when it was made is hashed now.

    Args:
        db: A session of its own.
        job: Whose data; one with a test set of its own practises on all of its other file.
        beat: Called between batches, to keep the lease alive.
    """
    if job.version.examples_sha256 is None:
        job.version.examples_sha256 = examples.sha256(db, job.version, beat)
    target = job_dir(job.id) / "examples.arrow"
    if target.exists():  # a version that is ready never changes, and the rename made it whole
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".tmp")
    with partial.open("wb") as file:
        with pa.ipc.new_file(file, SCHEMA) as writer:
            for batch in _batches(db, job):
                writer.write_batch(batch)
                beat()
        file.flush()
        os.fsync(file.fileno())
    partial.rename(target)
    failpoints.hit("prepare.examples_written")


def room_needed(job: Job) -> int:
    """Estimate the bytes that a job's checkpoints, result and published files will take."""
    config, model = TrainConfig.model_validate(job.config), job.base_model
    if model.config is None or model.num_parameters is None:
        return 0
    weights = Shape.of(model.config, model.num_parameters).num_adapter(config)
    # A checkpoint: the present adapter, the best one and two moments, in float32; the newest two
    # and the newest committed one are kept, and a fourth is being written. Then the result, its
    # copy in storage and the archive.
    return weights * 4 * (4 * 4 + 3)


def write_spec(
    job: Job, claim: fence.Claim, device: str, num_devices: int, resume_from: str | None
) -> TrainerSpec:
    """Write config.json for one attempt."""
    spec = TrainerSpec(
        job_id=job.id,
        attempt=claim.attempt,
        job_name=job.name,
        config=TrainConfig.model_validate(job.config),
        device=device,
        num_devices=num_devices,
        base_model_name=job.base_model.name,
        base_model_dir=str(base_models.folder(job.base_model).absolute()),
        base_model_manifest_sha256=job.base_model.manifest_sha256 or "",
        cache_dir=str(settings.get().cache_dir),
        resume_from=resume_from,
        stall_seconds=settings.get().stall_seconds,
    )
    target = job_dir(job.id) / "config.json"
    partial = target.with_suffix(".tmp")
    partial.write_text(spec.model_dump_json(indent=2), encoding="utf-8")
    partial.rename(target)
    return spec


def newest_checkpoint(db: Session, claim: fence.Claim) -> Checkpoint | None:
    """Return the newest checkpoint that lies whole on this disk."""
    for checkpoint in db.scalars(
        select(Checkpoint)
        .where(Checkpoint.job_id == claim.job_id, Checkpoint.step <= claim.resume_step)
        .order_by(Checkpoint.step.desc())
    ):
        try:
            found = manifests.verify_manifest(job_dir(claim.job_id) / checkpoint.path)
        except ValueError:
            continue
        if found == checkpoint.manifest_sha256:
            return checkpoint
    return None


def forget(job_id: int) -> None:
    """Remove all checkpoints and the result: who begins anew has given up how they came about."""
    for name in ("checkpoints", "result"):
        folder = job_dir(job_id) / name
        if folder.exists():
            shutil.rmtree(folder)


def _batches(db: Session, job: Job) -> Iterator[pa.RecordBatch]:
    sources: list[tuple[DatasetVersion, Split | None]] = [(job.version, None)]
    if job.validation_version_id is not None:
        held_out = db.get_one(DatasetVersion, job.validation_version_id)
        sources = [(job.version, Split.TRAIN), (held_out, Split.VALIDATION)]
    number = 0
    for version, split in sources:
        for part in examples.stream(db, version):
            yield pa.record_batch(
                [
                    pa.array(range(number, number + len(part)), pa.int32()),
                    pa.array([(split or row["split"]).value for row in part], pa.string()),
                    pa.array([row["kind"].value for row in part], pa.string()),
                    pa.array([_json(row["messages"]) for row in part], pa.string()),
                    pa.array(
                        [_json(row["tools"]) if row["tools"] else None for row in part],
                        pa.string(),
                    ),
                ],
                schema=SCHEMA,
            )
            number += len(part)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
