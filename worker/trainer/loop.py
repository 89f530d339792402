"""The training loop, from top to bottom."""

import gc
import math
import re
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from app.training import failpoints
from app.training.chat import IGNORE_INDEX, ChatFormat, Encoded
from app.training.config import TrainConfig, TrainerSpec
from app.training.events import (
    CheckpointEvent,
    DoneEvent,
    EvaluationEvent,
    NoteEvent,
    PhaseEvent,
    SamplesEvent,
    StepEvent,
)
from app.training.plan.choose import Plan
from app.training.plan.machine import this_cpu
from app.training.plan.shape import most_tokens, num_passes, num_steps
from worker.trainer import (
    checkpoint,
    failures,
    model,
    optimizers,
    packing,
    preference,
    samples,
)
from worker.trainer.checkpoint import Progress
from worker.trainer.data import Data, evaluation_examples, step_examples
from worker.trainer.events import EventLog
from worker.trainer.group import ALONE, Group, StartAgain
from worker.trainer.layers import attention
from worker.trainer.loss import completion_loss, padded_loss

_SMALLEST_MICRO_BATCH = 64
# Of torch on the CPU, of C++, and of oneDNN, which multiplies in bfloat16 and has no clearer words.
_OUT_OF_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|bad_alloc|"
    r"could not (create a primitive(?! descriptor)|create a memory object|execute a primitive)"
)
_T = TypeVar("_T")


@dataclass
class Trainer:
    """All that the loop works with; made by job.prepare."""

    spec: TrainerSpec
    job_dir: Path
    log: EventLog
    plan: Plan
    chat: ChatFormat
    data: Data
    model: model.Model
    optimizer: torch.optim.Optimizer
    progress: Progress
    asked_to_stop: Callable[[], bool]
    pairs: preference.Tally = field(default_factory=preference.Tally)
    best: dict[str, Tensor] | None = None  # the adapter of the best evaluation, on the CPU
    clock: Callable[[], float] = time.monotonic
    saved_at: float = 0.0  # by the clock; where training begins, too
    group: Group = ALONE
    limit_anew: Callable[[], None] | None = None  # while a probe may not take all memory

    @property
    def config(self) -> TrainConfig:
        return self.spec.config


def train(trainer: Trainer) -> None:
    """Train from where `trainer.progress` stands to the adapter in JOB_DIR/result.

    Raises:
        Stopped: somebody asked; a checkpoint of this step is on disk.
        Failure: training cannot go on.
    """
    config, progress = trainer.config, trainer.progress
    total_steps = num_steps(len(trainer.data.train), config)
    looks = evaluation_steps(total_steps, config.num_evaluations)
    held_out = _held_out(trainer)
    start = {name: p.detach().clone() for name, p in trainer.model.adapter.items()}
    went_back = progress.learning_rate_scale < 1
    trainer.saved_at = trainer.clock()
    _phase(trainer, "training", f"Training, {total_steps} steps.")
    while not progress.stopped_early:
        if progress.step in looks and progress.evaluated_step != progress.step:
            _look(trainer, held_out)
            if _may_save(trainer, 0):
                _save(trainer)
            if progress.stopped_early:
                break
            _phase(trainer, "training", "Training goes on.")
        elif progress.step < total_steps and _may_save(trainer, trainer.spec.checkpoint_seconds):
            _save(trainer)
            _phase(trainer, "training", "Training goes on.")
        if progress.step >= total_steps:
            break
        if trainer.asked_to_stop():
            _save(trainer)
            raise failures.Stopped
        if not _step(trainer, total_steps):
            if went_back:
                raise failures.loss_not_finite(progress.step + 1)
            went_back = True
            _go_back(trainer, start)
            progress = trainer.progress
        elif progress.baseline_loss is None:
            _ask_base(trainer, held_out)
            _phase(trainer, "training", "Training goes on.")
    _finish(trainer)


def evaluation_steps(total_steps: int, num_evaluations: int) -> set[int]:
    """Return after which steps the test set is asked: evenly spaced, the last step among them."""
    num = min(num_evaluations, total_steps)
    return {round(total_steps * (look + 1) / num) for look in range(num)}


def learning_rate(config: TrainConfig, step: int, total_steps: int) -> float:
    """Return the rate of the update after `step` updates: linear warm-up, then as scheduled."""
    warmup = math.ceil(config.warmup_share * total_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    share = (step - warmup) / max(1, total_steps - warmup)
    match config.schedule:
        case "constant":
            return config.learning_rate
        case "linear":
            return config.learning_rate * (1 - share)
        case "cosine":
            return config.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


def make_optimizer(
    plan: Plan, config: TrainConfig, weights: Sequence[Tensor] | Sequence[dict[str, Any]]
) -> torch.optim.Optimizer:
    """Make the plan's AdamW.

    Args:
        plan: Says which.
        config: The weight decay.
        weights: Alone, or in groups that each have a `ratio` to the learning rate.
    """
    return optimizers.make(plan.optimizer, weights, config.weight_decay)


def probe(trainer: Trainer, steps: int = 2, free_bytes: int | None = None) -> None:
    """Do real steps on the longest examples: memory runs out now or not at all.

    A micro-batch filled with them takes as much as any. The rate is 0 and everything is put back,
    so that training goes on as if nothing had been.

    Args:
        trainer: At its start; a checkpoint is put in place afterwards.
        steps: In the second, all that lasts is there.
        free_bytes: What may be taken on a CPU; what the system has, unless given.
    """
    _phase(trainer, "probing", "Trying the longest examples.")
    by_length = sorted(trainer.data.train, key=lambda e: -len(e.token_ids))
    filled: list[Encoded] = []
    tokens = 0
    wanted = trainer.progress.micro_batch_tokens * trainer.group.size
    while tokens < wanted and len(filled) < len(by_length):
        filled.append(by_length[len(filled)])
        tokens += len(filled[-1].token_ids)
    random_state = _random_state(trainer)
    with _refusing_too_much(trainer, free_bytes):
        try:
            for _ in range(steps):
                _update(trainer, filled, 0.0)
        except failures.Failure:
            # On a CPU the limit is on what is promised, and a job may do with less than that.
            if trainer.model.device.type == "cuda":
                raise
    trainer.optimizer.zero_grad()
    optimizers.reset(trainer.optimizer)
    trainer.pairs.take()
    _set_random_state(trainer, random_state)


@torch.no_grad()
def evaluate(trainer: Trainer, examples: Sequence[Encoded]) -> float:
    """Return the mean loss over the labelled tokens of some examples, or over pairs, in nats."""
    peft = trainer.model.peft
    peft.eval()

    def ask() -> tuple[float, int]:
        total, num_labelled = 0.0, 0
        trainer.pairs.take()
        for row in _rows(trainer, examples):
            with attention.in_flight(row):
                loss_sum, num = _forward(trainer, row)
            total += loss_sum.item()
            num_labelled += int(num)
        return total, num_labelled

    total, num_labelled = _within_memory(trainer, examples, ask)
    peft.train()
    return trainer.group.sum(total) / trainer.group.sum(num_labelled)


def _step(trainer: Trainer, total_steps: int) -> bool:
    """Do one optimizer update; False, and nothing updated, where the loss is no number."""
    began = time.monotonic()
    config, progress = trainer.config, trainer.progress
    chosen = step_examples(len(trainer.data.train), config, progress.step)
    examples = [trainer.data.train[index] for index in chosen]
    trainer.group.reseed(config.seed, progress.step)
    rate = learning_rate(config, progress.step, total_steps) * progress.learning_rate_scale
    loss, norm = _update(trainer, examples, rate)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        return False
    num_tokens = sum(len(example.token_ids) for example in examples)
    seconds = time.monotonic() - began
    progress.step += 1
    progress.trained_tokens += num_tokens
    progress.train_seconds += seconds
    progress.recent_losses = [*progress.recent_losses[-9:], loss]
    seen = trainer.pairs.take(trainer.group)
    trainer.log.write(
        StepEvent,
        step=progress.step,
        epoch=min(
            progress.step * config.batch_size / len(trainer.data.train),
            num_passes(len(trainer.data.train), config),
        ),
        loss=loss,
        learning_rate=rate,
        grad_norm=norm,
        num_tokens=num_tokens,
        tokens_per_second=num_tokens / seconds,
        preferred_share=seen and seen.share,
        preference_margin=seen and seen.margin,
    )
    return True


def _update(trainer: Trainer, examples: Sequence[Encoded], rate: float) -> tuple[float, float]:
    """Move the weights once; not where loss or gradients are no numbers.

    Returns:
        The mean loss over the labelled tokens, and the gradients' norm.
    """
    # An update then needs no memory of its own.
    _within_memory(trainer, examples, lambda: optimizers.reserve(trainer.optimizer))
    loss = _gradients(trainer, examples)
    weights = list(trainer.model.adapter.values())
    norm = torch.nn.utils.clip_grad_norm_(weights, trainer.config.max_grad_norm).item()
    if math.isfinite(loss) and math.isfinite(norm):
        for group in trainer.optimizer.param_groups:
            group["lr"] = rate * group.get("ratio", 1)
        trainer.optimizer.step()
    trainer.optimizer.zero_grad()
    return loss, norm


def _gradients(trainer: Trainer, examples: Sequence[Encoded]) -> float:
    """Fill the gradients of the step's mean loss; smaller pieces where memory does not do."""
    # The step's labelled tokens are known beforehand: a short micro-batch counts by its tokens. Of
    # pairs each counts as one.
    num_labelled = sum(_num_learned(example) for example in examples)

    def fill() -> float:
        total = 0.0
        trainer.pairs.take()
        for row in _rows(trainer, examples):
            with attention.in_flight(row):
                loss_sum, _ = _forward(trainer, row)
                (loss_sum / num_labelled).backward()
            total += loss_sum.item()
        return total

    total = _within_memory(trainer, examples, fill)
    trainer.group.sum_gradients(list(trainer.model.adapter.values()))
    return trainer.group.sum(total) / num_labelled


def _within_memory(trainer: Trainer, examples: Sequence[Encoded], deed: Callable[[], _T]) -> _T:
    """Do something from where gradients are empty; where memory runs out, again with less."""
    random_state = _random_state(trainer)
    while True:
        ran_out = False
        try:
            done = deed()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            ran_out = True
        # Outside the except block, whose exception holds on to the tensors.
        is_split = trainer.plan.strategy == "fsdp"  # then the others wait within a layer
        if not (ran_out and is_split) and not trainer.group.any(ran_out):
            return done
        trainer.optimizer.zero_grad()
        _use_less_memory(trainer, max(len(example.token_ids) for example in examples))
        if is_split:
            now = trainer.progress
            raise StartAgain(now.micro_batch_tokens, now.checkpointing, now.optimizer)
        _set_random_state(trainer, random_state)


def _random_state(trainer: Trainer) -> tuple[Tensor, Tensor | None]:
    device = trainer.model.device
    on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), on_device


def _set_random_state(trainer: Trainer, state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], trainer.model.device)


@contextmanager
def _refusing_too_much(trainer: Trainer, free_bytes: int | None) -> Iterator[None]:
    """Have torch raise on the CPU where the kernel, which promises too much, would kill later."""
    if trainer.model.device.type != "cpu":
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    uses_mkldnn = torch.backends.mkldnn.enabled

    def limit() -> None:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        used = next(int(x.split()[1]) for x in status.splitlines() if x.startswith("VmData")) * 1024
        free = this_cpu().free_bytes if free_bytes is None else free_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (used + free, before[1]))

    limit()
    # What a failed try has freed stays in the heap, where only torch's tensors find it again;
    # oneDNN maps memory of its own.
    trainer.limit_anew = limit
    try:
        yield
    finally:
        trainer.limit_anew = None
        torch.backends.mkldnn.enabled = uses_mkldnn  # torch gives it up for good where it fails
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _num_learned(example: Encoded) -> int:
    if example.num_better_tokens:
        return 1
    return sum(label != IGNORE_INDEX for label in example.labels[1:])


def _forward(trainer: Trainer, row: packing.Row) -> tuple[Tensor, Tensor]:
    if row.is_pairs:
        beta, chunk_tokens = trainer.config.dpo_beta, trainer.plan.loss_chunk_tokens
        loss_sum, margin_P = preference.pair_loss(trainer.model, row, beta, chunk_tokens)
        if row.is_filler:
            return loss_sum * 0, torch.tensor(0)
        trainer.pairs.add(margin_P)
        return loss_sum, torch.tensor(margin_P.shape[0])
    if not trainer.model.packed:
        return padded_loss(trainer.model.scores(row.padded()), row.labels_T, row.lengths)
    hidden_TD, head = trainer.model.hidden(row), trainer.model.head
    chunk_tokens, cap = trainer.plan.loss_chunk_tokens, trainer.model.cap
    return completion_loss(hidden_TD, head.weight, row.labels_T, head.bias, chunk_tokens, cap)


def _rows(trainer: Trainer, examples: Sequence[Encoded]) -> list[packing.Row]:
    """Pack this process's share of some examples."""
    lengths = [len(example.token_ids) for example in examples]
    device, capacity = trainer.model.device, trainer.progress.micro_batch_tokens
    pack = packing.pack if trainer.model.packed else packing.pack_padded
    shares = trainer.group.shares(lengths)
    packed = [pack([lengths[place] for place in share], capacity) for share in shares]
    mine = shares[trainer.group.rank]
    rows = [
        packing.make_row([examples[mine[place]] for place in row], device)
        for row in packed[trainer.group.rank]
    ]
    if trainer.plan.strategy == "fsdp":
        # Layers are put together by all at once: each process runs as many rows as the others.
        missing = max(map(len, packed)) - len(rows)
        is_pairs = any(example.num_better_tokens for example in examples)
        rows += [packing.filler(device, is_pairs) for _ in range(missing)]
    return rows


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        _OUT_OF_MEMORY.search(str(error)) is not None
    )


def _use_less_memory(trainer: Trainer, longest: int) -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if trainer.limit_anew is not None:
        trainer.limit_anew()
    progress = trainer.progress
    if progress.micro_batch_tokens // 2 >= max(longest, _SMALLEST_MICRO_BATCH):
        progress.micro_batch_tokens //= 2
        message = (
            "Memory ran out: from here on "
            f"{progress.micro_batch_tokens} tokens at once instead of twice as many. "
            "What is learned stays the same."
        )
    elif progress.micro_batch_tokens > _SMALLEST_MICRO_BATCH and not progress.checkpointing:
        progress.micro_batch_tokens = _SMALLEST_MICRO_BATCH
        message = "Memory ran out: from here on one example at a time."
    elif not progress.checkpointing:
        progress.checkpointing = True
        model.enable_checkpointing(trainer.model.peft.get_base_model())
        message = "Memory ran out: intermediate results are computed twice from here on."
    elif trainer.model.device.type == "cuda" and "paged" not in progress.optimizer:
        progress.optimizer, trainer.optimizer = optimizers.paged(
            trainer.optimizer, progress.optimizer, trainer.config.weight_decay
        )
        message = (
            "Memory ran out: from here on the optimizer's memory moves out of the GPU where "
            "something else needs the place."
        )
    else:
        raise failures.out_of_memory()
    trainer.log.write(NoteEvent, level="warn", message=message)


def _ask_base(trainer: Trainer, held_out: Sequence[Encoded]) -> None:
    """Ask the test set without the adapter: the loss of step 0.

    After the first step and not before, so that a first point is on the chart sooner.
    """
    _phase(trainer, "evaluating", "Asking the test set without the adapter.")
    with trainer.model.peft.disable_adapter():
        loss = trainer.progress.baseline_loss = evaluate(trainer, held_out)
    _say_evaluation(trainer, 0, loss, is_best=False)


def _look(trainer: Trainer, held_out: Sequence[Encoded]) -> None:
    """Ask the test set, remember the best step, and see whether to stop early."""
    progress, patience = trainer.progress, trainer.config.early_stopping_patience
    _phase(trainer, "evaluating", f"Asking the test set after step {progress.step}.")
    loss = evaluate(trainer, held_out)
    is_best = progress.best_loss is None or loss < progress.best_loss
    if is_best:
        progress.best_loss, progress.best_step, progress.looks_since_best = loss, progress.step, 0
        trainer.best = {n: p.detach().cpu().clone() for n, p in trainer.model.adapter.items()}
    else:
        progress.looks_since_best += 1
    progress.evaluated_step = progress.step
    progress.stopped_early = 0 < patience <= progress.looks_since_best
    shown = _say_evaluation(trainer, progress.step, loss, is_best)
    if is_best and shown:
        progress.best_preferred_share = shown.share


def _say_evaluation(
    trainer: Trainer, step: int, loss: float, is_best: bool
) -> preference.Preferences | None:
    seen = trainer.pairs.take(trainer.group)
    trainer.log.write(
        EvaluationEvent,
        step=step,
        loss=loss,
        is_best=is_best,
        preferred_share=seen and seen.share,
        preference_margin=seen and seen.margin,
    )
    return seen


def _may_save(trainer: Trainer, least_seconds: float) -> bool:
    """Tell whether the time since the last checkpoint pays for the next one."""
    since_seconds = trainer.clock() - trainer.saved_at
    last = trainer.progress.last_save_seconds
    is_due = checkpoint.is_due(since_seconds, last, trainer.spec.checkpoint_share, least_seconds)
    return trainer.group.any(trainer.group.is_first and is_due)  # by one clock


def _save(trainer: Trainer) -> None:
    began, progress = trainer.clock(), trainer.progress
    _phase(trainer, "saving", f"Saving step {progress.step}.")
    if trainer.group.is_first:
        path, digest = checkpoint.save(
            trainer.job_dir, trainer.model, trainer.optimizer, progress, trainer.best
        )
        failpoints.hit("checkpoint.written")
        trainer.log.write(CheckpointEvent, step=progress.step, path=path, manifest_sha256=digest)
        checkpoint.tidy(trainer.job_dir, progress)
    trainer.group.wait()  # who ends now or goes back may count on it
    trainer.saved_at = trainer.clock()
    progress.last_save_seconds = trainer.saved_at - began
    progress.save_seconds += progress.last_save_seconds


def _go_back(trainer: Trainer, start: dict[str, Tensor]) -> None:
    """Return to the newest whole checkpoint, or to the start, with half the learning rate."""
    lost, now = trainer.progress.step + 1, trainer.progress
    folder = checkpoint.newest(trainer.job_dir, now.step)
    if folder is not None:
        progress = checkpoint.restore(folder, trainer.model, trainer.optimizer)
        trainer.best = checkpoint.best_adapter(folder, progress)
    else:
        model.set_adapter(trainer.model, start)
        optimizers.reset(trainer.optimizer)
        progress, trainer.best = Progress(baseline_loss=now.baseline_loss), None
    # How to work with the memory there is was found out later, and costs are costs.
    trainer.progress = replace(
        progress,
        micro_batch_tokens=now.micro_batch_tokens,
        checkpointing=now.checkpointing,
        optimizer=now.optimizer,
        save_seconds=now.save_seconds,
        last_save_seconds=now.last_save_seconds,
    )
    trainer.group.wait()  # all have read
    if trainer.group.is_first:
        checkpoint.forget_after(trainer.job_dir, progress.step)
    trainer.progress.learning_rate_scale *= 0.5
    trainer.log.write(
        NoteEvent,
        level="warn",
        message=f"At step {lost} the loss was no longer a number. Training went back to step "
        f"{trainer.progress.step} and goes on with half the learning rate.",
    )


def _held_out(trainer: Trainer) -> list[Encoded]:
    data, config = trainer.data, trainer.config
    if not data.validation:
        trainer.log.write(
            NoteEvent,
            level="warn",
            message="There is no test set, so the looks are at practice examples: they cannot "
            "show whether the adapter learns more than to recite.",
        )
        return data.train[:64]
    train_tokens = sum(len(e.token_ids) for e in data.train) * num_passes(len(data.train), config)
    chosen = evaluation_examples(data.validation, config, train_tokens)
    if len(chosen) < len(data.validation):
        trainer.log.write(
            NoteEvent,
            level="info",
            message=f"The test set is large: each look asks the same {len(chosen)} of its "
            f"{len(data.validation)} examples.",
        )
    return chosen


def _finish(trainer: Trainer) -> None:
    """Write the best adapter, let it answer, and say how it went."""
    progress = trainer.progress
    assert progress.best_step is not None
    assert progress.best_loss is not None
    assert progress.baseline_loss is not None
    assert trainer.best is not None
    model.set_adapter(trainer.model, trainer.best)
    _phase(trainer, "sampling", "Answering test questions without and with the adapter.")
    trainer.log.write(SamplesEvent, samples=_answers(trainer))
    _phase(trainer, "saving", "Writing the adapter.")
    if trainer.group.is_first:
        checkpoint.write_result(trainer.job_dir, Path(trainer.spec.base_model_dir), trainer.model)
        failpoints.hit("result.written")
    trainer.log.write(
        DoneEvent,
        best_step=progress.best_step,
        validation_loss_before=progress.baseline_loss,
        validation_loss_after=progress.best_loss,
        train_loss=sum(progress.recent_losses) / max(1, len(progress.recent_losses)),
        trained_tokens=progress.trained_tokens,
        peak_memory_bytes=int(trainer.group.most(peak_memory_bytes(trainer.model.device))),
        train_seconds=progress.train_seconds,
        save_seconds=progress.save_seconds,
        stopped_early=progress.stopped_early,
        preferred_share=progress.best_preferred_share,
    )


def _answers(trainer: Trainer) -> list[dict[str, str]]:
    """Answer the test questions; what was learned is not lost where memory does not do for it."""
    length = most_tokens(trainer.config, trainer.model.peft.config.to_dict())
    if trainer.plan.strategy == "fsdp":  # all parts are needed, and nobody may leave
        return samples.answer(
            trainer.model, trainer.chat, trainer.data.questions, length, trainer.group
        )
    if not trainer.group.is_first:
        return []
    try:
        return samples.answer(trainer.model, trainer.chat, trainer.data.questions, length)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    message = "The test questions were not answered: memory ran out. The adapter is whole."
    trainer.log.write(NoteEvent, level="warn", message=message)
    return []


def peak_memory_bytes(device: torch.device) -> int:
    """Return the most memory in use so far: the GPU's, or this process's own."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _phase(trainer: Trainer, phase: str, message: str) -> None:
    trainer.log.write(PhaseEvent, phase=phase, message=message)
