"""Exports that llama.cpp opens before they are offered: 16 bits first, each as its name says."""

import pytest
from sqlalchemy.orm import Session

from app.core.models import Adapter, ExportStatus, User
from tests.worker.cpu.test_exporting import asked, made, opened, real_adapter, user
from tests.worker.exporting import tiny_families

__all__ = ["user"]
pytestmark = pytest.mark.timeout(300)


def an_adapter(db: Session, user: User, **changes: bool) -> Adapter:
    """One of a model whose tokenizer llama.cpp knows."""
    return real_adapter(db, user, "smollm2", tiny_families.make_base, **changes)


def test_a_quantized_file_is_judged_in_16_bits_first(db: Session, user: User) -> None:
    adapter = an_adapter(db, user)
    row = made(db, asked(db, user, adapter, "ollama", "q8_0"))
    assert row.status is ExportStatus.READY, row.reason
    exact, rounded = row.agreement
    assert (exact["quantization"], rounded["quantization"]) == ("f16", "q8_0")
    assert (exact["bound"]["same_share"], rounded["bound"]["same_share"]) == (0.98, 0.95)
    assert all(each["program"].startswith("llama.cpp") for each in row.agreement)
    with opened(db, user, row) as archive:
        folder = row.filename.removesuffix(".zip")
        names = {name.partition("/")[2] for name in archive.namelist()}
        written = archive.read(f"{folder}/Modelfile").decode()
        card = archive.read(f"{folder}/README.md").decode()
    file = "ward-questions-first-try-q8_0.gguf"
    assert names == {file, "Modelfile", "LICENSE", "README.md", "MANIFEST.json"}
    assert f"FROM ./{file}" in written
    assert "ollama create ward-questions-first-try -f Modelfile" in card


@pytest.mark.long
def test_an_adapter_scaled_by_the_root_of_its_rank_is_opened(db: Session, user: User) -> None:
    row = made(db, asked(db, user, an_adapter(db, user, use_rslora=True), "gguf"))
    assert row.status is ExportStatus.READY, row.reason
    assert row.agreement[0]["same_share"] >= 0.98


@pytest.mark.long
def test_dora_is_merged_where_llama_cpp_takes_none(db: Session, user: User) -> None:
    adapter = an_adapter(db, user, use_dora=True)
    row = made(db, asked(db, user, adapter, "gguf-merged", "f16"))
    assert row.status is ExportStatus.READY, row.reason
    assert row.agreement[0]["same_share"] >= 0.98
