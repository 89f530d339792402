"""The loop's numbers: pinned, repeatable, resumed exactly, and guarded."""

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from app.training.chat import ChatFormat, Encoded
from app.training.config import TrainConfig, TrainerSpec
from app.training.manifests import read_extra, verify_manifest
from tests.worker.trainer.conftest import (
    MODEL_NAME,
    conversation,
    events,
    losses,
    make_job,
    make_plan,
    make_state,
)
from worker.trainer import checkpoint, failures, loop, schedule
from worker.trainer.data import evaluation_examples, step_examples
from worker.trainer.state import TrainingState

GOLDEN = Path(__file__).parents[2] / "golden" / "losses.json"
# Twenty steps: five passes over 24 examples, six at a time.
TWENTY: dict[str, Any] = {"num_epochs": 5, "batch_size": 6, "num_evaluations": 4}
TWENTY |= {"learning_rate": 1e-3}


def train(folder: Path, model: Path, **config: Any) -> TrainerSpec:
    spec = make_job(folder, model, **config)
    loop.train(make_state(folder, spec))
    return spec


def test_twenty_golden_losses(
    tmp_path: Path, tiny_model: Path, request: pytest.FixtureRequest
) -> None:
    train(tmp_path, tiny_model, **TWENTY)
    actual = {
        "training": losses(tmp_path),
        "evaluation": [e["loss"] for e in events(tmp_path, kind="evaluation")],
    }
    if request.config.getoption("--write-golden", default=False):
        GOLDEN.write_text(json.dumps(actual, indent=2) + "\n")
    golden = json.loads(GOLDEN.read_text())
    assert len(golden["training"]) == 20
    # float32 sums in another order on another CPU: 1e-3 after twenty steps is generous.
    assert actual["training"] == pytest.approx(golden["training"], rel=1e-3)
    assert actual["evaluation"] == pytest.approx(golden["evaluation"], rel=1e-3)


def test_the_same_seed_gives_the_same_job_and_another_a_different_one(
    tmp_path: Path, tiny_model: Path
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tmp_path / name, tiny_model, num_epochs=1, seed=seed, lora_dropout=0.1)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert losses(tmp_path / "a") != losses(tmp_path / "c")


def test_one_batch_is_learned_by_heart(tmp_path: Path, tiny_model: Path) -> None:
    spec = make_job(
        tmp_path, tiny_model, num_train=4, num_validation=0,
        num_epochs=50, batch_size=4, learning_rate=0.01, lora_rank=16, num_evaluations=1,
    )  # fmt: skip
    loop.train(make_state(tmp_path, spec, make_plan(spec, num_train=4)))
    per_step = losses(tmp_path)
    assert per_step[0] > 3
    assert per_step[-1] < 0.1
    notes = [event["message"] for event in events(tmp_path, kind="note")]
    assert any("no test set" in note for note in notes)


class StopAfter:
    """Asks to stop when the loop has asked this often."""

    def __init__(self, num: int) -> None:
        self.left = num

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


# In between; where an evaluation is due; with a probe; and with bitsandbytes' optimizer.
@pytest.mark.parametrize(
    ("stop_after", "changes"),
    [(3, {}), (5, {"fits": "tight"}), (7, {"optimizer": "adamw_8bit"})],
)
def test_a_resumed_job_equals_an_unbroken_one_bit_for_bit(
    tmp_path: Path, tiny_model: Path, stop_after: int, changes: dict[str, Any]
) -> None:
    config = {**TWENTY, "lora_dropout": 0.1}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    spec = make_job(whole, tiny_model, **config)
    # The unbroken one never probes: what a probe does must leave no trace.
    loop.train(make_state(whole, spec, make_plan(spec, **changes | {"fits": "yes"})))
    spec = make_job(broken, tiny_model, **config)
    plan = make_plan(spec, **changes)
    with pytest.raises(failures.Stopped):
        loop.train(make_state(broken, spec, plan, asked_to_stop=StopAfter(stop_after)))
    saved = events(broken, kind="checkpoint")[-1]
    assert saved["step"] == stop_after
    assert verify_manifest(broken / saved["path"]) == saved["manifest_sha256"]
    spec = spec.model_copy(update={"attempt": 2, "resume_from": saved["path"]})
    torch.manual_seed(12345)  # whatever came before must not matter
    loop.train(make_state(broken, spec, plan))
    assert losses(broken) + losses(broken, attempt=2) == losses(whole)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (whole / "result" / name).read_bytes() == (broken / "result" / name).read_bytes()
    done = [events(whole, kind="done")[0], events(broken, 2, "done")[0]]
    for key in ("best_step", "validation_loss_before", "validation_loss_after", "train_loss"):
        assert done[0][key] == done[1][key]
    phases = {event["phase"] for event in events(broken, 2, "phase")}
    assert ("probing" in phases) == ("fits" in changes)


def test_the_adapter_loads_in_plain_peft_and_lowers_the_loss(
    tmp_path: Path, tiny_model: Path
) -> None:
    train(tmp_path, tiny_model, **TWENTY, method="lora")
    done = events(tmp_path, kind="done")[0]
    assert done["validation_loss_after"] < done["validation_loss_before"]
    # One thread here: it had at most a whole core, and other programs the rest.
    assert 0 < done["processor_seconds"] < 1.1 * done["train_seconds"]
    result = tmp_path / "result"
    # With this the next attempt knows whose it is, should nobody have heard of it.
    assert verify_manifest(result) == done["manifest_sha256"]
    assert read_extra(result) == {"job": 1, "attempt": 1}
    assert {f.name for f in result.iterdir()} == {
        "adapter_model.safetensors", "adapter_config.json", "tokenizer.json",
        "tokenizer_config.json", "chat_template.jinja", "generation_config.json", "MANIFEST.json",
    }  # fmt: skip
    config = json.loads((result / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == MODEL_NAME
    assert str(tmp_path) not in (result / "adapter_config.json").read_text()
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(base, str(result))
    chat = ChatFormat.load(result)
    assert done["end_token_ids"] == sorted(chat.end_token_ids) != []
    total, num = 0.0, 0
    for example in chat.encode_many([conversation(i) for i in range(24, 28)], 1024):
        labels = torch.tensor([example.labels])
        ids = torch.tensor([example.token_ids])
        with torch.no_grad():
            logits = tuned(input_ids=ids).logits[0, :-1]
        total += torch.nn.functional.cross_entropy(logits, labels[0, 1:], reduction="sum").item()
        num += int((labels[0, 1:] != -100).sum())
    assert total / num == pytest.approx(done["validation_loss_after"], rel=1e-4)


def test_questions_are_answered_by_both_models(tmp_path: Path, tiny_model: Path) -> None:
    train(tmp_path, tiny_model, **TWENTY | {"num_epochs": 20, "learning_rate": 0.01})
    (told,) = events(tmp_path, kind="samples")
    assert len(told["samples"]) == 3
    for sample in told["samples"]:
        assert sample["question"].startswith("Where is room")
        assert sample["reference"].startswith("Up the stairs")
        assert sample["tuned"].startswith("Up the stairs, door")
        assert not sample["base"].startswith("Up")
        # One has learned where to stop, the other babbles up to the limit.
        assert (sample["is_base_cut"], sample["is_tuned_cut"]) == (True, False)


def break_loss(state: TrainingState, passes: set[int]) -> None:
    """Make the model's states no number in these training passes (a model may do that)."""
    count = 0

    def hook(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal count
        if torch.is_grad_enabled():
            count += 1
            if count in passes:
                with torch.no_grad():
                    output.last_hidden_state.fill_(math.nan)

    state.model.decoder.register_forward_hook(hook)


def test_a_loss_that_is_no_number_goes_back_once_with_half_the_rate(
    tmp_path: Path, tiny_model: Path
) -> None:
    spec = make_job(tmp_path, tiny_model, **TWENTY)
    state = make_state(tmp_path, spec, make_plan(spec, micro_batch_tokens=4096))
    break_loss(state, {8})  # one pass a step; the last evaluation was after step 5
    loop.train(state)
    steps = events(tmp_path, kind="step")
    assert [e["step"] for e in steps] == [*range(1, 8), *range(6, 21)]
    assert all(math.isfinite(e["loss"]) for e in steps)
    before = {e["step"]: e["learning_rate"] for e in steps[:7]}
    after = {e["step"]: e["learning_rate"] for e in steps[7:]}
    assert after[6] == before[6] / 2
    assert "went back to step 5" in events(tmp_path, kind="note")[0]["message"]


def break_checks(state: TrainingState, looks: set[int]) -> None:
    """Make the model's states no number while these looks at what checks are taken."""
    count = 0

    def hook(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal count
        if not torch.is_grad_enabled():
            count += 1
            if count in looks:
                output.last_hidden_state.fill_(math.nan)

    state.model.decoder.register_forward_hook(hook)


def test_a_check_loss_that_is_no_number_goes_back_once(tmp_path: Path, tiny_model: Path) -> None:
    spec = make_job(tmp_path, tiny_model, **TWENTY)
    state = make_state(tmp_path, spec, make_plan(spec, micro_batch_tokens=4096))
    break_checks(state, {3})  # before training, after step 5, and after step 10
    loop.train(state)
    assert [e["step"] for e in events(tmp_path, kind="step")] == [*range(1, 11), *range(6, 21)]
    checks = events(tmp_path, kind="evaluation")
    assert [e["step"] for e in checks] == [0, 5, 10, 15, 20]
    assert all(math.isfinite(e["loss"]) for e in checks)
    assert (
        "At step 10 the loss was no longer a number" in events(tmp_path, kind="note")[0]["message"]
    )


def test_a_check_loss_that_stays_no_number_ends_the_job(tmp_path: Path, tiny_model: Path) -> None:
    spec = make_job(tmp_path, tiny_model, **TWENTY)
    state = make_state(tmp_path, spec, make_plan(spec, micro_batch_tokens=4096))
    break_checks(state, set(range(3, 100)))
    with pytest.raises(failures.Failure, match="At step 10 the loss") as caught:
        loop.train(state)
    assert caught.value.exit_code == 13
    assert [e["step"] for e in events(tmp_path, kind="evaluation")] == [0, 5]


def test_a_starting_model_without_a_loss_ends_the_job_at_once(
    tmp_path: Path, tiny_model: Path
) -> None:
    spec = make_job(tmp_path, tiny_model, **TWENTY)
    state = make_state(tmp_path, spec, make_plan(spec, micro_batch_tokens=4096))
    break_checks(state, {1})
    with pytest.raises(failures.Failure, match="The starting model has no loss") as caught:
        loop.train(state)
    assert caught.value.exit_code == 13
    assert not events(tmp_path, kind="evaluation")
    assert len(events(tmp_path, kind="step")) == 1


def test_a_loss_that_stays_no_number_ends_the_job(tmp_path: Path, tiny_model: Path) -> None:
    spec = make_job(tmp_path, tiny_model, **TWENTY)
    state = make_state(tmp_path, spec, make_plan(spec, micro_batch_tokens=4096))
    start = {name: p.detach().clone() for name, p in state.model.adapter.items()}
    break_loss(state, {2, 4})
    with pytest.raises(failures.Failure, match="no longer a number") as caught:
        loop.train(state)
    assert caught.value.exit_code == 13
    assert [e["step"] for e in events(tmp_path, kind="step")] == [1, 1]
    # The bad gradients never reached the weights.
    assert all(torch.isfinite(p).all() for p in state.model.adapter.values())
    assert any(not torch.equal(start[n], p) for n, p in state.model.adapter.items())


def test_memory_that_runs_out_halves_the_micro_batch_and_changes_nothing_learned(
    tmp_path: Path, tiny_model: Path
) -> None:
    train(tmp_path / "whole", tiny_model, **TWENTY)
    spec = make_job(tmp_path / "short", tiny_model, **TWENTY)
    state = make_state(tmp_path / "short", spec)

    def hook(_module: torch.nn.Module, _inputs: Any, named: dict[str, Any]) -> None:
        if named["input_ids"].shape[1] > 130:
            raise torch.OutOfMemoryError("a small machine")

    state.progress.micro_batch_tokens = 1024
    state.progress.baseline_loss = 0.0  # an evaluation is not what runs out here
    state.model.decoder.register_forward_pre_hook(hook, with_kwargs=True)
    loop.fill_gradients(state, state.data.train[:6])
    assert state.progress.micro_batch_tokens == 128
    state.optimizer.zero_grad()
    loop.train(state)
    assert losses(tmp_path / "short") == pytest.approx(losses(tmp_path / "whole"), rel=1e-3)
    notes = [e["message"] for e in events(tmp_path / "short", kind="note")]
    assert len(notes) == 3
    assert all("Memory ran out" in note for note in notes)


def test_evaluations_and_moments_may_run_out_of_memory_as_well(
    tmp_path: Path, tiny_model: Path
) -> None:
    config = TWENTY | {"num_epochs": 1}
    whole, short = tmp_path / "whole", tmp_path / "short"
    train(whole, tiny_model, **config)
    state = make_state(short, make_job(short, tiny_model, **config))
    state.progress.micro_batch_tokens = 512

    def hook(_module: torch.nn.Module, _inputs: Any, named: dict[str, Any]) -> None:
        if not torch.is_grad_enabled() and named["input_ids"].shape[1] > 130:
            raise torch.OutOfMemoryError("a small machine")

    class Full(defaultdict[Any, dict[str, Any]]):
        """Has no room for the third moment at first."""

        left = 3

        def __missing__(self, key: Any) -> dict[str, Any]:
            self.left -= 1
            if self.left == 0:
                raise torch.OutOfMemoryError("a full machine")
            return super().__missing__(key)

    state.optimizer.state = Full(dict)
    state.model.decoder.register_forward_pre_hook(hook, with_kwargs=True)
    loop.train(state)
    assert losses(short) == pytest.approx(losses(whole), rel=1e-3)
    assert state.progress.micro_batch_tokens == 128
    # Once for the moments, once for an evaluation.
    assert [e["level"] for e in events(short, kind="note")] == ["warn", "warn"]
    evaluations = [
        [e["loss"] for e in events(folder, kind="evaluation")] for folder in (whole, short)
    ]
    assert evaluations[0] == pytest.approx(evaluations[1], rel=1e-3)


def test_no_memory_for_one_example_ends_the_job(tmp_path: Path, tiny_model: Path) -> None:
    spec = make_job(tmp_path, tiny_model, **TWENTY)
    state = make_state(tmp_path, spec)

    def hook(*_: Any) -> None:
        raise torch.OutOfMemoryError("a tiny machine")

    state.model.decoder.register_forward_pre_hook(hook)
    with pytest.raises(failures.Failure, match="one example at a time") as caught:
        loop.fill_gradients(state, state.data.train[:6])
    assert caught.value.exit_code == 12
    assert state.progress.checkpointing  # tried before giving up


def test_training_stops_early_and_keeps_the_best_step(tmp_path: Path, tiny_model: Path) -> None:
    # Two answers to learn by heart say nothing about the others: the test set gets worse.
    spec = make_job(
        tmp_path, tiny_model, num_train=2, num_epochs=50, batch_size=2, learning_rate=0.01,
        num_evaluations=25, early_stopping_patience=3,
    )  # fmt: skip
    loop.train(make_state(tmp_path, spec, make_plan(spec, num_train=2)))
    evaluations = events(tmp_path, kind="evaluation")[1:]
    (done,) = events(tmp_path, kind="done")
    assert done["stopped_early"]
    assert len(evaluations) < 25
    best = min(evaluations, key=lambda e: e["loss"])
    assert done["best_step"] == best["step"] == evaluations[-4]["step"]
    assert done["is_chosen"]
    newest = checkpoint.newest(tmp_path)
    assert newest is not None
    saved = load_file(newest / "best_adapter.safetensors")
    result = load_file(tmp_path / "result" / "adapter_model.safetensors")
    assert all(torch.equal(saved[name], result[name]) for name in saved)


def test_without_rows_that_check_the_last_step_is_kept_and_it_is_said(
    tmp_path: Path, tiny_model: Path
) -> None:
    # So fast that the loss does not only fall: an earlier step would look better. With what that is
    # so depends on how a processor rounds.
    for alpha in range(512, 128, -32):
        folder = tmp_path / str(alpha)
        evaluations, done = unchecked(folder, tiny_model, alpha)
        if min(evaluations, key=lambda event: event["loss"])["step"] < 5:
            break
    else:
        pytest.fail("this test tells nothing where the last step is the best anyway")
    assert [event["step"] for event in evaluations] == list(range(1, 6))
    assert not any(event["is_best"] for event in evaluations)
    assert (done["best_step"], done["is_chosen"], done["stopped_early"]) == (5, False, False)
    assert done["validation_loss_after"] == evaluations[-1]["loss"]
    newest = checkpoint.newest(folder)
    assert newest is not None
    last = load_file(newest / "adapter_model.safetensors")
    result = load_file(folder / "result" / "adapter_model.safetensors")
    assert all(torch.equal(last[name], result[name]) for name in last)
    notes = " ".join(event["message"] for event in events(folder, kind="note"))
    assert "There is no check set" in notes
    assert "what it has learned at the last step is kept" in notes
    # What it practised is not shown as if it were new to it.
    assert events(folder, kind="samples")[0]["samples"] == []


def unchecked(folder: Path, base: Path, alpha: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Train five steps without a check set; returns what each was found to be, and the end."""
    config: dict[str, Any] = {
        "num_epochs": 5,
        "batch_size": 8,
        "learning_rate": 0.01,
        "lora_alpha": alpha,
    }
    config |= {"schedule": "constant", "num_evaluations": 5, "early_stopping_patience": 1}
    spec = make_job(folder, base, num_train=8, num_validation=0, **config)
    spec = spec.model_copy(update={"checks_on": "check"})
    loop.train(make_state(folder, spec, make_plan(spec, num_train=8)))
    (done,) = events(folder, kind="done")
    return events(folder, kind="evaluation")[1:], done


def test_the_learning_rate_rises_then_falls_along_a_cosine() -> None:
    config = TrainConfig(learning_rate=0.01, warmup_share=0.2)
    rates = [schedule.learning_rate(config, step, 10) for step in range(10)]
    assert rates[:3] == [0.005, 0.01, 0.01]
    assert rates[6] == pytest.approx(0.005)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert 0 < rates[9] < 0.0005


def test_evaluations_are_spread_evenly_and_end_with_the_last_step() -> None:
    assert schedule.evaluation_steps(20, 4) == {5, 10, 15, 20}
    assert schedule.evaluation_steps(3, 5) == {1, 2, 3}


def test_a_step_is_a_fixed_number_of_examples_and_each_pass_sees_all() -> None:
    config = TrainConfig(batch_size=4, num_epochs=2)
    steps = [step_examples(10, config, step) for step in range(5)]
    assert [len(step) for step in steps] == [4, 4, 4, 4, 4]
    seen = [index for step in steps for index in step]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]
    half = TrainConfig(batch_size=4, num_epochs=0.5)
    assert [len(step_examples(10, half, step)) for step in range(2)] == [4, 1]


def test_a_large_test_set_is_evaluated_in_part() -> None:
    config = TrainConfig(num_evaluations=5)
    examples = [Encoded([n] * 10, [n] * 10, 0) for n in range(500)]
    chosen = evaluation_examples(examples, config, train_tokens=10_000)
    assert 64 <= len(chosen) < 120
    assert evaluation_examples(examples, config, train_tokens=10_000) == chosen
    assert len(evaluation_examples(examples, config, train_tokens=1e9)) == 500
