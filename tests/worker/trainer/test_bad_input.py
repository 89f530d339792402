"""What cannot be trained ends with a named exit code and one sentence; a full disk, anywhere."""

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from app.training import events as train_events
from app.training.config import TrainerSpec
from app.training.manifests import write_manifest
from tests.small_disk import fill, small_disk
from tests.worker.trainer.conftest import TEMPLATES, events, losses, make_job
from worker.trainer.__main__ import take
from worker.trainer.commands import Commands

QUICK: dict[str, Any] = {"num_epochs": 1, "batch_size": 8, "num_evaluations": 1, "lora_rank": 1}
FEW: dict[str, Any] = {"num_train": 8, "num_validation": 2}
DOWN = "model.layers.0.mlp.down_proj.weight"


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    """What is trained here is so small that threads only wait for each other."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    yield
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(1)


def train(folder: Path) -> int:
    return take(folder, Commands(io.StringIO()))


def write_examples(folder: Path, talks: list[list[dict[str, Any]]], num_checked: int = 0) -> None:
    table = pa.table(
        {
            "index": pa.array(range(len(talks)), pa.int32()),
            "split": ["train"] * (len(talks) - num_checked) + ["validation"] * num_checked,
            "kind": ["chat"] * len(talks),
            "messages": [json.dumps(talk) for talk in talks],
        }
    )
    with pa.ipc.new_file(str(folder / "examples.arrow"), table.schema) as writer:
        writer.write_table(table)


def talk(question: str, answer: str, **more: Any) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer, **more},
    ]


def setting(**values: Any) -> Callable[[Path, Path], None]:
    def change(folder: Path, _model: Path) -> None:
        body = json.loads((folder / "config.json").read_text())
        body["config"] |= values
        (folder / "config.json").write_text(json.dumps(body))

    return change


def examples(*talks: list[dict[str, Any]]) -> Callable[[Path, Path], None]:
    return lambda folder, _model: write_examples(folder, list(talks))


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path, Path], None]:
    def write(_folder: Path, model: Path) -> None:
        weights = load_file(model / "model.safetensors")
        change(weights)
        save_file(weights, model / "model.safetensors", metadata={"format": "pt"})

    return write


def split(_folder: Path, model: Path) -> None:
    """Name two files of which one is not there."""
    weights = load_file(model / "model.safetensors")
    del weights[DOWN]
    save_file(weights, model / "model-00001-of-00002.safetensors", metadata={"format": "pt"})
    (model / "model.safetensors").unlink()
    names = dict.fromkeys(weights, "model-00001-of-00002.safetensors")
    names[DOWN] = "model-00002-of-00002.safetensors"
    index = {"metadata": {}, "weight_map": names}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))


def torn(_folder: Path, model: Path) -> None:
    body = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(body[: len(body) // 2])


@pytest.mark.parametrize(
    ("spoil", "exit_code", "words"),
    [
        (setting(lora_rank=0), 11, "“Adapter rank” (lora_rank) cannot be used: input should be"),
        (setting(lora_rang=8), 11, "setting lora_rang cannot be used: extra inputs are not"),
        (examples(talk("q", "a", weight=0)), 10, "No practice example has an answer"),
        (
            examples(talk("q", "a"), talk("q", "b" * 600)),
            10,
            "Example 2: the starting model reads at most 512 tokens at once, and the answer",
        ),
        (weights(lambda w: w.pop(DOWN)), 15, f"its files lack the weights {DOWN};"),
        (weights(lambda w: w.update(strange=torch.ones(2))), 15, "not its own, strange;"),
        (
            weights(lambda w: w.update({DOWN: torch.ones(8, 8)})),
            15,
            f"its weights {DOWN} have another shape",
        ),
        (split, 15, "house/tiny cannot be loaded: its files are damaged, or"),
        (torn, 15, "house/tiny cannot be loaded: its files are damaged, or"),
    ],
    ids=["limit", "unknown", "masked", "answer", "lacking", "foreign", "shape", "shard", "torn"],
)
@pytest.mark.parametrize("method", ["qlora", "lora"])
def test_bad_input_ends_with_a_code_and_a_sentence(
    tmp_path: Path,
    tiny_model: Path,
    spoil: Callable[[Path, Path], None],
    exit_code: int,
    words: str,
    method: str,
) -> None:
    model, folder = tmp_path / "model", tmp_path / "job"
    shutil.copytree(tiny_model, model)
    spec = make_job(folder, model, method=method, **QUICK)
    spoil(folder, model)
    digest = write_manifest(model)
    body = json.loads((folder / "config.json").read_text())
    body["base_model_manifest_sha256"] = digest
    (folder / "config.json").write_text(json.dumps(body))
    assert train(folder) == exit_code
    (failed,) = events(folder, spec.attempt, "failed")
    assert words in failed["message"]
    wanted = {10: "dataset_invalid", 11: "config_invalid", 15: "model_rejected"}
    assert failed["code"] == wanted[exit_code]


def test_a_question_longer_than_the_context_is_cut_and_said(
    tmp_path: Path, tiny_model: Path
) -> None:
    make_job(tmp_path, tiny_model, max_length_tokens=2048, **QUICK)
    write_examples(tmp_path, [talk("q" * 900, "Upstairs."), talk("Where?", "Here.")])
    assert train(tmp_path) == train_events.EXIT_DONE
    (step,) = events(tmp_path, kind="step")
    assert 512 < step["num_tokens"] < 700  # with the short one
    assert events(tmp_path, kind="plan")[0]["num_truncated"] == 1
    notes = [event["message"] for event in events(tmp_path, kind="note")]
    assert any("reads at most 512 tokens at once" in note for note in notes)


def test_rows_that_check_are_counted_apart_where_they_are_cut(
    tmp_path: Path, tiny_model: Path
) -> None:
    make_job(tmp_path, tiny_model, max_length_tokens=128, **QUICK)
    long = [talk("q" * 300, "Up."), talk("q", "a" * 300), talk("q" * 200, "Down.")]
    write_examples(tmp_path, [talk("Where?", "Here."), *long], num_checked=2)
    assert train(tmp_path) == train_events.EXIT_DONE
    (plan,) = events(tmp_path, kind="plan")
    told = ("truncated", "cut_tokens", "cut_answers")
    assert [plan[f"num_{name}"] for name in told][::2] == [1, 0]
    assert [plan[f"num_checked_{name}"] for name in told][::2] == [2, 1]
    assert plan["num_checked_cut_tokens"] > plan["num_cut_tokens"] > 172


@pytest.mark.parametrize("how", ["join", "leave_out"])
def test_a_chat_that_the_template_refuses_fails_no_job(
    tmp_path: Path, tiny_model: Path, how: str
) -> None:
    model, folder = tmp_path / "model", tmp_path / "job"
    shutil.copytree(tiny_model, model)
    shutil.copy(TEMPLATES / "gemma.jinja", model / "chat_template.jinja")
    make_job(folder, model, unfit_rows=how, **QUICK)
    good = talk("Where?", "Here.")
    joined, refused, masked = [good[0], *good], [good[1], *good], talk("Where?", "Here.", weight=0)
    practised, tested = [good, joined, refused, masked], [good, refused, refused, joined, masked]
    write_examples(folder, practised + tested, num_checked=len(tested))
    body = json.loads((folder / "config.json").read_text())
    body["base_model_manifest_sha256"] = write_manifest(model)
    (folder / "config.json").write_text(json.dumps(body))
    assert train(folder) == train_events.EXIT_DONE
    notes = [note["message"] for note in events(folder, kind="note")]
    (said,) = [note for note in notes if "Left out" in note]
    if how == "join":
        counts = (
            "Turns joined in: 1 practice example and 1 test example. Left out: 1 practice example "
            "and 2 test examples. "
        )
    else:
        counts = "Turns joined in: none. Left out: 2 practice examples and 3 test examples. "
    assert counts in said
    assert any(
        note.startswith("1 practice example and 1 test example were left out: ") for note in notes
    )
    assert "roles must alternate" in said


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as folder:
        yield folder


def write_spec(folder: Path, spec: TrainerSpec) -> None:
    (folder / "config.json").write_text(spec.model_dump_json())


def test_a_full_disk_ends_with_its_own_code_at_every_write(
    tmp_path: Path, disk: Path, tiny_model: Path
) -> None:
    whole = tmp_path / "whole"
    spec = make_job(whole, tiny_model, **FEW, **QUICK).model_copy(update={"num_samples": 0})
    write_spec(whole, spec)
    assert train(whole) == train_events.EXIT_DONE
    wanted = losses(whole)
    needed = sum(file.stat().st_size for file in whole.rglob("*") if file.is_file())

    codes = []
    # From no room for a line to room for all: log, adapter, moments, state, manifest, result.
    for free in range(0, needed * 2, needed // 8):
        folder = disk / "job"
        make_job(folder, tiny_model, **FEW, **QUICK)
        write_spec(folder, spec)
        ballast = fill(disk, leave=free)
        codes.append(train(folder))
        ballast.unlink()
        if codes[-1] == train_events.EXIT_DISK_FULL:
            if free:
                lines = (folder / "attempts" / "1" / "events.jsonl").read_text().splitlines()
                assert all(json.loads(line) for line in lines)
            # Once there is room, it goes on.
            again = spec.model_copy(update={"attempt": 2})
            write_spec(folder, again)
            assert train(folder) == train_events.EXIT_DONE
            assert losses(folder, attempt=2) == wanted
        shutil.rmtree(folder)
    assert set(codes) == {train_events.EXIT_DISK_FULL, train_events.EXIT_DONE}
    assert codes == sorted(codes, reverse=True)
    assert codes.count(train_events.EXIT_DISK_FULL) >= 5


def test_a_job_needs_no_room_for_the_packed_model(
    tmp_path: Path, disk: Path, tiny_model: Path
) -> None:
    fill(disk, leave=64 * 1024)
    spec = make_job(tmp_path / "job", tiny_model, **FEW, **QUICK)
    cache = disk / "cache"
    write_spec(tmp_path / "job", spec.model_copy(update={"cache_dir": str(cache)}))
    assert train(tmp_path / "job") == train_events.EXIT_DONE
    assert not list(cache.glob("nf4-*"))
