"""An adapter as plain PEFT, old and new, and vLLM load it."""

import shutil
from pathlib import Path

from app.training import licences, settings_files
from worker.exporting import merging


def write(base: Path, base_name: str, adapter: Path, folder: Path) -> None:
    """Write an adapter with the tokenizer, the end of a turn, and the starting model's licence.

    Raises:
        Unusable: it has other parts than LoRA's matrices.
    """
    merging.read_changes(adapter)  # LoRA's tensors alone
    config = settings_files.adapter_config(merging.read_config(adapter), base_name)
    settings_files.write_json(folder / "adapter_config.json", config)
    shutil.copyfile(adapter / "adapter_model.safetensors", folder / "adapter_model.safetensors")
    settings_files.write_tokenizer(base, folder)
    settings_files.write_generation_config(base, folder)
    licences.copy(base, folder)
