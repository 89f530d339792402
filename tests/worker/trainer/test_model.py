"""4-bit weights, the fused adapter, and the gradients that CPUs can lose without a word."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from tests.worker.trainer.conftest import make_job, make_plan, make_state
from tests.worker.trainer.test_packing import _move_adapter
from worker.trainer import base_model, evaluation, failures, loop, model
from worker.trainer.state import TrainingState


def gradients(state: TrainingState) -> dict[str, Tensor]:
    state.optimizer.zero_grad()
    loop.fill_gradients(state, state.data.train[:4])
    return {name: p.grad.clone() for name, p in state.model.adapter.items() if p.grad is not None}


def state_with(folder: Path, base: Path, resident: str, **config: Any) -> TrainingState:
    spec = make_job(folder, base, **config)
    state = make_state(folder, spec, make_plan(spec, resident=resident))
    _move_adapter(state)
    return state


def test_weights_unpacked_once_are_the_4_bit_weights_bit_for_bit(
    tmp_path: Path, tiny_model: Path
) -> None:
    packed = state_with(tmp_path, tiny_model, "nf4")
    unpacked = state_with(tmp_path, tiny_model, "bf16")
    layers = [m for m in packed.model.peft.modules() if isinstance(m, Linear4bit)]
    assert len(layers) == 14  # seven in each of two layers; not the output embedding
    states = [getattr(layer.weight, "quant_state") for layer in layers]  # noqa: B009
    assert {state.quant_type for state in states} == {"nf4"}
    assert all(state.nested for state in states)
    examples = packed.data.train[:8]
    assert evaluation.mean_loss(packed, examples) == evaluation.mean_loss(unpacked, examples)
    one, other = gradients(packed), gradients(unpacked)
    assert one.keys() == other.keys() == packed.model.adapter.keys()
    for name, gradient in one.items():
        assert torch.equal(gradient, other[name]), name


def test_what_was_packed_is_read_back_and_may_be_damaged_or_deleted(
    tmp_path: Path, tiny_model: Path
) -> None:
    spec = make_job(tmp_path, tiny_model).model_copy(update={"cache_dir": str(tmp_path / "cache")})
    packed = base_model.packed_folder(spec, make_plan(spec))
    assert packed is not None

    def loss() -> float:
        state = make_state(tmp_path, spec, make_plan(spec, resident="nf4"))
        return evaluation.mean_loss(state, state.data.train[:8])

    first = loss()
    assert not packed.exists()  # a trainer writes nothing there
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    tensors = load_file(other / "model.safetensors")
    tensors["model.norm.weight"] *= 2
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    base_model.pack(other, packed, "cpu", is_sharded=False)
    assert loss() != first  # what lies there is what is read
    shutil.rmtree(packed)
    base_model.pack(tiny_model, packed, "cpu", is_sharded=False)
    assert loss() == first
    weights = packed / "model.safetensors"
    bent = bytearray(weights.read_bytes())
    bent[-1] ^= 1
    weights.write_bytes(bent)
    assert loss() == first
    shutil.rmtree(tmp_path / "cache")
    assert loss() == first


def test_files_hashed_before_are_hashed_again_once_they_change(
    tmp_path: Path, tiny_model: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    spec = make_job(tmp_path / "job", base).model_copy(
        update={"cache_dir": str(tmp_path / "cache")}
    )
    base_model.check_in_background(spec)()
    base_model.check_in_background(spec)()
    template = base / "chat_template.jinja"
    times = template.stat()
    template.write_text(template.read_text().replace("system", "tesmys", 1))
    os.utime(template, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a careful intruder would
    with pytest.raises(failures.Failure, match="changed since"):
        base_model.check_in_background(spec)()


def test_rounding_changes_the_weights(tmp_path: Path, tiny_model: Path) -> None:
    rounded = state_with(tmp_path, tiny_model, "fp32")
    whole = state_with(tmp_path, tiny_model, "fp32", method="lora")
    examples = rounded.data.train[:8]
    assert evaluation.mean_loss(rounded, examples) != evaluation.mean_loss(whole, examples)


def test_an_evaluation_takes_no_gradient_away(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On CPUs with AVX512-BF16 an evaluation through Linear4bit repacks its weights for good.
    state = state_with(tmp_path, tiny_model, "nf4")
    assert any(isinstance(module, Linear4bit) for module in state.model.peft.modules())
    # On other CPUs this alone would tell.
    monkeypatch.delattr(Linear4bit, "forward")
    before = gradients(state)
    evaluation.mean_loss(state, state.data.validation)
    after = gradients(state)
    assert after.keys() == before.keys() == state.model.adapter.keys()
    for name, gradient in before.items():
        assert torch.equal(gradient, after[name]), name


def test_the_fused_layer_does_what_peft_does(tmp_path: Path, tiny_model: Path) -> None:
    state = state_with(tmp_path, tiny_model, "fp32", method="lora")
    grads = gradients(state)
    plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    config = LoraConfig(r=4, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    reference = get_peft_model(plain, config)
    named = {n.replace(".default.", "."): p for n, p in reference.named_parameters()}
    with torch.no_grad():
        for name, parameter in state.model.adapter.items():
            named[name].copy_(parameter)
    examples = state.data.train[:4]
    num_labelled = sum(label != -100 for e in examples for label in e.labels[1:])
    for example in examples:
        ids, labels = torch.tensor([example.token_ids]), torch.tensor([example.labels])
        logits = reference(input_ids=ids).logits[0, :-1]
        loss = nn.functional.cross_entropy(logits, labels[0, 1:], reduction="sum")
        (loss / num_labelled).backward()
    assert len(grads) == len(state.model.adapter) == 28
    for name, gradient in grads.items():
        torch.testing.assert_close(gradient, named[name].grad, rtol=1e-3, atol=1e-6)


def test_bfloat16_gradients_point_where_float32_ones_do(tmp_path: Path, tiny_model: Path) -> None:
    exact = gradients(state_with(tmp_path, tiny_model, "fp32", method="lora"))
    rough = gradients(state_with(tmp_path, tiny_model, "bf16", method="lora"))
    one = torch.cat([g.flatten() for g in exact.values()])
    other = torch.cat([g.flatten() for g in rough.values()])
    assert nn.functional.cosine_similarity(one, other, dim=0) > 0.999
    assert other.norm().item() == pytest.approx(one.norm().item(), rel=0.03)


def test_computing_twice_gives_the_same_gradients(tmp_path: Path, tiny_model: Path) -> None:
    once = state_with(tmp_path, tiny_model, "fp32", lora_dropout=0.2)
    torch.manual_seed(5)
    first = gradients(once)
    model.enable_checkpointing(once.model.peft.get_base_model())
    torch.manual_seed(5)
    second = gradients(once)
    torch.manual_seed(6)
    third = gradients(once)
    for name, gradient in first.items():
        torch.testing.assert_close(gradient, second[name])
    assert any(not torch.equal(gradient, third[name]) for name, gradient in first.items())


def test_a_changed_base_model_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    spec = make_job(tmp_path, tiny_model)
    spec = spec.model_copy(update={"base_model_manifest_sha256": "0" * 64})
    with pytest.raises(failures.Failure, match="changed since") as caught:
        make_state(tmp_path, spec)
    assert caught.value.exit_code == 15
