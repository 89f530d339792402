"""An adapter as a GGUF file, to be loaded beside its model's."""

import json
from pathlib import Path

from worker.inference import gguf_files, gguf_writing
from worker.inference.gguf_writing import Unusable, new_file


def write_adapter_gguf(adapter: Path, base: Path, out: Path) -> None:
    """Write PEFT's matrices under llama.cpp's names, in 16 bits (f16).

    The rows of q and k are turned where the model's are (Llama and its kin), and alpha is such that
    llama.cpp, which divides it by the rank, comes to PEFT's scale.

    Args:
        adapter: PEFT's folder.
        base: The folder of the model that it changes.
        out: The file to write; it is there whole or not at all.

    Raises:
        Unusable: llama.cpp cannot do what this adapter does; a sentence.
        EngineError: the converter is not installed.
        OSError: the disk is full.
    """
    import torch

    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    if gguf_files.must_merge(config):
        raise Unusable(
            "An adapter trained with DoRA cannot be a GGUF file of its own; take the merged model "
            "as GGUF."
        )
    if config.get("alpha_pattern") or config.get("rank_pattern"):
        raise Unusable(
            "This adapter's rank or strength differs from layer to layer, which a GGUF file of an "
            "adapter cannot say; take the merged model as GGUF."
        )
    gguf_writing.use_converter()
    hparams = gguf_writing.hparams(base)
    with torch.inference_mode(), new_file(out) as partial:
        gguf_writing.write(gguf_writing.adapter_file(base, hparams, adapter, "f16", partial))
