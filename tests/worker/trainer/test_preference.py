"""Preference tuning, against two whole models and the formula of the paper; float32."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM

from app.training.chat import IGNORE_INDEX, Encoded
from app.training.config import TrainConfig
from app.training.plan.choose import plan
from app.training.plan.machine import DeviceInfo
from app.training.plan.shape import LengthHistogram
from tests.app.training.test_templates import (
    CALLERS,
    FAMILIES,
    chat,
    labelled,
    turn,
)
from tests.worker.trainer.conftest import (
    conversation,
    events,
    losses,
    make_job,
    make_plan,
    make_state,
)
from tests.worker.trainer.test_loop import StopAfter
from tests.worker.trainer.test_packing import _move_adapter
from worker.trainer import checkpoint, evaluation, failures, loop
from worker.trainer.state import TrainingState

BETA = 0.3
DPO: dict[str, Any] = {"objective": "dpo", "dpo_beta": BETA, "learning_rate": 1e-3}


def pair(index: int) -> list[dict[str, Any]]:
    """An earlier answer, which is only read, and two last ones of different lengths."""
    system, question, better = conversation(index)
    before = [turn("user", "Hi"), turn("assistant", "Hello")] if index % 2 else []
    worse = "No idea." if index % 3 else "Ask somebody else, I will not say."
    return [system, *before, question, better | {"rejected": worse}]


def make_pairs(folder: Path, base: Path, packed: bool = True, **config: Any) -> TrainingState:
    spec = make_job(folder, base, messages=pair, **DPO | config)
    return make_state(folder, spec, make_plan(spec, packed=packed))


def likelihood(model: Any, ids: list[int], labels: list[int]) -> Tensor:
    logits = model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    positions = [i for i, label in enumerate(labels[1:]) if label != IGNORE_INDEX]
    return torch.stack([logits[i, labels[i + 1]] for i in positions]).sum()


def halves(example: Encoded) -> list[tuple[list[int], list[int]]]:
    cut = example.num_better_tokens
    ids, labels = example.token_ids, example.labels
    return [(ids[:cut], labels[:cut]), (ids[cut:], labels[cut:])]


@pytest.mark.parametrize("packed", [True, False])
def test_loss_and_gradients_are_those_of_two_models(
    tmp_path: Path, tiny_model: Path, packed: bool
) -> None:
    state = make_pairs(tmp_path, tiny_model, packed, method="lora")
    _move_adapter(state)
    examples = state.data.train[:6]
    loss = loop.fill_gradients(state, examples)
    seen = state.pairs.take()
    checkpoint.write_result(tmp_path, tiny_model, state.model)
    plain, reference = (
        AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32) for _ in range(2)
    )
    policy = PeftModel.from_pretrained(plain, str(tmp_path / "result"), is_trainable=True)
    margins = []
    total = torch.zeros(())
    for example in examples:
        gains = [
            likelihood(policy, *half) - likelihood(reference, *half).detach()
            for half in halves(example)
        ]
        margin = BETA * (gains[0] - gains[1])
        total = total - logsigmoid(margin) / len(examples)
        margins.append(margin.item())
    total.backward()
    assert loss == pytest.approx(total.item(), rel=1e-5)
    assert seen is not None
    assert seen.margin == pytest.approx(sum(margins) / 6, rel=1e-3)
    assert seen.share == sum(margin > 0 for margin in margins) / 6
    named = {n.replace(".default.", "."): p for n, p in policy.named_parameters()}
    for name, parameter in state.model.adapter.items():
        torch.testing.assert_close(parameter.grad, named[name].grad, rtol=2e-3, atol=1e-5)
    assert evaluation.mean_loss(state, examples) == pytest.approx(total.item(), rel=1e-5)


def test_it_begins_at_log_2_and_learns_to_prefer_the_better_answer(
    tmp_path: Path, tiny_model: Path
) -> None:
    state = make_pairs(tmp_path, tiny_model, num_steps=12, num_evaluations=3)
    loop.train(state)
    assert losses(tmp_path)[0] == pytest.approx(math.log(2), rel=1e-6)
    evaluations = events(tmp_path, kind="evaluation")
    assert evaluations[0]["loss"] == pytest.approx(math.log(2), rel=1e-6)
    assert (evaluations[0]["preferred_share"], evaluations[0]["preference_margin"]) == (0.5, 0)
    assert evaluations[-1]["loss"] < math.log(2)
    assert evaluations[-1]["preferred_share"] == 1
    assert events(tmp_path, kind="step")[-1]["preference_margin"] > 0
    (done,) = events(tmp_path, kind="done")
    best = next(e for e in evaluations if e["step"] == done["best_step"])
    assert done["preferred_share"] == best["preferred_share"]
    (samples,) = events(tmp_path, kind="samples")
    assert samples["samples"][0]["reference"].startswith("Up the stairs")


def test_pairs_resume_bit_for_bit(tmp_path: Path, tiny_model: Path) -> None:
    config: dict[str, Any] = {
        "num_steps": 6,
        "num_evaluations": 2,
        "lora_dropout": 0.1,
        "neftune_alpha": 5,
    }
    loop.train(make_pairs(tmp_path / "whole", tiny_model, **config))
    spec = make_job(tmp_path / "broken", tiny_model, messages=pair, **DPO | config)
    with pytest.raises(failures.Stopped):
        loop.train(make_state(tmp_path / "broken", spec, asked_to_stop=StopAfter(4)))
    path = events(tmp_path / "broken", kind="checkpoint")[-1]["path"]
    spec = spec.model_copy(update={"attempt": 2, "resume_from": path})
    torch.manual_seed(12345)
    loop.train(make_state(tmp_path / "broken", spec))
    both = losses(tmp_path / "broken") + losses(tmp_path / "broken", attempt=2)
    assert both == losses(tmp_path / "whole")
    one, other = (events(tmp_path / n, a, "done")[0] for n, a in (("whole", 1), ("broken", 2)))
    assert one["preferred_share"] == other["preferred_share"]


def test_the_better_answers_alone_can_be_learned_as_well(tmp_path: Path, tiny_model: Path) -> None:
    def better(index: int) -> list[dict[str, Any]]:
        return [{k: v for k, v in m.items() if k != "rejected"} for m in pair(index)]

    spec = make_job(tmp_path / "pairs", tiny_model, messages=pair)
    plain = make_job(tmp_path / "plain", tiny_model, messages=better)
    one, other = make_state(tmp_path / "pairs", spec), make_state(tmp_path / "plain", plain)
    assert one.data.train == other.data.train


def test_data_without_worse_answers_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    spec = make_job(tmp_path, tiny_model, **DPO)
    with pytest.raises(failures.Failure, match="example 1 has no worse one") as caught:
        make_state(tmp_path, spec)
    assert caught.value.exit_code == 10


@pytest.mark.parametrize("name", FAMILIES)
def test_only_the_two_last_answers_are_labelled(name: str) -> None:
    family, form = FAMILIES[name], chat(name)
    messages = [turn("user", "a"), turn("assistant", "first"), turn("user", "b")]
    messages.append(turn("assistant", "good", rejected="bad one"))
    (encoded,) = form.encode_pairs([messages], 10_000)
    better, worse = halves(encoded)
    for (ids, labels), answer in ((better, "good"), (worse, "bad one")):
        half = Encoded(ids, labels, 0)
        assert labelled(form, half) == f"{family.last}{answer}{family.end}"
        plain = [*messages[:-1], turn("assistant", answer)]
        assert ids == form.encode(plain, 10_000).token_ids
    limit = len(better[0]) - 3
    (short,) = form.encode_pairs([messages], limit)
    cut = max(len(better[0]), len(worse[0])) - limit
    assert [ids[1:] for ids, _ in halves(short)] == [better[0][cut + 1 :], worse[0][cut + 1 :]]
    assert (short.num_cut_tokens, short.num_cut_answer_tokens) == (2 * cut, 0)


def test_a_pair_may_be_told_of_tools() -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
    messages = [turn("user", "a"), turn("assistant", "good", rejected="bad")]
    for name in CALLERS:
        (encoded,) = chat(name).encode_pairs([messages], 10_000, [[tool]])
        text = chat(name).tokenizer.decode(encoded.token_ids, skip_special_tokens=False)
        assert text.count('"look"') == 2


def test_the_plan_counts_both_answers_and_the_starting_model() -> None:
    histogram = LengthHistogram.from_lengths([200] * 100, 90, 10)
    device = DeviceInfo(free_bytes=10**10)
    shape = {"hidden_size": 512, "vocab_size": 1000, "num_hidden_layers": 8, "model_type": "llama"}
    one, two = (
        plan(shape, 30_000_000, histogram, TrainConfig(objective=objective), device)
        for objective in ("supervised", "dpo")
    )
    assert one.num_steps == two.num_steps
    assert one.tokens_per_second / two.tokens_per_second == pytest.approx(1.4, abs=0.2)


def test_pairs_are_never_parted(tmp_path: Path, tiny_model: Path) -> None:
    state = make_pairs(tmp_path, tiny_model)
    state.progress.micro_batch_tokens = 1
    rows = state.micro_batches(state.data.train[:3])
    assert [len(row.lengths) for row in rows] == [2, 2, 2]
    assert all(row.is_pairs for row in rows)
    assert rows[0].position_ids_T.tolist() == [i for n in rows[0].lengths for i in range(n)]
    assert json.loads((tmp_path / "config.json").read_text())["config"]["objective"] == "dpo"
