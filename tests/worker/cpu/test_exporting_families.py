"""Every family that Etude names, in every form, through the whole leased job and its proof.

Tiny models with rows of 256 and each family's own kind of tokenizer, as an import leaves them. All
of them in `make test-long`, one of each form before every change.
"""

import json
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.core import settings
from app.core.models import Export, ExportStatus, Quantization, User
from app.training.settings_files import _NEVER
from tests.worker.cpu.test_exporting import asked, made, opened, real_adapter, user
from tests.worker.exporting import tiny_families
from tests.worker.exporting.tiny_families import FAMILIES

__all__ = ["user"]
pytestmark = pytest.mark.timeout(300)

FORMS = [
    *(("adapter", ""), ("merged", ""), ("vllm", ""), ("gguf", ""), ("gguf-merged", "f16")),
    *(("gguf-merged", "q8_0"), ("gguf-merged", "q4_k_m")),
    *(("ollama", "f16"), ("ollama", "q8_0"), ("ollama", "q4_k_m")),
]
# Every change has one of each form: the others of test_exporting.py and test_exporting_gguf.py.
SHORT = {("vllm", "", "mistral"), ("gguf", "", "llama3"), ("gguf-merged", "q4_k_m", "gemma2")}
STEM = "ward-questions-first-try"
EACH = [
    pytest.param(
        *(name, form, quantization),
        id="-".join(filter(None, (name, form, quantization))),
        marks=[] if (form, quantization, name) in SHORT else [pytest.mark.long],
    )
    for form, quantization in FORMS
    for name in FAMILIES
]


@pytest.mark.parametrize(("name", "form", "quantization"), EACH)
def test_it_is_opened_and_offered(
    db: Session, user: User, name: str, form: str, quantization: str
) -> None:
    is_short = (form, quantization, name) in SHORT
    adapter = real_adapter(db, user, name, tiny_families.make_base, 10 if is_short else 24)
    row = made(db, asked(db, user, adapter, form, quantization))
    if row.status is ExportStatus.FAILED and row.quantization is Quantization.Q8_0:
        # Of words that nobody taught a random model, eight bits may decide; sixteen may not.
        exact, rounded = row.agreement
        assert exact["same_share"] >= 0.98
        assert rounded["same_share"] >= 0.85
        assert abs(rounded["loss"] - rounded["reference_loss"]) <= 0.05
        assert "of its likeliest words" in str(row.reason)
        return
    assert row.status is ExportStatus.READY, (row.reason, row.agreement)
    last = row.agreement[-1]
    assert last["quantization"] == row.quantization
    assert last["num_positions"] >= (50 if is_short else 100)
    assert last["endings"]["num_asked"] == (10 if is_short else 20)
    with opened(db, user, row) as archive:
        _look_into(archive, row, name)


def _look_into(archive: zipfile.ZipFile, row: Export, name: str) -> None:
    """What people met elsewhere stands in none of these files."""
    folder = row.filename.removesuffix(".zip")
    names = {each.removeprefix(f"{folder}/") for each in archive.namelist()}
    assert {"LICENSE", "README.md", "MANIFEST.json"} <= names

    def read(path: str) -> Any:
        return json.loads(archive.read(f"{folder}/{path}"))

    here = str(settings.get().data_dir).encode()
    assert not [each for each in names if here in archive.read(f"{folder}/{each}")]

    turn_end = FAMILIES[name].turn_end
    for path in sorted(names):
        if path.endswith("config.json"):
            assert not set(_NEVER) & read(path).keys(), path
        if path.endswith("tokenizer.json"):
            (end,) = (t["id"] for t in read(path)["added_tokens"] if t["content"] == turn_end)
            ends = read(path.replace("tokenizer.json", "generation_config.json"))["eos_token_id"]
            assert end in ends, path
    kinds = {"adapter": 1, "vllm": 2, "merged": 1}
    weights = [each for each in names if each.endswith(".safetensors")]
    assert len(weights) == kinds.get(row.form, 0)
    for path in weights:
        raw = archive.read(f"{folder}/{path}")
        head = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
        head.pop("__metadata__", None)
        is_adapter = path.endswith("adapter_model.safetensors")
        assert all(".lora_" in each for each in head) is is_adapter, path
        if not is_adapter:
            assert {each["dtype"] for each in head.values()} == {"BF16"}
    card = archive.read(f"{folder}/README.md").decode()
    for said in re.findall(r"[\w./-]+\.(?:gguf|zip)\b", card):
        assert said.removeprefix(f"{folder}/") in names | {row.filename}, said
    ggufs = {each for each in names if each.endswith(".gguf")}
    if row.form == "gguf":
        assert ggufs == {f"{STEM}-adapter.gguf", "starting-model-f16.gguf"}
    elif not weights:
        assert ggufs == {f"{STEM}-{row.quantization.value}.gguf"}
    assert ("Modelfile" in names) == (row.form == "ollama")
    if row.form == "vllm":
        # What other programs read the starting model's files by, where there are several.
        index = {each for each in names if each.endswith("model.safetensors.index.json")}
        said = {file for each in index for file in read(each)["weight_map"].values()}
        shards = {Path(each).name for each in weights if each.startswith("base/")}
        assert not index or said == shards
    if row.form == "ollama":
        assert f'PARAMETER stop "{turn_end}"' in archive.read(f"{folder}/Modelfile").decode()
