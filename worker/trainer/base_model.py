"""The base model from its folder into memory: verified, packed in NF4 once, read back ever after.

Packing takes seconds a run on a CPU and reads four times as much from the disk, so a packed copy is
kept below the data directory's cache/, by a process that sees nothing else (pack.py). That
folder may be deleted at any time.
"""

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
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
    verify_once,
    write_manifest,
)
from app.training.plan.choose import Plan
from worker.trainer import failures, packed_copy


def check_in_background(spec: TrainerSpec) -> Callable[[], None]:
    """Begin to verify the base model's files; the function returned waits and judges.

    Hashing takes as long as loading and both release the interpreter, so they run side by side.
    """
    problem: list[str] = []

    def check() -> None:
        try:
            if (
                verify_once(Path(spec.base_model_dir), _cache(spec))
                != spec.base_model_manifest_sha256
            ):
                problem.append("its manifest is not the one that was imported")
        except ValueError as error:
            problem.append(str(error).rstrip("."))
        except OSError as error:
            print(error, file=sys.stderr)  # for the log
            problem.append("a file cannot be read")

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
        packed: Where its packed copy lies, if there is one (pack.py).

    Raises:
        OSError, ValueError, KeyError, SafetensorError: transformers cannot read it.
    """
    options = _options(device)
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
    """Return where the packed copy of a job's base model is, if there is one."""
    cache = _cache(spec)
    if cache is None:
        return None
    digest, is_sharded = spec.base_model_manifest_sha256, plan.strategy == "fsdp"
    return packed_copy.folder(cache, digest, spec.device, is_sharded=is_sharded)


def _load_packed(folder: Path, packed: Path | None, options: dict[str, Any], to_shard: bool) -> Any:
    if packed is not None and packed.exists():
        # Damaged or being deleted: the model's own files are still there.
        with suppress(OSError, ValueError, KeyError, SafetensorError):
            verify_once(packed, packed.parent)
            return _read(packed, options)
    return _read(folder, options | {"quantization_config": _quantization(to_shard)})


def pack(folder: Path, target: Path, device: str, *, is_sharded: bool) -> None:
    """Write the packed copy that `load` reads.

    Args:
        folder: The model's verified files.
        target: The folder to make.
        device: Where it is rounded: its kind decides the numbers.
        is_sharded: Whether a job shares the weights out over its GPUs.
    """
    base = _read(
        folder, _options(torch.device(device)) | {"quantization_config": _quantization(is_sharded)}
    )
    with new_folder(target) as partial:
        base.save_pretrained(partial)
        write_manifest(partial)


def _options(device: torch.device) -> dict[str, Any]:
    return {
        "dtype": torch.bfloat16,
        "device_map": {"": device},
        "trust_remote_code": False,
        "use_safetensors": True,
        "local_files_only": True,
    }


def _quantization(to_shard: bool) -> BitsAndBytesConfig:
    # The defaults are fp4, computed in float32.
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        # FSDP2 sends the bytes of all weights of a layer as one type: that of the norms.
        bnb_4bit_quant_storage=torch.bfloat16 if to_shard else torch.uint8,
    )


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
    for names, sentence in (
        (
            told["missing_keys"],
            "its files lack the weights {names}; ask for it to be imported again",
        ),
        (
            told["unexpected_keys"],
            "its files hold weights that are not its own, {names}; ask for it to be imported again",
        ),
        (
            bent,
            "its weights {names} have another shape than config.json says; ask for it to be "
            "imported again",
        ),
    ):
        if names:
            some = f"{min(names)} and {len(names) - 1} more" if len(names) > 1 else min(names)
            raise failures.Misfit(sentence.format(names=some))
    return base


def _cache(spec: TrainerSpec) -> Path | None:
    return Path(spec.cache_dir) if spec.cache_dir else None
