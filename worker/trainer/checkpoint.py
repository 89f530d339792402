"""Write and read what is needed to go on: safetensors and JSON, whole or not there.

A checkpoint stands alone: it holds the best adapter so far beside the present one.
"""

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import Tensor

from app.training import licences, settings_files
from app.training.config import OptimizerKind
from app.training.manifests import new_folder, verify_manifest, write_manifest
from worker.trainer import keeping, optimizers
from worker.trainer import model as models
from worker.trainer.model import Model

_BEST = "best_adapter.safetensors"
# Differ between two saves of the same step.
_CLOCKS = ("train_seconds", "processor_seconds", "save_seconds", "last_save_seconds")


@dataclass
class Progress:
    """Where a job stands. The number of steps is also the position in the data."""

    step: int = 0
    micro_batch_tokens: int = 0
    checkpointing: bool = False
    optimizer: OptimizerKind = "adamw"
    learning_rate_scale: float = 1.0  # halved after a loss that was no number
    trained_tokens: int = 0
    train_seconds: float = 0.0
    processor_seconds: float = 0.0  # of the same, what each of our threads had of a core
    save_seconds: float = 0.0  # of all checkpoints
    last_save_seconds: float = 0.0
    baseline_loss: float | None = None
    evaluated_step: int | None = None
    best_step: int | None = None
    best_loss: float | None = None
    best_preferred_share: float | None = None
    looks_since_best: int = 0  # evaluations; the name is stored
    stopped_early: bool = False
    recent_losses: list[float] = field(default_factory=list)


def is_due(since_seconds: float, last_save_seconds: float, share: float, least: float) -> bool:
    """Tell whether a checkpoint may be written now without costing more than its share of time.

    Each save is paid for by the time that passes before the next one. What holds for a job: it
    spends at most `share` of its time on checkpoints, the last one and those that somebody's wish
    to stop asks for aside. The first costs nobody knows how much, and is always written.

    Args:
        since_seconds: Since the last save, or since training began.
        last_save_seconds: How long it took; 0 before the first.
        share: Of the time.
        least: Seconds between two saves, however little they cost.
    """
    return since_seconds >= max(least, last_save_seconds / share)


def save(
    job_dir: Path,
    model: Model,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    best: dict[str, Tensor] | None = None,
) -> tuple[str, str]:
    """Write a checkpoint of the present step, unless that very one lies there whole.

    Args:
        job_dir: The job's folder.
        model: Its adapter.
        optimizer: Its state.
        progress: Where the job stands.
        best: The adapter of the best evaluation, where that is not the present one.

    Returns:
        Its path below JOB_DIR and its manifest's SHA-256.
    """
    path = f"checkpoints/step-{progress.step:05d}"
    digest = _saved_already(job_dir / path, progress)
    if digest is not None:
        return path, digest
    (job_dir / "checkpoints").mkdir(exist_ok=True)
    with new_folder(job_dir / path) as folder:
        _save_adapter(folder, _on_cpu(dict(model.adapter)), models.peft_config(model))
        if best is not None and progress.best_step != progress.step:
            save_file(best, folder / _BEST, metadata={"format": "pt"})
        tensors, numbers = optimizers.state(optimizer)
        save_file(tensors | _random_states(), folder / "optimizer.safetensors")
        state = {"progress": asdict(progress), "optimizer": numbers}
        (folder / "state.json").write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
        digest = write_manifest(folder, step=progress.step)
    return path, digest


def newest(job_dir: Path, at_most: int | None = None) -> Path | None:
    """Return the newest whole checkpoint, passing over damaged ones.

    Args:
        job_dir: The job's folder.
        at_most: Leave out later steps.
    """
    for step, folder in reversed(keeping.folders(job_dir)):
        if at_most is None or step <= at_most:
            try:
                verify_manifest(folder)
            except (ValueError, OSError):
                continue
            return folder
    return None


def step_of(path: str) -> int:
    """Read a step from a checkpoint's path.

    Raises:
        ValueError: it is not the path of one.
    """
    match = keeping.STEP.fullmatch(Path(path).name)
    if match is None:
        raise ValueError(f"{path} is no checkpoint")
    return int(match[1])


def read_progress(folder: Path) -> Progress:
    """Read where a job stood.

    Raises:
        ValueError, KeyError, TypeError, OSError: this is no checkpoint of ours.
    """
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return Progress(**state["progress"])


def restore(folder: Path, model: Model, optimizer: torch.optim.Optimizer) -> Progress:
    """Put model, optimizer and random states back as they were, from what `newest` returned."""
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    models.set_adapter(model, load_file(folder / "adapter_model.safetensors"))
    tensors = load_file(folder / "optimizer.safetensors")
    torch.set_rng_state(tensors.pop("random.cpu"))
    for name in [name for name in tensors if name.startswith("random.cuda.")]:
        states = tensors.pop(name)
        if torch.cuda.is_available():
            torch.cuda.set_rng_state(states, int(name.rpartition(".")[2]))
    optimizers.set_state(optimizer, tensors, state["optimizer"])
    return Progress(**state["progress"])


def best_adapter(folder: Path, progress: Progress) -> dict[str, Tensor] | None:
    """Read the adapter of the best evaluation from a whole checkpoint.

    Returns:
        Its tensors on the CPU, or None where there has been no evaluation.
    """
    if progress.best_step is None:
        return None
    is_present = progress.best_step == progress.step
    return dict(load_file(folder / ("adapter_model.safetensors" if is_present else _BEST)))


def forget_after(job_dir: Path, step: int) -> None:
    """Remove checkpoints of later steps, which are damaged or of a way given up, and halves."""
    for saved_step, folder in keeping.folders(job_dir):
        if saved_step > step:
            shutil.rmtree(folder)
    for folder in (job_dir / "checkpoints").glob("step-*[.]*"):
        shutil.rmtree(folder)


def write_result(job_dir: Path, base_model_dir: Path, model: Model, **about: Any) -> str:
    """Write the adapter as plain PEFT loads it, and all that goes with it, into JOB_DIR/result.

    Tokenizer, end of an answer and licence are as an export has them (worker/exporting).

    Args:
        job_dir: The job's folder.
        base_model_dir: Where tokenizer, settings and licence lie.
        model: What was trained.
        about: What the manifest says beside the files.

    Returns:
        The manifest's SHA-256.
    """
    with new_folder(job_dir / "result") as folder:
        _save_adapter(folder, _on_cpu(dict(model.adapter)), models.peft_config(model))
        settings_files.write_tokenizer(base_model_dir, folder)
        settings_files.write_generation_config(base_model_dir, folder)
        licences.copy(base_model_dir, folder)
        return write_manifest(folder, **about)


def _save_adapter(folder: Path, tensors: dict[str, Tensor], config: LoraConfig) -> None:
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    body = settings_files.adapter_config(config.to_dict(), str(config.base_model_name_or_path))
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


def _saved_already(folder: Path, progress: Progress) -> str | None:
    """Return the manifest's hash of a whole checkpoint that says the same."""

    def lasting(values: Progress) -> dict[str, Any]:
        return {key: value for key, value in asdict(values).items() if key not in _CLOCKS}

    try:
        digest = verify_manifest(folder)
        return digest if lasting(read_progress(folder)) == lasting(progress) else None
    except (ValueError, KeyError, TypeError, OSError):
        return None
