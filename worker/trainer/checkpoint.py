"""Write and read what is needed to go on: safetensors and JSON, whole or not there."""

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import Tensor

from app.manifests import new_folder, verify_manifest, write_manifest
from worker.trainer import model as models
from worker.trainer.model import Model

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


@dataclass
class Progress:
    """Where a job stands. The number of steps is also the position in the data."""

    step: int = 0
    micro_batch_tokens: int = 0
    checkpointing: bool = False
    learning_rate_scale: float = 1.0  # halved after a loss that was no number
    trained_tokens: int = 0
    train_seconds: float = 0.0
    baseline_loss: float | None = None
    evaluated_step: int | None = None
    best_step: int | None = None
    best_loss: float | None = None
    best_preferred_share: float | None = None
    looks_since_best: int = 0
    stopped_early: bool = False
    recent_losses: list[float] = field(default_factory=list)


def save(
    job_dir: Path, model: Model, optimizer: torch.optim.Optimizer, progress: Progress
) -> tuple[str, str]:
    """Write a checkpoint of the present step.

    Returns:
        Its path below JOB_DIR and its manifest's SHA-256.
    """
    path = f"checkpoints/step-{progress.step:05d}"
    (job_dir / "checkpoints").mkdir(exist_ok=True)
    with new_folder(job_dir / path) as folder:
        _save_adapter(folder, _on_cpu(dict(model.adapter)), models.peft_config(model))
        tensors, numbers = _flatten(optimizer.state_dict()["state"])
        save_file(tensors | _random_states(), folder / "optimizer.safetensors")
        state = {"progress": asdict(progress), "optimizer": numbers}
        (folder / "state.json").write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
        digest = write_manifest(folder, step=progress.step)
    return path, digest


def restore(folder: Path, model: Model, optimizer: torch.optim.Optimizer) -> Progress:
    """Put model, optimizer and random states back as they were.

    Raises:
        ValueError: the checkpoint is damaged or belongs to another model.
    """
    verify_manifest(folder)
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    models.set_adapter(model, load_file(folder / "adapter_model.safetensors"))
    tensors = load_file(folder / "optimizer.safetensors")
    torch.set_rng_state(tensors.pop("random.cpu"))
    for name in [name for name in tensors if name.startswith("random.cuda.")]:
        states = tensors.pop(name)
        if torch.cuda.is_available():
            torch.cuda.set_rng_state(states, int(name.rpartition(".")[2]))
    whole = optimizer.state_dict()
    whole["state"] = _unflatten(tensors, state["optimizer"])
    optimizer.load_state_dict(whole)
    return Progress(**state["progress"])


def tidy(job_dir: Path, progress: Progress) -> None:
    """Keep the newest two checkpoints and the best one."""
    folders = sorted((job_dir / "checkpoints").glob("step-*[0-9]"))
    best = f"step-{progress.best_step:05d}" if progress.best_step is not None else None
    for folder in folders[:-2]:
        if folder.name != best:
            shutil.rmtree(folder)


def best_adapter(job_dir: Path, progress: Progress) -> dict[str, Tensor]:
    """Read the adapter of the best evaluation.

    Raises:
        ValueError: the checkpoint is damaged.
    """
    folder = job_dir / "checkpoints" / f"step-{progress.best_step:05d}"
    verify_manifest(folder)
    return dict(load_file(folder / "adapter_model.safetensors"))


def write_result(job_dir: Path, base_model_dir: Path, model: Model) -> None:
    """Write the adapter as plain PEFT loads it, with the tokenizer, into JOB_DIR/result."""
    with new_folder(job_dir / "result") as folder:
        _save_adapter(folder, _on_cpu(dict(model.adapter)), models.peft_config(model))
        for name in _TOKENIZER_FILES:
            if (base_model_dir / name).exists():
                shutil.copyfile(base_model_dir / name, folder / name)
        write_manifest(folder)


def _save_adapter(folder: Path, tensors: dict[str, Tensor], config: LoraConfig) -> None:
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    body = config.to_dict()
    body["inference_mode"] = True
    # Sets have no order, and enums no JSON.
    body["target_modules"] = sorted(body["target_modules"])
    for key, value in body.items():
        body[key] = sorted(value) if isinstance(value, set) else getattr(value, "value", value)
    text = json.dumps(body, indent=2, sort_keys=True) + "\n"
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")


def _on_cpu(tensors: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _random_states() -> dict[str, Tensor]:
    states = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        for index, state in enumerate(torch.cuda.get_rng_state_all()):
            states[f"random.cuda.{index}"] = state
    return states


def _flatten(
    state: dict[int, dict[str, Any]],
) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for index, values in state.items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                # A copy: moments of equal layers may share storage in paged optimizers.
                tensors[f"{index}.{name}"] = value.detach().cpu().clone()
            else:
                numbers.setdefault(str(index), {})[name] = value
    return tensors, numbers


def _unflatten(
    tensors: dict[str, Tensor], numbers: dict[str, dict[str, Any]]
) -> dict[int, dict[str, Any]]:
    state: dict[int, dict[str, Any]] = {int(index): dict(v) for index, v in numbers.items()}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    return state
