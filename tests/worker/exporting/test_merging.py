"""What a merged model is: PEFT's own sum, rounded once, and nothing else changed."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.worker.inference import tiny_models
from worker.exporting import merging
from worker.exporting.requests import Unusable


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merging") / "base"
    tiny_models.make_base(folder, "llama")
    return folder


def merged_by_peft(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, adapter).merge_and_unload(safe_merge=True)
    tensors: dict[str, torch.Tensor] = merged.state_dict()
    return tensors


@pytest.mark.parametrize("changes", [{}, {"use_rslora": True}, {"use_dora": True}], ids=str)
def test_it_is_pefts_own_sum_rounded_once(
    base: Path, tmp_path: Path, changes: dict[str, bool]
) -> None:
    adapter, out = tmp_path / "adapter", tmp_path / "out"
    tiny_models.make_adapter(adapter, base, **changes)
    out.mkdir()
    told: list[float] = []
    merged = merging.merge(base, adapter, out, lambda _, share: told.append(share))
    before, after = load_file(base / "model.safetensors"), load_file(out / "model.safetensors")
    expected = merged_by_peft(base, adapter)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    trained = {name for name in before if "_proj" in name}
    assert changed == trained
    assert (merged.num_changed, merged.num_kept) == (len(trained), len(before) - len(trained))
    for name in before:
        assert after[name].dtype is torch.bfloat16
        # A last bit of bfloat16, for sums in another order.
        torch.testing.assert_close(after[name].float(), expected[name], rtol=2**-7, atol=1e-6)
    assert told == sorted(told)
    assert 0.99 < told[-1] <= 1  # of the file, which has a head, too
    assert merged.notes == []


def test_several_files_have_an_index_that_names_each(base: Path, tmp_path: Path) -> None:
    parts, adapter, out = tmp_path / "base", tmp_path / "adapter", tmp_path / "out"
    tiny_models.make_adapter(adapter, base)
    parts.mkdir()
    out.mkdir()
    tensors = load_file(base / "model.safetensors")
    names = sorted(tensors)
    for number, some in enumerate((names[::2], names[1::2]), 1):
        file = parts / f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in some}, file, metadata={"format": "pt"})
    merging.merge(parts, adapter, out, lambda *_: None)
    index = json.loads((out / merging.INDEX).read_text())
    assert index["weight_map"].keys() == tensors.keys()
    for name, file in index["weight_map"].items():
        assert name in load_file(out / file)
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in tensors.values())


def test_weights_in_32_bits_are_rounded_and_that_is_said(base: Path, tmp_path: Path) -> None:
    wide, adapter, out = tmp_path / "base", tmp_path / "adapter", tmp_path / "out"
    tiny_models.make_adapter(adapter, base)
    wide.mkdir()
    out.mkdir()
    tensors = load_file(base / "model.safetensors")
    floats = {name: tensor.float() for name, tensor in tensors.items()}
    save_file(floats, wide / "model.safetensors", metadata={"format": "pt"})
    merged = merging.merge(wide, adapter, out, lambda *_: None)
    found = load_file(out / "model.safetensors")
    assert {tensor.dtype for tensor in found.values()} == {torch.bfloat16}
    assert "rounded to bfloat16" in merged.notes[0]


def test_what_no_form_has_a_place_for_is_refused(base: Path, tmp_path: Path) -> None:
    adapter, out = tmp_path / "adapter", tmp_path / "out"
    tiny_models.make_adapter(adapter, base)
    out.mkdir()
    file, config = adapter / "adapter_model.safetensors", adapter / "adapter_config.json"
    said, tensors = json.loads(config.read_text()), load_file(file)
    config.write_text(json.dumps(said | {"modules_to_save": ["lm_head"]}))
    with pytest.raises(Unusable, match="modules_to_save"):
        merging.merge(base, adapter, out, lambda *_: None)
    config.write_text(json.dumps(said))
    embedding = "base_model.model.model.embed_tokens.weight"
    save_file(tensors | {embedding: torch.zeros(2, 2)}, file)
    with pytest.raises(Unusable, match="embed_tokens"):
        merging.merge(base, adapter, out, lambda *_: None)
    elsewhere = {name.replace("layers.0.", "layers.9."): t for name, t in tensors.items()}
    save_file(elsewhere, file)
    with pytest.raises(Unusable, match=r"layers\.9\..* has not got"):
        merging.merge(base, adapter, out, lambda *_: None)
