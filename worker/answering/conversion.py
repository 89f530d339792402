"""llama.cpp's form of a model and of an adapter: made once by a child, found by their hashes."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.adapters.answering import WantedAdapter, WantedBase
from app.core import settings
from app.core.models import Adapter, BaseModel
from app.training import manifests
from worker.answering import child
from worker.answering.child import ChildFailed
from worker.inference import gguf_files
from worker.inference.gguf_files import Form

# How the last line of a child that makes files begins (worker/inference/convert.py).
ENDS = ('{"result"', '{"error"')
_FORM: Form = "q8_0"
# One that is just being made has not its own name yet.
_PURGE_AFTER_SECONDS = 3600


def folder() -> Path:
    """Return where the files lie; they can be made again."""
    return settings.get().cache_dir / "gguf"


def base_file(base: WantedBase) -> Path:
    return gguf_files.base_gguf(folder(), base.manifest_sha256, _FORM)


def adapter_file(base: WantedBase, adapter: WantedAdapter) -> Path:
    return gguf_files.adapter_gguf(folder(), base.manifest_sha256, adapter.manifest_sha256)


def merged_file(base: WantedBase, adapter: WantedAdapter) -> Path:
    return gguf_files.merged_gguf(folder(), base.manifest_sha256, adapter.manifest_sha256, _FORM)


def must_merge(adapter: WantedAdapter) -> bool:
    """Say whether llama.cpp can only answer from a model with the adapter worked into it.

    Raises:
        ChildFailed: its files cannot be read.
    """
    try:
        return gguf_files.must_merge(
            json.loads((adapter.folder / "adapter_config.json").read_bytes())
        )
    except (OSError, ValueError) as error:
        raise ChildFailed(
            "This trained model's files on the server cannot be read; ask your administrator to "
            "restore "
            "them from a backup."
        ) from error


def verify(adapter: WantedAdapter) -> None:
    """Look whether an adapter's files are those that were trained.

    Raises:
        ChildFailed: they are not, or cannot be read.
    """
    try:
        found = manifests.verify_manifest(adapter.folder)
    except (ValueError, OSError):
        found = ""
    if found != adapter.manifest_sha256:
        raise ChildFailed(
            "This trained model's files on the server are not those that were trained; ask your "
            "administrator to restore them from a backup."
        )


def is_made(base: WantedBase, target: Path) -> bool:
    """Say whether a file is there, and of a base model whether it may be asked.

    Raises:
        ChildFailed: what it says is too far from the model's own words.
    """
    if not target.exists():
        return False
    if target != base_file(base):
        return True
    found = gguf_files.read_agreement(target)
    if found is not None and not found.is_fit:
        raise ChildFailed(
            f"{base.label} cannot be asked: as a file for llama.cpp it says other words than the "
            "model itself. Ask a trained model of another starting model."
        )
    return found is not None


def is_compared(manifest_sha256: str) -> bool:
    """Say whether a base model's file was held against the original, or is still to be made."""
    path = gguf_files.base_gguf(folder(), manifest_sha256, _FORM)
    found = gguf_files.read_agreement(path)
    return found is None or found.is_checked


async def make(
    base: WantedBase, adapter: WantedAdapter | None, target: Path, tell: Callable[[str], None]
) -> None:
    """Make a file of a model, of an adapter on it, or of both, unless it is there.

    Args:
        tell: Told what is being done, for a person.

    Raises:
        ChildFailed: it cannot be made, or says other words; a sentence.
    """
    if await asyncio.to_thread(is_made, base, target):
        return
    tell("preparing the trained model" if adapter else "preparing the model for answering")
    said = await _run(request(base, adapter, target), tell)
    if "error" in said:
        raise ChildFailed(said["error"], is_passing=bool(said.get("is_passing")))
    if not await asyncio.to_thread(is_made, base, target):
        raise ChildFailed(
            f"Preparing {base.label} for answering broke off, perhaps because the machine ran out "
            "of memory or disk; please ask again later.",
            is_passing=True,
        )


def request(base: WantedBase, adapter: WantedAdapter | None, target: Path) -> dict[str, Any]:
    """Return what a child is told that is to make a file (worker/inference/convert.py)."""
    step: dict[str, Any] = {"kind": "base", "target": str(target)}
    if adapter is not None:
        step |= {"folder": str(adapter.folder), "manifest_sha256": adapter.manifest_sha256}
        step["kind"] = "merged" if target == merged_file(base, adapter) else "adapter"
    if step["kind"] != "adapter":
        step["form"] = _FORM
    return {"base": str(base.folder), "manifest_sha256": base.manifest_sha256, "steps": [step]}


def purge(db: Session) -> int:
    """Remove files of models and adapters that are gone, and what an earlier version made."""
    kept_models = select(BaseModel).where(BaseModel.deleted_at.is_(None))
    bases = {base.id: base for base in db.scalars(kept_models) if base.manifest_sha256}
    kept = {
        gguf_files.base_gguf(folder(), str(base.manifest_sha256), _FORM) for base in bases.values()
    }
    for base_id, sha256 in db.execute(select(Adapter.base_model_id, Adapter.manifest_sha256)):
        if base_id in bases and sha256 is not None:
            hashes = str(bases[base_id].manifest_sha256), sha256
            kept.add(gguf_files.adapter_gguf(folder(), *hashes))
            kept.add(gguf_files.merged_gguf(folder(), *hashes, _FORM))
    kept |= {gguf_files.agreement_file(path) for path in kept}
    old = time.time() - _PURGE_AFTER_SECONDS
    num_removed = 0
    for path in folder().glob("*"):
        with suppress(OSError):
            if path not in kept and path.stat().st_mtime < old:
                path.unlink()
                num_removed += 1
    return num_removed


async def _run(asked: dict[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
    folder().mkdir(parents=True, exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", settings.get().answer_convert_module),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=folder(),
        env=child.environment(None),
        start_new_session=True,
    )
    child.step_back(process.pid)
    assert process.stdin is not None
    assert process.stdout is not None
    said: dict[str, Any] = {}
    ends = tuple(end.encode() for end in ENDS)
    try:
        # Open for as long as it works: the end of its input is the end of its work.
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        async for line in process.stdout:
            if not line.startswith(b"{"):  # libraries print, too
                continue
            if not line.endswith(b"\n"):
                break  # it ended amid it
            said = json.loads(line)
            if "progress" in said:
                tell(str(said["progress"]["doing"]))
            if line.startswith(ends):
                break  # it is done, however its process ends
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.get().exit_seconds):
                await process.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return said
