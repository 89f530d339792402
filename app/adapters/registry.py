"""Adapters: published whole or not at all, listed, handed over, deleted.

Only what an Adapter row points to is ever served. Files without a row, from a crash between the
rename and the commit or from a deletion, are removed by `purge`.
"""

import os
import re
import shutil
import tempfile
import zipfile
from functools import cache
from pathlib import Path

from sqlalchemy import BindParameter, ColumnElement, Select, and_, exists, func, select
from sqlalchemy.orm import Session, selectinload

from app import notices
from app.adapters import model_card
from app.core import audit, bins, clock, settings, storage
from app.core.errors import Conflict, Forbidden, Invalid, NotFound
from app.core.models import (
    Adapter,
    Attempt,
    BaseModel,
    Dataset,
    DatasetVersion,
    Desired,
    Evaluation,
    Job,
    JobStatus,
    Json,
    LearningCurve,
    Release,
    StoredFile,
    User,
)
from app.core.shared_storage import StorageAway
from app.datasets.practised import Practised
from app.jobs import fence, metrics, practice, protocol
from app.people.auth import can_edit
from app.training import failpoints, licences, manifests
from app.training.events import DoneEvent

RESULTS_PURPOSE = "fine-tune-results"
MAX_NAME_LENGTH = 200
# What a trainer may hand over; anything else in its folder is refused. No pickle among them.
_ALLOWED = re.compile(
    r"adapter_model\.safetensors|adapter_config\.json|tokenizer(_config)?\.json|"
    r"special_tokens_map\.json|added_tokens\.json|vocab\.json|merges\.txt|tokenizer\.model|"
    r"chat_template\.jinja|generation_config\.json|MANIFEST\.json"
)
_NEEDED = ("adapter_model.safetensors", "adapter_config.json")
_CARD = "README.md"
NO_FILES = (
    "“{name}” has learned nothing, so it has no files to download; the data itself can be "
    "downloaded."
)
WITHDRAWN = "“{name}” was withdrawn, so it cannot be taken along at the moment."
_PURGE_AFTER_SECONDS = 3600


def publish(
    db: Session,
    claim: fence.Claim,
    job_dir: Path,
    done: DoneEvent,
    rows: Practised | None = None,
) -> Adapter | None:
    """Make a finished job's result an adapter, and the job succeeded, in one transaction.

    Files come first, whole and on disk; the rows follow under the fence, and the caller commits.
    Where people have asked to cancel meanwhile, the job is cancelled instead.

    Args:
        claim: Under which the job is held.
        job_dir: Where the result lies.
        done: What the trainer said at its end.
        rows: That were practised, for jobs that start from this adapter.

    Returns:
        The adapter, or nothing for a job that was cancelled.

    Raises:
        Fenced: another worker may have the job.
        ValueError: the result is not whole.
    """
    job = db.get_one(Job, claim.job_id, populate_existing=True)
    key = storage.new_key("adapters")
    manifest_sha256 = _store(job, job_dir / "result", storage.path(key), done)
    placed = [key]
    try:
        storage.share_folder(key)
        archive = _zip(storage.path(key))
        placed.append(archive.key)
        table = storage.put("results", [metrics.csv(db, job.id).encode()])
        placed.append(table.key)
    except StorageAway:
        _remove(*placed)  # all of it is made again, from what the job's folder holds
        raise
    failpoints.hit("publish.files_placed")
    try:
        if fence.heartbeat(db, claim) is Desired.CANCEL:
            protocol.cancelled(db, claim)
            _remove(*placed)
            return None
        protocol.succeed(db, claim, measured=_measured(db, job, done))
    except fence.Fenced:
        _remove(*placed)
        raise
    slug = _slug(job.suffix or job.name)
    archive_file = _file(job, archive, f"{slug}.zip")
    metrics_file = _file(job, table, "step_metrics.csv")
    db.add_all([archive_file, metrics_file])
    db.flush()
    adapter = Adapter(
        department_id=job.department_id,
        owner_id=job.owner_id,
        job_id=job.id,
        base_model_id=job.base_model_id,
        start_adapter_id=job.start_adapter_id,
        lineage=job.lineage,
        name=job.name,
        public_name=public_name(job),
        storage_key=key,
        manifest_sha256=manifest_sha256,
        size_bytes=sum(file.stat().st_size for file in storage.path(key).iterdir()),
        metrics=done.model_dump(exclude={"kind", "at", "manifest_sha256", "end_token_ids"}),
        samples=job.samples or [],
        archive_file_id=archive_file.id,
        metrics_file_id=metrics_file.id,
    )
    db.add(adapter)
    db.flush()
    if rows is not None:
        practice.keep(db, adapter, rows)
    audit.record(db, None, "adapter.publish", f"adapter {adapter.id}", job=job.id)
    return adapter


def public_name(job: Job) -> str:
    """Return what programs call the model that a job yields; known before it is there."""
    return name_for_programs(job.owner, job.base_model, job.suffix or "", job.public_id[-8:])


def name_for_programs(owner: User, base_model: BaseModel, suffix: str, short_id: str) -> str:
    """Return the name of a model by which programs ask it: ft:{base}:{house}:{suffix}:{id}."""
    house = _slug(owner.department.name)
    return f"ft:{base_model.name}:{house}:{_slug(suffix) if suffix else ''}:{short_id}"


def visible(user: User) -> Select[Adapter]:
    """Select the adapters that a person may see: the department's that are not in the bin."""
    return _visible_in(user.department_id)


def _visible_in(department_id: int | BindParameter[int]) -> Select[Adapter]:
    return _of_department(department_id).where(Adapter.binned_at.is_(None))


def _of_department(department_id: int | BindParameter[int]) -> Select[Adapter]:
    return select(Adapter).where(Adapter.department_id == department_id)


def get(db: Session, user: User, adapter_id: int) -> Adapter:
    """Return one adapter.

    Raises:
        NotFound: there is none, it is in the bin, or it belongs to another department.
    """
    adapter = db.scalars(
        _of_department(user.department_id).where(Adapter.id == adapter_id)
    ).one_or_none()
    if adapter is None:
        raise NotFound("There is no such trained model; it may have been deleted.")
    if adapter.binned_at is not None:
        raise bins.in_the_bin(adapter.name)
    return adapter


def by_public_name(db: Session, user: User, name: str) -> Adapter:
    """Return one adapter by the name that programs know, e.g. `ft:…`.

    Raises:
        NotFound: there is none, or it belongs to another department.
    """
    adapter = db.scalars(visible(user).where(Adapter.public_name == name)).one_or_none()
    if adapter is None:
        raise NotFound(f"There is no tuned model {name!r}.", field="model")
    return adapter


def list_adapters(db: Session, user: User) -> list[Adapter]:
    """List the department's adapters, the newest first; those of curves stand on their pages."""
    shown = listed(user).options(selectinload(Adapter.archive_file))
    return list(db.scalars(shown.order_by(Adapter.id.desc())))


def listed(user: User) -> Select[Adapter]:
    """Select what `list_adapters` lists."""
    return listed_in(user.department_id)


def listed_in(department_id: int | BindParameter[int]) -> Select[Adapter]:
    """Select the same of a department."""
    return _visible_in(department_id).where(~_left_to_curve())


def num_left_to_curves(db: Session, user: User) -> int:
    """Count what `list_adapters` leaves to the pages of learning curves."""
    left = visible(user).where(_left_to_curve()).subquery()
    return db.scalars(select(func.count()).select_from(left)).one()


@cache
def _left_to_curve() -> ColumnElement[bool]:
    # A curve's page goes with its data. And whose release a person has decided about is no longer
    # a mere point.
    has_page = exists().where(
        Job.id == Adapter.job_id,
        LearningCurve.id == Job.curve_id,
        DatasetVersion.id == LearningCurve.version_id,
        Dataset.id == DatasetVersion.dataset_id,
        Dataset.deleted_at.is_(None),
    )
    return and_(has_page, Adapter.release == Release.PRIVATE)


def archive(db: Session, user: User, adapter: Adapter) -> StoredFile:
    """Return the zip that a person takes home; who took it is kept in the audit log.

    Raises:
        Conflict: the adapter was withdrawn.
        NotFound: the file was deleted, or the adapter is in the bin.
    """
    if not adapter.has_weights:
        raise NotFound(NO_FILES.format(name=adapter.name))
    if adapter.binned_at is not None:
        raise bins.in_the_bin(adapter.name)
    if adapter.release is Release.WITHDRAWN:
        raise Conflict(WITHDRAWN.format(name=adapter.name))
    file = adapter.archive_file
    if file is None or file.deleted_at is not None:
        raise NotFound("This trained model's archive was deleted; train again to get a new one.")
    audit.record(db, user, "adapter.download", f"adapter {adapter.id}")
    return file


def renew_card(db: Session, adapter: Adapter, counted: str) -> str | None:
    """Let the card in an adapter's zip say how many answers are right; the caller commits.

    The zip is made again, with a manifest that names the new card; the adapter's own folder, which
    is pinned by its hash, stays as it is.

    Args:
        counted: The count in sentences, e.g. “3 of 24 right …”; no row of the data.

    Returns:
        The key of the old zip, which the caller deletes after the commit; nothing where all of it
        stays as it is.
    """
    db.refresh(adapter, with_for_update={"of": Adapter})
    file = adapter.archive_file
    if file is None or file.deleted_at is not None or adapter.counted == counted:
        return None
    source = folder(adapter)
    about = manifests.read_extra(source)
    with tempfile.TemporaryDirectory(dir=source.parent, prefix="card-") as temporary:
        copy = Path(temporary) / source.name
        copy.mkdir()
        for path in source.iterdir():
            if path.name not in (_CARD, manifests.NAME):
                os.link(path, copy / path.name)
        card = (source / _CARD).read_text(encoding="utf-8")
        (copy / _CARD).write_text(model_card.with_count(card, counted), encoding="utf-8")
        manifests.write_manifest(copy, **about)
        stored = _zip(copy)
    old = file.storage_key
    file.storage_key, file.size_bytes, file.sha256 = stored.key, stored.size_bytes, stored.sha256
    adapter.counted = counted
    db.flush()
    return old


def folder(adapter: Adapter) -> Path:
    """Return where an adapter's files lie; only tuned ones have any."""
    assert adapter.storage_key is not None
    return storage.folder(adapter.storage_key, adapter.manifest_sha256)


def rename(db: Session, user: User, adapter: Adapter, name: str) -> None:
    """Give an adapter another name; the name that programs use stays.

    Raises:
        Forbidden: the person may only look.
        Invalid: the name is empty or too long.
    """
    require_editor(user, "You can look at trained models, but not rename them.")
    name = " ".join(name.split())
    if not name or len(name) > MAX_NAME_LENGTH:
        raise Invalid(f"Enter a name of 1 to {MAX_NAME_LENGTH} characters.", field="name")
    adapter.name = name
    db.flush()
    audit.record(db, user, "adapter.rename", f"adapter {adapter.id}")


def delete(db: Session, user: User, adapter: Adapter) -> None:
    """Erase an adapter and its files at once; the job that made it stays.

    What people delete on pages goes to the bin first (app/adapters/bin.py).

    Raises:
        Forbidden: the person may only look.
        Conflict: a job that is not over starts from it.
    """
    require_deletable(db, user, adapter)
    erase(db, user, adapter)


def require_deletable(db: Session, user: User, adapter: Adapter) -> None:
    """Lock an adapter, and refuse where somebody or something still needs it.

    Raises:
        Forbidden: the person may only look.
        Conflict: a job that is not over starts from it.
    """
    require_editor(user, "You can look at trained models, but not delete them.")
    # A job being made at this moment waits for this lock, or is seen below.
    db.refresh(adapter, with_for_update={"of": Adapter})
    job = db.scalars(
        select(Job)
        .where(
            Job.start_adapter_id == adapter.id,
            Job.status.in_((JobStatus.QUEUED, JobStatus.RUNNING)),
        )
        .limit(1)
    ).first()
    if job is not None:
        raise Conflict(
            f"The job “{job.name}” starts from this trained model; wait for it or cancel it, "
            "then delete."
        )


def erase(db: Session, user: User | None, adapter: Adapter, **detail: str) -> None:
    """Erase an adapter whose row the caller has locked, and that nothing needs.

    Nothing serves the files once this is committed; a worker removes the bytes (`purge`).

    Args:
        user: Who wants it; none: it has been in the bin for its time.
        detail: What the audit log says beside it.
    """
    files = [file for file in (adapter.metrics_file, adapter.archive_file) if file is not None]
    if adapter.job is not None:  # which says for ever what it yielded
        ids = [file.public_id for file in files]
        adapter.job.deleted_result = {"model": adapter.public_name, "files": ids}
    for file in files:
        file.deleted_at = func.now()
    subject = f"adapter {adapter.id}"
    notices.evaluations_go(db, Evaluation.adapter_id == adapter.id)
    db.delete(adapter)
    db.flush()
    audit.record(db, user, "adapter.delete", subject, **detail)


def purge(db: Session) -> int:
    """Remove adapter folders that no row points to; new ones may be waiting for their commit."""
    keys = storage.left_over("adapters", _PURGE_AFTER_SECONDS)
    kept = set(db.scalars(select(Adapter.storage_key).where(Adapter.storage_key.in_(keys))))
    for key in keys - kept:
        storage.delete(key)
    if settings.joined(settings.get().data_dir) is not None:
        # Nobody asks this machine for the zips and tables that it has published.
        for key in storage.old_here("results", _PURGE_AFTER_SECONDS):
            storage.forget(key)
    return len(keys - kept)


def _store(job: Job, result: Path, target: Path, done: DoneEvent) -> str:
    manifests.verify_manifest(result)
    names = sorted(path.name for path in result.iterdir())
    odd = [name for name in names if not (_ALLOWED.fullmatch(name) or licences.is_one(name))]
    missing = [name for name in _NEEDED if name not in names]
    if odd or missing:
        raise ValueError(f"{result}: unexpected {odd}, missing {missing}")
    with manifests.new_folder(target) as partial:
        for name in names:
            if name != manifests.NAME:
                shutil.copyfile(result / name, partial / name)
        (partial / _CARD).write_text(model_card.write(job, done), encoding="utf-8")
        written = manifests.write_manifest(
            partial,
            job=job.public_id,
            base_model={"name": job.base_model.name, "sha256": job.base_model.manifest_sha256},
            examples_sha256=job.version.examples_sha256,
        )
    if manifests.verify_manifest(target) != written:
        raise ValueError(f"{target} changed while it was written")
    return written


def _zip(source: Path) -> storage.Stored:
    """Pack a folder; the same files give the same bytes."""
    partial = source.with_name(source.name + ".zip.tmp")
    try:
        with zipfile.ZipFile(partial, "w") as pack:
            for path in sorted(source.iterdir()):
                entry = zipfile.ZipInfo(path.name, date_time=(1980, 1, 1, 0, 0, 0))
                entry.external_attr = 0o644 << 16
                entry.file_size = path.stat().st_size  # beyond 2 GB the entry needs to know
                # Weights are noise: packing them costs minutes and saves nothing.
                is_weights = path.suffix == ".safetensors"
                entry.compress_type = zipfile.ZIP_STORED if is_weights else zipfile.ZIP_DEFLATED
                with path.open("rb") as file, pack.open(entry, "w") as packed:
                    shutil.copyfileobj(file, packed, 1024 * 1024)
        return storage.adopt("results", partial, manifests.file_sha256(partial))
    finally:
        partial.unlink(missing_ok=True)


def _file(job: Job, stored: storage.Stored, filename: str) -> StoredFile:
    return StoredFile(
        department_id=job.department_id,
        owner_id=job.owner_id,
        filename=filename,
        purpose=RESULTS_PURPOSE,
        storage_key=stored.key,
        size_bytes=stored.size_bytes,
        sha256=stored.sha256,
    )


def _measured(db: Session, job: Job, done: DoneEvent) -> Json:
    """Return what stands beside the plan's numbers: the same quantities.

    The time is that of all attempts, from each one's claim to its end or to now.
    """
    until = func.coalesce(Attempt.ended_at, clock.NOW)
    spent = func.sum(func.extract("epoch", until - Attempt.started_at))
    seconds = db.scalar(select(spent).where(Attempt.job_id == job.id)) or 0
    return {
        "seconds": float(seconds),
        "peak_bytes": done.peak_memory_bytes,
        # While it trains, as the plan's.
        "tokens_per_second": done.trained_tokens / max(done.train_seconds, 1e-9),
        "save_seconds": done.save_seconds,
        # What it would have been alone on its machine; None: on a GPU, which it has for itself.
        "plain_tokens_per_second": done.processor_seconds
        and done.trained_tokens / done.processor_seconds,
    }


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:64] or "adapter"


def _remove(*keys: str) -> None:
    for key in keys:
        storage.delete(key)


def require_editor(user: User, sentence: str) -> None:
    """Refuse those who may only look.

    Raises:
        Forbidden: with that sentence.
    """
    if not can_edit(user):
        raise Forbidden(sentence)
