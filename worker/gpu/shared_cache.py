"""What trainers share, made before one starts: which files were hashed, and weights in NF4.

Trainers read it and cannot write it (worker/trainer/walls.py): they hold people's data, and what
one of them left there would be the next one's weights. All of it may be deleted at any time.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

import structlog

from app.core import settings
from app.core.child import BrokeOff, Child
from app.training import isolation, manifests
from app.training.config import TrainerSpec
from worker.gpu import trainer_process
from worker.trainer import packed_copy

_log = structlog.get_logger()
# Smaller ones are packed by each trainer, sooner than a process has begun.
_WORTH_BYTES = 64 * 1024**2


def fill(spec: TrainerSpec, *, is_sharded: bool, worth_bytes: int = _WORTH_BYTES) -> None:
    """Make what a job's trainer will look for, unless it is there.

    Where that fails, the trainer does without, or says what is wrong with the model.

    Args:
        spec: Of the job.
        is_sharded: Whether it shares the weights out over its GPUs.
        worth_bytes: Smaller models are not packed beforehand.
    """
    base, cache = Path(spec.base_model_dir), Path(spec.cache_dir)
    with suppress(OSError, ValueError):
        if manifests.verify_once(base, cache) != spec.base_model_manifest_sha256:
            return
        weights = sum(path.stat().st_size for path in base.glob("*.safetensors"))
        if spec.config.method == "qlora" and weights >= worth_bytes:
            _pack(spec, cache, is_sharded)


def _pack(spec: TrainerSpec, cache: Path, is_sharded: bool) -> None:
    packed = packed_copy.folder(
        cache, spec.base_model_manifest_sha256, spec.device, is_sharded=is_sharded
    )
    if packed.exists():
        try:
            manifests.verify_once(packed, cache)
        except (OSError, ValueError):
            shutil.rmtree(packed, ignore_errors=True)
        else:
            return
    # Two workers may do this at once: each under a name of its own, and the first one counts.
    work = cache / f".{packed.name}.{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    request = packed_copy.PackRequest(
        base=Path(spec.base_model_dir),
        target=work / packed.name,
        device="cpu" if is_sharded else spec.device,
        is_sharded=is_sharded,
    )
    try:
        with Child(
            "worker.trainer.pack",
            request.model_dump_json(),
            ends=('{"result"',),
            timeout_seconds=settings.get().load_timeout_seconds,
            environment=trainer_process.environment(),
        ) as child:
            for _ in child.lines():
                pass
        isolation.take_back(request.target)
        request.target.rename(packed)
        manifests.verify_once(packed, cache)
    except BrokeOff as error:
        _log.warning("shared_cache.not_packed", code=error.code, tail=error.tail[-2000:])
    finally:
        shutil.rmtree(work, ignore_errors=True)
