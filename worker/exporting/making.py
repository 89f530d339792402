"""One form of an adapter, written into `out/export`; beside it what its proof needs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.training import isolation, licences, settings_files
from worker.exporting import adapter_folder, merging
from worker.exporting.requests import EXPORT, Make, Unusable

# Beside the export: 16 bits of a quantized form, by which the conversion itself is judged.
EXACT_GGUF = "exact.gguf"
MERGED = "merged"
STARTING_GGUF = "starting-model-f16.gguf"
_NO_LICENCE = (
    "The starting model came without the text of its licence, so there is none in this zip; the "
    "card says what the licence is called, if that is known."
)
Tell = Callable[[str, float], object]


def make(request: Make, tell: Tell) -> dict[str, Any]:
    """Write a form.

    Returns:
        {"notes": sentences about this very export}

    Raises:
        Unusable: it cannot be had of this adapter; a sentence.
    """
    folder = request.out / EXPORT
    folder.mkdir()
    made = _write(request, folder, tell)
    if not licences.of(request.sources.base):
        made["notes"].append(_NO_LICENCE)
    for path in request.out.rglob("*"):
        if path.is_file():
            isolation.let_in(path)  # safetensors keeps what it writes to its owner alone
    return made


def _write(request: Make, folder: Path, tell: Tell) -> dict[str, Any]:
    match request.form:
        case "adapter":
            tell("writing the adapter", 0)
            base_name = request.sources.base_name
            adapter_folder.write(request.sources.base, base_name, request.sources.adapter, folder)
            return {"notes": []}
        case "merged":
            return {"notes": _write_merged(request, folder, tell)}
        case "vllm":
            return _write_vllm(request, folder, tell)
        case _:
            return _write_gguf(request, folder, tell)


def _write_merged(request: Make, folder: Path, tell: Tell) -> list[str]:
    base, adapter = request.sources.base, request.sources.adapter
    merged = merging.merge(base, adapter, folder, tell)
    settings_files.write_all(base, folder, _dtype(base))
    return merged.notes


def _write_vllm(request: Make, folder: Path, tell: Tell) -> dict[str, Any]:
    """Write a folder that vLLM serves with one command: the starting model and the adapter on it.

    vLLM takes no DoRA (by inspection): of such an adapter the merged model is in the folder.
    """
    config = merging.read_config(request.sources.adapter)
    if config.get("use_dora"):
        notes = _write_merged(request, folder, tell)
        notes.append("vLLM does not load DoRA adapters, so the merged model is in this folder.")
        return {"notes": notes}
    for name in ("base", "adapter"):
        (folder / name).mkdir()
    tell("copying the starting model", 0)
    settings_files.write_base(request.sources.base, folder / "base")
    tell("writing the adapter", 0.9)
    adapter_folder.write(request.sources.base, "base", request.sources.adapter, folder / "adapter")
    licences.copy(request.sources.base, folder)
    return {"notes": []}


def _write_gguf(request: Make, folder: Path, tell: Tell) -> dict[str, Any]:
    """Write GGUF files: the adapter with its starting model, or both in one."""
    from worker.inference import gguf_writing
    from worker.inference.engine import EngineError

    licences.copy(request.sources.base, folder)
    try:
        if request.form == "gguf":
            return _write_gguf_adapter(request, folder, tell)
        return _write_gguf_merged(request, folder, tell)
    except (gguf_writing.Unusable, EngineError) as error:
        raise Unusable(str(error)) from None


def _write_gguf_adapter(request: Make, folder: Path, tell: Tell) -> dict[str, Any]:
    from worker.exporting import gguf_adapter, gguf_merged

    base, adapter = request.sources.base, request.sources.adapter
    tell("writing the adapter as GGUF", 0)
    gguf_adapter.write_adapter_gguf(adapter, base, folder / f"{request.name}-adapter.gguf")
    tell("writing the starting model as GGUF", 0.1)
    title = request.sources.base_name
    gguf_merged.write_merged_gguf(base, folder / STARTING_GGUF, "f16", title=title)
    return {"notes": []}


def _write_gguf_merged(request: Make, folder: Path, tell: Tell) -> dict[str, Any]:
    """Write a merged model as GGUF; of fewer bits the 16 stay beside it, to be judged first."""
    from worker.exporting import gguf_merged, k_quants, modelfile

    # What cannot be had is said before the work, which takes minutes.
    gguf_merged.require_vocabulary(request.sources.base)
    if request.form == "ollama":
        modelfile.require_template(request.sources.base)
    merged = request.out / MERGED
    merged.mkdir()
    notes = _write_merged(request, merged, lambda doing, share: tell(doing, 0.4 * share))
    kind = request.quantization
    name = f"{request.name}-{kind}.gguf"
    exact = folder / name if kind == "f16" else request.out / EXACT_GGUF
    tell("writing the model as GGUF", 0.4)
    note = gguf_merged.write_merged_gguf(merged, exact, "f16", title=request.title)
    if kind in ("q8_0", "q4_k_m"):
        tell("writing it in fewer bits", 0.7)
        note = k_quants.quantize_gguf(exact, folder / name, kind)
    if request.form == "ollama":
        modelfile.write_modelfile(merged, name, folder / "Modelfile")
    sentences = [note.sentence] if note.sentence else []
    return {"notes": notes + sentences}


def _dtype(base: Path) -> str:
    """Return in which 16 bits a merged model is written: the starting model's own, if it has."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    said = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")
    return said if said in ("bfloat16", "float16") else "bfloat16"
