"""The loss on examples that check: what an adapter has learned, and which step's is the best."""

import math
from collections.abc import Sequence

import torch

from app.training.chat import Encoded
from app.training.events import EvaluationEvent
from app.training.plan.shape import PRACTICE_CHECKED, num_passes
from worker.trainer import failures, memory
from worker.trainer.data import evaluation_examples
from worker.trainer.layers import attention
from worker.trainer.preference import Preferences
from worker.trainer.state import TrainingState


def held_out(state: TrainingState) -> list[Encoded]:
    """Choose what evaluations of this job are made on, and say so where it is not the whole set."""
    data, config, name = state.data, state.config, state.spec.checks_on
    if not data.validation:
        state.note(
            "warn",
            f"There is no {name} set, so the losses in between are those of practice examples: "
            "they cannot show whether the model has learned or just memorised. Nothing is chosen "
            "by them: what it has learned at the last step is kept.",
        )
        return data.train[:PRACTICE_CHECKED]
    train_tokens = sum(len(e.token_ids) for e in data.train) * num_passes(len(data.train), config)
    chosen = evaluation_examples(data.validation, config, train_tokens)
    if len(chosen) < len(data.validation):
        state.note(
            "info",
            f"The {name} set is large: each evaluation uses the same {len(chosen)} of its "
            f"{len(data.validation)} examples.",
        )
    return chosen


def evaluate(state: TrainingState, examples: Sequence[Encoded]) -> bool:
    """Evaluate after the present step, remember the best one, and see whether to stop early.

    By what was practised nothing is chosen: then the newest counts, and nothing stops early.

    Returns:
        False, with nothing remembered or reported, where the loss is no number.
    """
    progress, patience = state.progress, state.config.early_stopping_patience
    state.enter("evaluating", f"Evaluating after step {progress.step}.")
    loss = mean_loss(state, examples)
    if not math.isfinite(loss):
        return False
    chooses = bool(state.data.validation)
    is_best = chooses and (progress.best_loss is None or loss < progress.best_loss)
    if is_best or not chooses:
        progress.best_loss, progress.best_step, progress.looks_since_best = loss, progress.step, 0
        state.best = {n: p.detach().cpu().clone() for n, p in state.model.adapter.items()}
    else:
        progress.looks_since_best += 1
    progress.evaluated_step = progress.step
    progress.stopped_early = 0 < patience <= progress.looks_since_best
    preferences = _report(state, progress.step, loss, is_best)
    if preferences and progress.best_step == progress.step:
        progress.best_preferred_share = preferences.share
    return True


def evaluate_base(state: TrainingState, examples: Sequence[Encoded]) -> None:
    """Evaluate as before the first step: the loss of step 0.

    After the first step and not before, so that a first point is on the chart sooner.

    Raises:
        Failure: it is no number, so nothing can be learned from there.
    """
    name = state.spec.start.name if state.spec.start else ""
    what = f"“{name}”, from which it starts" if name else "the starting model alone"
    state.enter("evaluating", f"Evaluating {what}.")
    with state.model.at_start():
        loss = mean_loss(state, examples)
    if not math.isfinite(loss):
        raise failures.base_not_finite(name)
    state.progress.baseline_loss = loss
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
