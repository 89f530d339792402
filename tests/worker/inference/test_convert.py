"""The converter's child: whole files or none, and a sentence for what it cannot take."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.training.manifests import write_manifest
from tests import patience
from tests.worker.inference import tiny_models
from tests.worker.inference.conftest import Family, convert, converter_says
from worker.inference import commands, gguf_files
from worker.inference.engine import EngineError

SHA = "0123456789abcdef" * 4
OTHER_SHA = "f" * 64


def test_a_name_holds_what_decides_the_content(tmp_path: Path) -> None:
    names = {
        gguf_files.base_gguf(tmp_path, SHA, "q8_0"),
        gguf_files.base_gguf(tmp_path, SHA, "f16"),
        gguf_files.base_gguf(tmp_path, OTHER_SHA, "f16"),
        gguf_files.adapter_gguf(tmp_path, SHA, OTHER_SHA),
        gguf_files.adapter_gguf(tmp_path, OTHER_SHA, SHA),
        gguf_files.merged_gguf(tmp_path, SHA, OTHER_SHA, "f16"),
        gguf_files.merged_gguf(tmp_path, SHA, OTHER_SHA, "q8_0"),
    }
    assert len(names) == 7
    assert {(path.parent, path.suffix) for path in names} == {(tmp_path, ".gguf")}


def test_alpha_becomes_pefts_scale_once_it_is_divided_by_the_rank() -> None:
    plain = {"r": 16, "lora_alpha": 32}
    assert gguf_files.adapter_alpha(plain) / 16 == 2
    assert gguf_files.adapter_alpha(plain | {"use_rslora": True}) / 16 == 32 / 4


def test_what_a_killed_child_left_is_overwritten(llama: Family, tmp_path: Path) -> None:
    target = tmp_path / "cache" / "lora.gguf"
    target.parent.mkdir()
    (tmp_path / "cache" / "lora.gguf.tmp").write_bytes(b"half")
    step = {"kind": "adapter", "target": target, "folder": llama.adapter}
    convert(llama.base, llama.manifest, step | {"manifest_sha256": llama.adapter_manifest})
    assert target.read_bytes() == llama.lora.read_bytes()
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.long
def test_other_files_than_those_imported_are_refused(llama: Family, tmp_path: Path) -> None:
    target = tmp_path / "x.gguf"
    base = {"kind": "base", "form": "f16", "target": target}
    assert "not those that were imported" in converter_says(llama.base, SHA, base)[-1]["error"]
    adapter = {"kind": "adapter", "target": target, "folder": llama.adapter}
    said = converter_says(llama.base, llama.manifest, adapter | {"manifest_sha256": SHA})
    assert "adapter's files are not those" in said[-1]["error"]
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_are_refused_without_the_servers_paths(llama: Family, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(llama.base, base)
    with (base / "model.safetensors").open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(bytes(8))
    step = {"kind": "base", "form": "f16", "target": tmp_path / "x.gguf"}
    opening = commands.Open(
        engine="llama.cpp",
        base=base,
        manifest_sha256=llama.manifest,
        cache_dir=tmp_path,
        gguf=llama.q8_0,
        num_slots=1,
        context_tokens=64,
    )
    with subprocess.Popen(
        [sys.executable, "-m", "worker.inference"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin and child.stdout
        child.stdin.write(opening.model_dump_json() + "\n")
        child.stdin.flush()
        failed = json.loads(child.stdout.readline())["message"]
    for sentence in (converter_says(base, llama.manifest, step)[-1]["error"], failed):
        assert "damaged" in sentence
        assert str(tmp_path) not in sentence


@pytest.mark.long
def test_what_llama_cpp_cannot_do_is_refused(llama: Family, tmp_path: Path) -> None:
    folder, target = tmp_path / "adapter", tmp_path / "x.gguf"
    tiny_models.make_adapter(folder, llama.base)
    tensors = load_file(folder / "adapter_model.safetensors")
    name = "base_model.model.model.embed_tokens.weight"
    save_file(tensors | {name: torch.zeros(4, 256)}, folder / "adapter_model.safetensors")
    (folder / "MANIFEST.json").unlink()
    manifest = write_manifest(folder)
    step = {"kind": "adapter", "target": target, "folder": folder, "manifest_sha256": manifest}
    assert "embed_tokens" in converter_says(llama.base, llama.manifest, step)[-1]["error"]
    # An order of windows that llama.cpp does not know would only show in long texts.
    base = tmp_path / "gemma2"
    tiny_models.make_base(base, "gemma2")
    config = json.loads((base / "config.json").read_text())
    config["layer_types"] = ["full_attention"] * 4
    (base / "config.json").write_text(json.dumps(config))
    (base / "MANIFEST.json").unlink()
    manifest = write_manifest(base)
    said = converter_says(base, manifest, {"kind": "base", "form": "f16", "target": target})
    assert "order of layers" in said[-1]["error"]
    assert not target.exists()


@pytest.mark.long
def test_a_place_that_cannot_be_written_to_is_told(llama: Family, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    step = {"kind": "base", "form": "f16", "target": tmp_path / "file" / "x.gguf"}
    said = converter_says(llama.base, llama.manifest, step)[-1]
    assert said["error"].startswith("The model could not be prepared for answering: ")


def test_the_child_ends_with_its_parent(llama: Family, tmp_path: Path) -> None:
    step = {"kind": "base", "form": "q8_0", "target": str(tmp_path / "x.gguf")}
    request = {"base": str(llama.base), "manifest_sha256": llama.manifest, "steps": [step]}
    child = subprocess.run(
        [sys.executable, "-m", "worker.inference.convert"],
        input=json.dumps(request) + "\n",  # and then the end
        text=True,
        capture_output=True,
        timeout=patience.seconds(60),
    )
    assert child.returncode == 70
    assert not (tmp_path / "x.gguf").exists()


def test_a_missing_converter_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert (gguf_files.converter_folder() / "gguf-py").is_dir()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(EngineError, match="make setup"):
        gguf_files.converter_folder()
