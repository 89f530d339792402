"""What a trainer says: the lines of `events.jsonl`, and its exit codes; no torch."""

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic_core import PydanticCustomError

NOT_FINITE = "finite_number"  # pydantic's own word for it


class Event(BaseModel):
    """One line of JOB_DIR/attempts/<n>/events.jsonl; `at` is Unix seconds (UTC).

    No figure is NaN or infinite: neither JSON nor a chart can hold one.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    kind: str
    at: float


class PhaseEvent(Event):
    """The trainer began something that takes a while."""

    kind: Literal["phase"] = "phase"
    phase: Literal[
        "loading", "preparing", "probing", "training", "evaluating", "sampling", "saving"
    ]
    message: str


class PlanEvent(Event):
    """What the trainer settled on, once, before the first step; `plan` as in plan.choose.Plan."""

    kind: Literal["plan"] = "plan"
    total_steps: int
    num_train: int
    num_validation: int
    num_truncated: int  # of the examples that are practised
    num_cut_tokens: int = 0  # of the truncated examples, together
    num_cut_answers: int = 0  # of the truncated examples, those whose answer lost something
    # The same of those that losses in between are measured on.
    num_checked_truncated: int = 0
    num_checked_cut_tokens: int = 0
    num_checked_cut_answers: int = 0
    plan: dict[str, Any]

    @field_validator("plan")
    @classmethod
    def _is_finite(cls, plan: dict[str, Any]) -> dict[str, Any]:
        left: list[Any] = [plan]
        while left:
            each = left.pop()
            if isinstance(each, float) and not math.isfinite(each):
                raise PydanticCustomError(NOT_FINITE, "a figure of the plan is no number")
            if isinstance(each, dict | list):
                left += each.values() if isinstance(each, dict) else each
        return plan


class StepEvent(Event):
    """One optimizer update. `loss` is the mean over its labelled tokens, or pairs, in nats."""

    kind: Literal["step"] = "step"
    step: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float
    num_tokens: int  # non-padding tokens of the step
    tokens_per_second: float
    # Of pairs: how often the better answer is preferred to the worse, and by how much (in nats,
    # times beta), each beside the starting model.
    preferred_share: float | None = None
    preference_margin: float | None = None


class EvaluationEvent(Event):
    """Mean loss over the check rows' labelled tokens, or pairs, after `step` updates.

    `is_best`: the lowest so far. By practice rows, where none check, none is the best.
    """

    kind: Literal["evaluation"] = "evaluation"
    step: int
    loss: float
    is_best: bool
    preferred_share: float | None = None  # as in StepEvent
    preference_margin: float | None = None


class CheckpointEvent(Event):
    """A checkpoint is whole on disk; `path` is below JOB_DIR."""

    kind: Literal["checkpoint"] = "checkpoint"
    step: int
    path: str
    manifest_sha256: str


class NoteEvent(Event):
    """A sentence for the person: something moved by itself, or is worth knowing."""

    kind: Literal["note"] = "note"
    level: Literal["info", "warn", "error"]
    message: str


class Sample(BaseModel):
    """A question and its answers; `is_…_cut`: the answer was not over at its limit of tokens."""

    question: str
    reference: str
    base: str
    tuned: str
    is_base_cut: bool = False
    is_tuned_cut: bool = False


class SamplesEvent(Event):
    """Questions of the rows that check, answered by the base model and by the tuned one."""

    kind: Literal["samples"] = "samples"
    samples: list[Sample]


class DoneEvent(Event):
    """The adapter lies whole in JOB_DIR/result; the exit code is 0."""

    kind: Literal["done"] = "done"
    best_step: int  # whose adapter it is; the last where none was chosen
    is_chosen: bool = True  # by rows that were not practised
    validation_loss_before: float
    validation_loss_after: float
    train_loss: float
    trained_tokens: int
    peak_memory_bytes: int
    train_seconds: float
    # On a CPU: of these, what each of its threads had of a core; other programs had the rest.
    processor_seconds: float | None = None
    save_seconds: float = 0  # of all checkpoints
    stopped_early: bool
    preferred_share: float | None = None  # of the pairs that check, at that step
    end_token_ids: list[int] = []  # at which an answer of this model is over
    # Of JOB_DIR/result; with it, the next attempt can publish what this one could not.
    manifest_sha256: str | None = None


class FailedEvent(Event):
    """Why training cannot go on; the exit code says what to do about it."""

    kind: Literal["failed"] = "failed"
    code: str
    message: str


# Exit codes of the trainer (docs/life-of-a-job.md).
EXIT_DONE = 0
EXIT_DATASET = 10
EXIT_CONFIG = 11
EXIT_OUT_OF_MEMORY = 12
EXIT_NOT_FINITE = 13
EXIT_DISK_FULL = 14
EXIT_MODEL = 15
EXIT_CHECKPOINT = 16
EXIT_HELD = 17
EXIT_STOPPED = 20
EXIT_CUT_OFF = 22
EXIT_ORPHANED = 70
EXIT_DEVICE = 74
# The same input would fail again: no retry.
DETERMINISTIC_EXITS = frozenset(
    {EXIT_DATASET, EXIT_CONFIG, EXIT_OUT_OF_MEMORY, EXIT_NOT_FINITE, EXIT_MODEL}
)
