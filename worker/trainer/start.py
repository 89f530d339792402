"""The adapter that a job starts from: verified, of the same base model and shape, put in place."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from app.training.config import StartAdapter, TrainConfig, TrainerSpec
from app.training.manifests import read_extra, verify_manifest
from worker.trainer import failures
from worker.trainer import model as models
from worker.trainer.model import Model


def put(model: Model, spec: TrainerSpec) -> Model:
    """Begin with the weights of an adapter, where a job says so.

    Args:
        model: With a fresh adapter, on its device.
        spec: The job's; without an adapter to start from nothing changes.

    Returns:
        The model with those weights, and a copy of them in `start`.

    Raises:
        Failure: the adapter's files are others than those that were chosen, or do not fit.
    """
    chosen = spec.start
    if chosen is None:
        return model
    folder = Path(chosen.dir)
    _check_files(chosen, folder)
    try:
        _check_fit(folder, spec)
        _set_weights(model, load_file(folder / "adapter_model.safetensors"))
    except failures.Misfit as error:
        raise _refused(chosen, str(error)) from error
    except (ValueError, KeyError, TypeError, OSError, SafetensorError) as error:
        raise _refused(chosen, "its files are damaged") from error
    return replace(model, start={n: p.detach().clone() for n, p in model.adapter.items()})


def _refused(chosen: StartAdapter, why: str) -> failures.Failure:
    return failures.start_rejected(
        f"The trained model “{chosen.name}” does not fit this job ({why}); start from another one, "
        "or from the starting model alone."
    )


def _set_weights(model: Model, tensors: dict[str, Tensor]) -> None:
    # Numbers that fit by being repeated would be taken without a word.
    odd = [n for n, p in model.adapter.items() if n in tensors and tensors[n].shape != p.shape]
    if odd:
        raise failures.Misfit(f"its weights {min(odd)} have another shape")
    models.set_adapter(model, tensors)


def _check_files(chosen: StartAdapter, folder: Path) -> None:
    try:
        digest = verify_manifest(folder)
        problem = "its manifest is another one" if digest != chosen.manifest_sha256 else ""
    except ValueError as error:
        problem = str(error).rstrip(".")
    except OSError as error:
        print(error, file=sys.stderr)  # for the log
        problem = "a file cannot be read"
    if problem:
        raise failures.start_rejected(
            f"The files of the trained model “{chosen.name}”, from which this job starts, have "
            f"changed since it was made ({problem}); restore them from a backup, or start from "
            "another one."
        )


def _check_fit(folder: Path, spec: TrainerSpec) -> None:
    """Compare what the adapter says of itself with the job's settings.

    Raises:
        Misfit, KeyError: they differ, or it does not say.
    """
    said: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    for ours, theirs in _SAME.items():
        wanted = getattr(spec.config, ours)
        if said[theirs] != wanted:
            title = TrainConfig.model_fields[ours].title
            raise failures.Misfit(f"“{title}” is {said[theirs]} there and {wanted} here")
    base = read_extra(folder).get("base_model")
    if base is not None and base["sha256"] != spec.base_model_manifest_sha256:
        raise failures.Misfit(f"it was trained on other weights of {spec.base_model_name}")


# Of our settings those that PEFT writes down as they are; which layers have an adapter is seen by
# the names of its weights.
_SAME = {
    "lora_rank": "r",
    "lora_alpha": "lora_alpha",
    "use_rslora": "use_rslora",
    "use_dora": "use_dora",
}
