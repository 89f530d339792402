"""What a merged model is: PEFT's own sum, rounded once, and nothing else changed."""

import json
import subprocess
import sys
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


def test_a_file_is_what_safetensors_itself_writes(tmp_path: Path) -> None:
    """Numbers of every width, and tensors of one number and of none."""
    base, adapter, out = (tmp_path / name for name in ("base", "adapter", "out"))
    for folder in (base, adapter, out):
        folder.mkdir()
    weights = {
        "a.weight": torch.randn(6, 4).bfloat16(),
        "b.weight": torch.randn(3, 5).bfloat16(),
        "wide": torch.randn(3),
        "ids": torch.arange(3),
        "flag": torch.tensor([True]),
        "scale": torch.tensor(0.5, dtype=torch.float16),
        "none": torch.zeros(0, 4, dtype=torch.bfloat16),
        "größe": torch.zeros(1, dtype=torch.bfloat16),
    }
    save_file(weights, base / "model.safetensors")
    write_adapter(adapter, {"a": (6, 4)})
    merging.merge(base, adapter, out, lambda *_: None)
    made = out / "model.safetensors"
    after = load_file(made)
    (change,) = merging.read_changes(adapter).values()
    expected = weights | {
        "a.weight": change.of(weights["a.weight"]),
        "wide": weights["wide"].bfloat16(),
    }
    assert after.keys() == expected.keys()
    assert all(torch.equal(after[name], expected[name]) for name in expected)
    assert {name: after[name].dtype for name in after} == {
        name: expected[name].dtype for name in expected
    }
    for name in ("scale", "ids", "flag"):  # whose place among numbers as wide is not the same
        del expected[name]
    save_file(expected, out / "theirs", metadata={"format": "pt"})
    for path in base.iterdir():
        save_file({k: v for k, v in weights.items() if k in expected}, path)
    merging.merge(base, adapter, out, lambda *_: None)
    assert made.read_bytes() == (out / "theirs").read_bytes()


def test_of_a_large_file_no_more_than_a_tensor_or_two_is_in_memory(tmp_path: Path) -> None:
    base, adapter, out = (tmp_path / name for name in ("base", "adapter", "out"))
    for folder in (base, adapter, out):
        folder.mkdir()
    tensors = {
        f"layers.{number}.weight": torch.full((512, 1024), number / 8, dtype=torch.bfloat16)
        for number in range(112)
    }
    save_file(tensors, base / "model.safetensors")
    write_adapter(adapter, {f"layers.{number}": (512, 1024) for number in range(0, 112, 2)})
    size = (base / "model.safetensors").stat().st_size
    said = subprocess.run(
        [sys.executable, "-m", "tests.worker.exporting.merge_peak", str(base), str(adapter), out],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert size > 100e6
    assert int(said.stdout) < size / 2  # whole it would be more than twice its size
    after = load_file(out / "model.safetensors")
    same = {name for name in tensors if torch.equal(tensors[name], after[name])}
    assert same == {f"layers.{number}.weight" for number in range(1, 112, 2)}


def write_adapter(folder: Path, modules: dict[str, tuple[int, int]]) -> None:
    tensors = {}
    for name, (num_out, num_in) in modules.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.full((2, num_in), 0.5)
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.full((num_out, 2), 0.5)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 4}))


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
