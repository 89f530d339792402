"""llama.cpp finds the same words likely as transformers and PEFT in float32, for every family.

An adapter whose q and k are not turned as the base model's were speaks fluently, too, and is within
what eight bits may differ; so 16 bits are judged first, and by the strict bound.
"""

import json
from pathlib import Path

import pytest

from tests.worker.inference import tiny_models
from tests.worker.inference.conftest import Family, convert, converter_says
from worker.cpu.model_conversion import SUPPORTED_TYPES
from worker.inference import agreement, gguf_files
from worker.inference.gguf_files import Form
from worker.inference.llama_cpp import LlamaCpp


def test_each_family_is_compared() -> None:
    assert set(tiny_models.FAMILIES) == set(SUPPORTED_TYPES)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "llama" else [pytest.mark.long])
        for name in SUPPORTED_TYPES
    ],
)
def test_a_family_agrees_with_the_reference(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    family = request.getfixturevalue("llama") if name == "llama" else Family(tmp_path, name)
    base = tiny_models.reference(family.base)
    tuned = tiny_models.reference(family.base, family.adapter)
    answers = agreement.reference_answers(base, tiny_models.prompts())
    tuned_answers = agreement.reference_answers(tuned, tiny_models.prompts())
    # Or the comparison would prove nothing of the adapter.
    assert sum(a != t for a, t in zip(answers, tuned_answers, strict=True)) > 15
    forms: list[tuple[Form, Path, Path]] = [
        ("f16", family.f16, family.lora_f16),
        ("q8_0", family.q8_0, family.lora),
    ]
    for form, file, lora in forms:
        engine = LlamaCpp(file, context_tokens=128)
        engine.add_adapter("tuned", lora)
        found = agreement.compare(engine, answers, form)
        found_tuned = agreement.compare(engine, tuned_answers, form, "tuned")
        engine.close()
        assert found.num_positions == found_tuned.num_positions == 640
        assert found.is_fit, found
        assert found_tuned.is_fit, found_tuned


def test_an_olmo_2_with_one_matrix_for_words_and_scores_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """llama.cpp looks for a second one, and would say that the file is damaged."""
    tied = tiny_models.FAMILIES["olmo2"] | {"tie_word_embeddings": True}
    monkeypatch.setitem(tiny_models.FAMILIES, "olmo2", tied)
    base, file = tmp_path / "base", tmp_path / "f16.gguf"
    manifest = tiny_models.make_base(base, "olmo2")
    made = convert(base, manifest, {"kind": "base", "form": "f16", "target": file})
    assert made[0]["agreement"]["is_checked"]
    found = gguf_files.read_agreement(file)
    assert found is not None
    assert found.is_fit, found


@pytest.mark.long
def test_an_adapter_scaled_by_the_root_of_its_rank_agrees(llama: Family, tmp_path: Path) -> None:
    folder, file = tmp_path / "rslora", tmp_path / "rslora.gguf"
    manifest = tiny_models.make_adapter(folder, llama.base, use_rslora=True, strength=0.03)
    step = {"kind": "adapter", "target": file, "folder": folder, "manifest_sha256": manifest}
    convert(llama.base, llama.manifest, step)
    tuned = tiny_models.reference(llama.base, folder)
    answers = agreement.reference_answers(tuned, tiny_models.prompts())
    engine = LlamaCpp(llama.f16, context_tokens=128)
    engine.add_adapter("tuned", file)
    found = agreement.compare(engine, answers, "f16", "tuned")
    engine.close()
    assert found.is_fit, found


@pytest.mark.long
def test_a_dora_adapter_agrees_once_it_is_merged(llama: Family, tmp_path: Path) -> None:
    folder, file = tmp_path / "dora", tmp_path / "dora.gguf"
    manifest = tiny_models.make_adapter(folder, llama.base, use_dora=True)
    assert gguf_files.must_merge(json.loads((folder / "adapter_config.json").read_text()))
    step = {"target": file, "folder": folder, "manifest_sha256": manifest}
    refused = converter_says(llama.base, llama.manifest, {"kind": "adapter"} | step)[-1]
    assert "merged" in refused["error"]
    convert(llama.base, llama.manifest, {"kind": "merged", "form": "f16"} | step)
    tuned = tiny_models.reference(llama.base, folder)
    answers = agreement.reference_answers(tuned, tiny_models.prompts())
    engine = LlamaCpp(file, context_tokens=128)
    found = agreement.compare(engine, answers, "f16")
    engine.close()
    assert found.is_fit, found


def test_a_base_model_is_judged_as_it_is_written(llama: Family) -> None:
    for made, file, form in zip(llama.made, (llama.f16, llama.q8_0), ("f16", "q8_0"), strict=False):
        found = gguf_files.read_agreement(file)
        assert found is not None
        assert found.model_dump() == made["agreement"]
        assert (found.form, found.is_checked, found.is_fit) == (form, True, True)
        assert found.num_positions == 20 * agreement.NUM_ANSWER_TOKENS
    assert {path.suffix for path in llama.f16.parent.iterdir()} == {".gguf", ".json"}


def test_a_model_that_speaks_otherwise_is_not_fit(llama: Family) -> None:
    """An adapter's answers, held against the base model alone."""
    tuned = tiny_models.reference(llama.base, llama.adapter)
    answers = agreement.reference_answers(tuned, tiny_models.prompts())
    engine = LlamaCpp(llama.f16, context_tokens=128)
    found = agreement.compare(engine, answers, "f16")
    engine.close()
    assert not found.is_fit
    # Neither is one whose losses are no numbers.
    assert not found.model_copy(update={"same_share": 1, "loss_difference": float("nan")}).is_fit
