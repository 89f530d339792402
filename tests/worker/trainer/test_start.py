"""A job that starts from an adapter: the very weights, the reference, and files that do not fit."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.training.config import TrainConfig, TrainerSpec
from app.training.events import EXIT_MODEL
from app.training.manifests import read_manifest, write_manifest
from app.training.plan.choose import plan
from app.training.plan.machine import DeviceInfo
from app.training.plan.shape import LengthHistogram, Shape
from tests.worker.trainer.conftest import (
    conversation,
    events,
    losses,
    make_job,
    make_plan,
    make_state,
    start_from,
)
from tests.worker.trainer.test_loop import StopAfter
from tests.worker.trainer.test_preference import DPO, pair
from worker.trainer import checkpoint, evaluation, failures, loop, model, probe
from worker.trainer.state import TrainingState

SHORT: dict[str, Any] = {"num_epochs": 1, "batch_size": 6, "num_evaluations": 2}
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module", params=["plain", "dora"])
def first(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path
) -> Path:
    """The folder of a finished job, whose adapter acts strongly."""
    folder = tmp_path_factory.mktemp(str(request.param))
    torch.set_num_threads(1)
    spec = make_job(folder, tiny_model, **SHORT, use_dora=request.param == "dora")
    loop.train(make_state(folder, spec))
    return folder


def further(folder: Path, base: Path, first: Path, **given: Any) -> TrainerSpec:
    """A job that starts from another one's adapter, with the settings that it takes over."""
    made = json.loads((first / "config.json").read_text())["config"]
    spec = make_job(folder, base, **{"use_dora": made["use_dora"], **SHORT, **given})
    spec = spec.model_copy(update={"start": start_from(first)})
    (folder / "config.json").write_text(spec.model_dump_json())
    return spec


def weights_of(state: TrainingState) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in state.model.adapter.items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_it_starts_from_the_very_weights_and_saves_them_where_nothing_is_learned(
    tmp_path: Path, tiny_model: Path, first: Path
) -> None:
    state = make_state(tmp_path, further(tmp_path, tiny_model, first))
    assert equal(weights_of(state), dict(load_file(first / "result" / WEIGHTS)))
    checkpoint.write_result(tmp_path, tiny_model, state.model)
    assert (tmp_path / "result" / WEIGHTS).read_bytes() == (first / "result" / WEIGHTS).read_bytes()
    probe.probe(state)
    assert equal(weights_of(state), dict(load_file(first / "result" / WEIGHTS)))


def test_what_was_before_is_the_adapter_and_not_the_base(
    tmp_path: Path, tiny_model: Path, first: Path
) -> None:
    (done,) = events(first, kind="done")
    (asked,) = events(first, kind="samples")
    loop.train(make_state(tmp_path, further(tmp_path, tiny_model, first)))
    evaluations = events(tmp_path, kind="evaluation")
    assert evaluations[0]["step"] == 0
    assert evaluations[0]["loss"] == done["validation_loss_after"]
    (now,) = events(tmp_path, kind="done")
    assert now["validation_loss_before"] == done["validation_loss_after"]
    assert now["validation_loss_after"] < now["validation_loss_before"]
    (answered,) = events(tmp_path, kind="samples")
    assert [s["base"] for s in answered["samples"]] == [s["tuned"] for s in asked["samples"]]
    phases = [event["message"] for event in events(tmp_path, kind="phase")]
    assert "Evaluating “rooms”, from which it starts." in phases


def test_the_present_weights_come_back_however_often_one_looks_back(
    tmp_path: Path, tiny_model: Path, first: Path
) -> None:
    state = make_state(tmp_path, further(tmp_path, tiny_model, first, lora_dropout=0.2))
    loop.take_step(state, 4)
    moved = weights_of(state)
    assert not equal(moved, state.model.start or {})
    with state.model.at_start():
        assert not state.model.peft.training  # what is only measured leaves nothing out
        with state.model.at_start():
            assert equal(weights_of(state), state.model.start or {})
        assert equal(weights_of(state), state.model.start or {})
    assert equal(weights_of(state), moved)
    assert state.model.peft.training


@pytest.mark.parametrize("packed", [True, False])
def test_preferences_are_measured_against_the_adapter(
    tmp_path: Path, tiny_model: Path, first: Path, packed: bool
) -> None:
    given: dict[str, Any] = {"messages": pair, **DPO}
    spec = further(tmp_path, tiny_model, first, **given)
    state = make_state(tmp_path, spec, make_plan(spec, packed=packed))
    loss = loop.fill_gradients(state, state.data.train[:6])
    seen = state.pairs.take()
    assert seen is not None
    assert (seen.margin, seen.share) == (0, 0.5)
    assert loss == pytest.approx(math.log(2), rel=1e-6)
    # Against the base alone there would be a margin: this adapter has learned such answers.
    state.model = replace(state.model, start=None)
    loop.fill_gradients(state, state.data.train[:6])
    against_base = state.pairs.take()
    assert against_base is not None
    assert against_base.margin > 0.01
    state = make_state(tmp_path / "again", further(tmp_path / "again", tiny_model, first, **given))
    loop.train(state)
    tmp_path = tmp_path / "again"
    (done,) = events(tmp_path, kind="done")
    assert done["validation_loss_before"] == pytest.approx(math.log(2), rel=1e-6)
    assert done["validation_loss_after"] < math.log(2)


@pytest.mark.parametrize("config", [{}, DPO], ids=["supervised", "dpo"])
def test_it_resumes_bit_for_bit(
    tmp_path: Path, tiny_model: Path, first: Path, config: dict[str, Any]
) -> None:
    messages = pair if config else conversation
    given: dict[str, Any] = {**config, "lora_dropout": 0.1, "neftune_alpha": 5}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    loop.train(make_state(whole, further(whole, tiny_model, first, messages=messages, **given)))
    spec = further(broken, tiny_model, first, messages=messages, **given)
    with pytest.raises(failures.Stopped):
        loop.train(make_state(broken, spec, asked_to_stop=StopAfter(3)))
    path = events(broken, kind="checkpoint")[-1]["path"]
    torch.manual_seed(12345)
    again = spec.model_copy(update={"attempt": 2, "resume_from": path})
    loop.train(make_state(broken, again))
    assert losses(broken) + losses(broken, attempt=2) == losses(whole)
    one, other = (folder / "result" / WEIGHTS for folder in (whole, broken))
    assert one.read_bytes() == other.read_bytes()


def test_an_attempt_begun_anew_starts_from_the_adapter_again(
    tmp_path: Path, tiny_model: Path, first: Path
) -> None:
    spec = further(tmp_path, tiny_model, first)
    with pytest.raises(failures.Stopped):
        loop.train(make_state(tmp_path, spec, asked_to_stop=StopAfter(2)))
    shutil.rmtree(tmp_path / "checkpoints")
    loop.train(make_state(tmp_path, spec.model_copy(update={"attempt": 2})))
    assert losses(tmp_path, attempt=2)[:2] == losses(tmp_path)


def test_a_loss_that_is_no_number_goes_back_to_the_adapter(
    tmp_path: Path, tiny_model: Path, first: Path
) -> None:
    state = make_state(tmp_path, further(tmp_path, tiny_model, first, num_evaluations=1))
    state.spec.checkpoint_share = 1e-9  # no checkpoint before the third step
    calls = 0

    def hook(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal calls
        calls += torch.is_grad_enabled()
        if torch.is_grad_enabled() and calls == 2:
            with torch.no_grad():
                output.last_hidden_state.fill_(math.nan)

    state.model.decoder.register_forward_hook(hook)
    state.saved_at = state.clock()
    loop.train(state)
    assert state.progress.learning_rate_scale == 0.5
    steps = [(e["step"], e["loss"]) for e in events(tmp_path, kind="step")]
    firsts = [loss for step, loss in steps if step == 1]
    assert len(set(firsts)) == 1  # with the adapter's weights, both times


def copied(first: Path, folder: Path) -> Path:
    shutil.copytree(first, folder)
    return folder


def test_files_that_were_replaced_are_refused(
    tmp_path: Path, tiny_model: Path, first: Path
) -> None:
    mine = copied(first, tmp_path / "mine")
    spec = further(tmp_path / "job", tiny_model, mine)
    weights = dict(load_file(mine / "result" / WEIGHTS))
    save_file({n: t + 1 for n, t in weights.items()}, mine / "result" / WEIGHTS)
    with pytest.raises(failures.Failure, match="have changed since it was made") as caught:
        make_state(tmp_path / "job", spec)
    assert (caught.value.code, caught.value.exit_code) == ("adapter_rejected", EXIT_MODEL)
    write_manifest(mine / "result")  # whole again, and yet another one
    with pytest.raises(failures.Failure, match="its manifest is another one"):
        make_state(tmp_path / "job", spec)
    shutil.rmtree(mine / "result")
    with pytest.raises(failures.Failure, match="restore them from a backup"):
        make_state(tmp_path / "job", spec)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"lora_rank": 8}, "“Adapter rank” is 4 there and 8 here"),
        ({"lora_alpha": 8}, "“Adapter alpha” is 32 there and 8 here"),
        ({"use_rslora": True}, "rsLoRA"),
        ({"lora_targets": "attention"}, "does not belong to this model"),
    ],
)
def test_an_adapter_of_another_shape_is_refused(
    tmp_path: Path, tiny_model: Path, first: Path, given: dict[str, Any], why: str
) -> None:
    with pytest.raises(failures.Failure) as caught:
        make_state(tmp_path, further(tmp_path, tiny_model, first, **given))
    assert why in caught.value.message
    assert caught.value.message.startswith("The trained model “rooms” does not fit this job (")


def test_an_adapter_of_other_weights_is_refused(
    tmp_path: Path, tiny_model: Path, first: Path
) -> None:
    mine = copied(first, tmp_path / "mine")
    about = {"base_model": {"name": "house/tiny", "sha256": "0" * 64}}
    write_manifest(mine / "result", **about)  # as a published one says it
    with pytest.raises(failures.Failure, match="trained on other weights of house/tiny"):
        make_state(tmp_path / "job", further(tmp_path / "job", tiny_model, mine))
    about["base_model"]["sha256"] = read_manifest(tiny_model)[1]
    write_manifest(mine / "result", **about)
    spec = further(tmp_path / "job", tiny_model, mine)
    assert evaluation.held_out(make_state(tmp_path / "job", spec))


def test_weights_of_another_shape_are_refused(
    tmp_path: Path, tiny_model: Path, first: Path
) -> None:
    mine = copied(first, tmp_path / "mine")
    weights = dict(load_file(mine / "result" / WEIGHTS))
    name = next(name for name in weights if "lora_A" in name)
    weights[name] = weights[name][:1].clone()
    save_file(weights, mine / "result" / WEIGHTS, metadata={"format": "pt"})
    write_manifest(mine / "result")
    with pytest.raises(failures.Failure, match="have another shape"):
        make_state(tmp_path / "job", further(tmp_path / "job", tiny_model, mine))


def test_a_plan_counts_the_copy_that_it_is_compared_with() -> None:
    shape = {"hidden_size": 512, "vocab_size": 1000, "num_hidden_layers": 8, "model_type": "llama"}
    histogram = LengthHistogram.from_lengths([200] * 100, 90, 10)
    device, config = DeviceInfo(free_bytes=10**10), TrainConfig(objective="dpo")
    one, other = (
        plan(shape, 30_000_000, histogram, config, device, from_adapter=from_adapter)
        for from_adapter in (False, True)
    )
    num_adapter = Shape.of(shape, 30_000_000).num_adapter(config)
    assert other.peak_bytes - one.peak_bytes == 4 * num_adapter
    assert other.model_copy(update={"peak_bytes": one.peak_bytes}) == one


def test_a_fresh_adapter_has_no_copy(tmp_path: Path, tiny_model: Path) -> None:
    state = make_state(tmp_path, make_job(tmp_path, tiny_model))
    assert state.model.start is None
    assert isinstance(state.model, model.Model)
