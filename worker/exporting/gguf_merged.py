"""A merged model as one GGUF file: weights, tokenizer, chat template and all that they need."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from worker.exporting import gguf_vocabulary, k_quants
from worker.exporting.gguf_vocabulary import Vocabulary
from worker.exporting.k_quants import GgufNote
from worker.inference import gguf_writing
from worker.inference.gguf_writing import Unusable, new_file

Kind = Literal["f16", "q8_0", "q4_k_m"]


def write_merged_gguf(merged: Path, out: Path, kind: Kind, *, title: str = "") -> GgufNote:
    """Write a model's folder as a GGUF file that needs nothing beside it.

    A file in fewer bits is made of one in 16, which lies beside it meanwhile. Where that one is
    there already, `k_quants.quantize_gguf` takes half the time.

    Args:
        merged: A model as transformers saves it, 16 bits in safetensors, with its tokenizer.
        out: The file to write; it is there whole or not at all.
        kind: Of the matrices; vectors are float32.
        title: What programs show as the model's name.

    Returns:
        Which matrices got another kind than the name says.

    Raises:
        Unusable: llama.cpp does not know this model or its tokenizer; a sentence.
        EngineError: the converter is not installed.
        OSError: the disk is full.
    """
    if kind == "f16":
        return _write_f16(merged, out, title)
    exact = out.with_name(out.name + ".f16")
    try:
        _write_f16(merged, exact, title)
        return k_quants.quantize_gguf(exact, out, kind)
    finally:
        exact.unlink(missing_ok=True)


def _write_f16(merged: Path, out: Path, title: str) -> GgufNote:
    import torch

    gguf_writing.use_converter()
    hparams = gguf_writing.hparams(merged)
    if hparams.get("quantization_config"):
        raise Unusable("The model's weights are stored in fewer than 16 bits already.")
    vocabulary = _vocabulary(merged, hparams)
    with torch.inference_mode(), new_file(out) as partial:
        file = gguf_writing.model_file(
            *(merged, hparams, "f16", partial),
            name=_name(title, vocabulary.name),
            set_vocabulary=lambda file: _complete(file, hparams, vocabulary),
        )
        gguf_writing.write(file)
        num_matrices = k_quants.count_matrices(partial)
    return GgufNote(kind="f16", num_matrices=num_matrices, others=[])


def require_vocabulary(model: Path) -> None:
    """Look whether a model's tokenizer can be had as GGUF, without its weights.

    Raises:
        Unusable: llama.cpp does not know the model or its tokenizer, or a file is missing.
        EngineError: the converter is not installed.
    """
    gguf_writing.use_converter()
    _vocabulary(model, gguf_writing.hparams(model))


def _vocabulary(model: Path, hparams: Mapping[str, Any]) -> Vocabulary:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return gguf_vocabulary.read(model, {"vocab_size": hparams["vocab_size"]} | config)


def _complete(file: Any, hparams: Mapping[str, Any], vocabulary: Vocabulary) -> None:
    """Add the vocabulary, and the angles' base where the converter trusts in llama.cpp's own."""
    writer = file.gguf_writer
    vocabulary.add_to(writer)
    theta = (hparams.get("rope_parameters") or {}).get("rope_theta") or hparams.get("rope_theta")
    if theta and f"{writer.arch}.rope.freq_base" not in writer.kv_data[0]:
        writer.add_rope_freq_base(theta)


def _name(title: str, needed: str) -> str:
    """Return a model's name, in which llama.cpp looks for what it has to know of a family."""
    # Somebody's own title must not promise Phi-3's tokens.
    shown = re.sub(r"(phi)-?(3)", r"\1 \2", title, flags=re.IGNORECASE).strip()
    return f"{shown} ({needed})" if shown else needed
