"""Import the next waiting base model: convert it in a child, keep it under the fence."""

import errno
import json
import os
import re
import shutil
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import structlog
from sqlalchemy.orm import Session

from app.base_models import copies, registry, states, uploads
from app.core import db, disk, leases, outbound, settings, storage
from app.core.child import BrokeOff, Child
from app.core.leases import Lease, LeaseLost
from app.core.models import BaseModel, Json, ModelStatus
from app.core.shared_storage import StorageAway
from app.training import isolation
from worker import leased
from worker.leased import LeaseHolder, Unfinished
from worker.trainer import runtime

_log = structlog.get_logger()
# A large model on a thin line takes days; one that stands still for so long is stopped.
_SILENT_SECONDS = 2 * 3600
# So long what a broken download has brought is kept, for somebody to go on with it.
_KEPT_SECONDS = 7 * 24 * 3600
# With less of it free nothing that fails to be written needs another reason.
_FULL_BYTES = 16 * 1024**2
_OTHERS = (
    "A starting model of this name was here before, with other weights, and trained models were "
    "made "
    "with those; import this one under another name."
)
# The way out of the site, or to a mirror within it.
_FOR_THE_HUB = ("https_proxy", "no_proxy", "ssl_cert_file", "hf_endpoint")


def import_next(worker_id: str) -> bool:
    """Import one model if one waits; returns whether one did."""
    return leased.run(
        leases.BASE_MODELS, worker_id, _fetch, _import, name="model", tidy=_drop_downloads
    )


def _fetch(session: Session, lease: Lease) -> BaseModel | None:
    return session.get(BaseModel, lease.id, populate_existing=True)


def _import(holder: LeaseHolder, model: BaseModel) -> None:
    lease, name = holder.lease, model.name
    stem = f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}-{lease.id}"
    folder = f"{stem}-{lease.attempt}"
    target = settings.get().models_dir / folder
    # The child may write here alone: what it reads comes from strangers.
    work = target.with_name(f".{folder}.work")
    download = _download(lease.id)
    is_kept = False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep_leavings(rf"{stem}-\d+")
        work.mkdir()
        if registry.has_its_files(model):
            source = _readable(model)
            answer = _convert(holder, {"source": source, "target": str(work / folder)})
        else:
            answer = {"error": "The uploaded files of this model are gone; upload it again."}
        if "result" in answer:
            answer["result"]["source"] = model.source | _learned(answer["result"]["source"])
            isolation.take_back(work / folder)
            (work / folder).rename(target)
            storage.sync_folder(target.parent)
            storage.share_folder(copies.key(answer["result"]["manifest_sha256"]), target)
        with db.session() as session:
            has_kept = _keep(session, lease, folder, answer)
            session.commit()
        is_kept = has_kept
        if "result" in answer or answer.get("is_theirs", "error" in answer):
            _forget_upload(model.source)
            shutil.rmtree(download, ignore_errors=True)
    except StorageAway:
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Unfinished(registry.no_room(None, _free_bytes())) from None
    except LeaseLost:  # another worker has it, or it was cancelled
        _log.warning("model_import.lost", model=name)
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
        with suppress(OSError):
            download.rmdir()  # nothing came
        if not is_kept:
            _sweep_leavings(re.escape(folder))


def _readable(model: BaseModel) -> Json:
    """Return a source as the child takes it: what was uploaded lies in a folder, what is fetched
    comes to one that outlives the child."""
    source = model.source
    if source["kind"] == "hub":
        kept = _download(model.id)
        kept.mkdir(parents=True, exist_ok=True)
        isolation.let_in(kept.parent)
        return source | {"kept": str(kept)}
    if source["kind"] != "upload":
        return source
    folder = registry.uploaded_folder(source["id"])
    for path in (folder.parents[1], folder.parent, folder, *folder.iterdir()):
        isolation.let_in(path)
    return {"kind": "folder", "path": str(folder)}


def _download(model_id: int) -> Path:
    """Return where a model's files come to from the hub, also for whoever tries again."""
    return settings.get().models_dir / ".downloads" / str(model_id)


def _drop_downloads(session: Session) -> None:
    """Remove what was fetched of models that nobody will go on with."""
    oldest = time.time() - _KEPT_SECONDS
    for folder in _download(0).parent.glob("*"):
        model = session.get(BaseModel, int(folder.name)) if folder.name.isdecimal() else None
        state = states.State.DELETED if model is None else states.of(model).state
        is_wanted = state in (states.State.WAITING, states.State.IMPORTING)
        written_at = 0.0
        for path in (folder, *folder.rglob("*")):
            with suppress(OSError):  # another worker removes it, too
                written_at = max(written_at, path.stat().st_mtime)
        if not is_wanted and not (state is states.State.FAILED and written_at > oldest):
            shutil.rmtree(folder, ignore_errors=True)


def _learned(source: Json) -> Json:
    """Return what the child found out about a source: a commit, or a file's name and hash."""
    return {name: source[name] for name in ("revision", "gguf") if name in source}


def _forget_upload(source: Json) -> None:
    if source["kind"] == "upload":
        uploads.forget(source["id"])


def _keep(session: Session, lease: Lease, folder: str, answer: Json) -> bool:
    """Write down how an import ended; returns whether its folder is of use."""
    result = answer.get("result")
    before = session.get_one(BaseModel, lease.id).manifest_sha256
    if result is not None and before not in (None, result["manifest_sha256"]):
        # It was deleted, and its adapters would answer with weights that they do not know.
        leases.release(session, lease, ModelStatus.FAILED, reason=_OTHERS)
        return False
    if result is None:
        reason = answer.get("error") or (
            "Importing this model ended without a word, perhaps because the machine ran out of "
            "memory; choose a smaller model, or look at the worker's log."
        )
        leases.release(session, lease, ModelStatus.FAILED, reason=reason)
        return False
    # What is known of it from elsewhere stays where its files say nothing.
    said = {name: text for name in ("licence", "note") if (text := result.pop(name))}
    values = result | said
    leases.release(session, lease, ModelStatus.READY, folder=folder, reason=None, **values)
    return True


def _convert(holder: LeaseHolder, request: Json) -> Json:
    """Let a child do it; returns its last word."""
    child = Child(
        "worker.cpu.model_conversion",
        json.dumps(request),
        ends=('{"result"', '{"error"'),
        timeout_seconds=float("inf"),
        idle_seconds=_SILENT_SECONDS,
        environment=environment(request["source"]["kind"]),
    )
    target = Path(request["target"])
    with child, ExitStack() as room:
        try:
            for line in holder.hear(child, child.lines()):
                if not line.startswith(b"{"):  # libraries print, too
                    continue
                message: Json = json.loads(line)
                if "needs" in message:
                    places = [target.with_name(f"{target.name}.tmp"), target]
                    if "kept" in request["source"]:
                        places.append(Path(request["source"]["kept"]))
                    room.enter_context(disk.Reservation(message["needs"], places))
                    child.say("")
                elif "outbound" in message:
                    outbound.add(outbound.Counts(**message["outbound"]))
                elif "progress" in message:
                    holder.tell(message["progress"])
                else:
                    return _explained_by_disk(message)
        except disk.NoRoom as error:
            return _no_room(error.needed_bytes, error.free_bytes)
        except BrokeOff as error:
            _log.error("model_import.broke_off", code=error.code, tail=error.tail[-2000:])
            if error.is_late:
                return {
                    "error": "Importing this model stood still for too long and was stopped.",
                    "is_theirs": False,
                }
            return _explained_by_disk({})
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return _no_room(None, _free_bytes())
    return {}


def _explained_by_disk(answer: Json) -> Json:
    """Say that the disk is full where it is: whoever writes there dies of it in many ways."""
    free = _free_bytes()
    if "result" in answer or free >= _FULL_BYTES:
        return answer
    return _no_room(None, free)


def _no_room(needed_bytes: int | None, free_bytes: int) -> Json:
    """Refuse for want of room, which says nothing against the files."""
    return {"error": registry.no_room(needed_bytes, free_bytes), "is_theirs": False}


def _free_bytes() -> int:
    return shutil.disk_usage(settings.get().data_dir).free


def environment(kind: str) -> dict[str, str]:
    """Hand on what a child with torch needs, and no address or password of ours."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV")
        or (kind == "hub" and name.lower() in _FOR_THE_HUB)
    }
    offline = "0" if kind == "hub" else "1"
    kept |= {"HF_HUB_OFFLINE": offline, "TRANSFORMERS_OFFLINE": offline, "TQDM_DISABLE": "1"}
    kept |= {
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONWARNINGS": "ignore",
    }
    # A trainer computes beside it: two that spin while they wait keep each other from working.
    kept |= runtime.ENVIRONMENT
    if kind == "hub":
        kept["ETUDE_HUB_TOKEN"] = settings.get().hub_token
    return kept


def _sweep_leavings(folder: str) -> None:
    """Remove what imports to a folder left on the disk that were not kept; of no other's.

    Args:
        folder: A pattern of its name.
    """
    # Names of models hold numbers and hyphens, too: the whole name has to match.
    left = re.compile(rf"{folder}(\.tmp|\.old)?|\.{folder}\..+")
    for path in settings.get().models_dir.iterdir():
        if left.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
