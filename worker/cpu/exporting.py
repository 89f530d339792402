"""Make the next export that waits: written, opened by foreign programs, packed, and then offered.

1. Look whether disk and memory suffice, and hold the room (app/core/disk.py).
2. A child writes the form into a folder of this attempt's own (worker/exporting/making.py).
3. Another one opens it and compares it with the reference (worker/exporting/proving.py). What falls
   short ends here, and says by how much.
4. A third packs it with its card, and reads the zip again (worker/exporting/packing.py).
5. The zip gets a key of storage, and in the transaction that releases the lease the row points to
   it. A kill at any moment leaves a row that waits again, and files that nobody is given.
"""

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.orm import Session

from app.adapters import export_card, exports, registry
from app.base_models import registry as base_models
from app.core import db, disk, leases, settings, storage
from app.core.child import BrokeOff, Child
from app.core.errors import AppError
from app.core.leases import Lease, LeaseLost
from app.core.models import Adapter, Export, Json, Release
from app.evaluation import cards
from app.training import failpoints, isolation
from app.training.plan.machine import free_memory
from worker import leased
from worker.cpu import export_rows, model_import
from worker.cpu.export_rows import HeldOut
from worker.leased import LeaseHolder, Unfinished

_log = structlog.get_logger()
# Of each step: a large model, on a machine where others work.
_TIMEOUT_SECONDS = 6 * 3600
_BROKE_OFF = (
    "Making this ended without a word, perhaps because the machine ran out of memory; try a "
    "smaller form, or ask your administrator to look at the worker's log."
)
# How much of the way each step is, of 1.
_STEPS = {"make": (0.0, 0.35), "prove": (0.35, 0.85), "pack": (0.85, 1.0)}


@dataclass(frozen=True)
class _Wanted:
    """What is to be made; nothing of it needs the database any more."""

    row: Export
    adapter: Adapter
    sources: Json
    held_out: HeldOut
    counted: str  # how many answers are right, for the card
    disk_bytes: int  # that making it takes at most


def export_next(worker_id: str) -> bool:
    """Make one export if one waits; returns whether one did."""
    tidy = exports.remove_leavings
    return leased.run(leases.EXPORTS, worker_id, _fetch, _export, name="export", tidy=tidy)


def _fetch(session: Session, lease: Lease) -> _Wanted | None:
    failpoints.hit("export.claimed")
    row = session.get(Export, lease.id, populate_existing=True)
    if row is None:
        return None
    adapter, base = row.adapter, row.adapter.base_model
    folder, why = None, ""
    try:
        folder = base_models.folder(base)
    except AppError as error:
        why = error.message
    if adapter.release is Release.WITHDRAWN:
        why = registry.WITHDRAWN.format(name=adapter.name)
    if folder is None or why:
        with suppress(LeaseLost):
            exports.fail(session, lease, why)
            session.commit()
        return None
    sources = {
        "base": str(folder.absolute()),
        "base_sha256": base.manifest_sha256,
        "base_name": base.name,
        "adapter": str(registry.folder(adapter)),
        "adapter_sha256": adapter.manifest_sha256,
    }
    held_out = export_rows.held_out(session, adapter)
    needed = exports.disk_bytes(adapter, row.form, row.quantization)
    counted = cards.counted(session, adapter)
    return _Wanted(row, adapter, sources, held_out, counted, needed)


def _export(holder: LeaseHolder, wanted: _Wanted) -> None:
    lease = holder.lease
    exports.sweep_leavings(lease)
    out = exports.work_folder(lease)
    out.mkdir(parents=True)
    try:
        with _room(wanted, out):
            _require_memory(wanted.adapter)
            _make_and_offer(holder, wanted, out)
    finally:
        shutil.rmtree(out, ignore_errors=True)


def _make_and_offer(holder: LeaseHolder, wanted: _Wanted, out: Path) -> None:
    row, adapter = wanted.row, wanted.adapter
    form = {"form": row.form.value, "quantization": row.quantization.value, "out": str(out)}
    made = _step(
        holder,
        {
            **{"task": "make", "sources": wanted.sources, "title": adapter.name},
            **{"name": exports.file_stem(adapter)} | form,
        },
        out,
    )
    failpoints.hit("export.made")
    proof = _step(
        holder,
        {"task": "prove", "sources": wanted.sources, "rows": wanted.held_out.rows} | form,
        out,
    )
    failpoints.hit("export.proved")
    agreement = [each | {"rows": wanted.held_out.words} for each in proof["agreement"]]
    if proof["problem"]:
        _log.error("export.falls_short", export=row.id, why=proof["problem"], found=agreement)
        with db.session() as session:
            exports.fail(session, holder.lease, proof["problem"], agreement)
            session.commit()
        return
    name = exports.filename(adapter, row.form, row.quantization)
    card = export_card.write(adapter, row, agreement, made["notes"], wanted.counted)
    about = {
        "adapter": adapter.public_name,
        "base_model": {"name": adapter.base_model.name, "sha256": wanted.sources["base_sha256"]},
        "form": row.form.value,
        "quantization": row.quantization.value,
    }
    pack = {"task": "pack", "out": str(out), "folder_name": name, "card": card, "about": about}
    packed = _step(holder, pack, out)
    failpoints.hit("export.packed")
    _offer(holder, wanted, out / "export.zip", packed, f"{name}.zip", agreement, made["notes"])


def _offer(
    holder: LeaseHolder,
    wanted: _Wanted,
    archive: Path,
    packed: Mapping[str, Any],
    name: str,
    agreement: list[Json],
    notes: list[str],
) -> None:
    holder.check()
    stored = storage.adopt(exports.STORAGE_KIND, archive, packed["sha256"])
    failpoints.hit("export.placed")
    try:
        with db.session() as session:
            exports.finish(
                session,
                holder.lease,
                wanted.adapter,
                stored,
                name=name,
                agreement=agreement,
                notes=notes,
            )
            failpoints.commit(session, "export")
    except LeaseLost:
        storage.delete(stored.key)
        raise


def _room(wanted: _Wanted, out: Path) -> disk.Reservation:
    """Hold the disk that it takes; where it is short, older exports go first.

    Raises:
        Unfinished: the disk has not got it.
    """
    try:
        try:
            return disk.Reservation(wanted.disk_bytes, [out])
        except disk.NoRoom as short:
            with db.session() as session:
                exports.make_room(session, short.needed_bytes)
            return disk.Reservation(wanted.disk_bytes, [out])
    except disk.NoRoom as error:
        raise Unfinished(
            f"Making this needs {error.needed_bytes / 1e9:,.1f} GB of free disk space, and "
            f"{error.free_bytes / 1e9:,.1f} GB are free; make room on the server's disk, then try "
            "again."
        ) from None


def _require_memory(adapter: Adapter) -> None:
    needed, free = exports.memory_bytes(adapter), free_memory()
    if free < needed:
        raise Unfinished(
            f"Making this needs about {needed / 1e9:,.1f} GB of free memory, and {free / 1e9:,.1f} "
            "GB are free at the moment; try again when less is going on."
        )


def _step(holder: LeaseHolder, request: Json, out: Path) -> Json:
    """Let a child do one step, and make what it wrote our own.

    Raises:
        Unfinished: it came to no result.
    """
    begin, end = _STEPS[request["task"]]
    child = Child(
        settings.get().export_module,
        json.dumps(request),
        ends=('{"result"', '{"error"'),
        timeout_seconds=_TIMEOUT_SECONDS,
        environment=model_import.environment("folder"),
    )
    answer: Json = {}
    with child:
        try:
            for line in holder.hear(child, child.lines()):
                if not line.startswith(b"{"):  # libraries print, too
                    continue
                answer = json.loads(line)
                if "progress" in answer:
                    said = answer["progress"]
                    share = begin + (end - begin) * said["share"]
                    holder.tell({"doing": said["doing"], "share": round(share, 3)})
        except BrokeOff as error:
            _log.error("export.broke_off", code=error.code, tail=error.tail[-2000:])
            if error.is_late:
                raise Unfinished("Making this took too long and was stopped.") from None
            raise Unfinished(_BROKE_OFF) from None
    _own(out)
    if "result" not in answer:
        raise Unfinished(answer.get("error") or _BROKE_OFF)
    result: Json = answer["result"]
    return result


def _own(out: Path) -> None:
    with suppress(OSError):  # what a child may have removed is missed by the next step
        isolation.take_back(out)
