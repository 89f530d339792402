"""The small files beside weights, as transformers 4.57 and 5 and vLLM read them alike.

The trainer writes them beside an adapter, and exporting beside all that is taken along.

What each of them needs was found by trying (docs/exports.md): a tokenizer class that 4.57 knows,
the rotation's base in both places where versions look for it, and a generation_config.json that
names the end of a turn, without which answers run on to their limit.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.training import licences
from app.training.chat import ChatFormat

_TOKENIZER_FILES = (
    *("tokenizer.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
    *("merges.txt", "tokenizer.model", "chat_template.jinja"),
)
# It reads tokenizer.json as it stands, in 4 and in 5; a class of a model's own may change it.
_TOKENIZER_CLASS = "PreTrainedTokenizerFast"
# What of a model's own wishes for generating is passed on.
_GENERATION_KEYS = frozenset(
    {"bos_token_id", "pad_token_id", "do_sample", "temperature", "top_k", "top_p", "min_p"}
    | {"repetition_penalty", "max_length", "max_new_tokens"}
)
# What every PEFT of the last years knows. Others are left out where they say nothing: an older one
# warns of each key that it has never heard of, and some refuse them.
_ADAPTER_KEYS = (
    *("peft_type", "task_type", "base_model_name_or_path", "revision", "inference_mode"),
    *("r", "lora_alpha", "lora_dropout", "target_modules", "bias", "fan_in_fan_out"),
    *("init_lora_weights", "use_rslora", "use_dora", "modules_to_save", "rank_pattern"),
    *("alpha_pattern", "layers_to_transform", "layers_pattern"),
)
_NEVER = ("quantization_config", "auto_map", "_name_or_path")


def write_tokenizer(base: Path, folder: Path) -> None:
    """Copy a starting model's tokenizer and chat template, under a class that 4.57 knows."""
    for name in _TOKENIZER_FILES:
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)
    config = _read(base / "tokenizer_config.json")
    write_json(folder / "tokenizer_config.json", tokenizer_config(config))


def tokenizer_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tokenizer's settings as both versions read them."""
    said = dict(config) | {"tokenizer_class": _TOKENIZER_CLASS}
    # transformers 5 writes a list under a name that is a table in 4.
    if isinstance(said.get("extra_special_tokens"), list):
        said["additional_special_tokens"] = said.pop("extra_special_tokens")
    return said


def adapter_config(config: Mapping[str, Any], base_name: str) -> dict[str, Any]:
    """Return PEFT's settings with a name in the place of whatever led to the starting model."""
    said = {key: config[key] for key in _ADAPTER_KEYS if key in config}
    return said | {"base_model_name_or_path": base_name, "inference_mode": True, "revision": None}


def model_config(config: Mapping[str, Any], dtype: str = "bfloat16") -> dict[str, Any]:
    """Return a model's settings as both versions read them.

    Args:
        config: A config.json of either.
        dtype: In which numbers the weights are written.
    """
    said = {key: value for key, value in config.items() if key not in _NEVER}
    said |= {"dtype": dtype, "torch_dtype": dtype}
    rotation = said.get("rope_parameters")
    if not isinstance(rotation, dict):
        if "rope_theta" in said and said.get("model_type") != "gemma3_text":
            scaling = said.get("rope_scaling") or {}
            kind = scaling.get("rope_type", scaling.get("type", "default"))
            own = {"rope_theta": said["rope_theta"], "rope_type": kind}
            said["rope_parameters"] = {k: v for k, v in scaling.items() if k != "type"} | own
        return said
    whole = rotation.get("full_attention", rotation)
    if isinstance(whole, dict) and "rope_theta" in whole:
        said["rope_theta"] = whole["rope_theta"]
        kind = whole.get("rope_type", "default")
        if kind != "default":  # 4 takes none for the default
            said["rope_scaling"] = {k: v for k, v in whole.items() if k != "rope_theta"}
        if kind != "default" and said.get("model_type") == "phi3":
            said |= _phi3_scaling(whole)
    window = rotation.get("sliding_attention")
    if isinstance(window, dict) and "rope_theta" in window:
        said["rope_local_base_freq"] = window["rope_theta"]
    return said


def _phi3_scaling(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return what 4.57 reads of Phi-3's longrope: three fields and no more, the others beside."""
    beside = ("original_max_position_embeddings", "partial_rotary_factor")
    return {
        "rope_scaling": {
            "type": whole.get("rope_type"),
            "short_factor": whole.get("short_factor"),
            "long_factor": whole.get("long_factor"),
        },
        **{key: whole[key] for key in beside if key in whole},
    }


def end_token_ids(base: Path) -> set[int]:
    """Return at what an answer ends: each token at which one was learned to end, and its own.

    Raises:
        ChatError: the chat template cannot be used.
    """
    own = _generation_config(base).get("eos_token_id")
    if own is None:
        own = _read(base / "config.json").get("eos_token_id")
    ends = {*ChatFormat.load(base).end_token_ids, *(own if isinstance(own, list) else [own])}
    return ends - {None}


def write_generation_config(base: Path, folder: Path) -> None:
    """Say how an answer ends, and pass on what of a model's own wishes others know.

    Raises:
        ChatError: the chat template cannot be used.
    """
    given, config = _generation_config(base), _read(base / "config.json")
    said = {key: value for key, value in given.items() if key in _GENERATION_KEYS}
    for key in ("bos_token_id", "pad_token_id"):
        if said.get(key) is None and config.get(key) is not None:
            said[key] = config[key]
    write_json(
        folder / "generation_config.json", {k: v for k, v in said.items() if v is not None}
        | {"eos_token_id": sorted(end_token_ids(base))}
    )  # fmt: skip


def write_base(base: Path, folder: Path) -> None:
    """Copy a starting model, weights and all, with settings that other programs read."""
    for path in sorted(base.glob("*.safetensors")):
        shutil.copyfile(path, folder / path.name)
    index = base / "model.safetensors.index.json"
    if index.is_file():
        shutil.copyfile(index, folder / index.name)
    dtype = str(_read(base / "config.json").get("dtype", "bfloat16"))
    write_all(base, folder, dtype)


def write_all(base: Path, folder: Path, dtype: str) -> None:
    """Write everything of a model but its weights."""
    write_json(folder / "config.json", model_config(_read(base / "config.json"), dtype))
    write_tokenizer(base, folder)
    write_generation_config(base, folder)
    licences.copy(base, folder)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _generation_config(base: Path) -> dict[str, Any]:
    path = base / "generation_config.json"
    return _read(path) if path.is_file() else {}


def _read(path: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return said
