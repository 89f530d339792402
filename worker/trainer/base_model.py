"""The base model from its folder into memory: verified, packed in NF4 once, read back ever after.

Packing takes seconds a run on a CPU and reads four times as much from the disk, so what was packed
is kept below the data directory's cache/. That folder may be deleted at any time.
"""

import json
import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn.modules import Linear4bit
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from app.training.config import TrainConfig, TrainerSpec
from app.training.manifests import (
    new_folder,
    read_manifest,
    verify_manifest,
    write_manifest,
)
from app.training.plan.choose import Plan
from worker.trainer import failures


def check_in_background(spec: TrainerSpec) -> Callable[[], None]:
    """Begin to verify the base model's files; the function returned waits and judges.

    Hashing takes as long as loading and both release the interpreter, so they run side by side.
    """
    problem: list[str] = []

    def check() -> None:
        try:
            if _verify(Path(spec.base_model_dir), _cache(spec)) != spec.base_model_manifest_sha256:
                problem.append("its manifest is not the one that was imported")
        except (ValueError, OSError) as error:
            problem.append(str(error))

    thread = threading.Thread(target=check, daemon=True)
    thread.start()

    def judge() -> None:
        thread.join()
        if problem:
            raise failures.model_rejected(
                f"The files of {spec.base_model_name} have changed since they were imported "
                f"({problem[0]}); ask your administrator to import the model again."
            )

    return judge


def load(
    folder: Path,
    plan: Plan,
    config: TrainConfig,
    device: torch.device,
    attention: str | None,
    packed: Path | None = None,
) -> Any:
    """Load a base model as the plan says.

    Args:
        folder: Its verified files.
        plan: Says whether weights stay packed or are unpacked once.
        config: LoRA does without rounding to 4 bits.
        device: Where the weights go.
        attention: A name registered with transformers; None lets it choose.
        packed: Where its packed copy is kept; made where it is missing. None keeps none.

    Raises:
        OSError, ValueError, KeyError, SafetensorError: transformers cannot read it.
    """
    options: dict[str, Any] = {
        "dtype": torch.bfloat16,
        "device_map": {"": device},
        "trust_remote_code": False,
        "use_safetensors": True,
        "local_files_only": True,
    }
    if attention is not None:
        options["attn_implementation"] = attention
    if config.method == "lora":
        options["dtype"] = torch.float32 if plan.resident == "fp32" else torch.bfloat16
        base = _read(folder, options)
    else:
        base = _load_packed(folder, packed, options, plan.strategy == "fsdp")
        if plan.resident != "nf4":
            _unpack(base, torch.float32 if plan.resident == "fp32" else torch.bfloat16)
    return base


def _unpack(base: Any, dtype: torch.dtype) -> None:
    """Unpack a model's 4-bit weights for good: the numbers that each pass would unpack, bit for bit
    (tests/worker/trainer/test_model.py).

    One matrix at a time: transformers' own `dequantize` unpacks each twice, and unpacking to 16
    bits before widening to 32 leaves half a model in the heap that the rest never fills again.
    """
    base.hf_quantizer.remove_quantization_config(base)
    base.is_loaded_in_4bit = False  # PEFT asks
    if dtype == torch.float32:
        # The rest first, because it holds on to the whole file that it was read from.
        for module in base.modules():
            if isinstance(module, Linear4bit):
                continue
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                if tensor.is_floating_point():
                    tensor.data = tensor.data.float()
    names = [name for name, module in base.named_modules() if isinstance(module, Linear4bit)]
    for name in names:
        packed = base.get_submodule(name)
        weight = dequantize_4bit(packed.weight.data, packed.weight.quant_state)
        with torch.device("meta"):
            unpacked = nn.Linear(packed.in_features, packed.out_features, bias=False)
        # Rounded to 16 bits as the passes round it.
        unpacked.weight = nn.Parameter(weight.to(torch.bfloat16).to(dtype), requires_grad=False)
        unpacked.bias = packed.bias
        base.set_submodule(name, unpacked)
    if dtype == torch.float32:
        base.float()  # their biases


def packed_folder(spec: TrainerSpec, plan: Plan) -> Path | None:
    """Return where the packed copy of a job's base model is kept.

    The name holds all that decides its numbers: files, rounding code, the kind of device that
    packed it, and how the bytes are stored.
    """
    cache = _cache(spec)
    if cache is None:
        return None
    digest, kind = spec.base_model_manifest_sha256[:32], spec.device.partition(":")[0]
    if plan.strategy == "fsdp":
        kind = "cpu-bfloat16"
    return cache / f"nf4-{digest}-{kind}-{version('bitsandbytes')}-{version('transformers')}"


def _load_packed(folder: Path, packed: Path | None, options: dict[str, Any], to_shard: bool) -> Any:
    if packed is not None and packed.exists():
        try:
            _verify(packed, packed.parent)
            return _read(packed, options)
        except (OSError, ValueError, KeyError, SafetensorError):
            # Damaged or being deleted: the model's own files are still there.
            shutil.rmtree(packed, ignore_errors=True)
    # The defaults are fp4, computed in float32.
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        # FSDP2 sends the bytes of all weights of a layer as one type: that of the norms.
        bnb_4bit_quant_storage=torch.bfloat16 if to_shard else torch.uint8,
    )
    base = _read(folder, options | {"quantization_config": quantization})
    if packed is not None:
        # A full disk must not stop what works without; safetensors wraps the system's error.
        with suppress(OSError, SafetensorError):
            _keep(base, packed)
    return base


def _read(folder: Path, options: dict[str, Any]) -> Any:
    """Load a model, unless its files lack weights, hold others, or hold them in another shape.

    What transformers itself leaves out for an architecture, and tied weights, are not reported.

    Raises:
        ValueError: a sentence's end that names one of them.
    """
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        **options,
        # Told, and judged here: left alone it draws what is missing at random.
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    base, told = loaded
    # Packed weights of any shape are taken without a word.
    states = {
        f"{name}.weight": (getattr(module.weight, "quant_state", None), module)
        for name, module in base.named_modules()
        if isinstance(module, Linear4bit)
    }
    bent = [
        name
        for name, (state, module) in states.items()
        if state is not None and tuple(state.shape) != (module.out_features, module.in_features)
    ]
    bent += [key[0] if isinstance(key, tuple) else key for key in told["mismatched_keys"]]
    for names, words in (
        (told["missing_keys"], "its files lack the weights"),
        (told["unexpected_keys"], "its files hold weights that are not its own,"),
        (bent, "another shape than config.json tells have the weights"),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ValueError(f"{words} {min(names)}{more}; ask for it to be imported again")
    return base


def _keep(base: Any, packed: Path) -> None:
    # Two trainers may do this at once: each under a name of its own, and the first one counts.
    mine = packed.with_name(f"{packed.name}.{os.getpid()}")
    try:
        with new_folder(mine) as partial:
            base.save_pretrained(partial)
            write_manifest(partial)
        mine.rename(packed)
    finally:
        shutil.rmtree(mine, ignore_errors=True)


def _cache(spec: TrainerSpec) -> Path | None:
    return Path(spec.cache_dir) if spec.cache_dir else None


def _verify(folder: Path, cache: Path | None) -> str:
    """Hash a model's files, or find that they are the very files hashed before.

    Returns:
        The SHA-256 of the manifest.

    Raises:
        ValueError, OSError: they are not what their manifest says.
    """
    files, digest = read_manifest(folder)
    if cache is None:
        return verify_manifest(folder)
    seen = cache / f"verified-{digest[:32]}.json"
    marks = {name: _mark(folder / name) for name in files}
    with suppress(OSError, ValueError):
        if json.loads(seen.read_text()) == marks:
            return digest
    verify_manifest(folder)
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        partial = seen.with_name(f"{seen.name}.{os.getpid()}")
        partial.write_text(json.dumps(marks))
        partial.rename(seen)
    return digest


def _mark(path: Path) -> list[int]:
    """Return what changes whenever a file is written or replaced."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
