"""The walls around one job's trainer (app/training/isolation): its JOB_DIR and nobody else's."""

import os
import tempfile
from pathlib import Path

from app.training import isolation
from app.training.config import TrainerSpec
from app.training.plan.machine import total_memory

# For checkpoints of small models, and a log whose length counts though its middle is given back.
_ROOM_BYTES = 16 * 1024**3


def confine(job_dir: Path, spec: TrainerSpec, *, is_rank: bool = False) -> None:
    """Keep JOB_DIR, the starting model, the adapter to go on from and what is cached of weights.

    Args:
        job_dir: All that may be written.
        spec: Says what is read.
        is_rank: Whether this is one of several processes that train it together.

    Raises:
        WallsMissing: this machine cannot see to it.
    """
    base = Path(spec.base_model_dir)
    reads = [base]
    if spec.start is not None:
        reads.append(Path(spec.start.dir))
    if spec.cache_dir:
        reads.append(Path(spec.cache_dir))
    is_on_gpu = spec.device.startswith("cuda")
    is_launcher = spec.num_devices > 1 and not is_rank
    if is_on_gpu and not is_launcher:
        _compile_below(job_dir / "attempts" / str(spec.attempt))
    isolation.confine(
        isolation.Needs(
            reads=reads,
            writes=[job_dir],
            network="loopback" if spec.num_devices > 1 else "none",
            programs=is_on_gpu or is_launcher,
            gpu=is_on_gpu,
            is_of_a_group=is_rank,
            is_launcher=is_launcher,
            work=spec.job_id,
            limits=isolation.Limits(
                # A GPU's driver maps what it likes.
                data_bytes=None if is_on_gpu else total_memory(),
                open_files=4096,
                file_bytes=4 * _weights_bytes(base) + _ROOM_BYTES,
            ),
        )
    )


def _weights_bytes(base: Path) -> int:
    return sum(path.stat().st_size for path in base.glob("*.safetensors"))


def _compile_below(attempt: Path) -> None:
    """Have Triton and the C compiler write in the job's own folder: what lies there is run."""
    folder = attempt / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {"TRITON_CACHE_DIR": str(attempt.parent / "triton"), "TMPDIR": str(folder)}
    tempfile.tempdir = None
