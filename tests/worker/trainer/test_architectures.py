"""Every architecture learns in a packed row what it learns from one example at a time.

Tiny random models of each in float32; the reference is transformers' own forward and PEFT's own
adapter. Rounding alone may differ: losses by 1e-5 of their value, gradients by 1e-3.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from app.training.manifests import write_manifest
from app.training.plan.shape import PACKED_MODELS, can_pack
from tests.worker.trainer.conftest import (
    events,
    make_job,
    make_plan,
    make_state,
)
from tests.worker.trainer.test_packing import _move_adapter
from worker.trainer import evaluation, loop
from worker.trainer.layers.feed_forward import FeedForward
from worker.trainer.layers.norms import Norm
from worker.trainer.state import TrainingState

SHAPE: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 257,
    "eos_token_id": 258,
}
_GEMMA = {"head_dim": 16, "sliding_window": 16, "query_pre_attn_scalar": 24}
_LAYERS = {"layer_types": ["sliding_attention", "full_attention"]}
# Windows are shorter than the examples, caps low enough to be felt.
PACKED: dict[str, dict[str, Any]] = {
    "llama": {},
    "smollm3": {"no_rope_layers": [1, 0], "use_sliding_window": False},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "mistral": {"sliding_window": 16, "head_dim": 16},
    "gemma2": _GEMMA | _LAYERS | {"final_logit_softcapping": 3.0, "attn_logit_softcapping": 0.7},
    "gemma3_text": _GEMMA | _LAYERS,
    "phi3": {"sliding_window": 16},
}
PADDED: dict[str, dict[str, Any]] = {
    # Scores divided after the output embedding; a feed-forward beside attention; experts.
    "granite": {"logits_scaling": 8.0},
    "gpt_neox": {},
    "qwen3_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "head_dim": 16,
    },
}
# A family whose examples share a row, in each form that weights are held in, and one with experts.
IN_SHORT = {*(("gemma2", form) for form in ("nf4", "bf16", "fp32")), ("qwen3_moe", "nf4")}


@pytest.fixture
def base(tiny_model: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder with a tiny random model of the architecture that the test names."""
    name, changes = request.param
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns("*.safetensors", "config*"))
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **SHAPE | changes)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    (folder / "MANIFEST.json").unlink(missing_ok=True)
    write_manifest(folder)
    return folder


def _named(models: dict[str, dict[str, Any]]) -> Callable[..., Any]:
    """Run a test on a model of each of these."""
    cases = [pytest.param(item, id=item[0]) for item in models.items()]
    return pytest.mark.parametrize("base", cases, indirect=True)


def test_each_packed_architecture_is_proved() -> None:
    assert PACKED.keys() == PACKED_MODELS


@_named(PACKED)
def test_a_packed_row_teaches_what_its_examples_teach_alone(base: Path, tmp_path: Path) -> None:
    state = _state(base, tmp_path, packed=True)
    assert len(state.micro_batches(state.data.train[:8])) == 1
    shorter = [type(m.__dict__.get("forward")) for m in state.model.peft.modules()]
    # Phi-3's gate is one product with what passes it.
    is_joint = state.model.peft.config.model_type == "phi3"
    assert shorter.count(FeedForward) == (0 if is_joint else 2)
    assert shorter.count(Norm) >= 5
    _assert_like_alone(state, base)


# PEFT speaks of experts that it finds fused.
@pytest.mark.filterwarnings("ignore:The following .*_pattern keys:RuntimeWarning")
@_named(PADDED)
def test_what_is_not_on_the_list_is_padded_and_learns_the_same(base: Path, tmp_path: Path) -> None:
    state = _state(base, tmp_path, packed=False)
    assert [len(row.lengths) for row in state.micro_batches(state.data.train[:8])] == [8]
    _assert_like_alone(state, base)


@pytest.mark.filterwarnings("ignore:The following .*_pattern keys:RuntimeWarning")
@pytest.mark.parametrize(
    ("base", "resident"),
    [
        pytest.param(
            item,
            resident,
            id=f"{item[0]}-{resident}",
            marks=[] if (item[0], resident) in IN_SHORT else [pytest.mark.long],
        )
        for item in (PACKED | PADDED).items()
        for resident in ("nf4", "bf16", "fp32")
    ],
    indirect=["base"],
)
def test_a_whole_job_goes_through(base: Path, tmp_path: Path, resident: str) -> None:
    model_type = json.loads((base / "config.json").read_text())["model_type"]
    spec = make_job(tmp_path / "job", base, num_epochs=1)
    plan = make_plan(spec, packed=model_type in PACKED_MODELS, resident=resident)
    loop.train(make_state(tmp_path / "job", spec, plan))
    [done] = events(tmp_path / "job", kind="done")
    assert done["validation_loss_after"] < done["validation_loss_before"]
    [samples] = events(tmp_path / "job", kind="samples")
    assert len(samples["samples"]) == 3


def test_angles_that_change_with_length_are_packed_only_below_that_length() -> None:
    phi: dict[str, Any] = {
        "model_type": "phi3",
        "original_max_position_embeddings": 4096,
        "rope_scaling": {"type": "longrope", "short_factor": [], "long_factor": []},
    }
    assert can_pack(phi, 4096)
    assert not can_pack(phi, 4097)
    assert can_pack({"model_type": "phi3", "rope_scaling": None}, 131072)
    assert not can_pack({"model_type": "never-heard-of"}, 16)


def _state(base: Path, folder: Path, *, packed: bool) -> TrainingState:
    spec = make_job(folder / "job", base, method="lora")
    plan = make_plan(spec, packed=packed, micro_batch_tokens=4096)
    state = make_state(folder / "job", spec, plan)
    _move_adapter(state)
    return state


def _assert_like_alone(state: TrainingState, base: Path) -> None:
    examples = state.data.train[:8]
    assert len({len(example.token_ids) for example in examples}) > 2
    loss = loop.fill_gradients(state, examples)
    expected, gradients = _alone(state, base)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert evaluation.mean_loss(state, examples) == pytest.approx(expected, rel=1e-5)
    assert gradients
    for name, gradient in gradients.items():
        grad = state.model.adapter[name].grad
        assert grad is not None, name
        torch.testing.assert_close(grad, gradient, rtol=1e-3, atol=1e-5)


def _alone(state: TrainingState, base: Path) -> tuple[float, dict[str, Tensor]]:
    """Train on one example at a time with nothing of Etude's."""
    plain = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, attn_implementation="eager"
    )
    config = LoraConfig(r=4, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    reference = get_peft_model(plain, config)
    named = {n.replace(".default.", "."): p for n, p in reference.named_parameters()}
    with torch.no_grad():
        for name, parameter in state.model.adapter.items():
            named[name].copy_(parameter)
    examples = state.data.train[:8]
    num_labelled = sum(label != -100 for e in examples for label in e.labels[1:])
    total = 0.0
    for example in examples:
        ids, labels = torch.tensor([example.token_ids]), torch.tensor([example.labels])
        logits = reference(input_ids=ids).logits[0, :-1]
        loss = nn.functional.cross_entropy(logits, labels[0, 1:], reduction="sum") / num_labelled
        loss.backward()
        total += loss.item()
    grads = {name: named[name].grad for name in state.model.adapter}
    return total, {name: gradient for name, gradient in grads.items() if gradient is not None}
