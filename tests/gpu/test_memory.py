"""What the planner foretells of a GPU's memory, beside what two real steps take."""

import gc
from pathlib import Path
from typing import Any

import torch

from app.training.plan.memory import idle_bytes
from tests.gpu.conftest import random_job
from tests.gpu.test_gpu import needs_cuda
from worker.trainer import loop

# Each adds some GB; layers' inputs and their results, the lookup and the weights in turn.
PLANS: list[tuple[str, dict[str, Any]]] = [
    ("1b", {"resident": "bf16", "checkpointing": False, "micro_batch_tokens": 8192}),
    ("1b", {"resident": "nf4", "checkpointing": False, "micro_batch_tokens": 4096}),
    ("1b", {"resident": "nf4", "checkpointing": True, "micro_batch_tokens": 16384}),
    ("3b", {"resident": "nf4", "checkpointing": False, "micro_batch_tokens": 2048}),
    (
        "3b",
        {
            "resident": "nf4", "checkpointing": True, "micro_batch_tokens": 8192, "offloaded": True,
            "optimizer": "adamw_8bit",
        },
    ),
]  # fmt: skip


@needs_cuda
def test_two_steps_take_what_the_planner_says(tmp_path: Path) -> None:
    results = []
    for number, (shape, plan) in enumerate(PLANS):
        gc.collect()  # the trainer before this one refers to itself
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved()
        state = random_job(tmp_path / str(number), shape, [1024] * 16, **plan)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        for _ in range(2):
            loop.update(state, state.data.train, 1e-4)
        grown = torch.cuda.max_memory_reserved() - before
        said = state.plan.peak_bytes - idle_bytes("cuda")
        results.append(
            (said / grown, f"{shape} {plan}: said {said / 1e9:.2f}, {grown / 1e9:.2f} GB")
        )
        del state
    assert all(0.85 <= share <= 1.15 for share, _ in results), "\n".join(
        text for _, text in results
    )
