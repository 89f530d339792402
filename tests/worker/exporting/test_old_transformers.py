"""What is taken along is read by transformers 4.57 as it is by ours: words, numbers and ends.

ETUDE_TEST_TRANSFORMERS_4 names the Python that has it; `make test-transformers4` installs one.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.training.chat import ChatFormat
from app.training.manifests import write_manifest
from tests.worker.conftest import ROOT
from tests.worker.exporting import tiny_families
from tests.worker.inference import near_ties, tiny_models
from worker.exporting import agreement, making, plain
from worker.exporting.requests import EXPORT, Make, Sources

OLD = os.environ.get("ETUDE_TEST_TRANSFORMERS_4", "")
QUESTION = "Hello, can you help me?"
# Between two logits: so much may change in 16 bits.
_ROUNDED = 0.05
# Those that no kind of tokenizer is made for here.
OTHERS = ("gemma", "smollm3", "granite", "olmo2")

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not OLD, reason="none here: `make test-transformers4` installs it"),
]


def make_base(folder: Path, family: str) -> str:
    """Write a model with its family's own kind of tokenizer, where there is one of it."""
    if family in OTHERS:
        return tiny_models.make_base(folder, family)
    tiny_families.make_base(folder, family)
    return write_manifest(folder)


def read_by_old(model: Path, adapter: Path | None, rows: list[list[int]], text: str) -> Any:
    asked = {
        **{"model": str(model), "adapter": str(adapter) if adapter else None, "rows": rows},
        **{"starts": [8] * len(rows), "texts": [text], "question": QUESTION, "num_said": 12},
    }
    done = subprocess.run(
        [OLD, "-I", str(ROOT / "worker/exporting/plain.py")],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_it_is_another_version() -> None:
    said = subprocess.run(
        [OLD, "-c", "import transformers; print(transformers.__version__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.startswith("4.57")


@pytest.mark.parametrize("form", ["adapter", "merged", "vllm"])
@pytest.mark.parametrize("family", [*tiny_families.FAMILIES, *OTHERS])
def test_it_says_the_same(family: str, form: Any, tmp_path: Path) -> None:
    base, adapter, out = tmp_path / "base", tmp_path / "adapter", tmp_path / "out"
    sources = Sources(
        base=base,
        base_sha256=make_base(base, family),
        base_name="house/tiny",
        adapter=adapter,
        adapter_sha256=tiny_models.make_adapter(adapter, base),
    )
    out.mkdir()
    quantization: Any = "bf16" if form == "merged" else "as_trained"
    request = Make(
        sources=sources, form=form, quantization=quantization, name="ward", title="Ward", out=out
    )
    making.make(request, lambda *_: None)
    folder = out / EXPORT
    model = {"adapter": base, "merged": folder, "vllm": folder / "base"}[form]
    alone = {"adapter": folder, "merged": None, "vllm": folder / "adapter"}[form]
    if form == "adapter":  # whoever has the starting model has it as that version reads it
        model = tmp_path / "theirs"
        model.mkdir()
        from app.training import settings_files

        settings_files.write_base(base, model)
    rows = [ids[:40] for ids in tiny_models.prompts(6)]
    chat = ChatFormat.load(base)
    text = chat.render([{"role": "user", "content": QUESTION}], add_generation_prompt=True)
    found = read_by_old(model, alone, rows, text)
    reference = plain.scores(plain.load(str(base), str(adapter)), rows, [8] * len(rows))
    held = agreement.compare("transformers 4.57", quantization, found["scores"], reference)
    if form == "merged":
        # Rounding to 16 bits decides where a random model hardly does; everywhere else it is right.
        opened = plain.load(str(base), str(adapter))
        for row, (old, _), (ours, _) in zip(rows, found["scores"], reference, strict=True):
            margins = near_ties.margins(opened, row, 8)
            places = zip(old, ours, margins, strict=True)
            assert all(a == b for a, b, margin in places if margin >= _ROUNDED)
        assert held.same_share >= 0.95, held
    else:
        assert held.is_fit, held
    assert held.loss_difference is not None
    assert abs(held.loss_difference) < 0.01
    if form != "merged":  # whose weights are rounded once more
        questions = [ids[:8] for ids in rows]
        opened, ends = plain.load(str(base), str(adapter)), found["tokens"]["ends"]
        said = plain.go_on(opened, questions, ends, 12)
        nums = [
            near_ties.num_certain(opened, [*question, *ids], len(question))
            for question, ids in zip(questions, said, strict=True)
        ]
        assert sum(nums) >= sum(map(len, said)) / 2
        for old, ids, num in zip(found["said"], said, nums, strict=True):
            assert old[:num] == ids[:num]
    tokens = found["tokens"]
    assert tokens["ids"] == [list(chat.tokenizer.encode(text, add_special_tokens=False).ids)]
    assert tokens["asked"] == tokens["ids"][0]
    assert set(tokens["ends"]) >= chat.end_token_ids
    assert tokens["template"] == chat.template_text
