"""The reader that is nothing of ours: float32's own numbers, from 16-bit weights, in any batch."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.worker.conftest import ROOT
from tests.worker.inference import tiny_models
from worker.exporting import plain

FEW = ["llama", "gemma2", "phi3"]
FAMILIES = [
    name if name in FEW else pytest.param(name, marks=pytest.mark.long)
    for name in tiny_models.FAMILIES
]


def by_hand(model: Any, row: list[int], start: int) -> tuple[list[int], list[float]]:
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([row])).logits[0, start - 1 : -1].float()
    logprobs = logits.log_softmax(-1)
    chosen = logprobs[torch.arange(len(row) - start), torch.tensor(row[start:])]
    return logprobs.argmax(-1).tolist(), chosen.tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_its_numbers_are_those_of_a_model_in_float32(family: str, tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    tiny_models.make_base(base, family)
    tiny_models.make_adapter(adapter, base)
    rows = [ids[: 20 + 3 * number] for number, ids in enumerate(tiny_models.prompts(6))]
    starts = [5, 19, 1, 28, 10, 30]
    for with_adapter in (None, adapter):
        model = tiny_models.reference(base, with_adapter)
        opened = plain.load(str(base), str(with_adapter) if with_adapter else None)
        kept = {p.dtype for n, p in opened.named_parameters() if "lora" not in n}
        assert kept == {torch.bfloat16}
        found = plain.scores(opened, rows, starts)
        assert found == plain.scores(opened, rows, starts)  # it is as it was
        for row, start, (likeliest, logprobs) in zip(rows, starts, found, strict=True):
            expected = by_hand(model, row, start)
            assert likeliest == expected[0]
            assert logprobs == pytest.approx(expected[1], abs=2e-4)


def test_it_runs_as_it_stands_where_etude_is_not(tmp_path: Path) -> None:
    source = (ROOT / "worker/exporting/plain.py").read_text()
    known = {
        name.name.split(".")[0] if isinstance(node, ast.Import) else str(node.module).split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert known == {"json", "sys", "collections", "typing", "torch", "transformers", "peft"}
    base = tmp_path / "base"
    tiny_models.make_base(base, "llama")
    (base / "generation_config.json").write_text('{"eos_token_id": [258]}')
    asked = {"model": str(base), "rows": [[1, 2, 3]], "starts": [1], "texts": ["Hi"]}
    (tmp_path / "plain.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-I", str(tmp_path / "plain.py")],
        input=json.dumps(asked | {"question": "Hi"}),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert len(said["scores"][0][1]) == 2
    assert said["tokens"]["ends"] == [258]
