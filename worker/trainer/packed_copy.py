"""A starting model's copy in NF4: where it lies, and what is asked of who makes it (pack.py).

No torch.
"""

from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel


class PackRequest(BaseModel):
    """Which model to pack, where to, and on which device."""

    base: Path
    target: Path  # the folder to make; its parent is all that may be written
    device: str
    is_sharded: bool = False  # over the GPUs of a job


def folder(cache: Path, manifest_sha256: str, device: str, *, is_sharded: bool) -> Path:
    """Return where a model's packed copy lies, or will.

    The name holds all that decides its numbers: files, rounding code, the kind of device that
    packed it, and how the bytes are stored.
    """
    kind = "cpu-bfloat16" if is_sharded else device.partition(":")[0]
    versions = f"{version('bitsandbytes')}-{version('transformers')}"
    return cache / f"nf4-{manifest_sha256[:32]}-{kind}-{versions}"
