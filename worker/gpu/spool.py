"""JOB_DIR, written from PostgreSQL: config.json and the examples as one Arrow file.

With these two any machine can train; the trainer itself knows no database.
"""

import json
import os
import shutil
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pyarrow as pa
from sqlalchemy import RowMapping, select
from sqlalchemy.orm import Session

from app.base_models import registry as base_models
from app.core import settings, storage
from app.core.models import Checkpoint, DatasetVersion, Job, Json, Split
from app.datasets import examples, parts, practised
from app.jobs import fence, practice
from app.training import failpoints, manifests
from app.training.config import StartAdapter, TrainConfig, TrainerSpec
from app.training.plan.shape import Shape
from worker.gpu import checkpoint_copies

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

    Test rows are not in it: what a trainer does not have, it can neither learn nor choose by.

    A derived version that was too long to be hashed when it was made is hashed now. What became of
    test rows that an earlier adapter had practised is written beside it (`practised_before`).

    Args:
        db: A session of its own, which is committed.
        job: Whose data; what becomes of each row says practice.use_of.
        beat: Called between batches, to keep the lease alive.
    """
    if job.version.examples_sha256 is None:
        job.version.examples_sha256 = examples.sha256(db, job.version, beat)
    target = job_dir(job.id) / "examples.arrow"
    if target.exists():  # a version that is ready never changes, and the rename made it whole
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".tmp")
    known = None
    if job.start_adapter is not None:
        known = practice.known(db, job.start_adapter, beat=beat)
        db.commit()
    sort = _Sorting(job, known, _last_rank(db, job, beat))
    with partial.open("wb") as file:
        with pa.ipc.new_file(file, SCHEMA) as writer:
            for batch in _batches(db, job, sort):
                writer.write_batch(batch)
                beat()
        file.flush()
        os.fsync(file.fileno())
    if job.lineage:
        _write_json(_practised_before(job.id), sort.result())
    partial.rename(target)
    failpoints.hit("prepare.examples_written")


def _last_rank(db: Session, job: Job, beat: Callable[[], object]) -> int | None:
    """Return up to which rank a job takes practice rows; None: all of them."""
    if job.rows_percent == 100:
        return None
    sort, ranks = _Sorting(job, None, None), array("Q")
    for found in examples.stream(db, job.version):
        beat()
        for row in found:
            if sort.use(row) is Split.TRAIN:
                ranks.append(practice.rank(row["messages"]))
    return practice.last_rank(ranks, job.rows_percent)


def practised_before(job_id: int) -> Json | None:
    """Return what became of test rows that were practised before; None where nobody wrote it."""
    try:
        found: Json = json.loads(_practised_before(job_id).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def practised_rows(job_id: int) -> practised.Practised | None:
    """Return which rows a job practises; None where its examples cannot be read any more."""
    collector = practised.Collector()
    with suppress(OSError, pa.ArrowException):
        with pa.memory_map(str(job_dir(job_id) / "examples.arrow")) as source:
            table = pa.ipc.open_file(source)
            for number in range(table.num_record_batches):
                batch = table.get_batch(number)
                for split, messages in zip(
                    batch.column("split").to_pylist(),
                    batch.column("messages").to_pylist(),
                    strict=True,
                ):
                    if split == Split.TRAIN.value:
                        collector.add(json.loads(messages))
        return collector.rows()
    return None


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
        start=_start(job),
        checks_on="check" if parts.has_three(job.version) else "test",
        cache_dir=str(settings.get().cache_dir),
        resume_from=resume_from,
        stall_seconds=settings.get().stall_seconds,
    )
    target = job_dir(job.id) / "config.json"
    partial = target.with_suffix(".tmp")
    partial.write_text(spec.model_dump_json(indent=2), encoding="utf-8")
    partial.rename(target)
    return spec


def _start(job: Job) -> StartAdapter | None:
    adapter = job.start_adapter
    if adapter is None:
        return None
    assert adapter.storage_key is not None  # jobs.start has seen to it
    return StartAdapter(
        name=adapter.name,
        dir=str(storage.folder(adapter.storage_key, adapter.manifest_sha256).absolute()),
        # As it was chosen: files that were replaced since are told by it.
        manifest_sha256=job.lineage[0]["manifest_sha256"],
    )


def newest_checkpoint(db: Session, claim: fence.Claim) -> Checkpoint | None:
    """Return the newest checkpoint that lies whole on this disk, or that machines share."""
    for checkpoint in db.scalars(
        select(Checkpoint)
        .where(Checkpoint.job_id == claim.job_id, Checkpoint.step <= claim.resume_step)
        .order_by(Checkpoint.step.desc())
    ):
        place = job_dir(claim.job_id) / checkpoint.path
        with suppress(ValueError):
            if manifests.verify_manifest(place) == checkpoint.manifest_sha256:
                return checkpoint
        if checkpoint_copies.fetch(checkpoint, place):
            return checkpoint
    return None


def forget(job_id: int) -> None:
    """Remove all checkpoints and the result: who begins anew has given up how they came about."""
    for name in ("checkpoints", "result"):
        folder = job_dir(job_id) / name
        if folder.exists():
            shutil.rmtree(folder)


class _Sorting:
    """Sends rows that were practised before to be practised again, and counts them."""

    def __init__(self, job: Job, known: practice.Known | None, last_rank: int | None) -> None:
        self.version, self.known, self.last_rank = job.version, known, last_rank
        self.has_own_tests = job.validation_version_id is not None
        self.has_three = parts.has_three(job.version)
        self.num_test = self.num_moved = self.num_left_out = self.num_check_moved = 0

    def use(self, row: RowMapping) -> Split:
        """Return what the job does with a row of its version: practise, check or test."""
        use = practice.use_of(self.version, row["split"], has_own_tests=self.has_own_tests)
        if use is Split.TEST:
            self.num_test += 1
        if use is Split.TRAIN or not self._is_known(row):
            return use
        if use is Split.TEST:
            self.num_moved += 1
        else:
            self.num_check_moved += 1
        return Split.TRAIN

    def tests(self, row: RowMapping) -> bool:
        """Say whether a row of a test set of its own is one that the job is tested on."""
        self.num_test += 1
        is_known = self._is_known(row)
        self.num_left_out += is_known
        return not is_known

    def written(self, row: RowMapping) -> Split | None:
        """Return as what the trainer gets a row; None: it gets it not.

        The test set of two parts chooses, too, as it did when such a version was made.
        """
        use = self.use(row)
        if use is Split.TRAIN and self.last_rank is not None:
            return use if practice.rank(row["messages"]) <= self.last_rank else None
        if use is Split.TEST:
            return None if self.has_three else Split.VALIDATION
        return use

    def result(self) -> Json:
        return {
            "num_test": self.num_test,
            "num_moved": self.num_moved,
            "num_left_out": self.num_left_out,
            "num_check_moved": self.num_check_moved,
            "is_checked": self.known is not None and self.known.is_complete,
        }

    def _is_known(self, row: RowMapping) -> bool:
        return self.known is not None and row["messages"] in self.known.rows


def _batches(db: Session, job: Job, sorting: _Sorting) -> Iterator[pa.RecordBatch]:
    for row_of, as_what in _sorted(db, job, sorting):
        yield pa.record_batch(
            [
                # As pages count them: some rows of the version may not be here.
                pa.array([row["index"] for row in row_of], pa.int32()),
                pa.array([split.value for split in as_what], pa.string()),
                pa.array([row["kind"].value for row in row_of], pa.string()),
                pa.array([_json(row["messages"]) for row in row_of], pa.string()),
                pa.array(
                    [_json(row["tools"]) if row["tools"] else None for row in row_of], pa.string()
                ),
            ],
            schema=SCHEMA,
        )


def _sorted(
    db: Session, job: Job, sorting: _Sorting
) -> Iterator[tuple[list[RowMapping], list[Split]]]:
    """Yield the rows that a trainer gets, a batch at a time, each with what it gets it as."""
    for found in examples.stream(db, job.version):
        uses = [(row, sorting.written(row)) for row in found]
        yield (
            [row for row, split in uses if split is not None],
            [split for _, split in uses if split is not None],
        )
    if job.validation_version_id is None or (sorting.has_three and not job.lineage):
        return
    # Of these a trainer gets none unless they choose, too; where there is a lineage, those that it
    # has practised are counted.
    for found in examples.stream(db, db.get_one(DatasetVersion, job.validation_version_id)):
        tested = [row for row in found if sorting.tests(row)]
        if not sorting.has_three:
            yield tested, [Split.VALIDATION] * len(tested)


def _practised_before(job_id: int) -> Path:
    return job_dir(job_id) / "practised_before.json"


def _write_json(target: Path, value: Json) -> None:
    partial = target.with_suffix(".tmp")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(target)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
