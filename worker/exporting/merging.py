"""An adapter merged into the 16-bit weights of its starting model, one tensor at a time.

W' = W + s B A, with s = alpha / r, or alpha / sqrt(r) for rsLoRA (arXiv:2312.03732); with DoRA
(arXiv:2402.09353) each row of that is brought to its learned length. The sum is computed in float32
and rounded once. Never into 4-bit weights: what those lost, a merged model would keep for ever.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from worker.exporting import tensor_files
from worker.exporting.requests import Unusable
from worker.exporting.tensor_files import Entry

_PREFIX = "base_model.model."
_PART = re.compile(r"(?P<module>.+)\.(?P<part>lora_A\.weight|lora_B\.weight|lora_magnitude_vector)")
INDEX = "model.safetensors.index.json"


@dataclass
class Change:
    """What an adapter adds to one weight."""

    matrix_a: Tensor  # rank × in
    matrix_b: Tensor  # out × rank
    scale: float
    lengths: Tensor | None = None  # of rows, for DoRA

    def of(self, weight: Tensor) -> Tensor:
        """Return a weight (out × in) with the change in it, of its own kind."""
        wide = weight.float()
        wide = torch.addmm(wide, self.matrix_b.float(), self.matrix_a.float(), alpha=self.scale)
        if self.lengths is not None:
            wide *= (self.lengths.float().reshape(-1) / wide.norm(dim=1))[:, None]
        return wide.to(weight.dtype)


@dataclass
class Merged:
    """What was written."""

    num_changed: int = 0
    num_kept: int = 0
    files: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_config(adapter: Path) -> dict[str, Any]:
    """Read PEFT's settings of an adapter that can be written in other forms.

    Raises:
        Unusable: it has parts that no other form has a place for.
    """
    config: dict[str, Any] = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    if config.get("peft_type", "LORA") != "LORA":
        raise Unusable("This adapter is no LoRA, so it can be taken along only as it was trained.")
    odd = [
        name
        for name in ("modules_to_save", "alpha_pattern", "rank_pattern", "trainable_token_indices")
        if config.get(name)
    ]
    if odd or config.get("bias", "none") != "none" or config.get("fan_in_fan_out"):
        what = odd[0] if odd else "biases"
        raise Unusable(f"This adapter has learned {what}, for which this form has no place.")
    return config


def read_changes(adapter: Path) -> dict[str, Change]:
    """Read an adapter's tensors, by the names of the weights that they change.

    Raises:
        Unusable: there is something else than LoRA's matrices among them.
    """
    config = read_config(adapter)
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in load_file(adapter / "adapter_model.safetensors").items():
        match = _PART.fullmatch(name.removeprefix(_PREFIX))
        if match is None or not name.startswith(_PREFIX):
            raise Unusable(f"This adapter changes {name}, for which this form has no place.")
        parts.setdefault(match["module"], {})[match["part"]] = tensor
    return {f"{module}.weight": _change(config, of) for module, of in parts.items()}


def _change(config: Mapping[str, Any], of: Mapping[str, Tensor]) -> Change:
    matrix_a, matrix_b = of["lora_A.weight"], of["lora_B.weight"]
    rank = matrix_a.shape[0]
    divisor = math.sqrt(rank) if config.get("use_rslora") else rank
    scale = float(config["lora_alpha"]) / divisor
    return Change(matrix_a, matrix_b, scale, of.get("lora_magnitude_vector"))


def merge(base: Path, adapter: Path, out: Path, tell: Callable[[str, float], object]) -> Merged:
    """Write the weights of a starting model with an adapter in them; the other files are not ours.

    Every weight that was not trained keeps its bits; where the starting model is kept in 32 bits it
    is rounded to bfloat16, and that is said.

    Raises:
        Unusable: the adapter belongs to other weights, or has parts that cannot be merged.
    """
    changes, merged = read_changes(adapter), Merged()
    sources = sorted(base.glob("*.safetensors"))
    total = sum(path.stat().st_size for path in sources)
    places: dict[str, str] = {}
    done, size_bytes, is_rounded = 0, 0, False
    for path in sources:
        with tensor_files.Reader(path) as source, (out / path.name).open("wb") as file:
            before = {entry.name: entry for entry in source.entries}
            after = tensor_files.ordered([_rounded(entry) for entry in source.entries])
            tensor_files.write_header(file, after)
            for entry in after:
                was, change = before[entry.name], changes.pop(entry.name, None)
                is_rounded = is_rounded or entry != was
                if change is not None:
                    changed = _with_change(entry.name, source.tensor(was), change)
                    tensor_files.write_tensor(file, changed)
                    merged.num_changed += 1
                else:
                    if entry == was:
                        file.writelines(source.pieces(was))
                    else:
                        tensor_files.write_tensor(file, source.tensor(was).bfloat16())
                    merged.num_kept += 1
                done += was.nbytes
                tell("merging the adapter into the model", done / total)
        merged.files.append(path.name)
        places |= dict.fromkeys(before, path.name)
        size_bytes += sum(entry.nbytes for entry in after)
    if changes:
        raise Unusable(
            f"This adapter changes {sorted(changes)[0]}, which its starting model has not got; "
            "was the model imported again from other files?"
        )
    if len(merged.files) > 1:
        index = {"metadata": {"total_size": size_bytes}, "weight_map": dict(sorted(places.items()))}
        (out / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    if is_rounded:
        merged.notes.append(
            "The starting model is kept in 32 bits here; all its weights were rounded to bfloat16."
        )
    return merged


def _rounded(entry: Entry) -> Entry:
    return replace(entry, kind="BF16") if entry.kind == "F32" else entry


def _with_change(name: str, tensor: Tensor, change: Change) -> Tensor:
    shape = (change.matrix_b.shape[0], change.matrix_a.shape[1])
    if tuple(tensor.shape) != shape:
        raise Unusable(f"This adapter's change to {name} has another shape than the weight.")
    changed = change.of(tensor)
    return changed.bfloat16() if changed.dtype is torch.float32 else changed
