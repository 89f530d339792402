"""Methods beside plain LoRA: each changes what it should, and plain PEFT agrees.

Plain PEFT on float32 weights is the reference: losses differ by less than 1e-5 of their value,
gradients by 1e-3, which is rounding.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from app.training.config import TrainConfig
from app.training.manifests import write_manifest
from app.training.plan.shape import Shape, num_passes, num_steps
from tests.worker.trainer.conftest import (
    events,
    losses,
    make_job,
    make_plan,
    make_state,
)
from tests.worker.trainer.test_loop import StopAfter, train
from tests.worker.trainer.test_packing import _move_adapter
from worker.exporting import adapter_folder
from worker.trainer import checkpoint, evaluation, failures, loop, schedule
from worker.trainer.data import step_examples
from worker.trainer.layers.attention import in_flight
from worker.trainer.state import TrainingState

METHODS: dict[str, dict[str, Any]] = {
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "both": {"use_rslora": True, "use_dora": True, "lora_alpha": 8},
    "attention": {"lora_targets": "attention"},
    "feed-forward": {"lora_targets": "feed_forward"},
}


def moved_state(folder: Path, base: Path, resident: str = "fp32", **config: Any) -> TrainingState:
    spec = make_job(folder, base, **config)
    state = make_state(folder, spec, make_plan(spec, resident=resident))
    _move_adapter(state)
    return state


def gradients(state: TrainingState) -> dict[str, Tensor]:
    state.optimizer.zero_grad()
    loop.fill_gradients(state, state.data.train[:4])
    return {name: p.grad.clone() for name, p in state.model.adapter.items() if p.grad is not None}


@pytest.mark.parametrize("method", METHODS)
def test_what_is_saved_is_in_plain_peft_the_same_forward_and_backward(
    tmp_path: Path, tiny_model: Path, method: str
) -> None:
    state = moved_state(tmp_path, tiny_model, method="lora", **METHODS[method])
    examples = state.data.train[:4]
    with torch.no_grad():  # sizes that are not those of the weights themselves
        for name, parameter in state.model.adapter.items():
            if "magnitude" in name:
                parameter.mul_(1.1)
    loss, adapter = loop.fill_gradients(state, examples), state.model.adapter
    checkpoint.write_result(tmp_path, tiny_model, state.model)
    plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(plain, str(tmp_path / "result"), is_trainable=True)
    num_labelled = sum(label != -100 for e in examples for label in e.labels[1:])
    total = 0.0
    for example in examples:
        ids, labels = torch.tensor([example.token_ids]), torch.tensor([example.labels])
        logits = tuned(input_ids=ids).logits[0, :-1]
        part = nn.functional.cross_entropy(logits, labels[0, 1:], reduction="sum") / num_labelled
        part.backward()
        total += part.item()
    assert loss == pytest.approx(total, rel=1e-5)
    expected = {
        name.replace(".default.weight", "" if "magnitude" in name else ".weight"): parameter.grad
        for name, parameter in tuned.named_parameters()
        if parameter.requires_grad
    }
    assert expected.keys() == adapter.keys()
    for name, parameter in adapter.items():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-5)


def test_each_way_trains_the_weights_that_it_names(tmp_path: Path, tiny_model: Path) -> None:
    names = {}
    for method, config in METHODS.items():
        spec = make_job(tmp_path / method, tiny_model, **config)
        names[method] = set(make_state(tmp_path / method, spec).model.adapter)
    assert {n.split(".")[-3] for n in names["attention"]} == {
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
    }
    assert not names["attention"] & names["feed-forward"]
    assert names["attention"] | names["feed-forward"] == names["rslora"]
    assert len(names["dora"] - names["rslora"]) == 14  # a size for each of seven layers of two
    shape = Shape.of(
        {"hidden_size": 64, "vocab_size": 320, "num_hidden_layers": 2, "intermediate_size": 128,
         "num_attention_heads": 4, "num_key_value_heads": 2}, 0,
    )  # fmt: skip
    for targets in ("all", "attention", "feed_forward"):
        spec = make_job(tmp_path / targets, tiny_model, lora_targets=targets)
        weights = make_state(tmp_path / targets, spec).model.adapter.values()
        assert sum(p.numel() for p in weights) == shape.num_adapter(spec.config)


def test_a_fresh_dora_adapter_changes_nothing(tmp_path: Path, tiny_model: Path) -> None:
    for resident in ("fp32", "bf16", "nf4"):
        spec = make_job(tmp_path, tiny_model, use_dora=True)
        state = make_state(tmp_path, spec, make_plan(spec, resident=resident))
        examples = state.data.validation
        with state.model.peft.disable_adapter():
            alone = evaluation.mean_loss(state, examples)
        assert evaluation.mean_loss(state, examples) == pytest.approx(alone, rel=1e-6)


def test_dora_on_4_bit_weights_keeps_its_gradients_after_an_evaluation(
    tmp_path: Path, tiny_model: Path
) -> None:
    state = moved_state(tmp_path, tiny_model, "nf4", use_dora=True)
    before = gradients(state)
    assert len(before) == len(state.model.adapter) == 42
    evaluation.mean_loss(state, state.data.validation)
    after = gradients(state)
    for name, gradient in before.items():
        assert torch.equal(gradient, after[name]), name
    exact = gradients(moved_state(tmp_path, tiny_model, "fp32", use_dora=True))
    one = torch.cat([g.flatten() for g in before.values()])
    other = torch.cat([g.flatten() for g in exact.values()])
    assert nn.functional.cosine_similarity(one, other, dim=0) > 0.999


def test_lora_plus_moves_the_second_half_faster(tmp_path: Path, tiny_model: Path) -> None:
    moves = {}
    for ratio in (1, 4):
        state = moved_state(tmp_path, tiny_model, lora_plus_ratio=ratio, use_dora=True)
        start = {name: p.detach().clone() for name, p in state.model.adapter.items()}
        assert loop.take_step(state, 20)
        moves[ratio] = {name: p - start[name] for name, p in state.model.adapter.items()}
    for name, move in moves[4].items():
        times = 1 if "lora_A" in name else 4  # sizes have one dimension, and PEFT counts them to B
        torch.testing.assert_close(move, times * moves[1][name], rtol=1e-3, atol=1e-7)


def test_noise_falls_on_practice_alone_and_by_the_length_of_each_example(
    tmp_path: Path, tiny_model: Path
) -> None:
    quiet = make_state(tmp_path, make_job(tmp_path, tiny_model))
    noisy = make_state(tmp_path, make_job(tmp_path, tiny_model, neftune_alpha=5))
    examples = quiet.data.train[:4]
    assert evaluation.mean_loss(noisy, examples) == evaluation.mean_loss(quiet, examples)
    assert loop.fill_gradients(noisy, examples) != loop.fill_gradients(quiet, examples)
    row = noisy.micro_batches(examples)[0]
    assert len(set(row.lengths)) > 1
    embed = noisy.model.peft.get_input_embeddings()
    plain = nn.functional.embedding(row.token_ids_T, embed.weight)
    with in_flight(row):
        noise = embed(row.token_ids_T[None])[0] - plain
    for part, length in zip(noise.split(row.lengths), row.lengths, strict=True):
        reach = 5 / (length * 64) ** 0.5
        assert 0.95 * reach < part.abs().max() <= reach


def test_all_of_it_together_resumes_bit_for_bit(tmp_path: Path, tiny_model: Path) -> None:
    config: dict[str, Any] = {
        "use_rslora": True, "use_dora": True, "lora_plus_ratio": 4, "neftune_alpha": 5,
        "lora_dropout": 0.1, "schedule": "linear", "num_steps": 9, "num_evaluations": 2,
        "learning_rate": 1e-3, "batch_size": 6,
    }  # fmt: skip
    train(tmp_path / "whole", tiny_model, **config)
    spec = make_job(tmp_path / "broken", tiny_model, **config)
    with pytest.raises(failures.Stopped):
        loop.train(make_state(tmp_path / "broken", spec, asked_to_stop=StopAfter(6)))
    saved = events(tmp_path / "broken", kind="checkpoint")[-1]
    assert saved["step"] == 6
    spec = spec.model_copy(update={"attempt": 2, "resume_from": saved["path"]})
    torch.manual_seed(12345)
    loop.train(make_state(tmp_path / "broken", spec))
    both = losses(tmp_path / "broken") + losses(tmp_path / "broken", attempt=2)
    assert both == losses(tmp_path / "whole")
    assert len(both) == 9
    one, other = (
        (tmp_path / name / "result" / "adapter_model.safetensors").read_bytes()
        for name in ("whole", "broken")
    )
    assert one == other
    (done,) = events(tmp_path / "whole", kind="done")
    assert done["validation_loss_after"] < done["validation_loss_before"]


def test_schedules_end_where_they_say() -> None:
    rates = {
        kind: [
            schedule.learning_rate(
                TrainConfig(learning_rate=0.01, warmup_share=0.2, schedule=kind), step, 10
            )
            for step in range(10)
        ]
        for kind in ("cosine", "linear", "constant")
    }
    assert {tuple(values[:3]) for values in rates.values()} == {(0.005, 0.01, 0.01)}
    assert rates["constant"][9] == 0.01
    assert rates["linear"][6] == pytest.approx(0.005)
    assert rates["linear"][9] == pytest.approx(0.01 / 8)
    assert rates["cosine"][9] < rates["linear"][9]


def test_steps_count_instead_of_passes() -> None:
    config = TrainConfig(num_steps=7, batch_size=4, num_epochs=1)
    assert num_steps(10, config) == 7
    assert num_passes(10, config) == pytest.approx(2.8)
    steps = [step_examples(10, config, step) for step in range(7)]
    assert [len(step) for step in steps] == [4] * 7
    seen = [index for step in steps for index in step]
    assert sorted(seen[:10]) == sorted(seen[10:20]) == list(range(10))


def test_a_result_has_what_an_export_has_and_transformers_4_reads(
    tmp_path: Path, tiny_model: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    said = json.loads((base / "tokenizer_config.json").read_text())
    said["tokenizer_class"] = "TokenizersBackend"  # which transformers 4 does not know
    (base / "tokenizer_config.json").write_text(json.dumps(said))
    for name in ("LICENSE", "NOTICE.txt"):
        (base / name).write_text("Take it.")
    (base / "MANIFEST.json").unlink()
    write_manifest(base)
    state = moved_state(tmp_path, base, method="lora")
    checkpoint.write_result(tmp_path, base, state.model)
    result, exported = tmp_path / "result", tmp_path / "exported"
    exported.mkdir()
    adapter_folder.write(base, "house/tiny", result, exported)
    names = {path.name for path in exported.iterdir()}
    assert names >= {"LICENSE", "NOTICE.txt", "generation_config.json", "tokenizer_config.json"}
    assert {path.name for path in result.iterdir()} == names | {"MANIFEST.json"}
    for name in names - {"adapter_config.json"}:  # in which the export's name of the base stands
        assert (result / name).read_bytes() == (exported / name).read_bytes(), name
    config = json.loads((result / "adapter_config.json").read_text())
    assert config | {"base_model_name_or_path": "house/tiny"} == json.loads(
        (exported / "adapter_config.json").read_text()
    )
    assert str(tmp_path) not in json.dumps(config)
    said = json.loads((result / "tokenizer_config.json").read_text())
    assert said["tokenizer_class"] == "PreTrainedTokenizerFast"
    ends = json.loads((result / "generation_config.json").read_text())["eos_token_id"]
    assert set(ends) >= state.chat.end_token_ids
