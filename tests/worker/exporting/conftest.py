"""A family's tiny model, its adapter and their GGUF files, made once."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from app.training.chat import ChatFormat
from tests.worker.exporting import tiny_families
from tests.worker.inference import tiny_models
from worker.exporting.gguf_adapter import write_adapter_gguf
from worker.exporting.gguf_merged import write_merged_gguf
from worker.exporting.k_quants import GgufNote, quantize_gguf
from worker.inference import agreement
from worker.inference.agreement import Answer


@dataclass
class Made:
    """What the tests of a family look at."""

    name: str
    base: Path
    adapter: Path
    merged: Path
    files: dict[str, Path] = field(default_factory=dict)  # base, adapter, f16, q8_0, q4_k_m
    notes: dict[str, GgufNote] = field(default_factory=dict)

    @property
    def chat(self) -> ChatFormat:
        return ChatFormat.load(self.merged)

    @property
    def config(self) -> dict[str, Any]:
        return dict(json.loads((self.merged / "config.json").read_text()))

    def prompts(self) -> list[list[int]]:
        return [
            self.chat.encode_prompt([{"role": "user", "content": question}])
            for question in tiny_families.QUESTIONS
        ]

    def answers(self, model: Path, adapter: Path | None = None) -> list[Answer]:
        """What transformers in float32 says, and finds of it."""
        return agreement.reference_answers(
            tiny_models.reference(model, adapter), self.prompts(), num_tokens=24
        )


def make(folder: Path, name: str, **changes: Any) -> Made:
    torch.set_num_threads(1)
    made = Made(name, folder / "base", folder / "adapter", folder / "merged")
    tiny_families.make_base(made.base, name)
    tiny_families.make_adapter(made.adapter, made.base, **changes)
    tiny_families.merge(made.merged, made.base, made.adapter)
    made.files = {
        form: folder / f"{form}.gguf" for form in ("base", "adapter", "f16", "q8_0", "q4_k_m")
    }
    write_merged_gguf(made.base, made.files["base"], "f16")
    write_adapter_gguf(made.adapter, made.base, made.files["adapter"])
    made.notes["f16"] = write_merged_gguf(made.merged, made.files["f16"], "f16")
    made.notes["q8_0"] = quantize_gguf(made.files["f16"], made.files["q8_0"], "q8_0")
    made.notes["q4_k_m"] = quantize_gguf(made.files["f16"], made.files["q4_k_m"], "q4_k_m")
    return made


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    known: dict[str, Made] = {}

    def of(name: str) -> Made:
        if name not in known:
            known[name] = make(tmp_path_factory.mktemp(name.replace(".", "-")), name)
        return known[name]

    return of
