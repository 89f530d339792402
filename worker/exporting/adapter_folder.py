"""An adapter as plain PEFT, old and new, and vLLM load it."""

import shutil
from pathlib import Path
from typing import Any

from worker.exporting import merging, settings_files

# What every PEFT of the last years knows. Others are left out where they say nothing: an older one
# warns of each key that it has never heard of, and some refuse them.
_KEYS = (
    *("peft_type", "task_type", "base_model_name_or_path", "revision", "inference_mode"),
    *("r", "lora_alpha", "lora_dropout", "target_modules", "bias", "fan_in_fan_out"),
    *("init_lora_weights", "use_rslora", "use_dora", "modules_to_save", "rank_pattern"),
    *("alpha_pattern", "layers_to_transform", "layers_pattern"),
)


def write(base: Path, base_name: str, adapter: Path, folder: Path) -> None:
    """Write an adapter with the tokenizer, the end of a turn, and the starting model's licence.

    Raises:
        Unusable: it has other parts than LoRA's matrices.
    """
    merging.read_changes(adapter)  # LoRA's tensors alone
    config = merging.read_config(adapter)
    settings_files.write_json(folder / "adapter_config.json", adapter_config(config, base_name))
    shutil.copyfile(adapter / "adapter_model.safetensors", folder / "adapter_model.safetensors")
    settings_files.write_tokenizer(base, folder)
    settings_files.write_generation_config(base, folder)
    settings_files.copy_licences(base, folder)


def adapter_config(config: dict[str, Any], base_name: str) -> dict[str, Any]:
    """Return PEFT's settings with a name in the place of whatever led to the starting model."""
    said = {key: config[key] for key in _KEYS if key in config}
    return said | {"base_model_name_or_path": base_name, "inference_mode": True, "revision": None}
