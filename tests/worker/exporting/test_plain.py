"""The reader that is nothing of ours: float32's own numbers, from 16-bit weights, in any batch."""

import ast
import json
import subprocess
import sys
from itertools import compress
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.worker.conftest import ROOT
from tests.worker.inference import near_ties, tiny_models
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


def are_those(found: list[int], expected: list[int], margins: list[float]) -> bool:
    """Whether the likeliest tokens are the same wherever that is no matter of rounding."""
    certain = [margin >= near_ties.CLOSE for margin in margins]
    assert certain.count(False) <= 2
    return list(compress(found, certain)) == list(compress(expected, certain))


def first(answers: list[list[int]], nums: list[int]) -> list[list[int]]:
    return [said[:num] for said, num in zip(answers, nums, strict=True)]


@pytest.mark.parametrize("family", FAMILIES)
def test_its_numbers_are_those_of_a_model_in_float32(family: str, tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    tiny_models.make_base(base, family)
    tiny_models.make_adapter(adapter, base)
    rows = [ids[: 20 + 3 * number] for number, ids in enumerate(tiny_models.prompts(6))]
    starts = [5, 19, 1, 28, 10, 30]
    for with_adapter in (None, adapter):
        model = tiny_models.reference(base, with_adapter)
        opened = plain.load(str(base), str(with_adapter) if with_adapter else None, 0)
        kept = {p.dtype for n, p in opened.named_parameters() if "lora" not in n}
        assert kept == {torch.bfloat16}
        found = plain.scores(opened, rows, starts)
        assert found == plain.scores(opened, rows, starts)  # it is as it was
        for row, start, (likeliest, logprobs) in zip(rows, starts, found, strict=True):
            expected = by_hand(model, row, start)
            assert are_those(likeliest, expected[0], near_ties.margins(model, row, start))
            assert logprobs == pytest.approx(expected[1], abs=2e-4)
        small = plain.load(str(base), str(with_adapter) if with_adapter else None)
        assert {p.dtype for p in small.parameters()} == {torch.float32}
        read = zip(rows, starts, found, plain.scores(small, rows, starts), strict=True)
        for row, start, one, other in read:
            assert are_those(other[0], one[0], near_ties.margins(model, row, start))
            assert other[1] == pytest.approx(one[1], abs=2e-4)
        # Side by side it says what each row alone is answered with, and stops at an end.
        alone = [near_ties.greedy(model, row, 12) for row in rows]
        nums = [
            near_ties.num_certain(model, [*row, *said], len(row))
            for row, said in zip(rows, alone, strict=True)
        ]
        assert sum(nums) >= 48  # of 72
        end = alone[0][min(4, nums[0] - 1)]
        cut = [said[: said.index(end) + 1] if end in said else said for said in alone]
        for each in (opened, small):
            assert first(plain.go_on(each, rows, [], 12), nums) == first(alone, nums)
            assert first(plain.go_on(each, rows, [end], 12), nums) == first(cut, nums)


def test_gemmas_scale_of_words_is_not_rounded_as_the_weights_are(tmp_path: Path) -> None:
    base = tmp_path / "base"
    narrow = {"hidden_size": 192, "head_dim": 64, "query_pre_attn_scalar": 64}
    tiny_models.make_base(base, "gemma3_text", **narrow)
    row = tiny_models.prompts(1)[0]
    expected = by_hand(tiny_models.reference(base), row, 5)
    for small_bytes in (0, plain.SMALL_BYTES):
        ((likeliest, logprobs),) = plain.scores(
            plain.load(str(base), None, small_bytes), [row], [5]
        )
        assert likeliest == expected[0]
        assert logprobs == pytest.approx(expected[1], abs=2e-4)


def test_many_long_rows_are_gone_on_with_in_parts(tmp_path: Path) -> None:
    base = tmp_path / "base"
    tiny_models.make_base(base, "llama")
    model = plain.load(str(base))
    told: list[float] = []
    rows = tiny_models.prompts(6)
    together = plain.go_on(model, rows, [], 6, told.append)
    assert told == pytest.approx([number / 6 for number in range(1, 7)])
    assert plain.go_on(model, rows, [], 6, told.append, cache_bytes=1) == together
    assert len(told) == 6 + 36
    assert told[6:] == sorted(told[6:])


def test_it_runs_as_it_stands_where_etude_is_not(tmp_path: Path) -> None:
    source = (ROOT / "worker/exporting/plain.py").read_text()
    known = {
        name.name.split(".")[0] if isinstance(node, ast.Import) else str(node.module).split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert known == {
        *("json", "sys", "collections", "pathlib", "typing", "torch", "transformers", "peft"),
    }
    base = tmp_path / "base"
    tiny_models.make_base(base, "llama")
    (base / "generation_config.json").write_text('{"eos_token_id": [258]}')
    asked = {"model": str(base), "rows": [[1, 2, 3]], "starts": [1], "texts": ["Hi"]}
    (tmp_path / "plain.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-I", str(tmp_path / "plain.py")],
        input=json.dumps(asked | {"question": "Hi", "num_said": 4}),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert len(said["scores"][0][1]) == 2
    assert said["tokens"]["ends"] == [258]
    assert len(said["said"][0]) == 4
