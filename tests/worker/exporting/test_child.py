"""The child itself, in its own process: a full disk and files that are not what they were.

Nothing that it wrote till then is handed on: its parent takes what it says at last, and no file.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.training.manifests import write_manifest
from tests.small_disk import fill, small_disk
from tests.worker.conftest import ROOT
from tests.worker.exporting import tiny_families
from tests.worker.inference import tiny_models
from worker.exporting.requests import Make, Pack, Sources

FULL = "This could not be written: the disk is full, or cannot be written to."
# What is written into, and how much of it fits.
STAGES = {
    "adapter": ("as_trained", 100_000),
    "merged": ("bf16", 200_000),
    "vllm": ("as_trained", 200_000),
    "gguf": ("f16", 300_000),
    "gguf-merged": ("q8_0", 6_000_000),  # the merged model is there, the file is not
    "ollama": ("q4_k_m", 200_000),
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    folder = tmp_path_factory.mktemp("sources")
    base, adapter = folder / "base", folder / "adapter"
    tiny_families.make_base(base, "smollm2")
    return Sources(
        base=base,
        base_sha256=write_manifest(base),
        base_name="house/tiny",
        adapter=adapter,
        adapter_sha256=tiny_models.make_adapter(adapter, base),
    )


def made(sources: Sources, form: Any, quantization: Any, out: Path) -> dict[str, Any]:
    return said_by_child(
        Make(
            sources=sources,
            form=form,
            quantization=quantization,
            name="ward",
            title="Ward",
            out=out,
        )
    )


def said_by_child(request: Make | Pack) -> dict[str, Any]:
    """Let the child do it, and return the last that it says."""
    with subprocess.Popen(
        [sys.executable, "-m", "worker.exporting"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(request.model_dump_json() + "\n")
        child.stdin.flush()
        lines = [line for line in child.stdout if line.startswith("{")]
    return dict(json.loads(lines[-1]))


@pytest.mark.parametrize(
    "form", [form if form == "gguf" else pytest.param(form, marks=pytest.mark.long)
             for form in STAGES]
)  # fmt: skip
def test_a_full_disk_amid_the_making_is_a_sentence(
    sources: Sources, form: str, tmp_path: Path
) -> None:
    quantization, leave = STAGES[form]
    with small_disk(tmp_path / "out", "64m") as out:
        ballast = fill(out, leave)
        assert made(sources, form, quantization, out) == {"error": FULL}
        ballast.unlink()
        shutil.rmtree(out / "export")
        shutil.rmtree(out / "merged", ignore_errors=True)
        assert "result" in made(sources, form, quantization, out)


def test_a_full_disk_amid_the_packing_leaves_no_zip(tmp_path: Path) -> None:
    with small_disk(tmp_path / "out", "4m") as out:
        (out / "export").mkdir()
        (out / "export" / "model.safetensors").write_bytes(bytes(1_000_000))
        request = Pack(out=out, folder_name="ward", card="# Ward", about={})
        ballast = fill(out, 500_000)
        assert said_by_child(request) == {"error": FULL}
        assert not (out / "export.zip").exists()
        ballast.unlink()
        assert "result" in said_by_child(request)


@pytest.mark.parametrize(
    ("whose", "how"),
    [
        *(("base", "damaged"), ("adapter", "replaced")),
        *(
            pytest.param(*each, marks=pytest.mark.long)
            for each in (("base", "replaced"), ("adapter", "damaged"))
        ),
    ],
)
def test_files_that_are_not_what_they_were_are_not_taken(
    sources: Sources, whose: str, how: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(getattr(sources, whose), tmp_path / whose)
    (weights,) = folder.glob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    if how == "replaced":  # with a manifest that fits
        (folder / "MANIFEST.json").unlink()
        write_manifest(folder)
    out = tmp_path / "out"
    out.mkdir()
    (error,) = made(sources.model_copy(update={whose: folder}), "merged", "bf16", out).values()
    what = "The starting model's files" if whose == "base" else "The adapter's files"
    assert error.startswith(what)
    assert ("have been replaced" if how == "replaced" else "are damaged") in error
    assert str(tmp_path) not in error
    assert not (out / "export").exists()
