"""The small files beside weights: both versions of transformers, old PEFT and vLLM read them."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from app.training import settings_files
from tests.worker.inference import tiny_models
from worker.exporting import adapter_folder, making
from worker.exporting.requests import EXPORT, Make, Sources

CARRIED: dict[str, dict[str, Any]] = {
    "llama": {"rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"}},
    "llama 3": {
        "rope_parameters": {
            **{"rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0},
            **{"low_freq_factor": 1.0, "high_freq_factor": 4.0},
            "original_max_position_embeddings": 8192,
        }
    },
    "from 4": {"rope_theta": 5000.0},
}


@pytest.mark.parametrize("name", CARRIED)
def test_the_rotation_stands_where_each_version_looks_for_it(name: str, tmp_path: Path) -> None:
    given = {"model_type": "llama", "quantization_config": {"bits": 4}, **CARRIED[name]}
    said = settings_files.model_config(given)
    theta = said["rope_theta"]
    assert theta == said["rope_parameters"]["rope_theta"]
    assert ("rope_scaling" in said) == (name == "llama 3")
    if name == "llama 3":
        assert "rope_theta" not in said["rope_scaling"]
    assert "quantization_config" not in said
    (tmp_path / "config.json").write_text(json.dumps(said))
    read = AutoConfig.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(given | {"quantization_config": None}))
    plain = AutoConfig.from_pretrained(tmp_path)
    assert read.rope_parameters == plain.rope_parameters


def test_gemma_3_keeps_both_of_its_rotations(tmp_path: Path) -> None:
    given = AutoConfig.for_model(
        "gemma3_text", **tiny_models._SHAPE | tiny_models.FAMILIES["gemma3_text"]
    ).to_dict()
    said = settings_files.model_config(given)
    (tmp_path / "config.json").write_text(json.dumps(said))
    read = AutoConfig.from_pretrained(tmp_path)
    assert read.rope_parameters == given["rope_parameters"]
    assert said["rope_theta"] == given["rope_parameters"]["full_attention"]["rope_theta"]
    local = given["rope_parameters"]["sliding_attention"]["rope_theta"]
    assert said["rope_local_base_freq"] == local


def test_the_long_context_of_phi_3_is_told_to_4_in_three_fields() -> None:
    rotation = {
        **{"rope_type": "longrope", "rope_theta": 10_000.0, "partial_rotary_factor": 1.0},
        **{"short_factor": [1.0, 1.1], "long_factor": [2.0, 2.1]},
        "original_max_position_embeddings": 4096,
    }
    said = settings_files.model_config({"model_type": "phi3", "rope_parameters": rotation})
    assert said["rope_scaling"] == {
        "type": "longrope",
        "short_factor": [1.0, 1.1],
        "long_factor": [2.0, 2.1],
    }
    assert said["original_max_position_embeddings"] == 4096
    assert said["rope_parameters"] == rotation


def test_a_tokenizer_has_a_class_that_4_knows() -> None:
    given = {"tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<a>"]}
    said = settings_files.tokenizer_config(given)
    assert said["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert said["additional_special_tokens"] == ["<a>"]
    assert "extra_special_tokens" not in said


def test_the_end_of_a_turn_is_named_beside_the_models_own(tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    tiny_models.make_base(base, "llama")
    (base / "generation_config.json").write_text(
        json.dumps({"eos_token_id": 3, "temperature": 0.6, "transformers_version": "5"})
    )
    out.mkdir()
    settings_files.write_generation_config(base, out)
    said = json.loads((out / "generation_config.json").read_text())
    assert said == {
        **{"eos_token_id": [3, 258], "temperature": 0.6},
        **{"bos_token_id": 257, "pad_token_id": 0},
    }


def test_an_adapter_has_keys_that_plain_peft_knows_and_no_path(tmp_path: Path) -> None:
    base, adapter, out = tmp_path / "base", tmp_path / "adapter", tmp_path / "out"
    tiny_models.make_base(base, "llama")
    (base / "LICENSE").write_text("Apache")
    (base / "NOTICE").write_text("Notice")
    tiny_models.make_adapter(adapter, base)
    assert str(tmp_path) in (adapter / "adapter_config.json").read_text()
    out.mkdir()
    adapter_folder.write(base, "house/tiny", adapter, out)
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "house/tiny"
    assert config.keys() <= set(settings_files._ADAPTER_KEYS)
    names = {path.name for path in out.iterdir()}
    assert names == {
        *("adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "LICENSE"),
        *("tokenizer_config.json", "chat_template.jinja", "generation_config.json", "NOTICE"),
    }
    for path in out.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()


def test_every_licence_goes_along_and_where_there_is_none_it_is_said(tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    tiny_models.make_base(base, "llama")
    tiny_models.make_adapter(adapter, base)
    sources = Sources(
        base=base, base_sha256="", base_name="house/tiny", adapter=adapter, adapter_sha256=""
    )

    def made(name: str) -> tuple[list[str], set[str]]:
        out = tmp_path / name
        out.mkdir()
        wanted: dict[str, Any] = {"form": "adapter", "quantization": "as_trained"}
        request = Make(sources=sources, name="ward", title="Ward", out=out, **wanted)
        notes = making.make(request, lambda *_: None)["notes"]
        return notes, {path.name for path in (out / EXPORT).iterdir()}

    notes, _ = made("none")
    assert any("without the text of its licence" in note for note in notes)
    terms = {"LICENSE-MIT", "NOTICE.txt", "COPYING", "USE_POLICY.md", "licence.md"}
    for name in (*terms, "LICENSE.bin", "notices.py"):
        (base / name).write_text("Take it.")
    notes, names = made("all")
    assert notes == []
    assert names >= terms
    assert not names & {"LICENSE.bin", "notices.py"}
