"""Jobs on a CUDA device with random models made there.

ETUDE_TEST_DEVICE=cpu runs those of these tests that can do without a GPU, to try the tests
themselves. `bench/gpu.sh` runs them where only the trainer's packages are installed, so nothing
here may import the web application's.
"""

import os
from pathlib import Path
from typing import Any

import pytest

# For the products of a test that wants them bit for bit; read once, at the first of all.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch

from app.training.chat import IGNORE_INDEX, Encoded
from bench.arms import shapes
from worker.trainer.state import TrainingState

DEVICE = os.environ.get("ETUDE_TEST_DEVICE", "cuda:0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = str(Path(__file__).parent)
    skip = pytest.mark.skip(reason="There is no CUDA device here; bench/gpu.sh runs this on one.")
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.gpu)
            if DEVICE != "cpu" and not torch.cuda.is_available():
                item.add_marker(skip)


def random_examples(lengths: list[int], vocabulary: int) -> list[Encoded]:
    generator = torch.Generator().manual_seed(0)
    examples = []
    for length in lengths:
        ids = torch.randint(vocabulary, (length,), generator=generator).tolist()
        examples.append(Encoded(ids, [IGNORE_INDEX] * (length // 3) + ids[length // 3 :], 0))
    return examples


def random_job(folder: Path, shape: str, lengths: list[int], **plan: Any) -> TrainingState:
    """Make Etude's trainer on a random model of a shape; 16 examples a step."""
    shape = shape if DEVICE != "cpu" else "tiny"
    examples = random_examples(lengths, shapes.config(shape).vocab_size)
    state: TrainingState = shapes.state_on(
        shape, DEVICE, examples, 16, folder, {"resident": "nf4"} | plan, learning_rate=1e-3
    )
    move_adapter(state)
    return state


def move_adapter(state: TrainingState) -> None:
    """B is zero at first, and then A has no gradient."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in state.model.adapter.items():
            if "lora_B" in name:
                values = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(0.05 * values)
