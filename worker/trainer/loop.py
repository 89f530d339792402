"""The training loop, from top to bottom.

Evaluate or save when due; stop when asked; take the next examples; forward and backward; update.
What a job is in training is state.py's; what happens when memory runs out is memory.py's.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from app.training import failpoints
from app.training.chat import Encoded
from app.training.events import (
    DoneEvent,
    SamplesEvent,
    StepEvent,
)
from app.training.plan.shape import num_passes, num_steps
from worker.trainer import (
    checkpoint,
    evaluation,
    failures,
    memory,
    model,
    optimizers,
    samples,
    saving,
    schedule,
)
from worker.trainer.data import num_learned, step_examples
from worker.trainer.layers import attention
from worker.trainer.state import TrainingState


def train(state: TrainingState) -> None:
    """Train from where `state.progress` stands to the adapter in JOB_DIR/result.

    Raises:
        Stopped: somebody asked; a checkpoint of this step is on disk.
        Failure: training cannot go on.
    """
    config = state.config
    total_steps = num_steps(len(state.data.train), config)
    evaluation_steps = schedule.evaluation_steps(total_steps, config.num_evaluations)
    held_out = evaluation.held_out(state)
    start = state.model.start
    if start is None:
        start = {name: p.detach().clone() for name, p in state.model.adapter.items()}
    state.saved_at = state.clock()
    state.enter("training", f"Training, {total_steps} steps.")
    while not state.progress.stopped_early:
        step = state.progress.step
        if step in evaluation_steps and state.progress.evaluated_step != step:
            if not evaluation.evaluate(state, held_out):
                # A checkpoint of this very step has the same weights.
                _go_back_once(state, start, lost=step, at_most=step - 1)
                continue
            if saving.is_due(state, 0):
                saving.save(state)
            if state.progress.stopped_early:
                break
            state.enter("training", "Training goes on.")
        elif step < total_steps and saving.is_due(state, state.spec.checkpoint_seconds):
            saving.save(state)
            state.enter("training", "Training goes on.")

        if step >= total_steps:
            break
        if state.asked_to_stop():
            saving.save(state)
            raise failures.Stopped

        if not take_step(state, total_steps):
            _go_back_once(state, start, lost=step + 1, at_most=step)
        elif state.progress.baseline_loss is None:
            evaluation.evaluate_base(state, held_out)
            state.enter("training", "Training goes on.")
    _finish(state)


def _go_back_once(
    state: TrainingState, start: dict[str, torch.Tensor], *, lost: int, at_most: int
) -> None:
    if state.progress.learning_rate_scale < 1:
        raise failures.loss_not_finite(lost)
    saving.go_back(state, start, lost=lost, at_most=at_most)


def take_step(state: TrainingState, total_steps: int) -> bool:
    """Update the weights once with the next examples.

    Returns:
        False, with nothing updated, where the loss is no number.
    """
    began, had = time.monotonic(), time.process_time()
    config, progress, num_train = state.config, state.progress, len(state.data.train)
    chosen = step_examples(num_train, config, progress.step)
    examples = [state.data.train[index] for index in chosen]
    state.group.reseed(config.seed, progress.step)
    rate = schedule.learning_rate(config, progress.step, total_steps)
    rate *= progress.learning_rate_scale
    loss, norm = update(state, examples, rate)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        return False
    num_tokens = sum(len(example.token_ids) for example in examples)
    seconds = time.monotonic() - began
    progress.step += 1
    progress.trained_tokens += num_tokens
    progress.train_seconds += seconds
    progress.processor_seconds += (time.process_time() - had) / torch.get_num_threads()
    progress.recent_losses = [*progress.recent_losses[-9:], loss]
    preferences = state.pairs.take(state.group)
    state.log.write(
        StepEvent,
        step=progress.step,
        epoch=min(progress.step * config.batch_size / num_train, num_passes(num_train, config)),
        loss=loss,
        learning_rate=rate,
        grad_norm=norm,
        num_tokens=num_tokens,
        tokens_per_second=num_tokens / seconds,
        preferred_share=preferences and preferences.share,
        preference_margin=preferences and preferences.margin,
    )
    return True


def update(state: TrainingState, examples: Sequence[Encoded], rate: float) -> tuple[float, float]:
    """Move the weights once; not where loss or gradients are no numbers.

    Returns:
        The mean loss over the labelled tokens, in nats, and the norm of the gradients before they
        are clipped.
    """
    # An update then needs no memory of its own.
    memory.within(state, examples, lambda: optimizers.reserve(state.optimizer))
    loss = fill_gradients(state, examples)
    weights = list(state.model.adapter.values())
    norm = torch.nn.utils.clip_grad_norm_(weights, state.config.max_grad_norm).item()
    if math.isfinite(loss) and math.isfinite(norm):
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group.get("ratio", 1)
        state.optimizer.step()
    state.optimizer.zero_grad()
    return loss, norm


def fill_gradients(state: TrainingState, examples: Sequence[Encoded]) -> float:
    """Do forward and backward of a step, a micro-batch at a time.

    Returns:
        The mean loss over the labelled tokens, or over the pairs, in nats.
    """
    # Known beforehand, so that a short micro-batch counts by its tokens.
    num = sum(num_learned(example) for example in examples)

    def forward_and_backward() -> float:
        total = 0.0
        state.pairs.clear()
        for row in state.micro_batches(examples):
            with attention.in_flight(row):
                loss = state.model.loss(row)
                (loss.total / num).backward()
            state.pairs.add(loss.margin_P)
            total += loss.total.item()
        return total

    total = memory.within(state, examples, forward_and_backward)
    state.group.sum_gradients(list(state.model.adapter.values()))
    return state.group.sum(total) / num


def _finish(state: TrainingState) -> None:
    """Write the adapter that is kept, let it answer, and say how it went."""
    progress = state.progress
    assert progress.best_step is not None
    assert progress.best_loss is not None
    assert progress.baseline_loss is not None
    assert state.best is not None
    model.set_adapter(state.model, state.best)
    before = "without" if state.model.start is None else "as before this job"
    if state.data.questions:
        asked = f"{state.spec.checks_on} questions"
        state.enter("sampling", f"Answering {asked} {before} and with the adapter.")
    state.log.write(SamplesEvent, samples=samples.answer_questions(state))
    state.enter("saving", "Writing the adapter.")
    digest = None
    if state.group.is_first:
        about = {"job": state.spec.job_id, "attempt": state.spec.attempt}
        folder = Path(state.spec.base_model_dir)
        digest = checkpoint.write_result(state.job_dir, folder, state.model, **about)
        failpoints.hit("result.written")
    state.log.write(
        DoneEvent,
        best_step=progress.best_step,
        is_chosen=bool(state.data.validation),
        validation_loss_before=progress.baseline_loss,
        validation_loss_after=progress.best_loss,
        train_loss=sum(progress.recent_losses) / max(1, len(progress.recent_losses)),
        trained_tokens=progress.trained_tokens,
        peak_memory_bytes=int(state.group.most(memory.peak_bytes(state.model.device))),
        train_seconds=progress.train_seconds,
        processor_seconds=progress.processor_seconds if state.spec.device == "cpu" else None,
        save_seconds=progress.save_seconds,
        stopped_early=progress.stopped_early,
        preferred_share=progress.best_preferred_share,
        end_token_ids=sorted(state.chat.end_token_ids),
        manifest_sha256=digest,
    )
