"""Exports by the worker: proved before they are offered, and never half of one."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from sqlalchemy.orm import Session
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.adapters import exports, programs, registry, sharing
from app.core import audit, leases, settings, storage
from app.core.errors import Conflict
from app.core.models import (
    Adapter,
    AuditEvent,
    Export,
    ExportForm,
    ExportStatus,
    JobStatus,
    Quantization,
    User,
)
from app.training import failpoints, manifests
from app.training.chat import ChatFormat
from tests.factories import make_adapter, make_base_model, make_dataset_version, make_job, make_user
from tests.worker.conftest import ROOT, wait_for
from tests.worker.inference import tiny_models
from worker.cpu import exporting, model_import

ME = "cpu-0@test"
_ENDS = "print(model.generation_config.eos_token_id)"
# The others wait for `make test-long`; `make faults` walks all of them in a real worker.
STEPS = [
    name
    if name in ("export.placed", "export.before_commit")
    else pytest.param(name, marks=pytest.mark.long)
    for name in failpoints.NAMES
    if name.startswith("export.")
]


@pytest.fixture
def user(db: Session, monkeypatch: pytest.MonkeyPatch) -> User:
    monkeypatch.setenv("ETUDE_WORKER_ID", ME)
    monkeypatch.setenv("ETUDE_DISK_RESERVE_BYTES", "0")
    monkeypatch.setenv("ETUDE_WATCH_SECONDS", "0.1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    settings.get.cache_clear()
    return make_user(db)


@pytest.fixture
def stand_in(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETUDE_EXPORT_MODULE", "tests.worker.stand_in_exporter")
    settings.get.cache_clear()


@pytest.fixture
def adapter(db: Session, user: User) -> Adapter:
    """An adapter whose starting model has no weights; the stand-in wants none."""
    (settings.get().models_dir / "tiny").mkdir(parents=True)
    model = make_base_model(db, num_parameters=1000)
    version = make_dataset_version(db, user=user, num_train=20, num_validation=12)
    job = make_job(db, user=user, version=version, base_model=model, status=JobStatus.SUCCEEDED)
    return make_adapter(db, job=job)


def real_adapter(
    db: Session,
    user: User,
    family: str = "llama",
    make_base: Callable[[Path, str], object] = tiny_models.make_base,
    num_rows: int = 10,
    **changes: Any,
) -> Adapter:
    """A tiny model of a family as the import leaves it, and an adapter as a job leaves it.

    A proof takes up to 20 held-out rows, and most of its time to say their answers.
    """
    folder = settings.get().models_dir / family
    make_base(folder, family)
    (folder / "LICENSE").write_text("Apache License")
    (folder / "MANIFEST.json").unlink(missing_ok=True)
    manifest = manifests.write_manifest(folder)
    weights = load_file(folder / "model.safetensors")
    model = make_base_model(
        db,
        name=f"house/{family}",
        folder=family,
        num_parameters=sum(tensor.numel() for tensor in weights.values()),
    )
    model.manifest_sha256 = manifest
    version = make_dataset_version(db, user=user, num_train=20, num_validation=num_rows)
    job = make_job(db, user=user, version=version, base_model=model, status=JobStatus.SUCCEEDED)
    made = make_adapter(db, job=job)
    shutil.rmtree(registry.folder(made))
    tiny_models.make_adapter(registry.folder(made), folder, **changes)
    (registry.folder(made) / "README.md").write_text("# Ward questions\n")  # not PEFT's own
    (registry.folder(made) / "MANIFEST.json").unlink()
    made.manifest_sha256 = manifests.write_manifest(registry.folder(made))
    db.commit()
    return made


def asked(
    db: Session, user: User, adapter: Adapter, form: str = "merged", quantization: str = ""
) -> Export:
    row = exports.request(
        db, user, adapter, ExportForm(form), Quantization(quantization) if quantization else None
    )
    db.commit()
    return row


def made(db: Session, row: Export) -> Export:
    assert exporting.export_next(ME)
    db.rollback()
    db.refresh(row)
    return row


def opened(db: Session, user: User, row: Export) -> zipfile.ZipFile:
    body = exports.archive(db, user, row).read_bytes()
    db.commit()
    assert (len(body), hashlib.sha256(body).hexdigest()) == (row.size_bytes, row.sha256)
    return zipfile.ZipFile(io.BytesIO(body))


def no_leavings() -> None:
    """Nothing lies in the folder of exports that no row points to."""
    root = settings.get().storage_dir / "exports"
    assert [path.name for path in root.iterdir() if path.name.startswith(".")] == []


@pytest.mark.timeout(300)
def test_a_merged_model_is_opened_by_transformers_before_it_is_offered(
    db: Session, user: User, tmp_path: Path
) -> None:
    adapter = real_adapter(db, user)
    row = made(db, asked(db, user, adapter))
    assert row.status is ExportStatus.READY, row.reason
    (found,) = row.agreement
    assert found["program"].startswith("transformers 5")
    assert found["same_share"] >= 0.98
    assert abs(found["loss"] - found["reference_loss"]) <= 0.02
    assert found["num_rows"] == 10
    assert found["num_positions"] >= 50
    assert found["endings"]["num_asked"] == 10
    assert 24 <= found["endings"]["max_tokens"] <= 96
    assert (row.filename, found["rows"]) == ("ward-questions-first-try-merged.zip", "test rows")
    with opened(db, user, row) as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / "ward-questions-first-try-merged"
    manifests.verify_manifest(folder)
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("model.safetensors", "config.json", "generation_config.json", "tokenizer.json"),
        *("tokenizer_config.json", "chat_template.jinja", "LICENSE", "README.md", "MANIFEST.json"),
    }
    base = settings.get().models_dir / "llama"
    size = (base / "model.safetensors").stat().st_size
    assert (folder / "model.safetensors").stat().st_size <= 1.05 * size
    card = (folder / "README.md").read_text()
    assert f"{found['same_share'] * 100:.1f} %" in card
    for path in folder.iterdir():
        assert str(settings.get().data_dir).encode() not in path.read_bytes(), path.name
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.tie_word_embeddings
    assert AutoTokenizer.from_pretrained(folder)("Hi")["input_ids"]
    no_leavings()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("form", ["adapter", pytest.param("vllm", marks=pytest.mark.long)])
def test_an_adapter_is_opened_by_plain_peft(
    db: Session, user: User, tmp_path: Path, form: str
) -> None:
    adapter = real_adapter(db, user, use_rslora=True)
    row = made(db, asked(db, user, adapter, form))
    assert row.status is ExportStatus.READY, row.reason
    assert (row.agreement[0]["same_share"], "PEFT" in row.agreement[0]["program"]) == (1.0, True)
    with opened(db, user, row) as archive:
        names = {name.partition("/")[2] for name in archive.namelist()}
        card = archive.read(f"{row.filename.removesuffix('.zip')}/README.md").decode()
    if form == "vllm":
        assert {"base/model.safetensors", "adapter/adapter_config.json", "LICENSE"} <= names
        assert "--max-lora-rank 8" in card
        assert "--lora-modules ward-questions-first-try=./adapter" in card
    else:
        assert {"adapter_model.safetensors", "generation_config.json", "LICENSE"} <= names
        assert "PeftModel" in card


@pytest.mark.long
@pytest.mark.timeout(600)
def test_what_the_page_says_for_python_works_as_it_is_pasted(
    db: Session, user: User, tmp_path: Path
) -> None:
    adapter = real_adapter(db, user)
    for form in ("merged", "adapter"):
        row = made(db, asked(db, user, adapter, form))
        (tmp_path / row.filename).write_bytes(exports.archive(db, user, row).read_bytes())
        db.commit()
    shutil.copytree(settings.get().models_dir / "llama", tmp_path / "starting-model")
    (python,) = (each for each in programs.of(adapter) if each.key == "python")
    unpack, ask_it, unpack_adapter, ask_adapter = (step.command for step in python.steps)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def paste(command: list[str]) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    for command, asking in ((unpack, ask_it), (unpack_adapter, ask_adapter)):
        paste(["sh", "-c", command])
        paste([sys.executable, "-c", asking])
    said = paste([sys.executable, "-c", f"{ask_adapter}\n{_ENDS}"])
    end = ChatFormat.load(tmp_path / "starting-model").end_token_ids
    assert end <= set(json.loads(said.splitlines()[-1]))


def test_what_computes_beside_a_trainer_does_not_spin_for_long(user: User) -> None:
    """Two whose threads spin while they wait for each other keep both from working."""
    given = model_import.environment("folder")
    assert int(given["GOMP_SPINCOUNT"]) <= 10_000


@pytest.mark.timeout(300)
def test_files_that_were_replaced_make_no_export(db: Session, user: User) -> None:
    adapter = real_adapter(db, user)
    row = asked(db, user, adapter)
    base = settings.get().models_dir / "llama"
    tiny_models.make_base(base, "qwen2")
    assert made(db, row).status is ExportStatus.FAILED
    assert "have been replaced since" in str(row.reason)
    assert str(base) not in str(row.reason)
    no_leavings()


def test_what_falls_short_is_not_offered_and_says_by_how_much(
    db: Session, user: User, adapter: Adapter, stand_in: None
) -> None:
    (settings.get().models_dir / "tiny" / "orders").write_text("short")
    row = made(db, asked(db, user, adapter))
    assert (row.status, row.storage_key) == (ExportStatus.FAILED, None)
    assert "90.0 %" in str(row.reason)
    assert "+0.200" in str(row.reason)
    assert row.agreement[0]["same_share"] == 0.9
    with pytest.raises(Conflict):
        exports.archive(db, user, row)
    # It can be asked for again, and that is another row.
    (settings.get().models_dir / "tiny" / "orders").unlink()
    again = made(db, asked(db, user, adapter))
    assert (again.status, again.id != row.id) == (ExportStatus.READY, True)
    assert again.notes == ["One row is kept in 8 bits."]


def test_answers_that_do_not_end_are_not_offered(
    db: Session, user: User, adapter: Adapter, stand_in: None
) -> None:
    (settings.get().models_dir / "tiny" / "orders").write_text("endless")
    row = made(db, asked(db, user, adapter))
    assert (row.status, row.storage_key) == (ExportStatus.FAILED, None)
    assert "3 of 20 answers come to an end" in str(row.reason)
    assert row.agreement[0]["endings"]["reference_ended"] == 18


@pytest.mark.parametrize("how", ["linger", "crash"])
def test_steps_with_a_whole_result_count_however_their_processes_end(
    db: Session,
    user: User,
    adapter: Adapter,
    stand_in: None,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    monkeypatch.setenv("ETUDE_EXIT_SECONDS", "0.5")
    settings.get.cache_clear()
    (settings.get().models_dir / "tiny" / "orders").write_text(how)
    row = made(db, asked(db, user, adapter))
    assert (row.status, row.strikes) == (ExportStatus.READY, 0), row.reason
    opened(db, user, row).close()


def test_what_is_ready_is_not_made_twice(
    db: Session, user: User, adapter: Adapter, stand_in: None
) -> None:
    row = made(db, asked(db, user, adapter))
    assert asked(db, user, adapter).id == row.id
    assert not exporting.export_next(ME)
    actions = [event.action for event in db.query(AuditEvent).order_by(AuditEvent.id)]
    assert [a for a in actions if a.startswith("export.")] == ["export.start", "export.ready"]
    opened(db, user, row).close()
    events = list(db.query(AuditEvent).order_by(AuditEvent.id))
    assert (events[-1].action, events[-1].actor) == ("export.download", user.email)
    assert audit.first_break(events) is None


@pytest.mark.parametrize("how", ["cancelled", "withdrawn", "deleted"])
def test_one_that_is_ended_amid_the_work_is_never_offered(
    db: Session, user: User, adapter: Adapter, stand_in: None, how: str
) -> None:
    (settings.get().models_dir / "tiny" / "orders").write_text("wait=60")
    row = asked(db, user, adapter)
    worker = threading.Thread(target=exporting.export_next, args=(ME,))
    worker.start()
    wait_for(db, lambda: row.progress)
    assert row.progress is not None
    assert row.progress["doing"] == "merging the adapter into the model"
    if how == "cancelled":
        exports.cancel(db, user, row)
    elif how == "withdrawn":
        sharing.withdraw(db, user, adapter)
    else:
        registry.delete(db, user, adapter)
    db.commit()
    worker.join(60)
    assert not worker.is_alive()
    db.expire_all()
    left = db.get(Export, row.id) if how != "deleted" else None
    if left is not None:
        assert (left.status, left.storage_key) == (ExportStatus.CANCELLED, None)
    no_leavings()
    assert list((settings.get().storage_dir / "exports").iterdir()) == []


def test_a_withdrawn_adapters_exports_are_not_handed_over(
    db: Session, user: User, adapter: Adapter, stand_in: None
) -> None:
    row = made(db, asked(db, user, adapter))
    sharing.withdraw(db, user, adapter)
    db.commit()
    with pytest.raises(Conflict, match="withdrawn"):
        exports.archive(db, user, row)
    with pytest.raises(Conflict, match="withdrawn"):
        asked(db, user, adapter, "adapter")
    db.rollback()
    sharing.make_private(db, user, adapter)
    db.commit()
    opened(db, user, row).close()


def test_a_full_disk_takes_older_exports_first_and_then_says_so(
    db: Session,
    user: User,
    adapter: Adapter,
    stand_in: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = made(db, asked(db, user, adapter))
    key = str(old.storage_key)
    row = asked(db, user, adapter, "adapter")
    monkeypatch.setenv("ETUDE_DISK_RESERVE_BYTES", str(10**15))
    settings.get.cache_clear()
    assert made(db, row).status is ExportStatus.FAILED
    assert "of free disk space" in str(row.reason)
    db.refresh(old)
    assert (old.status, old.storage_key) == (ExportStatus.GONE, None)
    assert not storage.path(key).exists()


@pytest.mark.parametrize("orders", ["refuse", "die=make", "die=prove", "die=pack"])
def test_a_child_that_comes_to_nothing_leaves_a_sentence_and_no_files(
    db: Session, user: User, adapter: Adapter, stand_in: None, orders: str
) -> None:
    file = settings.get().models_dir / "tiny" / "orders"
    file.write_text(orders)
    row = made(db, asked(db, user, adapter))
    assert (row.status, row.storage_key, row.lease_until) == (ExportStatus.FAILED, None, None)
    said = "cannot be had in this form" if orders == "refuse" else "ended without a word"
    assert said in str(row.reason)
    assert list((settings.get().storage_dir / "exports").iterdir()) == []
    file.unlink()
    assert made(db, asked(db, user, adapter)).status is ExportStatus.READY


def test_a_card_of_before_loses_its_path_and_a_missing_one_is_no_matter(
    db: Session, user: User, adapter: Adapter, stand_in: None
) -> None:
    card = registry.folder(adapter) / "README.md"
    for written in (
        "# Ward\n\n## How to use it\n\n```python\n"
        'model = AutoModelForCausalLM.from_pretrained("/srv/models/tiny")\n```\n\n'
        "## Intended use and limits\n\nFor the people.\n",
        "",
    ):
        card.unlink(missing_ok=True)
        if written:
            card.write_text(written)
        row = made(db, asked(db, user, adapter))
        assert row.status is ExportStatus.READY, row.reason
        with opened(db, user, row) as archive:
            said = archive.read(f"{row.filename.removesuffix('.zip')}/README.md").decode()
        assert "/srv/models" not in said
        assert ("For the people." in said) == bool(written)
        assert "within 96 words | 18 |" in said
        exports.forget(db, [row])
        db.commit()


@pytest.mark.parametrize(
    ("form", "changes", "said"),
    [
        ("gguf", {"use_dora": True}, "llama.cpp does not take DoRA"),
        ("vllm", {"r": 600}, "vLLM takes adapters up to rank 512, and this one has rank 600"),
    ],
)
def test_what_a_program_does_not_take_is_said_before(
    db: Session, user: User, adapter: Adapter, stand_in: None, form: str, changes: Any, said: str
) -> None:
    config = registry.folder(adapter) / "adapter_config.json"
    config.write_text(json.dumps({"r": 8, "lora_alpha": 16} | changes))
    with pytest.raises(Conflict, match=said):
        asked(db, user, adapter, form)
    db.rollback()
    assert made(db, asked(db, user, adapter)).status is ExportStatus.READY


def test_memory_that_is_short_is_said_before_anything_is_made(
    db: Session, user: User, adapter: Adapter, stand_in: None
) -> None:
    adapter.base_model.num_parameters = 10**12
    row = made(db, asked(db, user, adapter, "adapter"))
    assert (row.status, row.storage_key) == (ExportStatus.FAILED, None)
    assert "needs about 2,002.1 GB of free memory" in str(row.reason)
    no_leavings()


@pytest.mark.parametrize("name", STEPS)
def test_an_exception_at_any_step_offers_nothing_half_made(
    db: Session,
    user: User,
    adapter: Adapter,
    stand_in: None,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    row = asked(db, user, adapter)
    monkeypatch.setenv("ETUDE_FAILPOINTS", f"{name}=exception")
    with pytest.raises(failpoints.Injected):
        exporting.export_next(ME)
    monkeypatch.delenv("ETUDE_FAILPOINTS")
    db.rollback()
    db.refresh(row)
    if name == "export.committed":
        assert row.status is ExportStatus.READY
    else:
        with pytest.raises(Conflict):
            exports.archive(db, user, row)
        assert made(db, row).status is ExportStatus.READY  # its own hold is taken back at once
    opened(db, user, row).close()
    no_leavings()


def test_what_a_killed_worker_left_of_an_export_that_nobody_makes_goes_with_the_next_look(
    db: Session, user: User, adapter: Adapter, stand_in: None
) -> None:
    def left(row: Export) -> Path:
        lease = leases.claim(db, leases.EXPORTS, "cpu-9@test")
        assert lease is not None
        assert lease.id == row.id
        db.commit()
        folder = exports.work_folder(lease)
        (folder / "export").mkdir(parents=True)
        (folder / "export" / "model.safetensors").write_bytes(b"half")
        return folder

    cancelled, held = asked(db, user, adapter), asked(db, user, adapter, "gguf")
    folders = [left(cancelled), left(held)]
    exports.cancel(db, user, cancelled)
    db.commit()
    assert not exporting.export_next(ME)  # nothing waits
    assert [folder.exists() for folder in folders] == [False, True]
    registry.delete(db, user, adapter)
    db.commit()
    exports.purge(db)
    assert not folders[1].exists()


def test_what_is_over_its_time_goes_and_orphans_too(
    db: Session, user: User, adapter: Adapter, stand_in: None
) -> None:
    from datetime import timedelta

    from app.core import clock

    row = made(db, asked(db, user, adapter))
    path = storage.path(str(row.storage_key))
    orphan = path.with_name("0" * 32)
    young = path.with_name("1" * 32)
    for file in (orphan, young):
        file.write_bytes(b"nobody's")
    os.utime(orphan, (0, 0))
    exports.purge(db)
    assert (path.exists(), orphan.exists(), young.exists()) == (True, False, True)
    row.kept_until = clock.read(db) - timedelta(seconds=1)
    db.commit()
    exports.purge(db)
    db.refresh(row)
    assert (row.status, path.exists()) == (ExportStatus.GONE, False)
    assert made(db, asked(db, user, adapter)).status is ExportStatus.READY
