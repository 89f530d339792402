"""When to write a checkpoint, and going back to one after a loss that is no number."""

from dataclasses import replace

from torch import Tensor

from app.training import failpoints
from app.training.events import CheckpointEvent
from worker.trainer import checkpoint, keeping, model, optimizers
from worker.trainer.checkpoint import Progress
from worker.trainer.state import TrainingState


def is_due(state: TrainingState, least_seconds: float) -> bool:
    """Tell whether the time since the last checkpoint pays for the next one."""
    since_seconds = state.clock() - state.saved_at
    last, share = state.progress.last_save_seconds, state.spec.checkpoint_share
    mine = checkpoint.is_due(since_seconds, last, share, least_seconds)
    return state.group.any(state.group.is_first and mine)  # by one clock


def save(state: TrainingState) -> None:
    """Write a checkpoint of the present step, and remove those that are no longer needed."""
    began, progress = state.clock(), state.progress
    state.enter("saving", f"Saving step {progress.step}.")
    if state.group.is_first:
        path, digest = checkpoint.save(
            state.job_dir, state.model, state.optimizer, progress, state.best
        )
        failpoints.hit("checkpoint.written")
        state.log.write(CheckpointEvent, step=progress.step, path=path, manifest_sha256=digest)
        keeping.tidy(state.job_dir, state.spec.attempt, progress.step)
    state.group.wait()  # who ends now or goes back may count on it
    state.saved_at = state.clock()
    progress.last_save_seconds = state.saved_at - began
    progress.save_seconds += progress.last_save_seconds


def go_back(state: TrainingState, start: dict[str, Tensor], *, lost: int, at_most: int) -> None:
    """Return to the newest whole checkpoint, or to the start, with half the learning rate.

    Args:
        state: What trains.
        start: The adapter before the first step.
        lost: The step at which a loss was no number.
        at_most: The newest step whose checkpoint may be used.
    """
    now = state.progress
    folder = checkpoint.newest(state.job_dir, at_most)
    if folder is not None:
        progress = checkpoint.restore(folder, state.model, state.optimizer)
        state.best = checkpoint.best_adapter(folder, progress)
    else:
        model.set_adapter(state.model, start)
        optimizers.reset(state.optimizer)
        progress, state.best = Progress(baseline_loss=now.baseline_loss), None
    # How to do with the memory there is was learned later, and costs are costs.
    state.progress = replace(
        progress,
        micro_batch_tokens=now.micro_batch_tokens,
        checkpointing=now.checkpointing,
        optimizer=now.optimizer,
        save_seconds=now.save_seconds,
        last_save_seconds=now.last_save_seconds,
    )
    state.group.wait()  # all have read
    if state.group.is_first:
        checkpoint.forget_after(state.job_dir, progress.step)
    state.progress.learning_rate_scale *= 0.5
    state.note(
        "warn",
        f"At step {lost} the loss was no longer a number. Training went back to step "
        f"{state.progress.step} and goes on with half the learning rate.",
    )
