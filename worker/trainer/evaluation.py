"""The loss on held-out examples: what an adapter has learned, and which step's is the best."""

from collections.abc import Sequence

import torch

from app.training.chat import Encoded
from app.training.events import EvaluationEvent
from app.training.plan.shape import num_passes
from worker.trainer import memory
from worker.trainer.data import evaluation_examples
from worker.trainer.layers import attention
from worker.trainer.preference import Preferences
from worker.trainer.state import TrainingState


def held_out(state: TrainingState) -> list[Encoded]:
    """Choose what evaluations of this job are made on, and say so where it is not the test set."""
    data, config = state.data, state.config
    if not data.validation:
        state.note(
            "warn",
            "There is no test set, so evaluations use practice examples: they cannot show "
            "whether the adapter learns more than to recite.",
        )
        return data.train[:64]
    train_tokens = sum(len(e.token_ids) for e in data.train) * num_passes(len(data.train), config)
    chosen = evaluation_examples(data.validation, config, train_tokens)
    if len(chosen) < len(data.validation):
        state.note(
            "info",
            f"The test set is large: each evaluation uses the same {len(chosen)} of its "
            f"{len(data.validation)} examples.",
        )
    return chosen


def evaluate(state: TrainingState, examples: Sequence[Encoded]) -> None:
    """Evaluate after the present step, remember the best one, and see whether to stop early."""
    progress, patience = state.progress, state.config.early_stopping_patience
    state.enter("evaluating", f"Evaluating after step {progress.step}.")
    loss = mean_loss(state, examples)
    is_best = progress.best_loss is None or loss < progress.best_loss
    if is_best:
        progress.best_loss, progress.best_step, progress.looks_since_best = loss, progress.step, 0
        state.best = {n: p.detach().cpu().clone() for n, p in state.model.adapter.items()}
    else:
        progress.looks_since_best += 1
    progress.evaluated_step = progress.step
    progress.stopped_early = 0 < patience <= progress.looks_since_best
    preferences = _report(state, progress.step, loss, is_best)
    if is_best and preferences:
        progress.best_preferred_share = preferences.share


def evaluate_base(state: TrainingState, examples: Sequence[Encoded]) -> None:
    """Evaluate without the adapter: the loss of step 0.

    After the first step and not before, so that a first point is on the chart sooner.
    """
    state.enter("evaluating", "Evaluating without the adapter.")
    with state.model.peft.disable_adapter():
        loss = state.progress.baseline_loss = mean_loss(state, examples)
    _report(state, 0, loss, is_best=False)


@torch.no_grad()
def mean_loss(state: TrainingState, examples: Sequence[Encoded]) -> float:
    """Return the mean loss over the labelled tokens of some examples, or over pairs, in nats."""
    peft = state.model.peft
    peft.eval()

    def add_up() -> tuple[float, int]:
        total, num_learned = 0.0, 0
        state.pairs.clear()
        for row in state.micro_batches(examples):
            with attention.in_flight(row):
                loss = state.model.loss(row)
            state.pairs.add(loss.margin_P)
            total += loss.total.item()
            num_learned += loss.num_learned
        return total, num_learned

    total, num_learned = memory.within(state, examples, add_up)
    peft.train()
    return state.group.sum(total) / state.group.sum(num_learned)


def _report(state: TrainingState, step: int, loss: float, is_best: bool) -> Preferences | None:
    preferences = state.pairs.take(state.group)
    state.log.write(
        EvaluationEvent,
        step=step,
        loss=loss,
        is_best=is_best,
        preferred_share=preferences and preferences.share,
        preference_margin=preferences and preferences.margin,
    )
    return preferences
