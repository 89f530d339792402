"""An adapter taken along: the forms there are, who may ask for one, and how long it is kept.

    waiting -> making -> ready -> gone        under a lease (app/core/leases.py)
                      -> failed, cancelled

A cpu worker makes each one and has foreign programs open it before it is ready
(worker/cpu/exporting.py). What is ready is one zip; it is kept for some days, less where the disk
is short, and made again by a click. This module is the only writer of the status.
"""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session

from app.adapters import gguf_sizes, registry
from app.base_models import registry as base_models
from app.core import audit, bins, clock, leases, settings, storage
from app.core.errors import Conflict, Forbidden, Invalid, NotFound
from app.core.leases import Lease
from app.core.models import (
    Adapter,
    BaseModel,
    Export,
    ExportForm,
    ExportStatus,
    Json,
    Quantization,
    Release,
    Role,
    User,
)
from app.people.auth import can_edit

KEPT_DAYS = 7
STORAGE_KIND = "exports"
OPEN = (ExportStatus.WAITING, ExportStatus.MAKING)
_SMALL_FILES_BYTES = 8 * 1024**2
# One layer in 32 bits, and what the libraries themselves take.
_BESIDE_WEIGHTS_BYTES = 2 * 1024**3
_PURGE_AFTER_SECONDS = 3600
_Q = Quantization
# What vLLM can be told for --max-lora-rank (vllm/config/lora.py).
_VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True)
class Form:
    """A form that an adapter can be taken along in."""

    form: ExportForm
    name: str
    about: str  # what it is, and for whom
    quantizations: tuple[Quantization, ...]  # the usual one first
    is_for_servers: bool = True  # or for programs that read Python; else for anybody's computer


FORMS = {
    each.form: each
    for each in (
        Form(
            ExportForm.ADAPTER,
            "Adapter",
            "What was learned, alone: small, for Python and for servers that have the starting "
            "model.",
            (_Q.AS_TRAINED,),
        ),
        Form(
            ExportForm.MERGED,
            "Merged model",
            "The starting model with what was learned in it, in 16 bits: for Python and most "
            "servers.",
            (_Q.BF16,),
        ),
        Form(
            ExportForm.GGUF_MERGED,
            "GGUF file",
            "Everything in one file, for llama.cpp, LM Studio and others on a laptop.",
            (_Q.Q8_0, _Q.Q4_K_M, _Q.F16),
            is_for_servers=False,
        ),
        Form(
            ExportForm.OLLAMA,
            "Ollama folder",
            "For Ollama: a GGUF file with a Modelfile, in which template, end of an answer and "
            "licence are right.",
            (_Q.Q8_0, _Q.Q4_K_M, _Q.F16),
            is_for_servers=False,
        ),
        Form(
            ExportForm.GGUF,
            "GGUF adapter",
            "For llama.cpp: what was learned in one file, and the starting model in another.",
            (_Q.F16,),
        ),
        Form(
            ExportForm.VLLM,
            "vLLM folder",
            "The starting model and the adapter, with the command that serves both.",
            (_Q.AS_TRAINED,),
        ),
    )
}
QUANTIZATION_WORDS = {
    _Q.AS_TRAINED: "as trained",
    _Q.BF16: "16 bits",
    _Q.F16: "16 bits (f16)",
    _Q.Q8_0: "8 bits (q8_0)",
    _Q.Q4_K_M: "4 bits (q4_k_m)",
}


# --- asking for one ---------------------------------------------------------------------------


def request(
    db: Session,
    user: User,
    adapter: Adapter,
    form: ExportForm,
    quantization: Quantization | None = None,
) -> Export:
    """Have an adapter made in a form; the caller rings the cpu queue after the commit.

    One that waits, is being made or is ready already is returned as it is.

    Args:
        quantization: None: the form's usual one.

    Raises:
        Forbidden: the person may only look.
        Invalid: the form has no such quantization.
        NotFound: there is nothing to take along.
        Conflict: it was withdrawn, or its starting model is not ready.
    """
    if not can_edit(user):
        raise Forbidden("You can download what is ready here, but not have new files made.")
    quantization = require_quantization(form, quantization)
    # Of two who press the button at once, the second waits for this lock and sees the first's.
    db.refresh(adapter, with_for_update={"of": Adapter})
    if why := why_not(adapter, form):
        raise Conflict(why)
    base_models.folder(adapter.base_model)
    there = db.scalars(
        _of(adapter, form, quantization).where(Export.status.in_((*OPEN, ExportStatus.READY)))
    ).first()
    if there is not None:
        return there
    made = Export(
        department_id=adapter.department_id,
        owner_id=user.id,
        adapter_id=adapter.id,
        form=form,
        quantization=quantization,
    )
    db.add(made)
    db.flush()
    audit.record(
        db,
        user,
        "export.start",
        f"export {made.id}",
        adapter=adapter.id,
        form=form.value,
        quantization=quantization.value,
    )
    return made


def require_quantization(form: ExportForm, quantization: Quantization | None) -> Quantization:
    """Return the quantization that is meant.

    Raises:
        Invalid: the form is not to be had in it.
    """
    known = FORMS[form].quantizations
    if quantization is None:
        return known[0]
    if quantization not in known:
        raise Invalid(
            f"{FORMS[form].name} can be had as {', '.join(known)}, not as {quantization.value}.",
            field="quantization",
        )
    return quantization


def why_not(adapter: Adapter, form: ExportForm) -> str:
    """Say why an adapter cannot be had in a form, as far as is known before; empty: it can."""
    if adapter.binned_at is not None:
        return bins.in_the_bin(adapter.name).message
    if not adapter.has_weights:
        return registry.NO_FILES.format(name=adapter.name)
    if adapter.release is Release.WITHDRAWN:
        return registry.WITHDRAWN.format(name=adapter.name)
    config = adapter_config(adapter)
    if form is ExportForm.GGUF and config.get("use_dora"):
        return "llama.cpp does not take DoRA adapters; take the GGUF file or the Ollama folder."
    rank = int(config.get("r", 0))
    if form is ExportForm.VLLM and not config.get("use_dora") and rank > _VLLM_RANKS[-1]:
        return (
            f"vLLM takes adapters up to rank {_VLLM_RANKS[-1]}, and this one has rank {rank}; take "
            "the merged model instead."
        )
    return ""


def vllm_rank(rank: int) -> int:
    """Return the smallest --max-lora-rank of vLLM that an adapter of a rank fits in."""
    return next((each for each in _VLLM_RANKS if each >= rank), _VLLM_RANKS[-1])


def adapter_config(adapter: Adapter) -> Json:
    """Return PEFT's settings of an adapter; empty where they cannot be read."""
    try:
        path = registry.folder(adapter) / "adapter_config.json"
        said: Json = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said


def cancel(db: Session, user: User, row: Export) -> None:
    """Stop one that waits or is being made; a worker that has it is fenced off.

    Raises:
        Forbidden: the person may not.
        Conflict: it is over.
    """
    if not may_cancel(user, row):
        raise Forbidden(
            "Only who asked for it, your department's lead or an administrator can cancel this."
        )
    db.refresh(row, with_for_update={"of": Export})
    if row.status not in OPEN:
        raise Conflict("This is over already, so it cannot be cancelled.")
    row.status, row.finished_at = ExportStatus.CANCELLED, func.now()
    row.worker_id = row.lease_until = row.progress = None
    db.flush()
    audit.record(db, user, "export.cancel", f"export {row.id}")


def may_cancel(user: User, row: Export) -> bool:
    """Say whether a person may stop it: who asked for it, a lead, or an administrator."""
    if user.role is Role.ADMIN:
        return True
    if user.department_id != row.department_id or not can_edit(user):
        return False
    return user.role is Role.LEAD or user.id == row.owner_id


def end_all(db: Session, adapter: Adapter, why: str) -> None:
    """End what is under way of an adapter, which says itself in the audit log why.

    Args:
        why: A sentence for whoever asked for one.
    """
    db.execute(
        update(Export)
        .where(Export.adapter_id == adapter.id, Export.status.in_(OPEN))
        .values(
            status=ExportStatus.CANCELLED,
            reason=why,
            finished_at=clock.NOW,
            worker_id=None,
            lease_until=None,
            progress=None,
        )
        .execution_options(synchronize_session=False)
    )


# --- finding and handing over -----------------------------------------------------------------


def get(db: Session, user: User, adapter: Adapter, export_id: int) -> Export:
    """Return one export of an adapter that the person may see.

    Raises:
        NotFound: there is none.
    """
    found = db.get(Export, export_id)
    if found is None or found.adapter_id != adapter.id or not _may_see(user, found):
        raise NotFound("There is nothing like that to take along; it may have been deleted.")
    return found


def by_public_id(db: Session, user: User, public_id: str) -> Export:
    """Return one export by the id that programs know.

    Raises:
        NotFound: there is none, or it belongs to another department.
    """
    found = db.scalars(select(Export).where(Export.public_id == public_id)).one_or_none()
    if found is None or not _may_see(user, found):
        raise NotFound(f"There is no export {public_id!r}.", field="export_id")
    return found


def _may_see(user: User, row: Export) -> bool:
    return user.department_id == row.department_id and row.adapter.binned_at is None


def list_of(db: Session, adapter: Adapter) -> list[Export]:
    """Return an adapter's exports, the newest first."""
    rows = select(Export).where(Export.adapter_id == adapter.id).order_by(Export.id.desc())
    return list(db.scalars(rows))


def newest_of(db: Session, adapter: Adapter) -> dict[tuple[ExportForm, Quantization], Export]:
    """Return the newest export of each form and quantization."""
    return {(row.form, row.quantization): row for row in reversed(list_of(db, adapter))}


def archive(db: Session, user: User, row: Export) -> Path:
    """Return the zip that a person takes home; who took it is kept in the audit log.

    Raises:
        Conflict: it is not ready, its adapter was withdrawn, or its time is over.
        NotFound: the disk no longer has it.
    """
    if row.adapter.release is Release.WITHDRAWN:
        raise Conflict(registry.WITHDRAWN.format(name=row.adapter.name))
    if row.status is not ExportStatus.READY or row.storage_key is None:
        raise Conflict("This is not ready; make it first.")
    path = storage.file(row.storage_key, row.sha256 or "")
    if not path.is_file() or path.stat().st_size != row.size_bytes:
        raise NotFound("This is no longer on the server's disk; make it again.")
    audit.record(db, user, "export.download", f"export {row.id}", adapter=row.adapter_id)
    return path


# --- what it takes ----------------------------------------------------------------------------


def expected_bytes(adapter: Adapter, form: ExportForm, quantization: Quantization) -> int:
    """Return about how large a download will be."""
    base = adapter.base_model
    whole = 2 * (base.num_parameters or 0)
    match form:
        case ExportForm.ADAPTER:
            # The zip of the job, where it is there: tokenizer, template and card go with it.
            return (adapter.archive_file or adapter).size_bytes
        case ExportForm.VLLM:
            return _weights_bytes(base) + adapter.size_bytes
        case ExportForm.GGUF:
            return whole + adapter.size_bytes // 2
        case ExportForm.MERGED:
            return whole + _SMALL_FILES_BYTES
        case _:
            num = base.num_parameters or 0
            each = gguf_sizes.bytes_per_weight(base.config, num, quantization)
            return round(each * num) + _SMALL_FILES_BYTES


def disk_bytes(adapter: Adapter, form: ExportForm, quantization: Quantization) -> int:
    """Return about how much disk making one takes at most: files, zip, and what stands beside."""
    whole = 2 * (adapter.base_model.num_parameters or 0)
    beside = 0
    if form in (ExportForm.GGUF_MERGED, ExportForm.OLLAMA):
        beside = whole if quantization is Quantization.F16 else 2 * whole
    return 2 * expected_bytes(adapter, form, quantization) + beside + _SMALL_FILES_BYTES


def memory_bytes(adapter: Adapter) -> int:
    """Return how much memory making and proving one takes at most."""
    return _weights_bytes(adapter.base_model) + _BESIDE_WEIGHTS_BYTES


def _weights_bytes(base: BaseModel) -> int:
    """Return what a starting model's own weights take: 16 bits each, or 32 as they came."""
    return max(base.size_bytes or 0, 2 * (base.num_parameters or 0))


def file_stem(adapter: Adapter) -> str:
    """Return how an adapter's files are called."""
    stem = re.sub(r"[^a-z0-9]+", "-", adapter.name.lower()).strip("-")[:48].strip("-")
    return stem or f"adapter-{adapter.id}"


def filename(adapter: Adapter, form: ExportForm, quantization: Quantization) -> str:
    """Return the name of a download, without its ending."""
    ending = "" if len(FORMS[form].quantizations) == 1 else f"-{quantization.value}"
    return f"{file_stem(adapter)}-{form.value}{ending}"


# --- the worker's side ------------------------------------------------------------------------


def finish(
    db: Session,
    lease: Lease,
    adapter: Adapter,
    stored: storage.Stored,
    *,
    name: str,
    agreement: Sequence[Json],
    notes: Sequence[str],
) -> None:
    """Offer what was made and proved; the caller commits.

    Raises:
        LeaseLost: another worker may have it, or it was cancelled, withdrawn or deleted.
    """
    leases.release(
        db,
        lease,
        ExportStatus.READY,
        storage_key=stored.key,
        size_bytes=stored.size_bytes,
        sha256=stored.sha256,
        filename=name,
        agreement=list(agreement),
        notes=list(notes),
        reason=None,
        finished_at=clock.NOW,
        kept_until=clock.NOW + timedelta(days=KEPT_DAYS),
    )
    audit.record(db, None, "export.ready", f"export {lease.id}", adapter=adapter.id)


def fail(db: Session, lease: Lease, reason: str, agreement: Sequence[Json] = ()) -> None:
    """End one that is not offered, with what was found; the caller commits.

    Raises:
        LeaseLost: another worker may have it, or it is over.
    """
    leases.release(
        db,
        lease,
        ExportStatus.FAILED,
        reason=reason,
        agreement=list(agreement),
        finished_at=clock.NOW,
    )


# --- keeping and forgetting -------------------------------------------------------------------


def forget(db: Session, rows: Sequence[Export]) -> list[str]:
    """Take ready exports off; returns the keys whose bytes the caller removes after the commit."""
    keys = []
    for row in rows:
        assert row.storage_key is not None
        keys.append(row.storage_key)
        row.status, row.storage_key = ExportStatus.GONE, None
    db.flush()
    return keys


def make_room(db: Session, needed_bytes: int) -> int:
    """Take off the oldest ready exports until so much disk is free; commits.

    Returns:
        How many went.
    """
    folder = settings.get().storage_dir
    num_gone = 0
    while shutil.disk_usage(folder).free < needed_bytes:
        oldest = db.scalars(
            _ready()
            .order_by(Export.finished_at)
            .limit(1)
            .with_for_update(skip_locked=True, of=Export)
        ).all()
        if not oldest:
            break
        keys = forget(db, oldest)
        db.commit()
        for key in keys:
            storage.delete(key)
        num_gone += 1
    return num_gone


def purge(db: Session) -> int:
    """Remove what is over its time, and files that no row points to; commits."""
    over = db.scalars(
        _ready().where(Export.kept_until < clock.NOW).with_for_update(skip_locked=True, of=Export)
    ).all()
    keys = forget(db, over)
    db.commit()
    for key in keys:
        storage.delete(key)
    # What is short on a machine that has joined is no reason: exports fill another's disk.
    is_ours = settings.joined(settings.get().data_dir) is None
    reserve = settings.get().disk_reserve_bytes if is_ours else 0
    num_gone = len(keys) + (make_room(db, 2 * reserve) if reserve else 0) + remove_leavings(db)
    # New ones may be waiting for their commit.
    found = storage.left_over(STORAGE_KIND, _PURGE_AFTER_SECONDS)
    kept = set(db.scalars(select(Export.storage_key).where(Export.storage_key.in_(found))))
    for key in found - kept:
        if not _is_work(db, storage.path(key)):
            storage.delete(key)
            num_gone += 1
    return num_gone


def work_folder(lease: Lease) -> Path:
    """Return where one attempt works; nothing in there is ever handed over."""
    return settings.get().storage_dir / STORAGE_KIND / f".work-{lease.id}-{lease.attempt}"


def remove_leavings(db: Session) -> int:
    """Remove what a killed worker left of exports that nobody makes any more, also deleted ones.

    A folder is made after its claim is committed, so one without a row that says so is nobody's,
    however young it is. Of a large model it holds many gigabytes.

    Returns:
        How many folders went.
    """
    root = settings.get().storage_dir / STORAGE_KIND
    left = [path for path in root.glob(".work-*") if not _is_work(db, path)]
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    return len(left)


def sweep_leavings(lease: Lease) -> None:
    """Remove what earlier attempts at the same export left."""
    root = work_folder(lease).parent
    if root.is_dir():
        for path in root.glob(f".work-{lease.id}-*"):
            shutil.rmtree(path, ignore_errors=True)


def _is_work(db: Session, path: Path) -> bool:
    """Say whether somebody works in a folder at the moment."""
    match = re.fullmatch(r"\.work-(\d+)-(\d+)", path.name)
    if match is None:
        return False
    found = select(Export.id).where(
        Export.id == int(match[1]),
        Export.attempt == int(match[2]),
        Export.status == ExportStatus.MAKING,
    )
    return db.scalar(found) is not None


def _of(adapter: Adapter, form: ExportForm, quantization: Quantization) -> Select[Export]:
    return select(Export).where(
        Export.adapter_id == adapter.id,
        Export.form == form,
        Export.quantization == quantization,
    )


def _ready() -> Select[Export]:
    return select(Export).where(Export.status == ExportStatus.READY)
