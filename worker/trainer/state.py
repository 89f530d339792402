"""What a job in training consists of: its settings, model, data, and where it stands."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from app.training.chat import ChatFormat, Encoded
from app.training.config import TrainConfig, TrainerSpec
from app.training.events import NoteEvent, PhaseEvent
from app.training.plan.choose import Plan
from worker.trainer import packing, preference
from worker.trainer.checkpoint import Progress
from worker.trainer.data import Data
from worker.trainer.events import EventLog
from worker.trainer.group import ALONE, Group
from worker.trainer.model import Model


@dataclass
class TrainingState:
    """All that the loop works with; made by job.prepare."""

    spec: TrainerSpec
    job_dir: Path
    log: EventLog
    plan: Plan
    chat: ChatFormat
    data: Data
    model: Model
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

    def micro_batches(self, examples: Sequence[Encoded]) -> list[packing.Row]:
        """Pack this process's share of some examples into rows that fit into memory at once."""
        return packing.share_in_rows(
            examples,
            self.progress.micro_batch_tokens,
            self.model.device,
            self.group,
            padded=not self.model.packed,
            # Layers are put together by all at once: each process runs as many as the others.
            equally_many=self.plan.strategy == "fsdp",
        )

    def enter(self, phase: str, message: str) -> None:
        """Say what comes now."""
        self.log.write(PhaseEvent, phase=phase, message=message)

    def note(self, level: Literal["info", "warn"], message: str) -> None:
        """Say something that a person should know of this job."""
        self.log.write(NoteEvent, level=level, message=message)
